"""A component that fails while a process learns: the rest learns on, nothing half changed is served, status says so."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from kaelum_graph.cli import state_command
from kaelum_graph.cli.parser import CommandParser
from kaelum_graph.errors import StorageError
from kaelum_graph.learning.faults import IN_A_ROW
from kaelum_graph.learning.learner import STATE_FOLDER, Learner
from kaelum_graph.learning.promotion import PromotionRule
from kaelum_graph.learning.replay import replay
from kaelum_graph.learning.state import LearnedState, digest_of, is_held_out
from kaelum_graph.learning.versions import Version, Versions
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.types import EpisodeId
from tests.engine.failing_parts import Failing, Unjudged, failing_state, spared_state
from tests.engine.learning_parts import Mean, Order, seen

MakeLearner = Callable[..., Learner]
USUAL = [name for name in map("e{}".format, range(400)) if not is_held_out(name) and not seen(name).audit]
HELD_OUT = [name for name in map("e{}".format, range(2000)) if is_held_out(name)]


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / STORE_FILE)
    yield storage
    storage.close()


@pytest.fixture
def make_learner(storage: Storage, tmp_path: Path) -> Generator[MakeLearner]:
    made: list[Learner] = []

    def make(make_state: Callable[[], LearnedState] = failing_state, **options: object) -> Learner:
        given = {"poll_seconds": 0.02, "save_every": 10, "save_seconds": 0.2, **options}
        learner = Learner(storage, Versions(tmp_path / STATE_FOLDER), make_state, **given)  # pyright: ignore[reportArgumentType]
        made.append(learner)
        learner.start()
        return learner

    yield make
    for learner in made:
        learner.stop()


def ask(storage: Storage, *names: str, value: float = 0.5) -> None:
    for name in names:
        storage.append_episode(EpisodeId(name), "q", {}, seen=seen(name, value=value).to_bytes())


def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def newest(learner: Learner) -> Version:
    return [one for one in learner.versions.list() if not one.promoted][-1]


def digest_from_log(storage: Storage, make: Callable[[], LearnedState]) -> str:
    made = replay(storage, make)
    assert made is not None
    return digest_of(made.state.parts())


def test_the_others_learn_the_event_and_a_rebuild_is_bit_equal(
    storage: Storage, make_learner: MakeLearner, caplog: pytest.LogCaptureFixture
) -> None:
    ask(storage, *USUAL[:13], "bad", *USUAL[13:25])
    with caplog.at_level(logging.WARNING):
        learner = make_learner()
        assert learner.drain(10)
        assert learner.status == "learning"
        rebuilt = learner.rebuild(10)
    assert rebuilt.same
    assert rebuilt.events == 26
    version = newest(learner)
    assert version.digest == digest_from_log(storage, failing_state) == digest_from_log(storage, spared_state)
    assert version.passed_over == learner.passed_over
    assert version.passed_over["failing"].newest == (14,)
    assert learner.serving.component(Order).events == 26
    assert learner.serving.component(Failing).events == 25
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["event 14 is passed over by 'failing': ZeroDivisionError: nothing to divide bad by"]


def test_a_process_that_follows_takes_over_what_was_passed_over(storage: Storage, make_learner: MakeLearner) -> None:
    first = make_learner()
    wait(lambda: first.status == "learning")
    second = make_learner()
    wait(lambda: second.status == "following")
    ask(storage, *USUAL[:3], "bad", *USUAL[3:6])
    assert first.drain(10)
    wait(lambda: second.serving.component(Order).events == 7)
    assert second.serving.component(Failing).events == 6
    first.stop()
    wait(lambda: second.status == "learning")
    assert second.passed_over == first.passed_over
    ask(storage, *USUAL[6:9])
    assert second.drain(10)
    assert newest(second).digest == digest_from_log(storage, spared_state)


@pytest.mark.parametrize("at", [USUAL[6], USUAL[9]])  # "bad" is event 6: before and after the next checkpoint
def test_killed_after_it_was_passed_over(storage: Storage, make_learner: MakeLearner, tmp_path: Path, at: str) -> None:
    ask(storage, *USUAL[:5], "bad", *USUAL[5:12])
    command = [sys.executable, "-m", "tests.engine.learning_faults_child", str(tmp_path), at]
    child = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    left = [one for one in Versions(tmp_path / STATE_FOLDER).list() if not one.promoted][-1]
    assert (left.position, bool(left.passed_over)) == ((4, False) if at == USUAL[6] else (8, True))
    learner = make_learner()
    assert learner.drain(10)
    assert newest(learner).digest == digest_from_log(storage, spared_state)
    assert learner.passed_over["failing"].newest == (6,)
    assert learner.rebuild(10).same


def test_eight_in_a_row_set_it_aside_and_status_says_so(storage: Storage, make_learner: MakeLearner) -> None:
    def make() -> LearnedState:
        return failing_state(lambda name: name != USUAL[0])

    learner = make_learner(make)
    ask(storage, *USUAL[:IN_A_ROW])
    assert learner.drain(10)
    assert learner.status == "learning"
    ask(storage, *USUAL[IN_A_ROW : IN_A_ROW + 4])
    assert learner.drain(10)
    why = f"learning, without failing: ZeroDivisionError: nothing to divide {USUAL[IN_A_ROW]} by"
    assert learner.status == why
    assert learner.serving.component(Order).events == 12
    assert learner.serving.component(Failing).events == 1
    learner.stop()
    assert learner.status == "off"
    learner = make_learner(make)
    wait(lambda: learner.status == why)
    ask(storage, *USUAL[12:40])
    assert learner.drain(10)
    assert learner.passed_over["failing"].count == 39
    assert newest(learner).digest == digest_from_log(storage, make)
    assert learner.rebuild(10).same
    assert learner.forget([USUAL[20]], timeout=10) == [USUAL[20]]
    assert newest(learner).digest == digest_from_log(storage, make)
    assert learner.passed_over["failing"].count == 38
    learner.stop()
    learner = make_learner(lambda: failing_state(lambda name: False))
    assert learner.rebuild(10).same is False, "a mended program learns what was passed over"
    assert learner.status == "learning"
    assert learner.serving.component(Failing).events == 39


def test_nothing_half_changed_is_served(storage: Storage, make_learner: MakeLearner) -> None:
    learner, done, wrong = make_learner(save_every=1), threading.Event(), list[int]()
    names = [name for pair in zip(USUAL[:15], map("bad{}".format, range(15)), strict=True) for name in pair]
    learner.stop()
    learner = make_learner(lambda: failing_state(lambda name: name.startswith("bad")), save_every=1)
    known, spared = {0}, spared_state(lambda name: name.startswith("bad")).components[1]
    assert isinstance(spared, Order)
    for name in names:
        spared.learn_episode(seen(name))
        known.add(spared.digest)

    def read() -> None:
        while not done.is_set():
            digest = learner.serving.component(Failing).digest
            if digest not in known:
                wrong.append(digest)
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    for name in names:
        ask(storage, name)
    assert learner.drain(10)
    done.set()
    reader.join()
    assert wrong == []
    assert learner.serving.component(Failing).events == 15


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError, "stopped: MemoryError"), (StorageError, "waiting: nothing")]
)
def test_a_process_without_memory_or_disk_is_no_fault_of_an_event(
    storage: Storage, make_learner: MakeLearner, error: type[Exception], status: str
) -> None:
    learner = make_learner(lambda: LearnedState([Failing("bad".__eq__, error=error), Mean()]))
    ask(storage, "good")
    assert learner.drain(10)
    serving = learner.serving_version
    ask(storage, "bad")
    wait(lambda: learner.status.startswith(status))
    assert learner.serving_version == serving
    assert learner.serving.component(Failing).events == 1
    assert not learner.drain(0.1)
    if error is MemoryError:
        with pytest.raises(StorageError, match="nothing to divide"):
            learner.rebuild()
    learner.stop()
    assert newest(learner).position == 1
    assert make_learner(lambda: LearnedState([Failing("".__eq__), Mean()])).drain(10), "it goes on once that is mended"


def test_an_episode_that_a_component_cannot_be_judged_by_says_nothing(
    storage: Storage, make_learner: MakeLearner, caplog: pytest.LogCaptureFixture
) -> None:
    rule = PromotionRule(alpha=1e-9)  # no verdict before long
    bad = HELD_OUT[1:3]
    learner = make_learner(lambda: LearnedState([Unjudged(bad.__contains__), Order(), Mean()]), rule=rule)
    ask(storage, *USUAL[:5])
    assert learner.drain(10)
    with caplog.at_level(logging.WARNING):
        ask(storage, *HELD_OUT[:5])
        assert learner.drain(10)
    assert learner.status == "learning"
    assert (learner.running["unjudged"]["scored"], learner.running["mean"]["scored"]) == (3, 5)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["'unjudged' can't be judged by an episode: ArithmeticError: no loss"]


def test_eight_such_episodes_in_a_row_end_a_comparison(storage: Storage, make_learner: MakeLearner) -> None:
    judged: list[Unjudged] = []

    def make() -> LearnedState:
        judged.append(Unjudged(lambda name: name in HELD_OUT[:30]))
        return LearnedState([judged[-1], Order(), Mean()])

    learner = make_learner(make, rule=PromotionRule(replayed=20))
    ask(storage, *HELD_OUT[:30])
    ask(storage, *USUAL[:5], value=0.9)
    assert learner.drain(10)
    assert learner.status == "learning"
    assert "unjudged" not in learner.running
    assert max(len(one.asked) for one in judged) == IN_A_ROW, "that is all that judging by the kept ones may cost"
    ask(storage, *HELD_OUT[30:90], value=0.9)
    assert learner.drain(10)
    assert next(one for one in learner.serving.components if one.name == "mean").meta()["count"] == 5
    ask(storage, USUAL[6], value=0.9)
    ask(storage, *HELD_OUT[90:150], value=0.9)
    assert learner.drain(10)
    served = next(one for one in learner.serving.components if one.name == "unjudged")
    assert served.meta()["count"] >= 5, "a later checkpoint's could be judged, and proved itself"


def test_state_show_says_what_was_passed_over(
    storage: Storage,
    make_learner: MakeLearner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def show(*argv: str) -> str:
        parser = CommandParser()
        state_command.register(parser.add_subparsers())
        arguments = parser.parse_args(["state", "show", *argv, "--data-dir", str(tmp_path)])
        assert arguments.run(arguments) == 0
        return capsys.readouterr().out

    learner = make_learner(lambda: failing_state(lambda name: name.startswith("bad")))
    ask(storage, *USUAL[:3])
    assert learner.drain(10)
    before = newest(learner).id
    assert "passed over" not in show()
    ask(storage, "bad1", USUAL[3], *map("bad{}".format, range(2, 10)))
    assert learner.drain(10)
    learner.stop()
    says = (
        "failing passed over  9 events, failed last on 9, 10, 11, 12, 13, set aside: "
        "ZeroDivisionError: nothing to divide bad9 by"
    )
    assert says in show().splitlines(), "of what serves: what the newest checkpoint says"
    assert says in show(newest(learner).id).splitlines()
    assert "passed over" not in show(before)
    told = json.loads(show("--json"))["passed_over"]
    assert told["failing"]["count"] == 9
    assert told["failing"]["row"] == 8
