"""What the search has been worth on the queries it served, by evidence alone: no labels, no opinion of a model.

Where a check on the question itself decided, it decided about every rollout of the query. So the same rollouts tell how
often one sample alone would have been right, how often a plain vote over all of them, and how often the answer given
was. Rollouts that the reward model had no part in choosing are drawn at random in every query; beside them, the others
show what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kaelum_graph.clusters import cluster
from kaelum_graph.posterior import mass, weigh
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import RolloutId
from kaelum_graph.verdict import unless_form_alone

RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One query that an anchored check decided. Shares in [0, 1] of what is right, by that check.

    `sample`: of the first wave's plain samples; `vote`: the plain vote over all rollouts (between tied answers, their
    mean); `answer`: the one given. `sighted` and `blind`: of the rollouts that the reward model may have had a part in
    choosing, and of the others, in waves that have both; None where no wave has.
    """

    sample: float
    vote: float
    answer: float
    sighted: float | None
    blind: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A mean in [0, 1], or a difference of two, with its 95% interval by bootstrap over queries."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Over `queries` that a check decided, of `kept` ones with a search. Shares are None where there are no queries."""

    kept: int
    queries: int
    shares: dict[str, Share] = field(default_factory=dict[str, Share])
    blinded: int = 0


def compared(tree: SearchTree, chosen: RolloutId | None) -> Compared | None:
    """What a finished search shows; `chosen` is the rollout whose answer was given. None where no check decided.

    With an answer that passed, every other answer of the query counts as wrong, as does a rollout without one. Where
    all that is known is that some are wrong, the query is left out unless that settles all three.
    """
    candidates = [one.candidate for one in tree.rollouts]
    groups = cluster([candidate.answer for candidate in candidates])
    prefixes = tree.prefixes()
    standings = [
        unless_form_alone(standing)
        for standing in weigh(groups, candidates, [one.evidence for one in tree.rollouts], prefixes=prefixes)
    ]
    passed = any(standing.anchored == "pass" for standing in standings)
    right: dict[int, float | None] = dict.fromkeys(range(len(tree.rollouts)), 0.0)
    for standing in standings:
        undecided = 0.0 if passed else None
        told = {"pass": 1.0, "fail": 0.0, "none": undecided}[standing.anchored]
        right.update(dict.fromkeys(standing.cluster.members, told))
    if all(standing.anchored == "none" for standing in standings):
        return None
    most = max(mass(group, prefixes) for group in groups)
    leaders = [group.members[0] for group in groups if mass(group, prefixes) == most]
    first = [one for one in tree.rollouts if one.simulation.operator == "sample" and one.wave == tree.rollouts[0].wave]
    sample, vote = _mean([right[one.id] for one in first]), _mean([right[member] for member in leaders])
    answer = 0.0 if chosen is None else right[chosen]
    if sample is None or vote is None or answer is None:
        return None
    drawn = [one for one in tree.rollouts if one.simulation.operator != "verify"]
    arms = {(one.wave, one.simulation.sighted) for one in drawn}
    # Only waves with both: a later wave has more to go on than the first, in which nothing was chosen.
    fair = [one for one in drawn if {(one.wave, True), (one.wave, False)} <= arms]
    sighted, blind = (_mean([right[one.id] for one in fair if one.simulation.sighted == arm]) for arm in (True, False))
    both = sighted is not None and blind is not None
    return Compared(
        sample=sample, vote=vote, answer=answer, sighted=sighted if both else None, blind=blind if both else None
    )


def lift(found: Sequence[Compared], *, kept: int) -> Lift:
    """The means over queries, and what the answer given has over one sample and over the vote."""
    if not found:
        return Lift(kept=kept, queries=0)
    sample, vote, answer = (np.array([getattr(one, name) for one in found]) for name in ("sample", "vote", "answer"))
    shares = {
        "sample": _share(sample),
        "vote": _share(vote),
        "answer": _share(answer),
        "answer - sample": _share(answer - sample),
        "answer - vote": _share(answer - vote),
    }
    gains = [one.sighted - one.blind for one in found if one.sighted is not None and one.blind is not None]
    if gains:
        shares["sighted - blind"] = _share(np.array(gains))
    return Lift(kept=kept, queries=len(found), shares=shares, blinded=len(gains))


def _mean(values: Sequence[float | None]) -> float | None:
    """None where there is nothing, or something that is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if values and len(known) == len(values) else None


def _share(values: np.ndarray) -> Share:
    chance = np.random.default_rng(0)
    means = values[chance.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Share(mean=float(values.mean()), low=float(low), high=float(high))
