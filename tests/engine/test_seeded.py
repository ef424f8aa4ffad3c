"""Networks begin with the same float32 weights, whatever is done to torch meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
import pytest
import torch

from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.prm_model import Residual
from kaelum_graph.learning.router_learner import RouterLearner, new_network
from kaelum_graph.types import WorkerName

WORKERS = [WorkerName(name) for name in ("math", "code")]


@pytest.fixture
def while_a_model_loads() -> Generator[None]:
    """A thread that sets torch's default type, as the loading of a model in bfloat16 does, and its generator."""
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            torch.set_default_dtype(torch.bfloat16)
            torch.manual_seed(1)
            torch.rand(3)

    thread = threading.Thread(target=load)
    thread.start()
    yield
    stop.set()
    thread.join()
    torch.set_default_dtype(torch.float32)


def test_weights_are_the_usual_ones(while_a_model_loads: None) -> None:
    usual = [(name, tensor.dtype) for name, tensor in new_network(6).state_dict().items()]
    assert {kind for _, kind in usual} == {torch.float32}
    first = {name: tensor.clone() for name, tensor in new_network(6).state_dict().items()}
    for _ in range(20):
        made = new_network(6).state_dict()
        assert all(torch.equal(tensor, made[name]) for name, tensor in first.items())
    residual = Residual(6).network.state_dict()
    for _ in range(20):
        assert all(torch.equal(tensor, residual[name]) for name, tensor in Residual(6).network.state_dict().items())


def test_what_learns_can_be_kept_and_taken_over(while_a_model_loads: None) -> None:
    noise = NoiseModel()
    prototypes = np.eye(2, 384, dtype=np.float32)
    router = RouterLearner(workers=WORKERS, prototypes=prototypes, noise=noise)
    other = RouterLearner(workers=WORKERS, prototypes=prototypes, noise=noise)
    other.load(router.tensors(), router.meta())
    model, twin = (RewardModel(noise=noise, workers=WORKERS, prototypes=prototypes) for _ in range(2))
    twin.load(model.tensors(), model.meta())
    for one, same in ((router, other), (model, twin)):
        kept = one.tensors()
        for name, array in kept.items():
            np.testing.assert_array_equal(array, same.tensors()[name], err_msg=name)


def test_nobody_elses_random_numbers_move() -> None:
    before = torch.random.get_rng_state()
    new_network(3)
    assert torch.equal(before, torch.random.get_rng_state())
