"""Quantized checkpoints, written byte by byte as formats publish them, without the product's code.

A writer draws codes and scales, computes the weight that they mean, and packs them afterwards.
Legend: N outputs, K inputs, G groups.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parents[1] / "fixtures" / "formats"
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
Tensors = dict[str, torch.Tensor]


@dataclass
class Module:
    """One projection in a file. tensors: by the last part of their names."""

    tensors: Tensors
    dense: torch.Tensor


Writer = Callable[[int, int, torch.Generator], Module]


def scales(*shape: int, draw: torch.Generator, size: float) -> torch.Tensor:
    """fp32, around a size."""
    return size * (0.5 + torch.rand(shape, generator=draw))


def codes(low: int, high: int, shape: tuple[int, ...], draw: torch.Generator) -> torch.Tensor:
    """int64, low to high."""
    return torch.randint(low, high + 1, shape, generator=draw)


def over(scale: torch.Tensor, rows: int, columns: int, shape: tuple[int, ...]) -> torch.Tensor:
    """A scale for each weight, where one is for so many rows and columns."""
    return scale.repeat_interleave(rows, 0)[: shape[0]].repeat_interleave(columns, 1)[:, : shape[1]]


def words(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Non-negative [N, K] -> int32 [N, K * bits / 32], the first number in the lowest bits."""
    each = 32 // bits
    padded = torch.nn.functional.pad(numbers, (0, -numbers.shape[1] % each))
    parts = padded.unflatten(1, (-1, each)) << (torch.arange(each) * bits)
    total = parts.sum(-1)
    return torch.where(total >= 2**31, total - 2**32, total).to(torch.int32)


def halves(numbers: torch.Tensor) -> torch.Tensor:
    """Codes 0 to 15 [N, K] -> uint8 [N, K / 2], the first in the low half."""
    return (numbers[:, 0::2] + 16 * numbers[:, 1::2]).to(torch.uint8)


def fp8(kind: torch.dtype = torch.float8_e4m3fn, rows: int = 0, columns: int = 0, **names: Any):
    """A weight in an 8-bit type. rows, columns: what shares a scale, 0 for all. names: of the scale
    and of the input's scale."""
    scale_name, input_name = names.get("scale", "weight_scale"), names.get("input_scale", "")

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        weight = (torch.randn((n, k), generator=draw) * 100).clamp(-200, 200).to(kind)
        high, wide = rows or n, columns or k
        scale = scales(-(-n // high), -(-k // wide), draw=draw, size=0.0025)
        tensors = {"weight": weight}
        tensors[scale_name] = scale[:, 0] if columns == 0 and rows == 1 else scale
        if rows == columns == 0:
            tensors[scale_name] = scale[0, 0]
        if input_name:
            tensors[input_name] = torch.tensor(0.03)
        return Module(tensors, weight.float() * over(scale, high, wide, (n, k)))

    return write


def exponents8(scale_name: str = "weight_scale") -> Writer:
    """Groups of 32 fp8 numbers with an exponent."""

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        weight = (torch.randn((n, k), generator=draw) * 100).clamp(-448, 448)
        weight = weight.to(torch.float8_e4m3fn)
        power = codes(-10, -8, (n, k // 32), draw)
        dense = weight.float() * over(2.0**power, 1, 32, (n, k))
        return Module({"weight": weight, scale_name: (power + 127).to(torch.uint8)}, dense)

    return write


def fp4(weight_name: str, scale_name: str = "weight_scale") -> Writer:
    """Groups of 32 fp4 numbers with an exponent."""

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        code, power = codes(0, 15, (n, k), draw), codes(-5, -4, (n, k // 32), draw)
        tensors = {weight_name: halves(code), scale_name: (power + 127).to(torch.uint8)}
        return Module(tensors, FP4[code] * over(2.0**power, 1, 32, (n, k)))

    return write


def nvfp4(weight_name: str, second: str, inputs: str = "", inverse: bool = False) -> Writer:
    """Groups of 16 fp4 numbers with an fp8 scale, and a second scale. inverse: it divides."""

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        code = codes(0, 15, (n, k), draw)
        scale = scales(n, k // 16, draw=draw, size=8.0).to(torch.float8_e4m3fn)
        number = 1 / 256
        dense = FP4[code] * over(scale.float(), 1, 16, (n, k)) * number
        tensors = {weight_name: halves(code), "weight_scale": scale}
        tensors[second] = torch.tensor([1 / number if inverse else number])
        if inputs:
            tensors[inputs] = torch.tensor([200.0 if inverse else 1 / 200])
        return Module(tensors, dense)

    return write


def whole(bits: int = 8, columns: int = 0, **more: Tensors | Any) -> Writer:
    """int8 or int4 numbers, an int8 each. columns: inputs a group, 0 for all. more: zero,
    input_scale, offset, rows ("packed"), of ModelSlim."""

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        high = 2 ** (bits - 1)
        code, wide = codes(-high, high - 1, (n, k), draw), columns or k
        scale = scales(n, k // wide, draw=draw, size=0.4 / high)
        zero = codes(-3, 3, (n, k // wide), draw) if more.get("zero") else torch.zeros_like(scale)
        dense = (code - over(zero, 1, wide, (n, k))) * over(scale, 1, wide, (n, k))
        tensors = {"weight": code.to(torch.int8), "weight_scale": scale}
        if more.get("zero"):
            tensors["weight_zero_point"] = zero.to(torch.int8)
        if more.get("offset"):
            tensors["weight_offset"] = torch.zeros_like(scale)
        if more.get("rows"):
            low, top = code[0::2] & 15, code[1::2] & 15
            tensors["weight"] = (low + 16 * top).to(torch.uint8).view(torch.int8)
            tensors["scale_bias"] = torch.ones(n, 1)
        if "input_scale" in more:
            tensors["input_scale"] = torch.tensor([float(more["input_scale"])])
        return Module(tensors, dense.float())

    return write


def packed(bits: int = 4, columns: int = 32, zero: bool = False, ordered: bool = False) -> Writer:
    """compressed-tensors' pack-quantized. columns: 0 for one scale an output."""

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        half, wide = 2 ** (bits - 1), columns or k
        code = codes(0, 2 * half - 1, (n, k), draw)
        scale = scales(n, k // wide, draw=draw, size=0.4 / half)
        zeros = codes(half - 2, half + 2, (n, k // wide), draw)
        zeros = zeros if zero else torch.full_like(zeros, half)
        group = torch.arange(k) // wide
        if ordered:
            group = group[torch.randperm(k, generator=draw)]
        dense = (code - zeros[:, group]) * scale[:, group]
        tensors = {
            "weight_packed": words(code, bits),
            "weight_scale": scale,
            "weight_shape": torch.tensor([n, k]),
        }
        if zero:
            tensors["weight_zero_point"] = words(zeros.t().contiguous(), bits).t().contiguous()
        if ordered:
            tensors["weight_g_idx"] = group.to(torch.int32)
        return Module(tensors, dense)

    return write


def static8(n: int, k: int, draw: torch.Generator) -> Module:
    """ModelSlim's W8A8, with symmetric inputs, and `deq_scale` as the bits of fp32 in int64."""
    made = whole(8, input_scale=0.02)(n, k, draw)
    scale = made.tensors.pop("weight_scale")[:, 0]
    product = made.tensors["input_scale"] * scale
    made.dense = made.tensors["weight"].float() * (product / made.tensors["input_scale"])[:, None]
    made.tensors |= {
        "deq_scale": product.view(torch.int32).to(torch.int64),
        "quant_bias": torch.zeros(n, dtype=torch.int32),
        "input_offset": torch.zeros(1),
    }
    return made


def eights(signed: bool) -> Writer:
    """Quark's int4 and uint4: inputs first, eight outputs an int32 in the order 0 2 4 6 1 3 5 7."""

    def write(n: int, k: int, draw: torch.Generator) -> Module:
        low = -8 if signed else 0
        code = codes(low, low + 15, (n, k), draw)
        scale = scales(n, k // 32, draw=draw, size=0.05)
        zero = torch.zeros_like(code[:, : k // 32]) if signed else codes(6, 9, (n, k // 32), draw)
        dense = (code - over(zero, 1, 32, (n, k))) * over(scale, 1, 32, (n, k))

        def pack(numbers: torch.Tensor) -> torch.Tensor:
            mixed = (numbers & 15).t().unflatten(1, (-1, 8))[..., [0, 2, 4, 6, 1, 3, 5, 7]]
            return words(mixed.flatten(1), 4)

        tensors = {"weight": pack(code), "weight_scale": scale.t().contiguous()}
        return Module(tensors | {"weight_zero_point": pack(zero)}, dense)

    return write


@dataclass
class Case:
    """A whole checkpoint's format. config: `quantization_config`. writers: of modules whose path
    holds a key, the first one that fits; "" for all. file: a description beside config.json."""

    config: dict[str, Any] | None
    writers: dict[str, Writer | None]
    file: Callable[[dict[str, Any]], tuple[str, dict[str, Any]]] | None = None
    kinds: dict[str, str] = field(default_factory=dict)


def write(source: Path, folder: Path, case: Case) -> Path:
    """A checkpoint with its projections quantized. Beside it, in "dense", is the same one with the
    weights that they mean. Returns its folder."""
    draw = torch.Generator().manual_seed(5)
    tensors, dense = {}, {}
    types: dict[str, Any] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        module, _, last = name.rpartition(".")
        writer = _writer(case, module) if last == "weight" and "_proj" in module else None
        tensors[name] = dense[name] = tensor
        types[name] = "FLOAT"
        if writer is not None:
            made = writer(*tensor.shape, draw)
            del tensors[name]
            named = {f"{module}.{suffix}": t for suffix, t in made.tensors.items()}
            tensors |= named
            dense[name] = made.dense.float()
            types |= dict.fromkeys(named, _kind(case, module))
    config = json.loads((source / "config.json").read_text())
    config.pop("quantization_config", None)
    for place, kept, extra in (
        (folder / "quantized", tensors, case.config),
        (folder / "dense", dense, None),
    ):
        place.mkdir(parents=True)
        save_file({k: t.contiguous() for k, t in kept.items()}, place / "model.safetensors")
        given = config | ({"quantization_config": extra} if extra else {})
        (place / "config.json").write_text(json.dumps(given))
    if case.file is not None:
        name, content = case.file(types)
        (folder / "quantized" / name).write_text(json.dumps(content))
    return folder / "quantized"


def _writer(case: Case, module: str) -> Writer | None:
    return next((writer for key, writer in case.writers.items() if key in module), None)


def _kind(case: Case, module: str) -> str:
    return next((kind for key, kind in case.kinds.items() if key in module), "")


def golden(tool: str) -> dict[str, tuple[dict[str, Any], Tensors, torch.Tensor]]:
    """name -> (quantization_config, stored tensors, what the tool's reader makes of them)."""
    found: dict[str, tuple[dict[str, Any], Tensors, torch.Tensor]] = {}
    with safe_open(GOLDEN / f"{tool}.safetensors", framework="pt") as file:
        metadata = file.metadata()
        keys = list(file.keys())
        for name in metadata:
            prefix = f"{name}."
            if f"{prefix}dequantized" not in keys:
                continue
            mine = {
                k.removeprefix(prefix): file.get_tensor(k) for k in keys if k.startswith(prefix)
            }
            dense = mine.pop("dequantized")
            found[name] = (json.loads(metadata[name]), mine, dense)
    return found
