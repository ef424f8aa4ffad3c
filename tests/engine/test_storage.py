"""What the store acknowledges is on disk, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from kaelum_graph.errors import StorageError, UnknownEpisode, UsageError
from kaelum_graph.storage import STORE_FILE, CacheEntry, Feedback, Storage
from kaelum_graph.types import EpisodeId


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "deep" / "kaelum.sqlite")
    yield storage
    storage.close()


def test_an_episode_is_kept_once(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "what?", {"answer": "1"})
    storage.append_episode(EpisodeId("a"), "what?", {"answer": "2"})
    assert storage.episode("a") == {"answer": "1"}
    assert storage.counts()["episodes"] == 1


def test_the_newest_episode_of_a_query_is_found(storage: Storage) -> None:
    for name in ("a", "b"):
        storage.append_episode(EpisodeId(name), "what?", {})
    assert storage.latest_episode_id("what?") == "b"
    assert storage.latest_episode_id("What?") is None


def test_cache_entries_come_back_whole(storage: Storage) -> None:
    vector = np.random.default_rng(1).standard_normal(384).astype(np.float32)
    storage.put_cache_entry(
        CacheEntry(episode_id=EpisodeId("a"), scope="s", query="é?", answer={"text": "ü"}, embedding=vector)
    )
    (entry,) = storage.cache_entries()
    assert entry.answer == {"text": "ü"}
    np.testing.assert_array_equal(entry.embedding, vector)
    assert storage.delete_cache_entry("a")
    assert not storage.delete_cache_entry("a")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot open the episode store"):
        Storage(tmp_path / "file" / "kaelum.sqlite")


def test_a_full_disk_is_a_storage_error_and_loses_nothing(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "what?", {"answer": "1"})
    writer = storage._file._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="full"):
        storage.append_episode(EpisodeId("b"), "what?", {"answer": "x" * 1_000_000})
    assert storage.episode("a") == {"answer": "1"}
    assert storage.episode("b") is None


def test_an_episode_of_that_id_elsewhere_is_no_acknowledgement(storage: Storage) -> None:
    storage.append_episode(EpisodeId("a"), "what?", {}, tenant="ann")
    with pytest.raises(StorageError, match="kept already"):
        storage.append_episode(EpisodeId("a"), "what?", {}, tenant="bob")


def test_tenants_see_their_own_episodes_alone(storage: Storage) -> None:
    storage.append_episode(EpisodeId("abcd1"), "what?", {"of": "ann"}, tenant="ann")
    storage.append_episode(EpisodeId("abcd2"), "what?", {"of": "bob"}, tenant="bob")
    assert storage.episode("abcd2", tenant="ann") is None
    assert not storage.has_episode("abcd2", tenant="ann")
    assert storage.episode("abcd2", tenant="bob") == {"of": "bob"}
    assert storage.episode("abcd2", tenant=None) == {"of": "bob"}
    assert storage.episode("abcd2") is None
    assert storage.latest_episode_id("what?", tenant="ann") == "abcd1"
    assert storage.latest_episode_id("what?") is None
    assert storage.find_episode_id("abcd", tenant="ann") == "abcd1"
    assert storage.find_episode_id(None, tenant="ann") == "abcd1"
    assert storage.find_episode_id(None, tenant=None) == "abcd2"
    with pytest.raises(UsageError, match="more than one"):
        storage.find_episode_id("abcd", tenant=None)
    for name in ("abcd2", None):
        with pytest.raises(UnknownEpisode):
            storage.find_episode_id(name, tenant="carl")
    # Nothing tells an id that another has from one that nobody has.
    messages: list[str] = []
    for name in ("abcd1", "wxyz1"):
        with pytest.raises(UnknownEpisode) as raised:
            storage.find_episode_id(name, tenant="bob")
        messages.append(str(raised.value).replace(name, "…"))
    assert messages[0] == messages[1]


def test_counts_by_tenant(storage: Storage) -> None:
    for tenant, many in (("ann", 2), ("bob", 1), ("", 1)):
        for number in range(many):
            storage.append_episode(EpisodeId(f"{tenant}{number}"), "what?", {}, tenant=tenant)
    storage.add_measurements(EpisodeId("ann0"), {})
    assert storage.counts()["episodes"] == 4
    assert storage.counts(tenant="ann") == {"episodes": 2, "feedback": 0, "cache_entries": 0, "measurements": 1}


def test_what_is_no_unicode_is_the_callers_mistake(storage: Storage) -> None:
    with pytest.raises(UsageError, match="surrogate"):
        storage.episode("\ud800")
    with pytest.raises(UsageError, match="surrogate"):
        storage.forget_episodes(["\ud800"])
    assert storage.counts()["episodes"] == 0


def test_a_deleted_episode_leaves_nothing_behind(storage: Storage) -> None:
    vector = np.ones(384, dtype=np.float32)
    for tenant, name in (("ann", "a"), ("bob", "b")):
        episode_id = EpisodeId(name)
        storage.append_episode(episode_id, "my secret?", {"answer": "secret"}, tenant=tenant)
        entry = CacheEntry(
            episode_id=episode_id, scope="s", query="q", answer={"a": "secret"}, embedding=vector, tenant=tenant
        )
        storage.put_cache_entry(entry)
        storage.add_feedback(
            Feedback(id="f", episode_id=episode_id, tenant=tenant, score=0.9, key="secret", comment="secret")
        )
        storage.add_feedback(
            Feedback(id="g", episode_id=episode_id, tenant=tenant, correction="secret", source="secret")
        )
        storage.put_cache_entry(entry)
    version = storage.cache_version()
    assert storage.forget_episodes(["a"], tenant="bob") == []
    assert storage.forget_episodes(["a"], tenant="") == []
    assert storage.forget_episodes(["a"], tenant="ann") == ["a"]
    assert storage.forget_episodes(["a"], tenant="ann") == []
    assert storage.counts(tenant="ann") == {"episodes": 0, "feedback": 0, "cache_entries": 0, "measurements": 0}
    assert storage.counts(tenant="bob")["feedback"] == 2
    assert storage.cache_changes(after=version) == {"a": None}
    told = [change for change in storage.feedback_log(after=0) if "ann" in str(change)]
    assert [change.action for change in told] == ["added", "added", "deleted", "deleted"]
    assert "secret" not in str(told)
    assert (told[0].after and told[0].after.score) == 0.9
    assert (told[2].before and told[2].before.score) == 0.9


def kept_pending(storage: Storage) -> list[tuple[str, str]]:
    return [(one.episode_id, one.tenant) for one in storage.pending_forgets()]


def test_what_is_deleted_is_pending_until_all_who_keep_something_have_forgotten(tmp_path: Path) -> None:
    storage = Storage(tmp_path / STORE_FILE)
    for name, tenant in (("first", ""), ("second", ""), ("third", "ann"), ("fourth", "bob")):
        storage.append_episode(EpisodeId(name), "q", {}, tenant=tenant)
    assert storage.forget_episodes(["first", "fourth", "elsewhere"], tenant="") == ["first"]
    assert storage.forget_episodes(["second", "elsewhere"]) == ["second"]
    assert storage.forget_episodes(tenant="ann") == ["third"]
    storage.close()
    storage = Storage(tmp_path / STORE_FILE)
    assert kept_pending(storage) == [
        ("", "ann"), ("elsewhere", ""), ("first", ""), ("second", ""), ("third", "ann")
    ]  # fmt: skip
    for name in ("first", "firs"):
        assert storage.find_episode_id(name, tenant=None, pending=True) == "first"
        with pytest.raises(UnknownEpisode, match="no such episode"):
            storage.find_episode_id(name, tenant=None)
    storage.append_episode(EpisodeId("firstly"), "q", {})
    with pytest.raises(UsageError, match="more than one begins like that: first, firstly"):
        storage.find_episode_id("firs", tenant=None, pending=True)
    # What is there again is not forgotten with others, nor is all of a tenant that asks again.
    storage.append_episode(EpisodeId("second"), "q", {})
    storage.append_episode(EpisodeId("fifth"), "q", {}, tenant="ann")
    assert kept_pending(storage) == [("elsewhere", ""), ("first", ""), ("third", "ann")]
    storage.end_forgets(storage.pending_forgets())
    assert kept_pending(storage) == []
    assert storage.forget_episodes(["second"]) == ["second"]
    assert kept_pending(storage) == [("second", "")]
    storage.close()


def test_an_answer_served_again_goes_with_its_source_and_within_its_tenant(tmp_path: Path) -> None:
    storage = Storage(tmp_path / STORE_FILE)
    storage.append_episode(EpisodeId("source"), "q", {})
    storage.append_episode(EpisodeId("other"), "q", {})
    for name, source, tenant in (("again", "source", ""), ("apart", "other", ""), ("hers", "source", "ann")):
        storage.append_episode(EpisodeId(name), "mine", {"served": source}, tenant=tenant)
    assert storage.forget_episodes(["again"]) == ["again"]
    storage.append_episode(EpisodeId("again"), "mine", {"served": "source"})
    assert storage.forget_episodes(["source"]) == ["source", "again"]
    assert storage.has_episode("apart")
    assert storage.has_episode("hers", tenant="ann")
    storage.close()


def test_what_is_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    program = f"""
import sys, threading
from pathlib import Path
from kaelum_graph.storage import Feedback, Storage
storage = Storage(Path({str(tmp_path)!r}) / "k.sqlite")
said, run = threading.Lock(), sys.argv[1]
def say(line):
    with said:
        print(line, flush=True)
def work(thread):
    for number in range(10_000):
        name = f"{{run}}-{{thread}}-{{number}}"
        storage.append_episode(name, "q", {{"n": name}}, tenant=f"t{{thread}}")
        say(f"episode {{name}} t{{thread}}")
        storage.add_feedback(Feedback(id=name, episode_id=name, tenant=f"t{{thread}}", score=0.5))
        say(f"feedback {{name}} t{{thread}}")
for thread in range(4):
    threading.Thread(target=work, args=(thread,)).start()
"""
    random = Random(1)
    acknowledged: list[str] = []
    for run in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(run)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        acknowledged += [child.stdout.readline() for _ in range(20)]
        time.sleep(random.uniform(0.0, 0.2))
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        storage = Storage(tmp_path / "k.sqlite")
        assert storage._file.rows("PRAGMA integrity_check") == [("ok",)]
        for line in acknowledged:
            if not line.endswith("\n"):
                continue
            kind, name, tenant = line.split()
            if kind == "episode":
                assert storage.episode(name, tenant=tenant) == {"n": name}
            else:
                rating = storage.feedback(name, tenant=tenant)
                assert rating is not None
                assert rating.episode_id == name
        added = [change.after.id for change in storage.feedback_log(after=0, limit=-1) if change.after]
        kept = [rating.id for rating in storage.list_feedback(tenant=None, limit=-1)]
        assert sorted(added) == sorted(kept), "the log says what the table says"
        storage.close()
    assert len(acknowledged) >= 80
