"""`/v1/responses`: OpenAI's Responses API over a search, with responses kept to be read and gone on from."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.chat_routes import is_retry
from kaelum_adapters.openai_api.deadline import patience_of
from kaelum_adapters.openai_api.errors import ApiError, as_api_error, log_failure
from kaelum_adapters.openai_api.exchange import Caller, Finished, RunEvent, Started
from kaelum_adapters.openai_api.model_names import check_model
from kaelum_adapters.openai_api.request_id import request_id_of
from kaelum_adapters.openai_api.responses_body import (
    ENCRYPTED_REASONING,
    ResponseBody,
    TokenCountBody,
    check_include,
    refuse,
)
from kaelum_adapters.openai_api.responses_conversation import (
    Conversation,
    in_own_words,
    read_ask,
    read_conversation,
)
from kaelum_adapters.openai_api.responses_events import ResponseEvents
from kaelum_adapters.openai_api.responses_flow import QUIET_LINE, RunStream, event_bytes, paced
from kaelum_adapters.openai_api.responses_items import number_items
from kaelum_adapters.openai_api.responses_reply import Draft, echo
from kaelum_adapters.openai_api.responses_store import KeptResponse, ResponsesStore
from kaelum_adapters.openai_api.server import Server, server_of
from kaelum_adapters.replies import counted
from kaelum_adapters.reply_ids import read_again
from kaelum_graph.errors import KaelumError, StorageError
from kaelum_graph.types import Json

router = APIRouter(prefix="/v1/responses", tags=["responses"])
Who = Annotated[Caller, Depends(caller)]


class Answering:
    """One response from the run's first event to the kept object."""

    def __init__(
        self, body: ResponseBody, conversation: Conversation, who: Caller, *, server: Server, started: Started
    ) -> None:
        self._body, self._conversation, self._who = body, conversation, who
        self._store: ResponsesStore = server.responses
        self._episode = started.id
        settings = server.kaelum.settings
        self.draft = Draft(
            id=f"resp_{started.reply_id or started.id or uuid.uuid4().hex}",
            created=started.created,
            model=started.model,
            echo=echo(body, conversation.offered, temperature=settings.temperature, top_p=settings.top_p),
        )
        self._fingerprint = started.system_fingerprint
        self.events = ResponseEvents(
            self.draft,
            summarized=body.summary is not None,
            encrypted=ENCRYPTED_REASONING in (body.include or ()),
            obfuscated=body.stream_options is not None and body.stream_options.include_obfuscation is True,
        )

    def note(self, event: RunEvent) -> None:
        """Learn from the last event which episode this was, where the first one couldn't say."""
        if isinstance(event, Finished):
            self._episode = event.id or self._episode
            assert self.draft.story is not None
            self.draft.story.setdefault("system_fingerprint", self._fingerprint)

    async def keep(self, request_id: str) -> None:
        """Write the response down before it is acknowledged. Where that fails the answer is given nonetheless."""
        try:
            await asyncio.to_thread(self._keep)
        except StorageError as error:
            log_failure(error, as_api_error(error), request_id)
            self.draft.echo["store"] = False
            story = self.draft.story = self.draft.story or {}
            story["notices"] = [*story.get("notices", ()), f"the response is not kept: {error}"]

    def _keep(self) -> None:
        tenant, owner = self._who.tenant, self.draft.id.removeprefix("resp_")
        if self._body.store is not False:
            items = number_items(self._conversation.items, owner)
            self._store.put(tenant, self._episode, self.draft.snapshot(), items)
        elif self._episode and self._episode != read_again(owner)[0]:
            self._store.note_episode(tenant, self.draft.id, self._episode)


@router.post(
    "",
    response_model=None,
    responses={200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "The response."}},
)
async def create_response(body: ResponseBody, request: Request, who: Who) -> Response:
    """A response, whole or (`stream`) as server-sent events."""
    server = server_of(request)
    refuse(body)
    conversation = await _conversation(body, server, who)
    request_id = request_id_of(request.scope)
    key = request.headers.get("idempotency-key", "")[:256]
    ask = read_ask(body, conversation, who, retry=bool(key) or is_retry(request), key=key)
    if not body.stream:
        ask = replace(ask, patience=patience_of(request.headers))
    async with AsyncExitStack() as held:
        held.enter_context(_own_words())
        await held.enter_async_context(server.admission.slot(who))
        run = await held.enter_async_context(aclosing(paced(server.runner.run(ask))))
        answering = Answering(body, conversation, who, server=server, started=await _first(run))
        if body.stream:
            lines = _lines(run, answering, request_id=request_id)
            return RunStream(lines, held=held.pop_all())
        async for event in run:
            _take(event, answering, lambda _: None)
        _check_ended(answering)
        await answering.keep(request_id)
    return JSONResponse(answering.draft.snapshot())


@contextmanager
def _own_words() -> Generator[None]:
    try:
        yield
    except (ApiError, KaelumError) as error:
        raise in_own_words(as_api_error(error)) from error


async def _conversation(body: ResponseBody | TokenCountBody, server: Server, who: Caller) -> Conversation:
    return await asyncio.to_thread(
        read_conversation, body, server.responses, tenant=who.tenant, max_messages=server.options.max_messages
    )


async def _first(run: AsyncGenerator[RunEvent | None]) -> Started:
    """The first event, before which a failure is a plain error response."""
    async for event in run:
        if isinstance(event, Started):
            return event
    raise ApiError(500, "The run ended before it began.", code="internal_error")


def _take(event: RunEvent | None, answering: Answering, tell: Callable[[Json], object]) -> None:
    if event is None:
        return
    for told in answering.events.feed(event):
        tell(told)
    answering.note(event)


def _check_ended(answering: Answering) -> None:
    if answering.draft.status == "in_progress":
        raise ApiError(500, "The run ended without an answer.", code="internal_error")


async def _lines(
    run: AsyncGenerator[RunEvent | None], answering: Answering, *, request_id: str
) -> AsyncGenerator[bytes]:
    """The response as server-sent events; a failure on the way is told in the stream and ends it."""
    events = answering.events
    for told in events.begin():
        yield event_bytes(told)
    try:
        async for event in run:
            if event is None:
                yield QUIET_LINE
            batch: list[Json] = []
            _take(event, answering, batch.append)
            for told in batch:
                yield event_bytes(told)
        _check_ended(answering)
    except Exception as error:
        failure = in_own_words(as_api_error(error))
        if failure.status >= 500:
            log_failure(error, failure, request_id)
        for told in events.fail(failure):
            yield event_bytes(told)
    await answering.keep(request_id)
    yield event_bytes(events.end())


@router.post("/compact", include_in_schema=False)
async def compact_response(who: Who) -> None:
    """Not had here. (Without this route the address would be that of a response named "compact".)"""
    raise ApiError(404, "Conversations are not compacted here.", code="unknown_url")


@router.post("/input_tokens", response_model=None)
async def count_input_tokens(body: TokenCountBody, request: Request, who: Who) -> Json:
    """How many tokens the conversation is in the model's own format, before the search adds words of its own.

    Tools are counted as the JSON that chat formats show them in.
    """
    server = server_of(request)
    refuse(body)
    if body.model is not None:
        check_model(body.model)
    conversation = await _conversation(body, server, who)
    async with server.admission.slot(who):
        told = (conversation.messages, conversation.tools, conversation.tool_choice)
        count = await asyncio.to_thread(counted, server.kaelum.services.model, *told)
    return {"object": "response.input_tokens", "input_tokens": count}


@router.get("/{response_id}", response_model=None)
async def retrieve_response(
    response_id: str,
    request: Request,
    who: Who,
    stream: bool = False,
    starting_after: int | None = None,
    include: Annotated[list[str] | None, Query()] = None,
    include_brackets: Annotated[list[str] | None, Query(alias="include[]")] = None,
) -> Json:
    """A kept response, as it was sent."""
    check_include([*(include or ()), *(include_brackets or ())])
    if stream or starting_after is not None:
        param = "stream" if stream else "starting_after"
        raise ApiError(400, f"{param}: only responses made in the background can be streamed later.", param=param)
    return (await _kept(server_of(request), who, response_id)).response


@router.delete("/{response_id}", response_model=None)
async def delete_response(response_id: str, request: Request, who: Who) -> Json:
    """Forget a response and its items. What went on from it can't be gone on from any more."""
    if not await asyncio.to_thread(server_of(request).responses.delete, who.tenant, response_id):
        raise _unknown(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/{response_id}/cancel", response_model=None)
async def cancel_response(response_id: str, request: Request, who: Who) -> Json:
    """Always refused: a response is done before anyone knows its id, or ends with its stream."""
    await _kept(server_of(request), who, response_id)
    raise ApiError(400, "Only responses made in the background can be cancelled; close the stream instead.")


@router.get("/{response_id}/input_items", response_model=None)
async def list_input_items(
    response_id: str,
    request: Request,
    who: Who,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    include: Annotated[list[str] | None, Query()] = None,
    include_brackets: Annotated[list[str] | None, Query(alias="include[]")] = None,
) -> Json:
    """The items that the request of a response brought; those of responses it went on from are with them."""
    check_include([*(include or ()), *(include_brackets or ())])
    kept = await _kept(server_of(request), who, response_id)
    items: list[dict[str, Any]] = list(kept.input if order == "asc" else reversed(kept.input))
    if after is not None:
        place = next((place for place, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise ApiError(400, f"after: no item '{after}' is in this list.", param="after", code="invalid_value")
        items = items[place + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }


async def _kept(server: Server, who: Caller, response_id: str) -> KeptResponse:
    kept = await asyncio.to_thread(server.responses.get, who.tenant, response_id)
    if kept is None:
        raise _unknown(response_id)
    return kept


def _unknown(response_id: str) -> ApiError:
    return ApiError(404, f"No response '{response_id}' is kept.", param="response_id", code="response_not_found")
