"""Modules begin with the same weights whichever threads build them."""

from __future__ import annotations

import threading

import torch

from kaelum_graph.learning.prm_model import Residual
from kaelum_graph.learning.router_learner import new_network


def test_two_threads_that_build_at_once_get_the_usual_weights() -> None:
    usual = [one.clone() for one in Residual(6).network.state_dict().values()]
    different: list[int] = []
    stop = threading.Event()

    def beside() -> None:
        while not stop.is_set():
            new_network(6)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        for round_ in range(60):
            made = Residual(6).network.state_dict().values()
            if not all(torch.equal(one, other) for one, other in zip(usual, made, strict=True)):
                different.append(round_)
    finally:
        stop.set()
        thread.join()
    assert different == []


def test_nobody_elses_random_numbers_move() -> None:
    before = torch.random.get_rng_state()
    new_network(3)
    assert torch.equal(before, torch.random.get_rng_state())
