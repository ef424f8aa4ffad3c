"""The answer cache: FAISS finds stored questions near the new one, guards on the raw texts decide whether one is it."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from kaelum_graph.cache.guards import same_question
from kaelum_graph.errors import UsageError
from kaelum_graph.storage import CacheEntry, Storage
from kaelum_graph.types import Array, EpisodeId

if TYPE_CHECKING:
    import faiss

EMBEDDING_SIZE = 384
MOST_ENTRIES = 20_000
"""Of all tenants: 14 KB each in memory."""
NEIGHBOURS = 8
"""So many near questions of the scope, each of another wording, are put to the guards, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A stored answer to the question asked. `similarity` is the cosine of the two questions; 1 for an exact match."""

    entry: CacheEntry
    similarity: float
    exact: bool


class AnswerCache:
    """Thread-safe. Mirrors the entries of `storage` in memory, those that other processes write as well.

    Each scope of each tenant is a shelf with an index of its own: what others store can neither be found from there nor
    cost it time.
    """

    def __init__(self, storage: Storage, *, min_similarity: float = 0.9, most: int = MOST_ENTRIES) -> None:
        """`min_similarity`, in [-1, 1], is the lowest cosine at which a stored question is put to the guards. Of more
        than `most` entries the oldest go."""
        self.min_similarity, self._most = min_similarity, most
        self._storage = storage
        self._lock = threading.RLock()
        self._shelves: dict[_Place, _Shelf] = {}
        self._places: dict[EpisodeId, _Place] = {}
        # The version is read first: what changes in between is then applied twice, never missed.
        self._version = storage.cache_version()
        self._insert(storage.cache_entries())

    def __len__(self) -> int:
        with self._lock:
            self._refresh()
            return len(self._places)

    def lookup(self, query_text: str, embedding: Array, *, scope: str, tenant: str = "") -> Hit | None:
        """The tenant's stored answer of `scope` to `query_text`, or None.

        `embedding` is the question's, `[384]` unit norm.

        An exact match has the same text up to surrounding white space and Unicode normal form, case included. A near
        match is at least `min_similarity` close and passes every guard.
        """
        with self._lock:
            self._refresh()
            shelf = self._shelves.get((tenant, scope))
            if shelf is None or not query_text.strip():
                return None
            same = shelf.same(query_text)
            if same is not None:
                return Hit(entry=same, similarity=1.0, exact=True)
            near = list(shelf.near(_checked(embedding), min_similarity=self.min_similarity))
        # The guards run outside the lock: they read nothing that changes.
        for entry, similarity in near:
            if same_question(query_text, entry.query).passed:
                return Hit(entry=entry, similarity=similarity, exact=False)
        return None

    def add(self, entry: CacheEntry) -> None:
        """Keep an answer, on disk when this returns; replaces an entry of the same episode. Raises `StorageError`."""
        _checked(entry.embedding)
        with self._lock:
            self._storage.put_cache_entry(entry)
            self._refresh()
            for oldest in list(self._places)[: max(0, len(self._places) - self._most)]:
                self.evict(oldest)

    def evict(self, episode_id: str) -> bool:
        """Forget an episode's answer, on disk when this returns; False when there was none. Raises `StorageError`."""
        with self._lock:
            gone = self._storage.delete_cache_entry(episode_id)
            self._refresh()
            return gone

    def _refresh(self) -> None:
        """Take over what was added or evicted since, here or in another process."""
        version = self._storage.cache_version()
        if version == self._version:
            return
        changes = self._storage.cache_changes(after=self._version)
        for episode_id in changes:
            self._remove(episode_id)
        self._insert([entry for entry in changes.values() if entry is not None])
        self._version = version

    def _insert(self, entries: list[CacheEntry]) -> None:
        by_place: dict[_Place, list[CacheEntry]] = {}
        for entry in entries:
            by_place.setdefault((entry.tenant, entry.scope), []).append(entry)
            self._places[entry.episode_id] = (entry.tenant, entry.scope)
        for place, group in by_place.items():
            self._shelves.setdefault(place, _Shelf()).insert(group)

    def _remove(self, episode_id: EpisodeId) -> None:
        place = self._places.pop(episode_id, None)
        if place is not None and self._shelves[place].remove(episode_id):
            del self._shelves[place]


_Place: TypeAlias = tuple[str, str]
"""Tenant and scope."""


class _Shelf:
    """The entries of one tenant and scope, with their index."""

    def __init__(self) -> None:
        self._index = _empty_index()
        self._entries: dict[int, CacheEntry] = {}
        self._ids: dict[EpisodeId, int] = {}
        self._exact: dict[str, list[int]] = {}
        self._next_id = 0

    def same(self, query_text: str) -> CacheEntry | None:
        """The newest entry of that very text, or None."""
        found = self._exact.get(_key(query_text))
        return self._entries[found[-1]] if found else None

    def near(self, embedding: Array, *, min_similarity: float) -> Iterator[tuple[CacheEntry, float]]:
        """The newest entries of up to `NEIGHBOURS` wordings, nearest first."""
        wordings: set[str] = set()
        seen, wanted = 0, NEIGHBOURS
        while seen < len(self._entries):
            similarities, ids = self._index.search(embedding[None], min(wanted, len(self._entries)))
            for similarity, identifier in list(zip(similarities[0].tolist(), ids[0].tolist(), strict=True))[seen:]:
                if similarity < min_similarity or len(wordings) == NEIGHBOURS:
                    return
                entry = self._entries[identifier]
                if _key(entry.query) not in wordings:
                    wordings.add(_key(entry.query))
                    yield self.same(entry.query) or entry, similarity
            # The same wording took places: look further.
            seen, wanted = min(wanted, len(self._entries)), wanted * 4

    def insert(self, entries: list[CacheEntry]) -> None:
        """Take entries in, oldest first."""
        ids = list(range(self._next_id, self._next_id + len(entries)))
        self._next_id += len(entries)
        self._index.add_with_ids(np.stack([_checked(entry.embedding) for entry in entries]), np.array(ids))
        for identifier, entry in zip(ids, entries, strict=True):
            self._entries[identifier] = entry
            self._ids[entry.episode_id] = identifier
            self._exact.setdefault(_key(entry.query), []).append(identifier)

    def remove(self, episode_id: EpisodeId) -> bool:
        """Take an entry out; True when none is left."""
        identifier = self._ids.pop(episode_id)
        self._index.remove_ids(np.array([identifier]))  # pyright: ignore[reportArgumentType]
        key = _key(self._entries.pop(identifier).query)
        self._exact[key].remove(identifier)
        if not self._exact[key]:
            del self._exact[key]
        return not self._entries


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _checked(embedding: Array) -> Array:
    if embedding.shape != (EMBEDDING_SIZE,):
        raise UsageError(f"a cache embedding has shape {embedding.shape}; expected ({EMBEDDING_SIZE},).")
    return np.ascontiguousarray(embedding, dtype=np.float32)


def _empty_index() -> faiss.IndexIDMap2:
    import faiss

    return faiss.IndexIDMap2(faiss.IndexFlatIP(EMBEDDING_SIZE))
