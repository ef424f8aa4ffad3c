"""What is known of each reasoning step beside its words: how sure the model was, and what it held in mind."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kaelum_graph.learning.episode import STATE_SIZE, STEP_SCALARS
from kaelum_graph.models.base import HiddenState
from kaelum_graph.observations import OUTPUT_FENCE
from kaelum_graph.reward import tokens_by_step
from kaelum_graph.types import Array

TAIL, GROUP = 5, 8
NAN = math.nan


def step_scalars(
    steps: Sequence[str],
    token_texts: Sequence[str] | None,
    token_logprobs: Sequence[float | None] | None,
    token_entropies: Sequence[float | None] | None,
) -> Array:
    """`[S, 10]` float32 in the order of `STEP_SCALARS`; NaN for what isn't known."""
    table = np.full((len(steps), len(STEP_SCALARS)), NAN, dtype=np.float32)
    places = tokens_by_step(steps, token_texts) if token_texts is not None else [[] for _ in steps]
    for index, (step, tokens) in enumerate(zip(steps, places, strict=True)):
        logprobs = _known(token_logprobs, tokens)
        entropies = _known(token_entropies, tokens)
        if logprobs:
            table[index, 0] = np.mean(logprobs)
            table[index, 1] = min(logprobs)
            table[index, 2] = np.mean(logprobs[-TAIL:])
            groups = [np.mean(logprobs[at : at + GROUP]) for at in range(max(1, len(logprobs) - GROUP + 1))]
            table[index, 3] = min(groups)
        if entropies:
            table[index, 4], table[index, 5] = np.mean(entropies), max(entropies)
        length = len(logprobs) or len(step) / 4
        table[index, 6:] = (
            math.log1p(length),
            (index + 1) / len(steps),
            float(OUTPUT_FENCE in step),
            float(index + 1 == len(steps)),
        )
    return table


def step_states(
    steps: Sequence[str], token_texts: Sequence[str] | None, states: Sequence[HiddenState]
) -> np.ndarray[tuple[int, int], np.dtype[np.float16]] | None:
    """`[S, 128]`: for each step the state at its last token, or the newest before; None without any.

    `states` are `smaller` ones.
    """
    if token_texts is None or not states or not steps:
        return None
    made = np.zeros((len(steps), STATE_SIZE), dtype=np.float16)
    for index, tokens in enumerate(tokens_by_step(steps, token_texts)):
        end = tokens[-1] if tokens else -1
        before = [at for at, state in enumerate(states) if state.position <= end]
        made[index] = states[before[-1]].values if before else made[index - 1] if index else states[0].values
    return made


def _known(values: Sequence[float | None] | None, tokens: Sequence[int]) -> list[float]:
    if values is None:
        return []
    picked = [values[token] for token in tokens if token < len(values)]
    return [value for value in picked if value is not None and not math.isnan(value)]
