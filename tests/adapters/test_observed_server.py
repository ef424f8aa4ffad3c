"""The whole server watched from outside: its metrics and its log after a few requests."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx2
import pytest

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_flow.facade import Kaelum
from tests.adapters.scripted_runner import QUESTION, ScriptedRunner, answer, whole_run
from tests.adapters.test_telemetry import Series, parsed, value
from tests.graphs.conftest import MakeKaelum


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(lambda request, k: "\\boxed{4}")


def client(kaelum: Kaelum, **options: Any) -> httpx2.AsyncClient:
    runner = ScriptedRunner(whole_run(answer()))
    app = create_app(kaelum, ServerOptions.model_validate(options), runner=runner)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")


async def metrics_of(http: httpx2.AsyncClient) -> Series:
    return parsed((await http.get("/metrics")).text)


def lines_of(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in log.records if record.getMessage().startswith('{"time"')]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_shows_in_metrics_and_log(
    kaelum: Kaelum, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    key, record = KeyBook(kaelum.settings.data_dir).add("laptop")
    caplog.set_level(logging.INFO, logger="kaelum.server")
    async with client(kaelum, log_format="json") as http:
        body = {"model": "kaelum", "input": QUESTION, "stream": stream}
        reply = await http.post("/v1/responses?x=hidden", json=body, headers={"authorization": f"Bearer {key}"})
        assert reply.status_code == 200
        refused = await http.post("/v1/responses", json=body)
        await http.get("/nowhere")
        await http.get("/health")
        seen = await metrics_of(http)
    answered, turned_away, lost = lines_of(caplog)  # and none for /health and /metrics
    assert answered["request_id"] == reply.headers["x-request-id"]
    assert (answered["route"], answered["status"], answered["outcome"]) == ("/v1/responses", 200, "complete")
    assert (answered["key_id"], answered["model"], answered["episode"]) == (record.id, "kaelum", "ep-1")
    assert (answered["finish"], answered["completion_tokens"], answered["bytes"]) == ("stop", 60, len(reply.content))
    assert (turned_away["status"], refused.status_code) == (401, 401)
    assert "key_id" not in turned_away
    assert lost["route"] == "unmatched"
    for secret in (key, "secret question", "hidden", "nowhere", "laptop"):
        assert secret not in caplog.text
    assert value(seen, "request_success_total", model_name="kaelum", finished_reason="stop") == 1
    for method, route, status in (
        ("POST", "/v1/responses", "200"),
        ("POST", "/v1/responses", "401"),
        ("GET", "unmatched", "404"),
        ("GET", "/health", "200"),
    ):
        assert value(seen, "http_requests_total", method=method, route=route, status=status) == 1
    assert value(seen, "num_requests_running") == value(seen, "num_requests_waiting") == 0
    assert value(seen, "store_readable") == 1


async def test_the_waiting_are_those_of_the_queue(kaelum: Kaelum) -> None:
    async with client(kaelum) as http:
        app: Any = http._transport.app  # pyright: ignore
        app.state.server.admission.waiting = 3
        assert value(await metrics_of(http), "num_requests_waiting") == 3
