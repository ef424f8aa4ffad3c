"""What a process searches with that was told not to learn: whatever others promote, pin or take back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.learning.learner import LOCK_FILE, STATE_FOLDER, Learner
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.service import Learning, versions_of
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from tests.engine.learning_whole import ROUTER, searched, whole_state


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "kaelum.sqlite")
    yield storage
    storage.close()


@pytest.fixture
def reader(storage: Storage, tmp_path: Path) -> Generator[Learning]:
    """Begins before the one that learns, and would take the lock first."""
    learning = Learning(storage, tmp_path, router=ROUTER, learning=False)
    yield learning
    learning.close()


@pytest.fixture
def learner(reader: Learning, storage: Storage, tmp_path: Path) -> Generator[Learner]:
    del reader
    learner = Learner(storage, Versions(tmp_path / STATE_FOLDER), whole_state, poll_seconds=0.02)
    learner.start()
    yield learner
    learner.stop()


def ask(storage: Storage, learner: Learner, *numbers: int) -> list[str]:
    names = [f"e{number}" for number in numbers]
    for name, number in zip(names, numbers, strict=True):
        episode = searched(name, np.random.default_rng(number), rollouts=6)
        storage.append_episode(episode.id, "q", {}, seen=episode.to_bytes())
    assert learner.drain(30)
    return names


def wait(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def learned_from(learning: Learning) -> int:
    return learning.state.component(NoiseModel).seen


def test_with_learning_off_it_follows_promotions_pins_and_forgetting(
    reader: Learning, learner: Learner, storage: Storage
) -> None:
    wait(lambda: learner.status == "learning")
    assert (reader.version, reader.status) == ("", "off")
    names = ask(storage, learner, *range(6))
    wait(lambda: reader.version == learner.serving_version != "")
    assert learned_from(reader) > 0

    first = reader.version
    ask(storage, learner, *range(6, 12))
    wait(lambda: reader.version == learner.serving_version != first)
    promoted = reader.version
    learner.versions.pin(first)
    wait(lambda: reader.version == first)
    learner.versions.unpin()
    wait(lambda: reader.version == promoted)
    back = learner.versions.rollback()
    wait(lambda: reader.version == back)
    learner.versions.unpin()

    before = reader.version
    assert learner.forget(names) == names
    wait(lambda: reader.version == learner.serving_version)
    assert before not in [version.id for version in learner.versions.list()]
    kept = {item.episode for item in reader.state.component(NoiseModel)._items}
    assert kept.isdisjoint(names)
    assert reader.status == "off"


def test_with_learning_off_it_writes_nothing_and_its_thread_ends(storage: Storage, tmp_path: Path) -> None:
    reader = Learning(storage, tmp_path, router=ROUTER, learning=False)
    reader.notify()
    time.sleep(0.1)
    named = [thread for thread in threading.enumerate() if thread.name == "kaelum-learner"]
    assert len(named) == 1
    reader.close()
    reader.close()
    assert not named[0].is_alive()
    assert list((tmp_path / STATE_FOLDER).iterdir()) == []
    assert storage.last_learning_event() == 0
    assert not (tmp_path / STATE_FOLDER / LOCK_FILE).exists()


def test_a_fault_while_it_follows_costs_neither_what_serves_nor_the_next_look(
    reader: Learning, learner: Learner, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(storage, learner, *range(5))
    wait(lambda: reader.version == learner.serving_version != "")
    first, parts, failed = reader.version, Versions.parts, threading.Event()

    def broken(self: Versions, version_id: str) -> object:
        if threading.current_thread() is reader.learner._thread and not failed.is_set():
            failed.set()
            raise RuntimeError("out of order")
        return parts(self, version_id)

    monkeypatch.setattr(Versions, "parts", broken)
    ask(storage, learner, *range(5, 12))
    wait(failed.is_set)
    wait(lambda: reader.version == versions_of(tmp_path).promoted() != first)
