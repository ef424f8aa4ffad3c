"""What an answer's text stands for: a number, an option, a truth value, a list, a date, a time, or words."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from kaelum_graph.answers import clean
from kaelum_graph.moments import Moment, moment
from kaelum_graph.quantities import Number, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A choice by its letter, lower case; "(B) Paris" is the option b."""

    text: str
    letter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Yes or no."""

    text: str
    value: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Several answers in one, in their order, or by name for "y = 2, x = 1".

    `unordered` for braces, "or" and "±"; `names` where each item has one; `brackets` as written; `key` is its words.
    """

    text: str
    items: tuple[str, ...]
    unordered: bool
    brackets: str
    key: str
    names: tuple[str, ...] = ()

    @property
    def shape(self) -> str:
        """ "interval" for a pair in brackets, which may be one; else "list"."""
        return "interval" if len(self.items) == 2 and self.brackets in ("()", "[]") else "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Anything else. `key` is compared; `symbolic` says that it may be mathematics."""

    text: str
    key: str
    symbolic: bool


Value: TypeAlias = Number | Option | Truth | Listing | Moment | Words

_YES = frozenset(["yes", "true", "correct", "yeah", "yep"])
_NO = frozenset(["no", "false", "incorrect", "nope"])
_SYMBOLIC = re.compile(
    r"\\[A-Za-z]|[\^²³√π∞∪∩≤≥±=<>]|\b(?:pi|sqrt|sin|cos|tan|ln|log|exp|abs)\b|\d\s*[a-z]\b|\b[a-zA-Z]\s*[-+*/]\s*[\w(]|[\w)]\s*[*/+]\s*[\w(]"
    r"|^[-+]?[a-zA-Z]$|\d\(|\)\("
)
# Words of four letters and more that are notation; with any other word an answer is prose.
_NOTATION = frozenset(
    ["asin", "acos", "atan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sqrt", "cbrt", "infinity", "alpha",
     "beta", "gamma", "delta", "theta", "lambda", "sigma", "omega", "frac", "dfrac", "tfrac", "left", "right", "cdot",
     "times", "text", "mathrm", "pmatrix", "bmatrix", "begin", "infty", "binom", "prod", "constant"]
)  # fmt: skip


def is_mathematical(text: str) -> bool:
    """Whether `text` may be worth showing to an algebra system: notation or a number, and no plain words."""
    words = re.findall(r"[A-Za-z]{4,}", text)
    if any(word.lower() not in _NOTATION for word in words) or len(text) > 400:
        return False
    return bool(_SYMBOLIC.search(text) or re.search(r"\d", text) or re.fullmatch(r"\s*[A-Za-z]\s*", text))


@lru_cache(maxsize=8192)
def read(answer: str) -> Value:
    """The value of an answer. Never fails: what is nothing else is `Words`."""
    text = clean(_typographic(answer))
    text = re.sub(
        r"^(?:approximately|approx\.?|about|around|roughly|≈|~)\s*(?=[-+$€£¥\d.])", "", text, flags=re.IGNORECASE
    )
    return (
        _truth(text)
        or moment(text)
        or number(text)
        or _option(text)
        or _assigned(text)
        or _listing(text)
        or Words(text=text, key=word_key(text), symbolic=_symbolic(text))
    )


def word_key(text: str) -> str:
    """`text` for comparison: punctuation and articles dropped, words folded to lower case.

    Words in capitals or with capitals inside keep their case: where letter case is the question ("HELLO"), it counts.
    """
    text = re.sub(r"\s*(?:->|→|=>|>)\s*", " ", text)
    words = re.findall(r"[\w'’.+#/&%°-]+|[^\w\s,;:!?\"“”()\[\]{}*`]", text)
    folded = [_fold(word.strip(".'’")) for word in words]
    folded = [word for word in folded if word]
    if len(folded) > 1 and folded[0] in ("the", "a", "an"):
        folded = folded[1:]
    return " ".join(folded)


def _fold(word: str) -> str:
    return word if len(word) > 1 and any(letter.isupper() for letter in word[1:]) else word.lower()


def _typographic(text: str) -> str:
    if len(text) > 2000:
        return text
    for written, plainly in (
        ("−", "-"),
        ("–", "-"),
        ("—", "-"),
        ("’", "'"),
        ("\u00a0", " "),
        ("\u202f", " "),
        ("\u2009", " "),
    ):
        text = text.replace(written, plainly)
    # Compatibility forms (full-width digits) but not superscripts: x² is no x2.
    return "".join(c if c in "²³⁴⁵⁶⁷⁸⁹⁰¹⁻ⁿ½¼¾…" else unicodedata.normalize("NFKC", c) for c in text)


def _symbolic(text: str) -> bool:
    return is_mathematical(text) and bool(_SYMBOLIC.search(text) or re.search(r"\d", text))


def _truth(text: str) -> Truth | None:
    match = re.match(r"([a-z]+)\b(?=\s*(?:$|[,.;:!(-]))", text.lower())
    if match is None or len(text) > 200:
        return None
    # "Yes, because …" is a yes; "No. 5" and "true love" are not.
    rest = text[match.end() :].strip(" ,.;:!-")
    if rest and (rest[0].isdigit() or match.group(1) not in ("yes", "no", "true", "false")):
        return None
    if match.group(1) in _YES:
        return Truth(text="yes", value=True)
    return Truth(text="no", value=False) if match.group(1) in _NO else None


def _option(text: str) -> Option | None:
    match = re.match(
        r"(?:(?:option|choice|answer)\s+)?(?:\(([A-Ja-j])\)|([A-Ja-j])\)|([A-J])[.:](?=\s|$))\s*", text, re.IGNORECASE
    )
    if match:
        letter = next(group for group in match.groups() if group)
        return Option(text=text, letter=letter.lower())
    match = re.fullmatch(r"(?:option|choice)\s+([A-Ja-j])", text, re.IGNORECASE)
    return Option(text=text, letter=match.group(1).lower()) if match else None


def _assigned(text: str) -> Value | None:
    """The value of "x = 5" and of the last side of "2 + 3 = 5"; None when it is an equation proper."""
    if text.count("=") == 0 or re.search(r"[<>!≤≥]|==|,|;|\bor\b|\band\b|:=", text):
        return None
    left, _, right = text.rpartition("=")
    name = re.fullmatch(r"\s*(?:the\s+)?(?:[A-Za-z][\w']*(?:\([a-z]\))?|[A-Z][a-z]+ [a-z]+|\\[a-z]+)\s*", left)
    computed = not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", left)) and re.search(r"\d", left)
    if not right.strip() or not (name or computed):
        return None
    # "y = 2x" says more than "2x"? As the value of a name they are the same answer.
    return read(right)


def _listing(text: str) -> Listing | None:
    if len(text) > 2000:
        return None
    body, brackets = text, ""
    latex_set = re.fullmatch(r"\\\{(.*)\\\}", text, re.DOTALL)
    if latex_set:
        body, brackets = latex_set.group(1), "{}"
    elif len(text) > 1 and text[0] + text[-1] in ("[]", "()", "{}") and _balanced(text[1:-1]):
        body, brackets = text[1:-1], text[0] + text[-1]
    elif re.match(r"[\[(]", text) and re.search(r"[\])]$", text):
        return None  # a half-open interval, or something deeper
    if brackets == "{}" and re.search(r":", body):
        return None  # a mapping
    arrows = re.split(r"\s*(?:->|→|=>)\s*|\s+>\s+", body)
    if len(arrows) > 2 and not re.search(r"[=<]", body):
        items, disjoint = arrows, False
    else:
        plus_minus = re.fullmatch(r"(?:[a-z]\s*=\s*)?(?:±|\\pm)\s*([\w./√()^\\{}]+)", body)
        if plus_minus:
            items, disjoint = [plus_minus.group(1), f"-{plus_minus.group(1)}"], True
        else:
            disjoint = bool(re.search(r"\s+or\s+", body)) and not re.search(r"[a-z]{4,} or ", body)
            items = _split(body, disjoint=disjoint)
    items = [re.sub(r"^(?:and|or)\s+", "", clean(item)) for item in items]
    if not any(items) or (len(items) < 2 and not brackets) or (len(items) == 1 and brackets == "()"):
        return None
    if any(not item for item in items):
        return None
    named = [re.fullmatch(r"([a-zA-Z](?:_?\d)?)\s*=\s*([^=]+)", item) for item in items]
    unordered = disjoint or brackets == "{}"
    names: tuple[str, ...] = ()
    if all(named):
        pairs = [(match.group(1), match.group(2).strip()) for match in named if match]
        if len({name for name, _ in pairs}) == 1:  # "x = 2, x = 3": the solutions, in any order
            unordered = True
        else:
            pairs.sort()
            names = tuple(name for name, _ in pairs)
        items = [value for _, value in pairs]
    elif named[0] and not any("=" in item for item in items[1:]):  # "x = 2, 3"
        items = [named[0].group(2).strip(), *items[1:]]
        unordered = True
    key = word_key(body)
    return Listing(text=text, items=tuple(items), unordered=unordered, brackets=brackets, key=key, names=names)


def _split(body: str, *, disjoint: bool) -> list[str]:
    """`body` cut at its outermost commas or semicolons (else lines) and at a last "and"; at "or" when `disjoint`."""
    items: list[str] = []
    depth = start = 0
    marks = ";" if ";" in body and "," in body else ",;"
    for index, character in enumerate(body):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character in marks and depth == 0:
            # "1,234" is a number where nothing else separates.
            if character == "," and re.fullmatch(r"-?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?", body.strip()):
                return [body]
            items.append(body[start:index])
            start = index + 1
    items.append(body[start:])
    if len(items) == 1 and "\n" in body.strip():
        items = [line for line in body.strip().splitlines() if line.strip()]
    word = r"\s+(?:and|or)\s+" if disjoint else r"\s+and\s+"
    if len(items) > 1 or re.fullmatch(r"[^\s]+(?:\s*=\s*[^\s]+)?\s+(?:and|or)\s+[^\s]+(?:\s*=\s*[^\s]+)?", body):
        last = re.split(word, items[-1])
        if len(last) == 2 and all(part.strip() for part in last):
            items[-1:] = last
    items = [item.strip() for item in items]
    if items and not items[-1]:
        items.pop()  # a trailing comma, as in "(5,)"
    return [re.sub(r"^(?:\d{1,3}[.)]|[-*•])\s+", "", item) if "\n" in body else item for item in items]


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0
