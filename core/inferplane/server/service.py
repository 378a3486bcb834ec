"""One service: the engine client, the front end of requests, and the metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

from inferplane.engine.outputs import Delta, Pending
from inferplane.engine.requests import Prompt, RequestMaker
from inferplane.params import SamplingParams
from inferplane.planning.plan import Plan

from .client import EngineClient
from .errors import APIError
from .metrics import Metrics


class Service:
    """What the routes use. `draining`: the server is about to end and takes nothing new."""

    def __init__(
        self, plan: Plan, requests: RequestMaker, client: EngineClient, metrics: Metrics
    ) -> None:
        self.plan, self.requests, self.client, self.metrics = plan, requests, client, metrics
        self.model = plan.model_name
        self.started = int(time.time())
        self.draining = False
        self._ids = count()
        settings = plan.settings
        self.most_open = plan.effective["max_num_seqs"] + settings.max_waiting

    @property
    def healthy(self) -> bool:
        return self.client.state == "ready" and not self.draining

    def check_ready(self) -> None:
        """Raises APIError (503) while loading, restarting, draining, or when the engine died."""
        if self.draining:
            raise APIError(503, "the server is shutting down")
        if self.client.state == "loading":
            raise APIError(503, "the model is still being loaded; /health says when it is ready")
        if self.client.state == "restarting":
            raise APIError(
                503,
                f"the engine is being restarted: {self.client.error}",
                code="engine_restarting",
                retry_after=self.client.retry_after,
            )
        if self.client.state == "dead":
            raise APIError(503, f"the engine is not running: {self.client.error}")

    def check_model(self, model: str | None) -> None:
        if model is not None and model != self.model:
            raise APIError(
                404,
                f"no model {model!r}; this server has {self.model!r}",
                "model",
                "model_not_found",
            )

    def begin(self, prompt: Prompt, params: SamplingParams, namespace: str = "") -> Answer:
        """Sends one prompt. Raises APIError: 400 for a bad one, 429 when the queue is full."""
        self.check_ready()
        if self.client.open + params.n > self.most_open:
            self.metrics.refused.inc()
            raise APIError(
                429,
                f"the queue is full: {self.client.open} requests are open, {self.most_open} at most"
                " (--max-waiting)",
                code="queue_full",
            )
        id = f"r{next(self._ids)}"
        pending, requests = self.requests.make(id, prompt, params, namespace)
        return Answer(self, pending, requests)


class Answer:
    """One prompt that is being answered. Iterate over (index, Delta); `close` ends it early."""

    def __init__(self, service: Service, pending: Pending, requests: list[Any]) -> None:
        self.service, self.pending = service, pending
        self._begun = self._last = time.monotonic()
        self._queue = service.client.submit(requests)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Delta]]:
        client = self.service.client
        open_parts = set(self.pending.parts)
        try:
            while open_parts:
                output = await self._queue.get()
                if output.id not in open_parts:
                    continue
                part = self.pending.parts[output.id]
                first = not part.result.token_ids
                delta = part.add(output)
                self._measure(first, len(delta.tokens))
                if delta.ended_here:
                    client.abort([output.id])
                if delta.finish:
                    client.release(output.id)
                    open_parts.discard(output.id)
                    self.service.metrics.finished.labels(delta.finish).inc()
                if part.result.error:
                    raise APIError(500, part.result.error)
                yield part.result.index, delta
        finally:
            client.abort(list(open_parts))

    def _measure(self, first: bool, tokens: int) -> None:
        if not tokens:
            return
        now = time.monotonic()
        if first:
            self.service.metrics.first_token.observe(now - self._begun)
        else:
            self.service.metrics.inter_token.observe((now - self._last) / tokens)
        self._last = now

    def close(self) -> None:
        """Ends what is not finished."""
        self.service.client.abort(list(self.pending.parts))

    @property
    def prompt_tokens(self) -> int:
        return len(self.pending.prompt_ids)

    @property
    def output_tokens(self) -> int:
        return sum(len(part.result.token_ids) for part in self.pending.parts.values())

    def usage(self) -> dict[str, Any]:
        cached = max(part.cached for part in self.pending.parts.values())
        return usage(self.prompt_tokens, self.output_tokens, cached)


def usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": max(0, cached)},
    }
