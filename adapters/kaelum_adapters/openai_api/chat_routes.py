"""`POST /v1/chat/completions`, whole or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.chat_body import ChatBody, StreamOptions, check, read_ask
from kaelum_adapters.openai_api.chat_reply import ChatReply
from kaelum_adapters.openai_api.deadline import patience_of
from kaelum_adapters.openai_api.errors import ApiError, as_api_error, error_body, log_failure
from kaelum_adapters.openai_api.exchange import Caller, Finished, RunEvent, Started
from kaelum_adapters.openai_api.request_id import request_id_of
from kaelum_adapters.openai_api.responses_flow import RunStream, paced
from kaelum_adapters.openai_api.server import Server, server_of
from kaelum_graph.errors import StorageError
from kaelum_graph.types import Json

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])
DONE = b"data: [DONE]\n\n"


@router.post(
    "",
    response_model=None,
    responses={200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "The completion."}},
)
async def create_completion(body: ChatBody, request: Request, who: Annotated[Caller, Depends(caller)]) -> Response:
    """An answer, whole or (`stream`) in pieces, with what the search did on the way."""
    server = server_of(request)
    check(body, max_messages=server.options.max_messages, max_n=server.options.max_n)
    key = request.headers.get("idempotency-key", "")[:256]
    ask = read_ask(body, who, retry=is_retry(request) or bool(key), key=key)
    if not body.stream:
        ask = replace(ask, patience=patience_of(request.headers))
    request_id = request_id_of(request.scope)
    async with AsyncExitStack() as held:
        await held.enter_async_context(server.admission.slot(who))
        run = await held.enter_async_context(aclosing(paced(server.runner.run(ask))))
        reply = await _begun(run, body)
        if body.stream:
            lines = _lines(run, reply, body, server=server, who=who, request_id=request_id)
            return RunStream(lines, held=held.pop_all())
        async for event in run:
            if event is not None:
                for _ in reply.feed(event):
                    pass
        _check_ended(reply)
        await _keep(server, who, body, reply, request_id=request_id)
    return JSONResponse(reply.completion)


def is_retry(request: Request) -> bool:
    """Whether the client says that it asks again for what it asked before."""
    count = request.headers.get("x-stainless-retry-count", "")
    return count.isdecimal() and count.strip("0") != ""


async def _begun(run: AsyncGenerator[RunEvent | None], body: ChatBody) -> ChatReply:
    """The reply from the first event on, before which a failure is a plain error response."""
    async for event in run:
        if isinstance(event, Started):
            options = body.stream_options or StreamOptions()
            return ChatReply(
                event,
                include_usage=options.include_usage is True,
                obfuscated=options.include_obfuscation is True,
                legacy_functions=bool(body.functions),
            )
    raise ApiError(500, "The run ended before it began.", code="internal_error")


def _check_ended(reply: ChatReply) -> None:
    if reply.finished is None:
        raise ApiError(500, "The run ended without an answer.", code="internal_error")


async def _lines(
    run: AsyncGenerator[RunEvent | None],
    reply: ChatReply,
    body: ChatBody,
    *,
    server: Server,
    who: Caller,
    request_id: str,
) -> AsyncGenerator[bytes]:
    """The chunks as server-sent events; a failure on the way is told in the stream and ends it."""
    yield _line(reply.begin())
    try:
        async for event in run:
            if event is None:
                yield _line(reply.quiet())
                continue
            if isinstance(event, Finished):
                # Whoever has read the last chunk may ask for the stored completion.
                reply.finished = event
                await _keep(server, who, body, reply, request_id=request_id)
                event = reply.finished
            if lines := b"".join(map(_line, reply.feed(event))):
                yield lines
        _check_ended(reply)
    except Exception as error:
        failure = as_api_error(error)
        if failure.status >= 500:
            log_failure(error, failure, request_id)
        yield _line(error_body(failure))
        return
    yield DONE


async def _keep(server: Server, who: Caller, body: ChatBody, reply: ChatReply, *, request_id: str) -> None:
    """Keep the completion where the client asks for it. Where that fails the answer is given, and says so."""
    if not body.store or server.completions is None:
        return
    given = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    try:
        await asyncio.to_thread(server.completions.save, who, given, reply.completion)
    except StorageError as error:
        assert reply.finished is not None
        log_failure(error, as_api_error(error), request_id)
        story = reply.finished.story
        notices = [*story.get("notices", ()), f"the completion is not stored: {error}"]
        reply.finished = replace(reply.finished, story={**story, "notices": notices})


def _line(data: Json) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode(errors="replace")
