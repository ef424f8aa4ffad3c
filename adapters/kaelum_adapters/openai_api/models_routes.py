"""`GET /v1/models`: what may be named in a request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from kaelum_adapters.openai_api.callers import caller
from kaelum_adapters.openai_api.embeddings_body import EMBEDDING_MODEL
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.model_names import model_names
from kaelum_graph.types import Json

router = APIRouter(prefix="/v1/models", tags=["models"])
CREATED = 1_767_225_600
"""When the first of these models was made, in seconds since 1970: the same at every start."""


@router.get("", response_model=None)
async def list_models(who: Annotated[Caller, Depends(caller)]) -> Json:
    """All models."""
    return {"object": "list", "data": [_model(name) for name in (*model_names(), EMBEDDING_MODEL)]}


@router.get("/{name:path}", response_model=None)
async def retrieve_model(name: str, who: Annotated[Caller, Depends(caller)]) -> Json:
    """One model."""
    if name not in (*model_names(), EMBEDDING_MODEL):
        raise ApiError(404, f"The model '{name}' does not exist here.", param="model", code="model_not_found")
    return _model(name)


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "kaelum"}
