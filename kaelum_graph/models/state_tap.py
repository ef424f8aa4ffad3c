"""Hidden states of a model as it generates, at no cost: they are read in passing, never computed again."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

HEIGHT = 2 / 3
"""Which layer is read, as a share of the model's depth. Of 8, 12, 16, 20 and 24 of 24 layers, the 16th told right from
wrong rollouts of the same query best (within-query AUROC 0.62 against 0.56 to 0.61)."""


class StateTap:
    """Keeps the output of one decoder layer at the last position of each row."""

    def __init__(self, layer: Any) -> None:
        self._latest: Tensor | None = None
        layer.register_forward_hook(self._take)

    @classmethod
    def on(cls, model: Any) -> Self | None:
        """A tap on the layer two thirds up; None for a model whose layers aren't found."""
        decoder = getattr(model, "model", None)
        layers = getattr(decoder, "layers", None)
        if layers is None or not len(layers):
            return None
        return cls(layers[max(0, round(len(layers) * HEIGHT) - 1)])

    def latest(self, rows: int) -> Tensor | None:
        """`[rows, H]` of the newest forward pass; None where that had another number of rows."""
        latest = self._latest
        return latest if latest is not None and len(latest) == rows else None

    def _take(self, layer: Any, arguments: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        # A copy: a view would keep a whole prompt's states in memory.
        self._latest = hidden[:, -1].detach().clone()
