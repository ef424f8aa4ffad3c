"""`GET /metrics`: who may see it, and in which form."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from kaelum_adapters.openai_api.errors import install_error_handlers
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_adapters.openai_api.metrics_routes import router
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_adapters.openai_api.telemetry import ObservedRunner, Telemetry
from tests.adapters.scripted_runner import ScriptedRunner, answer, ask, whole_run


@pytest.fixture
def keys(tmp_path: Path) -> KeyBook:
    return KeyBook(tmp_path)


def client(keys: KeyBook, telemetry: Telemetry | None = None, **options: object) -> httpx2.AsyncClient:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router)
    app.state.server = SimpleNamespace(
        options=ServerOptions.model_validate(options), keys=keys, telemetry=telemetry or Telemetry()
    )
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")


async def test_the_text_form_is_what_prometheus_parses(keys: KeyBook) -> None:
    telemetry = Telemetry()
    async for _ in ObservedRunner(ScriptedRunner(whole_run(answer())), telemetry).run(ask()):
        pass
    async with client(keys, telemetry) as http:
        reply = await http.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    assert families["kaelum:request_success"].samples[0].value == 1
    assert families["kaelum:num_requests_running"].type == "gauge"
    assert families["kaelum:e2e_request_latency_seconds"].type == "histogram"


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "application/openmetrics-text;version=x.y,text/plain;q=0.5",
        "application/openmetrics-text",
    ],
)
async def test_openmetrics_where_it_is_asked_for(keys: KeyBook, accept: str) -> None:
    async with client(keys) as http:
        reply = await http.get("/metrics", headers={"accept": accept})
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.text.endswith("# EOF\n")
    assert "kaelum:waves" in {family.name for family in open_metrics(reply.text)}


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain; version=zzz", "\"';,=", "text/html"])
async def test_anything_else_gets_the_text_form(keys: KeyBook, accept: str) -> None:
    async with client(keys) as http:
        reply = await http.get("/metrics", headers={"accept": accept})
    assert (reply.status_code, reply.headers["content-type"].split(";")[0]) == (200, "text/plain")


async def test_on_loopback_it_is_open_even_where_all_else_needs_a_key(keys: KeyBook) -> None:
    keys.add("one")
    async with client(keys, allow_anonymous=False) as http:
        assert (await http.get("/metrics")).status_code == 200


async def test_elsewhere_it_needs_a_key_unless_anonymous_requests_are_allowed(keys: KeyBook) -> None:
    key, _ = keys.add("one")
    async with client(keys, host="0.0.0.0") as http:
        refused = await http.get("/metrics")
        allowed = await http.get("/metrics", headers={"authorization": f"Bearer {key}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
    assert allowed.status_code == 200
    async with client(keys, host="0.0.0.0", allow_anonymous=True) as http:
        assert (await http.get("/metrics")).status_code == 200
