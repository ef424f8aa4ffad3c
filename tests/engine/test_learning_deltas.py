"""Reward deltas: a few ratings change the route of queries like the rated one, and of no other; undone exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.encoder import Encoder
from kaelum_graph.feedback import Feedback, FeedbackChange, score_of_stars
from kaelum_graph.learning.component import Component
from kaelum_graph.learning.deltas import HALF_LIFE, MOST, RewardDeltas, moves_of
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.router import DELTA_SCALE, FEATURES, Router
from kaelum_graph.types import Array, EpisodeId, WorkerName
from kaelum_graph.workers import all_workers

MATH, CODE, LOGIC = WorkerName("math"), WorkerName("code"), WorkerName("logic")

PIZZAS = (
    "A pizza costs 9 dollars and a drink 2 dollars. What do 3 pizzas and 3 drinks cost?",
    "Two burgers cost 5 dollars each and a drink costs 3 dollars. What do they cost together?",
    "A pizza is 11 dollars. How much are 4 pizzas with a tip of 6 dollars?",
    "What do 5 sandwiches at 4 dollars and 2 drinks at 3 dollars cost?",
)
PIZZA_LIKE = "A sandwich costs 6 dollars and a drink 2 dollars. What do 2 sandwiches and 4 drinks cost?"
UNLIKE = (
    "Write a Python function that reverses a linked list.",
    "Ann says Bob lies. Bob says Cid lies. Cid says both lie. Who tells the truth?",
    "Who wrote Pride and Prejudice?",
    "Write a short poem about autumn rain.",
)


def axis(*places: int) -> Array:
    """Unit features between the axes `places`: equal places give cosine 1, no common one 0."""
    features = np.zeros(FEATURES, np.float32)
    features[list(places)] = 1 / np.sqrt(len(places))
    return features


def seen(name: str = "e", *, features: Array | None = None, worker: WorkerName = MATH) -> SeenEpisode:
    rollout = SeenRollout(
        worker=worker, operator="sample", blind=True, cluster=0, prefix=0, evidence=(), tokens=9, finish="stop"
    )
    return SeenEpisode(
        id=EpisodeId(name), features=axis(0) if features is None else features, probabilities={}, propensities={},
        allocation={worker: 1}, answers=("4",), chosen=0, shown=0, rollouts=(rollout,),
    )  # fmt: skip


def said(name: str = "f", **rating: object) -> Feedback:
    return Feedback(id=name, **{"episode_id": EpisodeId("e"), "source": "cli", **rating})  # pyright: ignore[reportArgumentType]


def change(after: Feedback | None, before: Feedback | None = None) -> FeedbackChange:
    return FeedbackChange(sequence=1, at=0.0, before=before, after=after)


def state(deltas: RewardDeltas) -> str:
    return json.dumps([deltas.meta(), {name: array.tolist() for name, array in deltas.tensors().items()}])


@pytest.mark.parametrize(
    ("rating", "expected"),
    [
        (said(score=1.0), {MATH: 0.02}),
        (said(score=0.8), {MATH: 0.02}),
        (said(score=0.75), {}),
        (said(score=0.3), {MATH: -0.05}),
        (said(correction="5"), {MATH: -0.05}),
        (said(correction="4.0"), {}),
        (said(worker="code"), {MATH: -0.03, CODE: 0.05}),
        (said(worker="code", score=0.0), {MATH: -0.08, CODE: 0.05}),
        (said(worker="code", score=1.0), {MATH: -0.01, CODE: 0.05}),
        (said(worker="math"), {MATH: 0.05}),
        (said(score=0.0, key="conciseness"), {}),
        (said(score=0.0, worker="code", source="langsmith:model"), {}),
        (said(comment="hm"), {}),
    ],
)
def test_the_increments(rating: Feedback, expected: dict[WorkerName, float]) -> None:
    assert bool(moves_of(rating, seen())) == bool(expected)
    deltas = RewardDeltas()
    deltas.learn_feedback(change(rating), seen())
    assert deltas.worker_deltas(axis(0)) == pytest.approx(expected)


def test_without_an_answer_the_worker_with_most_rollouts_is_meant() -> None:
    episode = replace(seen(), chosen=None, shown=None, answers=(), allocation={MATH: 2, CODE: 6}, rollouts=())
    moves = moves_of(said(correction="5"), episode)
    assert (moves.routes, moves.answerer, moves.answer) == ({}, CODE, -0.05)
    assert moves_of(said(worker="logic", score=0.0), replace(episode, allocation={})).routes == {LOGIC: 0.05}


def test_near_queries_share_by_how_near_they_are() -> None:
    deltas = RewardDeltas()
    deltas.learn_feedback(change(said(worker="code")), seen())
    assert deltas.worker_deltas(axis(0))[CODE] == pytest.approx(0.05)
    assert deltas.worker_deltas(axis(0, 1))[CODE] == pytest.approx(0.05), "a cosine of 0.71"
    assert deltas.worker_deltas(axis(0, 1, 2, 3))[CODE] == pytest.approx(0.05 * 2 / 3), "a cosine of 0.5"
    assert deltas.worker_deltas(axis(1)) == {}


def test_a_rating_fades_with_the_queries_answered_since() -> None:
    deltas = RewardDeltas()
    deltas.learn_feedback(change(said(worker="code")), seen())
    for number in range(HALF_LIFE):
        deltas.learn_episode(seen(str(number)))
    assert deltas.worker_deltas(axis(0))[CODE] == pytest.approx(0.025)
    deltas.learn_feedback(change(said("later", worker="code", episode_id=EpisodeId("l"))), seen("l"))
    assert deltas.worker_deltas(axis(0))[CODE] == pytest.approx(0.075)


def test_a_changed_or_deleted_rating_is_undone_exactly() -> None:
    deltas, first, second = RewardDeltas(), said(worker="code"), said("g", score=0.1)
    deltas.learn_feedback(change(second), seen())
    deltas.learn_episode(seen("other"))
    without = state(deltas)
    deltas.learn_feedback(change(first), seen())
    with_it = state(deltas)
    deltas.learn_episode(seen("another"))
    changed = replace(first, worker="logic")
    deltas.learn_feedback(change(changed, first), seen())
    assert deltas.worker_deltas(axis(0)).keys() == {MATH, LOGIC}
    deltas.learn_feedback(change(first, changed), seen())
    assert state(deltas) == with_it.replace('"answered": 1', '"answered": 2').replace('"e", 1,', '"e", 2,')
    deltas.learn_feedback(change(None, first), None)
    assert state(deltas) == without.replace('"answered": 1', '"answered": 2')
    deltas.learn_feedback(change(None, second), None)
    assert state(deltas) == state(RewardDeltas())
    deltas.learn_episode(seen("a query that nobody rated"))
    assert state(deltas) == state(RewardDeltas()), "nothing is new, so no version need be"
    assert deltas.worker_deltas(axis(0)) == {}
    assert deltas.tensors()["embeddings"].shape == (0, 384)


def test_a_rating_that_says_something_else_is_new_from_then_on() -> None:
    deltas, first = RewardDeltas(), said(worker="code")
    deltas.learn_feedback(change(first), seen())
    for number in range(HALF_LIFE):
        deltas.learn_episode(seen(str(number)))
    praised = replace(first, score=0.5, comment="well")
    deltas.learn_feedback(change(praised, first), seen())
    assert deltas.worker_deltas(axis(0))[CODE] == pytest.approx(0.025), "it moves what it moved"
    deltas.learn_feedback(change(said(worker="logic"), praised), seen())
    assert deltas.worker_deltas(axis(0)) == pytest.approx({MATH: -0.03, LOGIC: 0.05})


@pytest.mark.parametrize(("stars", "move"), [(1, -0.05), (2, -0.05), (3, 0.0), (4, 0.02), (5, 0.02)])
def test_four_stars_are_praise_and_two_are_blame(stars: int, move: float) -> None:
    assert moves_of(said(score=score_of_stars(stars)), seen()).answer == move


def test_a_change_told_twice_counts_once() -> None:
    deltas, rating = RewardDeltas(), said(worker="code", score=0.0)
    deltas.learn_feedback(change(rating), seen())
    once = state(deltas)
    deltas.learn_feedback(change(rating), seen())
    assert state(deltas) == once
    for _ in range(2):
        deltas.learn_feedback(change(None, rating), seen())
    assert deltas.worker_deltas(axis(0)) == {}
    # Ids are a tenant's own.
    deltas.learn_feedback(change(rating), seen())
    deltas.learn_feedback(change(replace(rating, tenant="ann")), seen("of ann"))
    assert deltas.worker_deltas(axis(0))[CODE] == pytest.approx(0.1)


def test_no_crowd_moves_a_worker_without_end() -> None:
    deltas = RewardDeltas()
    for number in range(30):
        deltas.learn_feedback(change(said(str(number), worker="code")), seen())
    assert deltas.worker_deltas(axis(0)) == pytest.approx({MATH: -0.05, CODE: 0.05}), "one episode is one question"
    for number in range(30):
        rating = said(f"of {number}", worker="code", episode_id=EpisodeId(str(number)))
        deltas.learn_feedback(change(rating), seen(str(number)))
    assert deltas.worker_deltas(axis(0)) == pytest.approx({MATH: -MOST, CODE: MOST})


def test_blame_is_held_against_how_others_answer_there() -> None:
    deltas = RewardDeltas()
    blamed: list[float] = []
    for number in range(20):
        deltas.learn_feedback(
            change(said(str(number), score=0.0, episode_id=EpisodeId(str(number)))), seen(str(number))
        )
        blamed.append(deltas.worker_deltas(axis(0))[MATH])
    assert blamed[0] == pytest.approx(-0.05)
    assert blamed == sorted(blamed, reverse=True)
    assert -0.1 < blamed[-1] < -0.09, "a question that is hard for all is no reason to leave"
    for number in range(20, 40):
        name = EpisodeId(str(number))
        deltas.learn_feedback(change(said(name, score=0.0, episode_id=name)), seen(name, worker=CODE))
    both = deltas.worker_deltas(axis(0))
    assert both[MATH] == pytest.approx(both[CODE]), "who else was asked is no better"
    for number in range(40, 60):
        name = EpisodeId(str(number))
        deltas.learn_feedback(change(said(name, score=1.0, episode_id=name)), seen(name, worker=LOGIC))
    three = deltas.worker_deltas(axis(0))
    assert three[LOGIC] == pytest.approx(MOST)
    assert three[MATH] < both[MATH]
    assert deltas.worker_deltas(axis(1)) == {}


def test_the_oldest_ratings_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaelum_graph.learning.deltas.MOST_RATINGS", 2)
    deltas = RewardDeltas()
    for number in range(4):
        name = EpisodeId(str(9 - number))
        deltas.learn_feedback(change(said(name, worker="code", episode_id=name)), seen(name, features=axis(number)))
        deltas.learn_episode(seen(name))
    assert [bool(deltas.worker_deltas(axis(number))) for number in range(4)] == [False, False, True, True]
    assert deltas.tensors()["embeddings"].shape == (2, 384)


def test_it_survives_a_save_and_load() -> None:
    deltas: Component = RewardDeltas()
    assert deltas.name == "deltas"
    episode = seen(features=axis(0, 1))
    deltas.learn_feedback(change(said(worker="code")), episode)
    deltas.learn_feedback(change(said("g", score=0.0, episode_id=EpisodeId("b"), tenant="ann")), seen("b"))
    deltas.learn_episode(episode)
    again = RewardDeltas()
    again.load(deltas.tensors(), json.loads(json.dumps(deltas.meta())))
    assert isinstance(deltas, RewardDeltas)
    assert state(again) == state(deltas)
    assert again.worker_deltas(axis(0)) == deltas.worker_deltas(axis(0))
    again.learn_feedback(change(None, said("g", tenant="ann")), None)
    assert again.worker_deltas(axis(0)) != deltas.worker_deltas(axis(0)), "they share nothing"
    empty = RewardDeltas()
    empty.load(RewardDeltas().tensors(), RewardDeltas().meta())
    assert empty.worker_deltas(axis(0)) == {}


@pytest.mark.parametrize(
    ("tensors", "meta"),
    [
        ({}, {}),
        ({"embeddings": np.zeros((0, 384))}, {"answered": 0, "episodes": [], "ratings": []}),
        ({"embeddings": np.zeros((1, 384))}, {"format": 2, "answered": 0, "episodes": [], "ratings": []}),
        ({"embeddings": np.zeros((1, 384))}, {"format": 2, "answered": 0, "episodes": ["e"], "ratings": []}),
        (
            {"embeddings": np.zeros((0, 384))},
            {"format": 2, "answered": 0, "episodes": [], "ratings": [["", "f", "e", 0, {}, None, 0.0]]},
        ),
        ({"embeddings": np.zeros((0, 384))}, {"format": 2, "answered": "x", "episodes": [], "ratings": []}),
    ],
)
def test_it_loads_nothing_else(tensors: dict[str, object], meta: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not the reward deltas' state"):
        RewardDeltas().load(tensors, meta)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder(encoder_folder)


@pytest.fixture(scope="module")
def router(encoder: Encoder) -> Router:
    workers = {name: (one.description, *one.examples) for name, one in all_workers().items()}
    return Router(workers=workers, encoder=encoder)


def test_a_handful_of_suggestions_changes_the_route_of_similar_queries_only(encoder: Encoder, router: Router) -> None:
    deltas = RewardDeltas()
    similar, others = encoder.features(PIZZA_LIKE), [encoder.features(text) for text in UNLIKE]
    before = router.probabilities(similar)
    assert next(iter(before)) == MATH
    rest = [router.probabilities(features) for features in others]
    gaps = [before[MATH] - before[CODE]]
    for number, text in enumerate(PIZZAS):
        rating = said(str(number), worker="code", score=0.0, episode_id=EpisodeId(text))
        deltas.learn_feedback(change(rating), seen(text, features=encoder.features(text)))
        after = router.probabilities(similar, deltas=deltas.worker_deltas(similar))
        gaps.append(after[MATH] - after[CODE])
    assert gaps == sorted(gaps, reverse=True), "each suggestion moves it on"
    route = router.route(similar, generator=np.random.default_rng(0), rollouts=8, deltas=deltas.worker_deltas(similar))
    assert route.worker == CODE
    assert route.allocation[CODE] == max(route.allocation.values())
    assert sum(route.probabilities.values()) == pytest.approx(1.0)
    assert route.propensities[CODE] == 1.0
    for features, was in zip(others, rest, strict=True):
        assert deltas.worker_deltas(features) == {}
        assert router.probabilities(features, deltas=deltas.worker_deltas(features)) == was


def test_a_delta_moves_the_logits_before_anything_is_drawn(encoder: Encoder, router: Router) -> None:
    features = encoder.features(UNLIKE[1])
    plain = router.probabilities(features)
    moved = router.probabilities(features, deltas={MATH: 0.05, WorkerName("unknown"): 0.3})
    assert np.log(moved[MATH] / plain[MATH]) - np.log(moved[CODE] / plain[CODE]) == pytest.approx(0.05 * DELTA_SCALE)
    # The propensities are those of the moved policy: the share of draws in which a worker has rollouts.
    generator, drawn, counts = np.random.default_rng(1), 500, dict.fromkeys(plain, 0)
    route = router.route(features, generator=generator, rollouts=8, deltas={MATH: 0.3})
    for _ in range(drawn):
        for name in router.route(features, generator=generator, rollouts=8, deltas={MATH: 0.3}).allocation:
            counts[name] += 1
    for name, propensity in route.propensities.items():
        assert counts[name] / drawn == pytest.approx(propensity, abs=4 * 0.5 / drawn**0.5)
