"""What the search has been worth on the queries it served, by evidence alone: no labels, no opinion of a model.

Where a check on the question itself decided, it decided about every rollout of the query. So the same rollouts tell how
often one sample alone would have been right, how often a plain vote over all of them, and how often the answer given
was. Rollouts that the reward model had no part in choosing are drawn at random in every query; beside them, the others
show what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kaelum_graph.clusters import cluster
from kaelum_graph.posterior import mass, weigh
from kaelum_graph.tree import Rollout, SearchTree
from kaelum_graph.types import RolloutId
from kaelum_graph.verdict import unless_form_alone

RESAMPLES = 2000
ENOUGH_QUERIES = 10
"""With fewer an interval would say more than is known."""
ENDED = ("stop", "length")
LED = ("sample", "branch")
"""The operators between which a model's scores choose; the others are chosen without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One query that an anchored check decided. Shares in [0, 1] of what is right, by that check.

    `sample`: of the first wave's plain samples; `vote`: the plain vote over all rollouts (between tied answers, their
    mean); `answer`: the one given. `led`: what the rollouts that the reward model may lead have over the blind ones of
    their wave, in [-1, 1]; None where no wave has both.
    """

    sample: float
    vote: float
    answer: float
    led: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A mean in [0, 1], or of differences in [-1, 1], with its 95% interval over queries; None with too few of them, or
    where they are all alike."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Over `queries` that a check decided, of `kept` ones with a search. `led`: those with rollouts that the
    reward model led beside blind ones."""

    kept: int
    queries: int
    shares: dict[str, Share] = field(default_factory=dict[str, Share])
    led: int = 0


def compared(tree: SearchTree, chosen: RolloutId | None, *, learned: bool = False) -> Compared | None:
    """What a finished search shows; `chosen` is the rollout whose answer was given. None where no check decided.

    With an answer that passed, every other answer of the query counts as wrong, as does a rollout that ended without
    one. Where all that is known is that some are wrong, the query is left out unless that settles all three. `learned`
    says that the learned reward model scored the steps, and not their likelihood alone.
    """
    candidates = [one.candidate for one in tree.rollouts]
    groups = cluster([candidate.answer for candidate in candidates])
    prefixes = tree.prefixes()
    standings = [
        unless_form_alone(standing)
        for standing in weigh(groups, candidates, [one.evidence for one in tree.rollouts], prefixes=prefixes)
    ]
    if all(standing.anchored == "none" for standing in standings):
        return None
    undecided = 0.0 if any(standing.anchored == "pass" for standing in standings) else None
    right: dict[int, float | None] = dict.fromkeys(range(len(tree.rollouts)), 0.0)
    for standing in standings:
        told = {"pass": 1.0, "fail": 0.0, "none": undecided}[standing.anchored]
        right.update(dict.fromkeys(standing.cluster.members, told))
    most = max(mass(group, prefixes) for group in groups)
    leaders = [group.members[0] for group in groups if mass(group, prefixes) == most]
    # A failed server, the deadline or the client cut the others off: no fault of the model's.
    drawn = [one for one in tree.rollouts if one.candidate.answer is not None or one.finish in ENDED]
    first = [one for one in drawn if one.simulation.operator == "sample" and one.wave == tree.rollouts[0].wave]
    sample, vote = _mean([right[one.id] for one in first]), _mean([right[member] for member in leaders])
    answer = 0.0 if chosen is None else right[chosen]
    if sample is None or vote is None or answer is None:
        return None
    led = _led([one for one in drawn if one.wave != tree.rollouts[0].wave], right) if learned else None
    return Compared(sample=sample, vote=vote, answer=answer, led=led)


def lift(found: Sequence[Compared], *, kept: int) -> Lift:
    """The means over queries, and what the answer given has over one sample and over the vote."""
    if not found:
        return Lift(kept=kept, queries=0)
    sample, vote, answer = (np.array([getattr(one, name) for one in found]) for name in ("sample", "vote", "answer"))
    shares = {
        "sample": _share(sample, proportion=True),
        "vote": _share(vote, proportion=True),
        "answer": _share(answer, proportion=True),
        "answer - sample": _share(answer - sample),
        "answer - vote": _share(answer - vote),
    }
    led = [one.led for one in found if one.led is not None]
    if led:
        shares["led - blind"] = _share(np.array(led))
    return Lift(kept=kept, queries=len(found), shares=shares, led=len(led))


def _led(rollouts: Sequence[Rollout], right: Mapping[int, float | None]) -> float | None:
    """The difference within each wave, averaged by how much each tells. In the first wave nothing is led."""
    total = weight = 0.0
    for wave in {one.wave for one in rollouts}:
        mine = [one for one in rollouts if one.wave == wave and one.simulation.operator in LED]
        arms = [[right[one.id] for one in mine if one.simulation.sighted == arm] for arm in (True, False)]
        means = [_mean(arm) for arm in arms]
        if means[0] is not None and means[1] is not None:
            worth = len(arms[0]) * len(arms[1]) / len(mine)
            total, weight = total + worth * (means[0] - means[1]), weight + worth
    return total / weight if weight else None


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there is nothing, or something that is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if values and len(known) == len(values) else None


def _share(values: np.ndarray, *, proportion: bool = False) -> Share:
    mean, count = float(values.mean()), len(values)
    alike = bool((values == values[0]).all())
    # Resampling what is all alike would tell of certainty.
    if count < ENOUGH_QUERIES or (alike and not (proportion and mean in (0.0, 1.0))):
        return Share(mean=mean, low=None, high=None)
    if alike:
        # Wilson's interval (1927), at 1.96 standard errors.
        middle, half = (mean + 1.92 / count) / (1 + 3.84 / count), 1.92 / count / (1 + 3.84 / count)
        return Share(mean=mean, low=middle - half, high=middle + half)
    chance = np.random.default_rng(0)
    means = values[chance.integers(0, count, (RESAMPLES, count))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Share(mean=mean, low=float(low), high=float(high))
