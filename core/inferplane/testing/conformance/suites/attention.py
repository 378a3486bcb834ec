"""op "attention": paged, over batches of prefill and decode."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.spec import AttentionRequest, Candidate, GroupKind

from ..case import Case
from ..sample import Sample
from ..suite import Base, Suite, Traps
from ..target import HOST, Target
from .attention_edges import LATENT, LATENT_SIZES, REQUESTS, Edge, rows_of

if TYPE_CHECKING:
    from ..problem import Call, Problem


@dataclass(frozen=True)
class Shape:
    """rows: (tokens before, new tokens), decodes first. style: see `paging.lay_out`."""

    rows: tuple[tuple[int, int], ...]
    style: str = "runs"

    @property
    def tokens(self) -> int:
        return sum(new for _, new in self.rows)


class Attention(Suite):
    op, area = "attention", "attention"
    bases = (
        {"head_dim": 64},
        {"head_dim": 128},
        {"head_dim": 96},
        {"head_dim": 32},
        {"head_dim": 256},
        {"head_dim": 128, "heads": 8, "kv_heads": 1},
    )

    def request(self, target: Target, dtype: str, page: int, **fields: Any) -> AttentionRequest:
        from ..layouts import kv_dtype

        given: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 64, "kv_dtype": dtype}
        given |= fields
        given.setdefault("scale", given["head_dim"] ** -0.5)
        given["kv_dtype"] = kv_dtype(target, dtype, given["kv_dtype"])
        if given.get("window"):
            given["kind"] = GroupKind.WINDOW
        return AttentionRequest(device=target.props, dtype=dtype, page_size=page, **given)

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        from ..layouts import page_sizes

        pages = page_sizes(target, candidate)
        for name, edge in rows_of(pages[0]).items():
            yield self._sample(target, dtype, pages[0], name, edge, base)
        for name, fields in REQUESTS.items():
            edge = Edge(((pages[0] + 1, 1), (3, 1), (0, 9), (pages[0] - 1, 7)), fields=fields)
            yield self._sample(target, dtype, pages[0], name, edge, base)
        for page in pages[1:]:
            edge = Edge(((page - 1, 1), (page, 1), (0, page + 1), (page + 2, 5)), "scattered")
            yield self._sample(target, dtype, page, f"page-{page}", edge, base)

    def _sample(
        self, target: Target, dtype: str, page: int, name: str, edge: Edge, base: Base
    ) -> Sample:
        fields = base | edge.fields
        if fields.get("kind") is GroupKind.LATENT and "value_dim" not in fields:
            sizes = LATENT_SIZES[base.get("head_dim", 64)]
            fields["head_dim"], fields["value_dim"] = sizes
        request = self.request(target, dtype, page, **fields)
        shape = Shape(edge.rows, edge.style)
        return Sample(name, request, shape, shape.tokens)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        from ..layouts import page_sizes

        page, kv_heads = rng.choice(page_sizes(target, candidate)), rng.choice([1, 2, 3])
        fields: dict[str, Any] = {
            "kv_heads": kv_heads,
            "heads": kv_heads * rng.choice([1, 2, 4]),
            "head_dim": rng.choice([16, 32, 64, 80, 128]),
            "window": rng.choice([0, 0, 0, 1, 5, 24, page + 1]),
            "softcap": rng.choice([0.0, 0.0, 0.0, 5.0]),
            "sinks": rng.random() < 0.15,
        }
        rows = [
            (rng.randint(0, 150), rng.choice([1, 1, rng.randint(2, 40)]))
            for _ in range(rng.randint(1, 5))
        ]
        rows.sort(key=lambda row: row[1] != 1)
        style = rng.choice(["runs", "scattered", "shared"])
        if rng.random() < 0.15:
            fields = LATENT | {
                "heads": rng.choice([1, 2, 8]),
                "head_dim": rng.choice([80, 96, 192]),
            }
        edge = Edge(tuple(rows), style, fields)
        return self._sample(target, dtype, page, "drawn", edge, {})

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        from ..layouts import page_sizes

        yield "dtype int8", self.request(target, "int8", page_sizes(target, candidate)[0], **base)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        import torch

        from inferplane.reference.attention import Attention as Reference

        from ..numbers import Numbers
        from ..paging import filled, lay_out
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, AttentionRequest)
        draw = Numbers(seed)
        pages = lay_out(shape.rows, request.page_size, shape.style, request.window, draw.numpy)
        wire, inputs = filled(request, pages, draw)
        q = draw.normal(shape.tokens, request.heads, request.head_dim, dtype=request.dtype)
        inputs = {"q_THD": q, **inputs}
        if request.sinks:
            inputs["sinks_H"] = draw.normal(request.heads, dtype="fp32")
        oracle = Reference(replace(request, dtype="fp64", kv_dtype="fp64", device=HOST))
        right = torch.empty((*q.shape[:2], request.out_dim), dtype=torch.float64)
        wide = {name: tensor.double() for name, tensor in inputs.items()}
        wide.setdefault("v_TKD", wide["k_TKD"])
        plan = oracle.plan(pages.on(torch.from_numpy(pages.slots)), None)
        oracle.run(cache=wire.double(), plan=plan, out_THD=right, **wide)
        inputs["out_THD"] = torch.full(right.shape, float("nan"), dtype=q.dtype)
        return Problem(
            inputs,
            {"out_THD": right},
            writes=frozenset({"out_THD"}),
            untouched={"cache": torch.ones(wire.shape, dtype=torch.bool)},
            state={"cache": wire},
            length=request.head_dim + int(pages.lengths.max()),
            extra=pages,
        )

    def poisoned(self, problem: Problem) -> Problem:
        from ..tensors import bits_of, nan_bits

        wire = problem.state["cache"].clone()
        wire.view(bits_of(wire))[~problem.extra.held()] = nan_bits(wire.dtype)
        return replace(problem, state={"cache": wire})

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from inferplane.spec import AttentionLimits

        from ..paging import Cache, layout_of
        from ..problem import Call, place, views

        request, pages = case.request, problem.extra
        assert isinstance(request, AttentionRequest) and case.offer is not None
        placed = place(problem, target)
        layout = layout_of(case.offer, request)
        cache = Cache(kernel, layout, problem.state["cache"], target.torch_device)
        limits = AttentionLimits(
            max_rows=len(pages.rows) + 2,
            max_tokens=case.shape.tokens + 5,
            max_context=(pages.table.shape[1] + 1) * request.page_size,
        )
        buffers = kernel.buffers(limits, target.torch_device)
        given = views(placed)
        state = {"plan": kernel.plan(pages.metadata(target), buffers)}

        def run() -> dict[str, Any]:
            q_THD, k_TKD = given["q_THD"], given["k_TKD"]
            v_TKD = given.get("v_TKD", k_TKD[..., : request.out_dim])
            more = {name: given[name] for name in ("sinks_H", "kv_scales") if name in given}
            out_THD = given["out_THD"]
            kernel.run(q_THD, k_TKD, v_TKD, cache.tensor, state["plan"], out_THD, **more)
            return {}

        def renew(new: Problem) -> None:
            cache.fill(new.state["cache"])
            state["plan"] = kernel.plan(new.extra.metadata(target), buffers)

        return Call(placed, run, lambda: {"cache": cache.read()}, renew_more=renew)
