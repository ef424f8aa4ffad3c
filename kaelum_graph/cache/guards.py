"""Whether two raw texts ask the same question.

Embeddings put "enable" beside "disable" and 3 beside 4, so they only propose; these guards decide, on the texts. A
difference that is not known to be harmless is a difference: a missed hit costs a search, a false one a wrong answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kaelum_graph.cache.reading import Reading, read, stem, superlative
from kaelum_graph.cache.tokens import Token
from kaelum_graph.cache.wording import (
    ACRONYMS,
    ANTONYM_PAIRS,
    CASE_MATTERS,
    COMPARISONS,
    FORMATS,
    FUNCTION_WORDS,
    MEANINGS,
    MENTIONS,
    NEGATIONS,
    NEGATIVE_PREFIXES,
    QUESTION_WORDS,
)

LONGEST = 8000
"""Characters from which on only white space may differ."""


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """`guard` names the guard that decided; `reason` says what differs, empty when it passed."""

    passed: bool
    guard: str
    reason: str


Guard = Callable[[Reading, Reading], str]
"""What differs between two readings in the respect that the guard watches; empty when nothing does."""


def same_question(a: str, b: str) -> GuardVerdict:
    """Whether the answer of one text may be served for the other. Symmetric. Reads the raw texts alone."""
    if max(len(a), len(b)) > LONGEST:
        same = a.split() == b.split()
        return GuardVerdict(same, "length", "" if same else "long texts that are not the same")
    one, other = read(a.strip()), read(b.strip())
    for name, guard in GUARDS.items():
        reason = guard(one, other)
        if reason:
            return GuardVerdict(False, name, reason)
    return GuardVerdict(True, "wording", "")


def _difference(one: Iterable[str], other: Iterable[str]) -> str:
    """The items that are not in both, written out."""
    left, right = Counter(one), Counter(other)
    if left == right:
        return ""
    only_left, only_right = sorted((left - right).elements()), sorted((right - left).elements())
    return f"{', '.join(only_left) or 'nothing'} against {', '.join(only_right) or 'nothing'}"


def _words(reading: Reading) -> list[str]:
    return [token.key for token in reading.tokens if token.kind == "word"]


def numbers(one: Reading, other: Reading) -> str:
    """The numbers, ordinals, percent signs and currencies."""

    def found(reading: Reading) -> list[str]:
        return [token.key for token in reading.tokens if token.kind == "number" or token.key in ("%", "$", "€", "£")]

    return _difference(found(one), found(other))


def literals(one: Reading, other: Reading) -> str:
    """Code, quotations, flags, addresses, identifiers and single letters, to the letter; indented lines as they are."""

    def found(reading: Reading) -> list[str]:
        return [token.key for token in reading.tokens if token.kind == "literal"]

    return _difference(found(one), found(other)) or _difference(one.indented, other.indented)


def symbols(one: Reading, other: Reading) -> str:
    """Operators, brackets and every other mark that is not punctuation."""

    def found(reading: Reading) -> list[str]:
        return [token.key for token in reading.tokens if token.kind == "symbol"]

    return _difference(found(one), found(other))


def negation(one: Reading, other: Reading) -> str:
    """Words that deny or exclude."""
    return _difference(filter(NEGATIONS.__contains__, _words(one)), filter(NEGATIONS.__contains__, _words(other)))


def polarity(one: Reading, other: Reading) -> str:
    """Opposites: a word in one text, its antonym or its negated form in the other."""
    left, right = Counter(_words(one)), Counter(_words(other))
    only_left, only_right = left - right, right - left
    for word in only_left:
        for against in only_right:
            if opposite(word, against):
                return f"{word} against {against}"
    return ""


def opposite(word: str, other: str) -> bool:
    """Whether two words are known or formed as opposites."""
    if frozenset({word, other}) in ANTONYM_PAIRS:
        return True
    short, long = sorted((word, other), key=len)
    return len(short) > 2 and any(long == prefix + short for prefix in NEGATIVE_PREFIXES)


def question_type(one: Reading, other: Reading) -> str:
    """Who, when, where, how many, why, or yes and no."""
    return _difference(
        filter(QUESTION_WORDS.__contains__, _words(one)), filter(QUESTION_WORDS.__contains__, _words(other))
    )


def mention(one: Reading, other: Reading) -> str:
    """In a question about words, the very words: no synonym, spelling, contraction or courtesy is left out of it."""
    raw = [_RAW_WORD.findall(_OPENING.sub("", reading.text.lower().replace("’", "'"))) for reading in (one, other)]
    if not any(MENTIONS & {*words} for words in raw):
        return ""
    # Of two questions for a meaning the words of the question itself may differ.
    skipped = MEANINGS | _OF_A_MEANING if all(MEANINGS & {*words} for words in raw) else _ARTICLES
    left, right = ([word for word in words if word not in skipped] for words in raw)
    return "" if left == right else _difference(left, right) or "the words in another order"


_RAW_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_OPENING = re.compile(r"^\s*(?:(?:hi|hello|hey)[!,.]\s*)?(?:(?:can|could|would|will) you (?:please )?|please )")
_ARTICLES = frozenset({"a", "an", "the"})
_OF_A_MEANING = _ARTICLES | {"what", "what's", "is", "does", "do", "of", "by"}


def pauses(one: Reading, other: Reading) -> str:
    """A comma or colon between two words, or the hyphen of "man-eating", where the other has none."""
    marks = [{(mark[1].lower(), mark[3].lower()): mark[2] for mark in _PAUSE.finditer(x.text)} for x in (one, other)]
    for pair in marks[0].keys() & marks[1].keys():
        if pair[1] not in _AFTER_A_PAUSE and marks[0][pair].strip() != marks[1][pair].strip():
            return f"'{' '.join(pair)}' with and without a pause"
    return ""


_PAUSE = re.compile(r"(?<!\w)([^\W\d_]+)(\s*[,:;]\s*|\s+|-(?=\w+ing\b))(?=([^\W\d_]+))")
_AFTER_A_PAUSE = QUESTION_WORDS | {"and", "or", "please", "is", "are", "do", "does", "did", "can", "write", "thanks"}


def voice(one: Reading, other: Reading) -> str:
    """Who does it against to whom it is done: "who was paid", "who paid"."""
    return _difference(one.passive, other.passive)


def tense(one: Reading, other: Reading) -> str:
    """Past against anything else."""
    return "past against present" if one.past != other.past else ""


def comparison(one: Reading, other: Reading) -> str:
    """Superlatives and words of degree."""

    def found(reading: Reading) -> list[str]:
        return [word for word in _words(reading) if word in COMPARISONS or superlative(word)]

    return _difference(found(one), found(other))


def form(one: Reading, other: Reading) -> str:
    """The form or language the answer is to have."""
    return _difference(filter(FORMATS.__contains__, _words(one)), filter(FORMATS.__contains__, _words(other)))


def names(one: Reading, other: Reading) -> str:
    """Capitalised names and acronyms: each must stand in the other text as well."""
    for reading, against in ((one, other), (other, one)):
        present = {token.key for token in against.tokens}
        for token in reading.tokens:
            if token.case in ("title", "capitals") and token.key not in present:
                return f"{token.surface} against nothing"
    return ""


def wording(one: Reading, other: Reading) -> str:
    """Every word that is left, but for a generic plural ("a vaccine", "vaccines") and its verb."""
    left, right = _words(one), _words(other)
    if len(one.tokens) == len(other.tokens):
        pairs = zip(one.tokens, other.tokens, strict=True)
        if all(_same_token(a, b, one, other) for a, b in pairs):
            return ""
    return _difference(left, right)


def order(one: Reading, other: Reading) -> str:
    """The same words in another order: from and to, who did what to whom."""
    if len(one.tokens) != len(other.tokens):
        return "one text says more"
    for a, b in zip(one.tokens, other.tokens, strict=True):
        if not _same_token(a, b, one, other):
            return f"{a.surface or a.key} where the other has {b.surface or b.key}"
    return ""


def _same_token(a: Token, b: Token, one: Reading, other: Reading) -> bool:
    if a.kind != b.kind:
        return False
    if a.key == b.key:
        return True
    if a.kind != "word" or stem(a.key) != stem(b.key) or {"title", "capitals"} & {a.case, b.case}:
        return False
    if "the" in (a.article, b.article) or not _asks(one) or not _asks(other):
        return False
    return {a.article, b.article} == {"a", ""} or (one.singular_verb != other.singular_verb and a.article == b.article)


def _asks(reading: Reading) -> bool:
    """Whether it is a question and not a request: "name a river" is not "name rivers"."""
    return bool(reading.tokens) and reading.tokens[0].key in QUESTION_WORDS


def articles(one: Reading, other: Reading) -> str:
    """A "the" against an "a"; against nothing where little is said ("what is time") or the question is yes or no."""
    said = sum(token.key not in QUESTION_WORDS for token in one.tokens)
    for a, b in zip(one.tokens, other.tokens, strict=True):
        pair = {a.article, b.article}
        bare = pair == {"the", ""} and one.yes_no
        if pair == {"a", "the"} or (len(pair) == 2 and (said < 2 or bare) and a.key == b.key):
            return f"{a.article or 'no article'} against {b.article or 'no article'} before {a.surface}"
    return ""


def capitals(one: Reading, other: Reading) -> str:
    """Letter case, where it can change the meaning: Polish and polish, US and us, MB and Mb."""
    pairs = list(zip(one.tokens, other.tokens, strict=True))
    for index, (a, b) in enumerate(pairs):
        if a.kind != "word" or a.surface == b.surface or not a.surface or not b.surface or a.key != b.key:
            continue
        if a.unit and len(a.key) <= 3 and len(a.surface) == len(b.surface):
            return f"{a.surface} against {b.surface}"
        if "capitals" in (a.case, b.case) and a.case != b.case and not _spelled(a.key):
            return f"{a.surface} against {b.surface}"
        shouted = a.case == b.case == "lower" and len(a.key) > 1 and a.surface.isupper() != b.surface.isupper()
        if shouted and a.key in CASE_MATTERS - FUNCTION_WORDS | {"us"}:
            return f"{a.surface} against {b.surface}"
        if a.case == b.case or ("start" in (a.case, b.case) and "capitals" not in (a.case, b.case)):
            continue
        # Within a name the later words come either way: "the Sanskrit Language".
        before = {token.case for token in pairs[index - 1]} if index else set[str]()
        if {a.case, b.case} == {"title", "lower"} and before == {"title"} and a.key not in CASE_MATTERS:
            continue
        lower = one if a.case == "lower" else other if b.case == "lower" else None
        if lower is None and {a.case, b.case} == {"start", "capitals"}:
            lower = one if a.case == "start" else other
        if lower is None or lower.capitals or a.key in CASE_MATTERS:
            return f"{a.surface} against {b.surface}"
    return ""


def _spelled(word: str) -> bool:
    """Whether an acronym is no word: DNA, HTML; not PIN."""
    return word in ACRONYMS or not set(word) & set("aeiouy")


GUARDS: dict[str, Guard] = {
    "numbers": numbers,
    "literals": literals,
    "symbols": symbols,
    "negation": negation,
    "polarity": polarity,
    "question type": question_type,
    "comparison": comparison,
    "form": form,
    "tense": tense,
    "voice": voice,
    "mention": mention,
    "pauses": pauses,
    "names": names,
    "wording": wording,
    "order": order,
    "articles": articles,
    "capitals": capitals,
}
"""In the order in which they are asked: from what says most about the difference to what is left."""
