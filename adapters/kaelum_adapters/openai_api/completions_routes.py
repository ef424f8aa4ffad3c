"""Stored chat completions, and feedback on any completion through its `metadata`."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict

from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.completion_store import CompletionStore, Order
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.feedback_body import RATING_KEYS, read_metadata
from kaelum_adapters.openai_api.feedback_records import COMPLETION_PREFIX
from kaelum_adapters.openai_api.feedback_routes import Records
from kaelum_adapters.openai_api.responses_body import Metadata
from kaelum_adapters.openai_api.server import server_of
from kaelum_graph.types import EpisodeId, Json

router = APIRouter(prefix="/v1/chat/completions", tags=["chat"])

Who = Annotated[Caller, Depends(caller)]
CompletionId = Annotated[str, Path(max_length=256)]
After = Annotated[str | None, Query(max_length=300, description="the id after which the page begins")]
Limit = Annotated[int, Query(ge=1, le=100)]


async def completions(request: Request) -> CompletionStore:
    """The server's store."""
    return server_of(request).completions


Store = Annotated[CompletionStore, Depends(completions)]


class UpdateBody(BaseModel):
    """The new metadata, in the place of all that was there; null for none."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    metadata: Metadata | None


@router.get("", response_model=None)
async def list_completions(
    request: Request,
    who: Who,
    store: Store,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    model: Annotated[str | None, Query(max_length=256)] = None,
) -> Json:
    """What was stored with `store: true`, oldest first. `metadata[key]=value` picks those that have that pair."""
    pairs = _metadata_filter(request)
    page = await asyncio.to_thread(store.list, who, after=after, limit=limit, order=order, model=model, metadata=pairs)
    if page is None:
        raise ApiError(400, f"after: no completion '{after}' is stored.", param="after", code="invalid_value")
    return page.to_json()


@router.get("/{completion_id}", response_model=None)
async def read_completion(completion_id: CompletionId, who: Who, store: Store) -> Json:
    """A stored completion with its metadata."""
    kept = await asyncio.to_thread(store.get, who, completion_id)
    if kept is None:
        raise _not_stored(completion_id)
    return kept


@router.post("/{completion_id}", response_model=None)
async def update_completion(
    completion_id: CompletionId, body: UpdateBody, request: Request, who: Who, store: Store, records: Records
) -> Json:
    """Replace the metadata of a stored completion.

    `rating`, `correction`, `worker` and `comment` in it are feedback, on any completion, stored or not: what was said
    last holds.
    """
    metadata = body.metadata or {}
    rating = read_metadata(metadata)
    stored = await asyncio.to_thread(store.get, who, completion_id) is not None
    if rating is not None:
        if not stored and (others := sorted(set(metadata) - set(RATING_KEYS))):
            message = (
                f"metadata.{others[0]}: this completion was not stored (store: true), so that it takes only "
                f"{', '.join(RATING_KEYS)}."
            )
            raise ApiError(400, message, param=f"metadata.{others[0]}", code="invalid_value")
        episode_id = await records.episode_id(completion_id)
        await records.put(episode_id, rating.of_reply(completion_id), _feedback_id(completion_id))
        if not stored:
            return await asyncio.to_thread(_told, request, who, completion_id, episode_id, metadata)
    kept = await asyncio.to_thread(store.update, who, completion_id, metadata)
    if kept is None:
        raise _not_stored(completion_id)
    return kept


@router.delete("/{completion_id}", response_model=None)
async def delete_completion(completion_id: CompletionId, who: Who, store: Store) -> Json:
    """Forget a stored completion. What the search itself keeps of the question stays."""
    if not await asyncio.to_thread(store.delete, who, completion_id):
        raise _not_stored(completion_id)
    return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}


@router.get("/{completion_id}/messages", response_model=None)
async def list_messages(
    completion_id: CompletionId, who: Who, store: Store, after: After = None, limit: Limit = 20, order: Order = "asc"
) -> Json:
    """The messages that a stored completion answers."""
    page = await asyncio.to_thread(store.messages, who, completion_id, after=after, limit=limit, order=order)
    if page is not None:
        return page.to_json()
    if await asyncio.to_thread(store.get, who, completion_id) is None:
        raise _not_stored(completion_id)
    raise ApiError(400, f"after: no message '{after}' in it.", param="after", code="invalid_value")


def _metadata_filter(request: Request) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in ("after", "limit", "order", "model"):
            continue
        found = re.fullmatch(r"metadata\[([^\[\]]{1,64})\]", name)
        if found is None:
            raise ApiError(400, f"{name[:64]}: unknown parameter.", param=name[:64], code="unknown_parameter")
        if len(pairs) == 16:
            raise ApiError(400, "metadata: more than 16 pairs.", param="metadata", code="invalid_value")
        pairs[found[1]] = value
    return pairs


def _feedback_id(completion_id: str) -> str:
    """One record for what a completion's metadata says, so that saying it again or otherwise makes no second one."""
    return f"metadata-{hashlib.sha256(completion_id.encode()).hexdigest()[:32]}"


def _told(
    request: Request, who: Caller, completion_id: str, episode_id: EpisodeId, metadata: Mapping[str, str]
) -> Json:
    """What the search's own record tells of a completion that was not stored."""
    storage = server_of(request).kaelum.services.storage
    record = storage.episode(episode_id, tenant=who.tenant) or {}
    answer: Json = record.get("answer") or {}
    worker = (record.get("options") or {}).get("worker")
    cost: Json = answer.get("cost") or {}
    prompt, generated = cost.get("prompt_tokens", 0), cost.get("completion_tokens", 0)
    calls: list[dict[str, Any]] = [
        {"id": one["id"], "type": "function", "function": {"name": one["name"], "arguments": one["arguments"]}}
        for one in answer.get("calls") or ()
    ]
    message: Json = {"role": "assistant", "content": answer.get("text"), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": int(storage.episode_time(episode_id, tenant=who.tenant) or 0),
        "model": f"kaelum-{worker}" if worker else "kaelum",
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if calls else "stop",
            }
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated},
        "metadata": dict(metadata),
    }


def _not_stored(completion_id: str) -> ApiError:
    hint = "" if completion_id.startswith(COMPLETION_PREFIX) else " An id begins with 'chatcmpl-'."
    return ApiError(404, f"No chat completion '{completion_id}' is stored.{hint}", code="not_found")
