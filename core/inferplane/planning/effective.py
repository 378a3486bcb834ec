"""Effective settings: what runs, and where each value came from. Pure functions of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inferplane.errors import UserError, nearest
from inferplane.spec import DTYPE_BITS, DeviceProps, GiB, SettingProposal

_SEQS, _TOKENS = 64, 2048
# where work is queued behind the host, and memory allows: more requests share each reading of the
# weights, and fewer, larger steps compute prompts
_LARGE, _LARGE_SEQS, _LARGE_TOKENS = 40 * GiB, 256, 8192
_FALLBACK_ORDER = ("bf16", "fp16", "fp32")


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's value and its source, for people."""

    value: Any
    source: str


class Effective:
    """Effective values by name: `effective["dtype"]` is the value, `.values` has the sources."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self.values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value

    def with_value(self, name: str, value: Any, source: str) -> Effective:
        return Effective({**self.values, name: Value(value, source)})


def resolve(
    given: Mapping[str, Any],
    sources: Mapping[str, str],
    proposals: Sequence[tuple[str, SettingProposal]],
    props: DeviceProps,
    checkpoint_dtype: str,
    max_positions: int,
) -> Effective:
    """Fills what users left open. Users' own values win over platforms' proposals, those over
    defaults. Raises UserError for a value that the device cannot have.

    given: all settings, defaults included. sources: of those that a user gave.
    """
    values = {name: Value(v, sources.get(name, "default")) for name, v in given.items()}
    for plugin, proposal in proposals:
        if proposal.key not in values:
            raise UserError(f"plugin {plugin!r} proposes {proposal.key!r}, which is no setting")
        if proposal.key not in sources:
            values[proposal.key] = Value(proposal.value, f"{plugin}: {proposal.reason}")
    effective = Effective(values)
    effective = _dtype(effective, props, checkpoint_dtype)
    if effective["kv_dtype"] is None:
        effective = effective.with_value("kv_dtype", effective["dtype"], "dtype")
    events = "events" in props.capabilities
    source = "the device has events" if events else "the device has no events"
    for name in ("overlap", "warm_up"):
        if effective[name] is None:
            effective = effective.with_value(name, events, source)
    effective = _step_size(effective, sources, props)
    length = effective["max_model_len"]
    if length is None:
        return effective.with_value("max_model_len", max_positions, "checkpoint")
    if length > max_positions:
        raise UserError(
            f"max-model-len is {length}; the model was made for {max_positions} positions"
        )
    return effective


def _step_size(effective: Effective, sources: Mapping[str, str], props: DeviceProps) -> Effective:
    """Every running request must have room for a token in a step. What the user did not give
    follows what they gave, and the device."""
    tokens, seqs = effective["max_num_batched_tokens"], effective["max_num_seqs"]
    large = "events" in props.capabilities and props.memory_bytes >= _LARGE
    source = f"{props.memory_bytes / GiB:.0f} GiB of device memory" if large else "default"
    if seqs is None:
        seqs = _LARGE_SEQS if large else _SEQS
        seqs = seqs if tokens is None else min(seqs, tokens)
        effective = effective.with_value("max_num_seqs", seqs, source)
    if tokens is None:
        tokens = max(_LARGE_TOKENS if large else _TOKENS, seqs)
        return effective.with_value("max_num_batched_tokens", tokens, source)
    if tokens >= seqs:
        return effective
    if "max_num_batched_tokens" not in sources:
        return effective.with_value("max_num_batched_tokens", seqs, "max_num_seqs")
    if "max_num_seqs" not in sources:
        return effective.with_value("max_num_seqs", tokens, "max_num_batched_tokens")
    raise UserError(
        f"max_num_batched_tokens is {tokens}; it must be at least max_num_seqs ({seqs})"
    )


def _dtype(effective: Effective, props: DeviceProps, checkpoint: str) -> Effective:
    asked = effective["dtype"]
    for flag, name in (("dtype", asked), ("kv-dtype", effective["kv_dtype"])):
        if name and name not in DTYPE_BITS:
            known = f"{nearest(name, DTYPE_BITS)}; known: {', '.join(DTYPE_BITS)}"
            raise UserError(f"--{flag} {name!r} is not known{known}")
    if asked is not None:
        if asked not in props.dtypes:
            raise UserError(
                f"dtype is {asked}; {props.name} computes with {', '.join(sorted(props.dtypes))}"
            )
        return effective
    if checkpoint in props.dtypes:
        return effective.with_value("dtype", checkpoint, "checkpoint")
    for name in _FALLBACK_ORDER:
        if name in props.dtypes:
            reason = f"checkpoint is {checkpoint}, which the device does not compute with"
            return effective.with_value("dtype", name, reason)
    raise UserError(f"{props.name} has no floating-point type for this model")
