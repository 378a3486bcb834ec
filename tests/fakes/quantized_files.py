"""Modules as quantized formats store them, number by number, and what they are worth.

Each writer draws from a seed and gives (stored tensors by their last names, the weight in fp32).
They follow the published layouts and share nothing with the code that is tested.
Legend: N outputs, K inputs, G groups.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Written = tuple[dict[str, torch.Tensor], torch.Tensor]


def words(codes: np.ndarray, bits: int, order: tuple[int, ...] | None = None) -> torch.Tensor:
    """[R, C] -> int32 [R, C * bits / 32]: place i of a word, low bits first, is its neighbour
    order[i]."""
    per = 32 // bits
    found = np.zeros((codes.shape[0], codes.shape[1] // per), dtype=np.uint32)
    for word in range(found.shape[1]):
        for place in range(per):
            neighbour = order[place] if order else place
            number = codes[:, word * per + neighbour].astype(np.uint32)
            found[:, word] |= number << np.uint32(bits * place)
    return torch.from_numpy(found.view(np.int32))


def _numbers(seed: int, rows: int, columns: int, groups: int, bits: int) -> tuple[np.ndarray, ...]:
    """Codes [N, K], zeros [G, N], scales fp16 [G, N]."""
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, 1 << bits, (rows, columns))
    zeros = draw.integers(0, 1 << bits, (groups, rows))
    scales = draw.uniform(0.5, 1.5, (groups, rows)) * 8.0 / (1 << bits) / columns**0.5
    return codes, zeros, scales.astype(np.float16)


def _worth(codes: Any, zeros: Any, scales: Any, group_of: Any) -> torch.Tensor:
    values = codes - zeros[group_of].T
    return torch.from_numpy((values * scales.astype(np.float32)[group_of].T).astype(np.float32))


def gptq(
    seed: int,
    rows: int,
    columns: int,
    *,
    bits: int = 4,
    group: int = 32,
    sym: bool = True,
    ordered: bool = False,
    version: int = 1,
    **_: Any,
) -> Written:
    size = columns if group == -1 else group
    groups = -(-columns // size)
    codes, zeros, scales = _numbers(seed, rows, columns, groups, bits)
    if sym:
        zeros[:] = 1 << (bits - 1)
    group_of = np.arange(columns) // size
    if ordered:
        group_of = np.random.default_rng(seed + 1).permutation(group_of)
    stored = words(zeros, bits)
    if version == 1:
        ones = sum(1 << (bits * place) for place in range(32 // bits))
        stored = torch.from_numpy((stored.numpy().view(np.uint32) - np.uint32(ones)).view(np.int32))
    tensors = {
        "qweight": words(np.ascontiguousarray(codes), bits).t().contiguous(),
        "qzeros": stored,
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(group_of.astype(np.int32)),
    }
    return tensors, _worth(codes, zeros, scales, group_of)


def awq(
    seed: int, rows: int, columns: int, *, group: int = 32, zero_point: bool = True, **_: Any
) -> Written:
    codes, zeros, scales = _numbers(seed, rows, columns, columns // group, 4)
    if not zero_point:
        zeros[:] = 8
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {
        "qweight": words(np.ascontiguousarray(codes.T), 4, order),
        "qzeros": words(zeros, 4, order),
        "scales": torch.from_numpy(scales),
    }
    return tensors, _worth(codes, zeros, scales, np.arange(columns) // group)


NF4 = torch.tensor(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ]
)


def nf4(seed: int, rows: int, columns: int, *, nested: bool = False, **_: Any) -> Written:
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (rows * columns,), generator=draw)
    blocks = rows * columns // 64
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": 64, "dtype": "float16"}
    state["shape"] = [rows, columns]
    tensors = {
        "weight": (codes[0::2] * 16 + codes[1::2]).to(torch.uint8)[:, None],
        "weight.quant_map": NF4.clone(),
    }
    if nested:
        table = torch.linspace(-1, 1, 256)
        largest = torch.rand(-(-blocks // 256), generator=draw) / columns**0.5
        small = torch.randint(0, 256, (blocks,), generator=draw)
        offset = 2.0 / columns**0.5
        scales = table[small] * largest.repeat_interleave(256)[:blocks] + offset
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
        tensors["weight.absmax"] = small.to(torch.uint8)
        tensors["weight.nested_absmax"], tensors["weight.nested_quant_map"] = largest, table
    else:
        scales = (0.5 + torch.rand(blocks, generator=draw)) * 3 / columns**0.5
        tensors["weight.absmax"] = scales
    text = json.dumps(state).encode()
    tensors["weight.quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
    return tensors, (NF4[codes] * scales.repeat_interleave(64)).view(rows, columns)


def int8(seed: int, rows: int, columns: int, **_: Any) -> Written:
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, (rows, columns), generator=draw).to(torch.int8)
    largest = (0.5 + torch.rand(rows, generator=draw)) * 3 / columns**0.5
    tensors = {
        "weight": codes,
        "SCB": largest,
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }
    return tensors, codes.float() * (largest / 127.0)[:, None]


WRITERS: dict[str, Callable[..., Written]] = {"gptq": gptq, "awq": awq, "nf4": nf4, "int8": int8}
