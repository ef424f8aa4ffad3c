"""Drawing the next token for many rows at once, each row with its own temperature, top-p, top-k and random numbers.

Sorting a vocabulary of 152,000 and drawing from all of it costs a small model more than its own forward pass. The
nucleus nearly always lies within the few hundred likeliest tokens, so those are picked first (exactly: a token can
only be among the k likeliest if its chunk's maximum is among the k largest chunk maxima), and a row whose nucleus
does not fit them is drawn from its whole sorted vocabulary.

The draw itself inverts the cumulative distribution in order of token ids with one uniform number a token. So a row's
text is a function of its logits and its own numbers alone, whatever shares its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import Sampling

CANDIDATES = 256
CHUNK = 64
LEAST_TEMPERATURE = 1e-6
"""A lower one is greedy in effect, and logits divided by much less would be infinite."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Next tokens `[B]`, the log-probabilities `[B]` that the model itself gives them, and the entropies `[B]`."""

    tokens: Tensor
    logprobs: Tensor
    entropies: Tensor


def check_sampling(sampling: Sampling) -> None:
    """Raise `UsageError` naming the first setting that has a value it must not have."""
    if not _is_number(sampling.temperature) or sampling.temperature < 0:
        raise UsageError(f"temperature is {sampling.temperature}; it must be a number of at least 0")
    if not _is_number(sampling.top_p) or not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p is {sampling.top_p}; it must be a number above 0 and at most 1")
    if not isinstance(sampling.top_k, int) or sampling.top_k < 0:
        raise UsageError(f"top_k is {sampling.top_k}; it must be a whole number of at least 0 (0 is off)")
    if not isinstance(sampling.max_tokens, int) or sampling.max_tokens < 1:
        raise UsageError(f"max_tokens is {sampling.max_tokens}; it must be a whole number of at least 1")
    if sampling.seed is not None and not isinstance(sampling.seed, int):
        raise UsageError(f"seed is {sampling.seed!r}; it must be a whole number")
    if isinstance(sampling.stop, str) or not all(isinstance(text, str) and text for text in sampling.stop):
        raise UsageError(f"stop is {sampling.stop!r}; it must be a tuple of non-empty strings")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def uniforms(seed: int | None, sample_index: int, count: int) -> NDArray[np.float64]:
    """`[count]` numbers in [0, 1): a function of (seed, sample_index), or fresh ones without a seed."""
    entropy = None if seed is None else (abs(seed), int(seed < 0), sample_index)
    return np.random.default_rng(np.random.SeedSequence(entropy)).random(count)


def draw(
    logits: Tensor,
    *,
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    top_ks: Sequence[int],
    numbers: Sequence[float],
) -> Draw:
    """One token for each row of `logits` `[B, V]` (float32, raw); `numbers` are uniform in [0, 1).

    Temperature 0, or one under `LEAST_TEMPERATURE`, is greedy (the lowest id wins a tie). A row with
    non-finite logits gets a NaN log-probability.
    """
    device = logits.device
    temperatures = [t if t >= LEAST_TEMPERATURE else 0.0 for t in temperatures]
    temperature = torch.tensor(temperatures, dtype=torch.float32, device=device)
    top_p = torch.tensor(top_ps, dtype=torch.float64, device=device)
    top_k = torch.tensor(top_ks, dtype=torch.int64, device=device)
    number = torch.tensor(numbers, dtype=torch.float64, device=device)

    values, ids = likeliest(logits, CANDIDATES)
    tokens = torch.where(values == values[:, :1], ids, logits.shape[1]).amin(-1)

    sampled = [row for row, t in enumerate(temperatures) if t > 0]
    # The whole vocabulary is open to a row without top-p and top-k; to sort it would be waste.
    open_rows = [row for row in sampled if top_ps[row] >= 1 and top_ks[row] == 0]
    nucleus_rows = [row for row in sampled if not (top_ps[row] >= 1 and top_ks[row] == 0)]
    for row in open_rows:
        probability = torch.softmax(logits[row].double() / temperature[row], -1)
        every_id = torch.arange(logits.shape[1], device=device)
        tokens[row] = _invert(probability[None], every_id[None], number[row : row + 1])[0]
    if nucleus_rows:
        whole = len(nucleus_rows) == len(temperatures)
        rows = torch.tensor(nucleus_rows, device=device)
        picked = logits if whole else logits[rows]
        hot = temperature[rows, None]
        mass = torch.logsumexp(picked / hot, -1, keepdim=True)
        settings = (hot, mass, top_p[rows, None], top_k[rows, None], number[rows])
        chosen, enough = _from_sorted(values[rows], ids[rows], *settings, complete=values.shape[1] == logits.shape[1])
        for short in torch.nonzero(~enough).flatten().tolist():
            everything = picked[short : short + 1].sort(dim=-1, descending=True, stable=True)
            one = [setting[short : short + 1] for setting in settings]
            chosen[short] = _from_sorted(everything.values, everything.indices, *one, complete=True)[0][0]
        tokens[rows] = chosen

    # A row without one finite maximum has no candidate equal to it; keep the index legal, its NaN tells the rest.
    tokens = tokens.clamp(max=logits.shape[1] - 1)
    normaliser = logits.logsumexp(-1)
    return Draw(
        tokens=tokens,
        logprobs=own_logprobs(logits, tokens, normaliser),
        entropies=entropies(logits, values, normaliser),
    )


def entropies(logits: Tensor, values: Tensor, normaliser: Tensor | None = None) -> Tensor:
    """Entropy `[B]` in nats of each row of raw `logits` `[B, V]`, of which `values` `[B, K]` are the largest.

    `normaliser` `[B]` is their log-sum-exp, where it is known already.

    What is left beside them is taken to be spread evenly: an upper bound, and exact to a thousandth where they hold
    nearly all of it.
    """
    logprobs = values - (logits.logsumexp(-1) if normaliser is None else normaliser)[:, None]
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    others = logits.shape[1] - values.shape[1]
    if others:
        rest = (1.0 - logprobs.exp().sum(-1)).clamp(min=1e-12)
        entropy = entropy - rest * (rest / others).log()
    return entropy


def own_logprobs(logits: Tensor, tokens: Tensor, normaliser: Tensor | None = None) -> Tensor:
    """Log-probabilities `[B]` of `tokens` `[B]` under raw `logits` `[B, V]`; NaN where these are not finite."""
    normaliser = logits.logsumexp(-1) if normaliser is None else normaliser
    logprobs = logits.gather(1, tokens[:, None])[:, 0] - normaliser
    return torch.where(torch.isfinite(normaliser), logprobs, torch.nan)


def alternatives(logits: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """The `count` likeliest tokens of each row of raw `logits` `[B, V]` with their log-probabilities, in order."""
    values, ids = likeliest(logits, count)
    logprobs = values - logits.logsumexp(-1, keepdim=True)
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), logprobs.tolist(), strict=True)]


def likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` (at most V) largest values of each row of `logits` `[B, V]`, descending, and their ids."""
    rows, vocabulary = logits.shape
    whole = vocabulary - vocabulary % CHUNK
    chunks = whole // CHUNK
    if chunks <= count:
        top = logits.topk(min(count, vocabulary), dim=-1)
        return top.values, top.indices
    chunked = logits[:, :whole].view(rows, chunks, CHUNK)
    best = chunked.amax(-1).topk(count, dim=-1, sorted=False).indices
    values = chunked.gather(1, best[..., None].expand(-1, -1, CHUNK)).flatten(1)
    ids = (best[..., None] * CHUNK + torch.arange(CHUNK, device=logits.device)).flatten(1)
    if whole < vocabulary:
        rest = torch.arange(whole, vocabulary, device=logits.device).expand(rows, -1)
        values, ids = torch.cat([values, logits[:, whole:]], 1), torch.cat([ids, rest], 1)
    top = values.topk(count, dim=-1)
    return top.values, ids.gather(1, top.indices)


def _from_sorted(
    values: Tensor,
    ids: Tensor,
    temperature: Tensor,
    mass: Tensor,
    top_p: Tensor,
    top_k: Tensor,
    number: Tensor,
    *,
    complete: bool,
) -> tuple[Tensor, Tensor]:
    """Tokens `[B]` drawn from descending candidates `[B, K]`, and `[B]` whether the candidates held the nucleus.

    Temperature, then top-k, then top-p within what top-k left, as transformers orders them. `mass` `[B, 1]` is the
    log-sum-exp of the whole row at this temperature. `complete` says that K is the whole vocabulary.
    """
    width = values.shape[1]
    probability = (values / temperature - mass).exp().double()
    rank = torch.arange(width, device=values.device)
    limited = (top_k > 0) & (top_k < width)
    probability = torch.where(limited & (rank >= top_k), 0.0, probability)
    total = torch.where(limited, probability.sum(-1, keepdim=True), 1.0)
    cumulative = (probability / total).cumsum(-1)
    before = cumulative - probability / total
    kept = torch.where((before < top_p) | (rank == 0), probability, 0.0)
    enough = limited[:, 0] | (cumulative[:, -1] >= top_p[:, 0])
    if complete:
        enough = torch.ones_like(enough)
    order = ids.argsort(dim=-1)
    return _invert(kept.gather(1, order), ids.gather(1, order), number), enough


def _invert(probability: Tensor, ids: Tensor, number: Tensor) -> Tensor:
    """The id at which the cumulative `probability` `[B, K]` (any scale, float64) passes `number` `[B]` of its total."""
    cumulative = probability.cumsum(-1)
    # Rounding up to the total itself would point past the last token that has any probability.
    target = (number * (1 - 1e-12) * cumulative[:, -1])[:, None]
    position = torch.searchsorted(cumulative, target, right=True).clamp(max=probability.shape[1] - 1)
    return ids.gather(1, position)[:, 0]
