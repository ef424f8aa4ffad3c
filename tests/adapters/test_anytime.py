"""A search that may not go on gives the best answer it has: at the request's end, and when the server shuts down."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_graph.models.base import Generation, Sample
from tests.adapters.responses_client import Player, last_said, server_app
from tests.adapters.tiny_server import client_of
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always, cycle

NEVER_AGREED = cycle(*(f"It is <answer>{number}</answer>" for number in range(50)))
QUESTION = {
    "model": "kaelum-analysis",
    "messages": [{"role": "user", "content": "What would be the best name for a red boat, and why?"}],
    "kaelum": {"sims": 200, "cache": False},
}


async def test_a_shutdown_ends_a_search_with_its_best_answer(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaelum_adapters.openai_api.drain.HURRY_SHARE", 0.95)
    kaelum = make_kaelum(NEVER_AGREED, seconds=0.4, wave_size=4)
    app = create_app(kaelum, ServerOptions(drain_seconds=10))
    drain = app.state.server.drain
    async with client_of(app) as client:
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=QUESTION))
        while not kaelum.services.model.calls:  # pyright: ignore[reportAttributeAccessIssue]
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        await asyncio.wait_for(drain.run(), 10)
        answer = await asking
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["choices"][0]["message"]["content"].strip()
    assert told["kaelum"]["stop_reason"] == "cancelled"
    assert told["kaelum"]["cost"]["rollouts"] < 200


async def test_a_search_ends_with_its_request(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(NEVER_AGREED, seconds=0.4, wave_size=4)
    app = create_app(kaelum, ServerOptions(request_deadline=3.0))
    async with client_of(app) as client:
        answer = await client.post("/v1/chat/completions", json=QUESTION)
    assert answer.status_code == 200, answer.text
    assert answer.json()["kaelum"]["stop_reason"] == "deadline"
    assert answer.json()["choices"][0]["message"]["content"].strip()


async def test_a_search_ends_before_its_client_hangs_up_and_is_not_cached(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("It is <answer>Ruby</answer>"), seconds=0.1, wave_size=2)
    question = {**QUESTION, "kaelum": {"sims": 100, "early_stop": False}}
    waits = {"x-stainless-read-timeout": "1.5"}
    async with client_of(create_app(kaelum)) as client:
        for _ in range(2):
            answer = await client.post("/v1/chat/completions", json=question, headers=waits)
            assert answer.status_code == 200, answer.text
            assert answer.json()["kaelum"]["stop_reason"] == "deadline"
            assert answer.json()["kaelum"]["cache"] == "miss"
            assert answer.json()["kaelum"]["cost"]["rollouts"] < 100


async def test_streams_are_not_hurried_by_how_long_their_clients_wait_for_a_byte(make_kaelum: MakeKaelum) -> None:
    player = Player(last_said)
    waits = {"x-stainless-read-timeout": "1.5"}
    async with client_of(server_app(make_kaelum(always("4")), player)) as client:
        for address, said in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
            ("/v1/responses", {"input": "hi"}),
        ):
            for stream in (False, True):
                body = {"model": "kaelum", "stream": stream, **said}
                assert (await client.post(address, json=body, headers=waits)).status_code == 200
    assert [ask.patience for ask in player.asks] == [1.5, None, 1.5, None]


async def test_the_plain_model_gives_what_it_has_at_the_requests_end(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("4"))
    said, deadlines = ["Once upon a"], []

    async def until(requests: Any, *, deadline: float, **_: Any) -> list[Generation]:
        deadlines.append(deadline - time.monotonic())
        sample = Sample(text=said[0], finish="deadline", completion_tokens=3)
        return [Generation(request_id=one.request_id, samples=(sample,)) for one in requests]

    kaelum.services.model.agenerate = until  # pyright: ignore[reportAttributeAccessIssue]
    question = {"model": "kaelum-direct", "messages": [{"role": "user", "content": "Tell me a tale."}]}
    async with client_of(create_app(kaelum, ServerOptions(request_deadline=3.0))) as client:
        answer = await client.post("/v1/chat/completions", json=question)
        choice = answer.json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Once upon a", "length")
        await client.post("/v1/chat/completions", json={**question, "kaelum": {"deadline_ms": 500}})
        said[0] = ""
        assert (await client.post("/v1/chat/completions", json=question)).status_code == 504
    assert all(0 < seconds <= most for seconds, most in zip(deadlines, (2.0, 0.5, 2.0), strict=True))
