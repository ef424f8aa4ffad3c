"""Fourteen numbers about a question's surface that a sentence embedding blurs: digits, operators, code, constraints."""

from __future__ import annotations

import re

import numpy as np

from kaelum_graph.types import Array

_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
_OPERATORS = re.compile(r"[-+*/=^<>×÷√∫]|\\[a-z]+")
_CODE = re.compile(
    r"`|\bdef \w+\(|\bfor \w+ in\b|\w+\(\)|[{};]\s*$|==|!=|->"
    r"|\b(?:python|javascript|function|program|code|script|algorithm|regex|sql)\b",
    re.IGNORECASE | re.MULTILINE,
)
_LOGIC = re.compile(
    r"\b(?:if|then|therefore|implies|either|neither|unless|all|some|none|always|lies?|liar|truth|knights?|knaves?"
    r"|true|false|premises?|conclusion|follows?)\b",
    re.IGNORECASE,
)
_CREATIVE = re.compile(
    r"\b(?:write|compose|draft|invent|imagine)\b|\b(?:poem|story|haiku|limerick|slogan|song|letter|lyrics|essay)\b",
    re.IGNORECASE,
)
_ANALYSIS = re.compile(
    r"\b(?:analy[sz]e|compare|contrast|explain|evaluate|discuss|why|advantages?|drawbacks?|pros|cons|causes?|effects?"
    r"|recommend|should)\b",
    re.IGNORECASE,
)
_CONSTRAINT = re.compile(
    r"\b(?:exactly|at least|at most|no more than|must|without|only|each|include|contain|start|end)\b", re.IGNORECASE
)
_WHO_WHEN = re.compile(r"^\W*(?:who|when|where|which|what (?:is|was|are|were) the)\b", re.IGNORECASE)
_HOW_MANY = re.compile(r"\bhow (?:many|much|long|far|old|tall)\b", re.IGNORECASE)
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)]|\w\))\s", re.MULTILINE)
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+")

END_CHARACTERS = 10_000

FEATURE_NAMES = (
    "length",
    "sentences",
    "word_length",
    "digits",
    "operators",
    "code_marks",
    "logic_words",
    "creative_words",
    "analysis_words",
    "constraint_words",
    "asks_for_a_fact",
    "asks_for_a_quantity",
    "list_items",
    "names",
)


def text_features(text: str) -> Array:
    """`[14]` float32 in [0, 1], in the order of `FEATURE_NAMES`. Any text will do, an empty one included."""
    # What is asked of a long text stands before or after it.
    ends = text if len(text) <= 2 * END_CHARACTERS else f"{text[:END_CHARACTERS]}\n{text[-END_CHARACTERS:]}"
    words = _WORDS.findall(ends)
    count, size = max(1, len(words)), max(1, len(ends))

    def share(pattern: re.Pattern[str], full: float) -> float:
        return min(1.0, len(pattern.findall(ends)) / full)

    values = (
        min(1.0, np.log1p(len(words)) / np.log1p(400)),
        share(_SENTENCE_END, 10),
        min(1.0, sum(map(len, words)) / count / 10),
        min(1.0, 5 * sum(character.isdigit() for character in ends) / size),
        share(_OPERATORS, 8),
        share(_CODE, 4),
        share(_LOGIC, 6),
        share(_CREATIVE, 2),
        share(_ANALYSIS, 2),
        share(_CONSTRAINT, 3),
        float(_WHO_WHEN.search(ends) is not None),
        float(_HOW_MANY.search(ends) is not None),
        share(_LIST_ITEM, 5),
        share(_NAME, 5),
    )
    return np.array(values, dtype=np.float32)
