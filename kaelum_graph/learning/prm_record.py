"""What is known of each worker on a query: the label that a Bayesian linear critic (`critic.py`) expects of it there.

It pools over workers, pairs those of a query, and knows the untrained router's prior, so that a query unlike all
learned ones has records too. It is the reward model's own, taught the mean labels of every episode that this learns,
and never forgets one: what an episode taught that is dropped, or rated when it has left the replay buffer, stays in it
as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.learning.critic import Critic, prior_logits, softmax
from kaelum_graph.learning.prm_features import Doubles
from kaelum_graph.learning.prm_replay import Kept
from kaelum_graph.types import Array, WorkerName

LEAST, MOST = 0.02, 0.95
"""Bounds of an expected label, as far as most labels go."""


class Records:
    """The records of `workers`; `prototypes` are `[W, 384]` as `Router.prototypes` has them."""

    def __init__(self, workers: Sequence[WorkerName], prototypes: Array) -> None:
        self.workers = tuple(workers)
        self._prototypes = np.array(prototypes, dtype=np.float32)
        self._critic = Critic(len(self.workers))

    def of(self, query_features: Array) -> dict[WorkerName, float]:
        """Each worker's on a query with the router's features `[398]`, as log-odds."""
        expected = self._critic.values(self._inputs(query_features)).clip(LEAST, MOST)
        return dict(zip(self.workers, np.log(expected / (1 - expected)).tolist(), strict=True))

    def learn(self, query_features: Array, kept: Kept) -> None:
        """Take in an episode's labels. `kept` must hold what `of` said before: `revise` goes by it."""
        means, counts = kept.by_worker(self.workers)
        rows = np.flatnonzero(counts).tolist()
        if rows:
            self._critic.learn(self._inputs(query_features), rows, means[rows], counts[rows])

    def revise(self, query_features: Array, before: Kept, after: Kept) -> None:
        """Let an episode have had other labels from the start: exact. Nothing is changed of workers that `before` has
        no record of: it was not taught here (it had left the replay buffer when it was first rated), or they are
        strangers."""
        known = before.records()
        rows = [row for row, name in enumerate(self.workers) if not np.isnan(known.get(name, np.nan))]
        if rows:
            (old, counts), (new, _) = before.by_worker(self.workers), after.by_worker(self.workers)
            self._critic.revise(self._inputs(query_features), rows, counts[rows], (new - old)[rows])

    def tensors(self) -> dict[str, Doubles]:
        """The critic's mean, and the upper triangle of its covariance."""
        return {"mean": self._critic.mean.copy(), "covariance": self._critic.packed()}

    def load(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `tensors` gave, for the same workers. Raises `ValueError` for another shape."""
        if len(tensors["mean"]) != len(self._critic.mean):
            raise ValueError(f"records of {len(tensors['mean'])} coefficients; expected {len(self._critic.mean)}.")
        self._critic.take_over(tensors["mean"], tensors["covariance"], range(len(self.workers)))

    def _inputs(self, query_features: Array) -> Doubles:
        return self._critic.inputs(query_features, softmax(prior_logits(query_features, self._prototypes)))
