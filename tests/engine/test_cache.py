"""The answer cache over a real store and real embeddings."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kaelum_graph.cache import AnswerCache
from kaelum_graph.cache.store import NEIGHBOURS
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import UsageError
from kaelum_graph.storage import CacheEntry, Storage
from kaelum_graph.types import Array, EpisodeId
from tests.engine.data_cache_pairs import Pair, different_pairs, half_of, same_pairs, wilson_interval


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder(encoder_folder)


@pytest.fixture
def storage(tmp_path: Path) -> Generator[Storage]:
    storage = Storage(tmp_path / "kaelum.sqlite")
    yield storage
    storage.close()


@pytest.fixture
def cache(storage: Storage) -> AnswerCache:
    return AnswerCache(storage)


def unit(seed: int) -> Array:
    return normed(np.random.default_rng(seed).normal(size=384).astype(np.float32))


def normed(vector: NDArray[np.floating]) -> Array:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def entry(episode: str, query: str, embedding: Array, *, scope: str = "s") -> CacheEntry:
    return CacheEntry(
        episode_id=EpisodeId(episode), scope=scope, query=query, answer={"text": episode}, embedding=embedding
    )


def test_an_empty_cache_has_nothing(cache: AnswerCache) -> None:
    assert len(cache) == 0
    assert cache.lookup("What is art?", unit(1), scope="s") is None


def test_the_same_text_is_an_exact_match_whatever_its_embedding(cache: AnswerCache) -> None:
    cache.add(entry("e", "What is  caf\u00e9?", unit(1)))
    hit = cache.lookup("  What is  cafe\u0301?\n", unit(2), scope="s")
    assert hit is not None
    assert hit.exact
    assert hit.similarity == 1.0
    assert hit.entry.answer == {"text": "e"}


def test_case_is_part_of_an_exact_match(cache: AnswerCache) -> None:
    cache.add(entry("e", "What does gcc -O do?", unit(1)))
    assert cache.lookup("What does gcc -o do?", unit(1), scope="s") is None


def test_a_near_match_needs_similarity_and_the_guards(storage: Storage, encoder: Encoder) -> None:
    cache = AnswerCache(storage, min_similarity=0.9)
    (stored, reworded, other) = encoder.encode(
        ["What is the capital of France?", "What's the capital of France?", "What is the capital of Finland?"]
    )
    cache.add(entry("e", "What is the capital of France?", stored))
    hit = cache.lookup("What's the capital of France?", reworded, scope="s")
    assert hit is not None
    assert not hit.exact
    assert hit.similarity == pytest.approx(float(stored @ reworded), abs=1e-5)
    assert cache.lookup("What is the capital of Finland?", stored, scope="s") is None
    assert cache.lookup("What's the capital of France?", other, scope="s") is None


def test_another_scope_is_never_served(cache: AnswerCache) -> None:
    cache.add(entry("e", "What is art?", unit(1), scope="one"))
    assert cache.lookup("What is art?", unit(1), scope="two") is None
    assert cache.lookup("what's art", unit(1), scope="two") is None
    assert cache.lookup("what's art", unit(1), scope="one") is not None


def test_entries_of_other_scopes_do_not_crowd_out_the_right_one(cache: AnswerCache) -> None:
    vector = unit(1)
    for index in range(100):
        cache.add(entry(f"other{index}", f"What is art {index}?", vector, scope=f"scope{index}"))
    near = normed(vector + 0.1 * unit(2))
    cache.add(entry("right", "What is art?", near))
    hit = cache.lookup("What's art?", vector, scope="s")
    assert hit is not None
    assert hit.entry.episode_id == "right"


def test_another_tenant_is_never_served(cache: AnswerCache, storage: Storage) -> None:
    for tenant in ("ann", "bob"):
        one = entry(f"of-{tenant}", "What is art?", unit(1))
        cache.add(replace(one, tenant=tenant))
    for reader in (cache, AnswerCache(storage)):  # that took them in, and that reads them from the store
        for text in ("What is art?", "what's art"):
            for tenant in ("ann", "bob"):
                hit = reader.lookup(text, unit(1), scope="s", tenant=tenant)
                assert hit is not None
                assert hit.entry.episode_id == f"of-{tenant}"
            assert reader.lookup(text, unit(1), scope="s", tenant="carl") is None
            assert reader.lookup(text, unit(1), scope="s") is None
    assert cache.evict("of-ann")
    assert cache.lookup("What is art?", unit(1), scope="s", tenant="ann") is None
    assert cache.lookup("What is art?", unit(1), scope="s", tenant="bob") is not None


def test_a_tenants_flood_neither_hides_nor_slows_what_another_keeps(storage: Storage) -> None:
    vector = unit(1)
    flood = [replace(entry(f"flood{index}", f"What is art {index}?", vector), tenant="ann") for index in range(2000)]
    storage._file.write(
        lambda connection: connection.executemany(
            "INSERT INTO cache_entries (episode_id, scope, query, answer, embedding, tenant) VALUES (?, ?, ?, ?, ?, ?)",
            [(one.episode_id, one.scope, one.query, "{}", one.embedding.tobytes(), one.tenant) for one in flood],
        )
    )
    cache = AnswerCache(storage)
    cache.add(replace(entry("right", "What is art?", normed(vector + 0.1 * unit(2))), tenant="bob"))
    assert len(cache) == 2001
    hit = cache.lookup("What's art?", vector, scope="s", tenant="bob")
    assert hit is not None
    assert hit.entry.episode_id == "right"
    searched = cache._shelves["bob", "s"]._index.ntotal
    assert searched == 1, "the search goes through the tenant's own entries alone"


def test_the_next_neighbour_is_tried_when_a_guard_blocks_the_first(cache: AnswerCache) -> None:
    vector = unit(1)
    cache.add(entry("wrong", "What is the capital of Finland?", vector))
    near = normed(vector + 0.1 * unit(2))
    cache.add(entry("right", "What is the capital of France?", near))
    hit = cache.lookup("What's the capital of France?", vector, scope="s")
    assert hit is not None
    assert hit.entry.episode_id == "right"


def test_copies_of_one_question_take_one_place(cache: AnswerCache) -> None:
    vector = unit(1)
    for index in range(3 * NEIGHBOURS):
        cache.add(entry(f"copy{index}", "What is the capital of Finland?", vector))
    near = normed(vector + 0.1 * unit(2))
    cache.add(entry("right", "What is the capital of France?", near))
    assert cache.lookup("What's the capital of France?", vector, scope="s") is not None


def test_the_newest_of_equal_questions_is_served_and_evicting_it_brings_back_the_other(cache: AnswerCache) -> None:
    cache.add(entry("old", "What is art?", unit(1)))
    cache.add(entry("new", "What is art?", unit(1)))
    for expected in ("new", "old"):
        hit = cache.lookup("What is art?", unit(1), scope="s")
        assert hit is not None
        assert hit.entry.episode_id == expected
        assert cache.evict(expected)
    assert cache.lookup("What is art?", unit(1), scope="s") is None
    assert not cache.evict("old")
    assert len(cache) == 0


def test_an_entry_of_the_same_episode_is_replaced(cache: AnswerCache) -> None:
    cache.add(entry("e", "What is art?", unit(1)))
    cache.add(entry("e", "What is music?", unit(2)))
    assert len(cache) == 1
    assert cache.lookup("What is art?", unit(1), scope="s") is None
    assert cache.lookup("What is music?", unit(2), scope="s") is not None


def test_entries_survive_a_restart(tmp_path: Path) -> None:
    first = Storage(tmp_path / "kaelum.sqlite")
    AnswerCache(first).add(entry("e", "What is art?", unit(1)))
    first.close()
    second = Storage(tmp_path / "kaelum.sqlite")
    assert AnswerCache(second).lookup("what's art", unit(1), scope="s") is not None
    second.close()


def test_what_another_process_adds_and_evicts_is_seen(cache: AnswerCache, storage: Storage) -> None:
    cache.add(entry("mine", "What is art?", unit(1)))
    program = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from kaelum_graph.storage import CacheEntry, Storage\n"
        "storage = Storage(Path(sys.argv[1]))\n"
        "storage.delete_cache_entry('mine')\n"
        "vector = np.ones(384, dtype=np.float32) / np.sqrt(384)\n"
        "storage.put_cache_entry(CacheEntry(episode_id='theirs', scope='s', query='What is music?', answer={},"
        " embedding=vector.astype(np.float32)))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(storage.path)], check=True, timeout=60)
    assert cache.lookup("What is art?", unit(1), scope="s") is None
    hit = cache.lookup("What is music?", unit(1), scope="s")
    assert hit is not None
    assert hit.entry.episode_id == "theirs"
    assert len(cache) == 1


def test_two_caches_over_one_store_agree(storage: Storage) -> None:
    one, other = AnswerCache(storage), AnswerCache(storage)
    one.add(entry("e", "What is art?", unit(1)))
    assert other.lookup("What is art?", unit(1), scope="s") is not None
    assert other.evict("e")
    assert one.lookup("What is art?", unit(1), scope="s") is None


def test_threads_may_add_look_up_and_evict_together(cache: AnswerCache) -> None:
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for index in range(15):
                name = f"{thread}-{index}"
                cache.add(entry(name, f"What is `{name}`?", unit(100 * thread + index)))
                hit = cache.lookup(f"What's `{name}`?", unit(100 * thread + index), scope="s")
                assert hit is not None
                assert hit.entry.episode_id == name
                if index % 2:
                    assert cache.evict(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(cache) == 4 * 8


def test_an_embedding_of_another_size_is_refused_before_it_is_kept(cache: AnswerCache, storage: Storage) -> None:
    with pytest.raises(UsageError, match="384"):
        cache.add(entry("e", "What is art?", np.ones(3, dtype=np.float32)))
    assert storage.cache_entries() == []


def test_with_real_embeddings_no_near_question_is_served_and_most_paraphrases_are(
    storage: Storage, encoder: Encoder
) -> None:
    """Whole way through, on the half of the pairs that the guards were not tuned on."""
    cache = AnswerCache(storage, min_similarity=0.8)

    def served(pairs: list[Pair]) -> int:
        texts = sorted({text for pair in pairs for text in (pair.a, pair.b)})
        embeddings = dict(zip(texts, encoder.encode(texts), strict=True))
        for pair in pairs:
            cache.add(entry(f"{pair}", pair.a, embeddings[pair.a], scope=f"{pair}"))
        return sum(cache.lookup(pair.b, embeddings[pair.b], scope=f"{pair}") is not None for pair in pairs)

    different = [pair for pair in different_pairs() if half_of(pair) == "held-out"][::3]
    assert len(different) >= 80
    assert served(different) == 0

    same = [pair for pair in same_pairs() if half_of(pair) == "held-out"]
    hits = served(same)
    low, high = wilson_interval(hits, len(same))
    print(f"held-out paraphrases served: {hits} of {len(same)}, 95% interval {low:.2f} to {high:.2f}")
    assert hits / len(same) >= 0.5


def test_of_one_wording_the_newest_answer_is_served_however_it_was_found(storage: Storage, encoder: Encoder) -> None:
    cache = AnswerCache(storage)
    asked, near = encoder.encode(["How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"])
    for number in range(NEIGHBOURS + 3):
        cache.add(entry(f"{number}", "How tall is the Eiffel Tower?", asked))
    newest = str(NEIGHBOURS + 2)
    exact = cache.lookup("How tall is the Eiffel Tower?", asked, scope="s")
    found = cache.lookup("What is the height of the Eiffel Tower?", near, scope="s")
    assert exact is not None
    assert found is not None
    assert (exact.entry.episode_id, found.entry.episode_id) == (newest, newest)


def test_the_oldest_go_where_there_are_too_many(storage: Storage) -> None:
    cache = AnswerCache(storage, most=3)
    for number in range(5):
        cache.add(entry(f"{number}", f"Question {number}?", unit(number), scope=f"s{number % 2}"))
    assert len(cache) == len(AnswerCache(storage)) == 3
    assert cache.lookup("Question 1?", unit(1), scope="s1") is None
    assert cache.lookup("Question 4?", unit(4), scope="s0") is not None
