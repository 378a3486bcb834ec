"""A tiny model with random weights, planned and built with extra candidates."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from inferplane.batch import Batch, NewRow
from inferplane.executor.local import load_runner
from inferplane.formats.views import cut, view
from inferplane.planning.plan import Plan, make_plan
from inferplane.plugins.discovery import discover
from inferplane.runner.inputs import make_inputs
from inferplane.runner.runner import Runner
from inferplane.settings import Settings
from inferplane.spec import Candidate, FormatSpec, Mesh, WeightPart

from .plugins import feature

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
}
LATENT = {  # changes of it
    "architectures": ["DeepseekV3ForCausalLM"],
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 20,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
}


class Weights:
    """Random tensors of a size that matters; a slice is a slice of the whole tensor's numbers."""

    def read(self, part: WeightPart) -> torch.Tensor:
        return cut(view(self.whole(part.key, part.stored or part.full_shape), part.view), part)

    def whole(self, key: str, shape: tuple[int, ...]) -> torch.Tensor:
        """As the checkpoint would have it."""
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        whole = torch.randn(shape, generator=generator)
        return 1 + 0.2 * whole if whole.dim() == 1 else whole * 2 * whole.shape[1] ** -0.5


def plan(
    folder: Path,
    candidates: Sequence[Candidate] = (),
    mesh: Mesh | None = None,
    kernel: Sequence[str] = (),
    formats: Sequence[FormatSpec] = (),
    settings: Mapping[str, Any] | None = None,
    **config: Any,
) -> Plan:
    """settings: changes to those here. config: changes to `CONFIG`."""
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    hooks: dict[str, Any] = {"inferplane_blocks": lambda props: list(candidates)}
    if formats:
        hooks["inferplane_formats"] = lambda: list(formats)
    extra = feature("extra", **hooks)
    fields = {
        "model": str(folder),
        "device": "cpu",
        "dtype": "fp32",
        "load_format": "dummy",
        "page_size": 16,
        "num_pages": 16,
        "max_num_seqs": 2,
        "max_num_batched_tokens": 64,
        "threads": 1,
        "kernel": tuple(kernel),
    }
    return make_plan(
        Settings(**(fields | dict(settings or {}))),
        plugins=[*discover([]), *discover(found=[extra])],
        mesh=mesh,
    )


def build(plan: Plan) -> Runner:
    with patch("inferplane.executor.local.open_store", lambda plan, target: Weights()):
        return load_runner(plan, plan.catalog.device(), None)


def logits(runner: Runner, chunks: Sequence[int] = (20,)) -> torch.Tensor:
    """Of every token of `PROMPT`, computed in steps of so many tokens."""
    found = []
    start = 0
    for count in chunks:
        batch = _batch(runner, start, count)
        runner.mirror.apply(batch)
        inputs = make_inputs(batch, runner.mirror, runner.pages)
        with torch.inference_mode():
            hidden = runner.model.forward(runner._step(batch, inputs))
            found.append(runner.model.logits(hidden).clone())
        start += count
    return torch.cat(found)


def _batch(runner: Runner, start: int, count: int) -> Batch:
    """Tokens start to start + count of the prompt in slot 0, whose pages are 1, 2, ..."""
    first = [
        NewRow(
            slot=0,
            tokens=np.array(PROMPT, np.int32),
            prompt_length=len(PROMPT),
            sampling=None,
            wants_prompt=False,
        )
    ]
    columns = np.arange(4, dtype=np.int32)
    tables = [(g, np.zeros(4, np.int32), columns, columns + 1) for g in range(len(runner.groups))]
    return Batch(
        step=1,
        new=[] if start else first,
        slots=np.array([0], np.int32),
        starts=np.array([start], np.int32),
        counts=np.array([count], np.int32),
        sample=np.array([False]),
        decodes=int(count == 1),
        updates=[] if start else tables,
        copies=[],
    )
