"""The tables of `kaelum.sqlite`, step by step: a new file goes the way of an old one, so that both end the same.

`PRAGMA user_version` says which version a file has. Version 0 is a new file, or one from before there were tenants.
"""

from __future__ import annotations

import sqlite3

from kaelum_graph.errors import StorageError

VERSION = 3

# An old file may lack the tables that came later.
_VERSION_0 = (
    """
    CREATE TABLE IF NOT EXISTS episodes (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        created_at REAL NOT NULL,
        query TEXT NOT NULL,
        record TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS feedback (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        episode_id TEXT NOT NULL REFERENCES episodes (id),
        created_at REAL NOT NULL,
        score REAL,
        correction TEXT,
        worker TEXT,
        comment TEXT
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS measurements (
        episode_id TEXT PRIMARY KEY,
        data TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS cache_entries (
        episode_id TEXT PRIMARY KEY,
        scope TEXT NOT NULL,
        query TEXT NOT NULL,
        answer TEXT NOT NULL,
        embedding BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS cache_changes (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        episode_id TEXT NOT NULL
    )
    """,
)

# Tenants. What a file held before belongs to the local user, whose tenant is ''; a rating's id is its tenant's own.
# Every change of a rating is a row of the log: `content` is what it says since then, NULL once it is deleted.
_VERSION_1 = (
    "ALTER TABLE episodes ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",
    "DROP INDEX IF EXISTS episodes_by_query",
    "CREATE INDEX episodes_by_query ON episodes (tenant, query)",
    "CREATE INDEX episodes_by_tenant ON episodes (tenant, sequence)",
    "ALTER TABLE cache_entries ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE feedback RENAME TO feedback_0",
    """
    CREATE TABLE feedback (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        episode_id TEXT NOT NULL REFERENCES episodes (id),
        created_at REAL NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (tenant, id)
    )
    """,
    "CREATE INDEX feedback_by_episode ON feedback (episode_id)",
    "INSERT INTO feedback (sequence, tenant, id, episode_id, created_at, content) "
    "SELECT sequence, '', id, episode_id, created_at, "
    "json_object('score', score, 'correction', correction, 'worker', worker, 'comment', comment) "
    "FROM feedback_0 ORDER BY sequence",
    "DROP TABLE feedback_0",
    """
    CREATE TABLE feedback_log (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        tenant TEXT NOT NULL,
        id TEXT NOT NULL,
        episode_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        content TEXT
    )
    """,
    "CREATE INDEX feedback_log_by_id ON feedback_log (tenant, id, sequence)",
    "CREATE INDEX feedback_log_by_episode ON feedback_log (episode_id)",
    "INSERT INTO feedback_log (at, tenant, id, episode_id, created_at, content) "
    "SELECT created_at, tenant, id, episode_id, created_at, json_remove(content, '$.comment') "
    "FROM feedback ORDER BY sequence",
)

# The log of what there is to learn. `ref` is the line of feedback_log for a rating, and for what was forgotten the
# number of its first event. What learners see of an episode is large, and apart, so that reading episodes stays cheap.
_VERSION_2 = (
    """
    CREATE TABLE learning_events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        episode_id TEXT NOT NULL,
        ref INTEGER NOT NULL
    )
    """,
    "CREATE INDEX learning_events_by_episode ON learning_events (episode_id)",
    "CREATE INDEX learning_events_by_kind ON learning_events (kind, sequence)",
    "CREATE TABLE seen_episodes (episode_id TEXT PRIMARY KEY, data BLOB NOT NULL)",
    "INSERT INTO learning_events (kind, episode_id, ref) "
    "SELECT 'feedback', episode_id, sequence FROM feedback_log WHERE episode_id IN (SELECT id FROM episodes) "
    "ORDER BY sequence",
)

# What was forgotten here and may still be kept elsewhere: ids alone. With the id '' it is all that a tenant has.
_VERSION_3 = (
    """
    CREATE TABLE pending_forgets (
        episode_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        PRIMARY KEY (episode_id, tenant)
    ) WITHOUT ROWID
    """,
)
_STEPS = (_VERSION_0 + _VERSION_1, _VERSION_2, _VERSION_3)
"""Step i brings a file of version i to i + 1."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file, or migrate those of an older one; all or nothing.

    Raises `StorageError` for a file of a later version, which this program would damage.
    """
    if _version(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been faster
        if version > VERSION:
            raise StorageError(
                f"the episode store has version {version}; this Kaelum reads versions up to {VERSION}: upgrade it."
            )
        if version < VERSION:
            for statement in (statement for step in _STEPS[version:] for statement in step):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]
