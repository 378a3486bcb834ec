"""Whether decode steps are captured as graphs, and by which candidate."""

from __future__ import annotations

from inferplane.errors import UserError
from inferplane.plugins.catalog import Catalog
from inferplane.plugins.resolution import Choice, Resolution, Resolver
from inferplane.spec import GraphRequest

from .effective import Effective


def choose_graph(
    effective: Effective, catalog: Catalog, resolver: Resolver, resolution: Resolution
) -> tuple[Effective, Choice | None]:
    """The effective settings with `graphs` filled in, and the choice for the op "graph".

    Raises UserError where the user asks for graphs that there cannot be.
    """
    asked = effective["graphs"]
    if asked is False:
        return effective, None
    choice = resolver.choose(GraphRequest(device=catalog.props, what="decode"))
    reason = obstacle(choice, resolution, catalog.props.name)
    if reason and asked:
        raise UserError(f"--graphs was asked for, but {reason}")
    if reason:
        return effective.with_value("graphs", False, reason), None
    resolution.choices["graph.decode"] = choice
    if asked is None:
        effective = effective.with_value("graphs", True, choice.candidate.name)
    return effective, choice


def obstacle(choice: Choice, resolution: Resolution, device: str) -> str:
    """Why no step can be captured; "" where one can. Sampling runs after the graph."""
    if not choice.found:
        return f"{device} offers no graph capture"
    for chosen in resolution.choices.values():
        for _, candidate in chosen.ranges if chosen.request.op != "sample" else ():
            if candidate.capture == "none":
                return f"{candidate.name} cannot be captured"
    return ""
