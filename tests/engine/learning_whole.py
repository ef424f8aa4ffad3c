"""All that learns, as a process has it, and searches with all that it learns from; no encoder is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kaelum_graph.encoder import EMBEDDING_SIZE, Encoder
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.learning.episode import STATE_SIZE, STEP_SCALARS, RolloutFeatures, SeenEpisode, SeenRollout
from kaelum_graph.learning.service import new_state
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.router import Router
from kaelum_graph.types import Array, EpisodeId, WorkerName

WORKERS = (WorkerName("math"), WorkerName("code"), WorkerName("logic"))


class _Corners(Encoder):
    """Embeds a worker's name along an axis of its own."""

    def __init__(self) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> Array:
        return np.eye(len(WORKERS), EMBEDDING_SIZE, dtype=np.float32)[[WORKERS.index(WorkerName(one)) for one in texts]]


ROUTER = Router(workers={name: name for name in WORKERS}, encoder=_Corners())


def whole_state() -> LearnedState:
    """A process's learned state, with nothing learned yet."""
    return new_state(ROUTER)


def unit(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Vectors of length 1 along the last of the dimensions."""
    drawn = random.standard_normal(shape)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def searched(
    name: str, random: np.random.Generator, *, rollouts: int = 12, anchored: float = 1.0, exhausted: bool = True
) -> SeenEpisode:
    """A search of so many rollouts by the three workers in turn, of two or three steps each.

    `anchored`: how likely a check decides its rollouts; else only a program of the same model has a say.
    """
    decided = bool(random.random() < anchored)
    return SeenEpisode(
        id=EpisodeId(name),
        features=np.concatenate([unit(random, 384), random.random(14)]).astype(np.float32),
        probabilities=dict.fromkeys(WORKERS, 1 / 3),
        propensities=dict.fromkeys(WORKERS, 1 / 3),
        allocation={worker: len(range(place, rollouts, len(WORKERS))) for place, worker in enumerate(WORKERS)},
        answers=("4", "5", "6"),
        chosen=0,
        shown=0,
        exhausted=exhausted,
        rollouts=tuple(_rollout(random, index, decided=decided) for index in range(rollouts)),
    )


def _rollout(random: np.random.Generator, index: int, *, decided: bool) -> SeenRollout:
    right = bool(random.random() < 0.5)
    steps = int(random.integers(2, 4))
    check = Evidence(tier=Tier.EXECUTION, source="tests", outcome="pass" if right else "fail")
    program = Evidence(tier=Tier.CROSS_CHANNEL, source="program", outcome="pass" if random.random() < 0.7 else "fail")
    evidence = (check, program)[: int(random.integers(1, 3))] if decided else (program,)
    return SeenRollout(
        worker=WORKERS[index % len(WORKERS)],
        operator="sample",
        blind=index % 4 == 0,
        cluster=0 if right else int(random.integers(1, 3)),
        prefix=index,
        evidence=evidence,
        tokens=int(random.integers(20, 200)),
        finish="stop",
        features=RolloutFeatures(
            embeddings=unit(random, steps, 384).astype(np.float16),
            scalars=random.standard_normal((steps, len(STEP_SCALARS))).astype(np.float32),
            states=random.standard_normal((steps, STATE_SIZE)).astype(np.float16),
        ),
    )
