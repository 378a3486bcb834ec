"""The Python API: `LLM` answers many prompts at once, in this process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from inferplane.activity import Activity, Board
from inferplane.engine.build import build_engine
from inferplane.engine.outputs import Delta, Pending, RequestOutput
from inferplane.engine.requests import Prompt, build_requests
from inferplane.engine.watchdog import Watchdog, tell
from inferplane.errors import UserError
from inferplane.params import SamplingParams
from inferplane.planning.plan import make_plan
from inferplane.scheduler.request import Output
from inferplane.settings import Settings, load_settings

Message = dict[str, Any]


class LLM:
    """A model on a device. Keyword arguments are settings (`inferplane.settings.Settings`).

    Close it, or use it in a `with` statement, to give memory back. Not safe for several threads.
    Raises UserError with a plain message for anything a user can mend, and EngineDead, then and
    ever after, when the device is lost: `dead` says why. A step that hangs is reported in the log
    (`step_timeout_s`), but the process is the caller's, and is not ended.
    """

    def __init__(
        self, model: str, *, progress: Callable[[int, int], None] | None = None, **settings: Any
    ) -> None:
        """model: folder, bundled name or hub name. progress: (bytes read, bytes in all)."""
        self._open(*load_settings({"model": str(model), **settings}), progress)

    @classmethod
    def of(
        cls,
        settings: Settings,
        sources: dict[str, str],
        progress: Callable[[int, int], None] | None = None,
    ) -> LLM:
        """An `LLM` from settings that were loaded already. sources: where each came from."""
        made = cls.__new__(cls)
        made._open(settings, sources, progress)
        return made

    def _open(
        self,
        settings: Settings,
        sources: dict[str, str],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.plan = make_plan(settings, sources)
        self.requests = build_requests(self.plan)
        activity = Activity(Board(1))
        self.engine = build_engine(self.plan, progress, activity)
        watchdog = Watchdog(activity, settings.step_timeout_s, tell).start()
        self._stop_watching = weakref.finalize(self, watchdog.stop)
        self._ids = count()
        self._streams: set[str] = set()
        self._kept: dict[str, list[Output]] = {}  # of streams that did not ask for it yet

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; None with skip_tokenizer_init."""
        return self.requests.tokenizer

    @property
    def dead(self) -> str:
        """Why the engine cannot go on; "" while it can."""
        return self.engine.dead

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Answers prompts, in the order given. A prompt is a text, a list of token ids, or a
        mapping with "prompt" or "prompt_token_ids"."""
        prompts = _many(prompts)
        params = _each(sampling_params, len(prompts))
        made = [
            self.requests.make(str(next(self._ids)), prompt, p)
            for prompt, p in zip(prompts, params, strict=True)
        ]
        pending = {part: p for p, _ in made for part in p.parts}
        try:
            for _, requests in made:
                for request in requests:
                    self.engine.add(request)
            for _ in self._run(pending):
                pass
        finally:
            self._abort(pending)
        return [p.output() for p, _ in made]

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None
    ) -> Iterator[Delta]:
        """Answers one prompt (n = 1), step by step. Closing the iterator ends the request."""
        params = sampling_params or SamplingParams()
        if params.n != 1:
            raise UserError(f"n is {params.n}; stream answers one completion")
        made, requests = self.requests.make(str(next(self._ids)), prompt, params)
        self.engine.add(requests[0])
        pending = dict.fromkeys(made.parts, made)
        self._streams.update(made.parts)
        try:
            yield from self._run(pending)
        finally:
            self._streams.difference_update(made.parts)
            self._abort(pending)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        **template_variables: Any,
    ) -> list[RequestOutput]:
        """Answers one conversation, or several, through the model's chat template."""
        if self.tokenizer is None:
            raise UserError("the tokenizer is off (skip_tokenizer_init): chat needs one")
        chats = [messages] if messages and isinstance(messages[0], dict) else messages
        texts = [self.tokenizer.chat(chat, **template_variables) for chat in chats]
        ids = [{"prompt_token_ids": self.tokenizer.encode(t, special=False)} for t in texts]
        return self.generate(ids, sampling_params)

    def _run(self, pending: dict[str, Pending]) -> Iterator[Delta]:
        """Steps until everything in `pending` is done, and takes it out there."""
        while pending:
            outputs = [o for id in list(self._kept) if id in pending for o in self._kept.pop(id)]
            outputs = outputs or self._step(pending)
            if not outputs and not self.engine.unfinished:
                raise RuntimeError("the engine has nothing to do, but requests are open")
            for output in outputs:
                delta = pending[output.id].parts[output.id].add(output)
                if delta.ended_here:
                    self.engine.abort(output.id)
                if delta.finish:
                    del pending[output.id]
                yield delta

    def _step(self, pending: dict[str, Pending]) -> list[Output]:
        """What one step gave to `pending`. What it gave to other open streams is kept for them."""
        mine = []
        for output in self.engine.step():
            if output.id in pending:
                mine.append(output)
            elif output.id in self._streams:
                self._kept.setdefault(output.id, []).append(output)
        return mine

    def _abort(self, pending: dict[str, Pending]) -> None:
        for id in pending:
            self._kept.pop(id, None)
            self.engine.abort(id)
        if pending and not self.dead:
            self._step({})

    def check_invariants(self) -> None:
        """Asserts that pages, references and slots add up. For tests and the curious."""
        self.engine.check_invariants()

    def close(self) -> None:
        """Gives the device's memory back."""
        self._stop_watching()
        self.engine.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _many(prompts: Any) -> list[Any]:
    """One prompt or several, as a list."""
    if isinstance(prompts, str | dict):
        return [prompts]
    prompts = list(prompts)
    return [prompts] if prompts and isinstance(prompts[0], int) else prompts


def _each(params: Any, count: int) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    if len(params) != count:
        raise UserError(f"{len(params)} sampling parameters for {count} prompts")
    return list(params)
