"""Fields of a request that are not ours: an error is better than a wrong answer, and what does not
change the answer is ignored, since clients add much.

Sources: the API reference of OpenAI; vLLM's documentation, "OpenAI-Compatible Server", extra
parameters. Read November 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inferplane.errors import nearest

from .errors import APIError

_MISSPELT = 0.88  # "max_tokns" is closer to a field than that, "max_new_tokens" is not
# OpenRouter's list of models to fall back to; text-generation-webui's "chat" or "instruct".
_OTHERS = frozenset({"models", "mode"})
_NOTHING: tuple[Any, ...] = (False, "", [], {}, "none", {"type": "text"})

_BOTH = dict.fromkeys(
    (
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "response_format",
        "use_beam_search",
        "truncate_prompt_tokens",
        "bad_words",
        "logits_processors",
    )
)
COMPLETIONS: dict[str, Any] = {**_BOTH, "suffix": None, "add_special_tokens": True}
"""Name -> the one value that asks for what is done anyway; None for any that asks for nothing."""
CHAT: dict[str, Any] = {
    **_BOTH,
    **dict.fromkeys(
        (
            "tools",
            "tool_choice",
            "functions",
            "function_call",
            "audio",
            "chat_template",
            "documents",
            "web_search_options",
            "continue_final_message",
            "add_special_tokens",
            "echo",
        )
    ),
    "add_generation_prompt": True,
}


def refuse(extra: Mapping[str, Any], fields: Iterable[str], unserved: Mapping[str, Any]) -> None:
    """extra: fields of the request that are not among ours (`fields`), without nulls.
    Raises APIError (400) that names the field, for unserved ones and for misspelt ones."""
    for name, value in extra.items():
        if name in unserved:
            served = unserved[name]
            if served is not None and value != served:
                told = str(served).lower()
                raise APIError(400, f"{name} other than {told} is not supported", name)
            if served is None and value not in _NOTHING:
                raise APIError(400, f"{name} is not supported", name)
        elif name not in _OTHERS and (close := nearest(name, fields, _MISSPELT)):
            raise APIError(400, f"there is no field {name!r}{close}", name)
