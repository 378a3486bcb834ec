"""What a request may ask of sampling, in the field's usual words, checked where it enters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inferplane.errors import UserError

MOST_LOGPROBS = 20
MOST_N = 128


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to choose tokens. Raises UserError for a value that makes no sense.

    n: independent completions. temperature: 0 is greedy. top_k: 0 or -1 for all tokens. min_p:
    share of the best token's probability. Penalties: repetition multiplies logits of seen tokens
    (prompt included), presence and frequency subtract for generated ones. seed: same seed, same
    tokens, whatever the batch; None draws one from the engine's. stop: texts that end the output,
    left out of it. stop_token_ids: likewise. logprobs, prompt_logprobs: how many best tokens to
    report a position. logit_bias: token id -> number to add. allowed_token_ids: only these.
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] = ()
    processors: tuple[Any, ...] = ()
    skip_special_tokens: bool = True
    priority: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name in ("stop", "stop_token_ids", "allowed_token_ids", "processors"):
            object.__setattr__(self, name, _sequence(name, getattr(self, name)))
        if not isinstance(self.logit_bias, Mapping | None):
            raise UserError(f"logit_bias is {self.logit_bias!r}; it must map token ids to numbers")
        object.__setattr__(self, "logit_bias", dict(self.logit_bias or {}))
        _integer("n", self.n, 1, MOST_N)
        _number("temperature", self.temperature, 0.0, 100.0)
        _integer("top_k", self.top_k, -1, 1 << 30)
        _number("top_p", self.top_p, 0.0, 1.0, above=True)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repetition_penalty", self.repetition_penalty, 0.0, 100.0, above=True)
        _number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1, 1 << 30)
        _integer("min_tokens", self.min_tokens, 0, 1 << 30)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise UserError(
                f"min_tokens is {self.min_tokens}; max_tokens is only {self.max_tokens}"
            )
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _integer(name, getattr(self, name), 0, MOST_LOGPROBS)
        if self.seed is not None:
            _integer("seed", self.seed, -(1 << 63), (1 << 64) - 1)
        _integer("priority", self.priority, -(1 << 31), (1 << 31) - 1)
        for name in ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be True or False")
        if not all(isinstance(text, str) and text for text in self.stop):
            raise UserError("stop must be texts that are not empty")
        if not all(callable(processor) for processor in self.processors):
            raise UserError("processors must be callables: (logits, rows) -> None")
        for token, bias in self.logit_bias.items():
            _number(f"logit_bias[{token}]", bias, -100.0, 100.0)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def check_tokens(self, vocab: int) -> None:
        """Raises UserError for token ids outside of the vocabulary."""
        named = {
            "stop_token_ids": self.stop_token_ids,
            "logit_bias": self.logit_bias,
            "allowed_token_ids": self.allowed_token_ids,
        }
        for name, ids in named.items():
            for token in ids:
                if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab:
                    raise UserError(f"{name} has {token!r}; token ids are 0 to {vocab - 1}")


def _sequence(name: str, value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{name} is {value!r}; it must be a list")
    return tuple(value)


def _integer(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name} is {value!r}; it must be a whole number")
    if not least <= value <= most:
        raise UserError(f"{name} is {value}; it must be {least} to {most}")


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _number(name: str, value: Any, least: float, most: float, above: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise UserError(f"{name} is {value!r}; it must be a finite number")
    if not least <= value <= most or (above and value == least):
        raise UserError(f"{name} is {value}; it must be {'above ' * above}{least} to {most}")
