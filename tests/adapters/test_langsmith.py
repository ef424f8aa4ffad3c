"""LangSmith's SDK with this server as its `api_url`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from langsmith import Client
from langsmith.schemas import FeedbackSourceType
from langsmith.utils import LangSmithAuthError, LangSmithError, LangSmithNotFoundError

from kaelum_flow.facade import Kaelum
from kaelum_graph.types import EpisodeId
from tests.adapters.rated_server import keep_episode, on_loopback
from tests.adapters.tiny_server import client_of, tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

PROJECT = uuid.uuid4()
"""The SDK warns of feedback without one."""


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


@pytest.fixture
def app(kaelum: Kaelum) -> FastAPI:
    return tiny_app(kaelum)


@pytest.fixture
def key(app: FastAPI) -> str:
    return app.state.server.keys.add("ours", tenant="ours")[0]


@pytest.fixture
def url(app: FastAPI) -> Generator[str]:
    with on_loopback(app) as url:
        yield url


@pytest.fixture
def client(url: str, key: str) -> Iterator[Client]:
    client = Client(api_url=url, api_key=key)
    yield client
    client.close()


@pytest.fixture
def episode(kaelum: Kaelum) -> EpisodeId:
    return keep_episode(kaelum, tenant="ours")


def test_feedback_is_created_read_updated_listed_and_deleted(
    client: Client, kaelum: Kaelum, episode: EpisodeId
) -> None:
    created = client.create_feedback(
        run_id=uuid.UUID(episode), key="user_score", score=True, comment="right", session_id=PROJECT
    )
    read = client.read_feedback(created.id)
    assert (read.id, read.run_id, read.key, read.score, read.comment) == (
        created.id,
        uuid.UUID(episode),
        "user_score",
        1.0,
        "right",
    )
    assert read.created_at.year >= 2024
    (kept,) = kaelum.services.storage.feedback_for(episode, tenant="ours")
    assert (kept.key, kept.source) == ("user_score", "langsmith")

    client.update_feedback(created.id, score=0.25, correction={"answer": "5"})
    changed = client.read_feedback(created.id)
    assert (changed.score, changed.correction, changed.comment) == (0.25, "5", "right")

    other = keep_episode(kaelum, tenant="ours")
    client.create_feedback(run_id=other, key="other", score=0, session_id=PROJECT)
    assert [one.id for one in client.list_feedback(run_ids=[episode])] == [created.id]
    assert [one.key for one in client.list_feedback(run_ids=[episode, str(uuid.UUID(other))])] == [
        "user_score",
        "other",
    ]
    assert [one.key for one in client.list_feedback(feedback_key=["other"])] == ["other"]
    client.delete_feedback(created.id)
    with pytest.raises(LangSmithNotFoundError):
        client.read_feedback(created.id)
    assert kaelum.services.storage.feedback_for(episode, tenant="ours") == []


def test_feedback_with_a_trace_is_there_when_the_call_returns(
    client: Client, kaelum: Kaelum, episode: EpisodeId
) -> None:
    client.create_feedback(trace_id=episode, key="k", score=0.5, session_id=PROJECT)
    assert [one.score for one in kaelum.services.storage.feedback_for(episode, tenant="ours")] == [0.5]


def test_the_same_feedback_id_makes_one_record(client: Client, kaelum: Kaelum, episode: EpisodeId) -> None:
    name = uuid.uuid4()
    for score in (1.0, 0.0):
        client.create_feedback(run_id=episode, key="k", score=score, feedback_id=name, session_id=PROJECT)
    assert [one.score for one in kaelum.services.storage.feedback_for(episode, tenant="ours")] == [1.0]


def test_what_models_say_is_told_from_what_people_say(client: Client, kaelum: Kaelum, episode: EpisodeId) -> None:
    model = FeedbackSourceType.MODEL
    client.create_feedback(run_id=episode, key="judge", score=1, feedback_source_type=model, session_id=PROJECT)
    client.create_feedback(run_id=episode, key="person", score=1, session_id=PROJECT)
    assert [one.key for one in client.list_feedback(feedback_source_type=[model])] == ["judge"]
    assert [one.key for one in client.list_feedback(feedback_source_type=[FeedbackSourceType.API])] == ["person"]
    assert [one.source for one in kaelum.services.storage.feedback_for(episode, tenant="ours")] == [
        "langsmith:model",
        "langsmith",
    ]


FORMS: list[tuple[dict[str, Any], float | None, str | None, str | None]] = [
    ({"score": 7, "feedback_config": {"type": "continuous", "min": 0, "max": 10}}, 0.7, None, None),
    ({"score": 4, "feedback_config": {"type": "continuous", "min": 1, "max": 5}}, 0.8, None, None),
    ({"value": 0.5}, 0.5, None, None),
    ({"score": 1, "value": "thumbs up"}, 1.0, "thumbs up", None),
    ({"value": "slow", "comment": "took a minute"}, None, "slow: took a minute", None),
    ({"correction": {"answer": "5"}}, None, None, "5"),
    ({"correction": {"anything": "5"}}, None, None, "5"),
    ({"correction": {"output": 5}}, None, None, "5"),
]


def test_each_form_of_feedback_means_what_it_says(client: Client, kaelum: Kaelum) -> None:
    for said, score, comment, correction in FORMS:
        episode = keep_episode(kaelum, tenant="ours")
        client.create_feedback(run_id=episode, key="k", session_id=PROJECT, **said)
        (kept,) = kaelum.services.storage.feedback_for(episode, tenant="ours")
        assert (kept.score, kept.comment, kept.correction) == (score, comment, correction), said


def test_what_cannot_be_kept_is_refused_at_once(client: Client, episode: EpisodeId) -> None:
    said: list[tuple[str, dict[str, Any]]] = [
        ("score", {"run_id": episode, "score": 7}),
        ("score", {"run_id": episode, "score": -0.5}),
        ("correction", {"run_id": episode, "correction": {"a": "1", "b": "2"}}),
        ("score", {"run_id": episode}),
        ("no answer|There is no answer", {"run_id": uuid.uuid4(), "score": 1}),
        ("extra", {"run_id": episode, "score": 1, "extra": {"a": 1}}),
        ("run_id", {"project_id": uuid.uuid4(), "score": 1}),
    ]
    for message, fields in said:
        project = {} if "project_id" in fields else {"session_id": PROJECT}
        with pytest.raises(LangSmithError, match=message):
            client.create_feedback(key="k", **project, **fields)


def test_another_tenant_sees_nothing_and_a_stranger_is_turned_away(
    client: Client, url: str, app: FastAPI, episode: EpisodeId
) -> None:
    created = client.create_feedback(run_id=episode, key="k", score=1, session_id=PROJECT)
    theirs = Client(api_url=url, api_key=app.state.server.keys.add("theirs", tenant="theirs")[0])
    assert list(theirs.list_feedback()) == []
    attempts: list[Callable[[], Any]] = [
        lambda: theirs.read_feedback(created.id),
        lambda: theirs.delete_feedback(created.id),
        lambda: theirs.update_feedback(created.id, score=0),
    ]
    for attempt in attempts:
        with pytest.raises(LangSmithNotFoundError):
            attempt()
    theirs.close()
    stranger = Client(api_url=url, api_key="lsv2_stranger")
    with pytest.raises(LangSmithAuthError):
        stranger.create_feedback(run_id=episode, key="k", score=0, session_id=PROJECT)
    stranger.close()
    assert client.read_feedback(created.id).score == 1.0


def test_feedback_of_the_other_fronts_is_listed_too(client: Client, kaelum: Kaelum, episode: EpisodeId) -> None:
    assert kaelum.feedback(episode, score=0.5, feedback_id="mine", tenant="ours")
    (shown,) = client.list_feedback(run_ids=[episode])
    assert (shown.score, shown.key) == (0.5, "feedback")


def test_runs_are_not_taken_in(app: FastAPI, key: str) -> None:
    async def posted() -> list[tuple[int, str]]:
        async with client_of(app, **{"x-api-key": key}) as http:
            answers = [await http.post(path, json={}) for path in ("/runs/batch", "/runs/multipart")]
        return [(one.status_code, one.json()["error"]["code"]) for one in answers]

    assert asyncio.run(posted()) == [(404, "unknown_url")] * 2
