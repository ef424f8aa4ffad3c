"""Process reward: the model's own score for each reasoning step.

Until a reward model has been learned, a step's score is its likelihood: the geometric mean of its tokens' probabilities
under the policy model. It is a `ModelScore`: it may order candidates and gate an answer, and it never becomes a label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kaelum_graph.evidence import ModelScore

SOURCE = "likelihood"


def tokens_by_step(steps: Sequence[str], token_texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each step. `steps` join to the whole assistant turn and the tokens to its end: whatever stands
    before the first token was given, not generated. A token belongs to the step in which it begins.
    """
    position = sum(len(step) for step in steps) - sum(len(text) for text in token_texts)
    found: list[list[int]] = [[] for _ in steps]
    index, end = 0, len(steps[0]) if steps else 0
    for token, text in enumerate(token_texts):
        while index + 1 < len(steps) and position >= end:
            index += 1
            end += len(steps[index])
        if steps:
            found[index].append(token)
        position += len(text)
    return found


def step_scores(
    steps: Sequence[str], token_texts: Sequence[str] | None, token_logprobs: Sequence[float | None] | None
) -> list[float | None]:
    """A score in [0, 1] for each step, None for a step that holds no generated token (a given prefix).

    Steps and tokens are as for `tokens_by_step`. A token without a log-probability was given too (an observation).
    """
    if token_texts is None or token_logprobs is None:
        return [None] * len(steps)
    if len(token_texts) != len(token_logprobs):
        raise ValueError(f"{len(token_texts)} tokens have {len(token_logprobs)} log-probabilities")
    scores: list[float | None] = []
    for tokens in tokens_by_step(steps, token_texts):
        known = [logprob for token in tokens if (logprob := token_logprobs[token]) is not None]
        scores.append(math.exp(sum(known) / len(known)) if known else None)
    return scores


def path_score(scores: Sequence[float | None], *, source: str = SOURCE) -> ModelScore | None:
    """Mean score of a path's steps; None when no step has one."""
    known = [score for score in scores if score is not None]
    return ModelScore(source=source, value=sum(known) / len(known)) if known else None
