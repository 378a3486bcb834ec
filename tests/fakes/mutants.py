"""Kernels with one mistake each, made of the reference's. `MUTANTS`: op -> name -> (factory, the
check that must catch it)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from inferplane.reference import activation, kv, norm, sample
from inferplane.reference.embedding import Embedding
from inferplane.reference.linear import Linear
from inferplane.reference.moe import Experts, route
from inferplane.reference.rotary import Rotary
from inferplane.spec import TorchHeadsLinear

from . import attention_mutants as attention
from . import linear_mutants, moe_mutants

Mutants = dict[str, tuple[Callable[..., Any], str]]


def changed(make: Callable[..., Any], **fields: Any) -> Callable[..., Any]:
    """The kernel for a request with other values than were asked for."""
    return lambda request: make(replace(request, **fields))


# norms


def eps_outside(request: Any) -> Callable[..., Any]:
    def run(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = x.float() / (x.float().pow(2).mean(-1, keepdim=True).sqrt() + request.eps)
        return (y * (weight + request.weight_offset)).to(x.dtype)

    return run


def writes_x(request: Any) -> Callable[..., Any]:
    right = norm.rms_norm(request)

    def run(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        x.copy_(right(x, weight))
        return x

    return run


def residual_not_added(request: Any) -> Callable[..., Any]:
    right = norm.add_rms_norm(request)

    def run(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Any:
        return right(x, residual, weight)[0], residual

    return run


def noisy(request: Any) -> Callable[..., Any]:
    right = norm.rms_norm(request)

    def run(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return right(x, weight) * (1 + 1e-7 * torch.rand(1))

    return run


def wrong_type(request: Any) -> Callable[..., Any]:
    right = norm.rms_norm(request)
    return lambda x, weight: right(x, weight).double()


# rotary


class LatePositions(Rotary):
    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> Any:
        return super().step(table, (positions_T + 1).clamp(max=table.shape[0] - 1))


class KeysStay(Rotary):
    def __call__(self, q_THD: torch.Tensor, k_TKD: torch.Tensor, state: Any) -> None:
        super().__call__(q_THD, k_TKD.clone(), state)


class WholeHead(Rotary):
    """Turns all elements, though only the leading ones are asked for."""

    def __call__(self, q_THD: torch.Tensor, k_TKD: torch.Tensor, state: Any) -> None:
        size = q_THD.shape[-1]
        cos, sin = (F.pad(s, (0, size // 2 - s.shape[-1]), value=0.7) for s in state)
        self.rotary_dim = size
        super().__call__(q_THD, k_TKD, (cos, sin))


# KV write


def padding_written(request: Any) -> Callable[..., None]:
    def run(k: torch.Tensor, v: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor) -> None:
        flat = cache.view(-1, *cache.shape[2:])
        flat[slots, 0], flat[slots, 1] = k.to(flat.dtype), v.to(flat.dtype)

    return run


def keys_as_values(request: Any) -> Callable[..., None]:
    right = kv.write(request)
    return lambda k, v, cache, slots: right(k, k, cache, slots)


def slots_in_one_page(request: Any) -> Callable[..., None]:
    right, page = kv.write(request), request.page_size

    def run(k: torch.Tensor, v: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor) -> None:
        right(k, v, cache, torch.where(slots >= 0, slots % page, slots))

    return run


def leaked_page(request: Any) -> Callable[..., None]:
    """Rounds the write up to a whole page."""
    right = kv.write(request)

    def run(k: torch.Tensor, v: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor) -> None:
        right(k, v, cache, slots)
        cache[int(slots.max()) // request.page_size, -1] = 0

    return run


def scales_multiplied(request: Any) -> Callable[..., None]:
    right = kv.write(request)

    def run(k: Any, v: Any, cache: Any, slots: Any, kv_scales: Any = None) -> None:
        right(k, v, cache, slots, None if kv_scales is None else 1 / kv_scales)

    return run


# linear


class NoBias(Linear):
    def __call__(self, x_TC: torch.Tensor, packed: Any) -> torch.Tensor:
        return F.linear(x_TC, packed.data[0])


class PartsBackwards(Linear):
    def prepare(self, source: Any) -> Any:
        packed = super().prepare(source)
        pieces = [source.read("weight", part.name) for part in source.parts("weight")]
        packed.data = (torch.cat(pieces[::-1]), packed.data[1])
        return packed


class HalfSums(Linear):
    """Adds up in fp16."""

    def __call__(self, x_TC: torch.Tensor, packed: Any) -> torch.Tensor:
        weight, bias = packed.data
        total = torch.zeros(x_TC.shape[0], weight.shape[0], dtype=torch.float16)
        for first in range(0, x_TC.shape[1], 32):
            cut = slice(first, first + 32)
            total += F.linear(x_TC[:, cut], weight[:, cut]).half()
        total = total.to(x_TC.dtype)
        return total if bias is None else total + bias


class SpoilsTied(Linear):
    def prepare(self, source: Any) -> Any:
        packed = super().prepare(source)
        packed.data = (packed.data[0].clone(), packed.data[1])
        if source.tied_to:
            source.read("weight").mul_(2)
        return packed


# activation, embedding


def swapped(request: Any) -> Callable[..., torch.Tensor]:
    right = activation.gated(request)
    return lambda x: right(torch.cat(x.chunk(2, -1)[::-1], -1))


def gelu_for_silu(request: Any) -> Callable[..., torch.Tensor]:
    return activation.gated(replace(request, kind="gelu" if request.kind == "silu" else "silu"))


# sample


def without(**inputs: Any) -> Callable[..., Any]:
    """Sampling that does not look at some inputs."""

    def make(request: Any) -> Callable[..., Any]:
        right = sample.sample(request)
        return lambda logits, given: right(logits, replace(given, **inputs))

    return make


def seed_without_position(request: Any) -> Callable[..., Any]:
    """The second key, which mixes the position in, is dropped."""
    right = sample.sample(request)

    def run(logits: torch.Tensor, given: Any) -> Any:
        seed = given.seed_B2
        if seed is not None:
            seed = seed.clone()
            seed[:] = seed[:1]
        return right(logits, replace(given, seed_B2=seed))

    return run


def last_of_equals(request: Any) -> Callable[..., Any]:
    right = sample.sample(request)

    def run(logits: torch.Tensor, given: Any) -> Any:
        greedy = given.temperature_B is None
        flipped = logits.flip(-1).argmax(-1)
        output = right(logits, given)
        if greedy and not given.features():
            output.tokens_B = logits.shape[1] - 1 - flipped
        return output

    return run


def logprobs_of_adjusted(request: Any) -> Callable[..., Any]:
    right = sample.sample(request)

    def run(logits: torch.Tensor, given: Any) -> Any:
        output = right(logits, given)
        if given.logprobs >= 0:
            sample.report(logits, given.logprobs, output)
        return output

    return run


MUTANTS: dict[str, Mutants] = {
    "attention": {
        "the scale is of the head size": (attention.OwnScale, "parity"),
        "the window is one longer": (attention.WindowLonger, "parity"),
        "the window is one shorter": (attention.WindowShorter, "parity"),
        "the window is ignored": (changed(attention.Attention, window=0), "parity"),
        "sinks are ignored": (attention.NoSinks, "parity"),
        "softcap is ignored": (changed(attention.Attention, softcap=0.0), "parity"),
        "the next token is seen": (attention.SeesNext, "parity"),
        "the token itself is not seen": (attention.MissesItself, "parity"),
        "kv heads are taken in turn": (attention.HeadsInTurn, "parity"),
        "the wrong page at a boundary": (attention.WrongPageAtBoundary, "parity"),
        "the stale end of the last page is read": (attention.StaleLastPage, "parity"),
        "stale values have the weight 0": (attention.StaleTimesZero, "poison"),
        "pages are read in the order of the pool": (attention.PagesSorted, "parity"),
        "all rows read the first row's pages": (attention.FirstRowsPages, "parity"),
        "sums are in fp16": (attention.HalfSums, "parity"),
        "a latent value is the last part": (attention.LatentValuesLast, "parity"),
        "scales of the cache are ignored": (attention.NoKVScales, "parity"),
        "scales of keys and values are swapped": (attention.KVScalesSwapped, "parity"),
        "a page of another request is cleared": (attention.ClearsNextPage, "outside"),
        "more rows than its own are written": (attention.WritesAround, "outside"),
        "a copy of pages has lost its order": (attention.CopiesBackwards, "pages"),
        "exported pages have keys and values swapped": (attention.ExportsSwapped, "wire"),
    },
    "norm.rms": {
        "no eps": (changed(norm.rms_norm, eps=0.0), "parity"),
        "eps is outside of the root": (eps_outside, "parity"),
        "no weight offset": (changed(norm.rms_norm, weight_offset=0.0), "parity"),
        "x is written": (writes_x, "mutates"),
        "not the same twice": (noisy, "determinism"),
        "the result has another dtype": (wrong_type, "shape"),
    },
    "norm.add_rms": {
        "the residual is not written back": (residual_not_added, "parity"),
        "no eps": (changed(norm.add_rms_norm, eps=0.0), "parity"),
    },
    "rotary": {
        "interleaved is taken for neox": (changed(Rotary, style="neox"), "parity"),
        "neox is taken for interleaved": (changed(Rotary, style="interleaved"), "parity"),
        "positions are one late": (LatePositions, "parity"),
        "the whole head turns": (WholeHead, "outside"),
        "keys do not turn": (KeysStay, "parity"),
    },
    "kv.write": {
        "padding is written": (padding_written, "outside"),
        "keys are written as values": (keys_as_values, "parity"),
        "slots are cut to one page": (slots_in_one_page, "outside"),
        "a whole page is written": (leaked_page, "outside"),
        "scales are multiplied": (scales_multiplied, "parity"),
    },
    "linear": {
        "no bias": (NoBias, "parity"),
        "parts in the wrong order": (PartsBackwards, "parity"),
        "sums are in fp16": (HalfSums, "parity"),
        "a tied weight is changed": (SpoilsTied, "mutates"),
        **linear_mutants.SCHEMES,
    },
    "linear.heads": linear_mutants.HEADS,
    "moe.route": moe_mutants.ROUTING,
    "moe.experts": moe_mutants.EXPERTS,
    "activation.gated": {
        "gelu for silu": (gelu_for_silu, "parity"),
        "the limit is ignored": (changed(activation.gated, limit=0.0), "parity"),
        "gate and up are swapped": (swapped, "parity"),
    },
    "embedding": {
        "the scale is ignored": (changed(Embedding, scale=1.0), "parity"),
        "ids of other ranks are not zero": (changed(Embedding, sharding="none"), "raises"),
    },
    "sample": {
        "top-k is ignored": (without(top_k_B=None), "parity"),
        "top-p is ignored": (without(top_p_B=None), "parity"),
        "min-p is ignored": (without(min_p_B=None), "parity"),
        "the mask is ignored": (without(mask_BN=None), "parity"),
        "the bias is ignored": (without(bias=None), "parity"),
        "penalties are ignored": (without(penalties_B3=None), "parity"),
        "processors are ignored": (without(processors=()), "parity"),
        "the position is not in the seed": (seed_without_position, "parity"),
        "ties go to the highest id": (last_of_equals, "parity"),
        "log-probabilities are of adjusted logits": (logprobs_of_adjusted, "parity"),
    },
}

RIGHT: dict[str, Callable[..., Any]] = {
    "attention": attention.Attention,
    "norm.rms": norm.rms_norm,
    "norm.add_rms": norm.add_rms_norm,
    "rotary": Rotary,
    "kv.write": kv.write,
    "linear": Linear,
    "linear.heads": TorchHeadsLinear,
    "moe.route": route,
    "moe.experts": Experts,
    "activation.gated": activation.gated,
    "embedding": Embedding,
    "sample": sample.sample,
}
