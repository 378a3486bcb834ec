"""The whole plan of an engine, out of settings and data: no torch, no weights, no device.

`explain` prints it, the engine carries it out, and a combination that cannot work fails here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inferplane.errors import UserError
from inferplane.formats.locate import locate, read_config
from inferplane.formats.registry import Quantization, find_quantization
from inferplane.layers.builder import Builder
from inferplane.layers.context import BuildContext
from inferplane.models.registry import find_model
from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import Plugin, discover
from inferplane.plugins.resolution import Choice, Pins, Resolution, Resolver
from inferplane.plugins.selection import Selection, select
from inferplane.plugins.site import Site
from inferplane.plugins.tuning import load_tuning
from inferplane.settings import Settings
from inferplane.spec import (
    AttentionRequest,
    KVGroup,
    KVLayout,
    MemoryInfo,
    Mesh,
    SampleRequest,
    standard_layout,
)

from .alternatives import advice, without_effect
from .effective import Effective, resolve
from .graphs import choose_graph
from .memory import KVBudget, kv_budget

PLAIN = frozenset[str]()
FULL = frozenset(
    {"random", "top_k", "top_p", "min_p", "penalties", "bias", "mask", "processors", "logprobs"}
)


@dataclass
class Plan:
    """Everything that was decided, with reasons.

    samplers: choices for batches that want an argmax, and for those that want more. graph: what
    captures decode steps, None where nothing does; `effective` says why.
    weight_bytes: of the tensors as they are kept. extra_bytes: packed copies.
    """

    settings: Settings
    folder: Path
    selection: Selection
    catalog: Catalog
    effective: Effective
    model_class: Any
    config: Any
    quantization: Quantization
    mesh: Mesh
    root: Site
    resolution: Resolution
    resolver: Resolver
    groups: list[KVGroup]
    samplers: tuple[Choice, Choice]
    graph: Choice | None
    memory: MemoryInfo
    weight_bytes: int
    extra_bytes: int
    budget: KVBudget
    warnings: list[str] = field(default_factory=list)

    @property
    def model_name(self) -> str:
        return self.settings.served_model_name or self.settings.model

    def context(self) -> BuildContext:
        """A fresh build context for the chosen kernels."""
        return make_context(
            self.catalog, self.effective, self.mesh, self.resolver, self.quantization
        )


def make_plan(
    settings: Settings,
    sources: Mapping[str, str] | None = None,
    plugins: list[Plugin] | None = None,
    mesh: Mesh | None = None,
) -> Plan:
    """Raises UserError; ResolutionError lists every op that has no kernel, at once."""
    if not settings.model:
        raise UserError("no model was given: a folder, a bundled name, or a hub name")
    if sources is None:
        sources = dict.fromkeys(settings.model_fields_set, "argument")
    plugins = discover(settings.plugins) if plugins is None else plugins
    selection = select(plugins, settings.device, settings.target)
    catalog = Catalog(plugins, selection)
    dummy = settings.load_format == "dummy"
    folder = locate(settings.model, settings.revision, download=not (dummy or selection.planning))
    raw = read_config(folder)
    model_class = find_model(raw, catalog.models())
    config = model_class.read(raw)
    quantization = find_quantization(raw, settings.quantization, catalog.formats())
    given = settings.model_dump()
    effective = resolve(
        given, sources, catalog.proposals(given), catalog.props, config.dtype, config.max_positions
    )
    if settings.quantization is None:
        effective = effective.with_value("quantization", quantization.name, quantization.source)
    tuning = load_tuning(settings.tuning)
    if tuning.source:
        made = "inferplane tune --compare"
        source = made if settings.tuning is None else effective.values["tuning"].source
        effective = effective.with_value("tuning", tuning.source, source + tuning.note())
    pins = Pins.parse(settings.kernel)
    resolver = Resolver(
        catalog.candidates, pins, settings.strict, tuning, catalog.selection.platform.name
    )
    mesh = mesh or Mesh()
    effective = _choose_page_size(
        effective, catalog, resolver, mesh, model_class, config, quantization
    )
    context = make_context(catalog, effective, mesh, resolver, quantization)
    root, groups = record(model_class, config, context)
    resolution = resolver.resolve(root)
    samplers = tuple(
        _sampler(resolver, resolution, catalog, config.vocab, extra) for extra in (PLAIN, FULL)
    )
    effective, graph = choose_graph(effective, catalog, resolver, resolution)
    if resolution.problems:

        def works(other: Quantization) -> bool:
            context = make_context(catalog, effective, mesh, resolver, other)
            return not resolver.resolve(record(model_class, config, context)[0]).problems

        hint = advice(quantization, resolution, works)
        resolution.check(settings.model, catalog.props.name, hint)
    weights, extra_bytes = weight_sizes(root, resolution)
    memory = catalog.memory()
    budget = kv_budget(effective, groups, config, memory, weights + extra_bytes)
    length = budget.max_model_len
    if length != effective["max_model_len"]:
        effective = effective.with_value("max_model_len", length, "what the KV cache can hold")
    return Plan(
        settings=settings,
        folder=folder,
        selection=selection,
        catalog=catalog,
        effective=effective,
        model_class=model_class,
        config=config,
        quantization=quantization,
        mesh=mesh,
        root=root,
        resolution=resolution,
        resolver=resolver,
        groups=groups,
        samplers=samplers,  # type: ignore[arg-type]
        graph=graph,
        memory=memory,
        weight_bytes=weights,
        extra_bytes=extra_bytes,
        budget=budget,
        warnings=[
            *(selection.skipped if settings.device == "auto" else ()),
            *catalog.warnings,
            *without_effect(quantization, root),
        ],
    )


def make_context(
    catalog: Catalog,
    effective: Effective,
    mesh: Mesh,
    resolver: Resolver,
    quantization: Quantization,
) -> BuildContext:
    def layout_of(request: AttentionRequest) -> KVLayout:
        choice = resolver.choose(request)
        layout = choice.candidate.layout if choice.found else None
        return layout(request) if layout else standard_layout(request)

    return BuildContext(
        props=catalog.props,
        dtype=effective["dtype"],
        kv_dtype=effective["kv_dtype"],
        page_size=effective["page_size"] or 16,
        layout_of=layout_of,
        mesh=mesh,
        max_positions=effective["max_model_len"],
        scheme_of=quantization.scheme,
        fuse_shared_experts=effective["fuse_shared_experts"],
        kv_scales=quantization.kv_scales,
    )


def record(model_class: Any, config: Any, context: BuildContext) -> tuple[Site, list[KVGroup]]:
    """The model's sites and KV groups, from its config alone."""
    build = Builder(context)
    model_class(config, build)
    return build.site, context.groups.all()


def _choose_page_size(
    effective: Effective,
    catalog: Catalog,
    resolver: Resolver,
    mesh: Mesh,
    model_class: Any,
    config: Any,
    quantization: Quantization,
) -> Effective:
    """The user's page size, or the first one for which no attention falls back."""
    allowed = catalog.props.page_sizes
    asked = effective["page_size"]
    if asked is not None:
        if allowed and asked not in allowed:
            raise UserError(f"page-size is {asked}; {catalog.props.name} has {list(allowed)}")
        return effective
    offered = [p for c in catalog.candidates if c.op == "attention" for p in c.page_sizes]
    tries = list(dict.fromkeys(allowed or (*offered, 16, 32, 64, 128, 1)))
    best, best_score = tries[0], -1
    context = make_context(catalog, effective, mesh, resolver, quantization)
    root, _ = record(model_class, config, context)
    requests = {site.request for site in root.walk() if isinstance(site.request, AttentionRequest)}
    for page in tries:
        choices = [resolver.choose(replace(request, page_size=page)) for request in requests]
        score = min((c.found + (c.found and not c.falls_back) for c in choices), default=2)
        if score > best_score:
            best, best_score = page, score
        if best_score == 2:
            break
    return effective.with_value("page_size", best, "attention kernel")


def _sampler(
    resolver: Resolver, resolution: Resolution, catalog: Catalog, vocab: int, extra: frozenset[str]
) -> Choice:
    choice = resolver.choose(SampleRequest(device=catalog.props, vocab=vocab, extra=extra))
    path = "sample.full" if extra else "sample.greedy"
    if choice.found:
        resolution.choices[path] = choice
    else:
        resolution.problems.append((path, choice))
    return choice


def weight_sizes(root: Site, resolution: Resolution) -> tuple[int, int]:
    """(bytes of the weights, tied ones once; bytes of packed copies beyond that)."""
    weights = sum(need.bytes for need in root.needs() if not need.tied_to)
    extra = 0
    for site in root.walk():
        choice = resolution.choices.get(site.path)
        tied = any(need.tied_to for need in site.weights)
        if choice is None or site.request is None:
            continue
        quantized = "quantized" in site.request.requires  # such a weight may grow when packed
        packings: dict[str, Any] = {}
        for _, candidate in choice.ranges:
            packings.setdefault(candidate.packing or candidate.name, candidate)
        for at, candidate in enumerate(packings.values()):
            if candidate.extra_bytes is not None and (tied or at > 0 or quantized):
                extra += candidate.extra_bytes(site.request)
    return weights, extra
