"""Asking another worker when the one that was sure finds no agreement.

Rollouts that scatter over many answers say that this way of reasoning does not reach the answer; more of them seldom
help, while a worker with other tools makes other mistakes, and agreement between the two tells more than agreement
within one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kaelum_graph.clusters import cluster
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import WorkerName

ENOUGH_ROLLOUTS = 4
"""Rollouts after which a worker's agreement is judged."""
AGREEMENT = 0.5
"""Share of them that the leading answer must reach; an answer that a check has refuted counts for nothing."""
LEAST_SHARE = 2


def widened(
    allocation: Mapping[WorkerName, int],
    tree: SearchTree,
    probabilities: Mapping[WorkerName, float],
    *,
    prose: Collection[WorkerName],
) -> dict[WorkerName, int]:
    """The allocation for the rest of the search: as it was, or half of what is left given to one more worker.

    That is the most probable worker that has none yet and answers with a value. Queries for prose are left alone:
    drafts do not agree. `probabilities` are the router's.
    """
    unchanged = dict(allocation)
    finished, total = len(tree.rollouts), sum(allocation.values())
    fresh = [name for name in probabilities if name not in allocation and name not in prose]
    spare = (total - finished) // 2
    if finished < ENOUGH_ROLLOUTS or spare < LEAST_SHARE or not fresh or any(name in prose for name in allocation):
        return unchanged
    if any(rollout.outcome == "pass" for rollout in tree.rollouts):
        return unchanged
    answers = [rollout.candidate.answer if rollout.outcome != "fail" else None for rollout in tree.rollouts]
    groups = cluster(answers)
    if groups and len(groups[0].members) >= AGREEMENT * finished:
        return unchanged
    newcomer = max(fresh, key=lambda name: probabilities[name])
    # Whoever has most left gives.
    given = 0
    while given < spare:
        left = {name: share - tree.launched(name) for name, share in unchanged.items()}
        richest = max(left, key=lambda name: left[name])
        if left[richest] <= 0:
            break
        unchanged[richest] -= 1
        given += 1
    return unchanged | {newcomer: given} if given >= LEAST_SHARE else dict(allocation)
