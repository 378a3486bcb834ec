"""Blocks and layers: the kernel in the place of its reference composition."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inferplane.layers.attention import attention_block, attention_input
from inferplane.layers.builder import Builder
from inferplane.layers.mlp import gated_mlp
from inferplane.models.decoder import DecoderLayer
from inferplane.plugins.site import Site
from inferplane.spec import Candidate, LayerRequest

from ..case import Case
from ..composing import Sizes, build_block, parts_for, request_of
from ..layouts import page_sizes
from ..sample import Sample
from ..suite import Base, Suite
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Problem

COMMON: dict[str, Base] = {
    "plain": {},
    "one-token": {"rows": ((0, 1),)},
    "bias": {"bias": True},
    "wide": {"hidden": 576, "intermediate": 1024},
}
ATTENDING: dict[str, Base] = COMMON | {
    "one-decode": {"rows": ((37, 1),)},
    "many-decodes": {"rows": tuple((i * 5, 1) for i in range(9))},
    "prefill": {"rows": ((0, 40),)},
    "mixed": {"rows": ((3, 1), (40, 1), (0, 7), (15, 18))},
    "one-head": {"heads": 1, "kv_heads": 1},
    "one-kv-head": {"heads": 6, "kv_heads": 1},
    "head-size-80": {"head_dim": 80},
    "head-size-128": {"head_dim": 128},
    "qk-norm": {"qk_norm": True},
    "qk-norm-one-token": {"qk_norm": True, "rows": ((16, 1),)},
    "partial-rotary": {"rotary_dim": 16},
    "interleaved": {"rotary_style": "interleaved"},
    "qk-norm-window": {"qk_norm": True, "window": 6, "rows": ((20, 1), (0, 11))},
    "window": {"window": 6, "rows": ((20, 1), (0, 11))},
}
GATED: dict[str, Base] = COMMON | {
    "many-tokens": {"rows": ((0, 130),)},
    "odd-size": {"intermediate": 37},
    "gelu": {"activation": "gelu"},
    "gelu-tanh": {"activation": "gelu_tanh"},
    "limit": {"limit": 0.5},
}


class Composite(Suite):
    """edges: by name. attends: whether there is a cache."""

    area = "blocks"
    edges: dict[str, Base]
    attends = True
    bases = (
        {},
        {"head_dim": 64},
        {"head_dim": 128, "hidden": 256, "intermediate": 256},
        {"head_dim": 128, "hidden": 1024, "intermediate": 1024, "heads": 8, "kv_heads": 2},
    )

    @abstractmethod
    def make(self, build: Builder, sizes: Sizes) -> Any:
        """Asks the builder for the block."""

    @abstractmethod
    def call(self, made: Any, given: dict[str, Any], step: Any, cache: Any) -> dict[str, Any]:
        """One call, by names of `inputs`."""

    @abstractmethod
    def inputs(self, draw: Any, sizes: Sizes, dtype: str) -> dict[str, Any]:
        """Random inputs."""

    def _sample(
        self, target: Target, candidate: Candidate, dtype: str, name: str, sizes: Sizes
    ) -> Sample:
        page = page_sizes(target)[0]
        request = request_of(self.op, target, candidate, self.make, sizes, dtype, page)
        return Sample(name, request, (sizes, page, dtype), sizes.tokens)

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        for name, fields in self.edges.items():
            yield self._sample(target, candidate, dtype, name, Sizes(**(base | fields)))

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        kv_heads = rng.choice([1, 2])
        rows = [
            (rng.randint(0, 60), rng.choice([1, 1, rng.randint(2, 30)]))
            for _ in range(rng.randint(1, 4))
        ]
        sizes = Sizes(
            hidden=rng.choice([32, 96, 128]),
            kv_heads=kv_heads,
            heads=kv_heads * rng.choice([1, 2, 4]),
            head_dim=rng.choice([32, 64, 96]),
            intermediate=rng.choice([64, 160]),
            bias=rng.random() < 0.2,
            qk_norm=rng.random() < 0.5,
            window=rng.choice([0, 0, 7]),
            rows=tuple(sorted(rows, key=lambda row: row[1] != 1)),
        )
        return self._sample(target, candidate, dtype, "drawn", sizes)

    def dtype(self, case: Case) -> str:
        return str(case.shape[2])

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from ..blocks import oracle

        return oracle(self, case, target, seed)

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..blocks import start

        assert case.offer is not None
        offer = replace(case.offer, load=lambda: lambda request: kernel)
        sizes, page, dtype = case.shape
        built = build_block(
            target,
            parts_for(target, offer),
            self.make,
            sizes,
            page,
            dtype,
            problem.extra.weights,
            target.torch_device,
        )
        return start(self, case, built, problem, target)


class AttentionInput(Composite):
    op, edges = "attention.input", ATTENDING

    def make(self, build: Builder, sizes: Sizes) -> Any:
        config = sizes.attention()
        made = attention_input(build, config, config.request(build))
        if build.context.building:
            build.rotary_state(getattr(made, "kernel", None) or made.rotary, config.rope)
        return made

    def inputs(self, draw: Any, sizes: Sizes, dtype: str) -> dict[str, Any]:
        width = (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim
        return {"qkv_TX": draw.normal(sizes.tokens, width, dtype=dtype)}

    def call(self, made: Any, given: dict[str, Any], step: Any, cache: Any) -> dict[str, Any]:
        slots, state = step.groups[0].slots, step.rotary[0]
        q_THD, k_TKD, v_TKD = made(given["qkv_TX"], cache.tensor, slots, state)
        return {"q_THD": q_THD, "k_TKD": k_TKD, "v_TKD": v_TKD}


class AttentionBlock(Composite):
    op, edges = "attention.block", ATTENDING

    def make(self, build: Builder, sizes: Sizes) -> Any:
        return attention_block(build, "self_attn", sizes.attention())

    def inputs(self, draw: Any, sizes: Sizes, dtype: str) -> dict[str, Any]:
        return {"x_TC": draw.normal(sizes.tokens, sizes.hidden, dtype=dtype)}

    def call(self, made: Any, given: dict[str, Any], step: Any, cache: Any) -> dict[str, Any]:
        return {"y_TC": made(given["x_TC"], step)}


class MLPBlock(Composite):
    op, edges, attends = "mlp.block", GATED, False

    def make(self, build: Builder, sizes: Sizes) -> Any:
        return gated_mlp(build, "mlp", sizes.mlp())

    def inputs(self, draw: Any, sizes: Sizes, dtype: str) -> dict[str, Any]:
        return {"x_TC": draw.normal(sizes.tokens, sizes.hidden, dtype=dtype)}

    def call(self, made: Any, given: dict[str, Any], step: Any, cache: Any) -> dict[str, Any]:
        return {"y_TC": made(given["x_TC"])}


class Layer(Composite):
    op, area = "layer", "layers"
    edges = ATTENDING | {
        "first": {"index": 0},
        "first-qk-norm": {"index": 0, "qk_norm": True},
        "gelu": {"activation": "gelu"},
    }

    def make(self, build: Builder, sizes: Sizes) -> Any:
        config = sizes.decoder()

        def request(sites: list[Site]) -> LayerRequest:
            return LayerRequest(
                device=build.context.props,
                architecture=config.architecture,
                index=sizes.index,
                parts=tuple(site.request for site in sites if site.request),
            )

        def parts(inner: Builder) -> DecoderLayer:
            return DecoderLayer(config, sizes.index, inner)

        return build.compose(f"layers.{sizes.index}", parts, request, layer=sizes.index)

    def inputs(self, draw: Any, sizes: Sizes, dtype: str) -> dict[str, Any]:
        size = sizes.tokens, sizes.hidden
        given = {"x_TC": draw.normal(*size, dtype=dtype)}
        if sizes.index:
            given["residual_TC"] = draw.normal(*size, dtype=dtype)
        return given

    def call(self, made: Any, given: dict[str, Any], step: Any, cache: Any) -> dict[str, Any]:
        x_TC, residual_TC = made(given["x_TC"], given.get("residual_TC"), step)
        return {"new_x_TC": x_TC, "new_residual_TC": residual_TC}
