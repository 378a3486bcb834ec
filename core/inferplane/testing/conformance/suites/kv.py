"""op "kv.write", into every layout that the platform's attention publishes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from inferplane.spec import Candidate, KVWriteRequest

from ..case import Case
from ..sample import Sample
from ..suite import Base, Suite, Traps
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Problem


@dataclass(frozen=True)
class Shape:
    """slots: in order from the middle of a page; in no order; with every third one padding; or
    all padding."""

    tokens: int = 5
    slots: Literal["run", "scattered", "padded", "padding"] = "run"


EDGES: dict[str, tuple[dict[str, Any], Shape]] = {
    "one-token": ({}, Shape(1)),
    "over-a-page": ({}, Shape(40)),
    "scattered": ({}, Shape(33, "scattered")),
    "padded": ({}, Shape(9, "padded")),
    "only-padding": ({}, Shape(3, "padding")),
    "one-head": ({"kv_heads": 1}, Shape(7, "scattered")),
    "head-size-80": ({"head_dim": 80}, Shape(7, "scattered")),
    "other-kv-dtype": ({"kv_dtype": "other"}, Shape(7, "scattered")),
}

_LATENT: dict[str, Any] = {"layout": "latent", "kv_heads": 1, "head_dim": 96}
_SCALED: dict[str, Any] = {"kv_dtype": "fp8", "kv_scales": True}
OTHERS: dict[str, tuple[dict[str, Any], Shape]] = {
    "latent": (_LATENT, Shape(40)),
    "latent-padded": (_LATENT, Shape(9, "padded")),
    "latent-wide": (_LATENT | {"head_dim": 576}, Shape(7, "scattered")),
    "kv-scales": (_SCALED, Shape(9, "padded")),
    "latent-kv-scales": (_LATENT | _SCALED, Shape(9, "padded")),
}
"""Of one layout each."""


class Write(Suite):
    op, area = "kv.write", "ops"
    bases = ({"head_dim": 64}, {"head_dim": 128}, {"head_dim": 256}, {"head_dim": 32})

    def request(self, target: Target, dtype: str, **fields: Any) -> KVWriteRequest:
        from ..layouts import kv_dtype, page_sizes

        given: dict[str, Any] = {
            "layout": "standard",
            "kv_heads": 2,
            "head_dim": 64,
            "kv_dtype": dtype,
            "page_size": page_sizes(target)[0],
        } | fields
        given["kv_dtype"] = kv_dtype(target, dtype, given["kv_dtype"])
        return KVWriteRequest(device=target.props, dtype=dtype, **given)

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        from ..layouts import layout_names, page_sizes

        for layout in layout_names(target):
            tail = "" if layout == "standard" else f"-{layout}"
            for name, (fields, shape) in EDGES.items():
                request = self.request(target, dtype, **(base | fields | {"layout": layout}))
                yield Sample(f"{name}{tail}", request, shape, shape.tokens)
            for page in page_sizes(target)[1:]:
                request = self.request(target, dtype, **base, layout=layout, page_size=page)
                yield Sample(f"page-{page}{tail}", request, Shape(3 * page // 2), 3 * page // 2)

        for name, (fields, shape) in OTHERS.items():
            request = self.request(target, dtype, **(base | fields))
            yield Sample(name, request, shape, shape.tokens)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        from ..layouts import layout_names, page_sizes

        fields = {
            "layout": rng.choice(layout_names(target)),
            "kv_heads": rng.choice([1, 2, 3, 8]),
            "head_dim": rng.choice([16, 64, 96, 128]),
            "page_size": rng.choice(page_sizes(target)),
        }
        shape = Shape(rng.choice([1, rng.randint(1, 60)]), rng.choice(["run", "scattered"]))
        return Sample("drawn", self.request(target, dtype, **fields), shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "an unknown layout", self.request(target, target.floats[0], **base, layout="kit")
        yield "dtype nf4", self.request(target, "nf4", **base)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        import torch

        from inferplane.spec.torch_types import torch_dtype

        from ..numbers import Numbers
        from ..paging import KV_SCALES
        from ..problem import Problem
        from ..tensors import bits_of

        request, shape = case.request, case.shape
        assert isinstance(request, KVWriteRequest)
        draw, page = Numbers(seed), request.page_size
        pages = -(-shape.tokens // page) + 3
        size = (shape.tokens, request.kv_heads, request.head_dim)
        k, v = (draw.normal(*size, dtype=request.dtype) for _ in "kv")
        slots = _slots(shape, page, pages, draw)
        kind, scales = torch_dtype(request.kv_dtype), torch.tensor(KV_SCALES)
        latent = request.layout == "latent"
        new = k if latent else torch.stack([k, v], dim=1)
        if request.kv_scales:
            new = new.float() / (scales[0] if latent else scales.view(2, 1, 1))
        vectors = (request.head_dim,) if latent else (2, request.kv_heads, request.head_dim)
        wire = torch.full((pages * page, *vectors), float("nan"), dtype=torch.float32).to(kind)
        right, written = wire.clone(), torch.zeros(wire.shape, dtype=torch.bool)
        real = slots >= 0
        raw = bits_of(wire)
        right.view(raw)[slots[real]] = new[real].to(kind).view(-1, *vectors).view(raw)
        written[slots[real]] = True
        shaped = (pages, page, *vectors)
        inputs = {"k_TKD": k, "v_TKD": v, "slots_T": slots}
        if request.kv_scales:
            inputs["kv_scales"] = scales
        return Problem(
            inputs,
            {"cache": right.view(shaped)},
            indices=frozenset({"slots_T"}),
            untouched={"cache": ~written.view(shaped)},
            state={"cache": wire.view(shaped)},
        )

    def dtype(self, case: Case) -> str:
        assert isinstance(case.request, KVWriteRequest)
        return case.request.kv_dtype

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..paging import Cache, owner_of_layout
        from ..problem import Call, place, views

        request = case.request
        assert isinstance(request, KVWriteRequest)
        owner = owner_of_layout(target, request)
        if owner is None:
            raise RuntimeError(f"no attention kernel has the layout {request.layout!r} for this")
        placed = place(problem, target)
        given = views(placed)
        cache = Cache(*owner, problem.state["cache"], target.torch_device)

        def run() -> dict[str, Any]:
            k_TKD, v_TKD = given["k_TKD"], given["v_TKD"]
            if request.layout == "latent":
                v_TKD = k_TKD[..., : request.head_dim // 2]
            more = {"kv_scales": given["kv_scales"]} if request.kv_scales else {}
            kernel(k_TKD, v_TKD, cache.tensor, given["slots_T"], **more)
            return {}

        return Call(
            placed,
            run,
            lambda: {"cache": cache.read()},
            renew_more=lambda new: cache.fill(new.state["cache"]),
        )


def _slots(shape: Shape, page: int, pages: int, draw: Any) -> Any:
    import torch

    if shape.slots == "padding":
        return torch.full((shape.tokens,), -1)
    if shape.slots in ("scattered", "padded"):
        order = draw.numpy.permutation(pages * page)[: shape.tokens]
        order[0] = pages * page - 1 if pages * page - 1 not in order else order[0]
        slots = torch.from_numpy(order.astype("int64"))
        if shape.slots == "padded":
            slots[1::3] = -1
        return slots
    return torch.arange(shape.tokens) + page + page // 2
