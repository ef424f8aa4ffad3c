"""API keys: what is kept of them, how fast a change is seen, and the command."""

from __future__ import annotations

import json
import stat
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from kaelum_adapters.openai_api import keys as keys_module
from kaelum_adapters.openai_api.keys import KEYS_FILE, PREFIX, USE_SECONDS, KeyBook
from kaelum_graph.cli.parser import build_command
from kaelum_graph.errors import StorageError, UsageError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "FRESH_SECONDS", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_key_is_long_random_and_kept_as_a_hash_in_a_private_file(folder: Path) -> None:
    book = KeyBook(folder)
    assert not book.any()
    assert not (folder / KEYS_FILE).exists(), "looking makes no file"
    key, record = book.add("agent")
    assert key.startswith(PREFIX)
    assert len(key) == len(PREFIX) + 43
    assert key != book.add("other")[0]
    assert stat.S_IMODE((folder / KEYS_FILE).stat().st_mode) == 0o600
    for file in folder.iterdir():
        assert key.encode() not in file.read_bytes()
        assert key.removeprefix(PREFIX).encode() not in file.read_bytes()
    assert record.tenant == record.id, "a tenant of its own"
    assert book.find(key) == record


def test_another_process_s_changes_are_seen(folder: Path) -> None:
    server, command = KeyBook(folder), KeyBook(folder)
    assert server.find("kg-nothing") is None
    key, record = command.add("agent", tenant="team", requests_per_minute=5, concurrent=2)
    seen = server.find(key)
    assert seen is not None
    assert (seen.tenant, seen.requests_per_minute, seen.concurrent) == ("team", 5, 2)
    assert server.record(record.id) is not None
    command.revoke("agent")
    assert server.find(key) is None
    assert server.any(), "a revoked key keeps the door closed"
    (folder / KEYS_FILE).unlink()
    assert server.find(key) is None
    assert server.any()


def test_names_are_unique_among_the_keys_in_force(folder: Path) -> None:
    book = KeyBook(folder)
    first, _ = book.add("agent")
    with pytest.raises(UsageError, match="already"):
        book.add("agent")
    book.revoke("agent")
    second, _ = book.add("agent")
    assert book.find(first) is None
    assert book.find(second) is not None
    with pytest.raises(UsageError, match="no key named 'nobody'"):
        book.revoke("nobody")
    for bad in ("", "a b", "-x", "x" * 65, "a\nb", "../x"):
        with pytest.raises(UsageError, match="name"):
            book.add(bad)
    with pytest.raises(UsageError, match="tenant"):
        book.add("fine", tenant="not fine")
    with pytest.raises(UsageError, match="--concurrent has value 0"):
        book.add("fine", concurrent=0)
    assert len(book.all()) == 2


def test_the_last_use_is_noted_once_a_minute(folder: Path) -> None:
    now = [1000.0]
    book = KeyBook(folder, clock=lambda: now[0])
    key, _ = book.add("agent")

    def last_used() -> float | None:
        return KeyBook(folder).all()[0].last_used

    assert last_used() is None
    book.find(key)
    assert last_used() == 1000.0
    now[0] += USE_SECONDS / 2
    book.find(key)
    assert last_used() == 1000.0
    now[0] += USE_SECONDS
    book.find(key)
    assert last_used() == now[0]


def test_a_broken_file_is_one_clear_error(folder: Path) -> None:
    folder.mkdir()
    (folder / KEYS_FILE).write_bytes(b"no database " * 100)
    with pytest.raises(StorageError, match=r"keys\.sqlite3"):
        KeyBook(folder).find("kg-x")


def test_a_command_that_fails_leaves_no_broken_file(folder: Path) -> None:
    with pytest.raises(UsageError, match="no key named"):
        KeyBook(folder).revoke("laptop")
    book = KeyBook(folder)
    assert (book.any(), book.all(), book.find("kg-x")) == (False, [], None)
    key, _ = book.add("laptop")
    assert book.find(key) is not None


def test_threads_may_share_a_book(folder: Path) -> None:
    book = KeyBook(folder)
    made: list[str] = []
    threads = [threading.Thread(target=lambda n=n: made.append(book.add(f"k{n}")[0])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(book.find(key) for key in made)
    assert len({record.id for record in book.all()}) == 8


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    point = EntryPoint("keys", "kaelum_adapters.openai_api.keys_command:register", "kaelum.commands")
    arguments = build_command("keys", point).parse_args(list(words))
    assert arguments.run(arguments) == 0
    out, err = capsys.readouterr()
    return out, err


def test_the_command_makes_lists_and_revokes(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    out, err = command(capsys)
    assert out == ""
    assert "kaelum keys add NAME" in err
    out, err = command(capsys, "add", "agent", "--requests-per-minute", "7")
    key = out.strip()
    assert KeyBook(folder).find(key) is not None
    assert key not in err
    out, _ = command(capsys, "--json", "add", "other", "--tenant", "team")
    assert json.loads(out)["tenant"] == "team"
    out, _ = command(capsys, "list")
    assert key not in out
    header, first, second = out.splitlines()
    assert header.split()[:3] == ["NAME", "ID", "TENANT"]
    assert first.split()[0] == "agent"
    assert second.split()[2] == "team"
    out, _ = command(capsys, "revoke", "agent")
    assert out.startswith("revoked agent (key-")
    assert KeyBook(folder).find(key) is None
    rows = json.loads(command(capsys, "list", "--json")[0])
    assert rows[0]["revoked"]
    assert rows[0]["requests_per_minute"] == 7
