"""Versions of the learned state on disk: whole or not there, and never lost by a switch."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.serving import Serving
from kaelum_graph.learning.state import LearnedState, Part, digest_of
from kaelum_graph.learning.versions import POINTER, Versions
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Mean, Order, make_state, seen


def taught(*names: str) -> LearnedState:
    state = make_state()
    for number, name in enumerate(names, start=1):
        state.apply(
            LearningEvent(sequence=number, kind="episode", episode_id=EpisodeId(name), episode=seen(name, value=0.25))
        )
    return state


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    versions, state = Versions(tmp_path / "state"), taught("a", "b")
    kept = versions.save(state)
    again = make_state()
    versions.load(kept, again)
    assert (again.position, again.counts) == (2, {"episodes": 2, "feedback": 0})
    assert again.component(Order).digest == state.component(Order).digest
    assert digest_of(again.parts()) == digest_of(state.parts()) == kept.partition("-")[2]
    assert kept.startswith("000001-")
    [version] = Versions(tmp_path / "state").list()
    assert (version.id, version.position, version.positions) == (kept, 2, {"order": 2, "mean": 2})
    assert versions.current() is None


def test_a_copy_learns_on_its_own() -> None:
    state = taught("a")
    other = state.copy()
    other.apply(LearningEvent(sequence=2, kind="episode", episode_id=EpisodeId("b"), episode=seen("b")))
    assert (state.position, other.position) == (1, 2)
    assert state.component(Order).digest != other.component(Order).digest
    with pytest.raises(ValueError, match="event 2 comes after 2"):
        other.apply(LearningEvent(sequence=2, kind="episode", episode_id=EpisodeId("b"), episode=seen("b")))


def test_parts_stay_as_they_were() -> None:
    tensor = np.zeros(2)

    class Shared(Order):
        def tensors(self) -> dict[str, np.ndarray]:
            return {"x": tensor}

    parts = LearnedState([Shared()]).parts()
    tensor += 1
    assert parts["order"].tensors["x"].tolist() == [0.0, 0.0]
    changed = Part(tensors={"x": tensor}, meta=parts["order"].meta)
    assert changed.digest != parts["order"].digest


def test_a_half_written_version_is_not_seen_and_is_cleaned_up(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    kept = versions.save(taught("a"))
    for name in (".making-1", ".gone-2"):
        (tmp_path / "state" / name).mkdir()
        (tmp_path / "state" / name / "order.safetensors").write_bytes(b"half")
    (tmp_path / "state" / ".pointer-3").write_text("{")
    assert [version.id for version in versions.list()] == [kept]
    versions.clean()
    assert {path.name for path in (tmp_path / "state").iterdir()} - {".current.lock"} == {kept}


@pytest.mark.parametrize("broken", ["order.safetensors", "meta.json", "gone"])
def test_a_damaged_version_is_passed_over(tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    versions = Versions(tmp_path / "state")
    good, bad = (versions.save(taught(*names), kind="serving") for names in (["a"], ["a", "b"]))
    versions.promote(bad)
    path = tmp_path / "state" / bad
    if broken == "gone":
        versions.remove([bad])
    else:
        damage(path / broken) if broken != "meta.json" else (path / broken).write_text('{"number": 2}')
    with pytest.raises((StorageError, UsageError), match=bad):
        versions.load(bad, make_state())
    with caplog.at_level(logging.WARNING):
        serving = Serving(versions, make_state)
    assert serving.now.id == good
    assert serving.now.state.component(Order).events == 1
    assert bad in caplog.text
    if broken != "gone":
        damage(tmp_path / "state" / good / "mean.safetensors")
        assert Serving(versions, make_state).now.id is None


def test_a_damaged_pointer_means_the_newest_promoted(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    kept = versions.save(taught("a"), kind="serving")
    versions.save(taught("a", "b"))
    (tmp_path / "state" / POINTER).write_text("{")
    assert versions.current() == kept


def test_pin_unpin_and_roll_back(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    ids: list[str] = []
    for names in (["a"], ["a", "b"], ["a", "b", "c"]):
        ids.append(versions.save(taught(*names), kind="serving", parent=ids[-1] if ids else None))
        assert versions.promote(ids[-1])
    serving = Serving(versions, make_state)
    versions.pin(ids[0])
    assert not versions.promote(ids[1]), "a pinned version stays"
    assert (versions.current(), versions.pinned(), versions.promoted()) == (ids[0], ids[0], ids[2])
    assert serving.refresh()
    assert serving.now.state.component(Order).events == 1
    assert not serving.refresh()
    assert not serving.publish(taught("a", "b").parts(), erased=0, counts={}, metrics={})
    versions.unpin()
    assert versions.current() == ids[2]
    assert versions.rollback() == ids[1]
    assert (versions.current(), versions.pinned(), versions.promoted()) == (ids[1], ids[1], ids[1])
    assert versions.rollback() == ids[0]
    with pytest.raises(UsageError, match="nothing to roll back to"):
        versions.rollback()
    with pytest.raises(UsageError, match="no such version"):
        versions.pin("000009-abc")


def test_rolling_back_undoes_the_last_promotion_and_what_came_with_it(tmp_path: Path) -> None:
    versions, parent = Versions(tmp_path / "state"), None
    ids: list[str] = []
    for number, proved in enumerate([False, True, False, True, False, False]):
        metrics = {"mean": {"gain": 0.1}} if proved else {}
        parent = versions.save(taught(*"abcdef"[:number]), kind="serving", parent=parent, metrics=metrics)
        ids.append(parent)
        versions.promote(parent)
    assert [versions.rollback(), versions.rollback()] == [ids[2], ids[0]]
    with pytest.raises(UsageError, match="nothing to roll back to"):
        versions.rollback()
    assert versions.prune(keep=1) == [ids[1], ids[4]]


def test_names_of_versions(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    ids = [versions.save(taught(*names)) for names in (["a"], ["a", "b"])]
    digest = ids[1].partition("-")[2]
    assert [versions.find(name) for name in ("1", ids[1], "000002", digest[:6])] == [ids[0], ids[1], ids[1], ids[1]]
    for name in ("", "77", "zz"):
        with pytest.raises(UsageError, match="no such version"):
            versions.find(name)
    with pytest.raises(UsageError, match="more than one"):
        versions.find("0000")


def test_diff_tells_which_tensors_changed(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    one, two = versions.save(taught("c")), versions.save(taught("c", "d"))
    assert versions.diff(one, one) == []
    changes = {(change.component, change.tensor): change for change in versions.diff(one, two)}
    assert set(changes) == {("mean", "total"), ("order", "digest")}
    assert changes["mean", "total"].largest == changes["mean", "total"].rms == 0.25
    wider = versions.save(LearnedState([Order(), Mean(name="extra")]))
    [gone] = [change for change in versions.diff(one, wider) if change.component == "mean"]
    assert (gone.before, gone.after) == ((1,), None)
    assert math.isnan(gone.rms)


def test_pruning_keeps_the_newest_of_each_kind_and_what_is_in_use(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    ids = [versions.save(taught(str(n)), kind="serving" if n % 2 else "checkpoint") for n in range(10)]
    versions.point(ids[1], pinned=ids[3])
    gone = versions.prune(keep=2, needed={ids[0]})
    assert gone == [ids[2], ids[4], ids[5]]
    assert [version.id for version in versions.list()] == [one for one in ids if one not in gone]


def test_a_part_of_another_program_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    versions = Versions(tmp_path / "state")
    kept = versions.save(taught("a"), kind="serving")
    versions.promote(kept)

    class Stricter(Mean):
        def load(self, tensors: dict[str, np.ndarray], meta: dict[str, object]) -> None:
            if "slope" not in tensors:
                raise ValueError("there is no slope")

    with caplog.at_level(logging.WARNING):
        serving = Serving(versions, lambda: LearnedState([Order(), Stricter()]))
    assert serving.now.id == kept
    assert serving.now.state.component(Order).events == 1
    assert serving.now.state.component(Stricter).count == 0
    assert "there is no slope" in caplog.text


def test_a_full_disk_leaves_the_versions_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions(tmp_path / "state")
    kept = versions.save(taught("a"))

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kaelum_graph.learning.versions._write", full)
    with pytest.raises(StorageError, match="No space left"):
        versions.save(taught("b"))
    with pytest.raises(StorageError, match="No space left"):
        versions.promote(kept)
    assert [version.id for version in versions.list()] == [kept]
    assert not list((tmp_path / "state").glob(".making*"))
    assert json.loads((tmp_path / "state" / kept / "meta.json").read_text())["position"] == 1
