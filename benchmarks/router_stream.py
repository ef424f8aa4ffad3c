"""The rollout bank as a stream for routers: what each worker earned on each query, and an order to see them in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import BankQuery, bank_queries, prior_router
from kaelum_graph.learning.budgets import answer_after
from kaelum_graph.learning.episode import SeenEpisode, clusters_of
from kaelum_graph.learning.labels import TOKEN_PRICE, rollout_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.types import Array, WorkerName

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_HALF = (
    "chain_sum", "simple_equations", "gcd", "gsm_symbolic", "fraction_simplification", "leg_counting", "syllogism",
    "comparisons",
)  # fmt: skip
"""Families of the first half of the stream whose mix shifts: sums and deductions. The rest come after."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterBank:
    """N queries, W workers, R rollouts each. `rewards` and `rights` are for evaluation: labels from all rollouts of the
    query less the token price, and the scorer's word."""

    queries: list[BankQuery]
    workers: tuple[WorkerName, ...]
    features: Array  # [N, 398]
    priors: Array  # [N, W] prior logits
    rewards: Floats  # [N, W, R]
    rights: Floats  # [N, W, R]
    sorts: NDArray[np.str_]  # [N]
    families: NDArray[np.str_]  # [N]
    tasks: Ints  # [N], the number in the family

    def rows(self, sort: str, *, parity: int | None = None) -> Ints:
        """Queries of one sort, of even (0) or odd (1) number alone where `parity` is given."""
        chosen = self.sorts == sort
        if parity is not None:
            chosen &= self.tasks % 2 == parity
        return np.flatnonzero(chosen)

    def values(self, kind: str) -> Floats:
        """`[N, W]`: mean reward or accuracy of each worker."""
        return (self.rewards if kind == "reward" else self.rights).mean(axis=2)


def read(folder: Path) -> RouterBank:
    """The judged bank."""
    queries = bank_queries(folder)
    router = prior_router()
    noise = NoiseModel()
    least = min(len(drawn) for query in queries for drawn in query.drawn.values())
    rewards = np.zeros((len(queries), len(router.workers), least))
    for row, query in enumerate(queries):
        allocation = dict.fromkeys(router.workers, least)
        episode, _ = query.episode(allocation, probabilities={}, propensities={})
        labels = rollout_labels(episode, noise)
        gained = [
            label.probability - TOKEN_PRICE * rollout.tokens / 1000
            for label, rollout in zip(labels, episode.rollouts, strict=True)
        ]
        rewards[row] = np.array(gained).reshape(len(router.workers), least)
    rights = [[[one.right for one in query.drawn[name][:least]] for name in router.workers] for query in queries]
    return RouterBank(
        queries=queries,
        workers=router.workers,
        features=np.stack([query.features for query in queries]),
        priors=np.stack([router.prior(query.features) for query in queries]),
        rewards=rewards,
        rights=np.array(rights, dtype=float),
        sorts=np.array([query.sort for query in queries]),
        families=np.array([query.family for query in queries]),
        tasks=np.array([int(query.name.split("/")[2]) for query in queries]),
    )


def drawn_episode(
    bank: RouterBank,
    row: int,
    allocation: Mapping[WorkerName, int],
    *,
    probabilities: Mapping[WorkerName, float],
    propensities: Mapping[WorkerName, float],
    generator: np.random.Generator,
    id: str,
) -> tuple[SeenEpisode, float]:
    """What a search with this allocation would have seen, in random order, and whether its answer was right.

    A worker gives at most the rollouts that the bank has of it.
    """
    query = bank.queries[row]
    picked = [
        query.drawn[name][int(place)]
        for name, count in allocation.items()
        for place in generator.permutation(len(query.drawn[name]))[:count]
    ]
    picked = [picked[int(place)] for place in generator.permutation(len(picked))]
    episode = query.episode_of(picked, allocation, probabilities=probabilities, propensities=propensities, id=id)
    chosen = answer_after(episode, len(picked))
    right = chosen is not None and any(picked[place].right for place in clusters_of(episode)[chosen])
    return episode, float(right)


def order_of(rows: Ints, seed: int) -> Ints:
    """One of the stream orders."""
    return np.random.default_rng([seed, 5]).permutation(rows)


def shifted_order(bank: RouterBank, rows: Ints, seed: int) -> Ints:
    """An order whose first half has other families than the second; as many of each."""
    generator = np.random.default_rng([seed, 6])
    early = np.isin(bank.families[rows], FIRST_HALF)
    halves = [generator.permutation(rows[early]), generator.permutation(rows[~early])]
    size = min(len(half) for half in halves)
    return np.concatenate([half[:size] for half in halves])


def informed_oracle(values: Floats, families: NDArray[np.str_], *, strength: float = 2.0) -> tuple[Floats, Ints]:
    """The best worker of each query, without the winner's bias: `[N]` its worth, `[N, 2]` the choices.

    Chosen by one half of the rollouts, shrunk to the mean of the family's other queries (as `strength` rollouts), and
    scored by the other half; both ways, averaged. A lower bound of the true oracle.
    """
    size, _, rollouts = values.shape
    half = rollouts // 2
    parts = (values[:, :, :half], values[:, :, half:])
    worth, choices = np.zeros(size), np.zeros((size, 2), dtype=np.int64)
    for turn, (choosing, scoring) in enumerate((parts, parts[::-1])):
        for row in range(size):
            others = (families == families[row]) & (np.arange(size) != row)
            usual = values[others].mean(axis=(0, 2)) if others.any() else values.mean(axis=(0, 2))
            shrunk = choosing[row].sum(axis=1) + strength * usual
            choices[row, turn] = shrunk.argmax()
            worth[row] += scoring[row, choices[row, turn]].mean() / 2
    return worth, choices


def best_by_family(values: Floats, families: NDArray[np.str_]) -> Floats:
    """`[N]`: each query's worth with the worker that was best on its family's other queries."""
    size = len(values)
    means = values.mean(axis=2)
    worth = np.zeros(size)
    for row in range(size):
        others = (families == families[row]) & (np.arange(size) != row)
        worth[row] = means[row, means[others].mean(axis=0).argmax() if others.any() else means.mean(axis=0).argmax()]
    return worth


def best_single(values: Floats) -> Floats:
    """`[N]`: each query's worth with the worker that was best on all other queries."""
    means = values.mean(axis=2)
    total = means.sum(axis=0)
    return np.array([row[(total - row).argmax()] for row in means])
