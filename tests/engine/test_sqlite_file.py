"""Readers don't wait for writers, writers share the disk, and one that fails harms no other."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kaelum_adapters.openai_api.responses_store import ResponsesStore
from kaelum_graph import sqlite_file
from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.sqlite_file import MOST_READERS, SqliteFile, _empty_log, _wipe_lock, erase, wipe
from kaelum_graph.structures.store import StructureStore


def prepare(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY)")


@pytest.fixture
def file(tmp_path: Path) -> Generator[SqliteFile]:
    file = SqliteFile(tmp_path / "file.sqlite", what="the test's file", prepare=prepare)
    yield file
    file.close()


def insert(connection: sqlite3.Connection, number: int) -> int:
    connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    return number


def numbers(file: SqliteFile) -> list[int]:
    return [row[0] for row in file.rows("SELECT n FROM numbers ORDER BY n")]


class HeldUp:
    """Holds the writing thread until it is let go, so that what is handed in meanwhile is one batch."""

    def __init__(self, file: SqliteFile) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=file.write, args=(self._work,))
        self._thread.start()
        assert self.inside.wait(10)

    def _work(self, connection: sqlite3.Connection) -> None:
        insert(connection, 1000)
        self.inside.set()
        assert self.go_on.wait(10)

    def let_go(self) -> None:
        self.go_on.set()
        self._thread.join()


def written_together(file: SqliteFile, works: list[int | Exception]) -> list[int | str]:
    """What each of the works came to, all handed in while the writer was busy."""
    held, results = HeldUp(file), dict[int, int | str]()

    def one(place: int, what: int | Exception) -> None:
        def work(connection: sqlite3.Connection) -> int:
            if isinstance(what, Exception):
                insert(connection, 500 + place)
                raise what
            return insert(connection, what)

        try:
            results[place] = file.write(work)
        except (StorageError, UsageError) as error:
            results[place] = type(error).__name__

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    while file._waiting.qsize() < len(works):
        time.sleep(0.001)
    held.let_go()
    for thread in threads:
        thread.join()
    return [results[place] for place in range(len(works))]


def test_a_write_gives_its_result_and_is_seen_at_once(file: SqliteFile) -> None:
    assert file.write(lambda connection: insert(connection, 7)) == 7
    assert numbers(file) == [7]


def test_what_waits_is_committed_together(file: SqliteFile) -> None:
    commits = list[str]()
    file._writer.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    assert written_together(file, [1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]
    file._writer.set_trace_callback(None)
    assert len(commits) == 2  # the one that held them up, and theirs
    assert numbers(file) == [1, 2, 3, 4, 5, 1000]


def test_one_that_refuses_undoes_its_own_writes_alone(file: SqliteFile) -> None:
    assert written_together(file, [1, UsageError("no"), 2]) == [1, "UsageError", 2]
    assert numbers(file) == [1, 2, 1000]


def test_an_error_of_the_database_is_told_to_whom_it_concerns(file: SqliteFile) -> None:
    assert sorted(map(str, written_together(file, [1, 1, 2]))) == ["1", "2", "StorageError"]
    assert numbers(file) == [1, 2, 1000]


def test_a_reader_does_not_wait_for_a_writer(file: SqliteFile) -> None:
    held = HeldUp(file)
    started = time.monotonic()
    assert numbers(file) == []  # as of the last commit
    assert time.monotonic() - started < 5
    held.let_go()
    assert numbers(file) == [1000]


def test_readers_change_nothing_and_errors_are_one_class(file: SqliteFile) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        file.rows("INSERT INTO numbers VALUES (1)")
    with pytest.raises(StorageError, match="cannot read"):
        file.rows("SELECT * FROM nothing")
    assert numbers(file) == []


def test_many_threads_share_a_few_connections(file: SqliteFile) -> None:
    failures = list[BaseException]()

    def work(thread: int) -> None:
        try:
            for number in range(10):
                file.write(lambda connection, n=thread * 10 + number: insert(connection, n))
                assert thread * 10 + number in numbers(file)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert numbers(file) == list(range(320))
    assert 1 <= len(file._idle) <= MOST_READERS


def test_closing_keeps_what_waits_and_closes_every_connection(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    file = SqliteFile(path, what="the test's file", prepare=prepare)
    held = HeldUp(file)
    late = threading.Thread(target=lambda: file.write(lambda connection: insert(connection, 5)))
    late.start()
    while file._waiting.qsize() < 1:
        time.sleep(0.001)
    numbers(file)
    idle = list(file._idle)
    closing = threading.Thread(target=file.close)
    closing.start()
    held.let_go()
    for thread in (late, closing):
        thread.join()
    file.close()
    for connection in (*idle, file._writer):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    for use in (lambda: file.rows("SELECT 1"), lambda: file.write(lambda connection: insert(connection, 1))):
        with pytest.raises(StorageError, match="closed"):
            use()
    assert not path.with_name("file.sqlite-wal").exists(), "the last connection takes the journal with it"
    again = SqliteFile(path, what="the test's file", prepare=prepare)
    assert numbers(again) == [5, 1000]
    again.close()


SECRET = b"Quillfeather"


def texts(folder: Path, *, count: int = 300) -> Path:
    """A file of rows of all sizes, some written over by longer ones; about a fifth has the secret in it.

    With this seed SQLite 3.40 leaves five copies of it in pages that are in use, with `secure_delete` and all.
    """
    path, drawn = folder / "texts.sqlite", random.Random(8)
    file = SqliteFile(path, what="texts", prepare=lambda connection: None)

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE texts (sequence INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT, more TEXT)")
        connection.execute("CREATE INDEX texts_by_text ON texts (text)")
        for number in range(count):
            whose = SECRET.decode() if number % 5 == 0 else "Nobody"
            text = f"{whose}{number:05d}{'x' * drawn.randint(5, 200)}"
            values = (str(drawn.random()), text, text * drawn.randint(1, 30))
            connection.execute("INSERT INTO texts (name, text, more) VALUES (?, ?, ?)", values)
            if drawn.random() < 0.1:
                values = (text * drawn.randint(1, 60), drawn.randint(1, number + 1))
                connection.execute("UPDATE texts SET more = ? WHERE sequence = ?", values)

    file.write(fill)
    file.close()
    return path


def delete_secrets(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM texts WHERE text LIKE :secret OR more LIKE :secret", {"secret": f"{SECRET.decode()}%"}
    )


def on_disk(folder: Path) -> int:
    return sum(path.read_bytes().count(SECRET) for path in folder.iterdir())


def test_what_is_erased_and_wiped_is_off_the_disk_while_others_have_it_open(tmp_path: Path) -> None:
    path = texts(tmp_path)
    other = SqliteFile(path, what="texts", prepare=lambda connection: None)
    other.write(lambda connection: connection.execute("INSERT INTO texts (text) VALUES ('Nobody else')"))
    assert on_disk(tmp_path) > 60
    gone = erase(path, tables=("texts",), work=delete_secrets)
    assert gone >= 60
    wipe(path)
    assert on_disk(tmp_path) == 0
    assert other.rows("SELECT count(*) FROM texts") == [(301 - gone,)]
    other.write(lambda connection: connection.execute("DELETE FROM texts WHERE sequence % 2"))
    assert other.rows("PRAGMA integrity_check") == [("ok",)]
    other.close()


def test_erasing_is_all_or_nothing_and_makes_nothing(tmp_path: Path) -> None:
    path = texts(tmp_path, count=10)

    def fail(connection: sqlite3.Connection) -> None:
        delete_secrets(connection)
        connection.execute("no such statement")

    with pytest.raises(StorageError, match=r"texts\.sqlite: cannot delete: "):
        erase(path, tables=("texts",), work=fail)
    assert erase(path, tables=("texts",), work=delete_secrets) == 2
    assert erase(path, tables=("texts", "others"), work=fail) == 0
    assert erase(tmp_path / "none.sqlite", tables=(), work=fail) == 0
    assert not (tmp_path / "none.sqlite").exists()


def test_wiping_says_so_where_somebody_still_reads_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    path = texts(tmp_path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM texts").fetchone() == (300,)
    assert erase(path, tables=("texts",), work=delete_secrets) >= 60
    with pytest.raises(StorageError, match="still in its write-ahead log: another process is reading it"):
        wipe(path)
    assert reader.execute("SELECT count(*) FROM texts").fetchone() == (300,), "it reads on undisturbed"
    reader.execute("COMMIT")
    wipe(path)
    assert on_disk(tmp_path) == 0
    reader.close()


def test_wiping_says_so_where_somebody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    path = texts(tmp_path, count=1)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="still in free pages of the file: database is locked"):
        wipe(path)
    other = sqlite3.connect(path, isolation_level=None)
    assert _empty_log(other) == "another process is writing to it"
    for connection in (writer, other):
        connection.close()


@contextmanager
def child(program: str, *arguments: object) -> Generator[subprocess.Popen[str]]:
    """Another process that has said that it is at work."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        try:
            yield process
        finally:
            process.kill()


# Writes bring the log back into the file at almost every commit, and wait for others less long than a large wipe takes.
WRITING = """
import sys, threading
from pathlib import Path
from kaelum_graph import sqlite_file
sqlite_file.BUSY_SECONDS, sqlite_file.LOOK_SECONDS = 1.0, 0.1
file = sqlite_file.SqliteFile(Path(sys.argv[1]), what="texts", prepare=lambda connection: None)
told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(1), told.set()), daemon=True).start()
written, failed = 0, []
while not told.is_set():
    try:
        file.write(lambda connection: connection.execute("INSERT INTO texts (more) VALUES (zeroblob(1000000))"))
        written += 1
        file.write(lambda connection: connection.execute("DELETE FROM texts WHERE text IS NULL"))
    except Exception as error:
        failed.append(str(error))
    if written == 1:
        print("at work", flush=True)
print(written, failed, flush=True)
"""


def test_wiping_beside_a_process_that_writes_fails_neither(tmp_path: Path) -> None:
    path = texts(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO texts (text, more) VALUES ('large', zeroblob(10000000))")
    connection.close()
    with child(WRITING, path) as process:
        for number in range(4):
            erase(path, tables=("texts",), work=delete_secrets)
            wipe(path)
            assert on_disk(tmp_path) == 0
            text = f"{SECRET.decode()} {number}"
            with sqlite3.connect(path) as connection:
                connection.execute("INSERT INTO texts (text) VALUES (?)", (text,))
            connection.close()
            assert on_disk(tmp_path) > 0
        told, _ = process.communicate("x", timeout=60)
    written, _, failed = told.partition(" ")
    assert failed == "[]\n"
    assert int(written) > 1


# One that is at bringing the log back holds this lock of SQLite's file format.
BRINGING_BACK = """
import fcntl, sys, time
index = open(sys.argv[1] + "-shm", "r+b")
fcntl.lockf(index, fcntl.LOCK_EX, 1, 121)
print("at work", flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="locks by fcntl")
def test_wiping_waits_for_one_that_brings_the_log_back_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = texts(tmp_path)
    other = SqliteFile(path, what="texts", prepare=lambda connection: None)
    erase(path, tables=("texts",), work=delete_secrets)
    with child(BRINGING_BACK, path, 0.5):
        wipe(path)
        assert on_disk(tmp_path) == 0
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    with (
        child(BRINGING_BACK, path, 60),
        pytest.raises(StorageError, match="its write-ahead log: another process is bringing it back into the file"),
    ):
        wipe(path)
    other.close()


def writers(folder: Path) -> Generator[tuple[Path, Callable[[], object]]]:
    """Every way of writing to a file that is wiped."""
    file = SqliteFile(folder / "file.sqlite", what="the test's file", prepare=prepare)
    yield file.path, lambda: file.write(lambda connection: insert(connection, 1))
    yield file.path, lambda: erase(file.path, tables=(), work=lambda connection: None)
    file.close()
    structures = StructureStore(folder / "structures")

    def write() -> None:
        with structures.transaction():
            structures.drop_cluster(1)

    yield structures.path, write
    structures.close()
    responses = ResponsesStore(folder / "responses")
    yield responses.path, lambda: responses.note_episode("", "resp_1", "e1")
    responses.close()


def test_whoever_writes_waits_for_a_wipe_as_long_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    for path, write in writers(tmp_path):
        with sqlite3.connect(path, isolation_level=None) as wiping:
            with _wipe_lock(path):
                wiping.execute("BEGIN IMMEDIATE")
                failures = list[BaseException]()

                def work(write: Callable[[], object] = write, failures: list[BaseException] = failures) -> None:
                    try:
                        write()
                    except BaseException as error:
                        failures.append(error)

                thread = threading.Thread(target=work)
                thread.start()
                thread.join(0.5)
                assert thread.is_alive(), f"{path} gave up: {failures}"
                wiping.execute("ROLLBACK")
            thread.join(10)
            assert not thread.is_alive()
            assert not failures
            # One that is at the file for another reason is waited for as long as ever.
            wiping.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="database is locked"):
                write()
            wiping.execute("ROLLBACK")
        wiping.close()


def test_what_is_deleted_from_day_to_day_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever SQLite was built with: some builds overwrite, most don't."""
    connect = sqlite3.connect

    def careless(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA secure_delete=OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", careless)
    file = SqliteFile(tmp_path / "file.sqlite", what="the test's file", prepare=prepare)
    assert file.write(lambda connection: connection.execute("PRAGMA secure_delete").fetchone()) == (1,)
    file.close()
    for store in (StructureStore(tmp_path / "structures"), ResponsesStore(tmp_path / "responses")):
        assert store._connection.execute("PRAGMA secure_delete").fetchone() == (1,)
        store.close()
