"""Layers whose first weights are the same every time, whatever other threads do to torch meanwhile."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def linear(inputs: int, outputs: int, generator: np.random.Generator) -> nn.Linear:
    """A float32 layer with torch's usual first weights, uniform within 1 / √inputs, drawn by `generator`.

    Neither torch's global generator nor its default type has a part in it: a thread that loads a model sets both, and
    the learner builds its networks beside it.
    """
    layer = _blank(inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            drawn = generator.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(drawn))
    return layer


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A float32 layer of zeros."""
    layer = _blank(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _blank(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights nobody has drawn yet."""
    return nn.Linear(inputs, outputs, device="meta", dtype=torch.float32).to_empty(device="cpu")
