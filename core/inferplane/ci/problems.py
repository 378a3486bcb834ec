"""What is wrong with a registration: one line with its place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Problem:
    """kind: a stable word for programs. line: 0 where the whole file is meant."""

    path: str
    line: int
    kind: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.message}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
