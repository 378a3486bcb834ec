"""Request bodies of the OpenAI API, with the usual extensions, and their sampling parameters.

Source: the API reference of OpenAI (completions, chat completions), read November 2026.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inferplane.errors import UserError
from inferplane.params import SamplingParams

from .errors import APIError
from .unserved import CHAT, COMPLETIONS, refuse


class Body(BaseModel):
    """JSON's null means the default, as in OpenAI's API."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


class StreamOptions(Body):
    include_usage: bool = False


class Sampling(Body):
    """What completions and chat share. Fields below the line are extensions."""

    unserved: ClassVar[dict[str, Any]]

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str
    n: int = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    # extensions
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    stop_token_ids: list[int] = Field(default_factory=list)
    allowed_token_ids: list[int] = Field(default_factory=list)
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    priority: int = 0
    cache_salt: str = ""

    @property
    def most_tokens(self) -> int | None:
        """The newer name counts where both are given."""
        newer = self.max_completion_tokens
        return self.max_tokens if newer is None else newer

    def params(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """Raises APIError (400) that names the field."""
        try:
            bias = {int(token): value for token, value in (self.logit_bias or {}).items()}
        except ValueError:
            raise APIError(400, "logit_bias: keys must be token ids", "logit_bias") from None
        try:
            return SamplingParams(
                n=self.n,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                seed=self.seed,
                max_tokens=max_tokens,
                min_tokens=self.min_tokens,
                stop=self.stop or (),  # type: ignore[arg-type]
                stop_token_ids=tuple(self.stop_token_ids),
                allowed_token_ids=tuple(self.allowed_token_ids),
                include_stop_str_in_output=self.include_stop_str_in_output,
                ignore_eos=self.ignore_eos,
                logprobs=logprobs,
                logit_bias=bias,
                skip_special_tokens=self.skip_special_tokens,
                priority=self.priority,
            )
        except UserError as error:
            said = str(error)
            if self.max_completion_tokens is not None:
                said = said.replace("max_tokens", "max_completion_tokens")
            field = said.split(" ", 1)[0]
            param = field if field in type(self).model_fields else None
            raise APIError(400, said, param) from None

    def refuse(self) -> None:
        """Raises APIError (400) for fields that would change the answer and are not served, and
        for misspelt ones. Other unknown fields, which clients add, are ignored."""
        asked = {**self.unserved, "best_of": self.n}
        refuse(self.model_extra or {}, type(self).model_fields, asked)


class CompletionRequest(Sampling):
    unserved = COMPLETIONS

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = 16
    logprobs: int | None = None
    echo: bool = False

    @property
    def scores_only(self) -> bool:
        """The prompt's log-probabilities and no completion, as evaluation harnesses ask."""
        return self.echo and self.most_tokens == 0

    def completion_params(self) -> SamplingParams:
        """Raises APIError (400) that names the field. One token is computed at least."""
        params = self.params(1 if self.scores_only else self.most_tokens, self.logprobs)
        return replace(params, prompt_logprobs=self.logprobs) if self.echo else params

    def prompts(self) -> list[str | list[int]]:
        """One prompt a completion; token ids or texts."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
            return [prompt]
        if not prompt:
            raise APIError(400, "prompt is empty", "prompt")
        return list(prompt)


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None

    def plain(self) -> dict[str, Any]:
        """With the content as one text, as chat templates want it."""
        fields = self.model_dump(exclude_none=True)
        if isinstance(self.content, list):
            parts = []
            for part in self.content:
                if part.get("type") != "text" or not isinstance(part.get("text"), str):
                    kind = part.get("type")
                    raise APIError(400, f"content part {kind!r} is not supported", "messages")
                parts.append(part["text"])
            fields["content"] = "\n".join(parts)
        return fields


class ChatRequest(Sampling):
    unserved = CHAT

    messages: list[ChatMessage] = Field(min_length=1)
    logprobs: bool = False
    top_logprobs: int | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    def wanted_logprobs(self) -> int | None:
        if not self.logprobs:
            if self.top_logprobs:
                raise APIError(400, "top_logprobs needs logprobs to be true", "top_logprobs")
            return None
        return self.top_logprobs or 0


class TokenizeRequest(Body):
    """A text (prompt), or messages through the chat template."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool = True


class DetokenizeRequest(Body):
    model: str | None = None
    tokens: list[int]
