"""How a verifier words its vote, and how it reads a query without taking the query's examples for its question."""

from __future__ import annotations

import re

from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.verifiers.base import Verifier

_EXAMPLE = re.compile(
    r"\((?:for\s+)?(?:example|e\.g\.|format)[^()]*(?:\([^()]*\)[^()]*)*\)"
    r"|(?:\bfor example\b|\be\.g\.|\bexamples?:)[^\n]*",
    re.IGNORECASE,
)


def vote(verifier: Verifier, outcome: Outcome, reason: str, *, tier: Tier | None = None) -> Evidence:
    """`verifier`'s vote, in its own tier unless `tier` says otherwise."""
    return Evidence(tier=tier or verifier.tier, source=verifier.name, outcome=outcome, reason=reason)


def unscored(verifier: Verifier, reason: str) -> Evidence:
    """No vote, and why."""
    return vote(verifier, "unscored", reason)


def without_examples(question: str) -> str:
    """`question` without its illustrations (in parentheses, or after "for example"): they are not the task."""
    return _EXAMPLE.sub(" ", question)


def shortened(text: str, *, limit: int = 60) -> str:
    """`text` on one line, cut to `limit` characters, for a reason."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
