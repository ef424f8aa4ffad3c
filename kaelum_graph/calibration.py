"""P(correct) held to account: a stated confidence, mapped to how often it has been right.

The only judges are anchored checks. Where one has decided about an answer, what agreement alone would have said of that
answer is compared with the outcome, and a logistic map on the log-odds is fitted to all such pairs (Platt 1999), with a
prior that holds it at the identity until the pairs say otherwise. Votes that a reward model weighs are a second
opinion: how far that may move a confidence is fitted too, and it is not at all until it has been right.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.logistic import fitted

NEWEST = 1000
"""Pairs that are kept: what is calibrated is the model and the prompts of now."""

SLOPE_SPREAD, SHIFT_SPREAD, INTERCEPT_SPREAD = 0.25, 0.05, 0.75
"""Prior standard deviations around the identity. A dozen pairs outweigh them, but for that of the shift: it takes
hundreds. A reward model knows best which answers pass the checks that taught it; of answers that no check decides, its
word is worth less."""
LEAST_SLOPE = 0.05
"""More agreement is never less sure."""


class Calibration:
    """A map of stated confidences, `p → σ(intercept + slope · logit p)`; the identity before anything was seen."""

    def __init__(self, pairs: Iterable[tuple[float, bool]] = ()) -> None:
        self._pairs: deque[tuple[float, bool]] = deque(maxlen=NEWEST)
        self.slope, self.intercept = 1.0, 0.0
        self.learn(pairs)

    def learn(self, pairs: Iterable[tuple[float, bool]]) -> None:
        """Take in confidences in (0, 1) that were stated, and whether an anchored check then passed the answer."""
        before = len(self._pairs)
        new = list(pairs)
        self._pairs.extend(new)
        if new or before != len(self._pairs):
            stated, passed = zip(*self._pairs, strict=True)
            inputs = np.stack([np.array([_logit(p) for p in stated]), np.ones(len(stated))])
            slope, self.intercept = _fitted(inputs, passed, centre=(1.0, 0.0), spreads=(SLOPE_SPREAD, INTERCEPT_SPREAD))
            self.slope = max(slope, LEAST_SLOPE)

    def __call__(self, stated: float) -> float:
        """What the confidence `stated` has been worth."""
        return 1.0 / (1.0 + math.exp(-(self.intercept + self.slope * _logit(stated))))


Votes = tuple[float, float, bool]
"""What plain votes said of an answer, what weighed ones said, and whether an anchored check then passed it."""


class VoteCalibration:
    """Fixed once made. What an answer's confidence by plain votes and by weighed ones comes to together,
    `σ(intercept + slope · logit plain + shift · (logit weighed − logit plain))`; that of plain votes before anything
    was seen."""

    def __init__(self, seen: Iterable[Votes] = ()) -> None:
        self._seen: deque[Votes] = deque(seen, maxlen=NEWEST)
        self.slope, self.shift, self.intercept = 1.0, 0.0, 0.0
        if not self._seen:
            return
        rows = np.array([(_logit(plain), _logit(weighed) - _logit(plain), 1.0) for plain, weighed, _ in self._seen])
        passed, spreads = [passed for *_, passed in self._seen], (SLOPE_SPREAD, SHIFT_SPREAD, INTERCEPT_SPREAD)
        slope, shift, self.intercept = _fitted(rows.T, passed, centre=(1.0, 0.0, 0.0), spreads=spreads)
        if shift < 0.0:  # it has been wrong: as if there were no weighed votes
            slope, self.intercept = _fitted(rows.T[[0, 2]], passed, centre=(1.0, 0.0), spreads=spreads[::2])
        self.slope = max(slope, LEAST_SLOPE)
        # No more than the slope, lest more plain votes make an answer less sure.
        self.shift = min(max(shift, 0.0), self.slope)

    def plus(self, seen: Iterable[Votes]) -> VoteCalibration:
        """One that has also taken in these confidences in (0, 1) and what a check then said."""
        new = list(seen)
        return VoteCalibration([*self._seen, *new]) if new else self

    def __call__(self, plain: float, weighed: float) -> float:
        """What these two confidences of an answer have been worth."""
        shift = self.shift * (_logit(weighed) - _logit(plain))
        return 1.0 / (1.0 + math.exp(-(self.intercept + self.slope * _logit(plain) + shift)))


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-3), 1 - 1e-3)
    return math.log(bounded / (1 - bounded))


def _fitted(
    inputs: NDArray[np.float64], passed: Sequence[bool], *, centre: Sequence[float], spreads: Sequence[float]
) -> list[float]:
    """Maximum a posteriori weights of the rows of `inputs` `[K, N]`."""
    labels, precision = np.array(passed, dtype=float), np.array(spreads) ** -2.0
    weights, _ = fitted(inputs, labels, centre=np.array(centre), precision=precision)
    return weights.tolist()
