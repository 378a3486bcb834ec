"""Rotary embedding as data, and its table of cosines and sines.

Sources: RoPE (arXiv 2104.09864); linear scaling (arXiv 2306.15595); YaRN (arXiv 2309.00071);
"llama3" as published with Llama 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inferplane.errors import UserError

if TYPE_CHECKING:
    import torch

SCALINGS = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Rope:
    """rotary_dim: elements of a head that turn. scaling: one of `SCALINGS`, with its parameters."""

    rotary_dim: int
    theta: float = 10000.0
    scaling: str = "default"
    parameters: tuple[tuple[str, float], ...] = ()
    original_positions: int = 0
    style: Literal["neox", "interleaved"] = "neox"

    @classmethod
    def read(cls, config: Mapping[str, Any], head_dim: int) -> Rope:
        """From a checkpoint's config: `rope_parameters`, or `rope_theta` and `rope_scaling`."""
        fields: dict[str, Any] = {}
        for name in ("rope_scaling", "rope_parameters"):
            found = config.get(name) or {}
            if not isinstance(found, Mapping):
                raise UserError(f"config.json: {name} is {found!r}; it must be an object")
            fields.update(found)
        scaling = fields.get("rope_type") or fields.get("type") or "default"
        if scaling not in SCALINGS:
            raise UserError(f"rope scaling {scaling!r} is not known; known: {', '.join(SCALINGS)}")
        theta = fields.get("rope_theta") or config.get("rope_theta") or 10000.0
        share = fields.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
        original = fields.get("original_max_position_embeddings") or config.get(
            "max_position_embeddings", 0
        )
        numbers = {
            k: float(v)
            for k, v in fields.items()
            if isinstance(v, int | float)
            and not isinstance(v, bool)
            and k not in ("rope_theta", "partial_rotary_factor")
        }
        if scaling != "default" and "factor" not in numbers:
            raise UserError(f"rope scaling {scaling!r} needs 'factor' in the model's config")
        if fields.get("truncate") is False:
            numbers["truncate"] = 0.0
        return cls(
            rotary_dim=int(head_dim * _number("partial_rotary_factor", share)),
            theta=_number("rope_theta", theta),
            scaling=scaling,
            parameters=() if scaling == "default" else tuple(sorted(numbers.items())),
            original_positions=0
            if scaling == "default"
            else int(_number("original_max_position_embeddings", original)),
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"config.json: {name} is {value!r}; it must be a positive number")
    return float(value)


def table(rope: Rope, positions: int, device: Any) -> torch.Tensor:
    """fp32 [positions, R]: cosines (R/2), then sines (R/2)."""
    import torch

    inverse, factor = frequencies(rope)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), inverse.float())
    return (torch.cat([angles.cos(), angles.sin()], dim=-1) * factor).to(device)


def frequencies(rope: Rope) -> tuple[torch.Tensor, float]:
    """(inverse frequencies [R/2], attention factor)."""
    import torch

    steps = torch.arange(0, rope.rotary_dim, 2, dtype=torch.int64).float() / rope.rotary_dim
    inverse = 1.0 / (rope.theta**steps)
    p = dict(rope.parameters)
    if rope.scaling == "linear":
        return inverse / p["factor"], 1.0
    if rope.scaling == "llama3":
        return _llama3(inverse, p, rope.original_positions), 1.0
    if rope.scaling == "yarn":
        return _yarn(inverse, p, rope)
    return inverse, 1.0


def _llama3(inverse: torch.Tensor, p: dict[str, float], original: int) -> torch.Tensor:
    """Long waves are stretched by `factor`, short ones kept, those between blended."""
    import torch

    low, high = p.get("low_freq_factor", 1.0), p.get("high_freq_factor", 4.0)
    turns = original * inverse / (2 * math.pi)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    blended = (1 - smooth) * inverse / p["factor"] + smooth * inverse
    return torch.where(turns < low, inverse / p["factor"], blended)


def _yarn(inverse: torch.Tensor, p: dict[str, float], rope: Rope) -> tuple[torch.Tensor, float]:
    """Interpolates slow dimensions, keeps fast ones, ramps between; scales attention."""
    import torch

    factor, size = p["factor"], rope.rotary_dim

    def dimension(rotations: float) -> float:
        ratio = rope.original_positions / (rotations * 2 * math.pi)
        return size * math.log(ratio) / (2 * math.log(rope.theta))

    low, high = dimension(p.get("beta_fast", 32.0)), dimension(p.get("beta_slow", 1.0))
    if p.get("truncate", 1.0):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = (torch.arange(size // 2).float() - low) / max(high - low, 0.001)
    keep = 1 - ramp.clamp(0, 1)
    attention = p.get("attention_factor")
    if attention is None:
        attention = _stretch(factor, 1.0)
        if p.get("mscale") and p.get("mscale_all_dim"):
            attention = _stretch(factor, p["mscale"]) / _stretch(factor, p["mscale_all_dim"])
    return inverse / factor * (1 - keep) + inverse * keep, attention


def _stretch(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def latent_scale(rope: Rope) -> float:
    """What DeepSeek's models multiply the scale of attention with: YaRN's factor of all elements,
    squared. Source: DeepSeek-V2, arXiv 2405.04434, and its published code."""
    p = dict(rope.parameters)
    if rope.scaling == "default" or not p.get("mscale_all_dim"):
        return 1.0
    return _stretch(p["factor"], p["mscale_all_dim"]) ** 2
