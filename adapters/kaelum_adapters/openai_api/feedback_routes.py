"""`/v1/feedback`: say how good an answer was, read it back, take it back."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request

from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.feedback_body import FEEDBACK_ID, FeedbackBody
from kaelum_adapters.openai_api.feedback_records import FeedbackRecords
from kaelum_adapters.openai_api.server import server_of
from kaelum_graph.feedback import Feedback
from kaelum_graph.types import Json

router = APIRouter(prefix="/v1/feedback", tags=["feedback"])


async def records(request: Request, who: Annotated[Caller, Depends(caller)]) -> FeedbackRecords:
    """The feedback that this request's caller may see. What is written counts against the key's rate."""
    server = server_of(request)
    if request.method != "GET":
        server.admission.charge(who)
    return FeedbackRecords(server, who)


Records = Annotated[FeedbackRecords, Depends(records)]
GivenId = Annotated[str, Path(max_length=128)]


@router.post("", response_model=None)
async def give_feedback(
    body: FeedbackBody,
    records: Records,
    idempotency_key: Annotated[str | None, Header(description="the same as feedback_id")] = None,
) -> Json:
    """Keep what is said of an answer: on disk when this returns, once however often it is sent."""
    rating = body.read()
    feedback_id = _feedback_id(body.feedback_id, idempotency_key)
    episode_id = await records.episode_id(body.name())
    kept, new = await records.give(episode_id, rating.of_reply(body.name()), feedback_id)
    return {**as_json(kept), "repeated": not new}


@router.get("", response_model=None)
async def list_feedback(
    records: Records,
    episode_id: Annotated[str | None, Query(description="an answer's id in any form; without: all answers")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Json:
    """What the caller's tenant has said, oldest first."""
    episodes = () if episode_id is None else (await records.episode_id(episode_id),)
    # One more than is shown tells whether there are more.
    found = await records.list(episode_ids=episodes, limit=limit + 1, offset=offset)
    return {"object": "list", "data": [as_json(one) for one in found[:limit]], "has_more": len(found) > limit}


@router.get("/{feedback_id}", response_model=None)
async def read_feedback(feedback_id: GivenId, records: Records) -> Json:
    """One record."""
    return as_json(await records.get(feedback_id))


@router.delete("/{feedback_id}", response_model=None)
async def delete_feedback(feedback_id: GivenId, records: Records) -> Json:
    """Take it back. The answer that it took out of the cache does not come back by that."""
    await records.delete(feedback_id)
    return {"object": "feedback.deleted", "id": feedback_id, "deleted": True}


def as_json(feedback: Feedback) -> Json:
    """The `feedback` object."""
    said: dict[str, Any] = {
        "score": feedback.score,
        "answer": feedback.correction,
        "worker": feedback.worker,
        "steps": [{"step": step, "score": score} for step, score in feedback.steps],
        "comment": feedback.comment,
    }
    return {
        "object": "feedback",
        "id": feedback.id,
        "episode_id": feedback.episode_id,
        "created": int(feedback.created_at or 0),
        **said,
        "key": feedback.key,
        "source": feedback.source,
    }


def _feedback_id(given: str | None, header: str | None) -> str | None:
    if header is None:
        return given
    if re.fullmatch(FEEDBACK_ID, header) is None:
        message = "idempotency-key: expected 1 to 128 letters, digits or ._:~-"
        raise ApiError(400, message, param="idempotency-key", code="invalid_value")
    if given not in (None, header):
        message = "feedback_id: differs from the Idempotency-Key header; give one of them."
        raise ApiError(400, message, param="feedback_id", code="invalid_value")
    return header
