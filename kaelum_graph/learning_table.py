"""The store's log of what there is to learn: a line for each answered query and each change of a rating.

A line is written in the transaction that writes what it is about, so that what was acknowledged is in the log, and what
was not is in neither. SQLite lets one transaction write at a time, so numbers grow in the order of the commits: whoever
has read up to a number will never find a smaller one that is new.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import Any

from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.sqlite_file import SqliteFile
from kaelum_graph.types import EpisodeId

LOG = logging.getLogger(__name__)

_BEFORE = (
    "SELECT content FROM feedback_log AS b WHERE b.tenant = l.tenant AND b.id = l.id AND b.sequence < l.sequence "
    "ORDER BY b.sequence DESC LIMIT 1"
)
_HOLDING = (
    "SELECT tenant, id, episode_id, created_at, content FROM feedback_log AS l "
    "WHERE episode_id = ? AND sequence <= ? AND content IS NOT NULL AND NOT EXISTS ("
    "SELECT 1 FROM feedback_log AS b WHERE b.tenant = l.tenant AND b.id = l.id "
    "AND b.sequence > l.sequence AND b.sequence <= ?) ORDER BY sequence"
)


class LearningTable:
    """The part of the store that learners read. Every method raises `StorageError` where the file can't be used."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def learning_events(self, *, after: int, limit: int = 64) -> list[LearningEvent]:
        """The next `limit` events of any tenant since number `after`, oldest first; 0: from the beginning."""
        rows = self._file.rows(
            f"SELECT e.sequence, e.kind, e.episode_id, e.ref, s.data, l.at, l.tenant, l.id, l.created_at, l.content, "
            f"({_BEFORE}) FROM (SELECT * FROM learning_events WHERE sequence > ? ORDER BY sequence LIMIT ?) AS e "
            "LEFT JOIN seen_episodes AS s ON e.kind != 'forgotten' AND s.episode_id = e.episode_id "
            "LEFT JOIN feedback_log AS l ON e.kind = 'feedback' AND l.sequence = e.ref ORDER BY e.sequence",
            (after, limit),
        )
        return [self._event(row) for row in rows]

    def seen_episode(self, episode_id: str) -> SeenEpisode | None:
        """What learners see of an episode, of whatever tenant; None where nothing was kept for them."""
        rows = self._file.rows("SELECT data FROM seen_episodes WHERE episode_id = ?", (episode_id,))
        return _seen(episode_id, rows[0][0]) if rows else None

    def ratings_until(self, episode_id: str, event: int) -> tuple[Feedback, ...]:
        """The ratings of an episode that held right after the event of that number, oldest first."""
        last = self._file.rows(
            "SELECT max(ref) FROM learning_events WHERE episode_id = ? AND kind = 'feedback' AND sequence <= ?",
            (episode_id, event),
        )[0][0]
        return () if last is None else self._holding(episode_id, last)

    def seen_episode_ids(self, *, after: int = 0, until: int, limit: int = -1) -> list[EpisodeId]:
        """The newest `limit` episodes of the events after number `after` and up to `until`, oldest first."""
        rows = self._file.rows(
            "SELECT episode_id FROM learning_events WHERE kind = 'episode' AND sequence > ? AND sequence <= ? "
            "ORDER BY sequence DESC LIMIT ?",
            (after, until, limit),
        )
        return [EpisodeId(row[0]) for row in reversed(rows)]

    def last_learning_event(self) -> int:
        """The number of the newest event, 0 before the first. Costs microseconds."""
        return self._file.rows("SELECT coalesce(max(sequence), 0) FROM learning_events")[0][0]

    def forgotten(self, *, after: int = 0) -> list[tuple[int, int]]:
        """The "forgotten" events since number `after`: (its number, that of the first event of what was deleted)."""
        return self._file.rows(
            "SELECT sequence, ref FROM learning_events WHERE kind = 'forgotten' AND sequence > ? ORDER BY sequence",
            (after,),
        )

    def _event(self, row: tuple[Any, ...]) -> LearningEvent:
        sequence, kind, episode_id, ref, data, at, tenant, feedback_id, created_at, after, before = row
        seen = None if data is None else _seen(episode_id, data)
        if kind != "feedback":
            first = ref if kind == "forgotten" else 0
            return LearningEvent(sequence=sequence, kind=kind, episode_id=episode_id, episode=seen, first=first)
        whose = tenant, feedback_id, episode_id, created_at
        change = FeedbackChange(
            sequence=ref,
            at=at,
            before=None if before is None else Feedback.from_content(*whose, before),
            after=None if after is None else Feedback.from_content(*whose, after),
        )
        return LearningEvent(
            sequence=sequence,
            kind=kind,
            episode_id=episode_id,
            episode=seen,
            change=change,
            ratings=self._holding(episode_id, ref),
        )

    def _holding(self, episode_id: str, line: int) -> tuple[Feedback, ...]:
        rows = self._file.rows(_HOLDING, (episode_id, line, line))
        return tuple(Feedback.from_content(*row) for row in rows)


def log_episode(connection: sqlite3.Connection, episode_id: str, seen: bytes) -> None:
    """Keep, within a transaction, what learners see of a new episode."""
    connection.execute("INSERT INTO seen_episodes (episode_id, data) VALUES (?, ?)", (episode_id, seen))
    connection.execute("INSERT INTO learning_events (kind, episode_id, ref) VALUES ('episode', ?, 0)", (episode_id,))


def log_rating(connection: sqlite3.Connection, episode_id: str, change: int) -> None:
    """Write down, within a transaction, that line `change` of the log of feedback is there to be learned."""
    connection.execute(
        "INSERT INTO learning_events (kind, episode_id, ref) VALUES ('feedback', ?, ?)", (episode_id, change)
    )


def forget_events(connection: sqlite3.Connection, episode_id: str) -> None:
    """Take, within a transaction, an episode out of the log; one line tells that it had been there."""
    first = connection.execute(
        "SELECT min(sequence) FROM learning_events WHERE episode_id = ?", (episode_id,)
    ).fetchone()[0]
    connection.execute("DELETE FROM seen_episodes WHERE episode_id = ?", (episode_id,))
    connection.execute("DELETE FROM learning_events WHERE episode_id = ?", (episode_id,))
    if first is not None:
        connection.execute(
            "INSERT INTO learning_events (kind, episode_id, ref) VALUES ('forgotten', ?, ?)", (episode_id, first)
        )


def _seen(episode_id: str, data: bytes) -> SeenEpisode | None:
    try:
        return SeenEpisode.from_bytes(data)
    except (ValueError, KeyError, TypeError) as error:
        LOG.warning("episode '%s' can't be learned from: %s", episode_id, json.dumps(str(error)))
        return None
