"""The newest queries that the router has learned from, kept to be learned from again and to be corrected by ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.critic import Doubles
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import Reward
from kaelum_graph.types import Array, WorkerName


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Experience:
    """One query by worker. `rollouts` is 0 where a worker took no part; then its reward is 0 and says nothing.

    `foreseen` are the critic's values before it had learned from this query; `lead` is by how much reward the policy
    with the hidden layers would have done better on it than the critic's own, as both were then.
    """

    episode: str
    forced: bool
    features: Array  # [398] float32
    prior: Array  # [W] float32, prior logits
    inputs: Doubles  # [W, 112], the critic's
    rollouts: Doubles  # [W]
    rewards: Doubles  # [W]
    propensities: Doubles  # [W]
    foreseen: Doubles  # [W]
    lead: float
    gains: Array  # [3] float32

    @property
    def rows(self) -> list[int]:
        """The workers that took part."""
        return [int(row) for row in np.flatnonzero(self.rollouts)]

    def with_rewards(self, rewards: Doubles, gains: Array) -> Experience:
        """The same query after its labels have changed."""
        return replace(self, rewards=rewards, gains=gains)


def of_the_draw(episode: SeenEpisode, rewards: Mapping[WorkerName, Reward]) -> dict[WorkerName, Reward]:
    """The rewards of the workers that the route was drawn with. One that joined later was asked because the others had
    come to nothing: no propensity says how probable that was, and what it earned is of hard queries alone."""
    return {name: reward for name, reward in rewards.items() if name in episode.allocation}


def reward_row(rewards: Mapping[WorkerName, Reward], workers: Sequence[WorkerName]) -> tuple[Doubles, Doubles]:
    """Mean rewards and numbers of rollouts `[W]` in the order of `workers`."""
    found = [rewards.get(name) for name in workers]
    means = np.array([0.0 if reward is None else reward.mean for reward in found])
    return means, np.array([0.0 if reward is None else float(reward.rollouts) for reward in found])


def propensity_row(episode: SeenEpisode, workers: Sequence[WorkerName]) -> Doubles:
    """The probabilities `[W]` with which each worker was to take part; 0 for one that had no chance."""
    return np.array([float(episode.propensities.get(name, 0.0)) for name in workers])


PER_WORKER = ("rollouts", "rewards", "propensities", "foreseen")


def packed(kept: Sequence[Experience], workers: int) -> Tensors:
    """The experiences as stacked arrays, without what is made again from the features and the prototypes."""
    made: Tensors = {
        "features": np.stack([one.features for one in kept]) if kept else np.zeros((0, 0), np.float32),
        "gains": np.stack([one.gains for one in kept]) if kept else np.zeros((0, 3), np.float32),
        "lead": np.array([one.lead for one in kept], dtype=np.float64),
        "forced": np.array([one.forced for one in kept], dtype=np.uint8),
    }
    for name in PER_WORKER:
        rows: list[Doubles] = [getattr(one, name) for one in kept]
        made[name] = np.stack(rows) if rows else np.zeros((0, workers))
    return {f"replay/{name}": array for name, array in made.items()}


def unpacked(
    tensors: Tensors,
    episodes: Sequence[str],
    inputs: Callable[[Array], tuple[Array, Doubles]],
    rows: Sequence[int | None],
) -> list[Experience]:
    """What `packed` gave, for workers of which the i-th was the saved `rows[i]`-th (None: new).

    `inputs` gives the prior logits and the critic's inputs of a query's features.
    """

    def mapped(values: NDArray[np.float64]) -> Doubles:
        return np.array([0.0 if row is None else float(values[row]) for row in rows])

    kept: list[Experience] = []
    for index, episode in enumerate(episodes):
        features = np.array(tensors["replay/features"][index])
        prior, made = inputs(features)
        kept.append(
            Experience(
                episode=episode,
                forced=bool(tensors["replay/forced"][index]),
                features=features,
                prior=prior,
                inputs=made,
                lead=float(tensors["replay/lead"][index]),
                gains=np.array(tensors["replay/gains"][index]),
                **{name: mapped(tensors[f"replay/{name}"][index]) for name in PER_WORKER},
            )
        )
    return kept
