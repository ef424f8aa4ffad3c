"""Errors, ids, limits, access and the API page of the server, around the smallest route there could be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, BadRequestError, RateLimitError

from kaelum_adapters.openai_api.body_limits import sound_json
from kaelum_adapters.openai_api.errors import ApiError, as_api_error, error_body
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_adapters.openai_api.options import ServerOptions, check_access
from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import (
    ContextOverflow,
    KaelumError,
    StorageError,
    UnknownEpisode,
    UpstreamError,
    UsageError,
    WeightsError,
)
from kaelum_graph.sandbox import ProcessSandbox
from tests.adapters.tiny_server import client_of, tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


@pytest.fixture
def app(kaelum: Kaelum) -> FastAPI:
    return tiny_app(kaelum)


async def post(app: FastAPI, content: bytes | str, *, path: str = "/v1/work", **headers: str) -> httpx2.Response:
    sent = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    async with client_of(app) as client:
        return await client.post(path, content=content, headers=sent)


def assert_error(response: httpx2.Response, status: int, *, code: str | None, param: str | None = None) -> str:
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    return error["message"]


async def test_an_answer_bears_an_id_of_its_own_and_gives_the_clients_back(app: FastAPI) -> None:
    first = await post(app, "{}", x_request_id="mine-1")
    second = await post(app, "{}", x_client_request_id="mine 2")
    assert first.status_code == 200
    assert first.headers["x-client-request-id"] == "mine-1"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["openai-processing-ms"]) >= 0
    assert "x-client-request-id" not in second.headers, "a blank is not echoed"
    assert "access-control-allow-origin" not in first.headers


async def test_a_bad_body_is_a_400_that_names_the_place(app: FastAPI) -> None:
    response = await post(app, json.dumps({"messages": [{"content": "x"}], "seconds": "soon"}))
    assert_error(response, 400, code="invalid_type", param="seconds")
    response = await post(app, json.dumps({"messages": [{"content": "x"}]}))
    message = assert_error(response, 400, code="missing_required_parameter", param="messages.0.role")
    assert "messages.0.role" in message
    response = await post(app, json.dumps({"temperature": "the secret"}))
    message = assert_error(response, 400, code="unknown_parameter", param="temperature")
    assert "secret" not in message
    assert response.headers["x-should-retry"] == "false"
    assert_error(await post(app, "{nonsense"), 400, code="invalid_json")
    assert_error(await post(app, ""), 400, code="missing_required_parameter")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"messages": "\xff"}', "invalid_json"),
        ("{}".encode("utf-16"), "invalid_json"),
        (b"[" * 65 + b"]" * 65, "nesting_too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nesting_too_deep"),
        (b'{"seconds": NaN}', "invalid_json"),
        (b'{"seconds": -Infinity}', "invalid_json"),
        (b'{"seconds": ' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"seconds": 1e999}', "invalid_json"),
        (b'{"seconds": -17.5E+0309}', "invalid_json"),
    ],
)
async def test_what_is_no_sound_json_is_refused(app: FastAPI, body: bytes, code: str | None) -> None:
    assert_error(await post(app, body), 400, code=code)


async def test_texts_may_hold_brackets_words_and_broken_characters(app: FastAPI) -> None:
    said = ["[" * 500 + '"\\"{', "NaN", "a\0b", "\\\\ud800", "\N{GRINNING FACE}"]
    body = json.dumps({"messages": [{"role": "user", "content": text} for text in said]})
    broken = body[:-2] + r', {"role": "user", "content": "\ud83d \\ud800 \uDE00\ud83d\ude00"}]}'
    response = await post(app, broken)
    assert response.status_code == 200, response.text
    assert response.json()["said"] == [*said, "\ufffd \\ud800 \ufffd\N{GRINNING FACE}"]


@pytest.mark.parametrize("number", ["0e999", "1e-999", "1.5e+003", "0.0000001", "1" * 300])
async def test_numbers_that_a_float_holds_pass(app: FastAPI, number: str) -> None:
    response = await post(app, f'{{"fail": "", "events": 1, "messages": [{{"role": {number}}}]}}')
    assert_error(response, 400, code="invalid_type", param="messages.0.role")


def test_looking_for_numbers_that_are_too_large_takes_no_longer_than_reading() -> None:
    began = time.perf_counter()
    for body in (b"1" * 2**21, b"1." * 2**20, (b"1" * 308 + b" ") * 2**12, b"1e" * 2**20):
        with contextlib.suppress(ApiError):
            sound_json(body, max_depth=64)
    assert time.perf_counter() - began < 5


async def test_a_host_or_an_origin_that_is_no_address_is_a_strangers(app: FastAPI) -> None:
    assert_error(await post(app, "{}", host="["), 403, code="strange_host")
    assert_error(await post(app, "{}", origin="http://["), 403, code="cross_origin")


async def test_json_needs_no_content_type(app: FastAPI) -> None:
    response = await post(app, '{"events": 1}', content_type="text/plain")
    assert response.status_code == 200


async def test_a_body_too_long_is_refused_by_its_length_or_on_the_way(kaelum: Kaelum) -> None:
    app = tiny_app(kaelum, max_body_bytes=2000)
    response = await post(app, b" " * 2001)
    assert_error(response, 413, code="request_too_large")
    assert response.headers["connection"] == "close"

    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(300):
            yield b" " * 100

    async with client_of(app) as client:
        response = await client.post("/v1/work", content=pieces())
    assert_error(response, 413, code="request_too_large")
    assert (await post(app, b'{"fail": "' + b"x" * 1900 + b'"}')).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for(kaelum: Kaelum) -> None:
    app = tiny_app(kaelum, body_seconds=0.05)

    async def slow() -> AsyncGenerator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async with client_of(app) as client:
        response = await client.post("/v1/work", content=slow())
    assert_error(response, 408, code="request_timeout")


async def test_unknown_addresses_and_methods(app: FastAPI) -> None:
    async with client_of(app) as client:
        message = assert_error(await client.get("/v1/nothing"), 404, code="unknown_url")
        assert message == "Unknown address: GET /v1/nothing"
        response = await client.get("/v1/work")
        assert_error(response, 405, code="method_not_allowed")
        assert response.headers["allow"] == "POST"


async def test_a_bug_tells_the_log_and_not_the_client(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "kaelum.server"):
        response = await post(app, '{"fail": "bug"}', authorization="Bearer sk-hush")
    assert assert_error(response, 500, code="internal_error") == "internal error"
    assert "secret-in-a-bug" in caplog.text
    assert response.headers["x-request-id"] in caplog.text
    assert "sk-hush" not in caplog.text


async def test_a_stream_that_fails_ends_with_an_error_event(app: FastAPI) -> None:
    for how, status in (("bug", "internal_error"), ("overflow", "context_length_exceeded")):
        response = await post(app, json.dumps({"fail": how}), path="/v1/stream")
        assert response.status_code == 200
        assert response.headers["x-request-id"].startswith("req_")
        *_, last = [line for line in response.text.splitlines() if line.startswith("data:")]
        assert json.loads(last.removeprefix("data:"))["error"]["code"] == status
        assert response.text.endswith("\n\n")


async def test_the_openai_client_understands_the_errors(app: FastAPI, kaelum: Kaelum) -> None:
    async with client_of(app) as http:
        client = AsyncOpenAI(base_url="http://localhost/v1", api_key="x", http_client=http, max_retries=0)
        with pytest.raises(BadRequestError) as raised:
            await client.post("/work", body={"fail": "overflow"}, cast_to=object)
    assert raised.value.code == "context_length_exceeded"
    assert raised.value.request_id is not None
    limited = tiny_app(kaelum, requests_per_minute=1)
    async with client_of(limited) as http:
        client = AsyncOpenAI(base_url="http://localhost/v1", api_key="x", http_client=http, max_retries=0)
        await client.post("/work", body={}, cast_to=object)
        with pytest.raises(RateLimitError) as limited_error:
            await client.post("/work", body={}, cast_to=object)
    assert 1 <= int(limited_error.value.response.headers["retry-after"]) <= 60


class Refused(Exception):
    """Stands for the upstream client's error."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        self.response = httpx2.Response(status_code, headers={"retry-after": "7"})


def upstream(line: str, cause: Exception | None = None) -> UpstreamError:
    error = UpstreamError(line)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (ContextOverflow(limit_tokens=1, prompt_tokens=2), 400, "context_length_exceeded", "false"),
        (UnknownEpisode("no such episode"), 404, "not_found", "false"),
        (UsageError("bad"), 400, "invalid_value", "false"),
        (WeightsError("no weights"), 503, "model_unavailable", "true"),
        (StorageError("disk full"), 507, "storage_error", "false"),
        (KaelumError("broken"), 500, "internal_error", "true"),
        (upstream("refused"), 502, "upstream_error", "true"),
        (upstream("wants a key", Refused(401)), 502, "upstream_error", "false"),
        (upstream("busy", Refused(429)), 429, "upstream_rate_limited", "true"),
        (upstream("down", Refused(503)), 503, "upstream_unavailable", "true"),
        (upstream("won't", Refused(422)), 400, "upstream_refused", "false"),
        (upstream("slow", TimeoutError()), 504, "upstream_timeout", "true"),
        (RuntimeError("/secret/path"), 500, "internal_error", "true"),
    ],
)
def test_each_failure_has_its_status(error: Exception, status: int, code: str, retry: str) -> None:
    told = as_api_error(error)
    assert (told.status, told.code, told.headers["x-should-retry"]) == (status, code, retry)
    if isinstance(error, KaelumError):
        assert told.message == str(error)
    else:
        assert told.message == "internal error"
    if isinstance(error.__cause__, Refused) and status in (429, 503):
        assert told.headers["retry-after"] == "7"


def test_an_error_can_always_be_sent() -> None:
    json.dumps(error_body(ApiError(400, "\ud800"))).encode()
    assert error_body(ApiError(400, "\ud800"))["error"]["message"].encode()
    assert ApiError(401, "x").type == "authentication_error"
    assert ApiError(500, "x").type == "server_error"


# Access


async def test_without_keys_loopback_serves_everybody(app: FastAPI) -> None:
    response = await post(app, "{}", authorization="Bearer not-needed")
    assert response.json()["tenant"] == ""
    assert_error(await post(app, "{}", authorization="Bearer kg-unknown"), 401, code="invalid_api_key")


async def test_the_first_key_closes_the_open_door(
    app: FastAPI, kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaelum_adapters.openai_api.keys.FRESH_SECONDS", 0.0)
    book = KeyBook(kaelum.settings.data_dir)
    key, record = book.add("agent", tenant="team")
    response = await post(app, "{}")
    assert_error(response, 401, code="missing_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-should-retry"] == "false"
    assert_error(await post(app, "{}", authorization="Bearer sk-other"), 401, code="invalid_api_key")
    assert (await post(app, "{}", authorization=f"Bearer {key}")).json()["tenant"] == "team"
    assert (await post(app, "{}", x_api_key=key)).json()["tenant"] == "team"
    assert_error(await post(app, "{}", authorization=f"Bearer {key[:-1]}"), 401, code="invalid_api_key")
    book.revoke(record.name)
    assert_error(await post(app, "{}", x_api_key=key), 401, code="invalid_api_key")
    assert_error(await post(app, "{}"), 401, code="missing_api_key")
    async with client_of(app) as client:
        assert (await client.get("/health")).status_code == 200


async def test_anonymous_access_may_be_kept_beside_keys(kaelum: Kaelum) -> None:
    KeyBook(kaelum.settings.data_dir).add("agent")
    app = tiny_app(kaelum, allow_anonymous=True)
    assert (await post(app, "{}")).status_code == 200
    assert_error(await post(app, "{}", authorization="Bearer kg-bad"), 401, code="invalid_api_key")


async def test_a_web_page_of_another_site_needs_a_key(app: FastAPI, kaelum: Kaelum) -> None:
    assert_error(await post(app, "{}", origin="https://evil.example"), 403, code="cross_origin")
    assert_error(await post(app, "{}", origin="null"), 403, code="cross_origin")
    assert (await post(app, "{}", origin="http://localhost")).status_code == 200
    assert_error(await post(app, "{}", host="evil.example:8000"), 403, code="strange_host")
    for local in ("127.0.0.1:8000", "[::1]:8000", "localhost", "kaelum.localhost"):
        assert (await post(app, "{}", host=local)).status_code == 200


def test_other_machines_need_a_key_or_a_word() -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 opens the server to other machines"):
        check_access(ServerOptions(host="0.0.0.0"), has_keys=False)
    check_access(ServerOptions(host="0.0.0.0"), has_keys=True)
    check_access(ServerOptions(host="0.0.0.0", allow_anonymous=True), has_keys=False)
    for loopback in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        check_access(ServerOptions(host=loopback), has_keys=False)
    with pytest.raises(UsageError, match="a key is needed"):
        check_access(ServerOptions(allow_anonymous=False), has_keys=False)


# Readiness and the API page


async def test_ready_once_the_model_is_loaded(app: FastAPI) -> None:
    async with client_of(app) as client:
        assert_error(await client.get("/ready"), 503, code="model_loading")
        assert (await client.get("/health")).json() == {"status": "ok"}
        async with app.router.lifespan_context(app):
            await app.state.server.readiness.ended()
            assert (await client.get("/ready")).json() == {"status": "ready", "running": 0, "waiting": 0}


async def test_requests_wait_for_the_model_and_hear_when_there_is_none(
    tmp_path: Path, encoder: Encoder, sandbox: ProcessSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path / "data", model="no-such-model", hub="off")
    kaelum = Kaelum(settings, encoder=encoder, sandbox=sandbox)
    app = tiny_app(kaelum)
    async with app.router.lifespan_context(app), client_of(app) as client:
        response = await client.post("/v1/work", json={})
        assert_error(response, 503, code="model_unavailable")
        assert response.headers["retry-after"]
        message = assert_error(await client.get("/ready"), 503, code="model_unavailable")
        assert "no-such-model" in message
        assert "no-such-model" in caplog.text
        assert (await client.get("/health")).status_code == 200
    kaelum.close()


async def test_the_api_page_documents_every_error_and_needs_nothing_else(app: FastAPI) -> None:
    async with client_of(app) as client:
        page = (await client.get("/openapi.json")).json()
        docs = await client.get("/docs")
    for operations in page["paths"].values():
        for operation in operations.values():
            assert {"400", "401", "404", "413", "429", "500", "503"} <= set(operation["responses"])
            assert "422" not in operation["responses"]
    assert page["components"]["schemas"]["ErrorBody"]
    assert "HTTPValidationError" not in json.dumps(page)
    assert "POST /v1/work" in docs.text
    assert "messages" in docs.text
    assert "http://" not in docs.text
    assert "https://" not in docs.text


async def test_the_request_log_names_the_route_and_no_secret(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kaelum.server"):
        response = await post(app, '{"messages": [{"role": "user", "content": "hush"}]}', authorization="Bearer sk-x")
    assert response.status_code == 200
    assert "route=/v1/work" in caplog.text
    assert response.headers["x-request-id"] in caplog.text
    assert "hush" not in caplog.text
    assert "sk-x" not in caplog.text
