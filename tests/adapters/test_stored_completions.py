"""Stored completions and `metadata.rating`, by the openai client."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletion

from kaelum_adapters.openai_api.completion_store import CompletionStore
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_flow.facade import Kaelum
from kaelum_graph.storage import STORE_FILE
from kaelum_graph.types import Json
from tests.adapters.rated_server import keep_episode
from tests.adapters.tiny_server import tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

ME = Caller()


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


@pytest.fixture
def app(kaelum: Kaelum) -> FastAPI:
    return tiny_app(kaelum)


@pytest.fixture
async def client(app: FastAPI) -> AsyncGenerator[AsyncOpenAI]:
    async with client_with(app, "none") as client:
        yield client


def client_with(app: FastAPI, key: str) -> AsyncOpenAI:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    return AsyncOpenAI(base_url="http://localhost/v1", api_key=key, http_client=http, max_retries=0)


@pytest.fixture
def store(app: FastAPI) -> CompletionStore:
    return app.state.server.completions


def reply_of(episode: str, *, model: str = "kaelum") -> Json:
    message = {"role": "assistant", "content": "It is 4.", "refusal": None}
    return {
        "id": f"chatcmpl-{episode}",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "kaelum": {"id": episode},
    }


def body_of(**more: Any) -> Json:
    return {
        "model": "kaelum",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}]},
        ],
        "temperature": 0.5,
        "store": True,
        **more,
    }


async def test_a_completion_asked_for_with_store_can_be_had_again(client: AsyncOpenAI, app: FastAPI) -> None:
    made = await client.chat.completions.create(
        model="kaelum-direct", messages=[{"role": "user", "content": "hi"}], store=True, metadata={"app": "test"}
    )
    again = await client.chat.completions.retrieve(made.id)
    assert again.choices[0].message.content == made.choices[0].message.content == "hi"
    assert again.metadata == {"app": "test"}
    await client.chat.completions.create(model="kaelum-direct", messages=[{"role": "user", "content": "unkept"}])
    assert [one.id async for one in client.chat.completions.list()] == [made.id]


async def test_it_is_told_with_what_was_asked(client: AsyncOpenAI, store: CompletionStore) -> None:
    store.save(ME, body_of(user="anna", authorization="Bearer kg-secret"), reply_of("a"))
    kept = await client.chat.completions.retrieve("chatcmpl-a")
    assert isinstance(kept, ChatCompletion)
    assert kept.model_extra is not None
    assert kept.model_extra["temperature"] == 0.5
    assert kept.model_extra["top_p"] is None
    assert kept.model_extra["input_user"] == "anna"
    assert kept.model_extra["kaelum"] == {"id": "a"}
    messages = (await client.chat.completions.messages.list("chatcmpl-a")).data
    assert [(one.id, one.role, one.content) for one in messages] == [
        ("chatcmpl-a-0", "system", "Be brief."),
        ("chatcmpl-a-1", "user", None),
    ]
    assert messages[1].content_parts is not None
    assert messages[1].content_parts[0].text == "What is 2 + 2?"  # pyright: ignore[reportAttributeAccessIssue]
    assert b"kg-secret" not in b"".join(path.read_bytes() for path in store._file.path.parent.glob(f"{STORE_FILE}*"))


async def test_lists_come_in_pages_that_survive_deletion(client: AsyncOpenAI, store: CompletionStore) -> None:
    for number in range(7):
        store.save(ME, body_of(), reply_of(str(number)))
    names = [f"chatcmpl-{number}" for number in range(7)]
    assert [one.id async for one in client.chat.completions.list(limit=3)] == names
    assert [one.id async for one in client.chat.completions.list(limit=3, order="desc")] == names[::-1]
    page = await client.chat.completions.list(limit=3)
    raw = await client.chat.completions.with_raw_response.list(limit=3, after=names[2])
    body: Any = raw.http_response.json()
    assert (body["object"], body["first_id"], body["last_id"], body["has_more"]) == ("list", names[3], names[5], True)
    for one in page.data:
        gone = await client.chat.completions.delete(one.id)
        assert (gone.id, gone.deleted, gone.object) == (one.id, True, "chat.completion.deleted")
    assert [one.id for one in (await page.get_next_page()).data] == names[3:6]
    with pytest.raises(NotFoundError):
        await client.chat.completions.retrieve(names[0])
    with pytest.raises(NotFoundError):
        await client.chat.completions.delete(names[0])
    with pytest.raises(BadRequestError) as caught:
        await client.chat.completions.list(after="chatcmpl-unknown")
    assert caught.value.param == "after"


async def test_lists_can_be_picked_from_by_model_and_metadata(client: AsyncOpenAI, store: CompletionStore) -> None:
    store.save(ME, body_of(metadata={"app": "a", "run": "1"}), reply_of("1"))
    store.save(ME, body_of(metadata={"app": "a", "run": "2"}), reply_of("2", model="kaelum-math"))
    store.save(ME, body_of(), reply_of("3"))

    async def found(**chosen: Any) -> list[str]:
        return [one.id.removeprefix("chatcmpl-") async for one in client.chat.completions.list(**chosen)]

    assert await found(metadata={"app": "a"}) == ["1", "2"]
    assert await found(metadata={"app": "a", "run": "2"}) == ["2"]
    assert await found(metadata={"app": "b"}) == []
    assert await found(metadata={"a' OR 1=1 --": "x"}) == []
    assert await found(model="kaelum-math") == ["2"]
    with pytest.raises(BadRequestError, match="colour"):
        await client.chat.completions.list(extra_query={"colour": "red"})


async def test_messages_come_in_pages(client: AsyncOpenAI, store: CompletionStore) -> None:
    turns = [{"role": "user", "content": str(number)} for number in range(5)]
    store.save(ME, body_of(messages=turns), reply_of("a"))
    listing = client.chat.completions.messages.list
    assert [one.content async for one in listing("chatcmpl-a", limit=2)] == list("01234")
    assert [one.content async for one in listing("chatcmpl-a", limit=2, order="desc")] == list("43210")
    with pytest.raises(BadRequestError):
        await listing("chatcmpl-a", after="chatcmpl-a-9")
    with pytest.raises(NotFoundError):
        await listing("chatcmpl-b")


async def test_metadata_is_replaced(client: AsyncOpenAI, store: CompletionStore) -> None:
    store.save(ME, body_of(metadata={"app": "a"}), reply_of("a"))
    updated = await client.chat.completions.update("chatcmpl-a", metadata={"reviewed": "yes"})
    assert updated.metadata == {"reviewed": "yes"}
    assert [one.id async for one in client.chat.completions.list(metadata={"reviewed": "yes"})] == ["chatcmpl-a"]
    cleared = await client.chat.completions.update("chatcmpl-a", metadata=None)
    assert cleared.metadata == {}
    with pytest.raises(NotFoundError):
        await client.chat.completions.update("chatcmpl-b", metadata={"reviewed": "yes"})
    with pytest.raises(BadRequestError, match="16"):
        await client.chat.completions.update("chatcmpl-a", metadata={str(number): "" for number in range(17)})


async def test_a_rating_in_the_metadata_is_feedback(client: AsyncOpenAI, kaelum: Kaelum) -> None:
    said = {"1": 0.0, "2": 0.2, "3": 0.5, "4": 0.8, "5": 1.0}
    said |= {"up": 1.0, "Down": 0.0, "0.75": 0.75, "1.0": 1.0, "0.0": 0.0}
    for rating, score in said.items():
        episode = keep_episode(kaelum)
        await client.chat.completions.update(f"chatcmpl-{episode}", metadata={"rating": rating})
        (kept,) = kaelum.services.storage.feedback_for(episode)
        assert (kept.score, kept.source) == (score, "openai"), rating


async def test_ratings_that_mean_nothing_are_refused(client: AsyncOpenAI, kaelum: Kaelum) -> None:
    episode = keep_episode(kaelum)
    for rating in ("0", "6", "-1", "1.5", "good", "5.0", "1e0", "٣"):
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.update(f"chatcmpl-{episode}", metadata={"rating": rating})
        assert caught.value.param == "metadata.rating"
    with pytest.raises(BadRequestError, match="worker"):
        await client.chat.completions.update(f"chatcmpl-{episode}", metadata={"worker": "nobody"})
    assert kaelum.services.storage.feedback_for(episode) == []


async def test_what_the_metadata_says_last_holds_and_makes_one_record(
    client: AsyncOpenAI, kaelum: Kaelum, store: CompletionStore
) -> None:
    episode = keep_episode(kaelum)
    store.save(ME, body_of(), reply_of(episode))
    name = f"chatcmpl-{episode}"
    said = {"rating": "2", "correction": "5", "worker": "math", "comment": "no", "app": "a"}
    for _ in range(2):
        kept = await client.chat.completions.update(name, metadata=said)
        assert kept.metadata == said
        (record,) = kaelum.services.storage.feedback_for(episode)
        assert (record.score, record.correction, record.worker, record.comment) == (0.2, "5", "math", "no")
    await client.chat.completions.update(name, metadata={"rating": "5"})
    (record,) = kaelum.services.storage.feedback_for(episode)
    assert (record.score, record.correction, record.worker, record.comment) == (1.0, None, None, None)
    await client.chat.completions.update(name, metadata={"app": "b"})
    assert kaelum.services.storage.feedback_for(episode) == [record]


async def test_a_completion_that_was_not_stored_can_be_rated_too(client: AsyncOpenAI, kaelum: Kaelum) -> None:
    call = {"id": "call_1", "name": "add", "arguments": "{}"}
    plain, calling = keep_episode(kaelum), keep_episode(kaelum, text="", calls=[call])
    told = await client.chat.completions.update(f"chatcmpl-{plain}", metadata={"rating": "up"})
    assert (told.choices[0].message.content, told.choices[0].finish_reason) == ("It is 4.", "stop")
    assert told.created > 1_700_000_000
    assert told.usage is not None
    assert told.usage.total_tokens == 15
    assert told.metadata == {"rating": "up"}
    told = await client.chat.completions.update(f"chatcmpl-{calling}", metadata={"rating": "up"})
    assert told.choices[0].finish_reason == "tool_calls"
    assert told.choices[0].message.tool_calls is not None
    assert told.choices[0].message.tool_calls[0].function.name == "add"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(BadRequestError, match="not stored") as caught:
        await client.chat.completions.update(f"chatcmpl-{plain}", metadata={"rating": "down", "app": "a"})
    assert caught.value.param == "metadata.app"
    assert kaelum.services.storage.feedback_for(plain)[0].score == 1.0
    with pytest.raises(NotFoundError):
        await client.chat.completions.update("chatcmpl-nothing", metadata={"rating": "up"})
    with pytest.raises(NotFoundError):
        await client.chat.completions.retrieve(f"chatcmpl-{plain}")


async def test_tenants_see_their_own_alone(app: FastAPI, kaelum: Kaelum, store: CompletionStore) -> None:
    book = app.state.server.keys
    ours, theirs = (client_with(app, book.add(name, tenant=name)[0]) for name in ("ours", "theirs"))
    episode = keep_episode(kaelum, tenant="ours")
    name = f"chatcmpl-{episode}"
    store.save(Caller(tenant="ours"), body_of(metadata={"whose": "ours"}), reply_of(episode))
    async with ours, theirs:
        for forbidden in (
            theirs.chat.completions.retrieve(name),
            theirs.chat.completions.delete(name),
            theirs.chat.completions.update(name, metadata={"rating": "1"}),
            theirs.chat.completions.messages.list(name),
        ):
            with pytest.raises(NotFoundError):
                await forbidden
        assert [one.id async for one in theirs.chat.completions.list()] == []
        with pytest.raises(BadRequestError):
            await theirs.chat.completions.list(after=name)
        assert [one.id async for one in ours.chat.completions.list()] == [name]


def test_old_and_surplus_completions_go(tmp_path: Path) -> None:
    clock = [1000.0]
    store = CompletionStore(tmp_path / "store.sqlite", kept_seconds=100, kept_per_tenant=3, now=lambda: clock[0])
    other = Caller(tenant="other")
    store.save(other, body_of(), reply_of("theirs"))
    for number in range(5):
        clock[0] += 10
        store.save(ME, body_of(), reply_of(str(number)))

    def listed(who: Caller) -> list[str]:
        page = store.list(who)
        assert page is not None
        return [one["id"].removeprefix("chatcmpl-") for one in page.items]

    assert listed(ME) == ["2", "3", "4"]
    assert listed(other) == ["theirs"]
    clock[0] = 1130.0
    assert store.get(ME, "chatcmpl-2") is None, "too old, before it is swept away"
    assert not store.delete(ME, "chatcmpl-2")
    assert listed(ME) == ["3", "4"]
    store.save(ME, body_of(), reply_of("5"))
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM completions").fetchone()[0] == 3
    connection.close()
    store.close()


def test_what_was_stored_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = CompletionStore(tmp_path / "store.sqlite")
    store.save(ME, body_of(), reply_of("a"))
    store.save(ME, body_of(metadata={"twice": "yes"}), reply_of("a"))
    store.close()
    store.close()
    again = CompletionStore(tmp_path / "store.sqlite")
    page = again.list(ME)
    assert page is not None
    assert [one["metadata"] for one in page.items] == [{"twice": "yes"}]
    again.close()
