"""The MCP server on a socket: real HTTP, the official client, keys and whose answers are whose."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from kaelum_adapters.mcp_http import create_mcp_app, names_allowed
from kaelum_adapters.mcp_options import McpOptions
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import UsageError
from tests.adapters.mcp_hosts import Heard, connected, on_socket, text_of
from tests.adapters.rated_server import keep_episode
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always, cycle

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def posted(url: str, body: Any = HELLO, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one plain POST."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    accepted = {"content-type": "application/json", "accept": "application/json, text/event-stream", **named}
    request = urllib.request.Request(url, json.dumps(body).encode(), accepted)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()


def key_for(kaelum: Kaelum, name: str, **limits: Any) -> str:
    return KeyBook(kaelum.settings.data_dir).add(name, **limits)[0]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_question_over_http(make_kaelum: MakeKaelum, mode: str) -> None:
    heard = Heard()
    with on_socket(create_mcp_app(make_kaelum(always(BOXED)))) as url:
        async with connected(url, mode=mode) as client:
            result = await client.call_tool("reason", {"question": QUESTION}, progress_callback=heard)
            assert result.structured_content is not None
            rated = await client.call_tool(
                "feedback", {"id": result.structured_content["id"], "score": 1, "said_by": "user"}
            )
    assert result.structured_content["answer"] == "5"
    assert any(step[2].startswith("Rollouts") for step in heard.steps)
    assert rated.structured_content == {"id": result.structured_content["id"], "changed": True}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_cancelling_stops_the_search(make_kaelum: MakeKaelum, mode: str) -> None:
    texts = [f"The answer is \\boxed{{{number}}}" for number in range(500)]
    kaelum = make_kaelum(cycle(*texts), seconds=0.2, wave_size=4)
    model: Any = kaelum.services.model
    heard = Heard()
    with on_socket(create_mcp_app(kaelum)) as url:
        async with connected(url, mode=mode) as client:
            question = {"question": "What is it?", "effort": "max"}
            call = asyncio.create_task(client.call_tool("reason", question, progress_callback=heard))
            async with asyncio.timeout(30):
                while not any(step[2].startswith("Rollouts") for step in heard.steps):
                    await asyncio.sleep(0.02)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.sleep(1.0)
            drawn = model.drawn
            await asyncio.sleep(1.0)
            assert model.drawn == drawn
            assert drawn < 128


async def test_tenants_see_their_own_answers_alone(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    mine, theirs = key_for(kaelum, "mine", tenant="us"), key_for(kaelum, "theirs")
    episode = keep_episode(kaelum, tenant="us")
    rating = {"id": episode, "score": 0.9}
    with on_socket(create_mcp_app(kaelum)) as url:
        async with connected(url, authorization=f"Bearer {theirs}") as client:
            strange = await client.call_tool("feedback", rating)
        async with connected(url, x_api_key=mine) as client:
            own = await client.call_tool("feedback", rating)
    assert strange.is_error
    assert "no such episode" in text_of(strange)
    assert own.structured_content == {"id": episode, "changed": True}


def test_strangers_stay_outside(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    mine, theirs = key_for(kaelum, "mine"), key_for(kaelum, "theirs")
    with on_socket(create_mcp_app(kaelum)) as url:
        status, headers, body = posted(url)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert "An API key is needed" in body
        assert posted(url, authorization="Bearer kg-wrong")[0] == 401
        bearer = f"Bearer {mine}"
        assert posted(url, authorization=bearer, host="evil.example")[0] == 421
        assert posted(url, authorization=bearer, origin="http://evil.example")[0] == 403
        status, headers, _ = posted(url, authorization=bearer)
        assert status == 200
        session = headers["mcp-session-id"]
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        assert posted(url, listing, authorization=bearer, mcp_session_id=session)[0] == 200
        assert posted(url, listing, authorization=f"Bearer {theirs}", mcp_session_id=session)[0] == 404


def test_a_web_page_can_t_use_a_server_without_keys(make_kaelum: MakeKaelum) -> None:
    with on_socket(create_mcp_app(make_kaelum(always(BOXED)))) as url:
        assert posted(url)[0] == 200
        assert posted(url, origin="http://evil.example")[0] == 403
        assert posted(url, host="evil.example")[0] == 403


async def test_a_key_s_rate_holds_here_too(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    key = key_for(kaelum, "slow", tenant="us", requests_per_minute=1)
    episode = keep_episode(kaelum, tenant="us")
    with on_socket(create_mcp_app(kaelum)) as url:
        async with connected(url, authorization=f"Bearer {key}") as client:
            told = [await client.call_tool("report_outcome", {"id": episode, "score": 1}) for _ in range(2)]
    assert [result.is_error for result in told] == [False, True]
    assert text_of(told[1]) == "This key may make 1 requests a minute."


def test_names_are_said_where_the_address_says_none() -> None:
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 listens on every address: .* --allow-host"):
        names_allowed(McpOptions(host="0.0.0.0"))
    named = names_allowed(McpOptions(host="0.0.0.0", allow_host=("mcp.example.org",)))
    assert named.enable_dns_rebinding_protection
    assert {"mcp.example.org", "mcp.example.org:*", "127.0.0.1:*"} <= set(named.allowed_hosts)
    assert "https://mcp.example.org" in named.allowed_origins
    assert "[fd00::1]:*" in names_allowed(McpOptions(host="fd00::1")).allowed_hosts


def test_no_door_is_opened_without_a_key(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    with pytest.raises(UsageError, match="opens the server to other machines"):
        create_mcp_app(kaelum, McpOptions(host="192.0.2.1"))
    key_for(kaelum, "agent")
    create_mcp_app(kaelum, McpOptions(host="192.0.2.1"))
