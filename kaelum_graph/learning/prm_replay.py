"""The reward model's memory: the newest episodes as rows that can be trained on again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import Label, StepLabel
from kaelum_graph.learning.prm_features import RAW, Doubles, Steps, describe, known_mean, worker_columns
from kaelum_graph.learning.ratings import said_later
from kaelum_graph.types import Json, WorkerName

MOST_STEPS = 4
"""Steps of a rollout that the network is trained on: evenly spaced, the last among them."""
STEP_WEIGHT = 0.5
"""Of a single step's label beside its rollout's."""
BETTER = 0.4
"""Difference of two labels from which on one rollout of a query is held to be better than the other."""
MOST_PAIRS = 16
ANSWERED, RECORD = RAW.index("has_answer"), RAW.index("record")

_ARRAYS = ("raw", "text", "states", "labels", "weights", "steps_text", "steps_context", "steps_of", "query")
Tables = tuple[Doubles, Doubles, Doubles]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """An episode as N rows: first its rollouts (means over their steps), then single steps that have labels."""

    id: str
    said: str  # `said_later` of it
    rollouts: int
    workers: tuple[WorkerName, ...]  # N
    raw: NDArray[np.float32]  # [N, len(RAW)]
    text: NDArray[np.float16]  # [N, 384]
    states: NDArray[np.float16]  # [N, 128], NaN where unknown
    labels: NDArray[np.float32]  # [N]
    weights: NDArray[np.float32]  # [N]
    steps_text: NDArray[np.float16]  # [M, 384]
    steps_context: NDArray[np.float16]  # [M, 384]
    steps_of: NDArray[np.int16]  # [M], the rollout of each of these steps
    query: NDArray[np.float16]  # [384]

    def tables(self) -> Tables:
        """Raw columns, text and states of all rows."""
        return self.raw.astype(np.float64), self.text.astype(np.float64), self.states.astype(np.float64)

    def of_rollouts(self) -> Tables:
        """The same of the rollouts alone."""
        raw, text, states = self.tables()
        return raw[: self.rollouts], text[: self.rollouts], states[: self.rollouts]

    def by_worker(self, workers: Sequence[WorkerName]) -> tuple[Doubles, Doubles]:
        """`[W]` mean labels of each worker's rollouts, 0 where it has none, and `[W]` their numbers."""
        columns = worker_columns(self.workers[: self.rollouts], workers)
        counts = columns.sum(axis=0)
        return columns.T @ self.labels[: self.rollouts].astype(np.float64) / np.maximum(counts, 1.0), counts

    def records(self) -> dict[WorkerName, float]:
        """What was known of the workers that took part, before this was learned; NaN where nothing was."""
        return dict(zip(self.workers, self.raw[:, RECORD].tolist(), strict=True))

    def without_steps(self) -> Kept:
        """The same without what only the network is trained on."""
        names = ("steps_text", "steps_context", "steps_of")
        return replace(self, **{name: getattr(self, name)[:0] for name in names})

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`[P, 2]` rollouts of which the first is the better one by their labels, and `[P]` weights: in all, as much
        as the smaller of the two sides has rollouts."""
        labels, weights = self.labels[: self.rollouts], self.weights[: self.rollouts]
        # That an answer is better than none need not be learned from pairs: it would be most of them.
        able = (weights > 0) & (self.raw[: self.rollouts, ANSWERED] > 0)
        found = np.argwhere((labels[:, None] - labels[None, :] >= BETTER) & able[:, None] & able[None, :])
        if not len(found):
            return np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.float32)
        sides = min(len(np.unique(found[:, 0])), len(np.unique(found[:, 1])))
        found = found[:: -(-len(found) // MOST_PAIRS)].astype(np.int64)
        worth = np.minimum(weights[found[:, 0]], weights[found[:, 1]])
        return found, (worth * sides / len(found)).astype(np.float32)


def centre(tables: Tables) -> Tables:
    """The query's means of its rollouts' tables."""
    raw, text, states = tables
    return known_mean(raw), text.mean(axis=0), known_mean(states)


def path_tables(described: Sequence[Steps]) -> Tables:
    """The rollouts' means over their steps."""
    return (
        np.stack([known_mean(one.raw) for one in described]),
        np.stack([one.text.mean(axis=0) for one in described]),
        np.stack([known_mean(one.states) for one in described]),
    )


def keep(
    episode: SeenEpisode,
    labels: Sequence[Label],
    steps: Sequence[Sequence[StepLabel]],
    weights: Sequence[float],
    records: Mapping[WorkerName, float],
) -> Kept:
    """What is kept of an episode. `weights` are the rollouts'; a single step is a row of its own where it is more than
    a part of one rollout: rated by a person, or shared by several rollouts whose labels are worth two."""
    described = describe(episode.features, episode.rollouts, records)
    raw, text, states = path_tables(described)
    rows: list[tuple[Doubles, Doubles, Doubles]] = []
    names = [one.worker for one in described]
    targets, worth = [label.probability for label in labels], list(weights)
    seen: set[bytes] = set()
    for index, (one, told) in enumerate(zip(described, steps, strict=True)):
        for place, step in enumerate(told):
            key = one.text[: place + 1].tobytes()
            if not step.usable or (not step.rated and (step.last or len(one.text) == 1 or key in seen)):
                continue
            seen.add(key)
            rows.append((one.raw[place], one.text[place], one.states[place]))
            names.append(one.worker)
            targets.append(step.probability)
            # An unrated step is worth what its rollouts' labels are.
            worth.append(STEP_WEIGHT * (1.0 if step.rated else max(step.anchored, weights[index])))
    if rows:
        raw, text, states = (
            np.concatenate([table, np.stack([row[part] for row in rows])])
            for part, table in enumerate((raw, text, states))
        )
    chosen = [_spaced(len(one.text)) for one in described]
    return Kept(
        id=episode.id,
        said=said_later(episode),
        rollouts=len(described),
        workers=tuple(names),
        raw=raw.astype(np.float32),
        text=text.astype(np.float16),
        states=states.astype(np.float16),
        labels=np.array(targets, dtype=np.float32),
        weights=np.array(worth, dtype=np.float32),
        steps_text=np.concatenate([one.text[at] for one, at in zip(described, chosen, strict=True)]).astype(np.float16),
        steps_context=np.concatenate([one.context[at] for one, at in zip(described, chosen, strict=True)]).astype(
            np.float16
        ),
        steps_of=np.repeat(np.arange(len(chosen)), [len(at) for at in chosen]).astype(np.int16),
        query=np.asarray(episode.features[:EMBEDDING_SIZE], dtype=np.float16),
    )


def network_inputs(query: NDArray[Any], text: NDArray[Any], context: NDArray[Any], workers: Doubles) -> NDArray[Any]:
    """`[M, 1152 + W]`: query, step, context and worker. Embeddings of unit norm are brought to unit variance."""
    scale = np.float32(np.sqrt(EMBEDDING_SIZE))
    queries = np.broadcast_to(query, text.shape)
    return np.concatenate([scale * queries, scale * text, scale * context, workers], axis=1).astype(np.float32)


def packed(kept: Sequence[Kept]) -> tuple[dict[str, NDArray[Any]], list[Json]]:
    """All kept episodes as few arrays, and what else must be known of each."""
    heads: list[Json] = [
        {
            "id": one.id,
            "said": one.said,
            "rollouts": one.rollouts,
            "workers": list(one.workers),
            "steps": len(one.steps_of),
        }
        for one in kept
    ]
    arrays: dict[str, NDArray[Any]] = {}
    for name in _ARRAYS:
        parts = [getattr(one, name)[None] if name == "query" else getattr(one, name) for one in kept]
        if parts:
            arrays[name] = np.concatenate(parts)
    return arrays, heads


def unpacked(arrays: Mapping[str, NDArray[Any]], heads: Sequence[Mapping[str, Any]]) -> list[Kept]:
    """What `packed` was given."""
    kept: list[Kept] = []
    row = step = 0
    for number, head in enumerate(heads):
        rows, steps = slice(row, row + len(head["workers"])), slice(step, step + head["steps"])
        row, step = rows.stop, steps.stop
        own = {
            name: arrays[name][number]
            if name == "query"
            else arrays[name][steps if name.startswith("steps") else rows].copy()
            for name in _ARRAYS
        }
        workers = tuple(WorkerName(name) for name in head["workers"])
        kept.append(Kept(id=head["id"], said=head["said"], rollouts=head["rollouts"], workers=workers, **own))
    return kept


def _spaced(count: int) -> NDArray[np.int64]:
    if count <= MOST_STEPS:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, MOST_STEPS)).astype(np.int64)
