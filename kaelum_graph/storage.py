"""Durable records in SQLite: episodes, feedback and cached answers.

Whatever a method here acknowledges by returning is on disk: WAL journal with full synchronisation.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.types import Array, EpisodeId, Json

STORE_FILE = "kaelum.sqlite"
"""The store's name in the data folder."""

SHORTEST_PREFIX = 4
"""Characters of an id from which on its beginning is enough to name it."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS episodes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    query TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS episodes_by_query ON episodes (query);
CREATE TABLE IF NOT EXISTS feedback (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    episode_id TEXT NOT NULL REFERENCES episodes (id),
    created_at REAL NOT NULL,
    score REAL,
    correction TEXT,
    worker TEXT,
    comment TEXT
);
CREATE TABLE IF NOT EXISTS measurements (
    episode_id TEXT PRIMARY KEY,
    data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS cache_entries (
    episode_id TEXT PRIMARY KEY,
    scope TEXT NOT NULL,
    query TEXT NOT NULL,
    answer TEXT NOT NULL,
    embedding BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS cache_changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    episode_id TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """An answer that may be served again. `scope` separates answers that must never be mixed (model, conversation)."""

    episode_id: EpisodeId
    scope: str
    query: str
    answer: Json
    embedding: Array  # [384] unit norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a person said of an episode. `score` in [0, 1]; `correction` is a gold answer; `worker` a better route."""

    id: str
    episode_id: EpisodeId
    score: float | None = None
    correction: str | None = None
    worker: str | None = None
    comment: str | None = None


class Storage:
    """One SQLite file, shared by the threads of a process and, through WAL, by several processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0, isolation_level=None)
            self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: cannot open the episode store: {error}") from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: cannot write: {error}") from error

    def append_episode(self, episode_id: EpisodeId, query: str, record: Json) -> None:
        """Keep an episode. Appending the same id again changes nothing, so that a retried node is harmless."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO episodes (id, created_at, query, record) VALUES (?, ?, ?, ?)",
                (episode_id, time.time(), query, json.dumps(record, ensure_ascii=False)),
            )

    def episode(self, episode_id: str) -> Json | None:
        """The record of an episode, or None."""
        return self._record("SELECT record FROM episodes WHERE id = ?", episode_id)

    def latest_episode_id(self, query: str) -> EpisodeId | None:
        """The newest episode that asked exactly `query`, or None."""
        with self._lock:
            row = self._connection.execute(
                "SELECT id FROM episodes WHERE query = ? ORDER BY sequence DESC LIMIT 1", (query,)
            ).fetchone()
        return EpisodeId(row[0]) if row else None

    def find_episode_id(self, name: str | None) -> EpisodeId:
        """The episode that `name` means: an id, or the beginning of just one from 4 characters on; None: the newest.

        Raises `UsageError` when there is none, or more than one.
        """
        if name is None:
            rows = self._rows("SELECT id FROM episodes ORDER BY sequence DESC LIMIT 1")
            if not rows:
                raise UsageError("no episode is kept yet: ask something first.")
            return EpisodeId(rows[0][0])
        name = name.encode(errors="replace").decode()  # an argument that is no UTF-8 names nothing, and breaks nothing
        if rows := self._rows("SELECT id FROM episodes WHERE id = ?", name):
            return EpisodeId(rows[0][0])
        if len(name) < SHORTEST_PREFIX:
            raise UsageError(f"episode '{name}': expected an id, or at least {SHORTEST_PREFIX} characters of one.")
        # The ids that begin with `name` are an interval, which the index finds; LIKE would read "%" and "_" in it.
        rows = self._rows(
            "SELECT id FROM episodes WHERE id > ? AND id < ? ORDER BY id LIMIT 4", name, name + "\U0010ffff"
        )
        if not rows:
            raise UsageError(f"episode '{name}': no such episode.")
        if len(rows) > 1:
            found = ", ".join(row[0] for row in rows[:3]) + (", …" if len(rows) > 3 else "")
            raise UsageError(f"episode '{name}': more than one begins like that: {found}.")
        return EpisodeId(rows[0][0])

    def counts(self) -> dict[str, float]:
        """How many episodes, ratings and cached answers are kept."""
        with self._lock:
            return {
                table: self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("episodes", "feedback", "cache_entries")
            }

    def add_feedback(self, feedback: Feedback) -> bool:
        """Keep a rating; False when its id is already there (a retry). Raises `UsageError` for an unknown episode."""
        if self.episode(feedback.episode_id) is None:
            raise UsageError(f"feedback for '{feedback.episode_id}': no such episode.")
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO feedback (id, episode_id, created_at, score, correction, worker, comment) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    feedback.id,
                    feedback.episode_id,
                    time.time(),
                    feedback.score,
                    feedback.correction,
                    feedback.worker,
                    feedback.comment,
                ),
            )
            return cursor.rowcount == 1

    def feedback_for(self, episode_id: EpisodeId) -> list[Feedback]:
        """Every rating of an episode, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT id, episode_id, score, correction, worker, comment FROM feedback "
                "WHERE episode_id = ? ORDER BY sequence",
                (episode_id,),
            ).fetchall()
        return [
            Feedback(id=row[0], episode_id=row[1], score=row[2], correction=row[3], worker=row[4], comment=row[5])
            for row in rows
        ]

    def add_measurements(self, episode_id: EpisodeId, data: Json) -> bool:
        """Keep what an episode's anchored checks measured; False when that is kept already (a retried node)."""
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO measurements (episode_id, data) VALUES (?, ?)", (episode_id, json.dumps(data))
            )
            return cursor.rowcount == 1

    def measurements(self, *, newest: int = 2000) -> list[Json]:
        """The `newest` measurements, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT data FROM measurements ORDER BY rowid DESC LIMIT ?", (newest,)
            ).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def put_cache_entry(self, entry: CacheEntry) -> None:
        """Keep an answer for serving again; replaces an entry of the same episode."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO cache_entries (episode_id, scope, query, answer, embedding) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    entry.episode_id,
                    entry.scope,
                    entry.query,
                    json.dumps(entry.answer, ensure_ascii=False),
                    entry.embedding.astype("<f4").tobytes(),
                ),
            )
            connection.execute("INSERT INTO cache_changes (episode_id) VALUES (?)", (entry.episode_id,))

    def cache_entries(self) -> list[CacheEntry]:
        """Every cached answer, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT episode_id, scope, query, answer, embedding FROM cache_entries ORDER BY rowid"
            ).fetchall()
        return [_cache_entry(row) for row in rows]

    def delete_cache_entry(self, episode_id: str) -> bool:
        """Forget a cached answer; False when there was none."""
        with self._transaction() as connection:
            gone = connection.execute("DELETE FROM cache_entries WHERE episode_id = ?", (episode_id,)).rowcount == 1
            if gone:
                connection.execute("INSERT INTO cache_changes (episode_id) VALUES (?)", (episode_id,))
            return gone

    def cache_version(self) -> int:
        """A number that grows with every cached answer kept or forgotten, by any process. Costs microseconds."""
        with self._lock:
            return self._connection.execute("SELECT coalesce(max(sequence), 0) FROM cache_changes").fetchone()[0]

    def cache_changes(self, *, after: int) -> dict[EpisodeId, CacheEntry | None]:
        """The cached answers that changed since version `after`, as they are now; None for a forgotten one."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT c.episode_id, scope, query, answer, embedding FROM cache_changes AS c "
                "LEFT JOIN cache_entries AS e ON e.episode_id = c.episode_id WHERE c.sequence > ? ORDER BY c.sequence",
                (after,),
            ).fetchall()
        return {EpisodeId(row[0]): None if row[1] is None else _cache_entry(row) for row in rows}

    def _record(self, statement: str, *arguments: str) -> Json | None:
        rows = self._rows(statement, *arguments)
        return json.loads(rows[0][0]) if rows else None

    def _rows(self, statement: str, *arguments: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, arguments).fetchall()

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._connection.close()


def _cache_entry(row: tuple[Any, ...]) -> CacheEntry:
    return CacheEntry(
        episode_id=row[0],
        scope=row[1],
        query=row[2],
        answer=json.loads(row[3]),
        embedding=np.frombuffer(row[4], dtype="<f4").astype(np.float32),
    )
