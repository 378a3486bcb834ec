"""Inferplane: LLM inference over hardware plugins. `from inferplane import LLM, SamplingParams`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import UserError
    from .llm import LLM
    from .params import SamplingParams

__all__ = ["LLM", "SamplingParams", "UserError", "__version__"]

_WHERE = {"LLM": "llm", "SamplingParams": "params", "UserError": "errors"}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `import inferplane` is cheap and imports no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'inferplane' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"inferplane.{_WHERE[name]}"), name)
