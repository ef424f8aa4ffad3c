"""OpenAI's own client before a server whose run plays a script, and the strict types its events must fit."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import httpx2
from fastapi import FastAPI
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.exchange import (
    Ask,
    Called,
    Finished,
    FinishReason,
    Piece,
    Reply,
    RunEvent,
    Started,
    Thought,
    TokenLogprob,
    Usage,
)
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_flow.facade import Kaelum
from kaelum_graph.types import Json, ToolCall

Step: TypeAlias = RunEvent | Exception | float
Play: TypeAlias = Callable[[Ask, str], Sequence[Step]]

USAGE = Usage(prompt_tokens=100, completion_tokens=60, reasoning_tokens=50, cached_tokens=32)
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
RESPONSE: TypeAdapter[Response] = TypeAdapter(Response)


class Player:
    """A runner that plays `play(ask, episode)`: events are given, numbers waited for, exceptions raised."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.asks: list[Ask] = []
        self.closed = 0
        self.began = asyncio.Event()
        self._numbers = itertools.count(1)

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        self.asks.append(ask)
        try:
            for step in self.play(ask, f"ep{next(self._numbers)}"):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float | int):
                    self.began.set()
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed += 1


def says(
    *pieces: str,
    thoughts: Sequence[str] = (),
    calls: tuple[ToolCall, ...] = (),
    finish: FinishReason = "stop",
    logprobs: tuple[TokenLogprob, ...] | None = None,
    known: bool = True,
) -> Play:
    """A run that thinks, says `pieces`, makes `calls` and ends. Not `known`: its id comes with the end alone."""

    def play(ask: Ask, episode: str) -> list[Step]:
        reply = Reply(index=0, text="".join(pieces), finish=finish, calls=calls, logprobs=logprobs)
        story: Json = {"id": episode, "confidence": 0.9}
        return [
            Started(id=episode if known else "", created=1700000000, model=ask.model, system_fingerprint="state-1"),
            *(Thought(text=text) for text in thoughts),
            *(Piece(text=piece) for piece in pieces),
            *((Called(calls=calls),) if calls else ()),
            Finished(id=episode, replies=(reply,), usage=USAGE, story=story),
        ]

    return play


def last_said(ask: Ask, episode: str) -> Sequence[Step]:
    """A run that says how many turns there were and repeats the last one."""
    return says(f"{len(ask.messages)}: {ask.messages[-1].content}")(ask, episode)


def server_app(kaelum: Kaelum, player: Player, **options: object) -> FastAPI:
    return create_app(kaelum, ServerOptions.model_validate(options), runner=player)


def key_of(kaelum: Kaelum, tenant: str) -> str:
    """A new key of `tenant`."""
    return KeyBook(kaelum.settings.data_dir).add(tenant, tenant=tenant)[0]


@asynccontextmanager
async def openai_of(app: FastAPI, *, key: str = "none") -> AsyncGenerator[AsyncOpenAI]:
    transport = httpx2.ASGITransport(app=app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http,
        AsyncOpenAI(api_key=key, base_url="http://localhost/v1", http_client=http, max_retries=0) as client,
    ):
        yield client


async def raw_events(client: AsyncOpenAI, **body: Any) -> list[Json]:
    """The events of a streamed response as they are on the wire, each checked against OpenAI's types."""
    events: list[Json] = []
    async with client.responses.with_streaming_response.create(stream=True, **body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in reply.iter_lines()]
    for name, data in itertools.pairwise(lines):
        if data.startswith("data: "):
            event = cast("Json", json.loads(data.removeprefix("data: ")))
            assert name == f"event: {event['type']}"
            fitting(EVENT, event)
            events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def fitting(adapter: TypeAdapter[Any], data: Json) -> Any:
    """`data` as a value of OpenAI's type, of which it must have every required field."""
    return adapter.validate_python(data)
