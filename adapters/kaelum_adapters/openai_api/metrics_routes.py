"""`GET /metrics` for Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder

from kaelum_adapters.openai_api.callers import identify
from kaelum_adapters.openai_api.server import server_of

router = APIRouter(tags=["operations"])

OPENMETRICS = "application/openmetrics-text"


def scraper(request: Request) -> None:
    """Who may see the metrics: everybody on a loopback address, else those who may ask the server anything.

    They hold counts and names of the code alone, nothing that a client wrote. Raises `ApiError` 401 without a key.
    """
    server = server_of(request)
    if not server.options.loopback:
        identify(server, request.headers)


# Not `async`: the counts come from SQLite, which must not hold up the event loop.
@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}, OPENMETRICS: {}}}},
)
def metrics(request: Request, _: Annotated[None, Depends(scraper)]) -> Response:
    """All metrics as text; in the OpenMetrics form where the `accept` header asks for that."""
    accepted = request.headers.get("accept", "")
    # The library fails on a version that isn't a number, so of the header only the form's name gets to it.
    encode, content_type = choose_encoder(f"{OPENMETRICS}; version=1.0.0" if OPENMETRICS in accepted else "")
    return Response(encode(server_of(request).telemetry.registry), headers={"content-type": content_type})
