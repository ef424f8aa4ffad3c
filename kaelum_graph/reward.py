"""Process reward: the model's own score for each reasoning step.

Until a reward model has been learned, a step's score is its likelihood: the geometric mean of its tokens' probabilities
under the policy model. It is a `ModelScore`: it may order candidates and gate an answer, and it never becomes a label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kaelum_graph.evidence import ModelScore

SOURCE = "likelihood"


def step_scores(
    steps: Sequence[str], token_texts: Sequence[str] | None, token_logprobs: Sequence[float | None] | None
) -> list[float | None]:
    """A score in [0, 1] for each step, None for a step that holds no generated token (a given prefix).

    `steps` join to the whole assistant turn and the tokens to its end: whatever stands before the first token was
    given, not generated; and so was a token without a log-probability (an observation). A token belongs to the step in
    which it begins.
    """
    if token_texts is None or token_logprobs is None:
        return [None] * len(steps)
    position = sum(len(step) for step in steps) - sum(len(text) for text in token_texts)
    sums = [0.0] * len(steps)
    counts = [0] * len(steps)
    index, end = 0, len(steps[0]) if steps else 0
    for text, logprob in zip(token_texts, token_logprobs, strict=True):
        while index + 1 < len(steps) and position >= end:
            index += 1
            end += len(steps[index])
        if steps and logprob is not None:
            sums[index] += logprob
            counts[index] += 1
        position += len(text)
    return [math.exp(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def path_score(scores: Sequence[float | None], *, source: str = SOURCE) -> ModelScore | None:
    """Mean score of a path's steps; None when no step has one."""
    known = [score for score in scores if score is not None]
    return ModelScore(source=source, value=sum(known) / len(known)) if known else None
