"""Responses kept for later: to be read again, and to go on from. Each belongs to one tenant; no other sees it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kaelum_graph.errors import StorageError
from kaelum_graph.sqlite_file import begin, erase
from kaelum_graph.storage import STORE_FILE
from kaelum_graph.types import Json

KEPT_SECONDS = 30 * 24 * 3600.0
KEPT_PER_TENANT = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    episode_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    previous_id TEXT,
    response TEXT,
    input TEXT,
    UNIQUE (tenant, id)
);
CREATE INDEX IF NOT EXISTS responses_by_age ON responses (created_at);
CREATE INDEX IF NOT EXISTS responses_by_tenant ON responses (tenant, sequence);
CREATE TABLE IF NOT EXISTS response_items (
    response INTEGER NOT NULL REFERENCES responses (sequence) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    item TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS response_items_by_id ON response_items (tenant, id);
CREATE INDEX IF NOT EXISTS response_items_by_response ON response_items (response);
"""

_LINKED = """
WITH RECURSIVE linked (tenant, id, previous_id, episode_id) AS (
    SELECT tenant, id, previous_id, episode_id FROM responses WHERE episode_id IN (SELECT value FROM json_each(?))
    UNION
    SELECT r.tenant, r.id, r.previous_id, r.episode_id FROM responses AS r JOIN linked AS l
    ON r.tenant = l.tenant AND {near}
) SELECT DISTINCT episode_id FROM linked WHERE episode_id != ''
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """A response as it was sent, the items of its own input, and the response that it went on from."""

    response: Json
    input: tuple[Json, ...]
    previous_id: str | None


class ResponsesStore:
    """Tables in one SQLite file, beside what else is kept there. Safe for threads and for several processes.

    What `put` acknowledges by returning is on disk. A response goes after 30 days, or when its tenant has 10,000 newer
    ones; so does the note of an episode whose response was not to be kept. `now` gives seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        *,
        kept_seconds: float = KEPT_SECONDS,
        kept_per_tenant: int = KEPT_PER_TENANT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._kept_seconds, self._kept_per_tenant, self._now = kept_seconds, kept_per_tenant, now
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0, isolation_level=None)
            self._connection.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;"
                + SCHEMA
            )
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: cannot open the store of responses: {error}") from error

    def put(self, tenant: str, episode_id: str, response: Json, items: Sequence[Json]) -> None:
        """Keep a response with the `items` of its input; one of the same id is replaced.

        Raises `StorageError` where it can't be written.
        """
        response_id, previous = str(response["id"]), response.get("previous_response_id")
        with self._transaction() as connection:
            self._prune(connection, tenant, response_id)
            cursor = connection.execute(
                "INSERT INTO responses (tenant, id, episode_id, created_at, previous_id, response, input) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (tenant, response_id, episode_id, self._now(), previous, _dump(response), _dump(list(items))),
            )
            connection.executemany(
                "INSERT INTO response_items (response, tenant, id, item) VALUES (?, ?, ?, ?)",
                [(cursor.lastrowid, tenant, item["id"], _dump(item)) for item in (*items, *response["output"])],
            )

    def note_episode(self, tenant: str, response_id: str, episode_id: str) -> None:
        """Remember which episode a response was of, where its id doesn't say so, and nothing else of it."""
        with self._transaction() as connection:
            self._prune(connection, tenant, response_id)
            connection.execute(
                "INSERT INTO responses (tenant, id, episode_id, created_at) VALUES (?, ?, ?, ?)",
                (tenant, response_id, episode_id, self._now()),
            )

    def get(self, tenant: str, response_id: str) -> KeptResponse | None:
        """A response of this tenant, or None."""
        row = self._row(
            "SELECT response, input, previous_id FROM responses "
            "WHERE tenant = ? AND id = ? AND response IS NOT NULL AND created_at > ?",
            tenant,
            response_id,
            self._now() - self._kept_seconds,
        )
        if row is None:
            return None
        return KeptResponse(response=json.loads(row[0]), input=tuple(json.loads(row[1])), previous_id=row[2])

    def item(self, tenant: str, item_id: str) -> Json | None:
        """The newest item of that id in any response of this tenant, or None."""
        row = self._row(
            "SELECT item FROM response_items WHERE tenant = ? AND id = ? ORDER BY response DESC LIMIT 1",
            tenant,
            item_id,
        )
        return None if row is None else json.loads(row[0])

    def episode_id(self, tenant: str, response_id: str) -> str | None:
        """The episode behind a response of this tenant, for feedback; None where nothing is known of it."""
        row = self._row("SELECT episode_id FROM responses WHERE tenant = ? AND id = ?", tenant, response_id)
        return None if row is None else row[0]

    def delete(self, tenant: str, response_id: str) -> bool:
        """Forget a response and its items; False when this tenant has none of that id."""
        with self._transaction() as connection:
            statement = "DELETE FROM responses WHERE tenant = ? AND id = ? AND response IS NOT NULL"
            return connection.execute(statement, (tenant, response_id)).rowcount == 1

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._connection.close()

    def _prune(self, connection: sqlite3.Connection, tenant: str, response_id: str) -> None:
        """Make room for a response: the same one of before goes, and what is too old or too many."""
        connection.execute("DELETE FROM responses WHERE tenant = ? AND id = ?", (tenant, response_id))
        connection.execute("DELETE FROM responses WHERE created_at <= ?", (self._now() - self._kept_seconds,))
        connection.execute(
            "DELETE FROM responses WHERE tenant = ? AND sequence <= (SELECT sequence FROM responses "
            "WHERE tenant = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
            (tenant, tenant, self._kept_per_tenant - 1),
        )

    def _row(self, statement: str, *arguments: object) -> tuple[str, ...] | None:
        with self._lock:
            try:
                return self._connection.execute(statement, arguments).fetchone()
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: cannot read: {error}") from error

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                begin(self._connection, self.path)
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: cannot write: {error}") from error


def forget(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
    """How many rows went: responses of these episodes and their items, and with a `tenant` all of its own.

    For the group "kaelum.keepers". What went on from one of them stays, and can't be gone on from. Raises
    `StorageError`. The file is the episode store's, whose `wipe` takes the text off the disk.
    """
    named = json.dumps(list(episode_ids))

    def work(connection: sqlite3.Connection) -> None:
        connection.execute(
            "DELETE FROM responses WHERE tenant = ? OR episode_id IN (SELECT value FROM json_each(?))", (tenant, named)
        )

    return erase(data_dir / STORE_FILE, tables=("responses", "response_items"), work=work)


def conversation(data_dir: Path, episode_ids: Sequence[str], *, earlier: bool) -> list[str]:
    """The episodes of all responses that those of these went on from, or that went on from those, and these.

    For "kaelum.conversations". A turn that no episode was kept of is among them by the id that its response has here.
    A response that its client deleted joins nothing any more. Raises `StorageError`.
    """
    statement = _LINKED.format(near="r.id = l.previous_id" if earlier else "r.previous_id = l.id")
    path = data_dir / STORE_FILE
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(path, timeout=30.0, isolation_level=None)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'responses'").fetchone():
                return []
            rows = connection.execute(statement, (json.dumps(list(episode_ids)),)).fetchall()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot read: {error}") from error
    return [row[0] for row in rows]


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
