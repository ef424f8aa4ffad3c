"""An answer that the cache gives again: a reply of its own, of the episode that found it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError

from kaelum_adapters.openai_api import completion_store
from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.reply_ids import again, read_again
from kaelum_flow.facade import Kaelum
from kaelum_graph.learning.ratings import from_person
from tests.adapters.responses_client import openai_of
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

QUESTION = "What is 2 + 2?"
ASKED: Any = [{"role": "user", "content": QUESTION}]


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("2 + 2 = 4\n\\boxed{4}"))


@pytest.fixture
async def client(kaelum: Kaelum) -> AsyncGenerator[AsyncOpenAI]:
    async with openai_of(create_app(kaelum)) as client:
        yield client


async def twice(client: AsyncOpenAI, **fields: Any) -> tuple[Any, Any]:
    """The same answer as two completions, the second out of the cache."""
    first, second = [
        await client.chat.completions.create(
            model="kaelum", messages=ASKED, metadata={"run": run}, store=True, **fields
        )
        for run in ("A", "B")
    ]
    assert [made.model_extra["kaelum"]["cache"] for made in (first, second)] == ["miss", "hit"]
    return first, second


def test_an_id_says_which_episode_it_is_of() -> None:
    assert again("ab-12") != again("ab-12")
    episode, own = read_again(again("ab-12"))
    assert (episode, len(own)) == ("ab-12", 16)
    for name in ("", "ab-12", "6f1c3a9e-0000-4000-8000-0123456789ab", "e-0123456789ABCDEF"):
        assert read_again(name) == (name, "")


async def test_completions_with_one_cached_answer_are_stored_and_deleted_apart(client: AsyncOpenAI) -> None:
    first, second = await twice(client)
    episode = first.model_extra["kaelum"]["id"]
    assert second.model_extra["kaelum"]["id"] == episode
    assert first.id == f"chatcmpl-{episode}"
    assert read_again(second.id)[0] == first.id != second.id
    stored = await client.chat.completions.list()
    assert [(one.id, one.metadata) for one in stored.data] == [(first.id, {"run": "A"}), (second.id, {"run": "B"})]
    await client.chat.completions.delete(second.id)
    assert (await client.chat.completions.retrieve(first.id)).metadata == {"run": "A"}


async def test_each_of_them_is_rated_once_and_all_rate_the_episode(client: AsyncOpenAI, kaelum: Kaelum) -> None:
    first, second = await twice(client)
    for rating in ("1", "2"):
        for made, said in ((first, "5"), (second, rating)):
            await client.chat.completions.update(made.id, metadata={"rating": said})
    ratings = kaelum.services.storage.list_feedback(tenant="", limit=20)
    episode = first.model_extra["kaelum"]["id"]
    assert [(one.episode_id, one.score) for one in ratings] == [(episode, 1.0), (episode, 0.2)]
    assert all(map(from_person, ratings))
    assert len({(one.source, one.key) for one in ratings}) == 2, "else the later one would be over the earlier"
    given: Any = await client.post("/feedback", body={"id": second.id, "score": 0.0}, cast_to=object)
    assert given["episode_id"] == episode
    for stranger in (f"{second.id}0", f"chatcmpl-{again('other')}", f"{second.id[:-16]}zzzzzzzzzzzzzzzz"):
        with pytest.raises(NotFoundError):
            await client.post("/feedback", body={"id": stranger, "score": 0.0}, cast_to=object)


async def test_forgetting_the_episode_reaches_all_of_them(client: AsyncOpenAI, kaelum: Kaelum) -> None:
    first, second = await twice(client)
    await client.chat.completions.delete(second.id)  # its place in the list goes, too
    other = await client.chat.completions.create(model="kaelum-direct", messages=ASKED, store=True)
    data_dir = kaelum.settings.data_dir
    assert completion_store.forget(data_dir, [first.model_extra["kaelum"]["id"]], tenant=None) == 2
    assert [one.id for one in (await client.chat.completions.list()).data] == [other.id]


async def test_responses_with_one_cached_answer_are_apart_too(client: AsyncOpenAI) -> None:
    first, second, unkept = [
        await client.responses.create(model="kaelum", input=QUESTION, metadata={"run": run}, store=run != "C")
        for run in ("A", "B", "C")
    ]
    assert len({first.id, second.id, unkept.id}) == 3
    assert len({item.id for made in (first, second, unkept) for item in made.output}) == 3 * len(first.output)
    for made, run in ((first, "A"), (second, "B")):
        assert (await client.responses.retrieve(made.id)).metadata == {"run": run}
    with pytest.raises(NotFoundError):
        await client.responses.retrieve(unkept.id)
    await client.responses.delete(second.id)
    await client.responses.create(model="kaelum", input="And what is 3 + 3?", previous_response_id=first.id)
    for made in (second, unkept):
        given: Any = await client.post("/feedback", body={"id": made.id, "score": 1.0}, cast_to=object)
        assert f"resp_{given['episode_id']}" == first.id


async def test_a_stream_bears_one_such_id_and_a_retry_the_same(client: AsyncOpenAI) -> None:
    await twice(client)
    once = {"Idempotency-Key": "once"}
    stream = await client.chat.completions.create(model="kaelum", messages=ASKED, stream=True, extra_headers=once)
    (name,) = {chunk.id async for chunk in stream}
    stream = await client.chat.completions.create(model="kaelum", messages=ASKED, stream=True, extra_headers=once)
    assert {chunk.id async for chunk in stream} == {name}
    assert read_again(name)[1]
