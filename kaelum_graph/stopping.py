"""When a search has seen enough."""

from __future__ import annotations

import math
from collections.abc import Callable

from kaelum_graph.clusters import cluster
from kaelum_graph.posterior import form_checked, mass
from kaelum_graph.tree import SearchTree


def leader_is_certain(leader: int, runner_up: int, *, certainty: float = 0.95) -> bool:
    """Sequential test on the leading cluster's margin, after adaptive consistency (Aggarwal et al. 2023).

    With a uniform prior on the leader's rate against the runner-up, the posterior is Beta(leader + 1, runner_up + 1);
    certain when its mass above one half reaches `certainty`. The identity with the binomial makes it exact.
    """
    draws = leader + runner_up + 1
    mass = sum(math.comb(draws, k) for k in range(leader + 1)) / 2**draws
    return mass >= certainty


def standing_answers(tree: SearchTree) -> list[tuple[str, int]]:
    """Distinct answers that no anchored evidence has refuted, and how many beginnings led to each; most first."""
    answers = [rollout.candidate.answer if rollout.outcome != "fail" else None for rollout in tree.rollouts]
    prefixes = tree.prefixes()
    counts = [(group.representative, int(mass(group, prefixes))) for group in cluster(answers)]
    return sorted(counts, key=lambda pair: -pair[1])


def evidence_halt(
    tree: SearchTree, *, may_reflect: bool, drafts: bool = True, settled: Callable[[], bool] | None = None
) -> str | None:
    """Why the evidence so far ends the search, or None.

    "verified": an answer passed an anchored check, of more than its form unless `drafts` are asked for. "margin": the
    leader can hardly be overtaken, by the sequential test or, where it is given, by what `settled` (a learned stop
    head) says. "refuted": nothing found so far stands, and a reflection is left that may help more than further draws
    of the same kind.
    """
    if any(one.outcome == "pass" and (drafts or not form_checked(one.evidence)) for one in tree.rollouts):
        return "verified"
    standing = standing_answers(tree)
    if not standing:
        return "refuted" if may_reflect else None
    if settled is not None:
        return "margin" if settled() else None
    return "margin" if leader_is_certain(standing[0][1], standing[1][1] if len(standing) > 1 else 0) else None
