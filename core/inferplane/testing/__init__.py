"""What plugin authors test with. Importing it is cheap: the kit is loaded when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .suite_class import Conformance

__all__ = ["Conformance"]


def __getattr__(name: str) -> Any:
    if name != "Conformance":
        raise AttributeError(f"module 'inferplane.testing' has no attribute {name!r}")
    from .suite_class import Conformance

    return Conformance
