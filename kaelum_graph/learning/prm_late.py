"""What ratings taught the reward model about episodes that had left its replay buffer.

Such an episode is in the head's posterior for good, with the labels that it had. A rating that gives some of its rows
other labels teaches those rows beside that. They stay apart from the posterior, so that they go when the rating is
taken back, and are others when it is changed; of the newest `LATE` episodes rated so, that is. Then these rows, too,
stay as they are. What an episode in the posterior had been told by ratings is remembered: told again, it is no news.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import Label, rollout_labels, step_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm_replay import Kept, keep, packed, unpacked
from kaelum_graph.learning.ratings import with_ratings
from kaelum_graph.types import Json

LATE = 64
"""Episodes whose rows stay apart."""
TOLD = 1024
"""Rated episodes in the posterior that are remembered, by what was said of them."""


class Late:
    """`kept` are the rows that stay apart, oldest first."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self._told: dict[str, str] = {}  # by episode, the longest ago first

    def absorbed(self, kept: Kept) -> None:
        """Rows went into the posterior, with what was said of their episode."""
        if kept.said:
            self._told.pop(kept.id, None)
            self._told[kept.id] = kept.said
            while len(self._told) > TOLD:
                del self._told[next(iter(self._told))]

    def told(self, name: str) -> str:
        """What was said of an episode when it, or its rows, went into the posterior; "" for nothing."""
        return self._told.get(name, "")

    def find(self, name: str) -> Kept | None:
        """The rows of an episode."""
        return next((one for one in self.kept if one.id == name), None)

    def put(self, name: str, kept: Kept | None) -> Kept | None:
        """Rows of an episode in place of those there were; the oldest rows, where they must go into the posterior."""
        self.kept = [one for one in self.kept if one.id != name]
        if kept is not None:
            self.kept.append(kept.without_steps())  # the network is not trained on them
        return self.kept.pop(0) if len(self.kept) > LATE else None

    def forget(self, name: str) -> bool:
        """Drop all that is known of an episode; whether there were rows."""
        self._told.pop(name, None)
        there = self.find(name) is not None
        self.put(name, None)
        return there

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The rows."""
        return packed(self.kept)[0]

    def meta(self) -> Json:
        """What else must be kept."""
        return {"kept": packed(self.kept)[1], "told": [list(one) for one in self._told.items()]}

    def load(self, tensors: Mapping[str, NDArray[Any]], meta: Json) -> None:
        """Take over what `tensors` and `meta` gave."""
        heads: Sequence[Json] = meta["kept"]
        self.kept = unpacked(tensors, heads)
        self._told = {str(name): str(said) for name, said in meta["told"]}


def changed_by_ratings(episode: SeenEpisode, noise: NoiseModel, weight: Callable[[Label], float]) -> Kept | None:
    """The rows of `episode` to which ratings give another label, the others without weight; None where there are none.

    Without records of the workers: what is known of them now may know the episode's labels.
    """
    episodes = episode, with_ratings(episode, ())
    labels, before = (rollout_labels(one, noise) for one in episodes)
    steps, steps_before = (
        step_labels(one, told, people=noise.people) for one, told in zip(episodes, (labels, before), strict=True)
    )
    weights = [weight(label) if label != old else 0.0 for label, old in zip(labels, before, strict=True)]
    changed = [
        [step if step != old else replace(step, rollouts=0.0) for step, old in zip(row, old_row, strict=True)]
        for row, old_row in zip(steps, steps_before, strict=True)
    ]
    kept = keep(episode, labels, changed, weights, {})
    return kept if kept.weights.any() else None
