"""Keys and values of prompts already read, so that what a new prompt shares with one of them is not read again.

A worker's instructions and examples stand before every question it gets, and a second look at an attempt begins with
the first question whole: on a CPU, where reading is bound by arithmetic, most of a short query's time goes there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache

MOST_BYTES = 256 * 2**20
LEAST_TOKENS = 24
"""A shorter common beginning (the chat template's own) saves less than its copy costs."""

Layers = list[tuple[Tensor, Tensor]]


class PrefixCache:
    """Least recently used prompts with the keys and values of all their tokens, `[1, H, L, D]` a layer."""

    def __init__(self, config: Any, *, most_bytes: int = MOST_BYTES) -> None:
        self._config = config
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[int, ...], Layers] = OrderedDict()
        self._bytes = 0

    def begins(self, ids: Sequence[int]) -> bool:
        """Whether `ids` begins as a kept prompt does, for long enough to be worth it."""
        return self._nearest(ids)[1] > 0

    def longest(self, ids: Sequence[int]) -> tuple[DynamicCache, int]:
        """A fresh cache of the longest beginning that `ids` has in common with a kept prompt, and its length.

        It never holds all of `ids`: what reads on needs a token to read. Empty with length 0 when nothing fits.
        """
        cache = DynamicCache(config=self._config)
        best, length = self._nearest(ids)
        if best is not None:
            self._kept.move_to_end(best)
            length = min(length, len(ids) - 1)
            for index, (keys, values) in enumerate(self._kept[best]):
                cache.update(keys[:, :, :length].clone(), values[:, :, :length].clone(), index)
        return cache, length

    def _nearest(self, ids: Sequence[int]) -> tuple[tuple[int, ...] | None, int]:
        best, length = None, 0
        for kept in self._kept:
            common = common_length(kept, ids)
            if common >= LEAST_TOKENS and common > length:
                best, length = kept, common
        return best, length

    def keep(self, ids: Sequence[int], cache: Any, *, row: int = 0) -> None:
        """Keep what `cache` holds at the right edge of its row `row` for `ids`; the oldest prompts make room."""
        key = tuple(ids)
        if key in self._kept or len(key) < LEAST_TOKENS:
            return
        layers = [
            (layer.keys[row : row + 1, :, -len(key) :].clone(), layer.values[row : row + 1, :, -len(key) :].clone())
            for layer in cache.layers
        ]
        size = _bytes(layers)
        if size > self._most_bytes:
            return
        self._kept[key] = layers
        self._bytes += size
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _bytes(oldest)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many items two sequences begin with in common."""
    shorter = min(len(left), len(right))
    for place in range(shorter):
        if left[place] != right[place]:
            return place
    return shorter


def _bytes(layers: Layers) -> int:
    return sum(tensor.numel() * tensor.element_size() for pair in layers for tensor in pair)
