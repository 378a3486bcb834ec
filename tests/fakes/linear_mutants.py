"""Quantized linear kernels, and kernels with a matrix a head, with one mistake each, made of the
reference's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from inferplane.reference.linear import Linear
from inferplane.spec import TorchHeadsLinear
from inferplane.spec.quantized import pack, unpack

Tensors = dict[str, torch.Tensor]


def changed(change: Callable[[Any, Tensors], None]) -> type[Linear]:
    """Reads its tensors wrongly: `change(scheme, tensors)` spoils copies of them."""

    class Changed(Linear):
        def prepare(self, source: Any) -> Any:
            packed = super().prepare(source)
            if self.request.scheme.quantized:
                change(self.request.scheme, packed.data[0])
            return packed

    return Changed


def asked(**fields: Any) -> type[Linear]:
    """Computes another scheme than was asked for."""

    class Asked(Linear):
        def __init__(self, request: Any) -> None:
            if request.scheme.quantized:
                request = replace(request, scheme=replace(request.scheme, **fields))
            super().__init__(request)

    return Asked


def high_half_first(scheme: Any, tensors: Tensors) -> None:
    if scheme.packed == 2:
        weight = tensors["weight"]
        tensors["weight"] = (weight >> 4) | (weight << 4)


def eight_for_zero(scheme: Any, tensors: Tensors) -> None:
    if scheme.zero_point:
        tensors["zero"] = torch.full_like(tensors["zero"], 8)


def zero_plus_one(scheme: Any, tensors: Tensors) -> None:
    """Takes what is canonical for GPTQ's version 1."""
    if scheme.zero_point:
        tensors["zero"] = tensors["zero"] + 1


def next_group_at_the_boundary(scheme: Any, tensors: Tensors) -> None:
    """The last input of a group takes the next group's scale: its code is changed to match."""
    if scheme.granularity != "group" or scheme.weight != "int4" or tensors["scale"].shape[-1] < 2:
        return
    codes = unpack(tensors["weight"])
    last = slice(scheme.group - 1, (tensors["scale"].shape[-1] - 1) * scheme.group, scheme.group)
    ratio = tensors["scale"].float()[..., 1:] / tensors["scale"].float()[..., :-1]
    moved = (codes[..., last].float() - 8) * ratio + 8
    codes[..., last] = moved.round().clamp(0, 15).to(torch.uint8)
    tensors["weight"] = pack(codes)


def first_scale(scheme: Any, tensors: Tensors) -> None:
    """One scale a part is taken for one of all."""
    if scheme.granularity == "tensor":
        tensors["scale"] = tensors["scale"][:1]


def first_global(scheme: Any, tensors: Tensors) -> None:
    if scheme.global_scale:
        tensors["global_scale"] = tensors["global_scale"][:1]


def first_input_scale(scheme: Any, tensors: Tensors) -> None:
    if "input_scale" in tensors:
        tensors["input_scale"] = tensors["input_scale"][:1]


def no_order(scheme: Any, tensors: Tensors) -> None:
    if scheme.reordered:
        tensors["order"] = torch.arange(len(tensors["order"]), dtype=torch.int32)


def order_backwards(scheme: Any, tensors: Tensors) -> None:
    if scheme.reordered:
        tensors["order"] = tensors["order"].argsort().to(torch.int32)


def exponents_less_one(scheme: Any, tensors: Tensors) -> None:
    if scheme.scale == "ue8m0":
        tensors["scale"] = tensors["scale"] - 1


def int8_without_its_lowest(scheme: Any, tensors: Tensors) -> None:
    """-128 is taken for -127."""
    if scheme.weight == "int8":
        tensors["weight"] = tensors["weight"].clamp(min=-127)


def blocks_transposed(scheme: Any, tensors: Tensors) -> None:
    scale = tensors["scale"]
    if scheme.granularity == "block" and scale.shape[0] == scale.shape[1]:
        tensors["scale"] = scale.t()


def no_bias(scheme: Any, tensors: Tensors) -> None:
    if "bias" in tensors:
        tensors["bias"] = torch.zeros_like(tensors["bias"])


class HeadsBackwards(TorchHeadsLinear):
    def __call__(self, x_THC: torch.Tensor, packed: Any) -> torch.Tensor:
        return super().__call__(x_THC.flip(1), packed)


class TakesContiguous(TorchHeadsLinear):
    """Walks through the memory as if there were no strides."""

    def __call__(self, x_THC: torch.Tensor, packed: Any) -> torch.Tensor:
        tokens, heads, size = x_THC.shape
        flat = x_THC.as_strided((tokens, heads, size), (heads * size, size, 1))
        return super().__call__(flat, packed)


SCHEMES: dict[str, tuple[Callable[..., Any], str]] = {
    "the high half of a byte is first": (changed(high_half_first), "parity"),
    "the zero point is ignored": (changed(eight_for_zero), "parity"),
    "the zero point is one more": (changed(zero_plus_one), "parity"),
    "the next group's scale at a boundary": (changed(next_group_at_the_boundary), "parity"),
    "the first part's scale is of all": (changed(first_scale), "parity"),
    "the first part's global scale is of all": (changed(first_global), "parity"),
    "the first part's input scale is of all": (changed(first_input_scale), "parity"),
    "inputs in another order are taken in theirs": (changed(no_order), "parity"),
    "the order of inputs is turned around": (changed(order_backwards), "parity"),
    "exponents are one less": (changed(exponents_less_one), "parity"),
    "the lowest code of int8 is cut": (changed(int8_without_its_lowest), "parity"),
    "blocks of rows are taken for blocks of columns": (changed(blocks_transposed), "parity"),
    "a quantized layer has no bias": (changed(no_bias), "parity"),
    "inputs are not quantized": (asked(activation=""), "parity"),
    "one scale for the inputs of all tokens": (asked(activation_granularity="tensor"), "parity"),
    "static inputs are scaled as they come": (asked(dynamic=True), "parity"),
}

HEADS: dict[str, tuple[Callable[..., Any], str]] = {
    "heads are taken backwards": (HeadsBackwards, "parity"),
    "a strided input is taken for a contiguous one": (TakesContiguous, "parity"),
}
