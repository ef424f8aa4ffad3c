"""OpenAI's API as a part of another server's application: what LangGraph Server calls a custom app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.errors import ApiError, error_response
from kaelum_adapters.openai_api.options import is_loopback
from kaelum_adapters.openai_api.server import Server
from kaelum_flow.facade import Kaelum

API_PATH = "/v1"


def host_app(kaelum: Kaelum) -> Starlette:
    """An application that a LangGraph Server may take in: OpenAI's API under /v1 and nothing else.

    The rest of `kaelum serve` (`/metrics`, `/docs`, LangSmith's `/info`) has paths that are the host's own. Its
    middleware stays around its own routes. Closing `kaelum` is a part of the lifespan's end.
    """
    api = create_app(kaelum)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with api.router.lifespan_context(api):
            yield
        await asyncio.to_thread(kaelum.close)

    return Starlette(routes=[Mount(API_PATH, app=ApiMount(api))], lifespan=lifespan)


class ApiMount:
    """OpenAI's API inside another server. Other machines need a key, whatever address the host listens on."""

    def __init__(self, api: FastAPI) -> None:
        self._api: ASGIApp = api
        self._server: Server = api.state.server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; the API's own routes have its whole path."""
        client = scope.get("client")
        local = client is not None and is_loopback(client[0])
        if not local and not await asyncio.to_thread(self._server.keys.any):
            message = "Other machines need an API key, and there is none yet: kaelum keys add NAME"
            await error_response(ApiError(401, message, code="missing_api_key"))(scope, receive, send)
            return
        await self._api({**scope, "root_path": scope.get("app_root_path", "")}, receive, send)
