"""/v1/completions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request

from inferplane.engine.outputs import CompletionOutput, Delta, Logprob

from .protocol import CompletionRequest
from .service import Answer, Service, usage
from .streaming import EventStream, while_connected


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Any:
        service.check_model(body.model)
        body.refuse("suffix", "best_of")
        params = body.params(body.max_tokens, body.logprobs)
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
    return {**_head(service, answers[0]), "choices": choices, "usage": total_usage(answers)}


def total_usage(answers: list[Answer]) -> dict[str, Any]:
    """The sum over several prompts."""
    usages = [answer.usage() for answer in answers]
    return usage(
        sum(u["prompt_tokens"] for u in usages),
        sum(u["completion_tokens"] for u in usages),
        sum(u["prompt_tokens_details"]["cached_tokens"] for u in usages),
    )


def _choice(
    service: Service, body: CompletionRequest, answer: Answer, result: CompletionOutput, first: int
) -> dict[str, Any]:
    text = _prompt_text(service, answer) + result.text if body.echo else result.text
    return {
        "index": first + result.index,
        "text": text,
        "finish_reason": result.finish_reason,
        "stop_reason": result.stop_reason,
        "logprobs": None if result.logprobs is None else logprobs(result.logprobs, 0),
    }


def _prompt_text(service: Service, answer: Answer) -> str:
    if answer.pending.prompt is not None:
        return answer.pending.prompt
    tokenizer = service.requests.tokenizer
    return tokenizer.decode(answer.pending.prompt_ids) if tokenizer else ""


def logprobs(entries: list[dict[int, Logprob]], offset: int) -> dict[str, Any]:
    """OpenAI's older form. offset: characters before the first token."""
    tokens, chosen, best, offsets = [], [], [], []
    for entry in entries:
        first = next(iter(entry.values()))
        word = first.decoded_token or ""
        tokens.append(word)
        chosen.append(first.logprob)
        best.append({(lp.decoded_token or str(id)): lp.logprob for id, lp in entry.items()})
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
    head = _head(service, answers[0])
    if body.echo:
        for place, answer in enumerate(answers):
            for index in range(body.n):
                yield {
                    **head,
                    "choices": [_event(place * body.n + index, _prompt_text(service, answer))],
                }
    async for place, index, delta in merge(answers):
        if delta.text or delta.finish or delta.logprobs:
            choice = _event(place * body.n + index, delta.text, delta)
            yield {**head, "choices": [choice]}
    if body.stream_options and body.stream_options.include_usage:
        yield {**head, "choices": [], "usage": total_usage(answers)}


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
