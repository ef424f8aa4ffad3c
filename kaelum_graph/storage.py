"""Durable records in SQLite: episodes, feedback and cached answers.

Whatever a method here acknowledges by returning is on disk: WAL journal with full synchronisation.

Episodes, feedback and cached answers belong to a tenant: an opaque string, "" for the local user. What belongs to
another tenant is as if it were not there. Where a method takes None for a tenant, that is an operator's view of all.
Measurements hold no text and are shared.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kaelum_graph.cache_table import CacheEntry, CacheTable, evict
from kaelum_graph.conversation import conversation as conversation_of
from kaelum_graph.conversation import link_of
from kaelum_graph.errors import StorageError, UnknownEpisode, UsageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.feedback_table import FeedbackTable, erase_ratings, insert_feedback
from kaelum_graph.forget_table import ForgetTable, begin_forget, episode_ids_served_from, keep_tenant
from kaelum_graph.learning_table import LearningTable, forget_events, log_episode
from kaelum_graph.sqlite_file import SqliteFile, of_tenant, wipe
from kaelum_graph.storage_schema import prepare
from kaelum_graph.types import EpisodeId, Json

__all__ = ["STORE_FILE", "CacheEntry", "Feedback", "Storage"]

STORE_FILE = "kaelum.sqlite"
"""The store's name in the data folder."""

_CONTINUED = (
    "SELECT id, CASE WHEN json_valid(record) THEN json_extract(record, '$.continued_from') END AS earlier "
    "FROM episodes WHERE earlier IS NOT NULL AND tenant = (SELECT tenant FROM episodes WHERE id = ?1 UNION ALL "
    "SELECT tenant FROM pending_forgets WHERE episode_id = ?1 LIMIT 1)"
)
_NAMED = "(SELECT id, tenant FROM episodes UNION SELECT episode_id, tenant FROM pending_forgets WHERE episode_id != '')"

SHORTEST_PREFIX = 4
"""Characters of an id from which on its beginning is enough to name it."""


class Storage(FeedbackTable, CacheTable, LearningTable, ForgetTable):
    """One SQLite file, shared by the threads of a process and, through WAL, by several processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(SqliteFile(path, what="the episode store", prepare=prepare))

    def append_episode(
        self,
        episode_id: EpisodeId,
        query: str,
        record: Json,
        *,
        tenant: str = "",
        seen: bytes | None = None,
        rating: Feedback | None = None,
    ) -> None:
        """Keep an episode. Appending the same id again changes nothing, so that a retried node is harmless.

        `seen` is what learners see of it (`SeenEpisode.to_bytes`); without it there is nothing to learn from it.
        A `rating` that came with it is kept in the same moment, or neither is.
        Raises `StorageError` too where another tenant has an episode of that id.
        """
        written = json.dumps(record, ensure_ascii=False)

        def append(connection: sqlite3.Connection) -> None:
            added = connection.execute(
                "INSERT OR IGNORE INTO episodes (id, created_at, query, record, tenant) VALUES (?, ?, ?, ?, ?)",
                (episode_id, time.time(), query, written, tenant),
            )
            if added.rowcount == 1:
                keep_tenant(connection, tenant)
                if seen is not None:
                    log_episode(connection, episode_id, seen)
            elif connection.execute("SELECT tenant FROM episodes WHERE id = ?", (episode_id,)).fetchone()[0] != tenant:
                raise StorageError(f"{self.path}: episode '{episode_id}' is kept already.")
            if rating is not None:
                insert_feedback(connection, rating)

        self._file.write(append)

    def episode(self, episode_id: str, *, tenant: str | None = "") -> Json | None:
        """The record of an episode, or None."""
        condition, arguments = of_tenant(tenant)
        rows = self._file.rows(f"SELECT record FROM episodes WHERE id = ?{condition}", (episode_id, *arguments))
        return json.loads(rows[0][0]) if rows else None

    def newest_episodes(self, count: int, *, tenant: str | None = None) -> Iterator[Json]:
        """The records of the newest `count` episodes, oldest first, read one at a time."""
        condition, arguments = of_tenant(tenant)
        ids = self._file.rows(
            f"SELECT id FROM episodes WHERE true{condition} ORDER BY sequence DESC LIMIT ?", (*arguments, count)
        )
        for (episode_id,) in reversed(ids):
            record = self.episode(episode_id, tenant=None)
            if record is not None:  # forgotten meanwhile
                yield record

    def has_episode(self, episode_id: str, *, tenant: str | None = "") -> bool:
        """Whether there is an episode of that id, without reading its record."""
        condition, arguments = of_tenant(tenant)
        return bool(self._file.rows(f"SELECT 1 FROM episodes WHERE id = ?{condition}", (episode_id, *arguments)))

    def episode_time(self, episode_id: str, *, tenant: str | None = "") -> float | None:
        """When an episode was kept, in seconds since 1970, or None."""
        condition, arguments = of_tenant(tenant)
        rows = self._file.rows(f"SELECT created_at FROM episodes WHERE id = ?{condition}", (episode_id, *arguments))
        return rows[0][0] if rows else None

    def latest_episode_id(self, query: str, *, tenant: str = "") -> EpisodeId | None:
        """The newest episode that asked exactly `query`, or None."""
        rows = self._file.rows(
            "SELECT id FROM episodes WHERE tenant = ? AND query = ? ORDER BY sequence DESC LIMIT 1", (tenant, query)
        )
        return EpisodeId(rows[0][0]) if rows else None

    def find_episode_id(self, name: str | None, *, tenant: str | None = "", pending: bool = False) -> EpisodeId:
        """The episode that `name` means: an id, or the beginning of just one from 4 characters on; None: the newest.

        With `pending` a name may also mean one that was deleted and is still to be forgotten elsewhere. Raises
        `UnknownEpisode` when there is none, `UsageError` when there is more than one.
        """
        condition, arguments = of_tenant(tenant)
        named = _NAMED if pending else "episodes"
        if name is None:
            rows = self._file.rows(
                f"SELECT id FROM episodes WHERE true{condition} ORDER BY sequence DESC LIMIT 1", arguments
            )
            if not rows:
                raise UnknownEpisode("no episode is kept yet: ask something first.")
            return EpisodeId(rows[0][0])
        name = name.encode(errors="replace").decode()  # an argument that is no UTF-8 names nothing, and breaks nothing
        if self._file.rows(f"SELECT 1 FROM {named} WHERE id = ?{condition}", (name, *arguments)):
            return EpisodeId(name)
        if len(name) < SHORTEST_PREFIX:
            raise UsageError(f"episode '{name}': expected an id, or at least {SHORTEST_PREFIX} characters of one.")
        # The ids that begin with `name` are an interval, which the index finds; LIKE would read "%" and "_" in it.
        rows = self._file.rows(
            f"SELECT DISTINCT id FROM {named} WHERE id > ? AND id < ?{condition} ORDER BY id LIMIT 4",
            (name, name + "\U0010ffff", *arguments),
        )
        if not rows:
            raise UnknownEpisode(f"episode '{name}': no such episode.")
        if len(rows) > 1:
            found = ", ".join(row[0] for row in rows[:3]) + (", …" if len(rows) > 3 else "")
            raise UsageError(f"episode '{name}': more than one begins like that: {found}.")
        return EpisodeId(rows[0][0])

    def forget_episodes(
        self,
        episode_ids: Sequence[str] = (),
        *,
        tenant: str | None = None,
        conversation: str | None = None,
    ) -> list[EpisodeId]:
        """Forget these episodes, all of a tenant, or all of a `conversation`, named by an episode; which there were.

        A conversation is an episode with those that it went on from and those that went on from it. All or nothing.
        What the episodes measured goes too, and so do those that gave their answers again from the cache. With a tenant
        beside the others, of these only what is the tenant's; without, ids that are not kept here are pending too.

        The log of feedback tells that the ratings went, and keeps nothing of their text. What the episodes have taught
        goes as soon as the learner reads of it: see `Learner`.
        """

        def forget(connection: sqlite3.Connection) -> list[EpisodeId]:
            named = [*episode_ids]
            if conversation:
                continued = dict(connection.execute(_CONTINUED, (conversation,)).fetchall())
                named += conversation_of(conversation, [link_of(continued)])
            elif tenant is not None and not episode_ids:
                rows = connection.execute("SELECT id FROM episodes WHERE tenant = ?", (tenant,))
                named = [row[0] for row in rows.fetchall()]
                begin_forget(connection, "", tenant=tenant)
            whose = dict(
                connection.execute(
                    "SELECT id, tenant FROM episodes WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(named),)
                ).fetchall()
            )
            ours = [one for one in named if one in whose and tenant in (None, whose[one])]
            gone = [*dict.fromkeys((*ours, *episode_ids_served_from(connection, ours)))]
            for episode_id in gone:
                found = "SELECT tenant FROM episodes WHERE id = ?"
                _delete(connection, episode_id, tenant=connection.execute(found, (episode_id,)).fetchone()[0])
                connection.execute("DELETE FROM measurements WHERE episode_id = ?", (episode_id,))
            if tenant is None:
                for episode_id in {*named} - whose.keys():
                    begin_forget(connection, episode_id, tenant="")
            return [EpisodeId(one) for one in gone]

        return self._file.write(forget)

    def continuations(self, episode_id: str) -> dict[str, str]:
        """What the episodes of this one's tenant went on from, by id: those that went on from another."""
        return dict(self._file.rows(_CONTINUED, (episode_id,)))

    def counts(self, *, tenant: str | None = None) -> dict[str, float]:
        """How many episodes, ratings, cached answers and, of all tenants together, measurements are kept."""
        condition, arguments = of_tenant(tenant)
        tables = ("episodes", "feedback", "cache_entries")
        counts = {
            table: self._file.rows(f"SELECT count(*) FROM {table} WHERE true{condition}", arguments)[0][0]
            for table in tables
        }
        return {**counts, "measurements": self._file.rows("SELECT count(*) FROM measurements")[0][0]}

    def add_measurements(self, episode_id: EpisodeId, data: Json) -> bool:
        """Keep what an episode's anchored checks measured; False when that is kept already (a retried node)."""
        values = (episode_id, json.dumps(data))

        def add(connection: sqlite3.Connection) -> bool:
            added = connection.execute("INSERT OR IGNORE INTO measurements (episode_id, data) VALUES (?, ?)", values)
            return added.rowcount == 1

        return self._file.write(add)

    def measurements(self, *, newest: int = 2000) -> list[Json]:
        """The `newest` measurements, oldest first."""
        rows = self._file.rows("SELECT data FROM measurements ORDER BY rowid DESC LIMIT ?", (newest,))
        return [json.loads(row[0]) for row in reversed(rows)]

    def measurements_version(self) -> str:
        """Names the measurements kept so far: another one with each that comes. Costs microseconds."""
        rows = self._file.rows("SELECT rowid, episode_id FROM measurements ORDER BY rowid DESC LIMIT 1")
        return "/".join(map(str, rows[0])) if rows else ""

    def wipe(self) -> None:
        """Take what was deleted off the disk, whoever deleted it. Writes wait meanwhile. Raises `StorageError`."""
        wipe(self.path)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()


def _delete(connection: sqlite3.Connection, episode_id: str, *, tenant: str) -> None:
    begin_forget(connection, episode_id, tenant=tenant)
    erase_ratings(connection, episode_id)
    forget_events(connection, episode_id)
    evict(connection, episode_id)
    connection.execute("DELETE FROM episodes WHERE id = ?", (episode_id,))
