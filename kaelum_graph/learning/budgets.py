"""What more rollouts of a query would have been worth, told from the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kaelum_graph.clusters import Cluster
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import TOKEN_PRICE, Label
from kaelum_graph.posterior import weigh
from kaelum_graph.router import BUDGETS
from kaelum_graph.types import Array, Candidate, RolloutId


def answer_after(episode: SeenEpisode, rollouts: int) -> int | None:
    """The cluster that the evidence of the first `rollouts` rollouts would have chosen; None without any answer."""
    seen = episode.rollouts[:rollouts]
    groups: dict[int, list[int]] = {}
    for index, rollout in enumerate(seen):
        if rollout.cluster is not None:
            groups.setdefault(rollout.cluster, []).append(index)
    if not groups:
        return None
    clusters = {Cluster(str(number), tuple(members)): number for number, members in groups.items()}
    candidates = [
        Candidate(rollout_id=RolloutId(index), worker=rollout.worker, text="", answer=None)
        for index, rollout in enumerate(seen)
    ]
    standings = weigh(
        list(clusters), candidates, [rollout.evidence for rollout in seen], prefixes=[one.prefix for one in seen]
    )
    return clusters[standings[0].cluster]


def budget_values(episode: SeenEpisode, labels: Sequence[Label], *, token_price: float = TOKEN_PRICE) -> list[float]:
    """For each of `BUDGETS` that the episode's rollouts reach: P(the answer then chosen is right) less its price.

    `labels` rest on all rollouts, so the answer that was chosen early is judged by what was known late.
    """
    probabilities = {
        rollout.cluster: label.probability for rollout, label in zip(episode.rollouts, labels, strict=True)
    }
    values: list[float] = []
    for budget in BUDGETS:
        if budget > len(episode.rollouts):
            break
        chosen = answer_after(episode, budget)
        spent = sum(rollout.tokens for rollout in episode.rollouts[:budget])
        values.append((0.0 if chosen is None else probabilities[chosen]) - token_price * spent / 1000)
    return values


def budget_gains(values: Sequence[float]) -> Array:
    """`[3]`: what a budget above 4, 8 and 16 is worth over the best one up to there; NaN where that wasn't seen."""
    gains = np.full(len(BUDGETS) - 1, np.nan, dtype=np.float32)
    for place in range(1, len(values)):
        gains[place - 1] = max(values[place:]) - max(values[:place])
    return gains
