"""How well a model's scores tell good rollouts from bad ones of the same query, and the weight that this earns them.

Across queries a score can look skilled because easy queries get high scores; a search only ever chooses between
rollouts of one query. So skill is the AUROC within queries, measured where an anchored check has told right from wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kaelum_graph.evidence import ModelScore

ENOUGH_QUERIES = 20
"""Below this many queries with both outcomes nothing is known."""
DOUBT = 2.58
"""Standard errors taken off the mean. It is looked at after every query: a score that is no better than chance gets any
weight at any time within 200 queries in one run of 25 (at 1.64 it was one of five)."""
FULL_SKILL = 0.25
"""AUROC above one half at which a score has its whole weight."""


def within_query_auroc(scores: Sequence[ModelScore | None], passed: Sequence[bool | None]) -> float | None:
    """AUROC of one query's scores against its anchored outcomes; None unless both outcomes have scores."""
    pairs = [(score.value, good) for score, good in zip(scores, passed, strict=True) if score and good is not None]
    goods, bads = [value for value, good in pairs if good], [value for value, good in pairs if not good]
    if not goods or not bads:
        return None
    won = sum((good > bad) + 0.5 * (good == bad) for good in goods for bad in bads)
    return won / (len(goods) * len(bads))


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """Running mean and variance of within-query AUROCs, each query counting once."""

    queries: int = 0
    mean: float = 0.5
    squares: float = 0.0  # sum of squared deviations from the mean

    def plus(self, auroc: float) -> Skill:
        """With one more query (Welford 1962)."""
        queries = self.queries + 1
        # The first query replaces the 0.5 that stands for no query.
        before = self.mean if self.queries else auroc
        mean = before + (auroc - before) / queries
        return Skill(queries=queries, mean=mean, squares=self.squares + (auroc - before) * (auroc - mean))

    @property
    def weight(self) -> float:
        """λ = clip((AUROC − 0.5) / 0.25, 0, 1) of the lower bound of the mean; 0 until enough has been measured."""
        if self.queries < ENOUGH_QUERIES:
            return 0.0
        return min(1.0, max(0.0, (self.mean - DOUBT * self._error - 0.5) / FULL_SKILL))

    @property
    def orders(self) -> bool:
        """Whether the scores may order what is level: while nothing is known, and then while they lie above chance by
        one standard error. A weight costs answers where it is wrong; an order of level ones costs next to nothing, but
        noise still costs more than the order in which they were drawn, the best worker first."""
        return self.queries < ENOUGH_QUERIES or self.mean - self._error > 0.5

    @property
    def _error(self) -> float:
        # Half a query of doubt is added, lest a few equal values look like certainty.
        return math.sqrt((self.squares + 0.125) / (self.queries - 1) / self.queries)


def measured(aurocs: Iterable[float]) -> Skill:
    """The skill that these queries showed."""
    skill = Skill()
    for auroc in aurocs:
        skill = skill.plus(auroc)
    return skill
