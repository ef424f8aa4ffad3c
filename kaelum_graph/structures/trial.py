"""The trial of a structure: paired within queries, judged by a sequential test, for what it is worth per token.

One query gives one number, its gain in [-1, 1]: the share of the samples with the structure that passed an anchored
check, less the share of those without it. A sample that no check passed is no pass, whether it failed or could not be
read; where nothing passed in either arm the gain is 0, which moves nothing.

Tokens. The share with the structure is multiplied by min(1, tokens a sample without / tokens a sample with), as
measured on the *earlier* queries of the trial: at equal tokens a structure that makes answers a quarter longer gets a
fifth fewer samples, and has to earn that first. What it adds to the prompt counts a quarter. A structure that is
cheaper gets no bonus: it must raise the pass rate itself.

Test. A coin decides in every query which arm begins, so if the structure makes no difference the gain is as likely g as
-g, whatever ended the query. Then exp(s·g) / cosh(s·g) has the mean 1 for every s, the product over queries is a test
martingale, and it ever reaches 1 / alpha with a chance of at most alpha (Ville): it may be looked at after every query.
The token factor only lowers a gain, so the bound holds with it. Two strengths s are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kaelum_graph.structures.base import Arm, RolloutOutcome

Decision = Literal["adopt", "drop", "go on"]

ALPHA = 0.05
"""Chance at most that a structure that makes no difference is ever adopted (or, once adopted, taken away again)."""
ALPHA_DROP = 0.2
"""The same for dropping one on trial. Bolder: what is dropped costs nothing any more."""
MOST_QUERIES = 40
"""Queries of trial after which an undecided structure is dropped: what takes longer to show is not worth its place."""
STRENGTHS = (1.0, 2.0)
"""s of the test. In simulated trials a structure that lifts 10% to 25%, or 40% to 55%, was adopted in 90% and 75% with
arms of four samples, 99% and 95% with arms of eight, 59% and 44% with arms of two; 38% to 61% where each query ended at
its first pass; and one that makes no difference in 2% to 3%. Other strengths beside these two cost up to ten points."""
PROMPT_PRICE = 0.25
"""A prompt's token against a written one. It is read in parallel, and once for all samples of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTotal:
    """Samples of one arm and what they cost in written tokens."""

    rollouts: int = 0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the queries so far have shown; made by `plus` alone. `pairs` are the queries that could tell anything.

    `gains` is the sum of the gains; `favour` and `harm` hold the logarithm of the test martingale of each strength, for
    "it helps" and for "it harms".
    """

    queries: int = 0
    pairs: int = 0
    gains: float = 0.0
    favour: tuple[float, ...] = (0.0,) * len(STRENGTHS)
    harm: tuple[float, ...] = (0.0,) * len(STRENGTHS)
    with_structure: ArmTotal = ArmTotal()
    without: ArmTotal = ArmTotal()

    @property
    def mean_gain(self) -> float:
        """Mean gain of a query that could tell anything, tokens accounted for; 0 before the first."""
        return self.gains / self.pairs if self.pairs else 0.0

    @property
    def token_factor(self) -> float:
        """min(1, tokens a sample without / with the structure); 1 before both arms have samples."""
        if not self.with_structure.rollouts or not self.without.rollouts:
            return 1.0
        dear = self.with_structure.tokens / self.with_structure.rollouts
        cheap = self.without.tokens / self.without.rollouts
        return min(1.0, cheap / dear) if dear > 0.0 else 1.0

    def plus(self, outcomes: Sequence[RolloutOutcome], *, prompt_tokens: int) -> Trial:
        """With one more query. `prompt_tokens`: what the structure adds to a prompt."""
        # The factor is known before this query: a martingale must not look ahead.
        found = gain(outcomes, token_factor=self.token_factor)
        known = 0.0 if found is None else found
        return Trial(
            queries=self.queries + 1,
            pairs=self.pairs + (found is not None),
            gains=self.gains + known,
            favour=tuple(_grown(wealth, s * known) for wealth, s in zip(self.favour, STRENGTHS, strict=True)),
            harm=tuple(_grown(wealth, -s * known) for wealth, s in zip(self.harm, STRENGTHS, strict=True)),
            with_structure=_added(self.with_structure, outcomes, "with", more=PROMPT_PRICE * prompt_tokens),
            without=_added(self.without, outcomes, "without", more=0.0),
        )


def gain(outcomes: Sequence[RolloutOutcome], *, token_factor: float) -> float | None:
    """One query's gain in [-1, 1]; None when it has no sample in one of the arms, or none that a check voted on."""
    arms: dict[Arm, list[bool | None]] = {"with": [], "without": []}
    for outcome in outcomes:
        arms[outcome.arm].append(outcome.passed)
    having, lacking = arms["with"], arms["without"]
    if not having or not lacking or all(passed is None for passed in having + lacking):
        return None
    return token_factor * having.count(True) / len(having) - lacking.count(True) / len(lacking)


def evidence_for(trial: Trial) -> float:
    """The e-value of "it helps": 1 at the start, 20 and more with a chance of at most 5% if it makes no difference."""
    return _mixture(trial.favour)


def evidence_against(trial: Trial) -> float:
    """The e-value of "it harms"."""
    return _mixture(trial.harm)


def decide(trial: Trial) -> Decision:
    """What becomes of a structure on trial, after each of its queries."""
    # Lopsided gains (many small ones, few great losses) can win the test with a loss on the whole.
    if evidence_for(trial) >= 1.0 / ALPHA and trial.mean_gain > 0.0:
        return "adopt"
    if evidence_against(trial) >= 1.0 / ALPHA_DROP or trial.queries >= MOST_QUERIES:
        return "drop"
    return "go on"


def still_good(watch: Trial) -> bool:
    """False once the queries since its adoption have shown that a structure harms."""
    return evidence_against(watch) < 1.0 / ALPHA


def _grown(wealth: float, bet: float) -> float:
    # log(exp(b) / cosh(b)), without overflow for any b.
    return wealth + math.log(2.0) - math.log1p(math.exp(-2.0 * bet))


def _mixture(wealth: Sequence[float]) -> float:
    return sum(math.exp(min(one, 500.0)) for one in wealth) / len(wealth)


def _added(total: ArmTotal, outcomes: Sequence[RolloutOutcome], arm: Arm, *, more: float) -> ArmTotal:
    taken = [outcome.tokens + more for outcome in outcomes if outcome.arm == arm]
    return ArmTotal(rollouts=total.rollouts + len(taken), tokens=total.tokens + sum(taken))
