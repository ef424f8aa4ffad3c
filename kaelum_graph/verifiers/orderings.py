"""Checks lists and strings that a query asks to sort or reverse."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.answer_values import Listing, Number, read
from kaelum_graph.answers import clean
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.leftovers import around, only_requests
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples

_SORT = re.compile(r"\bsort\s+(?P<what>[^:\n]{1,200}):\s*(?P<items>[^\n]+)", re.IGNORECASE)
_REVERSE_LIST = re.compile(
    r"\breverse\s+(?P<what>(?:the\s+order\s+of\s+(?:the|this|these)\s+(?:following\s+)?\w+"
    r"|(?:(?:the|this)\s+)?(?:following\s+)?(?:list|sequence)\b)[^:\n]{0,60}):\s*(?P<items>[^\n]+)",
    re.IGNORECASE,
)
_BACKWARDS = r"(?:backwards?|in reverse)"
_REVERSE_WORD = re.compile(
    r"\b(?P<verb>spell|write|reverse)\s+(?:(?:this|the|following)\s+)*(?:word|string)\s*"
    rf"(?P<before>{_BACKWARDS}\b)?\s*(?:\((?:example|e\.g\.)[^()]*\))?\s*(?P<colon>:)?\s*"
    r"(?:(?P<quote>[\"'“`])(?P<quoted>[A-Za-z0-9]+)[\"'”`]|(?P<word>[A-Za-z0-9]+))"
    rf"(?P<after>\s*{_BACKWARDS}\b)?(?=\s*(?:[.?!,]|$|and\b))",
    re.IGNORECASE,
)
_LEAST = r"(?:smallest|least|lowest|low|small|minimum)"
_MOST = r"(?:largest|greatest|biggest|highest|high|large|big|maximum)"
_UP = re.compile(
    rf"\b(?:ascending|increasing|a to z|(?:from )?(?P<size>{_LEAST} to (?:the )?{_MOST}))\b", re.IGNORECASE
)
_KEY = r"(?:alphabetical|lexicographic(?:al)?|alphabetic|dictionary|numerical|numeric)"
_DOWN = re.compile(
    rf"\b(?:descending|decreasing|z to a|reverse(?= {_KEY})|(?:from )?(?P<size>{_MOST} to (?:the )?{_LEAST}))\b",
    re.IGNORECASE,
)
_BY_LETTERS = re.compile(
    r"\b(?:alphabetical(?:ly)?|alphabetic|lexicographic(?:al)?(?:ly)?|dictionary"
    r"|(?:using |in |by )?(?P<exact>ascii(?:/unicode)?|unicode)(?: order(?:ing)?)?)\b",
    re.IGNORECASE,
)
_BY_VALUE = re.compile(r"\bnumerical(?:ly)?|\bnumeric\b", re.IGNORECASE)
_WORD_KINDS = re.compile(r"\b(?:words|names|strings)\b", re.IGNORECASE)
_NUMBER_KINDS = re.compile(r"\b(?:numbers|integers|decimals|fractions|values)\b", re.IGNORECASE)
_KNOWN = re.compile(
    r"\byour task is to sort words in ascending or descending order using ASCII/Unicode ordering\b"
    r"|\binstead of reporting your answer as [^\n]*?, use \[[^\]\n]*\] instead"
    r"|\blet all your answers be\b|\bconvert all numbers in the square brackets as strings\b"
    r"|\bone per line\b|\bwith a space after the comma\b",
    re.IGNORECASE,
)
_WORDS = frozenset(
    "these them letters list lists array order ordering words numbers names strings integers decimals fractions values "
    "items sorted ordered reversed commas provide from".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """What the answer must be: `expected` in order. `alternatives` are other orders the wording allows."""

    expected: tuple[str, ...]
    alternatives: tuple[tuple[str, ...], ...] = ()
    joined: bool = False
    open: bool = False
    """Whether the wording allows the alternatives with equal right."""


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
            said, word = clean(candidate.answer).strip("'\""), ordering.expected[0]
            right = said == word
            if not right and re.sub(r"[\s-]", "", said).lower() == word.lower():
                return unscored(self, "the word reversed, but in other letter case or with gaps")
            reason = f"'{shortened(candidate.answer)}' is {'' if right else 'not '}the word reversed"
            return vote(self, "pass" if right else "fail", reason)
        items = _items(candidate.answer)
        if ordering.open and any(_same(items, other) for other in (ordering.expected, *ordering.alternatives)):
            return unscored(self, "right or wrong by how case, accents or hyphens are ordered: the query does not say")
        if _same(items, ordering.expected):
            return vote(self, "pass", "the items are all there, in the order asked for")
        if any(re.search(r"\s", item) for item in items) and len(items) != len(ordering.expected):
            return unscored(self, "the answer says more than a list")
        return vote(self, "fail", _difference(items, ordering.expected))


def asked_ordering(question: str) -> Ordering | None:
    """The order that a query asks for; None when it asks for none, for one by a rule of its own, or for more."""
    text = question.strip()
    match = _REVERSE_WORD.search(text)
    if match:
        return _reversed_word(match)
    match = _REVERSE_LIST.search(text)
    if match:
        items = _listed(match, match["what"])
        return Ordering(expected=tuple(reversed(items))) if items else None
    match = _SORT.search(text)
    return _sorted(match) if match else None


def _reversed_word(match: re.Match[str]) -> Ordering | None:
    word = match["quoted"] or match["word"]
    # "Write the word hello." turns nothing round; "reverse the word order" is about no word "order".
    backwards = bool(match["before"] or match["after"])
    asked = (backwards or match["verb"].lower() == "reverse") and (match["quoted"] or match["colon"] or backwards)
    if not asked or not only_requests(around(match), words=_WORDS):
        return None
    return Ordering(expected=(word[::-1],), joined=True)


def _sorted(match: re.Match[str]) -> Ordering | None:
    what = without_examples(match["what"])
    up, down, by_letters = _UP.search(what), _DOWN.search(what), _BY_LETTERS.search(what)
    by_value, words, numeric = _BY_VALUE.search(what), _WORD_KINDS.search(what), _NUMBER_KINDS.search(what)
    rest = what
    for pattern in (_UP, _DOWN, _BY_LETTERS, _BY_VALUE):
        rest = pattern.sub(" ", rest)
    items = _listed(match, rest)
    if not items or (up and down):
        return None
    numbers = [number for number in map(read, items) if isinstance(number, Number)]
    if len(numbers) == len(items) and not words and not by_letters:
        alike = len({(number.unit, number.percent) for number in numbers}) == 1
        # "1,234, 567" may be three numbers.
        told = alike and not re.search(r"\d,\d{3}\b", match["items"])
        return Ordering(expected=tuple(sorted(items, key=_numeric, reverse=bool(down)))) if told else None
    size = (up and up["size"]) or (down and down["size"])
    # Months, sizes and dates have orders of their own, which only a word like "alphabetically" sets aside.
    told = by_letters or (words and (up or down) and not numbers)
    if numeric or by_value or size or not told:
        return None
    exact = tuple(sorted(items, reverse=bool(down)))
    folded = tuple(sorted(items, key=str.lower, reverse=bool(down)))
    if (by_letters and by_letters["exact"]) or re.search(r"\bascii\b|\bunicode\b", match.string, re.IGNORECASE):
        return Ordering(expected=exact)
    # Dictionaries differ on accents and hyphens, too.
    plain = tuple(sorted(items, key=_letters, reverse=bool(down)))
    if exact == folded == plain:
        return Ordering(expected=exact)
    return Ordering(expected=exact, alternatives=(folded, plain), open=True)


def _listed(match: re.Match[str], what: str) -> tuple[str, ...]:
    """The items to put in order; none where `what`, or the rest of the query, says more than how to write them."""
    line = re.split(r"[.!?](?=\s+\D|\s*$)", match["items"], maxsplit=1)
    behind = line[1] if len(line) > 1 else ""
    if not only_requests(f"{what}\n{behind}\n{around(match)}", known=_KNOWN, words=_WORDS):
        return ()
    value = read(line[0])
    if isinstance(value, Listing):
        # As written: the underscores of "_so_" count where it is sorted.
        parts = re.split(r"\s*[,;]\s*(?:and\s+)?|\s+and\s+", line[0].strip().strip("[](){}"))
        plain = not value.names and (not value.unordered or value.brackets) and len(parts) == len(value.items)
        items = tuple(part.strip().strip("'\"") for part in parts) if plain else ()
    else:
        items = _items(line[0])
        # Without commas the last words may be no items: "pear fig apple ignoring case".
        items = items if all(isinstance(read(item), Number) for item in items) else ()
    single = all(isinstance(read(item), Number) or re.fullmatch(r"[^\s:;>]+", item) for item in items)
    return items if single and len(items) > 1 else ()


def _items(text: str) -> tuple[str, ...]:
    value = read(text.strip())
    plain = text.strip().strip("[](){}").replace(",", " ")
    items = value.items if isinstance(value, Listing) else tuple(plain.split())
    return tuple(clean(item).strip("'\"") for item in items)


def _letters(item: str) -> str:
    parts = unicodedata.normalize("NFKD", item.casefold())
    return "".join(part for part in parts if part.isalnum())


def _numeric(item: str) -> Fraction:
    value = read(item)
    return value.value if isinstance(value, Number) else Fraction(0)


def _same(items: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    if len(items) != len(expected):
        return False
    for item, other in zip(items, expected, strict=True):
        one, two = read(item), read(other)
        numbers = isinstance(one, Number) and isinstance(two, Number) and one.value == two.value
        if item not in (other, clean(other)) and not numbers:
            return False
    return True


def _difference(items: tuple[str, ...], expected: tuple[str, ...]) -> str:
    """What is wrong, without the right order."""
    expected = tuple(clean(item) for item in expected)
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
