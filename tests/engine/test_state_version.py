"""The name of the learned state changes with what is learned, and with nothing else."""

from __future__ import annotations

import re
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.state_version import StateVersion
from kaelum_graph.storage import Feedback, Storage
from kaelum_graph.structures import RolloutOutcome, Structure, StructureBook
from kaelum_graph.structures.store import STRUCTURES_FILE, Entry, State, StructureStore
from kaelum_graph.structures.task_clusters import TaskCluster
from kaelum_graph.structures.trial import Trial
from kaelum_graph.types import EpisodeId, WorkerName

MATH = WorkerName("math")


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "kaelum.sqlite")
    yield storage
    storage.close()


@pytest.fixture
def book(tmp_path: Path) -> Generator[StructureBook]:
    book = StructureBook(tmp_path, model="m")
    yield book
    book.close()


def test_it_names_package_and_digest(storage: Storage) -> None:
    name = StateVersion(storage, None, model="m").current()
    assert re.fullmatch(rf"kaelum-{re.escape(version('kaelum-graph'))}-[0-9a-f]{{12}}", name)
    assert StateVersion(storage, None, model="other").current() != name


def test_it_changes_with_every_measurement_and_with_no_episode(storage: Storage, tmp_path: Path) -> None:
    state = StateVersion(storage, None, model="m")
    names = [state.current()]
    storage.append_episode(EpisodeId("a"), "what?", {})
    storage.add_feedback(Feedback(id="f", episode_id=EpisodeId("a"), score=1.0))
    assert state.current() == names[0]
    for episode in ("a", "b"):
        storage.add_measurements(EpisodeId(episode), {"model": "m"})
        names.append(state.current())
    assert len(set(names)) == 3
    storage.add_measurements(EpisodeId("b"), {"model": "m"})
    assert state.current() == names[-1]
    again = Storage(tmp_path / "kaelum.sqlite")
    assert StateVersion(again, None, model="m").current() == names[-1], "a restart finds the same state"
    again.close()


def test_as_many_measurements_of_other_queries_are_another_state(storage: Storage, tmp_path: Path) -> None:
    other = Storage(tmp_path / "other.sqlite")
    storage.add_measurements(EpisodeId("a"), {})
    other.add_measurements(EpisodeId("b"), {})
    names = [StateVersion(one, None, model="m").current() for one in (storage, other)]
    assert names[0] != names[1]
    other.close()


def test_it_changes_with_the_structures_that_are_dealt_out(
    storage: Storage, book: StructureBook, tmp_path: Path
) -> None:
    state = StateVersion(storage, book, model="m")
    assert state.current() == StateVersion(storage, None, model="m").current()
    unstructured = state.current()
    embedding = np.eye(384, dtype=np.float32)[0]
    outcome = RolloutOutcome(arm="without", evidence=(), tokens=1)
    book.learn(MATH, embedding, [outcome], choice=None, question="q", episode_id="e")
    assert state.current() == unstructured, "a cluster alone changes no search"
    elsewhere = StructureStore(tmp_path / STRUCTURES_FILE)  # as another process
    with elsewhere.transaction():
        [cluster] = elsewhere.clusters(MATH)
        names = [unstructured]
        steps: list[tuple[str, State]] = [("one", "trial"), ("two", "trial"), ("two", "dropped")]
        for line, standing in steps:
            structure = Structure(worker=MATH, cluster=cluster.id, model="m", lines=(line,), prompt_tokens=3)
            entry = Entry(structure=structure, state=standing, trial=Trial(), watch=Trial(), reason="", sought_at=0.0)
            elsewhere.put_entry(entry)
            elsewhere._connection.execute("COMMIT")
            names.append(state.current())
            elsewhere._connection.execute("BEGIN IMMEDIATE")
    elsewhere.close()
    assert len(set(names)) == 3
    assert names[3] == unstructured


def test_a_structure_of_another_model_changes_nothing(storage: Storage, book: StructureBook, tmp_path: Path) -> None:
    state = StateVersion(storage, book, model="m")
    before = state.current()
    store = StructureStore(tmp_path / STRUCTURES_FILE)
    with store.transaction():
        cluster = store.put_cluster(MATH, TaskCluster(centroid=np.eye(384, dtype=np.float32)[0], last=1))
        structure = Structure(worker=MATH, cluster=cluster, model="other", lines=("one",), prompt_tokens=3)
        store.put_entry(
            Entry(structure=structure, state="adopted", trial=Trial(), watch=Trial(), reason="", sought_at=0.0)
        )
    store.close()
    assert state.current() == before


def test_while_nothing_changes_no_structure_is_read(
    storage: Storage, book: StructureBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateVersion(storage, book, model="m")
    name = state.current()
    monkeypatch.setattr(book, "in_use", lambda: pytest.fail("read again"))
    assert state.current() == name
