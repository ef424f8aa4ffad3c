"""Feedback as LangSmith's SDK gives it, with `api_url` set to this server. Runs are answers; traces aren't taken in."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Path, Query

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.feedback_routes import Records
from kaelum_adapters.openai_api.langsmith_body import FeedbackCreate, Said, as_feedback, as_uuid, sources_of
from kaelum_graph.types import Json

router = APIRouter(tags=["feedback"])
BATCHES = {
    "use_multipart_endpoint": False,
    "scale_up_qsize_trigger": 1000,
    "scale_up_nthreads_limit": 16,
    "scale_down_nempty_trigger": 4,
    "size_limit": 100,
    "size_limit_bytes": 2**20,
}
"""The SDK's thread breaks where one of these is missing. Only the first has an effect here."""
FeedbackUuid = Annotated[str, Path(max_length=64)]


@router.get("/info", response_model=None)
async def info() -> Json:
    """What the SDK asks for first: that feedback is to be posted one by one, not in multipart batches."""
    return {"version": version("kaelum-graph"), "batch_ingest_config": BATCHES}


@router.post("/feedback", response_model=None)
async def create_feedback(body: FeedbackCreate, records: Records) -> Json:
    """Keep what is said of a run, by the id of its answer."""
    run = as_uuid(body.run(), "run_id")
    feedback_id, rating = body.read()
    if rating.says_nothing:
        message = "score: give a score, value, correction or comment."
        raise ApiError(400, message, param="score", code="missing_required_parameter")
    try:
        episode_id = await records.episode_id(run)
    except ApiError as error:
        # The SDK takes a 404 for a run that is still on its way in, and asks ten times over a quarter of an hour.
        raise ApiError(400, error.message, param="run_id", code="not_found") from None
    kept, _ = await records.give(episode_id, rating, feedback_id)
    return as_feedback(kept)


@router.get("/feedback", response_model=None)
async def list_feedback(
    records: Records,
    run: Annotated[list[str] | None, Query(max_length=1000)] = None,
    key: Annotated[list[str] | None, Query(max_length=1000)] = None,
    source: Annotated[list[str] | None, Query(max_length=3, description="api, model or app")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> list[Json]:
    """What the caller's tenant has said of these runs, or of all; oldest first."""
    runs = [as_uuid(one, "run") for one in run or ()]
    sources = [name for kind in source or () for name in sources_of(kind)]
    if source and not sources:
        return []
    # An episode's id has no dashes, but one that came from elsewhere may.
    episodes = [spelling for one in runs for spelling in (one, one.replace("-", ""))]
    found = await records.list(episode_ids=episodes, keys=key or (), sources=sources, limit=limit, offset=offset)
    return [as_feedback(one) for one in found]


@router.get("/feedback/{feedback_id}", response_model=None)
async def read_feedback(feedback_id: FeedbackUuid, records: Records) -> Json:
    """One record."""
    return as_feedback(await records.get(as_uuid(feedback_id, "feedback_id")))


@router.patch("/feedback/{feedback_id}", response_model=None)
async def update_feedback(feedback_id: FeedbackUuid, body: Said, records: Records) -> Json:
    """Say something else; what is left out stays."""
    rating = body.rating()
    return as_feedback(await records.change(as_uuid(feedback_id, "feedback_id"), rating))


@router.delete("/feedback/{feedback_id}", response_model=None)
async def delete_feedback(feedback_id: FeedbackUuid, records: Records) -> Json:
    """Take it back."""
    await records.delete(as_uuid(feedback_id, "feedback_id"))
    return {"message": "Feedback deleted"}
