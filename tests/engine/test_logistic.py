"""The fit that calibrations, the noise model and the stop head share: the exact optimum, however far it lies."""

from __future__ import annotations

import numpy as np
import pytest

from kaelum_graph.calibration import Calibration
from kaelum_graph.logistic import Reals, fitted, sigmoid


def gradient(weights: Reals, inputs: Reals, labels: Reals, centre: Reals, precision: Reals, counts: Reals) -> Reals:
    return inputs @ (counts * (sigmoid(weights @ inputs) - labels)) + precision * (weights - centre)


@pytest.mark.parametrize("seed", range(20))
def test_at_the_fitted_weights_nothing_pulls(seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((3, 200)) * random.choice([0.01, 1.0, 30.0], (3, 1))
    labels, counts = random.random(200).round(), random.integers(0, 9, 200).astype(float)
    centre, precision = random.standard_normal(3), np.array([16.0, 1.0, 0.01])
    weights, curvature = fitted(inputs, labels, centre=centre, precision=precision, counts=counts)
    pull = gradient(weights, inputs, labels, centre, precision, counts)
    assert np.abs(np.linalg.solve(curvature, pull)).max() < 1e-6


def test_a_whole_step_that_overshoots_is_not_taken() -> None:
    """Confidences that have been the wrong way round in hundreds of cases: whole steps diverged here."""
    random = np.random.default_rng(3)
    stated = random.uniform(0.37, 0.69, 779)
    wrong = Calibration([(p, bool(random.random() > p)) for p in stated.tolist()])
    assert wrong.slope == 0.05, "more agreement is never less sure"
    assert 0.4 < wrong(0.5) < 0.6
    rare = Calibration([(float(p), index % 15 == 0) for index, p in enumerate(np.linspace(0.41, 0.49, 711))])
    assert rare(0.45) == pytest.approx(1 / 15, abs=0.02)


def test_without_anything_seen_the_prior_stands() -> None:
    centre = np.array([1.0, -2.0])
    weights, curvature = fitted(np.zeros((2, 0)), np.zeros(0), centre=centre, precision=np.array([4.0, 9.0]))
    np.testing.assert_array_equal(weights, centre)
    np.testing.assert_array_equal(curvature, np.diag([4.0, 9.0]))
