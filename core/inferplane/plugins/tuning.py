"""Measured preferences: which candidate was fastest for a request on a device, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferplane.spec import Request


@dataclass(frozen=True)
class Tuning:
    """order: (device profile, op, `describe()` of the request) -> candidate names, best first."""

    order: Mapping[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)

    def rank(self, request: Request, name: str) -> int:
        """Position of `name` in the measured order; all that were not measured come last, alike."""
        key = (request.device.profile, request.op, request.describe())
        names = self.order.get(key, ())
        return names.index(name) if name in names else len(names)


NO_TUNING = Tuning()
