"""Features of rollouts, held beside the graph's state."""

from __future__ import annotations

import threading
from collections import OrderedDict

from kaelum_graph.learning.episode import RolloutFeatures
from kaelum_graph.types import RolloutId

MOST_SEARCHES = 512
"""Searches whose features are held at a time; of one that is dropped the learners see its evidence alone."""


class FeatureShelf:
    """Features of the rollouts of searches under way, beside the graph's state, which must stay small. Thread-safe.

    A search that another process resumes goes on without those of its earlier rollouts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._searches: OrderedDict[str, dict[RolloutId, RolloutFeatures]] = OrderedDict()

    def keep(self, episode_id: str, made: dict[RolloutId, RolloutFeatures]) -> None:
        """Add those of a wave."""
        with self._lock:
            self._searches.setdefault(episode_id, {}).update(made)
            self._searches.move_to_end(episode_id)
            while len(self._searches) > MOST_SEARCHES:
                self._searches.popitem(last=False)

    def of(self, episode_id: str) -> dict[RolloutId, RolloutFeatures]:
        """Those of a search so far."""
        with self._lock:
            return dict(self._searches.get(episode_id, {}))

    def move(self, episode_id: str, other: str) -> None:
        """Put those of a search under another id."""
        with self._lock:
            if (made := self._searches.pop(episode_id, None)) is not None:
                self._searches[other] = made

    def drop(self, episode_id: str) -> None:
        """Forget a search."""
        with self._lock:
            self._searches.pop(episode_id, None)
