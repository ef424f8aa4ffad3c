"""One line a request in the log "kaelum.server": what was asked for, of whom, what became of it, how long it took.

Never in it: bodies, prompts, keys, query strings, and paths that no route has. Lines are JSON or `key=value` text, and
nothing that a client sent can begin a line of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaelum_adapters.openai_api.callers import CALLER
from kaelum_adapters.openai_api.exchange import Ask, Caller, Finished, RunEvent, Runner, Started
from kaelum_adapters.openai_api.request_id import request_id_of
from kaelum_adapters.openai_api.under_way import ALWAYS_SERVED
from kaelum_graph.types import Json

if TYPE_CHECKING:
    from kaelum_adapters.openai_api.telemetry import Telemetry
    from kaelum_adapters.openai_api.tracing import Tracing

logger = logging.getLogger("kaelum.server")

LEFT = 499
"""Status in the log of a request whose client left before any answer began; no client ever sees it."""

LONGEST_METHOD = 16
WHOLE_LINE = "kaelum_whole_line"
"""Attribute of a log record that is a line of its own already, with time and all."""
LineForm = Literal["text", "json"]


@dataclass(slots=True)
class RunNotes:
    """What a run tells the log of the request that it is for."""

    model: str = ""
    episode: str = ""
    finish: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


_notes: ContextVar[RunNotes | None] = ContextVar("kaelum_run_notes", default=None)


class NotedRunner:
    """A `Runner` that tells the log what another one does. It goes outside of all that let requests share a run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The events of the inner runner, as they are."""
        notes = _notes.get() or RunNotes()
        notes.model = ask.model
        async with aclosing(cast("AsyncGenerator[RunEvent]", self._runner.run(ask))) as events:
            async for event in events:
                if isinstance(event, Started):
                    notes.episode = event.id
                elif isinstance(event, Finished):
                    notes.episode = event.id
                    notes.finish = event.replies[0].finish if event.replies else ""
                    notes.prompt_tokens = event.usage.prompt_tokens
                    notes.completion_tokens = event.usage.completion_tokens
                yield event


class RequestLog:
    """ASGI middleware that logs each request when its last byte is sent, or its client has left.

    It goes inside of `RequestIds`. With `telemetry` the requests are counted there too, with `tracing` a line names its
    trace. What monitoring asks for every few seconds (`ALWAYS_SERVED`) is logged as debug.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        form: LineForm = "text",
        telemetry: Telemetry | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.app = app
        self._form: LineForm = form
        self._telemetry = telemetry
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange()
        notes = RunNotes()
        token = _notes.set(notes)

        async def noting_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not exchange.ending:
                exchange.left = True
            return message

        async def noting_send(message: Message) -> None:
            exchange.sending(message)
            await send(message)
            exchange.complete = exchange.ending

        error: BaseException | None = None
        try:
            await self.app(scope, noting_receive, noting_send)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _notes.reset(token)
            self._write(scope, exchange, notes, error)

    def _write(self, scope: Scope, exchange: _Exchange, notes: RunNotes, error: BaseException | None) -> None:
        seconds = perf_counter() - exchange.began
        status = exchange.status or (500 if isinstance(error, Exception) else LEFT)
        caller: Caller | None = scope.get(CALLER)
        line: Json = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id_of(scope),
            "trace_id": (self._tracing.trace_id() if self._tracing else "") or None,
            "method": scope["method"][:LONGEST_METHOD],
            "route": route_of(scope),
            "status": status,
            "outcome": exchange.outcome(error),
            "ms": round(seconds * 1000, 1),
            "bytes": exchange.bytes,
            "key_id": (caller.key_id if caller else "") or None,
            "model": notes.model or None,
            "episode": notes.episode or None,
            "finish": notes.finish or None,
            "prompt_tokens": notes.prompt_tokens,
            "completion_tokens": notes.completion_tokens,
        }
        watched = line["route"] in ALWAYS_SERVED and status < 400
        level = logging.DEBUG if watched else logging.INFO
        logger.log(level, as_line(line, self._form), extra={WHOLE_LINE: True})
        if self._telemetry is not None:
            self._telemetry.served(method=scope["method"], route=line["route"], status=status, seconds=seconds)


class _Exchange:
    """What went over the wire for one request."""

    def __init__(self) -> None:
        self.began = perf_counter()
        self.status = 0
        self.bytes = 0
        self.ending = False
        self.complete = False
        self.left = False

    def sending(self, message: Message) -> None:
        """Takes in a message that is about to be sent."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
            self.ending = not message.get("more_body", False)

    def outcome(self, error: BaseException | None) -> str:
        """ "complete", "disconnected" (the client left) or "error" (the answer was cut off here)."""
        if self.complete:
            return "complete"
        return "error" if isinstance(error, Exception) and not self.left else "disconnected"


def route_of(scope: Scope) -> str:
    """The template of the path, as in "/v1/chat/completions/{completion_id}"; "unmatched" where there is no route."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


def as_line(fields: Json, form: LineForm) -> str:
    """The fields that are known, on one line of printable characters."""
    known: Json = {name: value for name, value in fields.items() if value is not None}
    if form == "json":
        return json.dumps(known)
    return " ".join(f"{name}={_plain(value)}" for name, value in known.items())


def _plain(value: Any) -> str:
    text = str(value)
    return text if text.isascii() and text.isprintable() and not set(text) & set(' ="') and text else json.dumps(text)
