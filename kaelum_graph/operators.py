"""Operators: the ways in which a search makes its next rollout, and what each has been worth to each worker.

sample    a new rollout from the question alone
branch    a rollout that keeps the first steps of an earlier one (where PUCT descends to them, by its learned prior)
refine    a new rollout that is told, in the check's own words, what was wrong with an attempt that failed or crashed
critique  an attempt is shown without a verdict: check it, correct it
verify    a program is written that checks an attempt's answer; it votes on that answer and proposes none

Their worth is learned from anchored evidence alone: of the rollouts an operator made for a worker, how many passed an
anchored check and how many failed, and for how many tokens. Where a query has nothing that can be checked, nothing can
be learned and only `sample` is used: the search then draws exactly as self-consistency does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kaelum_graph.tree import Operator, Rollout, SearchTree, Simulation
from kaelum_graph.types import RolloutId, WorkerName

PSEUDO_COUNTS: dict[Operator, tuple[float, float]] = {
    "sample": (1.0, 3.0),
    "branch": (1.0, 3.0),
    "refine": (1.0, 3.0),
    "critique": (0.5, 5.5),
    "verify": (0.5, 5.5),
}
"""Passes and fails before the first outcome. A small model seldom mends what no check has found fault with (Huang et
al. 2024), so critique and verify begin low and have to earn their place."""

FORGETTING = 400.0
"""Outcomes that count fully; older ones fade, so that a changed model or prompt is noticed."""

MOST_BRANCHING = 4.0
"""Neither samples nor branches are ruled out by what they have been worth."""

MOST_ATTEMPTS = 2
"""Times one failed attempt is shown again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Anchored passes and fails of one operator for one worker, and the tokens its rollouts took in all."""

    passes: float = 0.0
    fails: float = 0.0
    tokens: float = 0.0
    rollouts: float = 0.0

    def plus(self, other: Outcomes) -> Outcomes:
        """Both together; what is older fades."""
        kept = min(1.0, FORGETTING / max(self.rollouts + other.rollouts, 1.0))
        return Outcomes(
            passes=self.passes * kept + other.passes,
            fails=self.fails * kept + other.fails,
            tokens=self.tokens * kept + other.tokens,
            rollouts=self.rollouts * kept + other.rollouts,
        )


Table = Mapping[tuple[WorkerName, Operator], Outcomes]


class OperatorPriors:
    """What the operators have been worth, by worker."""

    def __init__(self, table: Table | None = None) -> None:
        self._table: dict[tuple[WorkerName, Operator], Outcomes] = dict(table or {})

    def learn(self, outcomes: Table) -> None:
        """Add the outcomes of one query."""
        for key, outcome in outcomes.items():
            self._table[key] = self._table.get(key, Outcomes()).plus(outcome)

    def table(self) -> dict[tuple[WorkerName, Operator], Outcomes]:
        """A copy of all outcomes."""
        return dict(self._table)

    def worth(self, worker: WorkerName, operator: Operator) -> float:
        """Mean pass rate, in (0, 1)."""
        passes, fails = self._beta(worker, operator)
        return passes / (passes + fails)

    def choose(self, worker: WorkerName, possible: Iterable[Operator], generator: np.random.Generator) -> Operator:
        """One of `possible` by Thompson sampling on passes per token. each keeps a chance, so all stay in trial."""
        usual = self._tokens(worker, "sample")

        def draw(operator: Operator) -> float:
            return float(generator.beta(*self._beta(worker, operator))) * usual / self._tokens(worker, operator)

        return max(possible, key=draw)

    def branching(self, worker: WorkerName) -> float:
        """Passes per token of branches over those of samples: the prior of a child in PUCT over that of a new draw."""
        sample, branch = (self.worth(worker, one) / self._tokens(worker, one) for one in ("sample", "branch"))
        return min(max(branch / sample, 1.0 / MOST_BRANCHING), MOST_BRANCHING)

    def _beta(self, worker: WorkerName, operator: Operator) -> tuple[float, float]:
        passes, fails = PSEUDO_COUNTS[operator]
        seen = self._table.get((worker, operator), Outcomes())
        return passes + seen.passes, fails + seen.fails

    def _tokens(self, worker: WorkerName, operator: Operator) -> float:
        """Mean tokens of a rollout: before the first ten those of a sample, and of a sample 100."""
        seen = self._table.get((worker, operator), Outcomes())
        usual = 100.0 if operator == "sample" else self._tokens(worker, "sample")
        return (seen.tokens + 10.0 * usual) / (seen.rollouts + 10.0)


def possible_operators(
    tree: SearchTree, worker: WorkerName, *, wave: Sequence[Simulation] = (), reflecting: bool = False
) -> dict[Operator, RolloutId | None]:
    """What may be done next for a worker, and on which attempt; `wave` is what is about to be done already.

    With nothing in the tree that an anchored check has voted on, and no attempt that crashed: `sample` alone. While
    `reflecting` a new rollout may also be made with what was found wrong in general (`refine` without an attempt).
    """
    possible: dict[Operator, RolloutId | None] = {"sample": None}
    if reflecting:
        possible["refine"] = None
    if not checkable(tree):
        return possible
    attempts = [rollout for rollout in tree.rollouts if rollout.simulation.worker == worker]
    shown: dict[RolloutId, int] = {}
    made = [rollout.simulation for rollout in tree.rollouts]
    for simulation in [*made, *wave]:
        if simulation.target is not None:
            shown[simulation.target] = shown.get(simulation.target, 0) + 1

    def next_of(candidates: list[Rollout]) -> RolloutId | None:
        open_ = [rollout for rollout in candidates if shown.get(rollout.id, 0) < MOST_ATTEMPTS]
        # The least shown first, and of those the newest: it had the most to go on.
        return min(open_, key=lambda rollout: (shown.get(rollout.id, 0), -rollout.id)).id if open_ else None

    failed = [rollout for rollout in attempts if fault(rollout) is not None]
    answered = [rollout for rollout in attempts if rollout.candidate.answer is not None and rollout.outcome != "pass"]
    if (target := next_of(failed)) is not None:
        possible["refine"] = target
    if (target := next_of(answered)) is not None:
        possible["critique"] = target
        verified = any(simulation.operator == "verify" for simulation in [*made, *wave])
        if tree.rollouts[target].outcome is None and not verified:
            possible["verify"] = target
    return possible


def checkable(tree: SearchTree) -> bool:
    """True once an anchored check has voted on some rollout, or the program of one has crashed."""
    return any(fault(rollout) is not None or rollout.outcome == "pass" for rollout in tree.rollouts)


def fault(rollout: Rollout) -> str | None:
    """What is objectively wrong with an attempt, in the words of what found it; None when nothing is known to be.

    An answer that is merely missing is none, nor is a turn that was cut off.
    """
    for vote in rollout.evidence:
        if vote.tier.anchored and vote.outcome == "fail":
            return vote.reason
    made = rollout.candidate
    return made.error if made.program is not None and rollout.finish == "stop" else None


def outcomes_of(tree: SearchTree, *, first: int = 0) -> dict[tuple[WorkerName, Operator], Outcomes]:
    """What each operator came to in a tree, from rollout `first` on. Only anchored votes count as pass or fail.

    Counted are the rollouts of waves in which there was a choice: a query that the first samples solve says nothing
    of what to do when they don't.
    """
    found: dict[tuple[WorkerName, Operator], Outcomes] = {}
    if not any(rollout.outcome for rollout in tree.rollouts):
        return found
    chosen_from = next((rollout.wave for rollout in tree.rollouts if fault(rollout) is not None), None)
    for rollout in tree.rollouts[first:]:
        if chosen_from is None or rollout.wave <= chosen_from or rollout.finish not in ("stop", "length"):
            continue
        operator = rollout.simulation.operator
        key = (rollout.simulation.worker, operator)
        outcome = rollout.outcome
        # Where some rollouts of a query could be checked, one without an answer is a fail: it was to be had. A program
        # that was to verify fails when it decides nothing; that it decided right is never known, so it never passes.
        undecided = all(vote.outcome == "unscored" for vote in rollout.evidence)
        lost = undecided if operator == "verify" else outcome is None and rollout.candidate.answer is None
        found[key] = found.get(key, Outcomes()).plus(
            Outcomes(
                passes=float(outcome == "pass"),
                fails=float(outcome == "fail" or lost),
                tokens=rollout.completion_tokens,
                rollouts=1.0,
            )
        )
    return found
