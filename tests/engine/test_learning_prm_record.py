"""A worker's record is what a critic expects of it: asked before it is taught, and corrected by ratings exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning import prm
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.learning.labels import rollout_labels, step_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.prm_record import LEAST, MOST, Records
from kaelum_graph.learning.prm_replay import RECORD, Kept, keep
from kaelum_graph.router import FEATURES
from kaelum_graph.types import Array, EpisodeId, WorkerName

MATH, CODE, LOGIC = WORKERS = tuple(WorkerName(name) for name in ("math", "code", "logic"))
PROTOTYPES = np.eye(len(WORKERS), EMBEDDING_SIZE, dtype=np.float32)
PASS, FAIL = (Evidence(tier=Tier.CONSTRAINT, source="equation", outcome=one) for one in ("pass", "fail"))
PERSON = Evidence(tier=Tier.HUMAN, source="person", outcome="fail")


def rollout(worker: WorkerName, cluster: int, *evidence: Evidence) -> SeenRollout:
    return SeenRollout(
        worker=worker, operator="sample", blind=True, cluster=cluster, prefix=cluster, evidence=evidence, tokens=40,
        finish="stop", features=None,
    )  # fmt: skip


def query(direction: int) -> Array:
    features = np.zeros(FEATURES, dtype=np.float32)
    features[direction] = 1.0
    return features


def episode(number: int, *, right: Sequence[WorkerName] = (MATH,), direction: int = 50) -> SeenEpisode:
    """Two rollouts of "math" and one of "code"; those of `right` are."""
    workers = (MATH, MATH, CODE)
    blank = SeenEpisode(
        id=EpisodeId(""), features=query(direction), probabilities=dict.fromkeys(WORKERS, 1 / 3),
        propensities=dict.fromkeys(WORKERS, 1.0), allocation=dict.fromkeys(WORKERS, 1), chosen=0,
        answers=tuple(str(place) for place in range(len(workers))),
        rollouts=tuple(
            rollout(worker, place, PASS if worker in right else FAIL) for place, worker in enumerate(workers)
        ),
    )  # fmt: skip
    ids = (EpisodeId(f"{number}-{suffix}") for suffix in range(1000))
    return replace(blank, id=next(id for id in ids if not replace(blank, id=id).audit))


def rated(seen: SeenEpisode) -> SeenEpisode:
    """The first rollout's answer is wrong, says a person."""
    first, *rest = seen.rollouts
    return replace(seen, rollouts=(replace(first, evidence=(*first.evidence, PERSON)), *rest))


def change(seen: SeenEpisode) -> FeedbackChange:
    return FeedbackChange(sequence=1, at=0.0, before=None, after=Feedback(id="a", episode_id=seen.id, score=0.0))


def kept(records: Records, seen: SeenEpisode) -> Kept:
    labels = rollout_labels(seen, NoiseModel())
    return keep(seen, labels, step_labels(seen, labels), [1.0] * len(labels), records.of(seen.features))


def model() -> RewardModel:
    return RewardModel(noise=NoiseModel(), workers=WORKERS, prototypes=PROTOTYPES, network=False)


def records_of(learned: RewardModel) -> dict[str, np.ndarray]:
    return {name: array for name, array in learned.tensors().items() if name.startswith("record.")}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, tolerance: float = 0.0) -> bool:
    return all(np.allclose(one[name], other[name], rtol=0.0, atol=tolerance) for name in one)


def test_a_worker_is_known_by_its_labels_on_queries_like_this_one() -> None:
    records = Records(WORKERS, PROTOTYPES)
    for number in range(30):
        seen = episode(number, right=(MATH,) if number % 2 else (CODE,), direction=50 if number % 2 else 70)
        records.learn(seen.features, kept(records, seen))
    here, there, elsewhere = (records.of(query(direction)) for direction in (50, 70, 90))
    assert here[MATH] > 1.0 > -1.0 > here[CODE]
    assert there[CODE] > 1.0 > -1.0 > there[MATH]
    assert abs(elsewhere[MATH] - elsewhere[CODE]) < 1.0


def test_before_anything_is_learned_the_prior_is_the_record() -> None:
    known = Records(WORKERS, PROTOTYPES).of(query(WORKERS.index(LOGIC)))
    assert known[LOGIC] > known[MATH] == pytest.approx(known[CODE])


def test_records_are_bounded() -> None:
    records = Records(WORKERS, PROTOTYPES)
    for number in range(200):
        seen = episode(number)
        records.learn(seen.features, kept(records, seen))
    low, high = (np.log(bound / (1 - bound)) for bound in (LEAST, MOST))
    for direction in range(0, EMBEDDING_SIZE, 16):
        features = query(direction) * 30
        assert all(low <= value <= high for value in records.of(features).values())


def test_an_episode_of_unknown_workers_says_nothing() -> None:
    records = Records(WORKERS[:1], PROTOTYPES[:1])
    before, seen = records.tensors(), episode(0)
    strange = replace(seen, rollouts=seen.rollouts[2:])
    records.learn(strange.features, kept(records, strange))
    assert same(before, records.tensors())


def test_an_episodes_record_has_not_seen_its_own_labels() -> None:
    learned, records = model(), Records(WORKERS, PROTOTYPES)
    for number in range(4):
        learned.learn_episode(episode(number))
        records.learn(query(50), kept(records, episode(number)))
    seen = episode(4, right=(CODE,))
    said = records.of(seen.features)
    learned.learn_episode(seen)
    rows = learned.tensors()["kept.raw"][-len(seen.rollouts) :, RECORD]
    assert rows.tolist() == pytest.approx([said[one.worker] for one in seen.rollouts], abs=1e-6)
    records.learn(seen.features, kept(records, seen))
    assert abs(records.of(seen.features)[CODE] - said[CODE]) > 0.1  # what it would have been after


def test_a_rating_is_as_if_it_had_been_there_from_the_start() -> None:
    late, early = model(), model()
    seen = [episode(number) for number in range(6)]
    for number, one in enumerate(seen):
        late.learn_episode(one)
        early.learn_episode(rated(one) if number == 2 else one)
    unrated, column = records_of(late), late.tensors()["kept.raw"][:, RECORD]
    late.learn_feedback(change(seen[2]), rated(seen[2]))
    assert not same(unrated, records_of(late), tolerance=1e-4)
    assert same(records_of(early), records_of(late), tolerance=1e-7)
    np.testing.assert_array_equal(late.tensors()["kept.raw"][:, RECORD], column)
    late.learn_feedback(change(seen[2]), seen[2])
    assert same(unrated, records_of(late), tolerance=1e-7)


def test_what_left_the_buffer_or_was_dropped_stays_in_the_records_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prm, "REPLAY", 3)
    learned = model()
    seen = [episode(number) for number in range(4)]
    for one in seen:
        learned.learn_episode(one)
    before = records_of(learned)
    learned.learn_feedback(change(seen[0]), rated(seen[0]))  # its rows are learned again, without a record
    assert [one["id"] for one in learned.meta()["late"]["kept"]] == [seen[0].id]
    assert np.isnan(learned.tensors()["late.raw"][:, RECORD]).all()
    assert same(before, records_of(learned))
    learned.learn_feedback(change(seen[0]), seen[0])
    assert same(before, records_of(learned))
    learned.learn_feedback(change(seen[3]), None)
    assert seen[3].id not in [one["id"] for one in learned.meta()["kept"]]
    assert same(before, records_of(learned))


def test_another_number_of_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="records of 336 coefficients; expected 448"):
        Records(WORKERS, PROTOTYPES).load(Records(WORKERS[:2], PROTOTYPES[:2]).tensors())
