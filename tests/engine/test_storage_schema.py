"""A store of an earlier version becomes one of this, and loses nothing."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.errors import StorageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.storage import CacheEntry, Storage
from kaelum_graph.storage_schema import VERSION
from kaelum_graph.types import EpisodeId

FIRST = """
CREATE TABLE episodes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    query TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX episodes_by_query ON episodes (query);
CREATE TABLE feedback (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    episode_id TEXT NOT NULL REFERENCES episodes (id),
    created_at REAL NOT NULL,
    score REAL,
    correction TEXT,
    worker TEXT,
    comment TEXT
);
CREATE TABLE cache_entries (
    episode_id TEXT PRIMARY KEY,
    scope TEXT NOT NULL,
    query TEXT NOT NULL,
    answer TEXT NOT NULL,
    embedding BLOB NOT NULL
);
"""
"""The tables as they were before those of measurements and cache changes came."""

LATER = """
CREATE TABLE measurements (
    episode_id TEXT PRIMARY KEY,
    data TEXT NOT NULL
);
CREATE TABLE cache_changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    episode_id TEXT NOT NULL
);
INSERT INTO measurements VALUES ('e1', '{"model": "m"}');
INSERT INTO cache_changes (episode_id) VALUES ('e1');
"""


def old_file(path: Path, *, schema: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL;" + schema)
    connection.execute("INSERT INTO episodes (id, created_at, query, record) VALUES ('e1', 5.0, 'what?', '{\"n\": 1}')")
    values = [("f1", 0.25, "4", "math", "no"), ("f2", None, None, None, 'ha"ha')]
    for name, score, correction, worker, comment in values:
        connection.execute(
            "INSERT INTO feedback (id, episode_id, created_at, score, correction, worker, comment) "
            "VALUES (?, 'e1', 7.0, ?, ?, ?, ?)",
            (name, score, correction, worker, comment),
        )
    vector = np.arange(384, dtype="<f4").tobytes()
    connection.execute("INSERT INTO cache_entries VALUES ('e1', 's', 'what?', '{\"a\": 2}', ?)", (vector,))
    connection.close()


@pytest.mark.parametrize("schema", [FIRST + LATER, FIRST], ids=["newest", "oldest"])
def test_an_old_file_is_the_local_users(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "kaelum.sqlite"
    old_file(path, schema=schema)
    for _ in range(2):  # migrated, then opened as it is
        storage = Storage(path)
        assert storage.find_episode_id(None) == "e1"
        assert storage.episode("e1") == {"n": 1}
        assert storage.latest_episode_id("what?") == "e1"
        with_all = Feedback(
            id="f1", episode_id=EpisodeId("e1"), score=0.25, correction="4", worker="math", comment="no"
        )
        assert storage.feedback_for(EpisodeId("e1")) == [
            with_all,
            Feedback(id="f2", episode_id=EpisodeId("e1"), comment='ha"ha'),
        ]
        kept = storage.feedback("f1")
        assert kept is not None
        assert kept.created_at == 7.0
        [entry] = storage.cache_entries()
        assert (entry.tenant, entry.answer, entry.embedding[3]) == ("", {"a": 2}, 3.0)
        changes = storage.feedback_log(after=0)
        assert [(change.action, change.after and change.after.score) for change in changes] == [
            ("added", 0.25),
            ("added", None),
        ]
        assert storage.counts()["measurements"] == (schema != FIRST)
        storage.close()


def test_a_migrated_file_is_as_good_as_a_new_one(tmp_path: Path) -> None:
    old_file(tmp_path / "old.sqlite", schema=FIRST)
    tables = list[list[tuple[str, str]]]()
    for name in ("old.sqlite", "new.sqlite"):
        storage = Storage(tmp_path / name)
        storage.append_episode(EpisodeId("e2"), "what?", {}, tenant="ann")
        assert storage.add_feedback(Feedback(id="f1", episode_id=EpisodeId("e2"), tenant="ann", score=1.0))
        vector = np.ones(384, dtype=np.float32)
        entry = CacheEntry(episode_id=EpisodeId("e2"), scope="s", query="q", answer={}, embedding=vector, tenant="ann")
        storage.put_cache_entry(entry)
        assert storage.cache_entries()[-1].tenant == "ann"
        assert storage._file.rows("PRAGMA user_version") == [(VERSION,)]
        statement = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        tables.append(
            [(row[0], " ".join(row[1].replace("IF NOT EXISTS ", "").split())) for row in storage._file.rows(statement)]
        )
        storage.close()
    assert tables[0] == tables[1]


def test_processes_that_open_an_old_file_at_once_migrate_it_once(tmp_path: Path) -> None:
    path = tmp_path / "kaelum.sqlite"
    old_file(path, schema=FIRST)
    stores, together = list[Storage](), threading.Barrier(4)

    def opened() -> None:
        together.wait()
        stores.append(Storage(path))

    threads = [threading.Thread(target=opened) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(store.feedback_log(after=0)) for store in stores] == [2] * 4
    for store in stores:
        store.close()


def test_a_file_from_the_future_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "kaelum.sqlite"
    Storage(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(StorageError, match="upgrade"):
        Storage(path)
