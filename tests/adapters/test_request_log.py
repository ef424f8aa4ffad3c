"""One line a request: what is in it, what never is, and what becomes of streams and clients that leave."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaelum_adapters.openai_api.callers import CALLER
from kaelum_adapters.openai_api.exchange import Caller, Piece
from kaelum_adapters.openai_api.request_id import RequestIds
from kaelum_adapters.openai_api.request_log import NotedRunner, RequestLog, as_line
from kaelum_adapters.openai_api.telemetry import Telemetry
from tests.adapters.scripted_runner import QUESTION, ScriptedRunner, answer, ask, started, whole_run
from tests.adapters.test_telemetry import scrape, value

KEY = "kg-very-secret"


def make_app(runner: ScriptedRunner, **options: Any) -> ASGIApp:
    """A server of two routes with the log around it, as the real one has it."""
    app, noted = FastAPI(), NotedRunner(runner)

    @app.post("/v1/answers/{name}")
    async def answers(name: str, request: Request) -> StreamingResponse:
        request.scope[CALLER] = Caller(tenant="acme", key_id="key_1")

        async def body() -> AsyncGenerator[str]:
            async for event in noted.run(ask()):
                if isinstance(event, Piece):
                    yield event.text

        return StreamingResponse(body())

    @app.get("/fails")
    async def fails() -> Response:
        raise ValueError("a bug")

    return RequestIds(RequestLog(app, **options))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="kaelum.server")
    return caplog


def client(app: ASGIApp) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost")


def only(log: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The one line of the server's log, as JSON."""
    (line,) = [record.getMessage() for record in log.records if record.name == "kaelum.server"]
    assert "\n" not in line
    return json.loads(line)


async def test_a_stream_is_logged_at_its_end_with_what_it_cost(log: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    app = make_app(ScriptedRunner([started(), 0.05, *whole_run(answer())[2:]]), form="json", telemetry=telemetry)
    async with client(app) as http:
        reply = await http.post(
            "/v1/answers/some%0Aname?token=hidden", json={"q": QUESTION}, headers={"authorization": f"Bearer {KEY}"}
        )
    line = only(log)
    assert reply.text == "4"
    assert line["request_id"] == reply.headers["x-request-id"]
    assert line.pop("ms") >= 50
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "request_id": reply.headers["x-request-id"],
        "method": "POST",
        "route": "/v1/answers/{name}",
        "status": 200,
        "outcome": "complete",
        "bytes": 1,
        "key_id": "key_1",
        "model": "kaelum",
        "episode": "ep-1",
        "finish": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 60,
    }
    for secret in (KEY, "hidden", "some", QUESTION, "acme"):
        assert secret not in json.dumps(line)
    series = scrape(telemetry)
    assert value(series, "http_requests_total", method="POST", route="/v1/answers/{name}", status="200") == 1
    assert (value(series, "http_request_seconds_sum", route="/v1/answers/{name}") or 0) >= 0.05


async def test_a_path_without_a_route_is_not_written_down(log: pytest.LogCaptureFixture) -> None:
    async with client(make_app(ScriptedRunner([]), form="json")) as http:
        await http.get("/etc/passwd%0Afake=line")
    line = only(log)
    assert (line["route"], line["status"]) == ("unmatched", 404)
    assert "model" not in line
    assert "passwd" not in json.dumps(line)


async def test_a_crash_is_an_error_line(log: pytest.LogCaptureFixture) -> None:
    async with client(make_app(ScriptedRunner([]), form="json")) as http:
        reply = await http.get("/fails")
    line = only(log)
    assert (reply.status_code, line["status"]) == (500, 500)


async def test_a_stream_cut_off_by_an_error_says_so(log: pytest.LogCaptureFixture) -> None:
    script = [started(), Piece(text="4"), ValueError("a bug")]
    async with client(make_app(ScriptedRunner(script), form="json")) as http:
        await http.post("/v1/answers/x")
    line = only(log)
    assert (line["status"], line["outcome"], line["bytes"]) == (200, "error", 1)
    assert "finish" not in line


async def test_a_client_that_leaves_is_told_apart(log: pytest.LogCaptureFixture) -> None:
    runner = ScriptedRunner([started(), Piece(text="4"), 30.0])
    telemetry = Telemetry()
    app = make_app(runner, form="json", telemetry=telemetry)
    gone = asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message.get("body") == b"4":
            gone.set()

    await app(scope_of("POST", "/v1/answers/x"), receive, send)
    line = only(log)
    assert (line["status"], line["outcome"], line["bytes"]) == (200, "disconnected", 1)
    assert line["episode"] == "ep-1"
    assert line["ms"] < 5000
    assert runner.closed


async def test_a_client_that_leaves_before_any_answer_is_499(log: pytest.LogCaptureFixture) -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    await RequestLog(never, form="json")(scope_of("POST", "/v1/answers/x"), receive, send)
    line = only(log)
    assert (line["status"], line["outcome"], line["request_id"]) == (499, "disconnected", "-")


async def test_requests_at_the_same_time_keep_their_notes_apart(log: pytest.LogCaptureFixture) -> None:
    app = make_app(ScriptedRunner([started(), 0.05, *whole_run()[2:]]), form="json")
    async with client(app) as http:
        await asyncio.gather(http.post("/v1/answers/x"), http.get("/nowhere"), http.post("/v1/answers/y"))
    seen = [json.loads(record.getMessage()) for record in log.records if record.name == "kaelum.server"]
    assert sorted((line["route"], line.get("episode", "")) for line in seen) == [
        ("/v1/answers/{name}", "ep-1"),
        ("/v1/answers/{name}", "ep-1"),
        ("unmatched", ""),
    ]


def test_text_lines_quote_what_could_mislead() -> None:
    fields = {
        "a": "plain",
        "b": None,
        "c": "two words",
        "d": 'x" y="z',
        "e": "line\nfake=1",
        "f": "",
        "g": 1.5,
        "h": "é",
    }
    line = as_line(fields, "text")
    assert line == r'a=plain c="two words" d="x\" y=\"z" e="line\nfake=1" f="" g=1.5 h="\u00e9"'
    assert json.loads(as_line(fields, "json"))["e"] == "line\nfake=1"
    assert "\n" not in as_line(fields, "json")


def scope_of(method: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 5000),
    }
