"""`/v1/embeddings` over the real MiniLM, by the openai client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from kaelum_adapters.openai_api.embeddings import BATCH_TEXTS, Embedder, TooLong
from kaelum_graph.encoder import Encoder
from kaelum_graph.types import Array
from tests.adapters.tiny_server import tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

MODEL = "all-MiniLM-L6-v2"


@pytest.fixture
def app(make_kaelum: MakeKaelum) -> FastAPI:
    app = tiny_app(make_kaelum(always("4")))
    app.state.server.readiness._load = lambda: None  # the encoder is the one part that is needed, and shared
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[AsyncOpenAI]:
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http,
        AsyncOpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0) as client,
    ):
        yield client


async def test_both_forms_are_the_encoders_own_numbers(client: AsyncOpenAI, encoder: Encoder) -> None:
    texts = ["a cat", "the stock market"]
    expected = encoder.encode(texts)
    plain = await client.embeddings.create(model=MODEL, input=texts)  # the client asks for base64
    floats = await client.embeddings.create(model=MODEL, input=texts, encoding_format="float", dimensions=384)
    for reply in (plain, floats):
        assert [one.index for one in reply.data] == [0, 1]
        np.testing.assert_allclose([one.embedding for one in reply.data], expected, atol=1e-6)
        assert reply.model == MODEL
        assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (5, 5)


async def test_one_text_and_another_spelling_of_the_model(client: AsyncOpenAI) -> None:
    reply = await client.embeddings.create(model="sentence-transformers/all-minilm-l6-v2", input="a cat")
    assert len(reply.data) == 1
    assert len(reply.data[0].embedding) == 384


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": ""}, "input", "empty"),
    ({"input": ["a", ""]}, "input.1", "empty"),
    ({"input": []}, "input", "empty list"),
    ({"input": [1, 2, 3]}, "input", "check_embedding_ctx_length=False"),
    ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
    ({"input": ["a", 1]}, "input", "a text or a list of texts"),
    ({"input": ["a"] * 2049}, "input", "2048"),
    ({"input": "a", "dimensions": 256}, "dimensions", "384"),
    ({"input": "a", "extra_body": {"colour": "red"}}, "colour", "unknown"),
    ({"input": "cat " * 251}, "input", "250 tokens"),
    ({"input": ["a", "cat " * 251]}, "input.1", "truncate"),
]


async def test_what_cannot_be_done_is_refused_by_name(client: AsyncOpenAI) -> None:
    for body, param, said in REFUSED:
        with pytest.raises(BadRequestError, match=said) as caught:
            await client.embeddings.create(model=MODEL, **body)
        assert caught.value.param == param


async def test_an_unknown_model_is_a_404(client: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError, match=MODEL) as caught:
        await client.embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"


async def test_a_long_text_is_read_at_both_ends_when_that_is_asked_for(client: AsyncOpenAI, encoder: Encoder) -> None:
    text = "cat " * 300 + "dog"
    reply = await client.embeddings.create(model=MODEL, input=text, extra_body={"truncate": True})
    np.testing.assert_allclose(reply.data[0].embedding, encoder.encode([text])[0], atol=1e-6)
    assert reply.usage.prompt_tokens == 250 + 64
    whole = await client.embeddings.create(model=MODEL, input="cat " * 250)
    assert whole.usage.prompt_tokens == 250


class SlowEncoder(Encoder):
    """Counts calls, holds each until it is let through, and gives a text's number as its embedding."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = threading.Semaphore(0)

    def encode(self, texts: Sequence[str]) -> Array:
        self.gate.acquire(timeout=10)
        self.calls.append(list(texts))
        if "broken" in texts:
            raise RuntimeError("the encoder broke")
        return np.array([[float(text)] for text in texts], dtype=np.float32)

    def tokens_read(self, texts: Sequence[str]) -> list[tuple[int, bool]]:
        return [(1, text != "long") for text in texts]


async def test_requests_that_wait_share_a_batch_and_a_long_one_holds_nobody_up() -> None:
    encoder = SlowEncoder()
    embedder = Embedder(lambda: encoder)
    many = asyncio.create_task(embedder.embed([str(number) for number in range(200)]))
    await asyncio.sleep(0.05)
    few = [asyncio.create_task(embedder.embed([str(number)])) for number in (1000, 1001)]
    await asyncio.sleep(0.05)
    for _ in range(2):
        encoder.gate.release()
    assert [made[0].vector[0] for made in await asyncio.gather(*few)] == [1000.0, 1001.0]
    assert not many.done()
    for _ in range(5):
        encoder.gate.release()
    assert [one.vector[0] for one in await many] == [float(number) for number in range(200)]
    assert len(encoder.calls) == 4
    assert len(encoder.calls[0]) == BATCH_TEXTS
    assert {"1000", "1001"} < set(encoder.calls[1])


async def test_a_request_that_left_is_dropped() -> None:
    encoder = SlowEncoder()
    embedder = Embedder(lambda: encoder)
    gone = asyncio.create_task(embedder.embed([str(number) for number in range(200)]))
    await asyncio.sleep(0.05)
    gone.cancel()
    stays = asyncio.create_task(embedder.embed(["7"]))
    await asyncio.sleep(0)
    for _ in range(3):
        encoder.gate.release()
    assert [one.vector[0] for one in await stays] == [7.0]
    assert [len(call) for call in encoder.calls] == [BATCH_TEXTS, 1]


async def test_a_text_that_is_too_long_fails_its_own_request_alone() -> None:
    encoder = SlowEncoder()
    embedder = Embedder(lambda: encoder)
    first = asyncio.create_task(embedder.embed(["0"]))
    await asyncio.sleep(0.05)
    long = asyncio.create_task(embedder.embed(["1", "2", "long", "3"]))
    other = asyncio.create_task(embedder.embed(["4"]))
    await asyncio.sleep(0.05)
    for _ in range(3):
        encoder.gate.release()
    with pytest.raises(TooLong) as caught:
        await long
    assert caught.value.place == 2
    assert (await other)[0].vector[0] == 4.0
    await first
    assert "long" not in [text for call in encoder.calls for text in call]


async def test_an_encoder_that_fails_fails_the_requests_of_its_batch_and_serves_the_next() -> None:
    encoder = SlowEncoder()
    embedder = Embedder(lambda: encoder)
    for _ in range(3):
        encoder.gate.release()
    with pytest.raises(RuntimeError, match="the encoder broke"):
        await embedder.embed(["broken"])
    assert (await embedder.embed(["5"]))[0].vector[0] == 5.0
