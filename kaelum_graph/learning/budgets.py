"""What more rollouts of a query would have been worth, told from the order in which they came.

A search shows what fewer rollouts than its own would have come to, never what more would have. So a small share of
queries, drawn by the hash of their id, get one budget more than the head chose, and run to its end (`is_beyond`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from kaelum_graph.clusters import Cluster
from kaelum_graph.learning.betting import BettingTest
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import TOKEN_PRICE, Label
from kaelum_graph.posterior import weigh
from kaelum_graph.router import BUDGETS, USUAL
from kaelum_graph.types import Array, Candidate, EpisodeId, RolloutId

BEYOND_SHARE = 0.03
"""Of queries whose budget nobody named: these get the next greater one."""
NEWEST_CASES, WRONGLY = 1000, 0.05
"""Cases of a threshold that are kept, and how often choices that are worth nothing may be taken for more."""


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

    `labels` rest on all rollouts, so the answer that was chosen early is judged by what was known late. Of a search
    that ran to its end all budgets up to its own are known: what a passed check saved, no greater one would have spent,
    and a rollout that proposed nothing was one of them.
    """
    probabilities = {
        rollout.cluster: label.probability for rollout, label in zip(episode.rollouts, labels, strict=True)
    }
    values: list[float] = []
    reached = max(len(episode.rollouts), episode.budget if episode.exhausted else 0)
    for budget in BUDGETS:
        if budget > reached:
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


class BudgetProof:
    """What the head's choices of other budgets than 8 have been worth, and on which thresholds it is to be heard.

    Each threshold is judged by its own newest cases: a bet on their mean may be looked at after every one, and it
    takes a mean above 0 for what it is with a probability of at most 5% of being wrong. What fewer rollouts save is
    always a little, and what they lose is seldom, and a whole answer: hundreds of cases without one are needed.
    """

    def __init__(self) -> None:
        self._cases: list[list[tuple[str, float]]] = [[] for _ in BUDGETS[1:]]
        self._tests = [BettingTest() for _ in self._cases]
        self.trust = np.zeros(len(self._cases), dtype=np.float32)
        """`[3]`, 1 where the head is heard."""

    def add(self, episode: str, leads: Array) -> None:
        """Take in an episode's `budget_leads`."""
        for place in np.flatnonzero(~np.isnan(leads)).tolist():
            cases = self._cases[place]
            cases.append((episode, float(leads[place])))
            if len(cases) > NEWEST_CASES:
                del cases[0]
                self._judge(place)
            else:
                self._bet(place, cases[-1][1])

    def revise(self, episode: str, gains: Array) -> None:
        """Let an episode's `budget_gains` have been others, where it is known."""
        for place, cases in enumerate(self._cases):
            if any(name == episode for name, _ in cases):
                lead = float(gains[place]) if place >= USUAL else -float(gains[place])
                now = [(name, lead if name == episode else old) for name, old in cases]
                self._cases[place] = [case for case in now if not np.isnan(case[1])]
                self._judge(place)

    def leads(self) -> dict[str, Array]:
        """The cases' leads, by threshold."""
        return {str(place): np.array([lead for _, lead in cases]) for place, cases in enumerate(self._cases)}

    def episodes(self) -> list[list[str]]:
        """The cases' episodes, by threshold."""
        return [[name for name, _ in cases] for cases in self._cases]

    def load(self, leads: Mapping[str, Array], episodes: Sequence[Sequence[str]]) -> None:
        """Take over what `leads` and `episodes` gave. Raises `KeyError` or `ValueError`."""
        self._cases = [
            list(zip(names, leads[str(place)].tolist(), strict=True)) for place, names in enumerate(episodes)
        ]
        for place in range(len(self._cases)):
            self._judge(place)

    def _judge(self, place: int) -> None:
        self._tests[place], self.trust[place] = BettingTest(), 0.0
        for _, lead in self._cases[place]:
            self._bet(place, lead)

    def _bet(self, place: int, lead: float) -> None:
        self._tests[place].add(max(lead, -1.0))
        self.trust[place] = self._tests[place].rejects(WRONGLY)
