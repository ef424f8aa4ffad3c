"""`/health`: the process answers. `/ready`: requests would be served."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.readiness import unavailable
from kaelum_adapters.openai_api.server import server_of

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Requests are served; `running` and `waiting` count them."""

    status: Literal["ready"] = "ready"
    running: int
    waiting: int


@router.get("/health")
async def health() -> Health:
    """Whether the process is alive: always 200. Asks for no key."""
    return Health()


@router.get("/ready")
async def ready(request: Request) -> Ready:
    """Whether requests would be served: 503 with the reason while the model is loading or the server shuts down."""
    server = server_of(request)
    if server.drain.draining:
        raise ApiError(503, "The server is shutting down.", code="shutting_down")
    if server.readiness.error is not None:
        raise unavailable(server.readiness.error)
    if server.readiness.state != "ready":
        raise ApiError(503, "The model is being loaded.", code="model_loading")
    return Ready(running=server.admission.running, waiting=server.admission.waiting)
