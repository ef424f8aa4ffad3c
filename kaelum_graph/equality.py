"""Whether two answers say the same.

Two steps: an answer is given a meaning (a number with its unit, an option, a truth value, a list, a date, a time,
words), and meanings of like kinds are compared exactly; what is mathematical beyond that goes to Math-Verify in a child
process. A kind is taken only when it covers the whole answer. docs/evidence.md lists what counts as equal and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from kaelum_graph.algebra import algebra
from kaelum_graph.answer_values import (
    Listing,
    Moment,
    Number,
    Option,
    Truth,
    Value,
    Words,
    is_mathematical,
    read,
    word_key,
)
from kaelum_graph.answers import clean
from kaelum_graph.exact import in_digits

MAX_LENGTH = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An option by its letter. `said` follows a letter with a period or colon, which may be somebody's initial."""

    text: str
    letter: str
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range, a score or years: "10-15 cm", "3-1", "1939-1945". Never a difference."""

    text: str
    ends: tuple[str, ...]
    unit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbatim:
    """What looks like a number and is another thing ("2x3", "5 degrees below the mean"): compared as it is written."""

    text: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What an answer says, and the name it gives it: "x" for "x = 5", empty for most."""

    value: Value | Choice | Span | Verbatim
    name: str = ""
    mathematical: bool = False


_Kind: TypeAlias = Value | Choice | Span | Verbatim


def answers_equal(a: str, b: str) -> bool:
    """Whether answers `a` and `b` say the same. Symmetric; blank answers equal nothing.

    An unreadable or overlong pair, or one that takes the algebra longer than its limit, is equal only as text.
    """
    if not a.strip() or not b.strip():
        return False
    if a == b:
        return True
    if max(len(a), len(b)) > MAX_LENGTH:
        return _squeezed(a) == _squeezed(b)
    return _equal(min(a, b), max(a, b))


@lru_cache(maxsize=512)
def _squeezed(text: str) -> str:
    return " ".join(text.split())


_EQUATION = re.compile(r"(?<![<>!:=])=(?!=)")


@lru_cache(maxsize=16384)
def _equal(a: str, b: str) -> bool:
    one_meaning, other_meaning = _meaning(a), _meaning(b)
    if one_meaning.name and other_meaning.name and one_meaning.name != other_meaning.name:
        return False
    one, other = one_meaning.value, other_meaning.value
    if one == other:
        return True
    decided = _same_kind(one, other)
    if decided is not None:
        return decided
    if not (one_meaning.mathematical and other_meaning.mathematical):
        return False
    if bool(_EQUATION.search(one.text)) != bool(_EQUATION.search(other.text)):
        # "x = 13" has been read as 13 by now; of "4k = 13" the algebra would take the right side alone.
        return False
    one_text, one_constant = _without_constant(one.text)
    other_text, other_constant = _without_constant(other.text)
    if one_constant != other_constant:
        # "x^3/3" is one antiderivative, "x^3/3 + C" all of them; and C may be a variable. So they differ.
        return False
    if one_constant:
        return algebra().equal_up_to_constant(one_text, other_text) is True
    return algebra().equal(one.text, other.text) is True


_DASHES = str.maketrans("−–—\u00a0\u202f\u2009", "---   ")
_NAMED = re.compile(r"\s*(?:the\s+)?([A-Za-z][\w']*(?:\([a-z]\))?|[A-Z][a-z]+ [a-z]+|\\[a-z]+)\s*=(?!=)([^=]+)")
_ITEM_NAMES = re.compile(r"(?:^|[\s,;({\[])([a-zA-Z](?:_?\d)?)\s*=")


@lru_cache(maxsize=8192)
def _meaning(answer: str) -> Meaning:
    """What `answer` says; `read` with each kind held to the whole of the answer. Never fails."""
    text = clean(answer.translate(_DASHES))
    mathematical = is_mathematical(answer)
    value, name = read(text), ""
    named = _NAMED.fullmatch(text)
    if isinstance(value, Listing):
        names = set(_ITEM_NAMES.findall(text))
        name = names.pop().lower() if len(names) == 1 else ""  # "x = 2 or x = 3"
    elif named and not re.search(r"[<>!≤≥,;]|\bor\b|\band\b", text):
        # "y" is what the values of "f(x)" are called.
        value, name = _kind(named[2].strip()), re.sub(r"^f\(x\)$", "y", named[1].lower())
    else:
        value = _kind(text)
    return Meaning(value=value, name=name, mathematical=mathematical)


# A number followed by one of these is not that number: "5 degrees below the mean", "5 thirds", "44 BC".
_CHANGING = re.compile(
    r"(?<![\\a-z])(?:below|under|less|fewer|more|over|above|beyond|plus|minus|squared|cubed|factorial|remainder|bce?|ago|"
    r"hal(?:f|ve)s?|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth|millionth)s?|"
    r"(?:hundred|thousand|million|billion|trillion|dozen)s?)\b"
)  # fmt: skip
_OPTION_SAID = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(?[A-J]\)|[A-J][.:](?=\s|$))\s*(.*)", re.IGNORECASE | re.DOTALL
)
_DIMENSIONS = re.compile(r"\d+[x×]\d+(?:\s*[a-z]+)?|\d+\s[x×]\s\d+\s*[a-z]+")


def _kind(text: str) -> _Kind:
    below = re.fullmatch(r"(\d[\d.,]*[^\d-]*?)\s+below(?:\s+zero)", text, re.IGNORECASE)
    text = f"-{below[1]}" if below else text
    value = read(text)
    span = None if isinstance(value, Moment | Truth | Listing) else _span(text)
    if span is not None:
        return span
    if isinstance(value, Truth):
        return value if _only_truth(text, value.value) else Words(text=text, key=word_key(text), symbolic=False)
    if isinstance(value, Option):
        return _choice(value.letter, text)
    digits = in_digits(text)
    if digits != text and isinstance(spoken := read(digits), Number):
        value = spoken
    if isinstance(value, Number) and (
        _CHANGING.search(value.text.lower()) or _DIMENSIONS.fullmatch(value.text.lower())
    ):
        return Verbatim(text=text, key=re.sub(r"(?<=[a-z])-(?=[a-z])", " ", word_key(text.replace("×", "x"))))
    return value


_HEDGE = re.compile(r"\b(?:but|unless|except|however|although|though|maybe|or|only if)\b", re.IGNORECASE)


def _only_truth(text: str, value: bool) -> bool:
    """Whether a text that opens on "yes" or "no" says just that, and why: "yes, no" and "True, end, spring" don't."""
    mark, rest = re.sub(r"^\w+", "", text)[:2].strip(), re.sub(r"^\w+", "", text).strip(" ,.;:!()-")
    if not rest:
        return True
    if len(re.split(r"[,;]", rest)[0].split()) < 3:
        return False
    # "Yes, but not always" is no yes; a sentence of its own may weigh things ("No. All are A, but not all are B").
    sentence = rest.split(". ")[0]
    if _HEDGE.match(rest) if mark == "." else _HEDGE.search(sentence):
        return False
    if re.search(rf"(?:^|[.,;:!?]\s)(?:{'no|false' if value else 'yes|true'})(?=[.,;:!?]|$)", rest, re.IGNORECASE):
        return False
    reason = re.match(r"(?:because|since|as|for)\b", rest, re.IGNORECASE)
    return bool(reason) or not re.search(r"\d", sentence)


def _choice(letter: str, text: str) -> Choice | Words:
    """An option, or the words that `text` is: a name with initials, several options, a product in brackets."""
    match = _OPTION_SAID.fullmatch(text)
    said = match[1] if match else ""
    initials = re.match(r"[A-Z]\.", said) and not text.startswith("(")
    several = re.match(r"(?:and|or)\b|[,/&]", said) or re.search(r"(?:^|[\s(,])[A-Ja-j](?:\)|[.:]\s)", said)
    algebraic = re.match(r"\(?\w\)[^\w\s.,:;\"'$]", text) or re.match(r"[+*/^=<>|(]|-\s", said)
    if initials or several or algebraic:
        return Words(text=text, key=word_key(text), symbolic=is_mathematical(text))
    bracketed = match is None or ")" in text[: match.start(1)]
    return Choice(text=text, letter=letter, said="" if bracketed else word_key(said))


_END = r"[-+]?[$€£¥]?\d[\d,]*(?:\.\d+)?\s*%?"
_SPAN = re.compile(
    rf"\(?(?:(?:from|between)\s+)?({_END}(?:\s*-\s*{_END})+|{_END}\s+(?:to|and|through)\s+{_END})"
    r"(?:\s*([a-z°¢][a-z°. /]*))?\)?",
    re.IGNORECASE,
)


def _span(text: str) -> Span | Verbatim | None:
    """The range that the whole of `text` is; None for anything else."""
    match = _SPAN.fullmatch(text) if len(text) < 120 else None
    if match is None or (re.search(r"\d\s+and\s", match[1]) and not re.match(r"\(?between", text, re.IGNORECASE)):
        return None
    unit = (match[2] or "").lower()
    if _CHANGING.search(unit):
        return Verbatim(text=text, key=word_key(text))
    parts = re.split(r"(?<=[\d%])\s*(?:-|to\b|and\b|through\b)\s*", match[1], flags=re.IGNORECASE)
    ends = tuple(re.sub(r"[,+\s$€£¥%]", "", part) for part in parts)
    money = re.search(r"[$€£¥]", match[1])
    quantity = read(f"{money[0] if money else ''}1{'%' if '%' in match[1] else ''} {unit}".strip())
    units = quantity.unit if isinstance(quantity, Number) else frozenset(unit.split())
    percent = frozenset(["percent"]) if isinstance(quantity, Number) and quantity.percent else frozenset[str]()
    return Span(text=text, ends=ends, unit=units | percent)


def _same_kind(one: _Kind, other: _Kind) -> bool | None:
    """Equality of two values of known kinds; None where only algebra can tell."""
    if isinstance(one, Number) and isinstance(other, Number):
        return _same_number(one, other)
    if isinstance(one, Truth) and isinstance(other, Truth):
        return one.value == other.value
    if isinstance(one, Moment) and isinstance(other, Moment):
        return _same_moment(one, other)
    if isinstance(one, Choice) and isinstance(other, Choice):
        return one.letter == other.letter and (one.said == other.said or not (one.said and other.said))
    if isinstance(one, Choice) or isinstance(other, Choice):
        option, plain = (one, other) if isinstance(one, Choice) else (other, one)
        assert isinstance(option, Choice)
        # A bare letter may be an option or a name: "B" is "(B)".
        return isinstance(plain, Words) and plain.key == option.letter
    if isinstance(one, Span) and isinstance(other, Span):
        return one.ends == other.ends and _compatible_units(one.unit, other.unit)
    if isinstance(one, Verbatim) and isinstance(other, Verbatim):
        return one.key == other.key
    if isinstance(one, Span | Verbatim) or isinstance(other, Span | Verbatim):
        return False
    if isinstance(one, Listing) and isinstance(other, Listing):
        return _same_listing(one, other)
    if isinstance(one, Listing) or isinstance(other, Listing):
        listing, single = (one, other) if isinstance(one, Listing) else (other, one)
        assert isinstance(listing, Listing)
        if len(listing.items) == 1:
            return answers_equal(listing.items[0], single.text)
        if isinstance(single, Words) and not is_mathematical(single.text):
            # "apple bat cat" for "apple, bat, cat"
            return listing.key == single.key
        return None
    if type(one) is not type(other):
        words = one if isinstance(one, Words) else other
        # A number against plain words can't be equal; against "2*pi" algebra tells.
        return None if isinstance(words, Words) and words.symbolic else False
    if isinstance(one, Words) and isinstance(other, Words):
        return _same_words(one, other)
    return False


# Signs that words are compared without, where they are notation: not p, n factorial, f prime, a repeated pattern.
_NOTATION = re.compile(r"![\w(]|[\d)\]]!|\)'|(?<![A-Za-z'\"‘“])[A-Za-z][!'*?](?![A-Za-z])")


@lru_cache(maxsize=8192)
def _signs(text: str) -> tuple[str, ...]:
    return tuple(_NOTATION.findall(text))


def _same_words(one: Words, other: Words) -> bool | None:
    if one.key != other.key and not (one.symbolic or other.symbolic):
        return False
    signs, other_signs = _signs(one.text), _signs(other.text)
    if sum(sign[0] == "!" for sign in signs) != sum(sign[0] == "!" for sign in other_signs):
        return False  # the algebra knows no "not"
    alike = one.key == other.key and signs == other_signs
    if alike and len(one.key) == 1:
        return True  # "B" and "b"
    return None if one.symbolic or other.symbolic else alike


def _same_moment(one: Moment, other: Moment) -> bool:
    kind, year, *rest = one.key
    other_kind, other_year, *other_rest = other.key
    return (kind, rest) == (other_kind, other_rest) and (year == other_year or None in (year, other_year))


def _same_number(one: Number, other: Number) -> bool:
    if not _compatible_units(one.unit, other.unit):
        return False
    if _close(one, other):
        return True
    # "50%" answers "what percentage": a bare "50" means the same. Two numbers with a percent sign were compared above.
    if one.percent != other.percent:
        percent, bare = (one, other) if one.percent else (other, one)
        return percent.value * 100 == bare.value and not bare.unit
    return False


def _compatible_units(one: frozenset[str], other: frozenset[str]) -> bool:
    """Equal, or one says less: "42 apples" and "42", "42 red apples" and "42 apples"."""
    return one <= other or other <= one


def _close(one: Number, other: Number) -> bool:
    if one.value == other.value:
        return True
    pairs = ((one, other), (other, one))
    return any(_is_noise(exact, of=short) or _is_rounded(short, exact) for short, exact in pairs)


def _is_noise(noisy: Number, *, of: Number) -> bool:
    """Whether `noisy` is what binary floating point makes of a number, as 0.30000000000000004 of 0.3."""
    if not noisy.places or not 16 <= _digits(noisy) <= 17:
        return False  # only floating point writes so many digits and no more
    error = Fraction(1, 10**13)
    if of.places and _digits(of) > 12:  # of two long decimals the last digits count, if they aren't both noise
        error = Fraction(1, 10**15) if 16 <= _digits(of) <= 17 else Fraction(0)
    return abs(noisy.value - of.value) <= error * max(abs(noisy.value), abs(of.value))


def _is_rounded(short: Number, exact: Number) -> bool:
    """Whether `short` is `exact` rounded or cut: 0.333 for 1/3, 3.1416 for 3.14159265."""
    endless = not _terminates(exact.value)
    if short.places < (3 if endless else 4) or not (endless or exact.places > short.places):
        return False
    exponent = re.search(r"\de([-+]?\d+)", short.text.lower())
    unit = Fraction(10) ** ((int(exponent[1]) if exponent else 0) - short.places - 2 * short.percent)
    written, wanted = abs(short.value) / unit, abs(exact.value) / unit
    if short.value * exact.value <= 0 or written < 10:
        return False  # "0.0001" says too little of anything
    return written in (int(wanted), int(wanted + Fraction(1, 2)))


def _digits(number: Number) -> int:
    """How many significant digits a number was written with."""
    numeral = re.search(r"\d[\d,]*(?:\.\d+)?|\.\d+", number.text)
    return len(re.sub(r"\D", "", numeral[0]).lstrip("0")) if numeral else 0


def _terminates(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


_OR = re.compile(r"\bor\b", re.IGNORECASE)


def _same_listing(one: Listing, other: Listing) -> bool | None:
    if len(one.items) != len(other.items) or (one.names and other.names and one.names != other.names):
        return False
    if bool(_OR.search(one.text)) != bool(_OR.search(other.text)) and not all(
        re.search(r"\d|\\[a-z]", item) for item in (*one.items, *other.items)
    ):
        return False  # "A or B" leaves open what "A and B" doesn't; of an equation's solutions both say the same
    if "interval" in (one.shape, other.shape) and one.brackets != other.brackets and one.brackets and other.brackets:
        return None  # "(1, 2)" against "[1, 2]" may be intervals, where the brackets decide
    if not (one.unordered or other.unordered):
        return all(answers_equal(a, b) for a, b in zip(one.items, other.items, strict=True))
    rest = list(other.items)
    for item in one.items:
        match = next((index for index, candidate in enumerate(rest) if answers_equal(item, candidate)), None)
        if match is None:
            return False
        del rest[match]
    return True


_CONSTANT = re.compile(r"\s*\+\s*(?:C|c|K|k|\\text\{C\}|constant)(?:_?\{?[01]\}?)?\s*$")


def _without_constant(text: str) -> tuple[str, bool]:
    """`text` without a closing "+ C", and whether it had one."""
    match = _CONSTANT.search(text)
    return (text[: match.start()], True) if match and re.search(r"[a-zA-Z]", text[: match.start()]) else (text, False)
