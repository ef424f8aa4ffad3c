"""Kinds of tasks: online leader clustering of a worker's queries by their embeddings.

The numbers were chosen on six pairs and triples of task families, 18 questions each, mixed with the router's example
queries. With MiniLM two questions of one family meet at a cosine of 0.3 to 0.9 and of two families of one worker at
about 0.2. Joining at 0.6 left half of the mathematical and the code questions in clusters of one or two; at 0.5, 76% to
100% of every worker's questions stood in clusters of three and more, and 92% to 100% of all queries among their own
family (73% in mathematics, where sums and equations meet); at 0.4 whole families began to mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kaelum_graph.types import Array

JOIN_COSINE = 0.5
"""At least this near to a centroid a query belongs to its cluster."""
MOST_CLUSTERS = 64
"""Per worker; at 384 floats each a look at all of them takes microseconds."""
HALF_LIFE = 200
"""Queries of a worker after which an unused cluster counts half: else 64 old ones would never make room for a new."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskCluster:
    """Queries that are alike. `id` is 0 until it is stored."""

    id: int = 0
    centroid: Array  # [384], the members' mean; its norm is at most 1
    members: int = 1
    use: float = 1.0  # uses, older ones faded; as of query number `last` of its worker
    last: int = 1
    questions: tuple[str, ...] = ()  # the latest that could be checked, each once


def nearest(clusters: Sequence[TaskCluster], embedding: Array) -> int | None:
    """The place of the cluster that `embedding` (`[384]`, unit norm) belongs to; None when it is near to none."""
    if not clusters:
        return None
    centroids = np.stack([cluster.centroid for cluster in clusters])
    cosines = centroids @ embedding / np.linalg.norm(centroids, axis=1).clip(min=1e-12)
    best = int(np.argmax(cosines))
    return best if cosines[best] >= JOIN_COSINE else None


def joined(cluster: TaskCluster, embedding: Array, *, clock: int) -> TaskCluster:
    """The cluster with one more member, its worker's query number `clock`."""
    members = cluster.members + 1
    return replace(
        cluster,
        centroid=(cluster.centroid + (embedding - cluster.centroid) / members).astype(np.float32),
        members=members,
        use=use_at(cluster, clock) + 1.0,
        last=clock,
    )


def least_used(clusters: Sequence[TaskCluster], *, clock: int) -> int:
    """The place of the cluster to give up first; of equals the one that was used longest ago."""
    return min(range(len(clusters)), key=lambda place: (use_at(clusters[place], clock), clusters[place].last))


def use_at(cluster: TaskCluster, clock: int) -> float:
    """Its uses, faded up to query number `clock`."""
    return cluster.use * 0.5 ** ((clock - cluster.last) / HALF_LIFE)
