"""What is worse than the committed figures. No Triton here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from targets import TARGETS

FIGURES = Path(__file__).with_name("figures.json")
Figures = Mapping[str, Mapping[str, Any]]


def committed() -> dict[str, Any]:
    """{"triton": version, "figures": {target: {call and kernel: figures}}}"""
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def regressions(target: str, found: Figures, kept: Figures) -> Iterator[str]:
    """found: what was compiled now. kept: what was committed for the same target."""
    limit = TARGETS[target].most_shared
    for name, now in found.items():
        where = f"{target} {name}"
        if now["shared"] > limit:
            yield f"{where}: {now['shared']} bytes are shared, the device has {limit}"
        if name not in kept:
            yield f"{where}: has no committed figures"
            continue
        before = kept[name]
        if now["spills"] > before["spills"]:
            yield f"{where}: spills {now['spills']}, {before['spills']} before"
        if now["warps_a_core"] < before["warps_a_core"]:
            yield f"{where}: {now['warps_a_core']} warps a core, {before['warps_a_core']} before"
        if now["ahead"] < before["ahead"]:
            yield f"{where}: {now['ahead']} copies ahead, {before['ahead']} before"
        if now["matrix"] != before["matrix"]:
            yield f"{where}: matrix instructions {now['matrix']!r}, {before['matrix']!r} before"
