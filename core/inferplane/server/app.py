"""The application: routes, errors, the API key."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from inferplane import __version__

from . import chat, completions, errors, status
from .errors import APIError
from .service import Service

_PROTECTED = ("/v1/", "/debug/")


class KeyCheck:
    """Refuses requests to the API without the key, in constant time."""

    def __init__(self, app: Any, key: str) -> None:
        self.app, self.key = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PROTECTED):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self.key):
                error = APIError(401, "the API key is missing or wrong", code="invalid_api_key")
                await error.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


def make_app(service: Service) -> FastAPI:
    """The engine process is started and ended with the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.client.start()
        try:
            yield
        finally:
            await service.client.stop()

    app = FastAPI(title="Inferplane", version=__version__, lifespan=lifespan)
    errors.install(app)
    for module in (completions, chat, status):
        app.include_router(module.routes(service))
    if service.plan.settings.api_key:
        app.add_middleware(KeyCheck, key=service.plan.settings.api_key)
    return app
