"""Requests from arrival to end: turned away while the server drains, cancelled once their client has left."""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaelum_adapters.openai_api.drain import Drain
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.request_state import begin_request

ALWAYS_SERVED = frozenset({"/health", "/ready", "/metrics"})
"""What is looked at while the server drains, too."""
GRACE_SECONDS = 30.0
"""How long past its deadline a request may take to be concluded and sent."""


class UnderWay:
    """ASGI middleware around the routes; bodies must arrive in one piece (`BodyLimits`).

    A request runs in a task of its own. When its client leaves, that task is cancelled: its place, its turn in the
    queue and its search are given up at once. At the end of a drain the same happens, and `ApiError` 503 is raised;
    likewise 504 after `deadline_seconds` and a grace, as a search ends by itself at its deadline, but a client that
    doesn't read what it is sent would hold its place for ever.
    """

    def __init__(self, app: ASGIApp, *, drain: Drain, deadline_seconds: float) -> None:
        self.app = app
        self._drain = drain
        self._seconds = deadline_seconds + GRACE_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS_SERVED:
            await self.app(scope, receive, send)
            return
        if self._drain.draining:
            raise ApiError(
                503,
                "The server is shutting down.",
                code="shutting_down",
                headers={"connection": "close", "retry-after": str(max(1, round(self._drain.seconds)))},
            )
        with self._drain.under_way():
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = begin_request()
        body = await receive()
        left, over, given = asyncio.Event(), asyncio.Event(), False

        async def receive_again() -> Message:
            nonlocal given
            if not given:
                given = True
                return body
            await left.wait()
            return {"type": "http.disconnect"}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in state.headers.items():
                    headers[name] = value
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                over.set()
            await send(message)

        async def client_left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        work = asyncio.ensure_future(self.app(scope, receive_again, watched))
        leaving = asyncio.ensure_future(client_left())
        ending = asyncio.ensure_future(self._drain.cancelled.wait())
        try:
            await asyncio.wait({work, leaving, ending}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not over.is_set():
                work.cancel()
            await asyncio.wait({work})
            if left.is_set():
                return
            if not work.cancelled():
                work.result()
            elif ending.done():
                raise ApiError(503, "The server shut down before the request was done.", code="shutting_down")
            else:
                raise ApiError(504, "The request took longer than it may.", code="timeout")
        finally:
            for task in (work, leaving, ending):
                task.cancel()
            await asyncio.gather(work, leaving, ending, return_exceptions=True)
