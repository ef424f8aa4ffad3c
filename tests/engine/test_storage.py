"""What the store acknowledges is on disk, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.storage import CacheEntry, Feedback, Storage
from kaelum_graph.types import EpisodeId


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "deep" / "kaelum.sqlite")


def test_an_episode_is_kept_once(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "what?", {"answer": "1"})
    storage.append_episode(EpisodeId("a"), "what?", {"answer": "2"})
    assert storage.episode("a") == {"answer": "1"}
    assert storage.counts()["episodes"] == 1


def test_the_newest_episode_of_a_query_is_found(storage: Storage) -> None:
    for name in ("a", "b"):
        storage.append_episode(EpisodeId(name), "what?", {})
    assert storage.latest_episode_id("what?") == "b"
    assert storage.latest_episode_id("What?") is None


def test_feedback_is_idempotent_and_needs_an_episode(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "what?", {})
    rating = Feedback(id="f", episode_id=EpisodeId("a"), score=0.2, correction="4")
    assert storage.add_feedback(rating)
    assert not storage.add_feedback(rating)
    assert storage.feedback_for(EpisodeId("a")) == [rating]
    with pytest.raises(UsageError, match="no such episode"):
        storage.add_feedback(Feedback(id="g", episode_id=EpisodeId("zzz"), score=1.0))


def test_cache_entries_come_back_whole(storage: Storage) -> None:
    vector = np.random.default_rng(1).standard_normal(384).astype(np.float32)
    storage.put_cache_entry(
        CacheEntry(episode_id=EpisodeId("a"), scope="s", query="é?", answer={"text": "ü"}, embedding=vector)
    )
    (entry,) = storage.cache_entries()
    assert entry.answer == {"text": "ü"}
    np.testing.assert_array_equal(entry.embedding, vector)
    assert storage.delete_cache_entry("a")
    assert not storage.delete_cache_entry("a")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot open the episode store"):
        Storage(tmp_path / "file" / "kaelum.sqlite")


def test_a_full_disk_is_a_storage_error_and_loses_nothing(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "what?", {"answer": "1"})
    pages = storage._connection.execute("PRAGMA page_count").fetchone()[0]
    storage._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="full"):
        storage.append_episode(EpisodeId("b"), "what?", {"answer": "x" * 1_000_000})
    assert storage.episode("a") == {"answer": "1"}
    assert storage.episode("b") is None


def test_an_acknowledged_episode_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from kaelum_graph.storage import Storage
storage = Storage(Path({str(tmp_path)!r}) / "k.sqlite")
for number in range(10_000):
    storage.append_episode(str(number), "q", {{"n": number}})
    print(number, flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(20)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    numbers = [int(line) for line in acknowledged if line.strip()]
    assert len(numbers) >= 20
    storage = Storage(tmp_path / "k.sqlite")
    assert all(storage.episode(str(number)) == {"n": number} for number in numbers)
    storage.close()
