"""Logistic regression with a Gaussian prior, fitted exactly: what is learned from few outcomes is mostly this."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

MOST_STEPS = 50
MOST_HALVINGS = 30


def sigmoid(logits: Reals) -> Reals:
    """`1 / (1 + exp(-x))` without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def fitted(
    inputs: Reals, labels: Reals, *, centre: Reals, precision: Reals, counts: Reals | None = None
) -> tuple[Reals, Reals]:
    """Maximum a posteriori weights `[K]` of the rows of `inputs` `[K, N]`, and the curvature `[K, K]` there.

    `labels` `[N]` in [0, 1]; `counts` `[N]`: how much each counts. The prior has the mean `centre` `[K]` and the
    variances 1 / `precision` `[K]`. Newton's method: a step that leads upwards is halved until it does not, because
    where the curve is flat a whole one may end further away than it began, and the next one further still.
    """
    worth = np.ones(len(labels)) if counts is None else counts

    def loss(weights: Reals) -> float:
        logits = weights @ inputs
        return float(worth @ (np.logaddexp(0.0, logits) - labels * logits) + precision @ (weights - centre) ** 2 / 2)

    weights, curvature = np.array(centre, dtype=np.float64), np.diag(precision)
    now = loss(weights)
    for _ in range(MOST_STEPS):
        predicted = sigmoid(weights @ inputs)
        gradient = inputs @ (worth * (predicted - labels)) + precision * (weights - centre)
        curvature = (inputs * (worth * predicted * (1.0 - predicted))) @ inputs.T + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        for _ in range(MOST_HALVINGS):
            reached = loss(weights - step)
            if reached <= now:
                break
            step = step / 2
        else:  # as near as numbers come
            break
        weights, now = weights - step, reached
        if np.abs(step).max() < 1e-9:
            break
    return weights, curvature
