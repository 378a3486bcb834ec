"""Models, tokens, health, metrics, and a page for people."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from .chat import chat_prompt
from .errors import APIError
from .protocol import DetokenizeRequest, TokenizeRequest
from .service import Service


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> Any:
        return {"object": "list", "data": [_model(service)]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Any:
        service.check_model(name)
        return _model(service)

    @router.post("/v1/tokenize")
    async def tokenize(body: TokenizeRequest) -> Any:
        service.check_model(body.model)
        tokenizer = _tokenizer(service)
        if body.messages is not None:
            tokens = chat_prompt(service, body.messages, {})
        elif body.prompt is not None:
            tokens = tokenizer.encode(body.prompt, body.add_special_tokens)
        else:
            raise APIError(400, "give prompt or messages", "prompt")
        return {"tokens": tokens, "count": len(tokens), "max_model_len": _length(service)}

    @router.post("/v1/detokenize")
    async def detokenize(body: DetokenizeRequest) -> Any:
        service.check_model(body.model)
        _, ids = service.requests.tokens(body.tokens)
        return {"prompt": _tokenizer(service).decode(ids, skip_special=False)}

    @router.get("/health")
    async def health() -> JSONResponse:
        state = "draining" if service.draining else service.client.state
        body = {"status": state, "healthy": service.healthy}
        if service.client.error:
            body["error"] = service.client.error
        if state == "restarting":
            body["retry_after"] = service.client.retry_after
        return JSONResponse(body, status_code=200 if service.healthy else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(service.metrics.text(), media_type=kind)

    @router.get("/status")
    async def status() -> Any:
        """What the page shows, as JSON."""
        client = service.client
        return {
            "model": service.model,
            "state": client.state,
            "open": client.open,
            "stats": msgspec.to_builtins(client.stats),
            "restarts": client.restarts.count,
            "faults": client.faults,
            "ready": msgspec.to_builtins(client.ready) if client.ready else None,
        }

    @router.get("/debug/invariants")
    async def invariants() -> JSONResponse:
        """Checks that pages, references and slots add up, between two steps."""
        try:
            checked = await service.client.check()
        except ConnectionError as error:
            raise APIError(503, str(error)) from None
        body = {"error": checked.error, "stats": msgspec.to_builtins(checked.stats)}
        return JSONResponse(body, status_code=500 if checked.error else 200)

    @router.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return (files("inferplane.server") / "page.html").read_text(encoding="utf-8")

    return router


def _model(service: Service) -> dict[str, Any]:
    return {
        "id": service.model,
        "object": "model",
        "created": service.started,
        "owned_by": "inferplane",
        "max_model_len": _length(service),
    }


def _length(service: Service) -> int:
    return service.requests.max_length


def _tokenizer(service: Service) -> Any:
    if service.requests.tokenizer is None:
        raise APIError(400, "the server runs without a tokenizer")
    return service.requests.tokenizer
