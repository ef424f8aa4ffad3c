"""Contextual bandits to measure the router against: LinUCB and LinTS (mabwiser), SquareCB and RegCB (Vowpal Wabbit).

Each is told the query in the critic's own inputs: a constant, the embedding projected to 96 numbers, 14 text features
and the prior's probabilities of the six workers. Each sees one of two amounts of information a query:

* "alone": the worker that it picks, four rollouts;
* "shared": what our router's rule takes in, eight rollouts over its three best (or all on one that it is sure of, where
  it has probabilities), every worker's mean reward as an example of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from mabwiser.mab import MAB, LearningPolicy

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.learning.critic import TEXT_SCALE, directions
from kaelum_graph.learning.router_learner import softmax
from kaelum_graph.types import Array, WorkerName


class Rival(Protocol):
    """A bandit over the workers."""

    def allocation(self, context: Array, *, shared: bool) -> Mapping[WorkerName, int]:
        """Rollouts by worker for the next query."""
        ...

    def learn(self, context: Array, rewards: Mapping[WorkerName, float], *, shared: bool) -> None:
        """The mean reward of each worker that took part."""
        ...

    def greedy(self, contexts: Array, priors: Array) -> Array:
        """`[N]`: the worker that it holds best for each query; ties go to the prior."""
        ...


def context_of(features: Array, prior: Array) -> Array:
    """`[117]`: what a rival is told of a query."""
    projected = np.asarray(features[:EMBEDDING_SIZE], dtype=np.float64) @ directions()
    return np.concatenate([[1.0], projected, TEXT_SCALE * features[EMBEDDING_SIZE:], softmax(prior)])


class Linear:
    """LinUCB or LinTS of mabwiser. Greedy is by its ridge estimates, without exploration."""

    def __init__(self, workers: Sequence[WorkerName], *, kind: str, alpha: float, ridge: float, seed: int) -> None:
        policy = LearningPolicy.LinUCB if kind == "ucb" else LearningPolicy.LinTS
        self.workers = tuple(workers)
        self.bandit = MAB(list(workers), policy(alpha=alpha, l2_lambda=ridge), seed=seed)
        self.fitted = False

    def allocation(self, context: Array, *, shared: bool) -> Mapping[WorkerName, int]:
        # Before anything was seen the prior decides, as it does for our router.
        worth: Mapping[WorkerName, float] = (
            self.bandit.predict_expectations([context])  # type: ignore[assignment]
            if self.fitted
            else dict(zip(self.workers, context[-len(self.workers) :].tolist(), strict=True))
        )
        ranked = sorted(self.workers, key=lambda name: -worth[name])
        return {ranked[0]: 4, ranked[1]: 2, ranked[2]: 2} if shared else {ranked[0]: 4}

    def learn(self, context: Array, rewards: Mapping[WorkerName, float], *, shared: bool) -> None:
        learn: Callable[..., None] = self.bandit.partial_fit if self.fitted else self.bandit.fit
        learn(list(rewards), list(rewards.values()), [context.tolist()] * len(rewards))
        self.fitted = True

    def greedy(self, contexts: Array, priors: Array) -> Array:
        if not self.fitted:
            return priors.argmax(axis=1)
        implementation: Any = self.bandit._imp  # its estimates without exploration have no public name
        worth = np.stack([contexts @ implementation.arm_to_model[name].beta for name in self.workers], axis=1)
        return best(worth, priors)


class Vowpal:
    """Vowpal Wabbit's action-dependent exploration. Greedy is the most probable worker of its own distribution."""

    def __init__(self, workers: Sequence[WorkerName], *, options: str, rate: float, seed: int) -> None:
        from vowpalwabbit import Workspace

        self.workers = tuple(workers)
        self.random = np.random.default_rng([seed, 8])
        self.bandit: Any = Workspace(
            f"--cb_explore_adf {options} --cb_type mtr -q SA --learning_rate {rate} --random_seed {seed + 1} --quiet"
        )
        self.last: Array = np.full(len(workers), 1 / len(workers))

    def text(self, context: Array, label: tuple[int, float, float] | None = None) -> str:
        numbers = " ".join(f"{place}:{value:.5f}" for place, value in enumerate(context) if value)
        prior = context[-len(self.workers) :]
        lines = [f"shared |S {numbers}"]
        for place, name in enumerate(self.workers):
            told = f"{label[0]}:{label[1]:.5f}:{label[2]:.5f} " if label and label[0] == place else ""
            lines.append(f"{told}|A {name} |P prior:{prior[place]:.5f}")
        return "\n".join(lines)

    def odds(self, context: Array) -> Array:
        found = np.array(self.bandit.predict(self.text(context)), dtype=float)
        return found / found.sum()

    def allocation(self, context: Array, *, shared: bool) -> Mapping[WorkerName, int]:
        self.last = self.odds(context)
        if not shared:
            return {self.workers[int(self.random.choice(len(self.workers), p=self.last))]: 4}
        # Sampled without putting back: the first is its own draw, the others keep it company.
        keys = np.log(np.maximum(self.last, 1e-6)) + self.random.gumbel(size=len(self.workers))
        ranked = [self.workers[int(place)] for place in np.argsort(-keys)]
        return {ranked[0]: 4, ranked[1]: 2, ranked[2]: 2}

    def learn(self, context: Array, rewards: Mapping[WorkerName, float], *, shared: bool) -> None:
        for name, reward in rewards.items():
            place = self.workers.index(name)
            odds = 1.0 if shared else max(float(self.last[place]), 1e-3)
            self.bandit.learn(self.text(context, (place, 1.0 - reward, odds)))

    def greedy(self, contexts: Array, priors: Array) -> Array:
        return best(np.stack([self.odds(context) for context in contexts]), priors)


def best(worth: Array, priors: Array) -> Array:
    """`[N]`: the best column of each row; of equal ones the prior's favourite."""
    tied = worth >= worth.max(axis=1, keepdims=True) - 1e-6
    return np.where(tied, priors, -np.inf).argmax(axis=1)
