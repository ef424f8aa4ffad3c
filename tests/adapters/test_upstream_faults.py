"""What a client sees of a model server that fails: a clear error with the right status, never a hang, never a lie."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from kaelum_adapters.openai_api.app import create_app
from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.openai_server import OpenAIPolicyModel
from kaelum_graph.sandbox import ProcessSandbox
from tests.adapters.tiny_server import client_of
from tests.engine.fake_openai_server import MODEL, FakeServer

ASKED = [{"role": "user", "content": "say 5"}]
BUSY = (429, {"retry-after": "2"}, {"error": {"message": "slow down"}})
BROKEN = (500, {}, {"error": {"message": "it broke"}})
FAULTS: list[tuple[dict[str, Any], int, str]] = [
    ({"failures": [BUSY] * 12}, 429, "slow down"),
    ({"failures": [BROKEN] * 12}, 502, "it broke"),
    ({"cut_after_words": 2}, 502, "closed the connection"),
    ({"answer": ("application/json", b"{nonsense")}, 502, "malformed JSON"),
    ({"api_key": "other"}, 502, "wants an API key"),
]


@pytest.fixture
def upstream() -> Generator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def kaelum(upstream: FakeServer, tmp_path: Path, encoder: Encoder, sandbox: ProcessSandbox) -> Generator[Kaelum]:
    model = OpenAIPolicyModel(upstream.url, model=MODEL, backoff_seconds=0.01, stall_seconds=1.0)
    settings = Settings(data_dir=tmp_path / "data", cache=False)
    with model, Kaelum(settings, model=model, encoder=encoder, sandbox=sandbox) as made:
        yield made


@pytest.mark.parametrize("model", ["kaelum", "kaelum-direct"])
@pytest.mark.parametrize(("fault", "status", "said"), FAULTS, ids=["busy", "broken", "cut", "nonsense", "key"])
async def test_a_fault_is_told_with_its_status(
    kaelum: Kaelum, upstream: FakeServer, model: str, fault: dict[str, Any], status: int, said: str
) -> None:
    upstream.behave(**fault)
    app = create_app(kaelum)
    async with app.router.lifespan_context(app), client_of(app) as client:
        reply = await client.post("/v1/chat/completions", json={"model": model, "messages": ASKED})
        assert (reply.status_code, said in reply.json()["error"]["message"]) == (status, True), reply.text
        if status == 429:
            assert reply.headers["retry-after"] == "2"
        assert app.state.server.admission.running == 0


@pytest.mark.parametrize("model", ["kaelum", "kaelum-direct"])
async def test_a_short_fault_is_retried_and_nobody_notices(kaelum: Kaelum, upstream: FakeServer, model: str) -> None:
    upstream.behave(failures=[(503, {}, {"error": {"message": "starting"}})])
    app = create_app(kaelum)
    async with app.router.lifespan_context(app), client_of(app) as client:
        reply = await client.post("/v1/chat/completions", json={"model": model, "messages": ASKED})
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"][0]["message"]["content"]


async def test_a_stalled_server_does_not_hold_the_plain_model_for_ever(kaelum: Kaelum, upstream: FakeServer) -> None:
    upstream.behave(hang="after", hang_after_words=2)
    app = create_app(kaelum)
    async with app.router.lifespan_context(app), client_of(app) as client:
        reply = await client.post("/v1/chat/completions", json={"model": "kaelum-direct", "messages": ASKED})
        assert reply.status_code == 504 or "stopped answering" in reply.text, reply.text
