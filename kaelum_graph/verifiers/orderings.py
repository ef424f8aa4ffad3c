"""Checks lists and strings that a query asks to sort or reverse."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.answer_values import Listing, Number, read
from kaelum_graph.answers import clean
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples

_SORT = re.compile(
    r"\bsort\s+(?:all\s+)?(?:of\s+)?(?:the|these|this)\s+(?:following\s+|list\s+of\s+)?(?P<kind>words|numbers|names|list|integers|values)?"
    r"(?P<between>[^:\n]{0,160}):\s*(?P<items>[^\n]+)",
    re.IGNORECASE,
)
_REVERSE_LIST = re.compile(
    r"\breverse\s+(?:the\s+)?(?:order of\s+)?(?:this|these|the)?\s*(?:following\s+)?"
    r"(?:list|sequence|words|numbers)[^:\n]{0,60}:\s*(?P<items>[^\n]+)",
    re.IGNORECASE,
)
_REVERSE_WORD = re.compile(
    r"\b(?:spell|write|reverse)\s+(?:this|the|following)?\s*(?:word|string)\s*(?:backwards?|in reverse)?\s*"
    r"(?:\([^()]*\))?\s*:?\s*[\"'“`]?(?P<word>[A-Za-z0-9]+)[\"'”`]?\s*(?:backwards?|in reverse)?\s*[.?]?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """What the answer must be: `expected` in order. `alternatives` are other orders the wording allows."""

    expected: tuple[str, ...]
    alternatives: tuple[tuple[str, ...], ...] = ()
    joined: bool = False


@register
class OrderingVerifier(Verifier):
    """Passes or fails a sorted or reversed list, and a word spelled backwards."""

    name = "ordering"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        ordering = asked_ordering(query.text)
        if ordering is None:
            return unscored(self, "the query asks to sort or reverse no list that can be read")
        if candidate.answer is None:
            return unscored(self, "no answer")
        if ordering.joined:
            right = clean(candidate.answer).strip("'\"") == ordering.expected[0]
            reason = f"'{shortened(candidate.answer)}' is {'' if right else 'not '}the word reversed"
            return vote(self, "pass" if right else "fail", reason)
        items = _items(candidate.answer)
        if _same(items, ordering.expected):
            return vote(self, "pass", "the items are all there, in the order asked for")
        if any(_same(items, other) for other in ordering.alternatives):
            return unscored(self, "right or wrong by how letter case is ordered, which the query does not say")
        return vote(self, "fail", _difference(items, ordering.expected))


def asked_ordering(question: str) -> Ordering | None:
    """The order that a query asks for; None when it asks for none or for one by a rule of its own."""
    text = without_examples(question)
    match = _REVERSE_WORD.search(re.sub(r"\([^()]*\)", " ", question.strip()))
    if match:
        return Ordering(expected=(match["word"][::-1],), joined=True)
    match = _REVERSE_LIST.search(text)
    if match:
        items = _items(match["items"])
        return Ordering(expected=tuple(reversed(items))) if len(items) > 1 else None
    match = _SORT.search(text)
    if match is None:
        return None
    between = match["between"].lower()
    if re.search(r"\b(?:by|length|vowels|last|second|frequency|absolute|digit|according)\b", between):
        return None
    items = _items(match["items"])
    if len(items) < 2:
        return None
    down = bool(re.search(r"\bdescending|\bdecreasing|largest to smallest|highest to lowest|\breverse|z to a", between))
    numbers = [read(item) for item in items]
    if all(isinstance(number, Number) for number in numbers) and (match["kind"] or "").lower() not in (
        "words",
        "names",
    ):
        keyed = sorted(items, key=_numeric, reverse=down)
        return Ordering(expected=tuple(keyed))
    exact = tuple(sorted(items, reverse=down))
    folded = tuple(sorted(items, key=str.lower, reverse=down))
    if re.search(r"\bascii\b|\bunicode\b|case.sensitive", question, re.IGNORECASE):
        return Ordering(expected=exact)
    if exact == folded:
        return Ordering(expected=exact)
    return Ordering(expected=(), alternatives=(exact, folded))


def _items(text: str) -> tuple[str, ...]:
    value = read(text.strip())
    plain = text.strip().strip("[](){}").replace(",", " ")
    items = value.items if isinstance(value, Listing) else tuple(plain.split())
    return tuple(clean(item).strip("'\"") for item in items)


def _numeric(item: str) -> Fraction:
    value = read(item)
    return value.value if isinstance(value, Number) else Fraction(0)


def _same(items: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    if len(items) != len(expected):
        return False
    for item, other in zip(items, expected, strict=True):
        one, two = read(item), read(other)
        numbers = isinstance(one, Number) and isinstance(two, Number) and one.value == two.value
        if item != other and not numbers:
            return False
    return True


def _difference(items: tuple[str, ...], expected: tuple[str, ...]) -> str:
    """What is wrong, without the right order."""
    missing = [item for item in expected if item not in items]
    extra = [item for item in items if item not in expected]
    if missing:
        return f"'{shortened(missing[0], limit=30)}' is missing from the list"
    if extra:
        return f"'{shortened(extra[0], limit=30)}' is not one of the items"
    if len(items) != len(expected):
        return f"the list has {len(items)} items, not {len(expected)}"
    for index, (item, other) in enumerate(zip(items, expected, strict=True), start=1):
        if item != other:
            return f"item {index} ('{shortened(item, limit=30)}') is out of order"
    return "the list is not in the order asked for"
