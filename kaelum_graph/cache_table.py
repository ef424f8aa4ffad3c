"""Cached answers in the store, and a version that tells every process when one came or went."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

import numpy as np

from kaelum_graph.sqlite_file import SqliteFile
from kaelum_graph.types import Array, EpisodeId, Json

_COLUMNS = "scope, query, answer, embedding, tenant"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """An answer that may be served again, to its tenant.

    `scope` separates answers that must never be mixed (model, conversation).
    """

    episode_id: EpisodeId
    scope: str
    query: str
    answer: Json
    embedding: Array  # [384] unit norm
    tenant: str = ""


class CacheTable:
    """The part of the store that keeps cached answers, of all tenants: `AnswerCache` keeps them apart.

    Every method raises `StorageError` where the file can't be used.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def put_cache_entry(self, entry: CacheEntry) -> None:
        """Keep an answer for serving again; replaces an entry of the same episode."""
        values = (
            entry.episode_id,
            entry.scope,
            entry.query,
            json.dumps(entry.answer, ensure_ascii=False),
            entry.embedding.astype("<f4").tobytes(),
            entry.tenant,
        )

        def put(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"INSERT OR REPLACE INTO cache_entries (episode_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", values
            )
            connection.execute("INSERT INTO cache_changes (episode_id) VALUES (?)", (entry.episode_id,))

        self._file.write(put)

    def cache_entries(self) -> list[CacheEntry]:
        """Every cached answer, oldest first."""
        rows = self._file.rows(f"SELECT episode_id, {_COLUMNS} FROM cache_entries ORDER BY rowid")
        return [_cache_entry(row) for row in rows]

    def delete_cache_entry(self, episode_id: str) -> bool:
        """Forget a cached answer; False when there was none."""
        return self._file.write(lambda connection: evict(connection, episode_id))

    def cache_version(self) -> int:
        """A number that grows with every cached answer kept or forgotten, by any process. Costs microseconds."""
        return self._file.rows("SELECT coalesce(max(sequence), 0) FROM cache_changes")[0][0]

    def cache_changes(self, *, after: int) -> dict[EpisodeId, CacheEntry | None]:
        """The cached answers that changed since version `after`, as they are now; None for a forgotten one."""
        rows = self._file.rows(
            f"SELECT c.episode_id, {_COLUMNS} FROM cache_changes AS c "
            "LEFT JOIN cache_entries AS e ON e.episode_id = c.episode_id WHERE c.sequence > ? ORDER BY c.sequence",
            (after,),
        )
        return {EpisodeId(row[0]): None if row[1] is None else _cache_entry(row) for row in rows}


def evict(connection: sqlite3.Connection, episode_id: str) -> bool:
    """Forget, within a transaction, an episode's cached answer; False when there was none.

    Of an episode that was itself served from the cache (`served` in its record), the answer that it was served.
    """
    served = connection.execute(
        "SELECT json_extract(record, '$.served') FROM episodes WHERE id = ? AND json_valid(record)", (episode_id,)
    ).fetchone()
    owner = served[0] if served and served[0] else episode_id
    gone = connection.execute("DELETE FROM cache_entries WHERE episode_id = ?", (owner,)).rowcount == 1
    if gone:
        connection.execute("INSERT INTO cache_changes (episode_id) VALUES (?)", (owner,))
    return gone


def _cache_entry(row: tuple[Any, ...]) -> CacheEntry:
    return CacheEntry(
        episode_id=row[0],
        scope=row[1],
        query=row[2],
        answer=json.loads(row[3]),
        embedding=np.frombuffer(row[4], dtype="<f4").astype(np.float32),
        tenant=row[5],
    )
