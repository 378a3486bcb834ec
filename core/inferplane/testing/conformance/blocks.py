"""Inputs, caches and steps of composite kernels, for the kernel and for the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from inferplane.plugins.binding import make
from inferplane.reference.attention import Attention as ReferenceAttention
from inferplane.spec import OPS, AttentionKernel, AttentionLimits, GroupStep, Step
from inferplane.spec.torch_types import torch_dtype

from .case import Case
from .composing import Built, Sizes, Weights, build_block, references
from .numbers import Numbers
from .paging import Cache, Pages, lay_out
from .problem import Call, Problem, place, views
from .target import Target

if TYPE_CHECKING:
    from .suites.composites import Composite


@dataclass
class Extra:
    """pages: of the step. weights: the kernel's, by name."""

    pages: Pages
    weights: Weights


def oracle(suite: Composite, case: Case, target: Target, seed: int) -> Problem:
    """The composition of reference kernels in fp64, on the host."""
    sizes, page, dtype = case.shape
    draw, weights = Numbers(seed), Weights(seed, dtype)
    pages = lay_out(sizes.rows, page, sizes.style, sizes.window, draw.numpy)
    inputs = suite.inputs(draw, sizes, dtype)
    shape = (pages.pool, page, 2, sizes.kv_heads, sizes.head_dim)
    wire = draw.normal(*shape, dtype=dtype)
    wire[~pages.held()] = float("nan")
    host = torch.device("cpu")
    built = build_block(target, references(target), suite.make, sizes, page, "fp64", weights, host)
    cache = _cache(suite, built, sizes, wire.double(), host, None)
    step = _step(built, cache, pages, host, torch.int64)
    given = {name: tensor.double() for name, tensor in inputs.items()}
    expected = suite.call(built.made, given, step, cache)
    problem = Problem(
        inputs,
        {name: tensor.clone() for name, tensor in expected.items()},
        writes=frozenset(OPS[suite.op].mutates),
        length=max(sizes.hidden, sizes.intermediate, sizes.heads * sizes.head_dim),
        extra=Extra(pages, weights),
    )
    if suite.attends:
        problem.expected["cache"] = cache.read()
        problem.state["cache"] = wire
        still = ~pages.written()[:, :, None, None, None]
        problem.untouched["cache"] = still.expand(wire.shape)
    return problem


def start(suite: Composite, case: Case, built: Built, problem: Problem, target: Target) -> Call:
    sizes = case.shape[0]
    placed = place(problem, target)
    device, pages = target.torch_device, problem.extra.pages
    wire = problem.state.get("cache")
    cache = _cache(suite, built, sizes, wire, device, target) if suite.attends else None
    step = _step(built, cache, pages, device, target.index_type())
    given = views(placed)

    def run() -> dict[str, torch.Tensor]:
        return suite.call(built.made, given, step, cache)

    def after() -> dict[str, torch.Tensor]:
        return {"cache": cache.read()} if cache else {}

    return Call(placed, run, after)


def _cache(
    suite: Composite,
    built: Built,
    sizes: Sizes,
    wire: torch.Tensor | None,
    device: torch.device,
    target: Target | None,
) -> Any:
    """The layer's cache, filled, and put into its slot."""
    if not suite.attends or wire is None:
        return None
    request = sizes.attention().request(_Asking(built.context))  # type: ignore[arg-type]
    slot = built.context.groups.slots.get(sizes.index)
    kernel: AttentionKernel
    if slot is not None:
        kernel = slot.kernel
    elif target is None:
        kernel = ReferenceAttention(request)
    else:
        kernel = make(built.resolver.choose(request).candidate, request)
    layout = built.layout(request)
    cache = Cache(kernel, layout, wire.to(torch_dtype(layout.dtype)), device)
    if slot is not None:
        slot.cache = cache.tensor
    return cache


@dataclass
class _Asking:
    """The part of a builder that a request is made of. No checkpoint, so no scales of a cache."""

    context: Any

    def has_kv_scales(self) -> bool:
        return False


def _step(built: Built, cache: Any, pages: Pages, device: torch.device, index: torch.dtype) -> Step:
    positions = torch.from_numpy(pages.positions).to(index).to(device)
    slots = torch.from_numpy(pages.slots).to(index).to(device)
    plan = None
    slot = next(iter(built.context.groups.slots.values()), None)
    if slot is not None:
        metadata = pages.on(slots)
        limits = AttentionLimits(
            max_rows=len(pages.rows),
            max_tokens=len(pages.slots),
            max_context=pages.table.shape[1] * pages.page,
        )
        plan = slot.kernel.plan(metadata, slot.kernel.buffers(limits, device))
    return Step(
        tokens_T=positions,
        positions_T=positions,
        groups=[GroupStep(plan, slots)],
        rotary=[k.step(table, positions) for k, table in built.context.rotary_states],
    )
