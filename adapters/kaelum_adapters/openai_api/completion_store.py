"""Chat completions kept with `store: true`, to be read, listed, annotated and deleted. Tenants see their own alone."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.reply_ids import AGAIN_CHARACTERS
from kaelum_graph.sqlite_file import SqliteFile, erase
from kaelum_graph.storage import STORE_FILE
from kaelum_graph.types import Json

KEPT_SECONDS = 30 * 24 * 3600.0
KEPT_PER_TENANT = 10_000

ECHOED = (
    "frequency_penalty",
    "presence_penalty",
    "response_format",
    "seed",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
)
"""What of the request is told beside the reply, null where it wasn't given. Only these, the messages and the metadata
are kept of a request."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    created_at REAL NOT NULL,
    model TEXT NOT NULL,
    completion TEXT,
    messages TEXT,
    metadata TEXT,
    UNIQUE (tenant, id)
);
CREATE INDEX IF NOT EXISTS completions_by_age ON completions (created_at);
CREATE INDEX IF NOT EXISTS completions_by_tenant ON completions (tenant, sequence);
"""

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of a list; `more` says that it goes on after the last of them."""

    items: tuple[Json, ...]
    more: bool

    def to_json(self) -> Json:
        """OpenAI's list object."""
        ids = [item["id"] for item in self.items]
        return {
            "object": "list",
            "data": list(self.items),
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": self.more,
        }


class CompletionStore:
    """A table in one SQLite file, beside what else is kept there. Safe for threads and for several processes.

    What a method acknowledges by returning is on disk. A completion goes after 30 days, or when its tenant has 10,000
    newer ones. `now` gives seconds since 1970. Every method raises `StorageError` where the file can't be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        kept_seconds: float = KEPT_SECONDS,
        kept_per_tenant: int = KEPT_PER_TENANT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._file = SqliteFile(path, what="the store of completions", prepare=_make_tables)
        self._kept_seconds, self._kept_per_tenant, self._now = kept_seconds, kept_per_tenant, now

    def save(self, caller: Caller, body: Mapping[str, Any], reply: Json) -> None:
        """Keep `reply`, a whole `chat.completion` object, with what `body` asked; one of the same id is replaced."""
        completion = {
            **reply,
            **{name: body.get(name) for name in ECHOED},
            "input_user": body.get("user"),
            "request_id": reply.get("request_id"),
        }
        completion.pop("metadata", None)
        messages = [_stored_message(reply["id"], place, turn) for place, turn in enumerate(body.get("messages") or ())]
        metadata = body.get("metadata") or {}
        row = (
            caller.tenant,
            reply["id"],
            self._now(),
            reply["model"],
            _dump(completion),
            _dump(messages),
            _dump(metadata),
        )

        def write(connection: sqlite3.Connection) -> None:
            self._prune(connection, caller.tenant, reply["id"])
            connection.execute(
                "INSERT INTO completions (tenant, id, created_at, model, completion, messages, metadata) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )

        self._file.write(write)

    def get(self, caller: Caller, completion_id: str) -> Json | None:
        """A kept `chat.completion` object with its `metadata`, or None."""
        rows = self._rows(
            "SELECT completion, metadata FROM completions "
            "WHERE tenant = ? AND id = ? AND completion IS NOT NULL AND created_at > ?",
            caller.tenant,
            completion_id,
            self._oldest(),
        )
        return _completion(rows[0]) if rows else None

    def list(
        self,
        caller: Caller,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page | None:
        """Kept completions by age, from the one behind `after` on; None when this tenant never had that one.

        `metadata`: only those that have all of these pairs.
        """
        conditions = ["tenant = ?", "completion IS NOT NULL", "created_at > ?"]
        arguments: list[object] = [caller.tenant, self._oldest()]
        if after is not None:
            # A deleted one still marks its place, so that a client may delete what it has listed and go on.
            at = self._rows("SELECT sequence FROM completions WHERE tenant = ? AND id = ?", caller.tenant, after)
            if not at:
                return None
            conditions.append("sequence > ?" if order == "asc" else "sequence < ?")
            arguments.append(at[0][0])
        if model is not None:
            conditions.append("model = ?")
            arguments.append(model)
        for key, value in (metadata or {}).items():
            conditions.append("EXISTS (SELECT 1 FROM json_each(metadata) AS pair WHERE pair.key = ? AND value = ?)")
            arguments += [key, value]
        rows = self._rows(
            f"SELECT completion, metadata FROM completions WHERE {' AND '.join(conditions)} "
            f"ORDER BY sequence {'ASC' if order == 'asc' else 'DESC'} LIMIT ?",
            *arguments,
            limit + 1,
        )
        return Page(items=tuple(_completion(row) for row in rows[:limit]), more=len(rows) > limit)

    def update(self, caller: Caller, completion_id: str, metadata: Mapping[str, str]) -> Json | None:
        """Put `metadata` in the place of what was there; the completion as it is now, or None where there is none."""
        statement = "UPDATE completions SET metadata = ? WHERE tenant = ? AND id = ? AND completion IS NOT NULL"
        arguments = (_dump(dict(metadata)), caller.tenant, completion_id)
        self._file.write(lambda connection: connection.execute(statement, arguments).rowcount)
        return self.get(caller, completion_id)

    def delete(self, caller: Caller, completion_id: str) -> bool:
        """Forget a completion; False when there is none. Only its id and its place in the list stay, for a while."""
        if self.get(caller, completion_id) is None:
            return False
        statement = (
            "UPDATE completions SET completion = NULL, messages = NULL, metadata = NULL "
            "WHERE tenant = ? AND id = ? AND completion IS NOT NULL"
        )
        arguments = (caller.tenant, completion_id)
        return self._file.write(lambda connection: connection.execute(statement, arguments).rowcount) == 1

    def messages(
        self, caller: Caller, completion_id: str, *, after: str | None = None, limit: int = 20, order: Order = "asc"
    ) -> Page | None:
        """The messages that a completion answers; None where there is no such completion, or no message `after`."""
        rows = self._rows(
            "SELECT messages FROM completions "
            "WHERE tenant = ? AND id = ? AND completion IS NOT NULL AND created_at > ?",
            caller.tenant,
            completion_id,
            self._oldest(),
        )
        if not rows:
            return None
        turns: list[Json] = json.loads(rows[0][0])
        if order == "desc":
            turns.reverse()
        if after is not None:
            place = next((place for place, turn in enumerate(turns) if turn["id"] == after), None)
            if place is None:
                return None
            turns = turns[place + 1 :]
        return Page(items=tuple(turns[:limit]), more=len(turns) > limit)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def _oldest(self) -> float:
        return self._now() - self._kept_seconds

    def _prune(self, connection: sqlite3.Connection, tenant: str, completion_id: str) -> None:
        """Make room for a completion: one of the same id goes, and what is too old or too many."""
        connection.execute("DELETE FROM completions WHERE tenant = ? AND id = ?", (tenant, completion_id))
        connection.execute("DELETE FROM completions WHERE created_at <= ?", (self._oldest(),))
        connection.execute(
            "DELETE FROM completions WHERE tenant = ? AND sequence <= (SELECT sequence FROM completions "
            "WHERE tenant = ? ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
            (tenant, tenant, self._kept_per_tenant - 1),
        )

    def _rows(self, statement: str, *arguments: object) -> Sequence[tuple[Any, ...]]:
        return self._file.rows(statement, arguments)


def forget(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
    """How many rows went: completions of these episodes, and with a `tenant` all of its own.

    For the group "kaelum.keepers". Not even their places in lists stay. Raises `StorageError`. The file is the episode
    store's, whose `wipe` takes the text off the disk.
    """
    named = json.dumps(list(episode_ids))

    def work(connection: sqlite3.Connection) -> None:
        ids = "(SELECT 'chatcmpl-' || value FROM json_each(?))"
        connection.execute(
            f"DELETE FROM completions WHERE tenant = ? OR id IN {ids} OR substr(id, 1, length(id) - ?) IN {ids}",
            (tenant, named, AGAIN_CHARACTERS, named),
        )

    return erase(data_dir / STORE_FILE, tables=("completions",), work=work)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.executescript(SCHEMA)


def _completion(row: tuple[Any, ...]) -> Json:
    return {**json.loads(row[0]), "metadata": json.loads(row[1])}


def _stored_message(completion_id: str, place: int, turn: Mapping[str, Any]) -> Json:
    """A message of the request as OpenAI tells it: text in `content`, a list of parts in `content_parts`."""
    content = turn.get("content")
    parts = content if isinstance(content, list) else None
    return {
        **turn,
        "id": f"{completion_id}-{place}",
        "content": None if parts is not None else content,
        "content_parts": parts,
        "name": turn.get("name"),
        "refusal": turn.get("refusal"),
    }


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
