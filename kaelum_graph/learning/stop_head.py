"""The stop head: what stopping now would lose, learned from searches that ran to their end.

A logistic regression predicts, from what a search looks like, its regret: P(correct) of the answer that the full budget
would give less that of the answer that stands (`regret_after`). Its only labels come from full runs: a search that was
stopped early never shows what it would have come to. So some queries run to their budget whatever the head says,
chosen by the hash of their id alone (`full_run`); only those are learned from, because a search that merely failed to
stop is no fair sample of all searches.

The head stops where the predicted regret, by the part of the budget that stopping saves, is at most a threshold. The
threshold is the highest at which past full runs, each scored by a head that was fitted without it, lost at most
`promise` on average: (Σ loss + 1) / (n + 1) ≤ promise (Angelopoulos et al. 2022, Conformal risk control; out of fold as
Cohen et al. 2024, Cross-validation conformal risk control).

Two plain tests stop a search before anything was learned: the sequential one (`stopping.leader_is_certain`), and
evidence that puts the leader far ahead of every other answer. What is learned comes on top of them: their losses count
against the promise, and where full runs show that they break it by themselves, they are dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.stop_looks import LOOK_FEATURES, Look, look_at, look_times, regret_after
from kaelum_graph.logistic import fitted, sigmoid
from kaelum_graph.types import EpisodeId, Json

Vector = NDArray[np.float64]

AUDIT_SHARE = 0.08
"""Part of the queries that run to their budget once the head has learned."""
LEARNING_RUNS, LEARNING_SHARE = 150, 0.5
"""Full runs up to which more of the queries are one: with fewer than 1 / promise of them nothing can be promised."""
NEWEST = 1000
"""Full runs that are kept: the model and the workers of now."""
REFIT_EVERY = 10
"""Full runs after which the head is fitted anew."""
FOLDS = 5
TRUSTED = ("lead", "confidence", "gap", "left")
"""What a search's own statistics say. The other features are many and at first the runs few."""
SPREAD, TRUSTED_SPREAD, INTERCEPT_SPREAD = 0.3, 1.0, 3.0
"""Prior standard deviations of the weights, for features of unit spread."""
PROMISE = 0.01
EVIDENCE_LEAD = 3.5
"""Log-odds of the leader above the next answer's (no other answer counts as one at 0.05) that end a search before
anything was learned: two of two that agree, or a leader whose rivals are refuted. Chosen on the even tasks of the bank
and of the live searches (`benchmarks/learning_stop.py`)."""
PRICE = 0.05
"""P(correct) that a whole budget is worth when two heads are compared: more than it is promised to cost, so that a head
which saves much can prove it on few episodes."""
COLUMNS = len(LOOK_FEATURES)
GAP = LOOK_FEATURES.index("gap")


_PRECISION = np.array(
    [INTERCEPT_SPREAD**-2.0, *((TRUSTED_SPREAD if name in TRUSTED else SPREAD) ** -2.0 for name in LOOK_FEATURES)]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Logistic:
    """A fitted regression: log-odds = intercept + weights · (x − centre) / scale.

    `covariance` `[1 + D, 1 + D]` is that of the posterior's Gaussian (Laplace), intercept first.
    """

    centre: Vector  # [D]
    scale: Vector  # [D]
    weights: Vector  # [1 + D], intercept first
    covariance: NDArray[np.float64]

    def predict(self, rows: NDArray[np.float64]) -> Vector:
        """`[N, D]` to the expected regret in (0, 1), `[N]`; doubt about the weights draws it towards one half."""
        inputs = _inputs(rows, self.centre, self.scale)
        spread = np.einsum("nd,de,ne->n", inputs, self.covariance, inputs)
        # The mean of a logistic over a Gaussian (MacKay 1992).
        return sigmoid((inputs @ self.weights) / np.sqrt(1.0 + math.pi * spread / 8.0))

    @classmethod
    def fit(cls, rows: NDArray[np.float64], targets: Vector, weights: Vector) -> Logistic:
        """Maximum a posteriori. `rows` `[N, D]`, `targets` in [0, 1], `weights` of the rows."""
        centre, spread = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(spread > 1e-4, spread, 1.0)
        found, curvature = fitted(
            _inputs(rows, centre, scale).T, targets, centre=np.zeros(len(_PRECISION)), precision=_PRECISION,
            counts=weights,
        )  # fmt: skip
        covariance = np.asarray(np.linalg.inv(curvature), dtype=np.float64)
        return cls(centre=centre, scale=scale, weights=found, covariance=covariance)


class StopHead:
    """Component "stop": says when a search may end.

    `first` and `most` are the search's first wave and largest wave in rollouts: where it looks. `promise` is the mean
    loss in P(correct), against the full budget, that stopping may cost.
    """

    name = "stop"

    def __init__(
        self,
        *,
        first: int = 4,
        most: int = 32,
        promise: float = PROMISE,
        audit_share: float = AUDIT_SHARE,
        learning_runs: int = LEARNING_RUNS,
        learning_share: float = LEARNING_SHARE,
        refit_every: int = REFIT_EVERY,
    ) -> None:
        self.first, self.most = first, most
        self.promise, self.audit_share = promise, audit_share
        self.learning_runs, self.learning_share = learning_runs, learning_share
        self.refit_every = refit_every
        self.seen = 0
        self._runs: list[_Run] = []
        self._waiting = 0
        self._model: Logistic | None = None
        self.threshold: float | None = None
        self.plain = True

    @property
    def runs(self) -> int:
        """Full runs that are known now."""
        return len(self._runs)

    @property
    def full_share(self) -> float:
        """The probability with which a query runs to its budget whatever the head says: its logged propensity."""
        return self.learning_share if self.seen < self.learning_runs else self.audit_share

    def full_run(self, episode_id: EpisodeId) -> bool:
        """Whether that query is to run to its budget. What the search comes to has no part in it."""
        digest = hashlib.sha256(f"full run {episode_id}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < self.full_share * 2**32

    def predicted(self, features: Vector) -> float:
        """Expected regret in [0, 1] of stopping at a look's features `[16]`; 1 before anything was learned."""
        return 1.0 if self._model is None else float(self._model.predict(features[None, :])[0])

    def should_stop(self, look: Look) -> bool:
        """Whether the search may end here. An anchored pass needs no head: the search ends at it anyway."""
        if look.count >= look.budget:
            return False
        if self.plain and plainly_settled(look):
            return True
        if self.threshold is None:
            return False
        return self.predicted(look.features) / _saved(look.count, look.budget) <= self.threshold

    def learn_episode(self, episode: SeenEpisode) -> None:
        """Take in a full run. A search that ended early, or merely did not happen to, teaches nothing."""
        if episode.audit or not self._is_full(episode):
            return
        self.seen += 1
        self._runs = [*self._runs, self._run(episode)][-NEWEST:]
        self._waiting += 1
        if self._waiting >= self.refit_every:
            self._refit()

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        """What a person says of an answer changes what stopping before it would have lost."""
        if episode is None:
            return
        places = [index for index, run in enumerate(self._runs) if run.id == episode.id]
        if places:
            self._runs[places[0]] = self._run(episode)
            self._refit()

    def loss(self, episode: SeenEpisode) -> float | None:
        """What this head makes of a full run: the regret where it stops it, and the price of the part spent; in [0, 1].

        None for an episode that can't judge a stop: one that was stopped, or that merely happened not to be.
        """
        if not self._is_full(episode):
            return None
        for count, look in self._looks(episode):
            if look.verified or self.should_stop(look):
                return min(1.0, regret_after(episode, count) + PRICE * count / look.budget)
        return min(1.0, PRICE * len(episode.rollouts) / _budget(episode))

    def tensors(self) -> Tensors:
        """The looks of the full runs that are kept, and what was fitted to them."""
        model = self._model
        return {
            "rows": np.concatenate([run.rows for run in self._runs] or [np.zeros((0, COLUMNS))]),
            "regrets": np.concatenate([run.regrets for run in self._runs] or [np.zeros(0)]),
            "saved": np.concatenate([run.saved for run in self._runs] or [np.zeros(0)]),
            "plain": np.concatenate([run.plain for run in self._runs] or [np.zeros(0, dtype=bool)]),
            "looks": np.array([len(run.regrets) for run in self._runs], dtype=np.int64),
            **(
                {}
                if model is None
                else {
                    "centre": model.centre.copy(),
                    "scale": model.scale.copy(),
                    "weights": model.weights.copy(),
                    "covariance": model.covariance.copy(),
                }
            ),
        }

    def meta(self) -> Json:
        """Counts, the threshold, the runs' ids and the names of the features."""
        return {
            "features": list(LOOK_FEATURES),
            "ids": [run.id for run in self._runs],
            "seen": self.seen,
            "waiting": self._waiting,
            "threshold": self.threshold,
            "plain": self.plain,
        }

    def load(self, tensors: Tensors, meta: Json) -> None:
        """Take over what was kept. Raises `ValueError` for other features or shapes that don't fit."""
        if meta.get("features") != list(LOOK_FEATURES):
            raise ValueError("the stop head's saved state has other features.")
        looks = [int(count) for count in tensors["looks"]]
        rows, regrets, saved = (np.asarray(tensors[key], dtype=np.float64) for key in ("rows", "regrets", "saved"))
        if len(looks) != len(meta["ids"]) or rows.shape != (sum(looks), COLUMNS) or regrets.shape != saved.shape:
            raise ValueError("the stop head's saved state doesn't fit together.")
        plain = np.asarray(tensors["plain"], dtype=bool)
        ends = np.cumsum([0, *looks])
        self._runs = [
            _Run(id=EpisodeId(name), rows=rows[a:b], regrets=regrets[a:b], saved=saved[a:b], plain=plain[a:b])
            for name, a, b in zip(meta["ids"], ends[:-1], ends[1:], strict=True)
        ]
        self.seen, self._waiting, self.threshold = int(meta["seen"]), int(meta["waiting"]), meta["threshold"]
        self.plain = bool(meta["plain"])
        kept = {key: np.asarray(tensors[key], dtype=np.float64) for key in _FITTED if key in tensors}
        self._model = Logistic(**kept) if len(kept) == len(_FITTED) else None

    def _is_full(self, episode: SeenEpisode) -> bool:
        return episode.exhausted and len(episode.rollouts) > 1 and self.full_run(episode.id)

    def _looks(self, episode: SeenEpisode) -> Iterator[tuple[int, Look]]:
        """The looks that a search had before it ended, and after how many rollouts."""
        budget = _budget(episode)
        for count in look_times(budget, first=self.first, most=self.most):
            if count < len(episode.rollouts):
                yield count, look_at(episode.rollouts[:count], budget=budget)

    def _run(self, episode: SeenEpisode) -> _Run:
        """The looks of a full run up to its first anchored pass: there the search ends, with nothing lost."""
        rows: list[Vector] = []
        regrets: list[float] = []
        saved: list[float] = []
        plain: list[bool] = []
        for count, look in self._looks(episode):
            if look.verified:
                break
            rows.append(look.features)
            regrets.append(regret_after(episode, count))
            saved.append(_saved(count, look.budget))
            plain.append(plainly_settled(look))
        return _Run(
            id=episode.id,
            rows=np.array(rows).reshape(len(rows), COLUMNS),
            regrets=np.array(regrets),
            saved=np.array(saved),
            plain=np.array(plain, dtype=bool),
        )

    def _refit(self) -> None:
        """Fit the head on all full runs, and its threshold on each by a head that has not seen it."""
        self._waiting = 0
        rows = np.concatenate([run.rows for run in self._runs])
        targets = np.concatenate([run.regrets for run in self._runs])
        owner = np.concatenate([np.full(len(run.regrets), index) for index, run in enumerate(self._runs)]).astype(int)
        if len(rows) < 2:
            return
        weights = np.ones(len(rows))
        self._model = Logistic.fit(rows, targets, weights)
        folds = np.array([_fold(run.id) for run in self._runs])[owner]
        scores = np.ones(len(rows))
        for fold in range(FOLDS):
            inside, outside = folds == fold, folds != fold
            if inside.any() and outside.any():
                fitted = Logistic.fit(rows[outside], targets[outside], weights[outside])
                scores[inside] = fitted.predict(rows[inside])
        scores /= np.concatenate([run.saved for run in self._runs])
        plain = np.concatenate([run.plain for run in self._runs])
        # A plain test stops whatever the threshold is, so its looks come first.
        with_plain = np.where(plain, 0.0, scores)
        runs = len(self._runs)
        self.plain = _first_regrets(targets, owner, plain) <= self.promise * runs
        self.threshold = promised_threshold(
            with_plain if self.plain else scores, targets, owner, runs=runs, promise=self.promise
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """The looks of one full run."""

    id: EpisodeId
    rows: NDArray[np.float64]  # [looks, 16]
    regrets: Vector  # [looks]
    saved: Vector  # [looks], the part of the budget that stopping there saves
    plain: NDArray[np.bool_]  # [looks], whether a plain test stops there


_FITTED = ("centre", "scale", "weights", "covariance")


def promised_threshold(
    scores: Vector, regrets: Vector, owner: NDArray[np.int64], *, runs: int, promise: float
) -> float | None:
    """The highest threshold at which stopping at the first look whose score is not above it keeps the promise.

    `owner` numbers each look's run; a run's looks come in order. A run's loss is the worst that any threshold up to
    this one would have cost it, for only a loss that never falls as the threshold rises can be promised. None when
    (Σ loss + 1) / (runs + 1) is above `promise` even for the lowest.
    """
    spent, best = 0.0, None
    # As the threshold rises, a run's stop moves to an earlier look each time one of its scores is reached.
    first = np.full(runs, np.iinfo(np.int64).max)
    worst = np.zeros(runs)
    order = np.lexsort((np.arange(len(scores)), scores))
    for place, look in enumerate(order):
        run = owner[look]
        if look < first[run]:
            first[run] = look
            spent += max(0.0, float(regrets[look]) - worst[run])
            worst[run] = max(worst[run], float(regrets[look]))
        if (spent + 1.0) / (runs + 1) > promise:
            break
        # Equal scores are reached together.
        if place + 1 == len(order) or scores[order[place + 1]] > scores[look]:
            best = float(scores[look])
    return best


def plainly_settled(look: Look) -> bool:
    """The tests that need no learning: a leader that can hardly be overtaken, or that evidence puts far ahead."""
    return look.certain or bool(look.features[GAP] >= EVIDENCE_LEAD)


def _first_regrets(regrets: Vector, owner: NDArray[np.int64], stops: NDArray[np.bool_]) -> float:
    """The sum of the runs' regrets at the first look that stops."""
    places = np.flatnonzero(stops)
    return float(regrets[places[np.unique(owner[places], return_index=True)[1]]].sum())


def _budget(episode: SeenEpisode) -> int:
    return max(episode.budget, len(episode.rollouts))


def _saved(count: int, budget: int) -> float:
    return (budget - count) / budget


def _fold(episode_id: EpisodeId) -> int:
    return hashlib.sha256(f"fold {episode_id}".encode()).digest()[0] % FOLDS


def _inputs(rows: NDArray[np.float64], centre: Vector, scale: Vector) -> NDArray[np.float64]:
    # Beyond four spreads nothing more is known: one odd search may not shout.
    standard = np.clip((rows - centre) / scale, -4.0, 4.0)
    return np.concatenate([np.ones((len(rows), 1)), standard], axis=1)
