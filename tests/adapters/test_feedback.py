"""`/v1/feedback`: one durable record, once, for its own tenant."""

from __future__ import annotations

import uuid
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from kaelum_flow.facade import Kaelum
from kaelum_graph.types import EpisodeId
from tests.adapters.rated_server import keep_episode
from tests.adapters.tiny_server import client_of, tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("2 + 2 = 4\n\\boxed{4}"))


@pytest.fixture
def app(kaelum: Kaelum) -> FastAPI:
    return tiny_app(kaelum)


@pytest.fixture
def episode(kaelum: Kaelum) -> EpisodeId:
    return keep_episode(kaelum)


async def send(app: FastAPI, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    async with client_of(app) as client:
        return await client.request(method, path, json=body, headers=sent)


async def give(app: FastAPI, body: Any, **headers: str) -> Any:
    response = await send(app, "POST", "/v1/feedback", body, **headers)
    assert response.status_code == 200, response.text
    return response.json()


def assert_error(response: httpx2.Response, status: int, param: str | None, said: str = "") -> None:
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), response.text
    assert said in error["message"]


async def test_what_is_said_is_kept_whole_and_can_be_read_back(
    app: FastAPI, kaelum: Kaelum, episode: EpisodeId
) -> None:
    said = {
        "answer": "5",
        "worker": "math",
        "steps": [{"step": 0, "score": 1.0}, {"step": 2, "score": 0.25}],
        "comment": "the second step adds wrongly ✗",
    }
    given = await give(app, {"id": episode, "rating": 2, **said})
    assert {name: given[name] for name in said} == said
    assert given["object"] == "feedback"
    assert (given["score"], given["episode_id"], given["repeated"]) == (0.2, episode, False)
    assert given["created"] > 1_700_000_000
    kept = kaelum.services.storage.feedback(given["id"])
    assert kept is not None
    assert (kept.correction, kept.steps, kept.source) == ("5", ((0, 1.0), (2, 0.25)), "api")
    read = (await send(app, "GET", f"/v1/feedback/{given['id']}")).json()
    assert read == {name: value for name, value in given.items() if name != "repeated"}


async def test_every_way_to_say_how_good_it_was_is_a_score(app: FastAPI, episode: EpisodeId) -> None:
    said: list[tuple[dict[str, object], float]] = [
        ({"score": 0.3}, 0.3),
        ({"score": 1}, 1.0),
        ({"rating": 1}, 0.0),
        ({"rating": 2}, 0.2),
        ({"rating": 3}, 0.5),
        ({"rating": 4}, 0.8),
        ({"rating": 5}, 1.0),
        ({"rating": 3.5}, 0.65),
        ({"thumbs": "up"}, 1.0),
        ({"thumbs": "down"}, 0.0),
    ]
    for fields, score in said:
        assert (await give(app, {"id": episode, **fields}))["score"] == score, fields


async def test_the_answer_may_be_named_in_any_form(app: FastAPI, episode: EpisodeId) -> None:
    for field in ("id", "completion_id", "response_id", "episode_id"):
        for name in (episode, f"chatcmpl-{episode}", f"resp_{episode}", str(uuid.UUID(episode))):
            assert (await give(app, {field: name, "score": 1.0}))["episode_id"] == episode


async def test_the_same_id_again_changes_nothing_and_says_so(app: FastAPI, kaelum: Kaelum, episode: EpisodeId) -> None:
    first = await give(app, {"id": episode, "score": 1.0, "feedback_id": "click-1"})
    again = await give(app, {"id": episode, "score": 0.0, "feedback_id": "click-1"})
    header = await give(app, {"id": episode, "score": 0.5}, idempotency_key="click-1")
    assert (first["id"], first["repeated"]) == ("click-1", False)
    assert again == header == {**first, "repeated": True}
    assert kaelum.services.storage.counts()["feedback"] == 1
    other = keep_episode(kaelum)
    response = await send(app, "POST", "/v1/feedback", {"id": other, "score": 1.0, "feedback_id": "click-1"})
    assert_error(response, 409, "feedback_id", "another answer")
    response = await send(
        app, "POST", "/v1/feedback", {"id": other, "score": 1.0, "feedback_id": "a"}, idempotency_key="b"
    )
    assert_error(response, 400, "feedback_id")
    response = await send(app, "POST", "/v1/feedback", {"id": other, "score": 1.0}, idempotency_key="no spaces")
    assert_error(response, 400, "idempotency-key")


NONSENSE: list[tuple[dict[str, object], str]] = [
    ({"score": 1.0}, "id"),
    ({"id": "x", "completion_id": "y", "score": 1.0}, "id"),
    ({"id": "x"}, "score"),
    ({"id": "x", "score": 0.5, "rating": 3}, "score"),
    ({"id": "x", "score": 1.5}, "score"),
    ({"id": "x", "rating": 0}, "rating"),
    ({"id": "x", "rating": 6}, "rating"),
    ({"id": "x", "thumbs": "sideways"}, "thumbs"),
    ({"id": "x", "score": "good"}, "score"),
    ({"id": "x", "score": True}, "score"),
    ({"id": "x", "worker": "nobody"}, "worker"),
    ({"id": "x", "steps": [{"step": -1, "score": 1}]}, "steps.0.step"),
    ({"id": "x", "steps": [{"step": 1, "score": 1}, {"step": 1, "score": 0}]}, "steps"),
    ({"id": "x", "score": 1, "colour": "red"}, "colour"),
    ({"id": "x", "score": 1, "feedback_id": "a/b"}, "feedback_id"),
    ({"id": "x", "score": 1, "feedback_id": "a" * 129}, "feedback_id"),
]


async def test_what_makes_no_sense_is_refused_by_name(app: FastAPI) -> None:
    for body, param in NONSENSE:
        assert_error(await send(app, "POST", "/v1/feedback", body), 400, param)


async def test_unknown_answers_and_records_are_404(app: FastAPI, episode: EpisodeId) -> None:
    body = {"id": "chatcmpl-nothing", "score": 1.0}
    assert_error(await send(app, "POST", "/v1/feedback", body), 404, None, "nothing")
    assert_error(await send(app, "POST", "/v1/feedback", {"id": "What is 2 + 2?", "score": 1.0}), 404, None)
    assert_error(await send(app, "GET", "/v1/feedback/nothing"), 404, None, "nothing")
    assert_error(await send(app, "DELETE", "/v1/feedback/nothing"), 404, None, "nothing")
    assert_error(await send(app, "GET", "/v1/feedback?episode_id=nothing"), 404, None, "nothing")


async def test_records_are_listed_by_answer_in_pages_and_taken_back(app: FastAPI, kaelum: Kaelum) -> None:
    one, other = keep_episode(kaelum), keep_episode(kaelum)
    for number in range(3):
        await give(app, {"id": one, "score": number / 2, "feedback_id": f"one-{number}"})
    await give(app, {"id": other, "comment": "fine", "feedback_id": "other"})

    async def listed(query: str) -> tuple[list[str], bool]:
        page = (await send(app, "GET", f"/v1/feedback?{query}")).json()
        return [item["id"] for item in page["data"]], page["has_more"]

    assert await listed(f"episode_id=chatcmpl-{one}&limit=2") == (["one-0", "one-1"], True)
    assert await listed(f"episode_id={one}&limit=2&offset=2") == (["one-2"], False)
    assert await listed("") == (["one-0", "one-1", "one-2", "other"], False)
    gone = await send(app, "DELETE", "/v1/feedback/one-1")
    assert gone.json() == {"object": "feedback.deleted", "id": "one-1", "deleted": True}
    assert await listed("") == (["one-0", "one-2", "other"], False)
    assert_error(await send(app, "DELETE", "/v1/feedback/one-1"), 404, None)


async def test_tenants_neither_see_nor_rate_each_others_answers(app: FastAPI, kaelum: Kaelum) -> None:
    book = app.state.server.keys
    ours = {"authorization": f"Bearer {book.add('ours', tenant='ours')[0]}"}
    theirs = {"authorization": f"Bearer {book.add('theirs', tenant='theirs')[0]}"}
    episode = keep_episode(kaelum, tenant="ours")
    given = await give(app, {"id": episode, "score": 1.0, "feedback_id": "mine"}, **ours)
    assert_error(await send(app, "POST", "/v1/feedback", {"id": episode, "score": 0.0}, **theirs), 404, None)
    assert_error(await send(app, "GET", "/v1/feedback/mine", **theirs), 404, None)
    assert_error(await send(app, "DELETE", "/v1/feedback/mine", **theirs), 404, None)
    assert (await send(app, "GET", "/v1/feedback", **theirs)).json()["data"] == []
    own = keep_episode(kaelum, tenant="theirs")
    assert not (await give(app, {"id": own, "score": 0.0, "feedback_id": "mine"}, **theirs))["repeated"]
    assert (await send(app, "GET", "/v1/feedback/mine", **ours)).json()["score"] == given["score"]
    assert (await send(app, "POST", "/v1/feedback", {"id": episode, "score": 0.0})).status_code == 401


async def test_an_answer_called_wrong_is_served_no_more(app: FastAPI, kaelum: Kaelum) -> None:
    said: list[tuple[dict[str, object], str]] = [
        ({"score": 0.9}, "hit"),
        ({"score": 0.2}, "miss"),
        ({"answer": "5"}, "miss"),
    ]
    for fields, state in said:
        answer = await kaelum.aask("What is 2 + 2?")
        assert (await kaelum.aask("What is 2 + 2?")).cache == "hit"
        await give(app, {"id": f"chatcmpl-{answer.id}", **fields})
        assert (await kaelum.aask("What is 2 + 2?")).cache == state, fields


async def test_feedback_counts_against_the_keys_rate(kaelum: Kaelum, episode: EpisodeId) -> None:
    app = tiny_app(kaelum, requests_per_minute=2)
    given = [await send(app, "POST", "/v1/feedback", {"id": episode, "score": 1.0}) for _ in range(3)]
    assert [response.status_code for response in given] == [200, 200, 429]
    assert int(given[2].headers["retry-after"]) > 0
    assert (await send(app, "GET", "/v1/feedback")).status_code == 200
