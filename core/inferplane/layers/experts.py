"""Grouped experts: where their weights are, and the site that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from inferplane.errors import UserError
from inferplane.plugins.site import WeightNeed
from inferplane.spec import ExpertsRequest, Packed, QuantScheme, WeightPart

from .builder import Builder
from .scheme_parts import scheme_needs, tensors_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsConfig:
    """Sizes before sharding.

    gate, up, down: names of an expert's projections in the checkpoint. stacked: all experts are in
    two tensors, "gate_up_proj" and "down_proj", whose gates and ups alternate; transposed: those
    are [experts, inputs, outputs] where they are not quantized. shared: experts behind the others
    that every token meets; shared_path: their gated MLP beside the experts, whose intermediate size
    is `shared` times theirs.
    """

    experts: int
    top_k: int
    hidden: int
    intermediate: int
    activation: str = "silu"
    limit: float = 0.0
    bias: bool = False
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    stacked: bool = False
    transposed: bool = False
    shared: int = 0
    shared_path: str = ""


@dataclass
class Experts:
    """y_TC = kernel(x_TC, weights_TE, experts_TE)."""

    kernel: Any
    packed: Packed

    def __call__(self, x_TC: Any, weights_TE: Any, experts_TE: Any) -> Any:
        return self.kernel(x_TC, weights_TE, experts_TE, self.packed)


def grouped_experts(build: Builder, name: str, config: ExpertsConfig) -> Any:
    """The experts' kernel with its weights. Experts are cut over tensor-parallel ranks by their
    intermediate size."""
    context = build.context
    tp = context.mesh.tp
    if config.intermediate % tp:
        raise UserError(f"intermediate size {config.intermediate} cannot be cut by {tp} (--tp)")
    sources = _Sources(build, name, config)
    request = ExpertsRequest(
        device=context.props,
        experts=config.experts + config.shared,
        top_k=config.top_k + config.shared,
        hidden=config.hidden,
        intermediate=config.intermediate // tp,
        dtype=context.dtype,
        activation=config.activation,
        limit=config.limit,
        bias=config.bias,
        scheme=sources.scheme(),
    )
    return build.weighted(name, request, list(sources.needs(request.scheme)), Experts)


@dataclass
class _Sources:
    build: Builder
    name: str
    config: ExpertsConfig
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = f"{self.build.prefix}{self.name}."

    def modules(self, down: bool, experts: range) -> dict[str, int]:
        """Path -> outputs of these experts' projections, in the order of the experts."""
        c = self.config
        names, outputs = ((c.down,), c.hidden) if down else ((c.gate, c.up), c.intermediate)
        return {f"{self.prefix}{e}.{n}": outputs for e in experts for n in names}

    def shared_modules(self, down: bool) -> tuple[str, ...]:
        names = ("down_proj",) if down else ("gate_proj", "up_proj")
        return tuple(f"{self.build.prefix}{self.config.shared_path}.{n}" for n in names)

    def scheme(self) -> QuantScheme:
        """Of the first expert; `needs` compares the others, when their parts are wanted."""
        c = self.config
        paths = [f"{self.prefix}{name}" for name in ("gate_up_proj", "down_proj")]
        if not c.stacked:
            paths = [path for down in (False, True) for path in self.modules(down, range(1))]
        if c.shared:
            paths += [*self.shared_modules(False), *self.shared_modules(True)]
        scheme = self._common(paths, self._scheme_of(paths[0]))
        if scheme.reordered:
            raise UserError(
                f"{paths[0]} is {scheme.name}: the gate and up of an expert cannot have orders of "
                "their own; --quantization dequantize loads them as numbers of the dtype"
            )
        return scheme

    def _scheme_of(self, path: str) -> QuantScheme:
        c = self.config
        inputs = c.intermediate if path.rpartition(".")[2] in (c.down, "down_proj") else c.hidden
        return self.build.context.scheme_of(path, inputs, False)

    def _common(self, paths: Iterable[str], wanted: QuantScheme) -> QuantScheme:
        """The scheme of all. Raises UserError where one has another."""
        for path in paths:
            found = self._scheme_of(path)
            if found != wanted:
                raise UserError(
                    f"experts of one layer must have one scheme: {path} is {found.name}, "
                    f"others are {wanted.name}"
                )
        return wanted

    def needs(self, scheme: QuantScheme) -> Iterator[WeightNeed]:
        for down in (False, True):
            found = self._stacked(scheme, down) if self.config.stacked else self._each(scheme, down)
            for need in found:
                need.name = f"{'down' if down else 'gate_up'}.{need.name}"
                need.experts = self.config.experts + self.config.shared
                yield need

    def _each(self, scheme: QuantScheme, down: bool) -> Iterator[WeightNeed]:
        """Tensors of their own for every expert, and pieces of the shared experts'."""
        if self.config.bias:
            raise UserError(f"{self.prefix}: biases of single experts are not known")
        if self.config.shared and self.build.context.mesh.tp > 1:
            raise UserError("fused shared experts are not cut over ranks (--fuse-shared-experts)")
        for at, need in enumerate(self._of(scheme, down, range(1))):
            every = partial(self._all, scheme, down, at)
            yield WeightNeed(need.name, need.parts, need.dtype, every=every)

    def _of(self, scheme: QuantScheme, down: bool, experts: range) -> list[WeightNeed]:
        c, context = self.config, self.build.context
        inputs, sharding = (c.intermediate, "row") if down else (c.hidden, "column")
        rows, group = self.modules(down, experts), context.mesh.group("tp")
        return list(scheme_needs(scheme, rows, inputs, context.dtype, sharding, group))

    def _all(self, scheme: QuantScheme, down: bool, at: int) -> tuple[WeightPart, ...]:
        """The parts of all experts of one canonical tensor, the `at`-th."""
        everyone = range(self.config.experts)
        self._common(self.modules(down, everyone), scheme)
        parts = self._of(scheme, down, everyone)[at].parts
        named = [replace(part, name=part.key.removeprefix(self.prefix)) for part in parts]
        if self.config.shared:
            named += self._shared(parts[-1], scheme, down)
        return tuple(named)

    def _shared(self, like: WeightPart, scheme: QuantScheme, down: bool) -> list[WeightPart]:
        """The pieces of the shared MLP that are as large as an expert each."""
        count, name = self.config.shared, like.key.rpartition(".")[2]
        axis = 1 if down else 0
        kinds = {t.name: t.axes for t in tensors_of(scheme)} if scheme.quantized else {}
        axes = kinds.get(name, ())
        follows = not axes or (
            len(axes) > axis and axes[axis].kind == ("columns" if down else "rows")
        )
        found, first = [], like.first
        for piece in range(count):
            for module in self.shared_modules(down):
                full, offset = list(like.full_shape), [0] * len(like.full_shape)
                if follows:
                    full[axis] *= count
                    offset[axis] = piece * like.full_shape[axis]
                first += like.shape[0]
                found.append(
                    replace(
                        like,
                        first=first,
                        name=f"shared{piece}.{module.rpartition('.')[2]}",
                        key=f"{module}.{name}",
                        full_shape=tuple(full),
                        offset=tuple(offset),
                    )
                )
        return found

    def _stacked(self, scheme: QuantScheme, down: bool) -> Iterator[WeightNeed]:
        c, context = self.config, self.build.context
        if context.mesh.tp > 1:
            raise UserError("stacked experts are not cut over ranks yet (--tp)")
        path = f"{self.prefix}{'down_proj' if down else 'gate_up_proj'}"
        outputs = c.hidden if down else 2 * c.intermediate
        inputs = c.intermediate if down else c.hidden
        mixed = () if down else ("deinterleave",)
        view = (*(("transpose",) if c.transposed else ()), *mixed)
        stored = (c.experts, inputs, outputs) if c.transposed else ()
        for need in scheme_needs(
            scheme, {path: outputs}, inputs, context.dtype, "none", context.mesh.group("tp")
        ):
            (part,) = need.parts
            full = (c.experts, *part.full_shape)
            whole = replace(part, full_shape=full, shape=full, offset=(0,) * len(full))
            viewed = replace(whole, view=view, stored=stored if part.dtype == "" else ())
            yield WeightNeed(need.name, (viewed,), need.dtype)
        if c.bias:
            full = (c.experts, outputs)
            part = WeightPart(
                name=path,
                key=f"{path}.bias",
                full_shape=full,
                offset=(0, 0),
                shape=full,
                view=mixed,
            )
            yield WeightNeed("bias", (part,), context.dtype)
