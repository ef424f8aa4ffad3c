"""What the store of responses keeps, for whom, and for how long."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kaelum_adapters.openai_api.responses_store import ResponsesStore
from kaelum_graph.errors import StorageError
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.types import Json


def response(name: str, *, previous: str | None = None) -> Json:
    return {"id": name, "previous_response_id": previous, "output": [{"id": f"msg_{name}", "text": f"é\ud800 {name}"}]}


def put(store: ResponsesStore, name: str, *, tenant: str = "ann") -> None:
    store.put(tenant, f"ep-{name}", response(name), [{"id": f"in_{name}"}])


def test_what_is_put_is_there_for_its_tenant_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / STORE_FILE
    store = ResponsesStore(path)
    store.put("ann", "ep-1", response("r1", previous="r0"), [{"id": "in_r1"}])
    store.close()
    store = ResponsesStore(path)
    kept = store.get("ann", "r1")
    assert kept is not None
    assert (kept.response, kept.input, kept.previous_id) == (response("r1", previous="r0"), ({"id": "in_r1"},), "r0")
    assert (store.item("ann", "in_r1"), store.item("ann", "msg_r1")) == ({"id": "in_r1"}, response("r1")["output"][0])
    assert store.episode_id("ann", "r1") == "ep-1"
    assert store.get("bob", "r1") is store.item("bob", "in_r1") is store.episode_id("bob", "r1") is None
    assert not store.delete("bob", "r1")
    assert store.delete("ann", "r1")
    assert not store.delete("ann", "r1")
    assert store.get("ann", "r1") is store.item("ann", "msg_r1") is None


def test_the_same_response_twice_is_kept_once(tmp_path: Path) -> None:
    store = ResponsesStore(tmp_path / STORE_FILE)
    put(store, "r1")
    put(store, "r1")
    assert counts(tmp_path) == (1, 2)


def test_it_shares_its_file_with_the_episodes(tmp_path: Path) -> None:
    with_episodes = Storage(tmp_path / STORE_FILE)
    store = ResponsesStore(tmp_path / STORE_FILE)
    put(store, "r1")
    assert with_episodes.counts()["episodes"] == 0
    with_episodes.close()


def test_the_oldest_of_a_tenant_go_when_there_are_too_many(tmp_path: Path) -> None:
    store = ResponsesStore(tmp_path / STORE_FILE, kept_per_tenant=3)
    put(store, "r0", tenant="bob")
    for number in range(5):
        put(store, f"r{number}")
    assert [store.get("ann", f"r{number}") is not None for number in range(5)] == [False, False, True, True, True]
    assert store.get("bob", "r0") is not None
    assert counts(tmp_path) == (4, 8)


def test_what_is_too_old_goes_whoever_it_is_of(tmp_path: Path) -> None:
    now = 0.0
    store = ResponsesStore(tmp_path / STORE_FILE, kept_seconds=10.0, now=lambda: now)
    put(store, "r1")
    store.note_episode("ann", "loose", "ep-loose")
    now = 9.9
    assert store.get("ann", "r1") is not None
    assert (store.get("ann", "loose"), store.episode_id("ann", "loose")) == (None, "ep-loose")
    now = 10.0
    assert store.get("ann", "r1") is None
    put(store, "r2", tenant="bob")
    assert counts(tmp_path) == (1, 2)


def test_a_store_that_cannot_be_opened_or_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot open"):
        ResponsesStore(tmp_path / "file" / STORE_FILE)
    store = ResponsesStore(tmp_path / STORE_FILE)
    store.close()
    with pytest.raises(StorageError, match="cannot write"):
        put(store, "r1")
    with pytest.raises(StorageError, match="cannot read"):
        store.get("ann", "r1")


def counts(folder: Path) -> tuple[int, int]:
    connection = sqlite3.connect(folder / STORE_FILE)
    found = [
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("responses", "response_items")
    ]
    connection.close()
    return found[0], found[1]
