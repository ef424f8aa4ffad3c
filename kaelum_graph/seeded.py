"""Building torch modules whose first weights are the same every time."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()


@contextmanager
def same_weights() -> Generator[None]:
    """Modules made within begin with the same weights every time, and nobody else's random numbers move.

    Modules draw from torch's one global generator, so one thread at a time: the learner and the queries both build.
    """
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
