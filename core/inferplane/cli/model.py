"""Opening a model for commands that run it in their own process."""

from __future__ import annotations

from typing import Any


def open_llm(model: str, flags: dict[str, Any], config: str | None, **fixed: Any) -> Any:
    """An `LLM` from a command's flags and file, loaded with a progress bar.

    fixed: settings that the command itself decides.
    """
    from inferplane import LLM
    from inferplane.settings import load_settings

    from .show import loading

    settings, sources = load_settings({**flags, **fixed, "model": model}, config)
    with loading() as progress:
        return LLM.of(settings, sources, progress)
