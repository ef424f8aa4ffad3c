"""Sentences cut into words that can be compared: accents, letter case, number words, units and endings folded."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from kaelum_graph.quantities import number, unit_named

Kind = Literal["small", "word", "name", "number", "year"]

_TOKEN = re.compile(r"[$€£¥%]|\d+(?:[.,]\d+)*|[^\W\d_]+(?:[-'’][^\W\d_]+)*|\w+")
_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9ÀÁÂÄÅÆÇÈÉÊËÍÎÓÖÚÜŠŽ])|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Mt|Prof|Jr|Sr|No|vs|etc|approx|ca|e\.g|i\.e))\.$")
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SYMBOLS = {"$": "dollar", "€": "euro", "£": "british-pound", "¥": "yen", "%": "percent"}
_SMALL = frozenset(
    "a an the of in on at to for from by with as and or is are was were be been being do does did has have had can "
    "could will would shall may it its he his him she her they their them this that these those there which who whom "
    "whose what when where why how many much very also me please tell give name list called named known s".split()
)
_DATES = frozenset(
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday".split()
)
_FAMILIES = (
    "write wrote written writes writing author authored writer", "invent invented inventor invention invents",
    "discover discovered discoverer discovery discovers", "paint painted painter painting paints",
    "compose composed composer composes", "found founded founder founding", "born birth birthplace birthday",
    "die died dies death dead", "speak spoke spoken speaks", "high height tall elevation", "long length",
    "large big", "largest biggest", "smallest tiniest", "highest tallest", "currency money", "old age",
    "population inhabitants people", "located lies situated location", "begin began begun start started begins",
    "end ended ends", "fall fell fallen falls", "win won winner wins", "build built builds", "use used uses",
    "country nation", "rule ruled ruler", "teach taught teacher teaches", "direct directed director",
    "orbit orbits orbiting", "make made makes",
)  # fmt: skip
_FAMILY = {word: family.split()[0] for family in _FAMILIES for word in family.split()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One word or quantity. Two tokens with one `key` (and no two different units) say the same.

    `kind`: "small" words carry no meaning of their own; a "name" is capitalised; a "year" is a bare number from 1000 to
    2100. `joined` is True where nothing but a space parts it from the token before.
    """

    key: str
    kind: Kind
    unit: str = ""
    possessive: bool = False
    joined: bool = False

    def says(self, other: Token) -> bool:
        """Whether this token may stand for the other."""
        return self.key == other.key and (not self.unit or not other.unit or self.unit == other.unit)


def sentences(text: str) -> list[str]:
    """The sentences of a text, as written."""
    found: list[str] = []
    for piece in _SENTENCE.split(text):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += f" {piece}"
        elif piece.strip():
            found.append(piece.strip())
    return found


@lru_cache(maxsize=4096)
def tokens(sentence: str) -> tuple[Token, ...]:
    """The words and quantities of a sentence, in order. "8,849 metres" is one token, "$5" and "3 million" too."""
    found: list[Token] = []
    end, currency = 0, ""
    for match in _TOKEN.finditer(sentence):
        word = match[0]
        joined = bool(found) and not sentence[end : match.start()].strip(" \xa0-")
        end = match.end()
        last = found[-1] if found else None
        counted = last is not None and joined and last.kind in ("number", "year") and not last.unit
        if word in _SYMBOLS:
            if word == "%" and counted and last is not None:
                found[-1] = _quantity(Fraction(last.key), unit="percent", joined=last.joined)
            else:
                currency = _SYMBOLS[word]
            continue
        lower = _folded(word)
        if counted and last is not None and lower in _SCALES:
            found[-1] = _quantity(Fraction(last.key) * _SCALES[lower], unit="", joined=last.joined)
            continue
        unit = unit_named(lower) if lower != "in" else None
        if counted and last is not None and unit is not None:
            found[-1] = _quantity(Fraction(last.key), unit=unit, joined=last.joined)
            continue
        found.append(_token(word, lower, currency=currency, joined=joined))
        currency = ""
    return tuple(found)


def _token(word: str, lower: str, *, currency: str, joined: bool) -> Token:
    value = number(lower) if len(lower) < 40 and (lower[0].isdigit() or lower[0].isalpha()) else None
    if value is not None and not value.unit and not value.percent:
        return _quantity(value.value, unit=currency, joined=joined, digits=word.isdigit())
    bare = re.sub(r"['’]s?$", "", lower)
    possessive = bare != lower
    if bare in _DATES and not (bare in _SMALL and not word[:1].isupper()):
        return Token(key=bare, kind="word", joined=joined)
    if bare in _SMALL:
        return Token(key=bare, kind="small", joined=joined)
    named = word[:1].isupper() or any(letter.isupper() for letter in word)
    return Token(key=_stem(bare), kind="name" if named else "word", possessive=possessive, joined=joined)


def _quantity(value: Fraction, *, unit: str, joined: bool, digits: bool = False) -> Token:
    year = digits and not unit and value.denominator == 1 and 1000 <= value <= 2100
    return Token(key=str(value), kind="year" if year else "number", unit=unit, joined=joined)


def _folded(word: str) -> str:
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _stem(word: str) -> str:
    if word in _FAMILY:
        return _FAMILY[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            return word.removesuffix(ending).rstrip("e")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word.rstrip("e") if len(word) > 4 else word
