"""Ratings of episodes in the store, and the log of their changes."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kaelum_graph.cache_table import evict
from kaelum_graph.errors import UnknownEpisode
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning_table import log_rating
from kaelum_graph.sqlite_file import SqliteFile, of_tenant
from kaelum_graph.types import EpisodeId

FEEDBACK_COLUMNS = "tenant, id, episode_id, created_at, content"


class FeedbackTable:
    """The part of the store that keeps ratings. Every method raises `StorageError` where the file can't be used."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def add_feedback(self, feedback: Feedback) -> bool:
        """Keep a rating; False when its tenant has one of that id already (a retry), which then stays as it is.

        One that calls the answer wrong takes it out of the cache in the same moment. Raises `UnknownEpisode`.
        """

        return self._file.write(lambda connection: insert_feedback(connection, feedback))

    def feedback(self, feedback_id: str, *, tenant: str = "") -> Feedback | None:
        """A rating by its id, or None."""
        rows = self._file.rows(
            f"SELECT {FEEDBACK_COLUMNS} FROM feedback WHERE tenant = ? AND id = ?", (tenant, feedback_id)
        )
        return Feedback.from_content(*rows[0]) if rows else None

    def update_feedback(
        self, feedback_id: str, change: Callable[[Feedback], Feedback], *, tenant: str = ""
    ) -> Feedback | None:
        """A rating as `change` makes it, kept; None where there is none. Its id, tenant, episode and time stay.

        No other change comes between reading it and keeping it. One that now calls the answer wrong takes it out of
        the cache. Raises what `change` raises, and changes nothing then.
        """

        def update(connection: sqlite3.Connection) -> Feedback | None:
            before = _find(connection, feedback_id, tenant)
            if before is None:
                return None
            after = replace(
                change(before), id=before.id, tenant=tenant, episode_id=before.episode_id, created_at=before.created_at
            )
            if after != before:
                connection.execute(
                    "UPDATE feedback SET content = ? WHERE tenant = ? AND id = ?", (after.content(), tenant, before.id)
                )
                log_change(connection, after)
                if after.refutes:
                    evict(connection, after.episode_id)
            return after

        return self._file.write(update)

    def delete_feedback(self, feedback_id: str, *, tenant: str = "") -> bool:
        """Take a rating back; False when there was none. The log keeps what it said, so that it can be unlearned."""

        def delete(connection: sqlite3.Connection) -> bool:
            feedback = _find(connection, feedback_id, tenant)
            if feedback is None:
                return False
            connection.execute("DELETE FROM feedback WHERE tenant = ? AND id = ?", (tenant, feedback_id))
            log_change(connection, feedback, deleted=True)
            return True

        return self._file.write(delete)

    def feedback_for(self, episode_id: EpisodeId, *, tenant: str | None = "") -> list[Feedback]:
        """Every rating of an episode, oldest first."""
        return self.list_feedback(tenant=tenant, episode_ids=[episode_id], limit=-1)

    def list_feedback(
        self,
        *,
        tenant: str | None = "",
        episode_ids: Sequence[str] = (),
        keys: Sequence[str] = (),
        sources: Sequence[str] = (),
        limit: int = 100,
        offset: int = 0,
    ) -> list[Feedback]:
        """Ratings, oldest first, from number `offset` on; of these episodes, keys and sources, where any are given.

        A negative `limit` is none.
        """
        condition, arguments = of_tenant(tenant)
        columns = {
            "episode_id": episode_ids,
            "json_extract(content, '$.key')": keys,
            "json_extract(content, '$.source')": sources,
        }
        for column, values in columns.items():
            if values:
                condition += f" AND {column} IN (SELECT value FROM json_each(?))"
                arguments = (*arguments, json.dumps(list(values)))
        rows = self._file.rows(
            f"SELECT {FEEDBACK_COLUMNS} FROM feedback WHERE true{condition} ORDER BY sequence LIMIT ? OFFSET ?",
            (*arguments, limit, offset),
        )
        return [Feedback.from_content(*row) for row in rows]

    def feedback_log(self, *, after: int, limit: int = 1000) -> list[FeedbackChange]:
        """The next `limit` changes of any tenant's ratings since number `after`, oldest first; 0: from the beginning.

        A change that is committed later has a greater number, so that whoever goes on from the last number taken in
        sees each change once.
        """
        rows = self._file.rows(
            "SELECT sequence, at, tenant, id, episode_id, created_at, content, (SELECT content FROM feedback_log AS b "
            "WHERE b.tenant = l.tenant AND b.id = l.id AND b.sequence < l.sequence ORDER BY b.sequence DESC LIMIT 1) "
            "FROM feedback_log AS l WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        )
        return [_change(row) for row in rows]


def insert_feedback(connection: sqlite3.Connection, feedback: Feedback) -> bool:
    """`FeedbackTable.add_feedback` within a transaction."""
    found = "SELECT 1 FROM episodes WHERE id = ? AND tenant = ?"
    if connection.execute(found, (feedback.episode_id, feedback.tenant)).fetchone() is None:
        raise UnknownEpisode(f"feedback for '{feedback.episode_id}': no such episode.")
    kept = replace(feedback, created_at=time.time() if feedback.created_at is None else feedback.created_at)
    cursor = connection.execute(
        f"INSERT OR IGNORE INTO feedback ({FEEDBACK_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        (kept.tenant, kept.id, kept.episode_id, kept.created_at, kept.content()),
    )
    if cursor.rowcount != 1:
        return False
    log_change(connection, kept)
    if kept.refutes:
        evict(connection, kept.episode_id)
    return True


def log_change(connection: sqlite3.Connection, feedback: Feedback, *, deleted: bool = False) -> None:
    """Write down, within a transaction, that a rating now says this, or is gone; learners are told too."""
    line = connection.execute(
        "INSERT INTO feedback_log (at, tenant, id, episode_id, created_at, content) VALUES (?, ?, ?, ?, ?, ?)",
        (
            time.time(),
            feedback.tenant,
            feedback.id,
            feedback.episode_id,
            feedback.created_at,
            None if deleted else feedback.content(comment=False),
        ),
    ).lastrowid
    assert line is not None
    log_rating(connection, feedback.episode_id, line)


def erase_ratings(connection: sqlite3.Connection, episode_id: str) -> None:
    """Delete, within a transaction, an episode's ratings; the log tells that, and forgets the texts in them."""
    ratings = connection.execute(f"SELECT {FEEDBACK_COLUMNS} FROM feedback WHERE episode_id = ?", (episode_id,))
    for row in ratings.fetchall():
        log_change(connection, Feedback.from_content(*row), deleted=True)
    connection.execute("DELETE FROM feedback WHERE episode_id = ?", (episode_id,))
    connection.execute(
        "UPDATE feedback_log SET content = json_remove(content, '$.correction', '$.key', '$.source') "
        "WHERE episode_id = ? AND content IS NOT NULL",
        (episode_id,),
    )


def _find(connection: sqlite3.Connection, feedback_id: str, tenant: str) -> Feedback | None:
    row = connection.execute(
        f"SELECT {FEEDBACK_COLUMNS} FROM feedback WHERE tenant = ? AND id = ?", (tenant, feedback_id)
    ).fetchone()
    return None if row is None else Feedback.from_content(*row)


def _change(row: tuple[Any, ...]) -> FeedbackChange:
    sequence, at, tenant, feedback_id, episode_id, created_at, after, before = row
    whose = tenant, feedback_id, episode_id, created_at
    return FeedbackChange(
        sequence=sequence,
        at=at,
        before=None if before is None else Feedback.from_content(*whose, before),
        after=None if after is None else Feedback.from_content(*whose, after),
    )
