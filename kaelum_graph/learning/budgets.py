"""What more rollouts of a query would have been worth, told from the order in which they came.

A search shows what fewer rollouts than its own would have come to, never what more would have. So a small share of
queries, drawn by the hash of their id, get one budget more than the head chose, and run to its end (`is_beyond`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from kaelum_graph.clusters import Cluster
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import TOKEN_PRICE, Label
from kaelum_graph.posterior import weigh
from kaelum_graph.router import BUDGETS
from kaelum_graph.types import Array, Candidate, EpisodeId, RolloutId

BEYOND_SHARE = 0.03
"""Of queries whose budget nobody named: these get the next greater one."""
USUAL = BUDGETS.index(8)
"""Where an untrained head's choice stands among the budgets."""


def is_beyond(episode_id: EpisodeId) -> bool:
    """Whether that query gets one budget more than was chosen. What it asks has no part in it."""
    digest = hashlib.sha256(f"beyond {episode_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < BEYOND_SHARE * 2**32


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


def budget_leads(choice: int, gains: Array) -> Array:
    """`[3]`: for each threshold on which a head that chooses `BUDGETS[choice]` differs from one that always chooses 8,
    by how much it was right, by `budget_gains`; NaN where it doesn't differ or that isn't known."""
    leads = np.full_like(gains, np.nan)
    leads[USUAL:choice] = gains[USUAL:choice]
    leads[choice:USUAL] = -gains[choice:USUAL]
    return leads
