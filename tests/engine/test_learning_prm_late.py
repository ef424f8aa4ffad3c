"""What ratings teach the reward model of episodes that have left its buffer: what they change, once, and undone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning import prm, prm_late
from kaelum_graph.learning.episode import SeenEpisode, is_audit
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.ratings import said_later, with_ratings
from kaelum_graph.learning.state import Part
from tests.engine.learning_whole import ROUTER, WORKERS, searched

REPLAY = 8


@pytest.fixture(autouse=True)
def short_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prm, "REPLAY", REPLAY)
    monkeypatch.setattr(prm, "SCALED", 4)
    monkeypatch.setattr(prm_late, "LATE", 2)


def episodes(count: int = 14) -> list[SeenEpisode]:
    random, names = np.random.default_rng(3), (f"e{number}" for number in range(100))
    return [searched(next(one for one in names if not is_audit(one)), random, rollouts=6) for _ in range(count)]


def fresh() -> RewardModel:
    return RewardModel(
        noise=NoiseModel(), workers=WORKERS, prototypes=ROUTER.prototypes, groups=("hidden",), network=False
    )


def model(seen: list[SeenEpisode]) -> RewardModel:
    learned = fresh()
    for one in seen:
        learned.learn_episode(one)
    return learned


def digest(learned: RewardModel) -> str:
    return Part(tensors=learned.tensors(), meta=json.loads(json.dumps(learned.meta()))).digest


def rating(seen: SeenEpisode, **said: object) -> Feedback:
    return Feedback(**{"id": "f", "episode_id": seen.id, "source": "cli", **said})  # pyright: ignore[reportArgumentType]


def tell(learned: RewardModel, seen: SeenEpisode, *ratings: Feedback, taken_back: bool = False) -> None:
    """The last of `ratings` came, beside those before it; or went."""
    [*others, last] = ratings
    change = FeedbackChange(sequence=1, at=0.0, before=last if taken_back else None, after=None if taken_back else last)
    learned.learn_feedback(change, with_ratings(seen, others if taken_back else ratings))


def late_ids(learned: RewardModel) -> list[str]:
    return [one["id"] for one in learned.meta()["late"]["kept"]]


@pytest.mark.parametrize("place", [0, -1], ids=["left the buffer", "in the buffer"])
def test_what_changes_no_vote_teaches_nothing(place: int) -> None:
    seen = episodes()
    learned = model(seen)
    before, one = digest(learned), seen[place]
    for said in ({"comment": "thanks"}, {"worker": "code"}, {"score": 0.5}, {"score": 0.0, "key": "conciseness"}):
        tell(learned, one, rating(one, **said))
        assert digest(learned) == before, said
        tell(learned, one, rating(one, **said), taken_back=True)
        assert digest(learned) == before, said


def test_a_rating_of_an_old_episode_teaches_what_it_changes_beside_the_buffer() -> None:
    seen = episodes()
    learned, never = model(seen), model(seen)
    old = seen[0]
    tell(learned, old, rating(old, score=0.0))
    assert late_ids(learned) == [old.id]
    assert learned.meta()["kept"] == never.meta()["kept"], "no newer episode makes room for it"
    assert learned.meta()["seen"] == never.meta()["seen"]
    tensors = learned.tensors()
    assert tensors["head.absorbed_curvature"].tolist() == never.tensors()["head.absorbed_curvature"].tolist()
    told = [rollout.cluster == old.chosen for rollout in old.rollouts]
    assert [bool(weight) for weight in tensors["late.weights"][: len(told)]] == told
    said = [model.read(old.features, old.rollouts).paths[told.index(True)] for model in (learned, never)]
    assert said[0] < said[1]
    once = digest(learned)
    tell(learned, old, rating(old, score=0.0), rating(old, comment="as I said"))
    assert digest(learned) == once


def test_it_is_taken_back_with_what_it_taught() -> None:
    seen = episodes()
    learned, never = model(seen), model(seen)
    old = seen[0]
    tell(learned, old, rating(old, score=0.0, steps=((0, 1.0),)))
    assert late_ids(learned) == [old.id]
    tell(learned, old, rating(old, score=1.0))
    assert late_ids(learned) == [old.id], "the last word alone"
    tell(learned, old, rating(old, score=1.0), taken_back=True)
    assert learned.meta() == never.meta()
    for _ in range(300):  # as later events would: the fit goes on from where it stood
        for one in (learned, never):
            one._fit()  # pyright: ignore[reportPrivateUsage]
    after, without = (one.tensors()["head.weights"] for one in (learned, never))
    np.testing.assert_allclose(after, without, atol=1e-6)


def test_a_forgotten_episode_takes_its_late_rows_along() -> None:
    seen = episodes()
    learned, old = model(seen), seen[0]
    tell(learned, old, rating(old, score=0.0))
    learned.learn_feedback(FeedbackChange(sequence=2, at=0.0, before=rating(old), after=None), None)
    assert learned.meta() == model(seen).meta()


def test_what_had_been_said_in_the_buffer_is_no_news_after_it() -> None:
    seen = episodes(20)
    learned, rated = model(seen[:4]), seen[2]
    tell(learned, rated, rating(rated, score=1.0))
    for one in seen[4:]:
        learned.learn_episode(one)
    assert learned.meta()["late"] == {"kept": [], "told": [[rated.id, said_later(_voted(rated, 1.0))]]}
    before = digest(learned)
    tell(learned, rated, rating(rated, score=1.0), rating(rated, source="api", score=0.9))
    assert digest(learned) == before, "another person says the same"
    tell(learned, rated, rating(rated, score=0.0))
    assert late_ids(learned) == [rated.id]
    tell(learned, rated, rating(rated, score=1.0))
    assert late_ids(learned) == []


def test_the_oldest_late_rows_go_into_the_posterior_and_are_not_learned_again() -> None:
    seen = episodes()
    learned = model(seen)
    before = learned.tensors()["head.absorbed_curvature"].trace()
    for one in seen[:3]:
        tell(learned, one, rating(one, score=0.0))
    assert late_ids(learned) == [one.id for one in seen[1:3]]
    assert learned.meta()["late"]["told"] == [[seen[0].id, said_later(_voted(seen[0], 0.0))]]
    assert learned.tensors()["head.absorbed_curvature"].trace() > before
    held = digest(learned)
    for _ in range(2):
        tell(learned, seen[0], rating(seen[0], score=0.0), taken_back=True)
        tell(learned, seen[0], rating(seen[0], score=0.0))
        assert digest(learned) == held


def test_a_saved_one_goes_on_as_if_never_stopped() -> None:
    seen = episodes(20)
    first = model(seen[:14])
    for one in seen[:3]:
        tell(first, one, rating(one, score=0.0))
    second = fresh()
    second.load(first.tensors(), json.loads(json.dumps(first.meta())))
    for learned in (first, second):
        tell(learned, seen[1], rating(seen[1], score=0.0), taken_back=True)
        for one in seen[14:]:
            learned.learn_episode(one)
    assert digest(first) == digest(second)


def test_an_earlier_programs_is_refused() -> None:
    learned = model(episodes(3))
    meta = {name: value for name, value in learned.meta().items() if name != "late"}
    with pytest.raises(ValueError, match="not a saved reward model"):
        fresh().load(learned.tensors(), meta)


def _voted(seen: SeenEpisode, score: float) -> SeenEpisode:
    return with_ratings(seen, [rating(seen, score=score)])
