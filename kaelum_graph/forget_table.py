"""What was forgotten in the store and may still be kept elsewhere, so that it is known after an interruption.

A line is written in the transaction that deletes, and taken away once all that keep something have forgotten too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kaelum_graph.sqlite_file import SqliteFile


class PendingForget(NamedTuple):
    """An episode that was deleted; where its id is "", all that this tenant had."""

    episode_id: str
    tenant: str


class ForgetTable:
    """The part of the store that knows what is still to be forgotten. Methods raise `StorageError`."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def pending_forgets(self) -> list[PendingForget]:
        """What is pending, by id; an episode that is there again waits until it is deleted again."""
        rows = self._file.rows(
            "SELECT episode_id, tenant FROM pending_forgets WHERE episode_id NOT IN (SELECT id FROM episodes) "
            "ORDER BY episode_id, tenant"
        )
        return [PendingForget(*row) for row in rows]

    def end_forgets(self, ended: Iterable[PendingForget]) -> None:
        """Nobody keeps anything of these any more."""
        rows = [tuple(one) for one in ended]

        def end(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM pending_forgets WHERE episode_id = ? AND tenant = ?", rows)

        self._file.write(end)


def begin_forget(connection: sqlite3.Connection, episode_id: str, *, tenant: str) -> None:
    """Write down, within the transaction that deletes, what others have to forget too; "" is all of the tenant."""
    connection.execute(
        # One line an episode: it is known under the tenant that it was deleted of.
        "INSERT OR IGNORE INTO pending_forgets (episode_id, tenant) SELECT ?1, ?2 "
        "WHERE ?1 = '' OR NOT EXISTS (SELECT 1 FROM pending_forgets WHERE episode_id = ?1)",
        (episode_id, tenant),
    )


def keep_tenant(connection: sqlite3.Connection, tenant: str) -> None:
    """A tenant asks again, so that not all it has is to be forgotten any more; within the transaction that keeps it."""
    connection.execute("DELETE FROM pending_forgets WHERE episode_id = '' AND tenant = ?", (tenant,))


def episode_ids_served_from(connection: sqlite3.Connection, episode_ids: Sequence[str]) -> list[str]:
    """The episodes that are answers of these, given again from the cache: what each says is what one of these says."""
    rows = connection.execute(
        "SELECT s.id FROM (SELECT id, tenant, CASE WHEN json_valid(record) THEN json_extract(record, '$.served') END "
        "AS source FROM episodes) AS s JOIN episodes AS e ON e.id = s.source AND e.tenant = s.tenant "
        "WHERE s.source IN (SELECT value FROM json_each(?))",
        (json.dumps(list(episode_ids)),),
    )
    return [row[0] for row in rows]
