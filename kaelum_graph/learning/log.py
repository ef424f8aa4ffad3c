"""The log that everything is learned from: answered queries and ratings, in one total order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.types import EpisodeId

Kind = Literal["episode", "feedback", "forgotten"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearningEvent:
    """One line of the log. `sequence` grows with time, with gaps; an event committed later has a greater number.

    - "episode": a query was answered, as `episode` tells.
    - "feedback": a rating of `episode` came, changed or went (`change`); `ratings` are all that hold right after it,
      oldest first, and none that came later. `episode` is None where nothing was kept to learn from.
    - "forgotten": the episode was deleted and its events are no more in the log. The first of them had number `first`:
      a state that has come so far may have learned from it.
    """

    sequence: int
    kind: Kind
    episode_id: EpisodeId
    episode: SeenEpisode | None = None
    change: FeedbackChange | None = None
    ratings: tuple[Feedback, ...] = ()
    first: int = 0
