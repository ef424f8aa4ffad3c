"""API keys: made and revoked on the command line, checked by a server that may be running all the while.

They lie in a small SQLite file of their own in the data folder, readable by its owner alone. Only a hash of each key
is kept. A plain SHA-256 is right for that: a key holds 256 random bits, so there is no list of likely keys to try
against the hash, which is what slow password hashes are for.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from kaelum_graph.errors import StorageError, UsageError

KEYS_FILE = "keys.sqlite3"
PREFIX = "kg-"
FRESH_SECONDS = 1.0
"""How long a running server may go on with keys as it last read them."""
USE_SECONDS = 60.0
"""How exactly the last use of a key is known: a write for each request would wear the disk for nothing."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COLUMNS = "id, name, tenant, digest, created, requests_per_minute, concurrent, last_used, revoked"
_TABLE = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created REAL NOT NULL,
    requests_per_minute INTEGER,
    concurrent INTEGER,
    last_used REAL,
    revoked REAL
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key, without the key. Times are seconds since 1970; None for a limit: the server's default holds."""

    id: str
    name: str
    tenant: str
    digest: bytes
    created: float
    requests_per_minute: int | None = None
    concurrent: int | None = None
    last_used: float | None = None
    revoked: float | None = None


class KeyBook:
    """The keys of one data folder. Safe to use from several threads and processes.

    Raises `StorageError` when the file can't be read or written.
    """

    def __init__(self, data_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = data_dir / KEYS_FILE
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._seen: tuple[int, ...] | None = None
        self._by_digest: dict[bytes, KeyRecord] = {}
        self._by_id: dict[str, KeyRecord] = {}
        self._used: dict[str, float] = {}
        self._ever = False

    def add(
        self,
        name: str,
        *,
        tenant: str | None = None,
        requests_per_minute: int | None = None,
        concurrent: int | None = None,
    ) -> tuple[str, KeyRecord]:
        """A new key, to be shown this once, and its record. Without `tenant` the key is a tenant of its own.

        Raises `UsageError` for a name that is taken or malformed.
        """
        for what, text in (("name", name), ("tenant", tenant)):
            if text is not None and not _NAME.fullmatch(text):
                raise UsageError(f"{what} {text!r}: expected up to 64 letters, digits, dots, dashes and underscores.")
        for what, limit in (("--requests-per-minute", requests_per_minute), ("--concurrent", concurrent)):
            if limit is not None and limit < 1:
                raise UsageError(f"{what} has value {limit}: expected a whole number of 1 or more.")
        key = PREFIX + secrets.token_urlsafe(32)
        key_id = f"key-{secrets.token_hex(6)}"
        record = KeyRecord(
            id=key_id,
            name=name,
            tenant=tenant or key_id,
            digest=_digest(key),
            created=self._clock(),
            requests_per_minute=requests_per_minute,
            concurrent=concurrent,
        )
        with self._write() as connection:
            if connection.execute("SELECT 1 FROM keys WHERE name = ? AND revoked IS NULL", (name,)).fetchone():
                raise UsageError(f"there is a key named {name!r} already; revoke it first: kaelum keys revoke {name}")
            connection.execute(
                f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                (key_id, name, record.tenant, record.digest, record.created, requests_per_minute, concurrent),
            )
        self._forget()
        return key, record

    def revoke(self, name: str) -> KeyRecord:
        """Take the key's access away for good; its record stays. Raises `UsageError` for an unknown name or id."""
        with self._write() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM keys WHERE (name = ? OR id = ?) AND revoked IS NULL", (name, name)
            ).fetchone()
            if row is None:
                raise UsageError(f"there is no key named {name!r}; see: kaelum keys list")
            connection.execute("UPDATE keys SET revoked = ? WHERE id = ?", (self._clock(), row[0]))
        self._forget()
        return _record(row)

    def all(self) -> list[KeyRecord]:
        """Every key there ever was, the oldest first."""
        return sorted(self._rows(), key=lambda record: record.created)

    def any(self) -> bool:
        """Whether a key was ever made here; a revoked one counts, or revoking the last would open the door.

        So does one that was seen before the file went away.
        """
        with self._lock:
            self._refresh()
            self._ever = self._ever or bool(self._by_id)
            return self._ever

    def find(self, key: str) -> KeyRecord | None:
        """The record of a key that is in force."""
        digest = _digest(key)
        with self._lock:
            self._refresh()
            record = self._by_digest.get(digest)
            # How long a look-up takes tells of a hash at most, and a hash can't be turned into its key.
            if record is None or record.revoked is not None or not hmac.compare_digest(record.digest, digest):
                return None
            now = self._clock()
            due = now - max(record.last_used or 0.0, self._used.get(record.id, 0.0)) >= USE_SECONDS
            if due:
                self._used[record.id] = now
        if due:
            self._note_use(record.id, now)
        return record

    def record(self, key_id: str) -> KeyRecord | None:
        """The record with this id, as it was last read."""
        with self._lock:
            self._refresh()
            return self._by_id.get(key_id)

    def _note_use(self, key_id: str, now: float) -> None:
        # A full or read-only disk must not keep a good key out, nor a busy file hold the server up.
        with contextlib.suppress(StorageError), self._write(patience=0.05) as connection:
            connection.execute("UPDATE keys SET last_used = ? WHERE id = ?", (now, key_id))

    def _forget(self) -> None:
        with self._lock:
            self._read_at, self._seen = float("-inf"), None

    def _refresh(self) -> None:
        """Read the file again where it changed."""
        now = time.monotonic()
        if now - self._read_at < FRESH_SECONDS:
            return
        stamp = self._stamp()
        if stamp != self._seen:
            records = self._rows()
            self._by_id = {record.id: record for record in records}
            self._by_digest = {record.digest: record for record in records}
            self._seen = stamp
        self._read_at = now

    def _stamp(self) -> tuple[int, ...]:
        """Changes whenever the file does; empty while there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageError(f"the API keys in {self.path} can't be read: {error.strerror or error}") from error
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def _rows(self) -> list[KeyRecord]:
        if not self.path.exists():
            return []
        with self._open() as connection:
            # A file without the table is one that another process is just making.
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'keys'").fetchone() is None:
                return []
            return [_record(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM keys")]

    @contextlib.contextmanager
    def _write(self, *, patience: float = 5.0) -> Generator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made before SQLite makes it, so that at no moment others can read it. Its journal takes the same mode.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            os.chmod(self.path, 0o600)
        except OSError as error:
            raise StorageError(f"the API keys in {self.path} can't be written: {error.strerror or error}") from error
        with self._open(patience=patience) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            yield connection
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _open(self, *, patience: float = 5.0) -> Generator[sqlite3.Connection]:
        try:
            # A connection for each use: they are few, and one that is kept would break on a replaced file.
            with contextlib.closing(sqlite3.connect(self.path, timeout=patience, isolation_level=None)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(f"the API keys in {self.path} can't be used: {error}") from error


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="replace")).digest()


def _record(row: tuple[object, ...]) -> KeyRecord:
    return KeyRecord(**dict(zip(_COLUMNS.split(", "), row, strict=True)))  # pyright: ignore[reportArgumentType]
