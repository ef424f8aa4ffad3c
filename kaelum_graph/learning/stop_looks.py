"""What a search that may stop looks at after some of its rollouts, and what it would lose by stopping there.

Which answer stands is evidence's to say (`weigh`), never a model's: a look only describes the vote.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.clusters import Cluster
from kaelum_graph.evidence import Evidence
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.learning.ratings import voted_later
from kaelum_graph.posterior import Standing, weigh
from kaelum_graph.stopping import leader_is_certain
from kaelum_graph.tree import anchored_outcome
from kaelum_graph.types import Candidate, RolloutId

LOOK_FEATURES = (
    "share", "margin", "lead", "count", "clusters", "entropy", "confidence", "gap", "workers", "passes", "fails",
    "unanswered", "refuted", "cut", "left", "tokens",
)  # fmt: skip
"""`share`: the leader's part of the answering mass; `margin`: minus the runner-up's; `lead`: log-odds that the leader's
rate is the higher (Beta, uniform prior); `count`: log(1 + answering mass); `clusters`: distinct answers by rollout;
`entropy`: of the clusters, in nats; `confidence`: P(correct) of the leader by evidence, as log-odds; `gap`: that minus
the next one's; `workers`: the part of the workers that answered whose rollouts are among the leader's; `passes`,
`fails`: the part of the leader's rollouts with such an unanchored vote; `unanswered`, `refuted`, `cut`: the part of all
rollouts without an answer, failed by an anchored check, ended by their token limit; `left`: log of the budget by what
is spent of it; `tokens`: log(1 + mean tokens a rollout)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """A search of `budget` rollouts after the first `count`. `features` `[16]`, in the order of `LOOK_FEATURES`.

    `leader` is the cluster that stands first, None without any answer; `verified`: a rollout passed an anchored check;
    `certain`: the sequential test says that the leading answer can hardly be overtaken (`leader_is_certain`).
    """

    count: int
    budget: int
    leader: int | None
    verified: bool
    certain: bool
    features: NDArray[np.float64]


def look_times(budget: int, *, first: int, most: int) -> list[int]:
    """Rollouts after which a search of `budget` looks whether to stop: waves begin with `first` and double, up to
    `most` a wave. The budget's end is none of them."""
    times: list[int] = []
    spent = min(first, most)
    while 0 < spent < budget:
        times.append(spent)
        spent += min(most, max(first, spent))
    return times


def standings_of(rollouts: Sequence[SeenRollout]) -> list[tuple[int, Standing]]:
    """The clusters among `rollouts` with where they stand, the best first, as the product weighs them."""
    members: dict[int, list[int]] = {}
    for index, rollout in enumerate(rollouts):
        if rollout.cluster is not None:
            members.setdefault(rollout.cluster, []).append(index)
    groups = {number: Cluster(str(number), tuple(members[number])) for number in sorted(members)}
    weighed = weigh(
        list(groups.values()),
        [
            Candidate(
                rollout_id=RolloutId(index), worker=one.worker, text="",
                answer=None if one.cluster is None else str(one.cluster),
            )
            for index, one in enumerate(rollouts)
        ],
        [one.evidence for one in rollouts],
        prefixes=[one.prefix for one in rollouts],
    )  # fmt: skip
    home = {group.members: number for number, group in groups.items()}
    return [(home[standing.cluster.members], standing) for standing in weighed]


def answer_after(episode: SeenEpisode, count: int) -> int | None:
    """The cluster whose answer the search would have given after `count` rollouts; None where it had none.

    People's votes came after the search, so they are left out.
    """
    standings = standings_of(_unrated(episode.rollouts[:count]))
    return standings[0][0] if standings else None


def regret_after(episode: SeenEpisode, count: int) -> float:
    """What stopping after `count` rollouts loses, by the evidence of all of them: in [0, 1].

    It is P(correct) of the answer given at the end less that of the answer given then. 0 where they are one answer;
    little where the two hardly differ in worth, so that an even vote that tips over is no great loss. A person's rating
    counts here: it says what an answer was worth.
    """
    last, then = answer_after(episode, len(episode.rollouts)), answer_after(episode, count)
    if last == then:
        return 0.0
    worth = {number: standing.confidence for number, standing in standings_of(episode.rollouts)}
    before = 0.0 if then is None else worth[then]
    return max(0.0, (0.0 if last is None else worth[last]) - before)


def look_at(rollouts: Sequence[SeenRollout], *, budget: int) -> Look:
    """A search of `budget` rollouts that has come to `rollouts`."""
    seen = _unrated(rollouts)
    standings = standings_of(seen)
    masses = np.array([standing.share for _, standing in standings] or [0.0])
    answering = len({one.prefix for one in seen if one.cluster is not None})
    by_mass = np.sort(masses)[::-1]
    leader, best = standings[0] if standings else (None, None)
    first = best.share if best else 0.0
    # The runner-up is the heaviest other cluster; evidence may have put a lighter one first.
    second = max((standing.share for number, standing in standings if number != leader), default=0.0)
    members = [seen[index] for index in best.cluster.members] if best else []
    confidences = [_logit(standing.confidence) for _, standing in standings] or [_logit(0.05)]
    outcomes = [anchored_outcome(one.evidence) for one in seen]
    workers = {one.worker for one in seen if one.cluster is not None}
    size = max(len(seen), 1)
    shares = by_mass[by_mass > 0]
    features = np.array(
        [
            first,
            first - second,
            _lead(first * answering, second * answering),
            math.log1p(answering),
            len(standings) / size,
            float(-(shares * np.log(shares)).sum()),
            confidences[0],
            confidences[0] - (confidences[1] if len(confidences) > 1 else _logit(0.05)),
            len({one.worker for one in members}) / max(len(workers), 1),
            _part(members, "pass"),
            _part(members, "fail"),
            sum(one.cluster is None for one in seen) / size,
            outcomes.count("fail") / size,
            sum(one.finish == "length" for one in seen) / size,
            math.log(max(budget, size) / size),
            math.log1p(sum(one.tokens for one in seen) / size),
        ],
        dtype=np.float64,
    )
    return Look(
        count=len(seen),
        budget=budget,
        leader=leader,
        verified="pass" in outcomes,
        certain=_certain(seen, outcomes),
        features=features,
    )


def _certain(seen: Sequence[SeenRollout], outcomes: Sequence[str | None]) -> bool:
    """`stopping.evidence_halt`'s test on the answers that no anchored check has refuted."""
    prefixes: dict[int, set[int]] = {}
    for one, outcome in zip(seen, outcomes, strict=True):
        if one.cluster is not None and outcome != "fail":
            prefixes.setdefault(one.cluster, set()).add(one.prefix)
    masses = sorted((len(own) for own in prefixes.values()), reverse=True)
    return bool(masses) and leader_is_certain(masses[0], masses[1] if len(masses) > 1 else 0)


def _unrated(rollouts: Sequence[SeenRollout]) -> list[SeenRollout]:
    """The rollouts as they were when the search ran: without the votes that came later."""
    return [
        replace(rollout, evidence=tuple(vote for vote in rollout.evidence if not voted_later(vote)))
        if any(map(voted_later, rollout.evidence))
        else rollout
        for rollout in rollouts
    ]


def _part(members: Sequence[SeenRollout], outcome: str) -> float:
    voted = [any(_unanchored(vote, outcome) for vote in one.evidence) for one in members]
    return sum(voted) / max(len(voted), 1)


def _unanchored(vote: Evidence, outcome: str) -> bool:
    return not vote.tier.anchored and vote.outcome == outcome


def _lead(leader: float, runner_up: float) -> float:
    """Log-odds that the leader's rate against the runner-up is above one half: the sequential test's own statistic."""
    first, second = round(leader), round(runner_up)
    draws = first + second + 1
    below = sum(math.comb(draws, k) for k in range(first + 1, draws + 1)) / 2**draws
    return math.log((1.0 - below) / below) if below < 1.0 else -math.log(2.0**draws)


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))
