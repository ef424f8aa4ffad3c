"""The reward model's features on a common scale: what the log has shown so far decides, then it is frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.learning.episode import STATE_SIZE
from kaelum_graph.learning.prm_features import (
    AGREEMENT_COLUMNS,
    RAW,
    RECORD_COLUMNS,
    SCALAR_COLUMNS,
    TEXT_COLUMNS,
    Doubles,
    Group,
    known_mean,
    worker_columns,
)
from kaelum_graph.types import WorkerName

REDUCED = 32
CLIP = 4.0
"""No feature is further than this many deviations from the rest: one odd rollout must not decide."""

Places = Sequence[int]


class Reduction:
    """Principal components of deviations within queries: `[D]` to 32. Zeros until it has been fitted.

    They keep their variances, brought to a mean of 1: a weight's prior then holds the small ones back more (as ridge
    regression does). Brought to one variance each, they ranked worse: there is more noise in the small ones.
    """

    def __init__(self, size: int) -> None:
        self.directions = np.zeros((size, REDUCED))

    def fit(self, deviations: Doubles) -> None:
        """Take the directions in which `[N, D]` deviations vary most."""
        covariance = deviations.T @ deviations / max(len(deviations), 1)
        values, vectors = np.linalg.eigh(covariance)
        chosen = vectors[:, ::-1][:, :REDUCED]
        # An eigenvector's sign is arbitrary: its largest component is made positive.
        signs = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(REDUCED)])
        usual = np.sqrt(values[::-1][:REDUCED].clip(min=0.0).mean())
        self.directions = chosen * signs / usual if usual > 1e-5 else np.zeros_like(self.directions)

    def __call__(self, deviations: Doubles) -> Doubles:
        """`[N, D]` to `[N, 32]`; what isn't known is 0, no deviation at all."""
        return np.nan_to_num(deviations, nan=0.0) @ self.directions


class Scaling:
    """Means and deviations of the raw columns, without those that can't be known (NaN)."""

    def __init__(self) -> None:
        self.within = np.ones(len(RAW))
        self.mean = np.zeros(len(RAW))
        self.between = np.ones(len(RAW))

    def fit(self, queries: Sequence[Doubles]) -> None:
        """Take the scales of these queries: `[N, len(RAW)]` each, a row a rollout."""
        centres = np.stack([known_mean(raw) for raw in queries])
        squares, freedom = np.zeros(len(RAW)), np.zeros(len(RAW))
        for raw, centre in zip(queries, centres, strict=True):
            squares += np.nansum((raw - centre) ** 2, axis=0)
            freedom += np.maximum((~np.isnan(raw)).sum(axis=0) - 1, 0)
        self.within = _scale(squares, freedom)
        self.mean = np.nan_to_num(known_mean(centres), nan=0.0)
        self.between = _scale(np.nansum((centres - self.mean) ** 2, axis=0), (~np.isnan(centres)).sum(axis=0))

    def deviations(self, raw: Doubles, centre: Doubles) -> Doubles:
        """`[N, C]` deviations from the query's `centre` in units of the usual one; 0 where unknown."""
        return np.clip(np.nan_to_num((raw - centre) / self.within, nan=0.0), -CLIP, CLIP)

    def standing(self, centre: Doubles) -> Doubles:
        """`[C]`: where the query's mean stands among queries; 0 where unknown."""
        return np.clip(np.nan_to_num((centre - self.mean) / self.between, nan=0.0), -CLIP, CLIP)


def _scale(squares: Doubles, freedom: Doubles) -> Doubles:
    """Standard deviations; 1 where nothing has varied yet."""
    usual = np.sqrt(squares / np.maximum(freedom, 1))
    return np.where(usual > 1e-3, usual, 1.0)


class Space:
    """The head's features: which columns there are, which prior group each belongs to, and how they are made."""

    def __init__(self, *, groups: Sequence[Group], workers: Sequence[WorkerName]) -> None:
        self.workers = tuple(workers)
        columns: list[int] = []
        if "scalars" in groups:
            columns += range(SCALAR_COLUMNS.start, SCALAR_COLUMNS.stop)
        if "record" in groups:
            columns += range(RECORD_COLUMNS.start, RECORD_COLUMNS.stop)
        if "agreement" in groups:
            columns += range(AGREEMENT_COLUMNS.start, AGREEMENT_COLUMNS.stop)
        self.standing_columns = np.array(columns, dtype=int)
        if "text" in groups:
            columns += range(TEXT_COLUMNS.start, TEXT_COLUMNS.stop)
        self.deviation_columns = np.array(columns, dtype=int)
        self.text = Reduction(EMBEDDING_SIZE) if "text" in groups else None
        self.hidden = Reduction(STATE_SIZE) if "hidden" in groups else None
        self.scaling = Scaling()
        kinds = [_kind(column) for column in columns]
        kinds += ["text"] * (REDUCED if self.text else 0) + ["hidden"] * (REDUCED if self.hidden else 0)
        kinds += ["standing"] * len(self.standing_columns) + ["unknown"] * 3 + ["worker"] * len(workers) + ["bias"]
        self.kinds = tuple(kinds)

    def rows(
        self,
        raw: Doubles,
        text: Doubles,
        states: Doubles,
        workers: Sequence[WorkerName],
        centre: tuple[Doubles, Doubles, Doubles],
    ) -> Doubles:
        """`[N, len(self.kinds)]` of N steps or means of steps; `centre` is the query's mean of the first three."""
        count = len(raw)
        parts = [self.scaling.deviations(raw, centre[0])[:, self.deviation_columns]]
        if self.text:
            parts.append(np.clip(self.text(text - centre[1]), -CLIP, CLIP))
        if self.hidden:
            parts.append(np.clip(self.hidden(states - centre[2]), -CLIP, CLIP))
        standing = self.scaling.standing(centre[0])[self.standing_columns]
        unknown = np.isnan(np.stack([raw[:, 0], raw[:, 4], states[:, 0]], axis=1)).astype(float)
        parts += [np.broadcast_to(standing, (count, len(standing))), unknown]
        parts += [worker_columns(workers, self.workers), np.ones((count, 1))]
        return np.concatenate(parts, axis=1)

    def fit(self, queries: Sequence[tuple[Doubles, Doubles, Doubles]]) -> None:
        """Take scales and directions of queries: their rollouts' raw columns, text `[N, 384]`, states `[N, 128]`."""
        self.scaling.fit([raw for raw, _, _ in queries])
        if self.text:
            self.text.fit(np.concatenate([text - text.mean(axis=0) for _, text, _ in queries]))
        if self.hidden:
            known = [states - known_mean(states) for _, _, states in queries]
            self.hidden.fit(np.nan_to_num(np.concatenate(known), nan=0.0))

    def tensors(self) -> dict[str, NDArray[np.float64]]:
        """Everything that was learned."""
        found = {name: getattr(self.scaling, name).copy() for name in _SCALES}
        for name in ("text", "hidden"):
            if (reduction := getattr(self, name)) is not None:
                found[f"directions_{name}"] = reduction.directions.copy()
        return found

    def load(self, tensors: Mapping[str, NDArray[np.float64]]) -> None:
        """Take over what `tensors` gave."""
        for name in _SCALES:
            setattr(self.scaling, name, np.array(tensors[name], dtype=np.float64))
        for name in ("text", "hidden"):
            if (reduction := getattr(self, name)) is not None:
                reduction.directions = np.array(tensors[f"directions_{name}"], dtype=np.float64)


def _kind(column: int) -> str:
    if column >= AGREEMENT_COLUMNS.start:
        return "agreement"
    return "record" if column >= RECORD_COLUMNS.start else "scalars"


_SCALES = ("within", "mean", "between")
