"""What reward each worker may expect on a query: Bayesian linear regression that pools over workers and pairs queries.

The reward of worker w on query q with inputs ψ is modelled as

    r = ψ · (shared + own_w) + u_q + noise,      u_q ~ N(0, QUERY),      noise ~ N(0, PLACE + ROLLOUT / rollouts)

All workers that took part in a query share u_q, how easy it is beyond what ψ can tell. Integrated out, it makes their
rewards correlated, so that a query that several workers shared teaches mostly how they differ: the group-relative
baseline, in conjugate form. `shared` is what is so for every worker, so a new worker doesn't begin from nothing.

The inputs are a constant, the worker's prior probability, a fixed random projection of the query's embedding to 96
numbers (distances survive it: Johnson and Lindenstrauss 1984) and the 14 text features. The posterior is exact (one
Kalman update a query); its mean is linear in the router's 398 features, so the router can take it over as a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.router import FEATURES, PRIOR_SCALE
from kaelum_graph.types import Array

Doubles = NDArray[np.float64]

PROJECTED = 96
TEXT = FEATURES - EMBEDDING_SIZE
INPUTS = 2 + PROJECTED + TEXT
TEXT_SCALE = 0.5
"""Text features are near 0.2 where an embedding's length is 1."""

MEAN, TRUST = 0.25, 0.25
"""Before anything is known: the mean reward, and what a prior probability of 1 adds to one of 0."""

SHARED_VARIANCE = (0.03, 0.03, 0.02)
OWN_VARIANCE = (0.015, 0.01, 0.03)
"""Prior variances of the coefficients of the constant, of the prior probability, and of each of the other inputs."""

QUERY, PLACE, ROLLOUT = 0.01, 0.01, 0.04
"""Variances of u_q, of a worker's own luck with a query, and of one rollout's reward.

Variances here and above are one to three times what type II maximum likelihood finds on 48 queries of the bank's tuning
half, on the careful side; routing with the fitted ones, or most of them doubled, earned the same within the noise."""


class Critic:
    """The posterior over the coefficients `[(1 + W) · 112]`: the shared ones, then each worker's own."""

    def __init__(self, workers: int, *, pairing: bool = True, prior: bool = True) -> None:
        """`pairing` False: the workers of a query count as unrelated. `prior` False: the prior says nothing."""
        self.workers = workers
        self.query = QUERY if pairing else 0.0
        self.place = PLACE if pairing else PLACE + QUERY
        self.trust = TRUST if prior else 0.0
        self.mean = np.zeros((1 + workers) * INPUTS)
        self.mean[:2] = MEAN - self.trust / max(workers, 1), self.trust
        variances = [_variances(SHARED_VARIANCE, prior)] + [_variances(OWN_VARIANCE, prior)] * workers
        self.covariance = np.diag(np.concatenate(variances))

    def inputs(self, features: Array, prior: Array) -> Doubles:
        """ψ `[W, 112]` of a query's features `[398]` and prior probabilities `[W]`."""
        made = np.empty((self.workers, INPUTS))
        made[:, 0] = 1.0
        made[:, 1] = prior
        made[:, 2 : 2 + PROJECTED] = features[:EMBEDDING_SIZE].astype(np.float64) @ directions()
        made[:, 2 + PROJECTED :] = TEXT_SCALE * features[EMBEDDING_SIZE:]
        return made

    def values(self, inputs: Doubles) -> Doubles:
        """`[..., W]`: the expected reward of each worker with inputs `[..., W, 112]`, in units of probability."""
        table = self.mean.reshape(1 + self.workers, INPUTS)
        return (inputs * (table[0] + table[1:])).sum(axis=-1)

    def learn(self, inputs: Doubles, rows: Sequence[int], rewards: Doubles, rollouts: Doubles) -> None:
        """Take in a query's mean `rewards` `[K]` of the workers `rows` over so many `rollouts` `[K]`."""
        cross, factor = self._innovation(inputs, rows, rollouts)
        surprise = rewards - self.values(inputs)[list(rows)]
        gain = np.linalg.solve(factor, cross.T)  # [K, P]
        self.mean = self.mean + gain.T @ np.linalg.solve(factor, surprise)
        self.covariance -= gain.T @ gain

    def revise(self, inputs: Doubles, rows: Sequence[int], rollouts: Doubles, change: Doubles) -> None:
        """Let rewards that were taken in once have been greater by `change` `[K]`: exact, however long ago that was.

        The covariance doesn't depend on rewards, so the mean moves by Σ Hᵀ R⁻¹ · change with the Σ of now.
        """
        cross, _ = self._projected(inputs, rows)
        self.mean = self.mean + cross @ np.linalg.solve(self._noise(rollouts), change)

    def linear(self, rows: Sequence[int | None]) -> tuple[Doubles, Doubles, Doubles]:
        """Expected rewards as weights on the features `[R, 398]`, on the prior probability `[R]`, and offsets `[R]`.

        One row for each worker of `rows`; None is a worker unlike any known one, of whom only the shared part is known.
        """
        blocks = self.mean.reshape(1 + self.workers, INPUTS)
        table = blocks[0] + np.stack([np.zeros(INPUTS) if row is None else blocks[1 + row] for row in rows])
        weights = np.concatenate(
            [table[:, 2 : 2 + PROJECTED] @ directions().T, TEXT_SCALE * table[:, 2 + PROJECTED :]], axis=1
        )
        return weights, table[:, 1], table[:, 0]

    def packed(self) -> Doubles:
        """The upper triangle of the covariance, row by row."""
        return self.covariance[np.triu_indices(len(self.mean))]

    def take_over(self, mean: Doubles, packed: Doubles, rows: Sequence[int | None]) -> None:
        """Load what `mean` and `packed` gave; this one's worker i was the saved one's `rows[i]`, None for a new one.

        A worker that is gone is integrated out; a new one starts from what holds for all. Raises `ValueError`.
        """
        size = len(mean)
        if size % INPUTS or len(packed) != size * (size + 1) // 2:
            raise ValueError(f"a critic of {size} coefficients and {len(packed)} covariances: expected a saved one.")
        saved = np.zeros((size, size))
        saved[np.triu_indices(size)] = packed
        saved = np.triu(saved) + np.triu(saved, 1).T
        blocks = [(0, 0)] + [(1 + here, 1 + there) for here, there in enumerate(rows) if there is not None]
        to = np.concatenate([np.arange(INPUTS) + here * INPUTS for here, _ in blocks])
        came = np.concatenate([np.arange(INPUTS) + there * INPUTS for _, there in blocks])
        self.mean[to] = mean[came]
        self.covariance[np.ix_(to, to)] = saved[np.ix_(came, came)]

    def _projected(self, inputs: Doubles, rows: Sequence[int]) -> tuple[Doubles, Doubles]:
        """Σ Hᵀ `[P, K]` and H Σ Hᵀ `[K, K]`."""
        own = [slice((1 + row) * INPUTS, (2 + row) * INPUTS) for row in rows]
        # Rows in place of columns, which the covariance has the same: they lie together in memory.
        cross = np.stack(
            [
                inputs[row] @ self.covariance[:INPUTS] + inputs[row] @ self.covariance[place]
                for row, place in zip(rows, own, strict=True)
            ],
            axis=1,
        )
        inner = np.stack(
            [inputs[row] @ (cross[:INPUTS] + cross[place]) for row, place in zip(rows, own, strict=True)], axis=0
        )
        return cross, inner

    def _noise(self, rollouts: Doubles) -> Doubles:
        return np.diag(ROLLOUT / rollouts + self.place) + self.query

    def _innovation(self, inputs: Doubles, rows: Sequence[int], rollouts: Doubles) -> tuple[Doubles, Doubles]:
        cross, inner = self._projected(inputs, rows)
        factor = np.linalg.cholesky((inner + inner.T) / 2 + self._noise(rollouts))
        return cross, np.asarray(factor, dtype=np.float64)


def prior_logits(features: Array, prototypes: Array) -> Array:
    """`[W]`: what the untrained router says of a query's features `[398]`; `prototypes` `[W, 384]` are its own."""
    return PRIOR_SCALE * (prototypes @ np.asarray(features[:EMBEDDING_SIZE], dtype=np.float32))


def softmax(logits: Array) -> Array:
    """`[W]` probabilities."""
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def _variances(three: tuple[float, float, float], prior: bool) -> Doubles:
    made = np.full(INPUTS, three[2])
    made[0], made[1] = three[0], three[1] if prior else 0.0
    return made


@lru_cache(maxsize=1)
def directions() -> Doubles:
    """`[384, 96]`: a fixed random projection that keeps the length of a vector on average."""
    generator = np.random.default_rng([EMBEDDING_SIZE, PROJECTED])
    orthonormal = np.linalg.qr(generator.standard_normal((EMBEDDING_SIZE, PROJECTED)))[0]
    return orthonormal * np.sqrt(EMBEDDING_SIZE / PROJECTED)
