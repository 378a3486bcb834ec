"""/v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request

from inferplane.engine.outputs import Logprob

from .completions import finish
from .errors import APIError
from .protocol import ChatMessage, ChatRequest
from .service import Answer, Service
from .streaming import EventStream, while_connected


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Any:
        service.check_model(body.model)
        body.refuse()
        params = body.params(body.most_tokens, body.wanted_logprobs())
        prompt = chat_prompt(service, body.messages, body.chat_template_kwargs)
        answer = service.begin({"prompt_token_ids": prompt}, params, body.cache_salt)
        try:
            if body.stream:
                return EventStream(_stream(service, body, answer), answer.close)
            await while_connected(request, finish(answer))
        except BaseException:
            answer.close()
            raise
        choices = [
            {
                "index": part.result.index,
                "message": {"role": "assistant", "content": part.result.text},
                "finish_reason": part.result.finish_reason,
                "stop_reason": part.result.stop_reason,
                "logprobs": None
                if part.result.logprobs is None
                else {"content": logprobs(part.result.logprobs, params.logprobs or 0)},
            }
            for part in answer.pending.parts.values()
        ]
        head = _head(service, answer, "chat.completion")
        return {**head, "choices": choices, "usage": answer.usage()}

    return router


def chat_prompt(
    service: Service, messages: list[ChatMessage], variables: dict[str, Any]
) -> list[int]:
    """Token ids of a conversation. Raises APIError (400)."""
    tokenizer = service.requests.tokenizer
    if tokenizer is None:
        raise APIError(400, "the server runs without a tokenizer: use /v1/completions with ids")
    text = tokenizer.chat([message.plain() for message in messages], **variables)
    return tokenizer.encode(text, special=False)


def _head(service: Service, answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.pending.id}",
        "object": kind,
        "created": int(time.time()),
        "model": service.model,
    }


def logprobs(entries: list[dict[int, Logprob]], count: int) -> list[dict[str, Any]]:
    """OpenAI's newer form: the chosen token (first in an entry), and the `count` best ones."""
    found = []
    for entry in entries:
        chosen = next(iter(entry.items()))
        best = sorted(entry.items(), key=lambda item: item[1].rank)[:count]
        found.append({**_named(*chosen), "top_logprobs": [_named(*item) for item in best]})
    return found


def _named(id: int, logprob: Logprob) -> dict[str, Any]:
    word = logprob.decoded_token if logprob.decoded_token is not None else str(id)
    return {"token": word, "logprob": logprob.logprob, "bytes": list(word.encode())}


async def _stream(
    service: Service, body: ChatRequest, answer: Answer
) -> AsyncIterator[dict[str, Any]]:
    head = _head(service, answer, "chat.completion.chunk")
    for index in range(body.n):
        start = {"role": "assistant", "content": ""}
        yield {**head, "choices": [{"index": index, "delta": start, "finish_reason": None}]}
    async for index, delta in answer:
        if not (delta.text or delta.finish or delta.logprobs):
            continue
        choice: dict[str, Any] = {
            "index": index,
            "delta": {"content": delta.text} if delta.text or not delta.finish else {},
            "finish_reason": delta.finish,
        }
        if delta.logprobs:
            choice["logprobs"] = {"content": logprobs(delta.logprobs, body.top_logprobs or 0)}
        yield {**head, "choices": [choice]}
    if body.stream_options and body.stream_options.include_usage:
        yield {**head, "choices": [], "usage": answer.usage()}
