"""Text to token ids and back, and the chat template, from a model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inferplane.errors import UserError
from inferplane.formats.locate import read_json


class Tokenizer:
    """`tokenizer.json` by the tokenizers library; special tokens from `tokenizer_config.json`."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        path = folder / "tokenizer.json"
        if not path.exists():
            raise UserError(
                f"{folder} has no tokenizer.json: use token ids (--skip-tokenizer-init)"
            )
        try:
            self.backend = Backend.from_file(str(path))
        except Exception as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        config = folder / "tokenizer_config.json"
        self.config = read_json(config) if config.exists() else {}
        self.template = self._template(folder)
        self._compiled: Any = None

    def encode(self, text: str, special: bool = True) -> list[int]:
        """special: add the tokens that the tokenizer puts around a text."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        text: str = self.backend.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def token(self, id: int) -> str:
        """One token's text, for log-probabilities."""
        return self.decode([id], skip_special=False)

    @property
    def eos(self) -> int | None:
        name = self._special("eos_token")
        return self.backend.token_to_id(name) if name else None

    def _special(self, key: str) -> str:
        value = self.config.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else ""

    def _template(self, folder: Path) -> str:
        path = folder / "chat_template.jinja"
        if path.exists():
            return path.read_text(encoding="utf-8")
        template = self.config.get("chat_template")
        if isinstance(template, list):  # named templates
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            template = named.get("default")
        return template if isinstance(template, str) else ""

    def chat(self, messages: Sequence[dict[str, Any]], **variables: Any) -> str:
        """Messages as the model's template writes them, ready for the assistant's answer.

        The template runs in a sandbox. Raises UserError where it refuses the messages.
        """
        if not self.template:
            raise UserError("the model has no chat template: use completions instead")
        values = {
            "messages": list(messages),
            "add_generation_prompt": True,
            "bos_token": self._special("bos_token"),
            "eos_token": self._special("eos_token"),
        }
        try:
            if self._compiled is None:
                self._compiled = _environment().from_string(self.template)
            text: str = self._compiled.render(**{**values, **variables})
        except Exception as error:
            raise UserError(f"the chat template refused the messages: {error}") from None
        return text


def _environment() -> Any:
    import json
    from datetime import datetime

    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    return environment


class Detokenizer:
    """Text of one output, token by token. Holds back what may still change: an incomplete
    character, or, for stop texts, the beginning of one."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self.tokenizer = tokenizer
        self.skip_special = skip_special
        self.ids: list[int] = []
        self.text = ""
        self._first = 0  # tokens whose text gives the context of the next ones
        self._read = 0  # tokens whose text is in `text`

    def add(self, ids: Sequence[int]) -> str:
        """The new complete text."""
        self.ids += ids
        before = self.tokenizer.decode(self.ids[self._first : self._read], self.skip_special)
        after = self.tokenizer.decode(self.ids[self._first :], self.skip_special)
        if len(after) <= len(before) or after.endswith("�"):
            return ""
        return self._accept(after[len(before) :])

    def _accept(self, new: str) -> str:
        self._first, self._read = self._read, len(self.ids)
        self.text += new
        return new

    def finish(self) -> str:
        """What was held back, incomplete characters included."""
        before = self.tokenizer.decode(self.ids[self._first : self._read], self.skip_special)
        after = self.tokenizer.decode(self.ids[self._first :], self.skip_special)
        return self._accept(after[len(before) :]) if len(after) > len(before) else ""
