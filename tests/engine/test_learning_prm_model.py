"""The loss of the reward model's two parts believes a label as far as the label says that it is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kaelum_graph.learning.prm_model import INLET, BayesianHead, Examples, Residual, ResidualExample, told
from kaelum_graph.logistic import sigmoid

WORKERS = 2


def slope(logit: float, label: float) -> float:
    """Of −log `told` by the logit."""
    at = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    (-told(torch.sigmoid(at), torch.tensor([label], dtype=torch.float64)).log()).sum().backward()
    assert at.grad is not None
    return float(at.grad)


@pytest.mark.parametrize("label", [0.05, 0.5, 0.85, 0.99])
@pytest.mark.parametrize("predicted", [0.02, 0.4, 0.9])
def test_the_gradient_is_the_prediction_less_its_posterior(predicted: float, label: float) -> None:
    chance = told(np.array([predicted]), np.array([label]))[0]
    expected = predicted - predicted * label / chance
    assert slope(np.log(predicted / (1 - predicted)), label) == pytest.approx(expected, abs=1e-9)
    assert (abs(expected) < 1e-12) == (label == 0.5)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 3.0])
def test_a_sure_label_is_cross_entropy(logit: float) -> None:
    predicted = float(sigmoid(np.array([logit]))[0])
    assert slope(logit, 0.99999) == pytest.approx(predicted - 1.0, abs=1e-3)
    assert slope(logit, 0.00001) == pytest.approx(predicted, abs=1e-3)


def example(*, targets: float, offset: float = 2.0) -> ResidualExample:
    generator = np.random.default_rng(3)
    return ResidualExample(
        inputs=generator.standard_normal((4, INLET + WORKERS)).astype(np.float32),
        rollouts=np.array([0, 0, 1, 1]),
        steps=np.array([2, 2], dtype=np.float32),
        offsets=np.full(2, offset, dtype=np.float32),
        targets=np.full(2, targets, dtype=np.float32),
        weights=np.ones(2, dtype=np.float32),
        pairs=np.zeros((0, 2), dtype=np.int64),
        pair_weights=np.zeros(0, dtype=np.float32),
    )


@pytest.mark.parametrize(("targets", "sign"), [(0.5, 0.0), (0.99, 1.0), (0.01, -1.0), (0.85, 1.0)])
def test_the_network_goes_where_labels_say_and_nowhere_for_a_coin(targets: float, sign: float) -> None:
    network, query = Residual(WORKERS), example(targets=targets)
    for _ in range(3):
        network.learn([query])
    assert np.sign(network.logits(query.inputs)).tolist() == [sign] * 4


def test_the_networks_gradient_is_the_heads() -> None:
    network, label, offset = Residual(WORKERS), 0.85, 0.7
    network.learn([example(targets=label, offset=offset)])
    moved = network.network.outlet.bias.grad
    assert moved is not None
    head = BayesianHead(("bias",))
    head.weights = np.array([offset])
    rows = Examples(rows=np.ones((2, 1)), labels=np.full(2, label), weights=np.ones(2))
    gradient, _ = head._slope(rows)  # pyright: ignore[reportPrivateUsage]
    assert float(moved[0]) == pytest.approx(float(gradient[0]), rel=1e-5)
