"""Task clusters and structures on disk: one SQLite file in the data folder.

Everything is read from the file when it is needed (64 clusters of a worker take a millisecond), so processes that share
a data folder never disagree. Whatever a transaction wrote is on disk when it returns.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from kaelum_graph.errors import StorageError
from kaelum_graph.sqlite_file import begin
from kaelum_graph.structures.base import Structure
from kaelum_graph.structures.task_clusters import TaskCluster
from kaelum_graph.structures.trial import Trial
from kaelum_graph.types import WorkerName

STRUCTURES_FILE = "structures.sqlite"
"""The store's name in the data folder."""

State = Literal["sought", "trial", "adopted", "dropped", "none"]
"""sought: being discovered right now; none: nothing usable was written."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS clusters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    worker TEXT NOT NULL,
    centroid BLOB NOT NULL,
    members INTEGER NOT NULL,
    use REAL NOT NULL,
    last INTEGER NOT NULL,
    questions TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS clusters_by_worker ON clusters (worker);
CREATE TABLE IF NOT EXISTS structures (
    cluster INTEGER NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    model TEXT NOT NULL,
    worker TEXT NOT NULL,
    state TEXT NOT NULL,
    sought_at REAL NOT NULL,
    lines TEXT NOT NULL DEFAULT '[]',
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    trial TEXT NOT NULL DEFAULT '{}',
    watch TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (cluster, model)
);
CREATE TABLE IF NOT EXISTS learned (
    episode_id TEXT NOT NULL,
    worker TEXT NOT NULL,
    cluster INTEGER,
    tried INTEGER,
    PRIMARY KEY (episode_id, worker)
) WITHOUT ROWID;
"""
_LATER_COLUMNS = ("cluster", "tried")
"""Of `learned`, in files from before: the cluster that a query joined, and that whose structure it tried. NULL in both:
nobody wrote down where it went."""
_TRIAL = TypeAdapter(Trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A structure with where it stands: its trial, and what was seen of it since its adoption (`watch`)."""

    structure: Structure
    state: State
    trial: Trial
    watch: Trial
    reason: str
    sought_at: float


class StructureStore:
    """Rows of that file. Thread-safe; writes of several rows belong into one `transaction`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0, isolation_level=None)
            self._connection.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;"
                + _SCHEMA
            )
            self._add_later_columns()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: cannot open the structure store: {error}") from error

    @contextmanager
    def transaction(self) -> Generator[None]:
        """All or nothing, one writer at a time across processes. Raises `StorageError`."""
        with self._lock:
            try:
                begin(self._connection, self.path)
                try:
                    yield
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: cannot write: {error}") from error

    def mark_learned(self, episode_id: str, worker: WorkerName) -> bool:
        """False when that query was learned from before (a retry)."""
        cursor = self._run("INSERT OR IGNORE INTO learned (episode_id, worker) VALUES (?, ?)", episode_id, worker)
        return cursor.rowcount == 1

    def mark_joined(self, episode_id: str, worker: WorkerName, *, cluster: int, tried: int | None) -> None:
        """Write down which cluster a query joined, and which one's structure it was a trial of, if any."""
        self._run(
            "UPDATE learned SET cluster = ?, tried = ? WHERE episode_id = ? AND worker = ?",
            cluster,
            tried,
            episode_id,
            worker,
        )

    def forget(self, episode_ids: Sequence[str]) -> int:
        """Drop every cluster that these joined or tried, with its questions and structures; how many rows went.

        Where a file from before doesn't tell which, all clusters of that worker.
        """
        named = json.dumps(list(episode_ids))
        before = self._connection.total_changes
        self._run(
            "DELETE FROM clusters WHERE EXISTS (SELECT 1 FROM learned AS l WHERE l.episode_id IN "
            "(SELECT value FROM json_each(?)) AND (l.cluster = clusters.id OR l.tried = clusters.id "
            "OR (l.cluster IS NULL AND l.worker = clusters.worker)))",
            named,
        )
        self._run("DELETE FROM learned WHERE episode_id IN (SELECT value FROM json_each(?))", named)
        return self._connection.total_changes - before

    def clusters(self, worker: WorkerName) -> list[TaskCluster]:
        """A worker's clusters, oldest first."""
        rows = self._rows(
            "SELECT id, centroid, members, use, last, questions FROM clusters WHERE worker = ? ORDER BY id", worker
        )
        return [
            TaskCluster(
                id=row[0],
                centroid=np.frombuffer(row[1], dtype="<f4").astype(np.float32),
                members=row[2],
                use=row[3],
                last=row[4],
                questions=tuple(json.loads(row[5])),
            )
            for row in rows
        ]

    def cluster_worker(self, cluster: int) -> WorkerName | None:
        """Whose cluster that is; None when there is none (any more)."""
        rows = self._rows("SELECT worker FROM clusters WHERE id = ?", cluster)
        return WorkerName(rows[0][0]) if rows else None

    def put_cluster(self, worker: WorkerName, cluster: TaskCluster) -> int:
        """Add (id 0) or replace a cluster; its id."""
        values = (
            cluster.centroid.astype("<f4").tobytes(),
            cluster.members,
            cluster.use,
            cluster.last,
            json.dumps(cluster.questions, ensure_ascii=False),
        )
        if cluster.id:
            self._run(
                "UPDATE clusters SET centroid = ?, members = ?, use = ?, last = ?, questions = ? WHERE id = ?",
                *values,
                cluster.id,
            )
            return cluster.id
        cursor = self._run(
            "INSERT INTO clusters (centroid, members, use, last, questions, worker) VALUES (?, ?, ?, ?, ?, ?)",
            *values,
            worker,
        )
        return int(cursor.lastrowid or 0)

    def drop_cluster(self, cluster: int) -> None:
        """Forget a cluster and its structures."""
        self._run("DELETE FROM clusters WHERE id = ?", cluster)

    def entry(self, cluster: int, model: str) -> Entry | None:
        """What is known of that cluster's structure for that model."""
        found = self.entries("WHERE cluster = ? AND model = ?", cluster, model)
        return found[0] if found else None

    def entries(self, where: str = "", *values: object) -> list[Entry]:
        """Every structure (or those of a condition), by worker and cluster."""
        rows = self._rows(
            "SELECT worker, cluster, model, lines, prompt_tokens, state, trial, watch, reason, sought_at "
            f"FROM structures {where} ORDER BY worker, cluster, model",
            *values,
        )
        return [
            Entry(
                structure=Structure(
                    worker=WorkerName(row[0]),
                    cluster=row[1],
                    model=row[2],
                    lines=tuple(json.loads(row[3])),
                    prompt_tokens=row[4],
                ),
                state=row[5],
                trial=_TRIAL.validate_json(row[6]),
                watch=_TRIAL.validate_json(row[7]),
                reason=row[8],
                sought_at=row[9],
            )
            for row in rows
        ]

    def put_entry(self, entry: Entry) -> None:
        """Add or replace a structure."""
        structure = entry.structure
        self._run(
            "INSERT OR REPLACE INTO structures "
            "(cluster, model, worker, state, sought_at, lines, prompt_tokens, reason, trial, watch) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            structure.cluster,
            structure.model,
            structure.worker,
            entry.state,
            entry.sought_at,
            json.dumps(structure.lines, ensure_ascii=False),
            structure.prompt_tokens,
            entry.reason,
            json.dumps(asdict(entry.trial)),
            json.dumps(asdict(entry.watch)),
        )

    def drop_entry(self, cluster: int, model: str) -> None:
        """Forget a structure, so that it may be sought again."""
        self._run("DELETE FROM structures WHERE cluster = ? AND model = ?", cluster, model)

    def revision(self) -> tuple[int, int]:
        """Another one after every change of the file, here or in another process, as long as this store is open."""
        with self._lock:
            return self._rows("PRAGMA data_version")[0][0], self._connection.total_changes

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._connection.close()

    def _add_later_columns(self) -> None:
        if not self._missing_columns():
            return
        with self.transaction():
            for column in self._missing_columns():  # another process may have been faster
                self._run(f"ALTER TABLE learned ADD COLUMN {column} INTEGER")

    def _missing_columns(self) -> list[str]:
        there = {row[1] for row in self._rows("PRAGMA table_info(learned)")}
        return [column for column in _LATER_COLUMNS if column not in there]

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        with self._lock:
            return self._connection.execute(statement, values)

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: cannot read: {error}") from error
