"""One part of the learned state: what it takes in, and how it is kept."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.types import Json

Tensors = dict[str, NDArray[Any]]


class Component(Protocol):
    """A part that learns from the log, one event after the other, and is a function of the log alone.

    The same events in the same order give the same state, bit for bit: no clock, no global random numbers (seed a
    generator with what the log says), no iteration over sets. A component trains on `Evidence` only.
    """

    name: str

    def learn_episode(self, episode: SeenEpisode) -> None:
        """Take in an answered query. Audit episodes (`episode.audit`) may be counted, never trained on."""
        ...

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        """Take in a rating that came, changed or went. `episode` is the rated one with every person's vote that holds
        now among its evidence (tier H); None where it is gone, or kept nothing to learn from."""
        ...

    def tensors(self) -> Tensors:
        """The learned numbers: copies, that nothing later changes."""
        ...

    def meta(self) -> Json:
        """What else must be kept, as plain JSON: counts, names, versions."""
        ...

    def load(self, tensors: Tensors, meta: Json) -> None:
        """Take over what `tensors` and `meta` gave. Raises `ValueError` for what is not this component's."""
        ...
