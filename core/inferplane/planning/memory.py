"""How many pages of KV fit. Pure arithmetic; all sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from inferplane.errors import UserError
from inferplane.spec import GiB, KVGroup, MemoryInfo, MiB, dtype_bytes

from .effective import Effective
from .pages import Demand, capacity, given, held, share


@dataclass(frozen=True, slots=True)
class KVBudget:
    """pages: of each group. token_bytes: of one token over all layers. tokens: that fit, in full
    groups where there are some: window groups need room for windows only.

    workspace: set aside for activations. max_model_len: after shrinking to what fits.
    """

    pages: tuple[int, ...]
    token_bytes: float
    tokens: int
    workspace: int
    max_model_len: int
    source: str


def kv_budget(
    effective: Effective,
    groups: Sequence[KVGroup],
    config: Any,
    memory: MemoryInfo,
    weight_bytes: int,
) -> KVBudget:
    """Raises UserError, with the numbers, when not even one page a request fits."""
    token_bytes = sum(group.page_bytes / group.page_size for group in groups)
    workspace = workspace_bytes(effective, config)
    demand = _demand(effective)
    if effective["num_pages"] is not None:
        pages, source = given(groups, demand, effective["num_pages"]), "num-pages"
    else:
        room, source = _room(effective, memory, weight_bytes + workspace)
        pages = share(groups, demand, room)
        if _enough(groups, pages, demand):
            requests = effective["max_num_seqs"]
            source = f"all that --max-num-seqs {requests} can use ({source} holds more)"
    most = capacity(groups, pages)
    tokens = most if most is not None else min(held(groups, pages))
    if tokens < 2:
        fits = weight_bytes + workspace < memory.total_bytes
        remedy = "raise --memory-fraction, or set --kv-memory"
        raise UserError(
            f"no memory is left for KV: {memory.total_bytes / GiB:.1f} GiB in all, of which "
            f"{effective['memory_fraction']:.0%} may be used; weights take "
            f"{weight_bytes / GiB:.2f} GiB and activations {workspace / MiB:.0f} MiB; "
            + (remedy if fits else "they do not fit: fewer bits a weight (--quantization int4)?")
        )
    return KVBudget(
        pages,
        token_bytes,
        tokens,
        workspace,
        _length(effective, most),
        source,
    )


def _enough(groups: Sequence[KVGroup], pages: Sequence[int], demand: Demand) -> bool:
    """Whether a page more would be of no use, however much memory is left."""
    most = capacity(groups, pages)
    return most is not None and demand.tokens - most < max(g.page_size for g in groups)


def _demand(effective: Effective) -> Demand:
    launched = 2 if effective["overlap"] else 1
    return Demand(
        requests=effective["max_num_seqs"],
        length=effective["max_model_len"],
        uncommitted=launched * effective["max_num_batched_tokens"],
        prefixes=effective["enable_prefix_caching"],
    )


def _room(effective: Effective, memory: MemoryInfo, taken: int) -> tuple[int, str]:
    if effective["kv_memory"] is not None:
        return effective["kv_memory"], "kv-memory"
    share = int(memory.total_bytes * effective["memory_fraction"])
    free = int(memory.free_bytes * min(1.0, effective["memory_fraction"] + 0.1))
    source = f"{effective['memory_fraction']:.0%} of {memory.total_bytes / GiB:.1f} GiB"
    return max(0, min(share, free) - taken), source


def _length(effective: Effective, tokens: int | None) -> int:
    length: int = effective["max_model_len"]
    if tokens is None or length <= tokens:
        return length
    source = effective.values["max_model_len"].source
    if source in ("checkpoint", "default"):
        return tokens
    raise UserError(
        f"max-model-len is {length}, the KV cache holds {tokens} tokens: lower --max-model-len, "
        "or raise --num-pages, --kv-memory or --memory-fraction"
    )


def workspace_bytes(effective: Effective, config: Any) -> int:
    """Activations of the largest step, with room for temporaries, and logits in fp32."""
    element = dtype_bytes(effective["dtype"])
    activations = effective["max_num_batched_tokens"] * config.widest * element * 2
    logits = effective["max_num_seqs"] * config.vocab * 4 * 3
    return ceil(activations + logits)
