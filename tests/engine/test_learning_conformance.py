"""Every component of the learned state: a function of the log alone, which a save and a load leave no trace in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.component import Component
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.state import LearnedState, Part, Scored, digest_of
from kaelum_graph.learning.versions import Versions
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Mean, Order
from tests.engine.learning_whole import searched, whole_state

EVENTS = 60


class Scalar(Mean):
    """Keeps a tensor of no dimensions, as optimisers keep their number of steps."""

    def tensors(self) -> dict[str, np.ndarray]:
        return {"total": np.array(self.total)}

    def load(self, tensors: dict[str, np.ndarray], meta: dict[str, int]) -> None:
        assert tensors["total"].shape == ()
        self.total, self.count = float(tensors["total"]), meta["count"]


def events() -> list[LearningEvent]:
    """Searches of 12 rollouts, most of them exhausted, and some ratings."""
    random = np.random.default_rng(11)
    made: list[LearningEvent] = []
    for number in range(1, EVENTS + 1):
        if number % 6 == 0:
            rated = made[-2].episode
            assert rated is not None
            rating = Feedback(id=f"f{number}", episode_id=rated.id, score=float(number % 4 == 0), created_at=1.0)
            change = FeedbackChange(sequence=number, at=float(number), before=None, after=rating)
            made.append(
                LearningEvent(
                    sequence=number, kind="feedback", episode_id=rated.id, episode=rated, change=change,
                    ratings=(rating,),
                )
            )  # fmt: skip
            continue
        episode = searched(f"e{number}", random, exhausted=number % 5 != 0)
        made.append(LearningEvent(sequence=number, kind="episode", episode_id=episode.id, episode=episode))
    return made


LOG = events()


def taught(state: LearnedState, log: list[LearningEvent]) -> LearnedState:
    for event in log:
        state.apply(event)
    return state


@pytest.fixture(scope="module")
def whole() -> dict[str, Part]:
    return taught(whole_state(), LOG).parts()


def equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other, equal_nan=True)


def differing(one: dict[str, Part], other: dict[str, Part]) -> dict[str, list[str]]:
    """By component, the tensors that differ, or "meta"."""
    return {
        name: [
            tensor
            for tensor in sorted({*one[name].tensors, *other[name].tensors})
            if not equal(one[name].tensors.get(tensor), other[name].tensors.get(tensor))
        ]
        or ["meta"]
        for name in one
        if one[name].digest != other[name].digest
    }


def test_the_same_log_gives_the_same_state_bit_for_bit(whole: dict[str, Part]) -> None:
    assert differing(whole, taught(whole_state(), LOG).parts()) == {}


@pytest.mark.parametrize("restarts", [(20,), (7, 31, 32)])
def test_a_restart_leaves_no_trace(tmp_path: Path, whole: dict[str, Part], restarts: tuple[int, ...]) -> None:
    versions, state, last = Versions(tmp_path / "state"), whole_state(), 0
    for at in (*restarts, EVENTS):
        taught(state, LOG[last:at])
        kept, last = versions.save(state), at
        again = whole_state()
        versions.load(kept, again)
        assert differing(state.parts(), again.parts()) == {}, f"loading loses something after event {at}"
        state = again
    assert differing(whole, state.parts()) == {}


def test_every_component_learned_something(whole: dict[str, Part]) -> None:
    fresh = whole_state().parts()
    assert sorted(differing(fresh, whole)) == ["deltas", "noise", "prm", "router", "stop"]


def test_what_was_read_for_scoring_changes_nothing(whole: dict[str, Part]) -> None:
    state = whole_state()
    state.load(whole)
    scored = [one for one in state.components if isinstance(one, Scored)]
    losses = [one.loss(event.episode) for one in scored for event in LOG[:10] if event.episode is not None]
    known = [loss for loss in losses if loss is not None]
    assert known
    assert all(0.0 <= loss <= 1.0 for loss in known)
    assert differing(whole, state.parts()) == {}


def test_an_audit_episode_trains_nothing_that_is_scored(whole: dict[str, Part]) -> None:
    audit = next(name for name in map("a{}".format, range(100)) if replace(LOG[0].episode, id=name).audit)  # pyright: ignore[reportArgumentType]
    state = whole_state()
    state.load(whole)
    assert LOG[0].episode is not None
    episode = replace(LOG[0].episode, id=EpisodeId(audit))
    state.apply(LearningEvent(sequence=EVENTS + 1, kind="episode", episode_id=episode.id, episode=episode))
    for name in ("router", "prm", "stop"):
        before, after = whole[name].tensors, state.parts()[name].tensors
        assert all(np.array_equal(before[tensor], after[tensor], equal_nan=True) for tensor in after), name


@pytest.mark.parametrize("make", [Order, Mean, Scalar])
def test_a_part_keeps_the_shapes_of_its_tensors(tmp_path: Path, make: Callable[[], Component]) -> None:
    state, versions = LearnedState([make()]), Versions(tmp_path / "state")
    taught(state, LOG[:5])
    again = LearnedState([make()])
    versions.load(versions.save(state), again)
    assert digest_of(again.parts()) == digest_of(state.parts())
