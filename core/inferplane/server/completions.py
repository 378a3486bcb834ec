"""/v1/completions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request

from inferplane.engine.outputs import CompletionOutput, Delta, Logprob

from .protocol import CompletionRequest
from .service import Answer, Service, usage
from .streaming import EventStream, while_connected

Entry = str | dict[int, Logprob]
"""A token's log-probabilities, or only its text where it has none."""


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Any:
        service.check_model(body.model)
        body.refuse()
        params = body.completion_params()
        prompts = body.prompts()
        answers: list[Answer] = []
        try:
            for prompt in prompts:
                answers.append(service.begin(prompt, params, body.cache_salt))
            if body.stream:
                events = _stream(service, body, answers)
                return EventStream(events, lambda: _close(answers))
            await while_connected(request, asyncio.gather(*(finish(a) for a in answers)))
        except BaseException:
            _close(answers)
            raise
        return _whole(service, body, answers)

    return router


def _close(answers: list[Answer]) -> None:
    for answer in answers:
        answer.close()


async def finish(answer: Answer) -> None:
    """Waits for the whole answer."""
    async for _ in answer:
        pass


def _head(service: Service, answer: Answer) -> dict[str, Any]:
    return {
        "id": f"cmpl-{answer.pending.id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.model,
    }


def _whole(service: Service, body: CompletionRequest, answers: list[Answer]) -> dict[str, Any]:
    choices = []
    for place, answer in enumerate(answers):
        for part in answer.pending.parts.values():
            choices.append(_choice(service, body, answer, part.result, place * body.n))
    return {
        **_head(service, answers[0]),
        "choices": choices,
        "usage": total_usage(answers, body.scores_only),
    }


def total_usage(answers: list[Answer], scores_only: bool = False) -> dict[str, Any]:
    """The sum over several prompts."""
    usages = [answer.usage() for answer in answers]
    return usage(
        sum(u["prompt_tokens"] for u in usages),
        0 if scores_only else sum(u["completion_tokens"] for u in usages),
        sum(u["prompt_tokens_details"]["cached_tokens"] for u in usages),
    )


def _choice(
    service: Service, body: CompletionRequest, answer: Answer, result: CompletionOutput, first: int
) -> dict[str, Any]:
    text = "" if body.scores_only else result.text
    entries: list[Entry] | None = None
    if result.logprobs is not None:
        entries = [*([] if body.scores_only else result.logprobs)]
    if body.echo:
        text = _prompt_text(service, answer) + text
        entries = None if entries is None else _prompt_entries(service, answer) + entries
    return {
        "index": first + result.index,
        "text": text,
        "finish_reason": "length" if body.scores_only else result.finish_reason,
        "stop_reason": None if body.scores_only else result.stop_reason,
        "logprobs": None if entries is None else logprobs(entries, 0),
    }


def _prompt_entries(service: Service, answer: Answer) -> list[Entry]:
    """The prompt's tokens; the first one has no log-probability."""
    tokenizer, ids = service.requests.tokenizer, answer.pending.prompt_ids
    first = tokenizer.token(ids[0]) if tokenizer else ""
    return [first, *next(iter(answer.pending.parts.values())).prompt_logprobs]


def _prompt_text(service: Service, answer: Answer) -> str:
    if answer.pending.prompt is not None:
        return answer.pending.prompt
    tokenizer = service.requests.tokenizer
    return tokenizer.decode(answer.pending.prompt_ids) if tokenizer else ""


def logprobs(entries: Sequence[Entry], offset: int) -> dict[str, Any]:
    """OpenAI's older form. offset: characters before the first token."""
    tokens: list[str] = []
    chosen: list[float | None] = []
    best: list[dict[str, float] | None] = []
    offsets: list[int] = []
    for entry in entries:
        if isinstance(entry, str):
            word = entry
            chosen.append(None)
            best.append(None)
        else:
            first = next(iter(entry.values()))
            word = first.decoded_token or ""
            chosen.append(first.logprob)
            best.append({(lp.decoded_token or str(id)): lp.logprob for id, lp in entry.items()})
        tokens.append(word)
        offsets.append(offset)
        offset += len(word)
    return {
        "tokens": tokens,
        "token_logprobs": chosen,
        "top_logprobs": best,
        "text_offset": offsets,
    }


async def _stream(
    service: Service, body: CompletionRequest, answers: list[Answer]
) -> AsyncIterator[dict[str, Any]]:
    """Events of all prompts and completions, as they come."""
    head, begun = _head(service, answers[0]), set()
    async for place, index, delta in merge(answers):
        number = place * body.n + index
        if body.echo and number not in begun:  # its log-probabilities are known from here on
            begun.add(number)
            yield {**head, "choices": [_echo(service, body, answers[place], number)]}
        if body.scores_only:
            if delta.finish:
                yield {**head, "choices": [_event(number, "", Delta(finish="length"))]}
        elif delta.text or delta.finish or delta.logprobs:
            yield {**head, "choices": [_event(number, delta.text, delta)]}
    if body.stream_options and body.stream_options.include_usage:
        yield {**head, "choices": [], "usage": total_usage(answers, body.scores_only)}


def _echo(service: Service, body: CompletionRequest, answer: Answer, number: int) -> dict[str, Any]:
    event = _event(number, _prompt_text(service, answer))
    if body.logprobs is not None:
        event["logprobs"] = logprobs(_prompt_entries(service, answer), 0)
    return event


def _event(index: int, text: str, delta: Delta | None = None) -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "finish_reason": delta.finish if delta else None,
        "logprobs": logprobs(delta.logprobs, 0) if delta and delta.logprobs else None,
    }


async def merge(answers: list[Answer]) -> AsyncIterator[tuple[int, int, Delta]]:
    """(place of the prompt, index of the completion, delta) of all answers, as they come."""
    if len(answers) == 1:
        async for index, delta in answers[0]:
            yield 0, index, delta
        return
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def pump(place: int, answer: Answer) -> None:
        try:
            async for index, delta in answer:
                queue.put_nowait((place, index, delta))
        except Exception as error:
            queue.put_nowait(error)
        queue.put_nowait(None)

    tasks = [asyncio.create_task(pump(*item)) for item in enumerate(answers)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
