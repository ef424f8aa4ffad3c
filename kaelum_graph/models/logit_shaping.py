"""What a request adds to the model's logits before a token is drawn: biases, penalties, and the mask of a grammar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kaelum_graph.errors import KaelumError
from kaelum_graph.models.base import Sampling
from kaelum_graph.models.grammars import Constraint


class LogitShaper:
    """The changes to one sample's logits, which follow the tokens it has drawn."""

    def __init__(self, sampling: Sampling, constraint: Constraint | None) -> None:
        self._bias = dict(sampling.logit_bias)
        self._frequency = sampling.frequency_penalty
        self._presence = sampling.presence_penalty
        self._counts: Counter[int] = Counter()
        self._constraint = constraint

    @property
    def ended(self) -> bool:
        """True where the grammar is fulfilled and lets nothing follow."""
        return self._constraint is not None and self._constraint.ended

    def take(self, token: int) -> None:
        """Note the token that was drawn. Raises `ModelError` where the grammar does not allow it."""
        if self._frequency or self._presence:
            self._counts[token] += 1
        if self._constraint is not None:
            self._constraint.take(token)

    def apply(self, logits: Tensor) -> None:
        """Change one row of logits `[V]` in place. Raises `UsageError` where the grammar cannot be followed."""
        changes = dict(self._bias)
        for token, count in self._counts.items():
            changes[token] = changes.get(token, 0.0) - count * self._frequency - self._presence
        if changes:
            ids = torch.tensor(list(changes), device=logits.device)
            logits[ids] += torch.tensor(list(changes.values()), dtype=logits.dtype, device=logits.device)
        if self._constraint is not None:
            allowed = self._constraint.allowed()[: len(logits)]
            forbidden = np.ones(len(logits), dtype=np.bool_)
            np.logical_not(allowed, out=forbidden[: len(allowed)])
            logits.masked_fill_(torch.from_numpy(forbidden).to(logits.device), -torch.inf)


def shaper_for(sampling: Sampling, constraint: Constraint | None) -> LogitShaper | None:
    """A shaper where there is anything to shape."""
    shapes = sampling.logit_bias or sampling.frequency_penalty or sampling.presence_penalty or constraint is not None
    return LogitShaper(sampling, constraint) if shapes else None


class Shaped(Protocol):
    """A sample whose logits may be shaped."""

    @property
    def shaper(self) -> LogitShaper | None: ...

    def fail(self, error: KaelumError) -> None: ...


def shape_rows(samples: Sequence[Shaped], logits: Tensor) -> tuple[list[int], Tensor]:
    """Shape the rows of `logits` `[B, V]` in place; the rows that were `[R]`, and what they held before `[R, V]`.

    A sample whose grammar cannot be followed fails, alone.
    """
    rows = [row for row, sample in enumerate(samples) if sample.shaper is not None]
    if not rows:
        return rows, logits[:0]
    before = logits[rows]
    for row in rows:
        sample = samples[row]
        assert sample.shaper is not None
        try:
            sample.shaper.apply(logits[row])
        except KaelumError as error:
            sample.fail(error)
    return rows, before
