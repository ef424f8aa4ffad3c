"""What the reward model sees of a query's rollouts: never an anchored vote, for those are its labels.

Five groups that can be switched on one by one:

- "scalars": how sure the model was (`STEP_SCALARS`), how long it went on, whether it ended, what unanchored checks say
- "text": MiniLM embeddings of the steps, and how near they lie to the query and to what came before
- "hidden": the language model's own state at the ends of the steps
- "record": the label to be expected of this worker on this query, from what is known of it so far
- "agreement": which part of the other rollouts has this answer, among all, among other workers', among this worker's

Every number is taken twice: as its deviation from the query's rollouts, which is what tells a good rollout from a bad
one of the same query, and (for scalars and agreement) as the query's mean, which tells how hard the query is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.learning.episode import STATE_SIZE, STEP_SCALARS, SeenRollout
from kaelum_graph.learning.ratings import voted_later
from kaelum_graph.types import Array, WorkerName

Group = Literal["scalars", "text", "hidden", "record", "agreement"]
GROUPS: tuple[Group, ...] = ("scalars", "text", "hidden", "record", "agreement")

ROLLOUT_SCALARS = (
    "cut_off", "has_answer", "log_steps", "log_rollout_tokens", "rollout_logprob", "rollout_lowest_logprob",
    "rollout_entropy", "rollout_highest_entropy", "unanchored_passes", "unanchored_fails",
)  # fmt: skip
TEXT_SCALARS = ("query_cosine", "context_cosine")
AGREEMENT = ("share", "share_of_others", "share_of_own", "agreeing_workers", "lead", "channels")
RECORD = ("record",)
RAW = (*STEP_SCALARS, *ROLLOUT_SCALARS, *TEXT_SCALARS, *RECORD, *AGREEMENT)
"""The columns of `Steps.raw`; NaN where a number can't be known."""
SCALAR_COLUMNS = slice(0, len(STEP_SCALARS) + len(ROLLOUT_SCALARS))
TEXT_COLUMNS = slice(SCALAR_COLUMNS.stop, SCALAR_COLUMNS.stop + len(TEXT_SCALARS))
RECORD_COLUMNS = slice(TEXT_COLUMNS.stop, TEXT_COLUMNS.stop + len(RECORD))
AGREEMENT_COLUMNS = slice(RECORD_COLUMNS.stop, len(RAW))

_CHANNELS = "agreement"
"""The check that compares a program's output with the words around it: agreement by another name."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """A rollout's S ≥ 1 steps; one whose steps aren't known is a single step of which little is known."""

    worker: WorkerName
    raw: Doubles  # [S, len(RAW)]
    text: Doubles  # [S, 384]
    context: Doubles  # [S, 384], the mean of the steps before; zero for the first
    states: Doubles  # [S, 128], NaN without a local model


def describe(
    query_features: Array, rollouts: Sequence[SeenRollout], records: Mapping[WorkerName, float] | None = None
) -> list[Steps]:
    """Every rollout of a query, seen beside its siblings. `query_features` are the router's `[398]`, `records` what is
    known of the workers on such queries."""
    known = records or {}
    query = np.asarray(query_features[:EMBEDDING_SIZE], dtype=np.float64)
    agreement = _agreement(rollouts)
    return [
        _steps(query, one, known.get(one.worker, math.nan), shares)
        for one, shares in zip(rollouts, agreement, strict=True)
    ]


def known_mean(table: Doubles, axis: int = 0) -> Doubles:
    """The mean of what is known; NaN where nothing is."""
    known = ~np.isnan(table)
    counts = known.sum(axis=axis)
    sums = np.where(known, table, 0.0).sum(axis=axis)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _steps(query: Doubles, rollout: SeenRollout, record: float, agreement: Sequence[float]) -> Steps:
    made = rollout.features
    count = len(made.scalars) if made is not None else 0
    size = max(count, 1)
    scalars = np.full((size, len(STEP_SCALARS)), np.nan)
    text = np.zeros((size, EMBEDDING_SIZE))
    states = np.full((size, STATE_SIZE), np.nan)
    if made is not None and count:
        scalars[:] = made.scalars
        text[:] = made.embeddings
        if made.states is not None and len(made.states) == count:
            states[:] = made.states
    context = np.zeros_like(text)
    context[1:] = np.cumsum(text, axis=0)[:-1] / np.arange(1, size)[:, None]
    cosines = np.full((size, len(TEXT_SCALARS)), np.nan)
    if count:
        cosines[:, 0] = text @ query
        cosines[1:, 1] = (text[1:] * context[1:]).sum(axis=1) / np.linalg.norm(context[1:], axis=1).clip(min=1e-6)
    whole = np.broadcast_to(_whole(rollout, scalars, count), (size, len(ROLLOUT_SCALARS)))
    shares = np.broadcast_to(np.asarray(agreement, dtype=np.float64), (size, len(AGREEMENT)))
    records = np.full((size, len(RECORD)), record)
    raw = np.concatenate([scalars, whole, cosines, records, shares], axis=1)
    return Steps(worker=rollout.worker, raw=raw, text=text, context=context, states=states)


def _whole(rollout: SeenRollout, scalars: Doubles, steps: int) -> Doubles:
    """What is known of the rollout as a whole, in the order of `ROLLOUT_SCALARS`."""
    votes = unanchored(rollout.evidence)
    tokens = np.expm1(scalars[:, 6])
    weights = np.where(np.isnan(scalars[:, 0]) | np.isnan(tokens), 0.0, tokens)

    def weighed(column: int) -> float:
        known = np.where(weights > 0, scalars[:, column], 0.0)
        return float((weights * known).sum() / weights.sum()) if weights.sum() else math.nan

    known = ~np.isnan(scalars[:, 1])
    entropies = ~np.isnan(scalars[:, 5])
    return np.array(
        [
            float(rollout.finish == "length"),
            float(rollout.cluster is not None),
            math.log1p(steps) if steps else math.nan,
            math.log1p(rollout.tokens),
            weighed(0),
            float(scalars[known, 1].min()) if known.any() else math.nan,
            weighed(4) if entropies.any() else math.nan,
            float(scalars[entropies, 5].max()) if entropies.any() else math.nan,
            float(sum(vote.outcome == "pass" for vote in votes)),
            float(sum(vote.outcome == "fail" for vote in votes)),
        ]
    )


def unanchored(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The votes that may be features: of the cross-channel checks and the judge, and not the vote of the clusters.

    Nor one that came when the search was over: no rollout that is to be scored has any.
    """
    return [
        vote
        for vote in evidence
        if not vote.tier.anchored
        and vote.tier is not Tier.CLUSTER
        and vote.source != _CHANNELS
        and not voted_later(vote)
    ]


def _agreement(rollouts: Sequence[SeenRollout]) -> list[tuple[float, ...]]:
    """For each rollout, in the order of `AGREEMENT`: of the other beginnings (prefixes) that came to an answer, the
    part that came to this one; the same over other workers' and over this worker's; how many other workers have it;
    its lead over the most frequent other answer. NaN without an answer, or with nothing to compare it to.
    """
    answers: dict[tuple[WorkerName, int], set[int]] = {}
    for rollout in rollouts:
        if rollout.cluster is not None:
            answers.setdefault((rollout.worker, rollout.prefix), set()).add(rollout.cluster)
    workers = len({rollout.worker for rollout in rollouts})
    found: list[tuple[float, ...]] = []
    for rollout in rollouts:
        votes = [vote.outcome for vote in rollout.evidence if vote.source == _CHANNELS and not vote.tier.anchored]
        channels = float(votes.count("pass") - votes.count("fail"))
        if rollout.cluster is None:
            found.append((math.nan,) * (len(AGREEMENT) - 1) + (channels,))
            continue
        others = [(key[0], had) for key, had in answers.items() if key != (rollout.worker, rollout.prefix)]

        def share(held: Sequence[set[int]], cluster: int = rollout.cluster) -> float:
            return sum(cluster in had for had in held) / len(held) if held else math.nan

        counts: dict[int, int] = {}
        for _, had in others:
            for cluster in had:
                counts[cluster] = counts.get(cluster, 0) + 1
        rival = max((count for cluster, count in counts.items() if cluster != rollout.cluster), default=0)
        agreeing = len({name for name, had in others if name != rollout.worker and rollout.cluster in had})
        found.append(
            (
                share([had for _, had in others]),
                share([had for name, had in others if name != rollout.worker]),
                share([had for name, had in others if name == rollout.worker]),
                agreeing / (workers - 1) if workers > 1 else math.nan,
                (counts.get(rollout.cluster, 0) - rival) / len(others) if others else math.nan,
                channels,
            )
        )
    return found


def worker_columns(names: Sequence[WorkerName], workers: Sequence[WorkerName]) -> Doubles:
    """`[N, W]`: which of `workers` each of N rows is of; a row of zeros for a worker not among them."""
    places: Mapping[WorkerName, int] = {name: index for index, name in enumerate(workers)}
    table = np.zeros((len(names), len(workers)))
    for row, name in enumerate(names):
        if name in places:
            table[row, places[name]] = 1.0
    return table
