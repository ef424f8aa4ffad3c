"""Small learners and episodes to test the log and the learner with."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.types import EpisodeId, Json, WorkerName

MATH = WorkerName("math")
PRIME = (1 << 61) - 1


def seen(name: str, *, value: float = 0.5, tenant: str = "") -> SeenEpisode:
    """An episode of one rollout; `value` is its first feature, for a learner to predict."""
    features = np.zeros(398, dtype=np.float32)
    features[0] = value
    rollout = SeenRollout(
        worker=MATH,
        operator="sample",
        blind=True,
        cluster=0,
        prefix=0,
        evidence=(Evidence(tier=Tier.EXECUTION, source="tests", outcome="pass"),),
        tokens=7,
        finish="stop",
    )
    return SeenEpisode(
        id=EpisodeId(name),
        tenant=tenant,
        features=features,
        probabilities={MATH: 1.0},
        propensities={MATH: 1.0},
        allocation={MATH: 1},
        answers=("4",),
        chosen=0,
        shown=0,
        rollouts=(rollout,),
    )


class Order:
    """Remembers which events came in which order: one left out, repeated or swapped gives another number."""

    name = "order"

    def __init__(self) -> None:
        self.digest, self.events = 0, 0

    def take(self, text: str) -> None:
        self.digest = (self.digest * 1_000_003 + zlib.crc32(text.encode()) + 1) % PRIME
        self.events += 1

    def learn_episode(self, episode: SeenEpisode) -> None:
        self.take(f"episode {episode.id}")

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        people = [] if episode is None else [vote for vote in episode.rollouts[0].evidence if vote.tier is Tier.HUMAN]
        before, after = (rating and rating.score for rating in (change.before, change.after))
        self.take(f"{change.action} {before} {after} {episode and episode.id} {[vote.outcome for vote in people]}")

    def tensors(self) -> Tensors:
        return {"digest": np.array([self.digest], dtype=np.int64)}

    def meta(self) -> Json:
        return {"events": self.events}

    def load(self, tensors: Tensors, meta: Json) -> None:
        self.digest, self.events = int(tensors["digest"][0]), meta["events"]


class Mean:
    """Learns the mean of the episodes' values (times `factor`), and is judged by how far off it is."""

    name = "mean"

    def __init__(self, *, factor: float = 1.0, name: str = "mean") -> None:
        self.name, self.factor = name, factor
        self.total, self.count = 0.0, 0

    @property
    def value(self) -> float:
        return self.factor * self.total / self.count if self.count else 0.0

    def learn_episode(self, episode: SeenEpisode) -> None:
        if not episode.audit:
            self.total += float(episode.features[0])
            self.count += 1

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        pass

    def loss(self, episode: SeenEpisode) -> float | None:
        return abs(float(episode.features[0]) - self.value)

    def tensors(self) -> Tensors:
        return {"total": np.array([self.total])}

    def meta(self) -> Json:
        return {"count": self.count}

    def load(self, tensors: Tensors, meta: Json) -> None:
        self.total, self.count = float(tensors["total"][0]), meta["count"]


def make_state(extra: Sequence[Mean] = ()) -> LearnedState:
    """An `Order`, which serves at once, and a `Mean`, which must prove itself."""
    return LearnedState([Order(), Mean(), *extra])
