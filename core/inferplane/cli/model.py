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

    settings, _ = load_settings({**flags, "model": model}, config)
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    with loading() as progress:
        return LLM(**{**given, **fixed}, progress=progress)
