"""An id for each request: on every response, in the log, and what an error report quotes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, MutableMapping
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "kaelum.request_id"
_CLIENTS_ID = re.compile(r"[\x21-\x7e]{1,128}")


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id of the request with this ASGI scope; "-" outside the server."""
    return str(scope.get(REQUEST_ID, "-"))


class RequestIds:
    """ASGI middleware: `x-request-id` and `openai-processing-ms` on each response, streams and errors too.

    An id that the client sent (`x-client-request-id`, or `x-request-id`) comes back as `x-client-request-id`: the
    server's own ids stay unique.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        request_id = f"req_{uuid.uuid4().hex}"
        cast_scope: MutableMapping[str, Any] = scope
        cast_scope[REQUEST_ID] = request_id
        given = Headers(scope=scope)
        clients = given.get("x-client-request-id") or given.get("x-request-id") or ""

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round((perf_counter() - began) * 1000))
                if _CLIENTS_ID.fullmatch(clients):
                    headers["x-client-request-id"] = clients
            await send(message)

        await self.app(scope, receive, send_with_id)
