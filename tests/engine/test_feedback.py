"""Ratings: kept once, each tenant's own, and every change told once to whoever learns from them."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.errors import UnknownEpisode, UsageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.storage import CacheEntry, Storage
from kaelum_graph.types import EpisodeId


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "kaelum.sqlite")
    storage.append_episode(EpisodeId("a"), "what?", {}, tenant="ann")
    storage.append_episode(EpisodeId("b"), "what?", {}, tenant="bob")
    storage.append_episode(EpisodeId("mine"), "what?", {})
    yield storage
    storage.close()


def rating(feedback_id: str = "f", *, episode: str = "a", tenant: str = "ann", score: float | None = 0.9) -> Feedback:
    return Feedback(id=feedback_id, episode_id=EpisodeId(episode), tenant=tenant, score=score)


def cached(storage: Storage, episode: str, tenant: str) -> None:
    vector = np.ones(384, dtype=np.float32)
    storage.put_cache_entry(
        CacheEntry(episode_id=EpisodeId(episode), scope="s", query="q", answer={}, embedding=vector, tenant=tenant)
    )


def test_feedback_is_idempotent_and_needs_an_episode(storage: Storage) -> None:
    whole = Feedback(
        id="f",
        episode_id=EpisodeId("mine"),
        score=0.2,
        correction="4",
        worker="math",
        comment="näh",
        steps=((0, 1.0), (2, 0.0)),
        source="langsmith",
        key="user_score",
    )
    before = time.time()
    assert storage.add_feedback(whole)
    assert not storage.add_feedback(replace(whole, score=1.0))
    assert storage.feedback_for(EpisodeId("mine")) == [whole]
    kept = storage.feedback("f")
    assert kept is not None
    assert kept == whole
    assert kept.created_at is not None
    assert before <= kept.created_at <= time.time()
    with pytest.raises(UnknownEpisode, match="no such episode"):
        storage.add_feedback(Feedback(id="g", episode_id=EpisodeId("zzz"), score=1.0))
    assert len(storage.feedback_log(after=0)) == 1


def test_an_id_is_its_tenants_own(storage: Storage) -> None:
    assert storage.add_feedback(rating())
    assert storage.add_feedback(rating(episode="b", tenant="bob", score=0.1))
    assert storage.feedback("f", tenant="ann") == rating()
    assert storage.feedback("f") is None
    with pytest.raises(UnknownEpisode):
        storage.add_feedback(rating("g", episode="b", tenant="ann"))
    assert not storage.delete_feedback("f")
    assert storage.update_feedback("f", lambda one: replace(one, score=0.0), tenant="carl") is None
    assert storage.feedback_for(EpisodeId("b"), tenant="ann") == []
    assert len(storage.feedback_for(EpisodeId("b"), tenant=None)) == 1
    assert storage.delete_feedback("f", tenant="bob")
    assert storage.feedback("f", tenant="ann") == rating()


def test_the_log_tells_each_change_once_with_what_was_before(storage: Storage) -> None:
    first = replace(rating(), comment="for people")
    storage.add_feedback(first)
    storage.add_feedback(first)
    storage.update_feedback("f", lambda one: replace(one, score=0.4), tenant="ann")
    storage.update_feedback("f", lambda one: one, tenant="ann")
    storage.add_feedback(rating(episode="b", tenant="bob", score=0.1))
    storage.delete_feedback("f", tenant="ann")
    storage.delete_feedback("f", tenant="ann")
    storage.add_feedback(rating(score=1.0))
    seen, last = list[tuple[str, float | None, float | None]](), 0
    while changes := storage.feedback_log(after=last, limit=2):
        for change in changes:
            before, after = change.before, change.after
            seen.append((change.action, before and before.score, after and after.score))
            assert "for people" not in str(change)
            last = change.sequence
    assert seen == [
        ("added", None, 0.9),
        ("updated", 0.9, 0.4),
        ("added", None, 0.1),
        ("deleted", 0.4, None),
        ("added", None, 1.0),
    ]


def test_an_update_keeps_what_a_rating_is_about(storage: Storage) -> None:
    storage.add_feedback(rating())
    kept = storage.feedback("f", tenant="ann")
    moved = storage.update_feedback(
        "f",
        lambda one: replace(one, id="g", tenant="bob", episode_id=EpisodeId("b"), created_at=1.0, correction="5"),
        tenant="ann",
    )
    assert kept is not None
    assert moved is not None
    assert moved == replace(kept, correction="5")
    assert moved.created_at == kept.created_at
    assert storage.feedback("f", tenant="ann") == moved
    with pytest.raises(UsageError, match="between 0 and 1"):
        storage.update_feedback("f", lambda one: replace(one, score=2.0), tenant="ann")
    assert storage.feedback("f", tenant="ann") == moved
    assert len(storage.feedback_log(after=0)) == 2


def test_updates_from_many_threads_are_all_kept(storage: Storage) -> None:
    storage.add_feedback(replace(rating(), score=None, comment=""))

    def write(letter: str) -> None:
        for _ in range(10):
            storage.update_feedback("f", lambda one: replace(one, comment=(one.comment or "") + letter), tenant="ann")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = storage.feedback("f", tenant="ann")
    assert kept is not None
    assert sorted(kept.comment or "") == sorted("abcdefgh" * 10)


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        (Feedback(id="f", episode_id=EpisodeId("a"), tenant="ann", score=0.49), False),
        (Feedback(id="f", episode_id=EpisodeId("a"), tenant="ann", score=0.5), True),
        (Feedback(id="f", episode_id=EpisodeId("a"), tenant="ann", score=1.0, correction="4"), False),
        (Feedback(id="f", episode_id=EpisodeId("a"), tenant="ann", comment="hm"), True),
    ],
)
def test_a_wrong_answer_leaves_the_cache_with_its_rating(storage: Storage, said: Feedback, stays: bool) -> None:
    cached(storage, "a", "ann")
    assert storage.add_feedback(said)
    assert bool(storage.cache_entries()) == stays
    # A retry is no second rating: it takes nothing out of the cache again.
    cached(storage, "a", "ann")
    assert not storage.add_feedback(said)
    assert storage.cache_entries()


def test_a_rating_changed_for_the_worse_takes_the_answer_out(storage: Storage) -> None:
    cached(storage, "a", "ann")
    storage.add_feedback(rating())
    storage.update_feedback("f", lambda one: replace(one, score=0.1), tenant="ann")
    assert storage.cache_entries() == []


def test_listing_by_episode_key_and_source(storage: Storage) -> None:
    for number, key in enumerate(["user_score", "length", "user_score"]):
        storage.add_feedback(replace(rating(str(number)), key=key, source="langsmith" if number else "api"))
    storage.add_feedback(rating("x", episode="b", tenant="bob"))

    def ids(*, keys: tuple[str, ...] = (), sources: tuple[str, ...] = (), limit: int = 100, offset: int = 0) -> str:
        found = storage.list_feedback(tenant="ann", keys=keys, sources=sources, limit=limit, offset=offset)
        return "".join(one.id for one in found)

    assert ids() == "012"
    assert ids(keys=("user_score",)) == "02"
    assert ids(keys=("user_score",), sources=("langsmith",)) == "2"
    assert ids(limit=1, offset=1) == "1"
    assert storage.list_feedback(tenant="ann", episode_ids=["b"]) == []
    assert [one.id for one in storage.list_feedback(tenant=None, episode_ids=["a", "b"])] == ["0", "1", "2", "x"]


@pytest.mark.parametrize(
    ("score", "steps", "message"),
    [
        (1.5, (), "between 0 and 1"),
        (float("nan"), (), "between 0 and 1"),
        (None, ((0, 1.5),), "step 0 is 1.5"),
        (None, ((-1, 1.0),), "count from 0"),
        (None, ((1, 1.0), (1, 0.0)), "more than once"),
    ],
)
def test_scores_out_of_range(score: float | None, steps: tuple[tuple[int, float], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Feedback(id="f", episode_id=EpisodeId("a"), score=score, steps=steps)
