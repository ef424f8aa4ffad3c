"""What a search's next rollouts can be expected to gain: its bid for places in the model's batch.

The leader has m₁ votes (distinct beginnings), the runner-up m₂, of N finished rollouts that no check has refuted. As in
the stopping test (`stopping.leader_is_certain`) the leader's rate against the runner-up has the posterior
Beta(m₁ + 1, m₂ + 1), so P₀ = P(rate > ½) is the probability that the lead is kept for ever. Of n more rollouts j go
to the leader with the beta-binomial probability BB(j; n), after which the lead is the leader's with P_j. Giving the
answer that then leads is worth max(P_j, 1 − P_j). As E[P_j] = P₀, what n more rollouts add is (the knowledge gradient
of Frazier and Powell 2008 for two arms)

    K(n) = E[max(P_j, 1 − P_j)] − P₀ = Σ_j BB(j; n) · max(0, 1 − 2 P_j)                  for P₀ ≥ ½

Not every lead is right, and where answers scatter most aren't: a lead is trusted with τ = (m₁ + m₂ + 1) / (N + 2),
the share of the rollouts that is about the two that contend, and only that share of the n to come is. Where checks
decide, every refuted answer so far makes a pass by the next rollout less likely: with a Beta(1, β) prior and r refuted,
none passed, one of n passes with n / (β + r + n), which is worth what is still missing. So

    gain(n) = τ · K(τ n) + (n / (β + r + n)) · (1 − τ P₀)  where r > 0, else  gain(n) = τ · K(τ n)

and 0 once an anchored check passed. The bid is max over n of gain(n) / (n · tokens of a rollout): two votes ahead, one
more rollout changes nothing, but three may (K isn't concave; after Frazier and Powell's KG(*)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from kaelum_graph.stopping import standing_answers
from kaelum_graph.tree import SearchTree

CHECKED_PRIOR = 6.0
"""β: refuted rollouts that a query which no check has passed starts with. From 2 to 20 it changes nothing that could be
measured (benchmarks/slots.py), nor do powers of τ from 1 to 4."""
USUAL_TOKENS = 100.0
"""Tokens of a rollout where none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How a search stands, in plain counts.

    `leader` and `runner_up` are votes by distinct beginnings, `answers` the distinct answers that no check has refuted
    and `standing` all their votes; `unanswered` counts the rollouts without an answer, `refuted` those that an anchored
    check failed; `verified` says that one passed. `tokens` are the completion tokens of a rollout, on average; `left`
    the rollouts that may still be drawn.
    """

    leader: int
    runner_up: int
    answers: int
    standing: int
    unanswered: int
    refuted: int
    verified: bool
    tokens: float
    left: int


def outlook(tree: SearchTree, *, left: int) -> Outlook:
    """The outlook of a tree that may grow by `left` rollouts."""
    votes = [count for _, count in standing_answers(tree)]
    refuted = sum(rollout.outcome == "fail" for rollout in tree.rollouts)
    unanswered = sum(rollout.candidate.answer is None and rollout.outcome != "fail" for rollout in tree.rollouts)
    spent = sum(rollout.completion_tokens for rollout in tree.rollouts)
    return Outlook(
        leader=votes[0] if votes else 0,
        runner_up=votes[1] if len(votes) > 1 else 0,
        answers=len(votes),
        standing=sum(votes),
        unanswered=unanswered,
        refuted=refuted,
        verified=any(rollout.outcome == "pass" for rollout in tree.rollouts),
        tokens=spent / len(tree.rollouts) if spent else USUAL_TOKENS,
        left=left,
    )


def bid(seen: Outlook, *, checked_prior: float = CHECKED_PRIOR) -> float:
    """The highest expected gain in P(correct) per token over the lengths of wave that are left; at least 0."""
    best = 0.0
    for count in range(1, min(seen.left, MOST_AHEAD) + 1):
        best = max(best, expected_gain(seen, rollouts=count, checked_prior=checked_prior) / count)
    return best / max(seen.tokens, 1.0)


MOST_AHEAD = 32


def expected_gain(seen: Outlook, *, rollouts: int, checked_prior: float = CHECKED_PRIOR) -> float:
    """Expected gain in P(correct) of so many more rollouts, in [0, 1]; `checked_prior` is β. See the module."""
    if seen.verified:
        return 0.0
    trust = (seen.leader + seen.runner_up + 1) / (seen.standing + seen.unanswered + 2)
    gain = trust * _turned(seen.leader, seen.runner_up, max(1, round(trust * rollouts)))
    if seen.refuted:
        kept = lead_is_kept(seen.leader, seen.runner_up) if seen.leader else 0.0
        gain += rollouts / (checked_prior + seen.refuted + rollouts) * (1.0 - trust * kept)
    return min(gain, 1.0)


@lru_cache(maxsize=65536)
def lead_is_kept(leader: int, runner_up: int) -> float:
    """P₀: the mass of Beta(leader + 1, runner_up + 1) above one half, exactly, by its identity with the binomial."""
    draws = leader + runner_up + 1
    return sum(math.comb(draws, k) for k in range(leader + 1)) / 2**draws


@lru_cache(maxsize=65536)
def _turned(leader: int, runner_up: int, rollouts: int) -> float:
    """K(n): what deciding after n more votes between the two adds to deciding now."""
    total = 0.0
    for votes in range(rollouts + 1):
        kept = lead_is_kept(leader + votes, runner_up + rollouts - votes)
        if kept < 0.5:
            weight = math.comb(rollouts, votes) * math.exp(
                _log_beta(leader + 1 + votes, runner_up + 1 + rollouts - votes) - _log_beta(leader + 1, runner_up + 1)
            )
            total += weight * (1.0 - 2.0 * kept)
    return total


def _log_beta(first: int, second: int) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
