"""P(correct) held to account: a stated confidence, mapped to how often it has been right.

The only judges are anchored checks. Where one has decided about an answer, what agreement alone would have said of that
answer is compared with the outcome, and a logistic map on the log-odds is fitted to all such pairs (Platt 1999), with a
prior that holds it at the identity until the pairs say otherwise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import numpy as np

NEWEST = 1000
"""Pairs that are kept: what is calibrated is the model and the prompts of now."""

SLOPE_SPREAD, INTERCEPT_SPREAD = 0.25, 0.75
"""Prior standard deviations around the identity. A dozen pairs outweigh them."""


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
            self.slope, self.intercept = _fitted(self._pairs)

    def __call__(self, stated: float) -> float:
        """What the confidence `stated` has been worth."""
        return 1.0 / (1.0 + math.exp(-(self.intercept + self.slope * _logit(stated))))


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-3), 1 - 1e-3)
    return math.log(bounded / (1 - bounded))


def _fitted(pairs: Iterable[tuple[float, bool]]) -> tuple[float, float]:
    """Maximum a posteriori slope and intercept, by Newton's method; the slope stays positive, so order is kept."""
    stated, passed = zip(*pairs, strict=True)
    inputs = np.stack([np.array([_logit(p) for p in stated]), np.ones(len(stated))])  # [2, N]
    labels = np.array(passed, dtype=float)
    centre = np.array([1.0, 0.0])
    precision = np.array([SLOPE_SPREAD, INTERCEPT_SPREAD]) ** -2.0
    weights = centre.copy()
    for _ in range(25):
        predicted = 1.0 / (1.0 + np.exp(-(weights @ inputs)))
        gradient = inputs @ (predicted - labels) + precision * (weights - centre)
        curvature = (inputs * (predicted * (1 - predicted))) @ inputs.T + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return max(float(weights[0]), 0.05), float(weights[1])
