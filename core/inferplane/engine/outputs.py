"""Engine outputs as users see them: text, stop texts, log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inferplane.batch import TokenLogprobs
from inferplane.params import SamplingParams
from inferplane.scheduler.request import Finish, Output

from .tokenizer import Detokenizer, Tokenizer


@dataclass(slots=True)
class Logprob:
    """Of one token at one position. rank: 1 is the best."""

    logprob: float
    rank: int
    decoded_token: str | None = None


@dataclass(slots=True)
class CompletionOutput:
    """One completion. logprobs: for each token, id -> Logprob, the chosen one first."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None
    stop_reason: str | int | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    error: str = ""


@dataclass(slots=True)
class RequestOutput:
    """A request and its completions. num_cached_tokens: of the prompt, found in the cache.

    prompt_logprobs: None for the first prompt token, then id -> Logprob.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    num_cached_tokens: int = 0
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    finished: bool = True


@dataclass(slots=True)
class Delta:
    """What one step added to one completion.

    ended_here: a stop text was found, so the engine must be told to abort the request.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish: str | None = None
    ended_here: bool = False


class Completion:
    """Collects one completion from engine outputs."""

    def __init__(self, index: int, params: SamplingParams, tokenizer: Tokenizer | None) -> None:
        self.params = params
        self.tokenizer = tokenizer
        self.cached = 0
        self.prompt_logprobs: list[dict[int, Logprob]] = []
        self.result = CompletionOutput(
            index, "", [], None, logprobs=None if params.logprobs is None else []
        )
        self._text = Detokenizer(tokenizer, params.skip_special_tokens) if tokenizer else None
        self._given = 0  # characters of the text that were handed out
        self._hold = max((len(s) for s in params.stop), default=1) - 1

    def add(self, output: Output) -> Delta:
        """Takes what a step gave. After `finish`, nothing more may come."""
        if output.finish in (None, Finish.STOP, Finish.LENGTH):
            self.cached = max(self.cached, output.cached)
        result, tokens = self.result, list(output.tokens)
        logprobs = [self._named(entry) for entry in self._with_tokens(output)]
        self.prompt_logprobs += [self._named(e) for e in self._prompt_tokens(output)]
        result.token_ids += tokens
        if result.logprobs is not None:
            result.logprobs += logprobs
        finish = output.finish.value if output.finish else None
        if output.finish is Finish.STOP:
            result.stop_reason = tokens[-1] if tokens[-1] in self.params.stop_token_ids else None
        result.error = output.error
        visible = tokens[:-1] if output.finish is Finish.STOP else tokens
        stopped = self._advance(visible, finish is not None)
        if stopped:
            finish = Finish.STOP.value
        result.finish_reason = finish
        return Delta(
            self._release(finish is not None),
            tokens,
            logprobs,
            finish,
            stopped and not output.finish,
        )

    def _advance(self, tokens: Sequence[int], last: bool) -> bool:
        """Adds text; True if a stop text ended it."""
        if self._text is None:
            return False
        searched = len(self._text.text)
        self._text.add(tokens)
        if last:
            self._text.finish()
        found = [
            (at, stop)
            for stop in self.params.stop
            if (at := self._text.text.find(stop, max(0, searched - len(stop) + 1))) >= 0
        ]
        if not found:
            return False
        at, stop = min(found)
        end = at + len(stop) if self.params.include_stop_str_in_output else at
        self._text.text = self._text.text[:end]
        self.result.stop_reason = stop
        return True

    def _release(self, last: bool) -> str:
        """Text that no later token can take back."""
        if self._text is None:
            return ""
        text = self._text.text
        end = len(text) if last else max(self._given, len(text) - self._hold)
        new, self._given = text[self._given : end], end
        self.result.text += new
        return new

    def _with_tokens(self, output: Output) -> list[tuple[int, TokenLogprobs]]:
        return list(zip(output.tokens, output.logprobs, strict=False))

    def _prompt_tokens(self, output: Output) -> list[tuple[int, TokenLogprobs]]:
        first = len(self.prompt_logprobs) + 1
        ids = self.prompt_ids[first : first + len(output.prompt_logprobs)]
        return list(zip(ids, output.prompt_logprobs, strict=True))

    prompt_ids: Sequence[int] = ()

    def _named(self, entry: tuple[int, TokenLogprobs]) -> dict[int, Logprob]:
        token, (chosen, rank, ids, values) = entry
        found = {token: Logprob(chosen, rank, self._word(token))}
        for place, (id, value) in enumerate(zip(ids, values, strict=True), 1):
            found.setdefault(id, Logprob(value, place, self._word(id)))
        return found

    def _word(self, token: int) -> str | None:
        return self.tokenizer.token(token) if self.tokenizer else None


@dataclass(slots=True)
class Pending:
    """A request that is being answered: its completions by the engine's request ids."""

    id: str
    prompt: str | None
    prompt_ids: list[int]
    params: SamplingParams
    parts: dict[str, Completion]

    @property
    def finished(self) -> bool:
        return all(part.result.finish_reason for part in self.parts.values())

    def output(self) -> RequestOutput:
        parts = list(self.parts.values())
        prompt_logprobs: list[dict[int, Logprob] | None] | None = None
        if self.params.prompt_logprobs is not None:
            prompt_logprobs = [None, *parts[0].prompt_logprobs]
        return RequestOutput(
            request_id=self.id,
            prompt=self.prompt,
            prompt_token_ids=self.prompt_ids,
            outputs=[part.result for part in parts],
            num_cached_tokens=max(part.cached for part in parts),
            prompt_logprobs=prompt_logprobs,
            finished=self.finished,
        )
