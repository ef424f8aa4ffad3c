"""Means with their 95% bootstrap intervals, over queries, orders or both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.router_stream import Floats

RESAMPLES = 1000


def mean_of(values: Floats, seed: int = 0) -> str:
    """Mean of `[M]` with its interval over queries."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return f"{values.mean():.3f} ({low:.3f} – {high:.3f})"


def resampled(top: Floats, bottom: Floats, seed: int = 1) -> tuple[float, float, float]:
    """Σ top / Σ bottom over `[O, M]` with its interval over orders and queries."""
    generator = np.random.default_rng(seed)
    orders, queries = top.shape
    ratios = []
    for _ in range(RESAMPLES):
        by_order = np.bincount(generator.integers(0, orders, orders), minlength=orders)
        by_query = np.bincount(generator.integers(0, queries, queries), minlength=queries)
        below = by_order @ bottom @ by_query
        ratios.append((by_order @ top @ by_query) / below if abs(below) > 1e-9 else np.nan)
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    return float(top.sum() / bottom.sum()), float(low), float(high)


def told(three: tuple[float, float, float], form: str = ".3f") -> str:
    """A figure with its interval."""
    return f"{three[0]:{form}} ({three[1]:{form}} – {three[2]:{form}})"


def interval(values: Sequence[float], seed: int = 2) -> tuple[float, float, float]:
    """Mean over orders with its interval."""
    array = np.array(values)
    drawn = np.random.default_rng(seed).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), [2.5, 97.5])
    return float(array.mean()), float(low), float(high)
