"""Evidence about an answer, apart from any model's opinion of it.

`Evidence` and `ModelScore` are different types on purpose: a label never comes from the model that is being trained,
so whatever trains takes `Evidence` and cannot be handed a `ModelScore`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Outcome = Literal["pass", "fail", "unscored"]

FORM = "constraints"
"""The source that checks the form of a text. Of a value it can only refute: its votes say nothing about agreement."""


class Tier(StrEnum):
    """Where a vote comes from. Human, executed and constraint votes are anchors; the rest share the model's biases."""

    HUMAN = "H"
    EXECUTION = "E"
    CONSTRAINT = "V"
    CROSS_CHANNEL = "X"
    CLUSTER = "C"
    JUDGE = "J"

    @property
    def anchored(self) -> bool:
        """True for the tiers that count fully."""
        return self in (Tier.HUMAN, Tier.EXECUTION, Tier.CONSTRAINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One vote on one candidate answer. "unscored" is not a fail: it is no vote, with the reason why."""

    tier: Tier
    source: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """A model's own opinion in [0, 1]. It may order candidates; it may never become a label."""

    source: str
    value: float
