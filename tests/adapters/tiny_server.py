"""A server with the smallest model route there could be, for what stands around the routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import httpx2
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Ask, Caller, Finished, Reply, RunEvent, Started, Usage
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_adapters.openai_api.responses_flow import RunStream
from kaelum_adapters.openai_api.server import server_of
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import ContextOverflow

WhoAsks = Annotated[Caller, Depends(caller)]
router = APIRouter()


class Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: str
    content: str = ""


class Work(BaseModel):
    """`seconds` of work under an admission slot; `events` of a stream; `fail` names how it goes wrong."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = 0.0
    events: int = 3
    fail: str = ""
    messages: list[Turn] = Field(default_factory=list[Turn])


class Ledger:
    """What happened to the work, for tests to look at."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self.cancelled = 0
        self.order: list[str] = []


@router.post("/v1/work")
async def work(body: Work, request: Request, who: WhoAsks) -> dict[str, Any]:
    server, ledger = server_of(request), request.app.state.ledger
    async with server.admission.slot(who) as slot:
        ledger.begun += 1
        ledger.order.append(who.tenant)
        fail(body.fail)
        hurried = asyncio.Event()
        try:
            with server.drain.on_hurry(hurried.set):
                await first_of(asyncio.sleep(body.seconds), hurried.wait())
        except asyncio.CancelledError:
            ledger.cancelled += 1
            raise
        ledger.done += 1
        return {
            "tenant": who.tenant,
            "waited": slot.waited,
            "remaining": slot.remaining(),
            "hurried": hurried.is_set(),
            "said": [turn.content for turn in body.messages],
        }


@router.post("/v1/stream", response_model=None)
async def stream(body: Work, request: Request, who: WhoAsks) -> StreamingResponse:
    server, ledger = server_of(request), request.app.state.ledger

    async def events() -> AsyncGenerator[bytes]:
        try:
            for index in range(body.events):
                yield f"data: {index}\n\n".encode()
                await asyncio.sleep(body.seconds)
            fail(body.fail)
            ledger.done += 1
            yield b"data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            ledger.cancelled += 1
            raise

    async with AsyncExitStack() as held:
        await held.enter_async_context(server.admission.slot(who))
        ledger.begun += 1
        return RunStream(events(), held=held.pop_all())


def fail(how: str) -> None:
    if how == "bug":
        raise ValueError("secret-in-a-bug")
    if how == "overflow":
        raise ContextOverflow(limit_tokens=10, prompt_tokens=20)
    if how == "api":
        raise ApiError(400, "no such thing", param="thing")


async def first_of(*waits: Any) -> None:
    tasks = [asyncio.ensure_future(one) for one in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class EchoRunner:
    """Answers with the last message."""

    async def run(self, ask: Ask) -> AsyncIterator[RunEvent]:
        yield Started(id="episode", created=0, model=ask.model, system_fingerprint="fp")
        reply = Reply(index=0, text=ask.messages[-1].content, finish="stop")
        yield Finished(id="episode", replies=(reply,), usage=Usage(), story={})


def tiny_app(kaelum: Kaelum, **options: object) -> FastAPI:
    app = create_app(kaelum, ServerOptions.model_validate(options), runner=EchoRunner())
    app.include_router(router)
    app.state.ledger = Ledger()
    return app


@asynccontextmanager
async def client_of(app: FastAPI, **headers: str) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client in this process; exceptions that leave the application are raised here."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client
