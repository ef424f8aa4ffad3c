"""The learner: the log in order and once, what it promotes, and what is gone after forgetting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.errors import StorageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.learner import Learner
from kaelum_graph.learning.promotion import PromotionRule
from kaelum_graph.learning.replay import replay
from kaelum_graph.learning.state import LearnedState, digest_of
from kaelum_graph.learning.versions import Versions
from kaelum_graph.state_version import StateVersion
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Mean, Order, make_state, seen

MakeLearner = Callable[..., Learner]


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "kaelum.sqlite")
    yield storage
    storage.close()


@pytest.fixture
def make_learner(storage: Storage, tmp_path: Path) -> Generator[MakeLearner]:
    made: list[Learner] = []

    def make(make_state: Callable[[], LearnedState] = make_state, **options: object) -> Learner:
        given = {"poll_seconds": 0.02, "save_every": 10, "save_seconds": 0.2, **options}
        learner = Learner(storage, Versions(tmp_path / "state"), make_state, **given)  # pyright: ignore[reportArgumentType]
        made.append(learner)
        learner.start()
        return learner

    yield make
    for learner in made:
        learner.stop()


def ask(storage: Storage, name: str, *, value: float = 0.5, tenant: str = "", **record: object) -> None:
    data = seen(name, value=value, tenant=tenant).to_bytes()
    storage.append_episode(EpisodeId(name), "q", dict(record), tenant=tenant, seen=data)


def rate(storage: Storage, name: str, *, rating: str = "f", score: float = 1.0) -> None:
    storage.add_feedback(Feedback(id=rating, episode_id=EpisodeId(name), score=score))


def from_log(storage: Storage, make: Callable[[], LearnedState] = make_state) -> LearnedState:
    made = replay(storage, make)
    assert made is not None
    return made.state


def newest(learner: Learner) -> LearnedState:
    [*_, version] = [one for one in learner.versions.list() if not one.promoted]
    state = make_state()
    learner.versions.load(version.id, state)
    return state


def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_learns_the_log_and_a_rebuild_is_bit_equal(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner()
    for number in range(35):
        ask(storage, f"e{number}", value=number / 35)
        if number % 3 == 0:
            rate(storage, f"e{number}", rating=f"f{number}", score=float(number % 2))
    storage.delete_feedback("f3")
    learner.notify()
    assert learner.drain(10)
    assert learner.status == "learning"
    online = newest(learner)
    assert online.position == storage.last_learning_event()
    assert online.counts == {"episodes": 35, "feedback": 13}
    assert digest_of(online.parts()) == digest_of(from_log(storage).parts())
    rebuilt = learner.rebuild(10)
    assert rebuilt.same
    assert rebuilt.events == 48
    assert digest_of(newest(learner).parts()) == digest_of(online.parts())


def test_a_restart_goes_on_from_the_newest_checkpoint(storage: Storage, make_learner: MakeLearner) -> None:
    counted: list[str] = []

    class Counting(Order):
        def take(self, text: str) -> None:
            counted.append(text)
            super().take(text)

    def counting() -> LearnedState:
        return LearnedState([Counting(), Mean()])

    for run in range(3):
        learner = make_learner(counting)
        for number in range(5):
            ask(storage, f"{run}-{number}")
        assert learner.drain(10)
        learner.stop()
        assert learner.status == "off"
    assert counted == [f"episode {run}-{number}" for run in range(3) for number in range(5)]


def test_what_needs_no_proof_serves_at_once_after_a_rating(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner(save_every=1000, save_seconds=1000.0)
    assert learner.serving_version == ""
    ask(storage, "e1")
    rate(storage, "e1")
    learner.notify()
    wait(lambda: learner.serving.component(Order).events == 2)
    assert learner.serving_version == learner.versions.current()
    assert learner.serving.component(Mean).count == 0, "what must prove itself does not"


def test_a_better_component_is_promoted_and_a_worse_one_is_not(storage: Storage, make_learner: MakeLearner) -> None:
    def both() -> LearnedState:
        return LearnedState([Order(), Mean(), Mean(name="wrong", factor=-1.0)])

    learner = make_learner(both)
    for number in range(150):
        ask(storage, f"e{number}", value=0.5 + 0.2 * (number % 2))
    assert learner.drain(10)
    good, wrong = (next(one for one in learner.serving.components if one.name == name) for name in ("mean", "wrong"))
    assert isinstance(good, Mean)
    assert good.value == pytest.approx(0.6, abs=0.1)
    assert isinstance(wrong, Mean)
    assert wrong.count == 0
    shown = [version for version in learner.versions.list() if "mean" in version.metrics]
    assert shown[0].metrics["mean"]["gain"] > 0.3
    assert not any("wrong" in version.metrics for version in learner.versions.list())
    learner.versions.rollback()
    wait(lambda: next(one for one in learner.serving.components if isinstance(one, Mean)).count == 0)


def test_comparisons_go_on_after_a_restart(storage: Storage, make_learner: MakeLearner) -> None:
    rule = PromotionRule(alpha=1e-9)  # no verdict before long
    learner = make_learner(rule=rule)
    for number in range(30):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    before = learner.running["mean"]["scored"]
    learner.stop()
    learner = make_learner(rule=rule)
    for number in range(30, 35):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    usual = sum(not seen(f"e{number}").audit for number in range(30, 35))
    assert learner.running["mean"]["scored"] == before + usual


def test_pinned_is_served_while_it_learns_on(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner()
    ask(storage, "e1")
    rate(storage, "e1")
    wait(lambda: learner.serving_version != "")
    pinned = learner.serving_version
    Versions(learner.versions.folder).pin(pinned)
    for number in range(2, 40):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    assert learner.serving_version == pinned
    assert newest(learner).counts["episodes"] == 39
    Versions(learner.versions.folder).unpin()
    ask(storage, "e40")
    wait(lambda: learner.serving.component(Order).events == 41)


def test_forgetting_a_tenant_takes_what_it_taught_out_of_every_version(
    storage: Storage, make_learner: MakeLearner
) -> None:
    learner = make_learner(keep=100)
    for number in range(60):
        ask(storage, f"e{number}", value=0.4)
    assert learner.drain(10)
    for number in range(60, 90):
        ask(storage, f"e{number}", value=0.4 if number % 2 else 0.9, tenant="" if number % 2 else "ann")
    storage.add_feedback(Feedback(id="f", episode_id=EpisodeId("e60"), tenant="ann", score=0.0))
    assert learner.drain(10)
    promoted_mean = learner.serving.component(Mean).count
    assert promoted_mean > 0
    innocent = [version.id for version in learner.versions.list() if version.position <= 60]
    assert innocent
    gone = learner.forget(tenant="ann", timeout=10)
    assert len(gone) == 15
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())
    assert newest(learner).counts == {"episodes": 75, "feedback": 0}
    left = learner.versions.list()
    assert [version.id for version in left if version.id in innocent] == innocent
    assert not any(version.knows(storage.forgotten()) for version in left)
    for version in left:
        state = make_state()
        learner.versions.load(version.id, state)
        assert state.component(Mean).count <= 75
        assert version.counts.get("episodes", 0) <= 75 or version.promoted
    assert learner.serving_version == learner.versions.current()
    assert learner.serving.component(Order).events == 75
    assert learner.serving.component(Mean).value == pytest.approx(0.4)
    assert "ann" not in str([path.read_bytes() for path in learner.versions.folder.rglob("*.json")])
    ask(storage, "after")
    assert learner.drain(10)
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())


def test_a_single_deleted_answer_is_unlearned_too(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner()
    for number in range(12):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    storage.forget_episodes(["e3"])
    wait(lambda: not any(version.knows(storage.forgotten()) for version in learner.versions.list()))
    assert learner.drain(10)
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())


def test_what_was_deleted_while_nobody_learned_is_unlearned_at_the_next_start(
    storage: Storage, make_learner: MakeLearner
) -> None:
    learner = make_learner()
    for number in range(12):
        ask(storage, f"e{number}")
    rate(storage, "e3")
    assert learner.drain(10)
    learner.stop()
    with pytest.raises(StorageError, match="deleted; what they taught is not yet"):
        learner.forget(["e3"])
    learner = make_learner()
    wait(lambda: learner.status == "learning")
    assert learner.forget(timeout=10) == [], "nothing more to delete, and what was is unlearned"
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())
    assert learner.serving.component(Order).events == 11


@pytest.mark.parametrize("step", ["save", "point", "remove"])
def test_forgetting_that_broke_off_is_finished_by_the_next_start(
    storage: Storage, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    learner = make_learner()
    for number in range(25):
        ask(storage, f"e{number}")
    rate(storage, "e3")
    assert learner.drain(10)
    learner.stop()
    storage.forget_episodes(["e3"])

    class Killed(Exception):
        pass

    def killed(self: Versions, *arguments: object, **options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Versions, step, killed)
        learner = make_learner()
        wait(lambda: learner.status.startswith("stopped: Killed"))
        learner.stop()
    learner = make_learner()
    wait(lambda: learner.status == "learning")
    learner.forget(timeout=10)
    assert not any(version.knows(storage.forgotten()) for version in learner.versions.list())
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())
    assert learner.serving.component(Order).events == 24


def test_a_pinned_version_that_knows_is_made_anew_without(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner()
    for number in range(5):
        ask(storage, f"e{number}")
    rate(storage, "e1")
    assert learner.drain(10)
    wait(lambda: learner.serving_version != "")
    learner.versions.pin(learner.serving_version)
    for number in range(5, 9):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    learner.forget(["e1"], timeout=10)
    assert learner.versions.pinned() == learner.serving_version
    assert learner.serving.component(Order).events == 4, "as of when it was pinned, without what was forgotten"


def test_a_full_disk_makes_it_wait(
    storage: Storage, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner()
    ask(storage, "e1")
    assert learner.drain(10)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("kaelum_graph.learning.versions._write", full)
        ask(storage, "e2")
        wait(lambda: learner.status.startswith("waiting") and "No space" in learner.status)
    assert learner.drain(10)
    assert learner.status == "learning"
    assert newest(learner).component(Order).digest == from_log(storage).component(Order).digest


def test_one_learns_and_the_other_follows_and_takes_over(storage: Storage, make_learner: MakeLearner) -> None:
    first = make_learner()
    wait(lambda: first.status == "learning")
    second = make_learner()
    wait(lambda: second.status == "following")
    ask(storage, "e1")
    rate(storage, "e1")
    wait(lambda: second.serving.component(Order).events == 2)
    assert second.drain(10)
    with pytest.raises(StorageError, match="another process learns"):
        second.rebuild()
    assert second.forget(["e1"], timeout=10) == ["e1"], "the one that learns does it"
    wait(lambda: second.serving.component(Order).events == 0)
    first.stop()
    wait(lambda: second.status == "learning")
    ask(storage, "e2")
    assert second.drain(10)
    assert second.serving.component(Order).events == 1


def test_another_programs_components_are_learned_from_the_beginning(
    storage: Storage, make_learner: MakeLearner
) -> None:
    learner = make_learner(lambda: LearnedState([Order()]))
    for number in range(5):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    learner.stop()
    learner = make_learner()
    assert learner.drain(10)
    wait(lambda: "mean" in learner.serving.names and newest(learner).position == 5)
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())
    assert learner.serving.component(Order).events == 5


def test_what_is_learned_again_does_not_serve_before_it_has_come_as_far(
    storage: Storage, make_learner: MakeLearner
) -> None:
    learner = make_learner()
    for number in range(25):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    learner.stop()
    served: list[int] = []

    class Watching(Mean):
        def learn_episode(self, episode: SeenEpisode) -> None:
            served.append(learners[0].serving.component(Order).events if learners else 25)
            super().learn_episode(episode)

    learners: list[Learner] = []
    learner = make_learner(lambda: LearnedState([Order(), Mean(), Watching(name="new")]), save_every=5)
    learners.append(learner)
    ask(storage, "one more")
    wait(lambda: learner.serving.component(Order).events == 26)
    assert served
    assert set(served) == {25}


@pytest.mark.parametrize("lost", ["forgotten", "another log"])
def test_what_may_not_serve_on_makes_room_for_what_is_learned_again(
    storage: Storage, make_learner: MakeLearner, lost: str
) -> None:
    learner = make_learner()
    for number in range(25):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    learner.stop()
    parts, last = make_state().parts(), storage.last_learning_event()
    [*_, version] = [one for one in learner.versions.list() if one.promoted]
    learner._serving.refresh()  # pyright: ignore[reportPrivateUsage]
    without_proof = learner._without_proof  # pyright: ignore[reportPrivateUsage]
    assert version.position > parts["order"].position
    assert without_proof(parts) == {}
    if lost == "forgotten":
        storage.forget_episodes(["e3"])
    else:
        storage.last_learning_event = lambda: last - 20
    assert without_proof(parts).keys() == {"order"}


def test_a_damaged_checkpoint_means_the_one_before(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner(save_every=2)
    for number in range(6):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    learner.stop()
    [*_, last] = [version for version in learner.versions.list() if not version.promoted]
    (learner.versions.folder / last.id / "order.safetensors").write_bytes(b"rubbish")
    learner = make_learner()
    ask(storage, "e6")
    assert learner.drain(10)
    assert digest_of(newest(learner).parts()) == digest_of(from_log(storage).parts())


def test_readers_see_whole_states_while_it_learns(storage: Storage, make_learner: MakeLearner) -> None:
    learner, done, wrong = make_learner(save_every=1), threading.Event(), list[str]()

    def read() -> None:
        while not done.is_set():
            order = learner.serving.component(Order)
            if (order.events == 0) != (order.digest == 0):
                wrong.append(f"{order.events} {order.digest}")
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(30):
        ask(storage, f"e{number}")
    assert learner.drain(10)
    done.set()
    reader.join()
    assert not wrong
    assert learner.serving.component(Order).events == 30


def test_the_state_version_names_what_serves(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner()
    named = StateVersion(storage, None, model="m", learned=lambda: learner.serving_version)
    before = named.current()
    assert before == StateVersion(storage, None, model="m").current(), "nothing is learned: the name stays"
    ask(storage, "e1")
    assert learner.drain(10)
    wait(lambda: learner.serving_version != "")
    assert named.current() != before
    assert named.current() == named.current()


def test_meta_tells_what_a_person_wants_to_know(storage: Storage, make_learner: MakeLearner) -> None:
    learner = make_learner()
    ask(storage, "e1")
    assert learner.drain(10)
    learner.stop()
    [*_, version] = [one for one in learner.versions.list() if not one.promoted]
    said = json.loads((learner.versions.folder / version.id / "meta.json").read_text())
    assert (said["position"], said["counts"], said["kind"]) == (1, {"episodes": 1, "feedback": 0}, "checkpoint")
    assert said["created_at"] == pytest.approx(time.time(), abs=60)
    assert np.isfinite(said["created_at"])
