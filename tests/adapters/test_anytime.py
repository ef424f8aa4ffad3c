"""A search that may not go on gives the best answer it has: at the request's end, and when the server shuts down."""

from __future__ import annotations

import asyncio

import pytest

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.options import ServerOptions
from tests.adapters.tiny_server import client_of
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import cycle

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
