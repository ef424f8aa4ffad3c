"""A component that fails on an event: it passes over it as if it had never come, and nothing else is lost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kaelum_graph.errors import StorageError
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning import state as state_module
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.faults import ERROR_LENGTH, IN_A_ROW, NEWEST, TRY_EVERY, PassedOver
from kaelum_graph.learning.guarded import KEEP_EVERY, Guarded
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.replay import replay
from kaelum_graph.learning.state import LearnedState, digest_of, is_held_out
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId
from tests.engine import test_learning_conformance as real
from tests.engine.failing_parts import Failing, Refusing, episode_event, failing_state, spared_state
from tests.engine.learning_parts import Mean, Order, seen
from tests.engine.learning_whole import whole_state

Learn = Callable[[Any, SeenEpisode], None]


def guarded(make: Callable[[], LearnedState], names: Sequence[str], *, kept: Sequence[int] = ()) -> LearnedState:
    """Has taken in these episodes; after each of those numbered `kept`, what it knew was noted as a checkpoint is."""
    taking = Guarded(make)
    for number, name in enumerate(names, start=1):
        taking.take(episode_event(number, name))
        if number in kept:
            taking.keep()
    return taking.state


def plain(make: Callable[[], LearnedState], names: Sequence[str]) -> LearnedState:
    state = make()
    for number, name in enumerate(names, start=1):
        state.apply(episode_event(number, name))
    return state


def with_bad(count: int, *bad: int) -> list[str]:
    return ["bad" if number in bad else f"e{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("at", [1, 2, 7, KEEP_EVERY, KEEP_EVERY + 1, 2 * KEEP_EVERY - 1])
def test_one_bad_event_is_passed_over_by_one_component(at: int) -> None:
    names = with_bad(2 * KEEP_EVERY + 5, at)
    state = guarded(failing_state, names)
    assert digest_of(state.parts()) == digest_of(plain(spared_state, names).parts())
    assert (state.position, state.counts) == (len(names), {"episodes": len(names), "feedback": 0})
    error = "ZeroDivisionError: nothing to divide bad by"
    assert state.passed_over == {"failing": PassedOver(count=1, newest=(at,), row=0, error=error)}
    assert state.component(Order).events == len(names)


@pytest.mark.parametrize("kept", [(), (4,), (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)])
def test_where_checkpoints_were_taken_does_not_matter(kept: tuple[int, ...]) -> None:
    names = with_bad(30, 5, 6, 11)
    state, unkept = guarded(failing_state, names, kept=kept), guarded(failing_state, names)
    assert digest_of(state.parts()) == digest_of(unkept.parts())
    assert state.passed_over == unkept.passed_over
    assert state.passed_over["failing"].newest == (5, 6, 11)


def test_what_reads_it_sees_it_as_it_was_before() -> None:
    names = with_bad(6, 3)
    reading = next(one for one in guarded(failing_state, names).components if one.name == "reading")
    spared = next(one for one in plain(spared_state, names).components if one.name == "reading")
    assert reading.tensors() == spared.tensors()
    assert reading.meta() == {"events": 6}, "it learned the bad one itself"


def test_two_components_may_fail_on_one_event_and_on_several() -> None:
    def failing() -> LearnedState:
        return LearnedState(
            [Failing(lambda name: name in ("e4", "e6"), name="a"), Order(), Failing("e4".__eq__, name="b")]
        )

    state = guarded(failing, with_bad(9))
    assert {name: one.newest for name, one in state.passed_over.items()} == {"a": (4, 6), "b": (4,)}
    assert [one.meta()["events"] for one in state.components] == [7, 9, 8]


def test_eight_in_a_row_set_it_aside_and_it_is_tried_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[str] = []

    def make() -> LearnedState:
        failing = Failing(lambda name: name != "e1")
        failing.tried = attempts
        return LearnedState([failing, Order()])

    state = guarded(make, with_bad(IN_A_ROW), kept=range(1, IN_A_ROW))
    assert not state.passed_over["failing"].set_aside
    attempts.clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        state = guarded(make, with_bad(100), kept=range(1, 100))
    assert attempts == [f"e{number}" for number in (*range(1, IN_A_ROW + 2), 34, 66, 98)]
    told = state.passed_over["failing"]
    assert (told.count, told.row, told.set_aside) == (99, 99, True)
    assert told.newest == (8, 9, 34, 66, 98)
    assert len(told.newest) == NEWEST
    assert [one.meta()["events"] for one in state.components] == [1, 100]
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings.count("'failing' failed on 8 events in a row and is set aside") == 1
    assert len(warnings) == 1 + IN_A_ROW + 3, "a line for each event that it failed on"


def test_one_that_was_set_aside_learns_again_once_it_can() -> None:
    state = guarded(lambda: failing_state(lambda name: int(name[1:]) <= 20), with_bad(60))
    told = state.passed_over["failing"]
    assert (told.count, told.row, told.set_aside) == (32, 0, False)
    assert state.component(Failing).events == 60 - 32


def test_in_a_row_counts_what_it_would_have_learned_from() -> None:
    class Proving(Failing):
        """Must prove itself, so it is given no held-out episode."""

        def loss(self, episode: SeenEpisode) -> float | None:
            return None

    names = [f"e{number}" for number in range(1, 60)]
    given = [name for name in names if not is_held_out(name)]
    first_eight = names[: names.index(given[7]) + 1]
    assert any(map(is_held_out, first_eight))
    state = guarded(lambda: LearnedState([Proving(lambda name: True)]), first_eight)
    assert state.passed_over["failing"].row == IN_A_ROW
    taking = Guarded(lambda: LearnedState([Failing(lambda name: True)]))
    taking.take(LearningEvent(sequence=1, kind="forgotten", episode_id=EpisodeId("e"), first=1))
    taking.take(LearningEvent(sequence=2, kind="episode", episode_id=EpisodeId("nothing kept")))
    assert taking.state.passed_over == {}


@pytest.mark.parametrize("error", [OSError, TimeoutError])
def test_a_component_that_raises_what_a_disk_raises_has_failed_itself(error: type[Exception]) -> None:
    state = guarded(lambda: LearnedState([Failing("bad".__eq__, error=error), Order()]), ["good", "bad", "next"])
    assert state.passed_over["failing"].newest == (2,)
    assert [one.meta() for one in state.components] == [{"events": 2}, {"events": 3}]


@pytest.mark.parametrize("error", [StorageError, MemoryError])
def test_what_is_no_fault_of_an_event_is_raised(error: type[Exception]) -> None:
    taking = Guarded(lambda: LearnedState([Failing("bad".__eq__, error=error)]))
    taking.take(episode_event(1, "good"))
    with pytest.raises(error):
        taking.take(episode_event(2, "bad"))
    assert taking.state.passed_over == {}


def test_a_rating_may_be_passed_over_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def rating(sequence: int) -> LearningEvent:
        feedback = Feedback(id="f", episode_id=EpisodeId("e1"), score=1.0, created_at=1.0)
        change = FeedbackChange(sequence=sequence, at=1.0, before=None, after=feedback)
        return LearningEvent(
            sequence=sequence, kind="feedback", episode_id=feedback.episode_id, episode=seen("e1"), change=change,
            ratings=(feedback,),
        )  # fmt: skip

    taking = Guarded(lambda: LearnedState([Refusing(), Order()]))
    taking.take(episode_event(1, "e1"))
    taking.take(rating(2))
    assert [one.meta() for one in taking.state.components] == [{"events": 1}, {"events": 2}]

    def unreadable(*_: object) -> SeenEpisode:
        raise ValueError("these answers can't be compared")

    monkeypatch.setattr(state_module, "with_ratings", unreadable)
    taking.take(rating(3))
    assert {name: one.newest for name, one in taking.state.passed_over.items()} == {"refusing": (2, 3), "order": (3,)}
    assert taking.state.counts == {"episodes": 1, "feedback": 2}


def test_the_log_alone_decides_what_is_passed_over(tmp_path: Path) -> None:
    """A replay from event 0, one process, and processes that were ended anywhere come to the same."""
    storage = Storage(tmp_path / "kaelum.sqlite")
    names = with_bad(80, 5, *range(20, 31), 79)
    for number, name in enumerate(names):
        kept = f"{number}-{name}"
        storage.append_episode(EpisodeId(kept), "q", {}, seen=seen(kept).to_bytes())

    def make() -> LearnedState:
        return failing_state(lambda name: name.endswith("-bad"))

    made = replay(storage, make, wanted=(25,))
    assert made is not None
    versions, state = Versions(tmp_path / "state"), make()
    for number, event in enumerate(storage.learning_events(after=0, limit=100)):
        taking = Guarded(make)
        taking.begin(state)
        taking.take(event)
        state = taking.state
        if number % 7 == 3 or 20 <= number < 30:  # ended, and begun anew from what was kept
            kept = versions.save(state)
            assert versions.show(kept).passed_over == state.passed_over
            state = make()
            versions.load(kept, state)
        if event.sequence == 25:
            assert digest_of(state.parts()) == digest_of(made.at[25])
    assert digest_of(state.parts()) == digest_of(made.state.parts())
    assert state.passed_over == made.state.passed_over
    assert state.passed_over["failing"].count == 2 + TRY_EVERY, "after 8 in a row it waited for the 32nd"
    storage.close()


def test_real_components_leave_no_trace_of_what_they_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reward model fails on one search after it has learned it, the noise model, which others read, on another."""
    log = real.LOG[:20]

    def on(learn: Learn, bad: str, *, fails: bool) -> Learn:
        def learn_episode(self: Any, episode: SeenEpisode) -> None:
            if fails or episode.id != bad:
                learn(self, episode)
            if fails and episode.id == bad:
                raise FloatingPointError("not finite")

        return learn_episode

    def learned(*, fails: bool) -> LearnedState:
        with monkeypatch.context() as patched:
            for kind, bad in ((RewardModel, "e13"), (NoiseModel, "e9")):
                patched.setattr(kind, "learn_episode", on(kind.learn_episode, bad, fails=fails))
            taking = Guarded(whole_state)
            for event in log:
                taking.take(event)
            return taking.state

    failed, spared = learned(fails=True), learned(fails=False)
    assert {name: one.newest for name, one in failed.passed_over.items()} == {"noise": (9,), "prm": (13,)}
    assert real.differing(spared.parts(), failed.parts()) == {}
    assert real.differing(real.taught(whole_state(), log).parts(), failed.parts()) != {}


def test_what_is_kept_of_an_error_is_short_and_reads_back(tmp_path: Path) -> None:
    class Wordy(Failing):
        def learn_episode(self, episode: SeenEpisode) -> None:
            raise ValueError("one\ntwo " + 1000 * "x")

    state = guarded(lambda: LearnedState([Wordy("".__eq__), Mean()]), ["e1"])
    told = state.passed_over["failing"]
    assert told.error.startswith("ValueError: one two xxx")
    assert len(told.error) == ERROR_LENGTH
    assert PassedOver.from_json(json.loads(json.dumps(told.to_json()))) == told
    versions = Versions(tmp_path / "state")
    kept = versions.save(state)
    meta = versions.folder / kept / "meta.json"
    said = json.loads(meta.read_text())
    del said["passed_over"]
    meta.write_text(json.dumps(said))
    assert versions.show(kept).passed_over == {}, "an older program's"
    said["passed_over"] = {"failing": {"count": 1}}
    meta.write_text(json.dumps(said))
    with pytest.raises(StorageError, match="damaged"):
        versions.show(kept)
