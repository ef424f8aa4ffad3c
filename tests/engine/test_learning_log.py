"""What was acknowledged is in the log of what there is to learn, once, in order; what was deleted is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.evidence import Tier
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.replay import events_after
from kaelum_graph.learning.state import is_held_out
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Order, make_state, seen


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "kaelum.sqlite")
    yield storage
    storage.close()


def add(storage: Storage, name: str, *, tenant: str = "", **record: object) -> EpisodeId:
    episode_id = EpisodeId(name)
    storage.append_episode(episode_id, "q", dict(record), tenant=tenant, seen=seen(name, tenant=tenant).to_bytes())
    return episode_id


def rate(storage: Storage, name: str, score: float, *, rating: str = "f") -> None:
    assert storage.add_feedback(Feedback(id=rating, episode_id=EpisodeId(name), score=score))


def test_episodes_and_ratings_are_one_order(storage: Storage) -> None:
    add(storage, "a")
    storage.append_episode(EpisodeId("untold"), "q", {})
    rate(storage, "a", 1.0)
    add(storage, "a")  # a retried node
    add(storage, "b")
    rate(storage, "untold", 0.0, rating="g")
    storage.update_feedback("f", lambda one: Feedback(id="f", episode_id=one.episode_id, score=0.0))
    storage.delete_feedback("f")
    events = list(events_after(storage, 0))
    assert [(event.kind, event.episode_id, event.change and event.change.action) for event in events] == [
        ("episode", "a", None),
        ("feedback", "a", "added"),
        ("episode", "b", None),
        ("feedback", "untold", "added"),
        ("feedback", "a", "updated"),
        ("feedback", "a", "deleted"),
    ]
    assert [event.sequence for event in events] == sorted({event.sequence for event in events})
    assert events[-1].sequence == storage.last_learning_event()
    assert [event.episode and event.episode.id for event in events] == ["a", "a", "b", None, "a", "a"]
    first = events[0].episode
    assert first is not None
    assert first.rollouts[0].evidence == seen("a").rollouts[0].evidence
    assert np.array_equal(first.features, seen("a").features)
    assert storage.learning_events(after=events[1].sequence, limit=1)[0].episode_id == "b"
    held = storage.seen_episode("b")
    assert held is not None
    assert held.id == "b"
    assert storage.seen_episode("untold") is None
    assert storage.seen_episode_ids(until=events[-1].sequence, limit=1) == ["b"]


def test_a_rating_event_has_what_held_then_and_nothing_later(storage: Storage) -> None:
    add(storage, "a")
    rate(storage, "a", 1.0)
    rate(storage, "a", 0.1, rating="g")
    storage.delete_feedback("f")
    told = [[(one.id, one.score) for one in event.ratings] for event in events_after(storage, 0)]
    assert told == [[], [("f", 1.0)], [("f", 1.0), ("g", 0.1)], [("g", 0.1)]]
    assert [rating.id for rating in storage.ratings_until("a", 2)] == ["f"]
    assert storage.ratings_until("a", 1) == ()
    state = make_state()
    for event in events_after(storage, 0):
        state.apply(event)
    again = make_state()
    for event in events_after(storage, 0):
        again.apply(event)
    assert again.component(Order).digest == state.component(Order).digest != 0


def test_a_rating_is_among_the_episodes_evidence(storage: Storage) -> None:
    add(storage, "a")
    rate(storage, "a", 1.0)
    votes: list[list[str]] = []

    class Watching(Order):
        def learn_feedback(self, change: object, episode: object) -> None:
            votes.append([vote.outcome for vote in episode.rollouts[0].evidence if vote.tier is Tier.HUMAN])  # pyright: ignore[reportAttributeAccessIssue]

    state = make_state()
    state.components = (Watching(),)
    for event in events_after(storage, 0):
        state.apply(event)
    assert votes == [["pass"]]


def test_a_deleted_episode_is_out_of_the_log(storage: Storage, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        add(storage, name, tenant="ann" if name != "c" else "")
    storage.add_feedback(Feedback(id="f", episode_id=EpisodeId("b"), tenant="ann", score=1.0))
    assert storage.forget_episodes(["b"], tenant="ann") == ["b"]
    events = list(events_after(storage, 0))
    assert [(event.kind, event.episode_id, event.first) for event in events] == [
        ("episode", "a", 0),
        ("episode", "c", 0),
        ("forgotten", "b", 2),
    ]
    assert storage.forgotten() == [(events[-1].sequence, 2)]
    assert storage.seen_episode("b") is None
    storage.append_episode(EpisodeId("unseen"), "q", {})
    storage.forget_episodes(["unseen"])
    assert len(storage.forgotten()) == 1, "nobody learned of it"


def test_forgetting_a_tenant_or_a_conversation(storage: Storage) -> None:
    for name in ("a", "b"):
        add(storage, name, tenant="ann")
    add(storage, "one")
    add(storage, "two", continued_from="one")
    add(storage, "three", continued_from="two")
    add(storage, "aside", continued_from="one")
    add(storage, "further", continued_from="aside")
    add(storage, "other")
    storage.add_measurements(EpisodeId("two"), {})
    assert storage.forget_episodes(conversation="two", tenant="ann") == []
    assert storage.continuations("two") == {"two": "one", "three": "two", "aside": "one", "further": "aside"}
    assert sorted(storage.forget_episodes(conversation="two")) == ["one", "three", "two"]
    assert sorted(storage.forget_episodes(conversation="aside")) == ["aside", "further"], "another way on from one"
    assert storage.counts()["measurements"] == 0
    assert storage.forget_episodes(["other", "never"]) == ["other"]
    assert sorted(storage.forget_episodes(tenant="ann")) == ["a", "b"]
    assert storage.forget_episodes() == []
    assert [event.kind for event in events_after(storage, 0)] == ["forgotten"] * 8


def test_a_file_of_version_1_gets_events_of_its_ratings(tmp_path: Path) -> None:
    path = tmp_path / "kaelum.sqlite"
    storage = Storage(path)
    for name in ("a", "b"):
        storage.append_episode(EpisodeId(name), "q", {})
    rate(storage, "a", 1.0)
    rate(storage, "b", 0.0, rating="g")
    rate(storage, "a", 0.5, rating="h")
    storage.forget_episodes(["b"])
    storage.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "DROP TABLE learning_events; DROP TABLE seen_episodes; DROP TABLE pending_forgets; PRAGMA user_version = 1"
    )
    connection.close()
    storage = Storage(path)
    assert [(event.kind, event.change and event.change.after and event.change.after.score) for event in
            events_after(storage, 0)] == [("feedback", 1.0), ("feedback", 0.5)]  # fmt: skip
    assert storage.counts()["feedback"] == 2
    add(storage, "c")
    assert [event.kind for event in events_after(storage, 2)] == ["episode"]
    storage.close()


def test_a_damaged_column_teaches_nothing(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "q", {}, seen=b"not compressed")
    [event] = events_after(storage, 0)
    assert event.episode is None
    make_state().apply(event)


def test_one_id_in_ten_is_held_out_and_no_audit(storage: Storage) -> None:
    names = [f"e{number}" for number in range(4000)]
    out = [name for name in names if is_held_out(name)]
    assert 0.07 < len(out) / len(names) < 0.11
    assert not any(seen(name).audit for name in out)
