"""One SQLite file under many threads: readers never wait for writers, and writers share the wait for the disk.

Reads take a connection of a pool, so that under WAL they see the last commit without waiting for the next one. Writes
are handed to one thread, which does all that wait in a single transaction, a savepoint each: a synchronisation with
the disk then acknowledges many of them.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from filelock import FileLock, Timeout

from kaelum_graph.errors import StorageError, UsageError

T = TypeVar("T")
Row = tuple[Any, ...]
Work = Callable[[sqlite3.Connection], Any]

MOST_READERS = 8
"""Connections that read at the same time; a further reader waits for one. A read takes microseconds."""

BUSY_SECONDS = 30.0
"""How long a write waits for that of another process, and a wipe for whoever is at the file."""

LOOK_SECONDS = 1.0
"""How often a write that waits looks whether it is a wipe that it waits for."""

NOT_UNICODE = "the store takes valid Unicode text alone, not half of a surrogate pair"

_STOP: Final = None


class SqliteFile:
    """Thread-safe; several processes may share the file. What `write` acknowledges by returning is on disk."""

    def __init__(self, path: Path, *, what: str, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """`what` the file is, for errors; `prepare` makes or migrates the tables. Raises `StorageError`."""
        self.path = path
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._waiting: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._idle: list[sqlite3.Connection] = []
        self._places = threading.BoundedSemaphore(MOST_READERS)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: cannot open {what}: {error}") from error
        try:
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.execute("PRAGMA secure_delete=ON")
            prepare(self._writer)
        except sqlite3.Error as error:
            self._writer.close()
            raise StorageError(f"{path}: cannot open {what}: {error}") from error
        except BaseException:
            self._writer.close()
            raise

    def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """The rows of a query, as of the last commit. Raises `StorageError`."""
        try:
            with self._reader() as connection:
                return connection.execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: cannot read: {error}") from error
        except UnicodeEncodeError as error:
            raise UsageError(f"{NOT_UNICODE}: {error.object!r}.") from error

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once all that it wrote is on disk; nothing of it is where it raises.

        `work` runs on another thread and may run again from the beginning, so it only touches the connection. Raises
        `StorageError` for a full disk and the like, and whatever `work` raises itself.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StorageError(f"{self.path}: cannot write: it is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="kaelum-store", daemon=True)
                self._thread.start()
            self._waiting.put((work, future))
        try:
            return future.result()
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: cannot write: {error}") from error
        except UnicodeEncodeError as error:
            raise UsageError(f"{NOT_UNICODE}: {error.object!r}.") from error

    def close(self) -> None:
        """Do the writes that wait, then close every connection. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(_STOP)
            idle, self._idle = self._idle, []
        if self._thread is not None:
            self._thread.join()
        for connection in (*idle, self._writer):
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, check_same_thread=False, timeout=BUSY_SECONDS, isolation_level=None)

    @contextmanager
    def _reader(self) -> Generator[sqlite3.Connection]:
        with self._places:
            with self._lock:
                if self._closed:
                    raise StorageError(f"{self.path}: cannot read: it is closed")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
            try:
                yield connection
            finally:
                with self._lock:
                    kept = not self._closed
                    if kept:
                        self._idle.append(connection)
                if not kept:
                    connection.close()

    def _serve(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            stopping = batch[-1] is _STOP
            writes = [item for item in batch if item is not None]
            if not self._together(writes):
                # One of them broke the transaction for all: each gets its own, and its own error.
                for one in writes:
                    self._alone(*one)

    def _together(self, writes: list[tuple[Work, Future[Any]]]) -> bool:
        """Commit all of them at once, but for those that refuse; False when nothing was committed."""
        if len(writes) < 2:
            return not writes
        connection, told = self._writer, list[tuple[Future[Any], Any, BaseException | None]]()
        try:
            begin(connection, self.path)
            for work, future in writes:
                connection.execute("SAVEPOINT one")
                try:
                    told.append((future, work(connection), None))
                except sqlite3.Error:
                    raise
                except BaseException as error:
                    connection.execute("ROLLBACK TO one")
                    told.append((future, None, error))
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            return False
        for future, result, error in told:
            _tell(future, result, error)
        return True

    def _alone(self, work: Work, future: Future[Any]) -> None:
        try:
            begin(self._writer, self.path)
            result = work(self._writer)
            self._writer.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            _tell(future, None, error)
        else:
            _tell(future, result, None)

    def _roll_back(self) -> None:
        # A full disk may have ended the transaction already. Whatever is wrong with the file, this thread goes on.
        with suppress(sqlite3.Error):
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")


def _tell(future: Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def begin(connection: sqlite3.Connection, path: Path) -> None:
    """Begin to write: waits `BUSY_SECONDS` for another that writes to the file, and for a `wipe` as long as it takes.

    Every write of a file that may be wiped begins here. Raises `sqlite3.OperationalError`.
    """
    connection.execute(f"PRAGMA busy_timeout = {1000 * min(LOOK_SECONDS, BUSY_SECONDS):.0f}")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if _is_being_wiped(path):
                deadline = time.monotonic() + BUSY_SECONDS
            elif time.monotonic() >= deadline:
                raise


def erase(path: Path, *, tables: Sequence[str], work: Callable[[sqlite3.Connection], None]) -> int:
    """How many rows went where `work` deletes from a file that others may have open; all or nothing.

    Rows that went with others by a foreign key count too. Where there is no file, or it lacks one of the `tables`, it
    is 0 and nothing is made. `wipe` takes what is left of them off the disk. Raises `StorageError`.
    """
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.executescript("PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; PRAGMA foreign_keys=ON;")
            there = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if not {*tables} <= {row[0] for row in there}:
                return 0
            begin(connection, path)
            before = connection.total_changes
            work(connection)
            gone = connection.total_changes - before
            connection.execute("COMMIT")
            return gone
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot delete: {error}") from error


def wipe(path: Path) -> None:
    """Write a file anew without what was deleted from it, and empty its write-ahead log: no byte of that is left.

    `secure_delete` alone leaves the copies that SQLite makes when it moves rows between pages. Others may have the file
    open; they read on, and their writes wait (see `begin`): one to four seconds for every 100 MB. Once it returns the
    text is gone. Raises `StorageError`, also where somebody is at the file for longer than `BUSY_SECONDS`.
    """
    wiped = False
    try:
        with (
            _wipe_lock(path),
            closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("VACUUM")
            wiped = True
            hindrance = _empty_log(connection)
    except (OSError, sqlite3.Error) as error:
        where = "its write-ahead log" if wiped else "free pages of the file"
        raise StorageError(f"{path}: what was deleted is still in {where}: {error}") from error
    if hindrance:
        raise StorageError(f"{path}: what was deleted is still in its write-ahead log: {hindrance}.")


def _empty_log(connection: sqlite3.Connection) -> str:
    """Empty the write-ahead log; "" once it is, else what was in the way for `BUSY_SECONDS`.

    By many short attempts: while one waits for readers nobody can write, and one fails at once where another connection
    is bringing the log back into the file, as a writer does from time to time.
    """
    connection.execute(f"PRAGMA busy_timeout = {1000 * min(LOOK_SECONDS, BUSY_SECONDS):.0f}")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return ""
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    if frames < 0:
        return "another process is bringing it back into the file"
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return "another process is writing to it"
    return "another process is reading it"


def _wipe_lock(path: Path) -> FileLock:
    """Held while the file is wiped. It goes with its process, so nobody waits for one that was killed."""
    return FileLock(path.with_name(f".{path.name}.wiping"), thread_local=False)


def _is_being_wiped(path: Path) -> bool:
    lock = _wipe_lock(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # another user's, for instance
        return False


def of_tenant(tenant: str | None) -> tuple[str, tuple[str, ...]]:
    """What to add to a condition for the rows of one tenant, and its arguments; nothing for None, which is all."""
    return ("", ()) if tenant is None else (" AND tenant = ?", (tenant,))
