"""A model's opinion of an analysis by an additive rubric of five points, as evidence of the weakest tier.

After Yuan et al. 2024 (Self-Rewarding Language Models). The judge is the model that wrote the text and shares its
biases: its vote belongs to the correlated group that can't leave 0.15 to 0.85, and small models judge no better than
chance, which is why it is off at 1.5 billion parameters and below.
"""

from __future__ import annotations

import re

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.types import Message, Query

SOURCE = "rubric"
JUDGING_FROM = 1.5
"""Billions of parameters above which a model is let judge, where the settings leave that open."""
PASSING, FAILING = 4, 2
"""Points from which on a text passes, and up to which it fails; between them the judge has not decided."""

_RUBRIC = (
    "Review the reply to the question below. Add up points, one for each that holds:\n"
    "1. It is relevant and says something about what was asked.\n"
    "2. It treats a good part of the question, not only one side of it.\n"
    "3. It answers the basic parts of the question in a useful way.\n"
    "4. It is clearly written, well ordered, and every claim has a reason.\n"
    "5. It is without error or filler, and shows expert knowledge.\n\n"
    "<question>\n{question}\n</question>\n\n<reply>\n{reply}\n</reply>\n\n"
    "Justify your points in one sentence. Then end with 'Score: ' and the total from 0 to 5."
)
_SCORE = re.compile(r"\bscore\W{0,4}(\d)(?!\d|\.\d)", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*b(?![a-z0-9])", re.IGNORECASE)
LONGEST_REPLY = 6000
"""Characters of a reply that are shown to the judge."""


def judging_request(query: Query, text: str, *, seed: int | None) -> GenerationRequest:
    """What the judge is asked about one text."""
    asked = _RUBRIC.replace("{question}", query.text).replace("{reply}", text[:LONGEST_REPLY])
    return GenerationRequest(
        messages=(Message("user", asked),), sampling=Sampling(temperature=0.0, max_tokens=120, seed=seed)
    )


def judged(reply: str) -> Evidence:
    """The judge's vote: pass from 4 points, fail up to 2, unscored between them or where it gave no score."""
    found = _SCORE.findall(reply)
    points = int(found[-1]) if found else None
    if points is None or points > 5:
        return Evidence(tier=Tier.JUDGE, source=SOURCE, outcome="unscored", reason="the judge gave no score")
    outcome = "pass" if points >= PASSING else "fail" if points <= FAILING else "unscored"
    return Evidence(tier=Tier.JUDGE, source=SOURCE, outcome=outcome, reason=f"{points} of 5 points by the rubric")


def parameters_of(model_name: str) -> float | None:
    """Billions of parameters by a model's name ("Qwen2.5-7B-Instruct"); None where it says nothing of them."""
    found = _SIZE.findall(model_name.replace("-", " ").replace("_", " ").replace("/", " ").replace(":", " "))
    return float(found[0]) if found else None


def may_judge(setting: str, model_name: str) -> bool:
    """Whether the judge is asked: as set, and on "auto" when the model is known to have more than 1.5 billion."""
    if setting != "auto":
        return setting == "on"
    size = parameters_of(model_name)
    return size is not None and size > JUDGING_FROM
