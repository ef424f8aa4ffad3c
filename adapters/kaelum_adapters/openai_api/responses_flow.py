"""A run and its response: events to the wire as they come, and whatever happens, an end for both."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kaelum_adapters.openai_api.exchange import RunEvent
from kaelum_adapters.openai_api.pacing import with_silences
from kaelum_graph.types import Json

QUIET_SECONDS = 10.0
"""After so long without an event a comment goes out: proxies and clients cut streams that say nothing."""
AHEAD = 256
"""How many events a run may be ahead of a slow client."""
QUIET_LINE = b": still at work\n\n"


def paced(events: AsyncIterator[RunEvent]) -> AsyncGenerator[RunEvent | None]:
    """The events of a run, and None after each `QUIET_SECONDS` without one; closing this closes the run."""
    return with_silences(events, seconds=QUIET_SECONDS, what="run", ahead=AHEAD)


def event_bytes(event: Json) -> bytes:
    """One server-sent event; its name is its type."""
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class RunStream(StreamingResponse):
    """A stream of server-sent events that gives back what it holds (`held`), whether or not it was ever read."""

    def __init__(self, content: AsyncGenerator[bytes], *, held: contextlib.AsyncExitStack) -> None:
        super().__init__(
            content,
            media_type="text/event-stream",
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )
        self._content, self._held = content, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._content.aclose()
