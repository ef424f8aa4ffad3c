"""Exact arithmetic on text: a calculator over fractions that evaluates numbers and nothing else, and numbers in words.

Never `eval`: the text is a model's or a stranger's. Powers and lengths are bounded, so every call is quick.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_LENGTH = 500
MAX_BITS = 4096
MAX_DEPTH = 60

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?![\w.]))?|\.\d+)"
    r"|(?P<operator>\*\*|//|[-+*/^%()]|√))"
)
_WRITTEN = (
    ("×", "*"), ("⋅", "*"), ("·", "*"), ("∙", "*"), ("÷", "/"), ("−", "-"), ("–", "-"), ("{,}", ","),
    ("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\left", ""), ("\\right", ""), ("\\,", ""), ("\\!", ""),
    ("\\%", "%"), ("\\ ", " "), ("[", "("), ("]", ")"), ("{", "("), ("}", ")"),
)  # fmt: skip
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALE_WORDS = frozenset({*_SCALES, "hundred", "dozen"})
_WORD = re.compile(r"[\s-]*((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w.,/^])|[a-z]+)", re.IGNORECASE)
_OPENING = re.compile(
    r"\s*((?:(?:about|approximately|around|roughly|exactly|nearly|almost)\s+|[≈~]\s*)?)"
    r"(minus\s+|negative\s+|[-+]\s*)?([$€£¥]?)\s*",
    re.IGNORECASE,
)


class _NotExact(ValueError):
    pass


def evaluate(text: str) -> Fraction | None:
    """Value of an arithmetic expression; None when `text` is anything else, too large, or divides by zero.

    Knows + - * / × ÷ · ^ ** % (after a number: hundredths), parentheses, thousands separators, decimals, scientific
    notation, `\\frac`, `\\times`, superscripts, and "2(3+4)". `//` and names are refused.
    """
    if len(text) > MAX_LENGTH:
        return None
    try:
        tokens = _tokens(plain(text))
        if not tokens:
            return None
        value, end = _sum(tokens, 0, 0)
    except (_NotExact, ZeroDivisionError):
        return None
    return value if end == len(tokens) else None


def in_digits(text: str) -> str:
    """`text` with the number it opens on in digits: "two thousand" is "2000", "$1.5 million" "$1500000"; else as it is.

    Knows numbers to the trillions, "a hundred", "and" inside a number, "dozen", "point" and "minus". A text in which
    another number follows, or a hyphen ("two-thirds"), is left alone, for it is not that number.
    """
    opening = _OPENING.match(text[:80])
    assert opening is not None  # Every part is optional.
    value, end = _spoken(text, opening.end())
    rest = text[end:]
    words = set(re.findall(r"[a-z]+", rest.lower()))
    spoken_sign, in_words = (
        bool(re.search(r"[a-z]", part, re.IGNORECASE)) for part in (opening[2] or "", text[opening.end() : end])
    )
    if value is None or not (spoken_sign or in_words) or re.match(r"\s*-|\w", rest) or re.search(r"\d", rest):
        return text
    if words & _SCALE_WORDS or words & NUMBER_WORDS.keys():
        return text
    sign = "-" if opening[2] and opening[2].strip() != "+" else ""
    digits = _decimal(value) if in_words else text[opening.end() : end]  # "minus 3.50" keeps its decimals
    return f"{opening[1]}{sign}{opening[3]}{digits}{rest}"


def _spoken(text: str, start: int) -> tuple[Fraction | None, int]:
    """The value of the number in words at `start` and where it ends; None where there is none."""
    total, group, floor, limit = Fraction(0), None, 10**15, 100  # group: below the next scale; limit: what may be added
    end = at = start
    while match := _WORD.match(text, at):
        word = match[1].lower()
        if word in ("a", "an") and at == start:
            following = _WORD.match(text, match.end())
            if following is None or following[1].lower() not in _SCALE_WORDS:
                break
            group = Fraction(1)
        elif word == "and" and limit in (100, 1000) and end > start:
            # "one hundred and fifty"; "five and six" are two numbers.
            following = _WORD.match(text, match.end())
            if following is None or following[1].lower() not in NUMBER_WORDS:
                break
            at = match.end()
            continue
        elif word[0].isdigit() and group is None:
            group, limit = Fraction(word.replace(",", "")), 0
        elif word in NUMBER_WORDS and NUMBER_WORDS[word] < limit and (group is None or NUMBER_WORDS[word]):
            group = (group or Fraction(0)) + NUMBER_WORDS[word]
            limit = 10 if NUMBER_WORDS[word] >= 20 else 0
        elif word == "hundred" and group is not None and 0 < group < 100:
            group, limit = group * 100, 100
        elif word == "dozen" and group is not None and floor == 10**15:
            return group * 12, match.end()
        elif word in _SCALES and group is not None and _SCALES[word] < floor:
            total, group, floor, limit = total + group * _SCALES[word], None, _SCALES[word], 100
        elif word == "point" and group is not None:
            return _with_decimals(text, total + group, match.end(), end)
        else:
            break
        end = at = match.end()
    return (total + (group or 0), end) if end > start else (None, start)


def _with_decimals(text: str, whole: Fraction, at: int, end: int) -> tuple[Fraction, int]:
    """`whole` and the digits in words at `at`: "three point one four". Without any, the number ends at `end`."""
    place = Fraction(1)
    while (match := _WORD.match(text, at)) and NUMBER_WORDS.get(match[1].lower(), 10) < 10:
        place /= 10
        whole += NUMBER_WORDS[match[1].lower()] * place
        at = end = match.end()
    return whole, end


def _decimal(value: Fraction) -> str:
    """A value of finitely many decimals as written."""
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
    digits = str(value * 10**places).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def plain(text: str) -> str:
    """`text` with LaTeX and typographic arithmetic written in ASCII."""
    for _ in range(4):
        replaced = _FRACTION.sub(r"((\1)/(\2))", text)
        if replaced == text:
            break
        text = replaced
    text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)(?!\d)", r"((\1)/(\2))", text)
    text = re.sub(
        r"([\d)])([⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda match: f"{match[1]}^({match[2].translate(_SUPERSCRIPTS)})", text
    )
    for written, ascii_form in _WRITTEN:
        text = text.replace(written, ascii_form)
    return re.sub(r"(?<=[\d)\s])(?<!\b0)x(?=[\s(]*\d)", "*", text)


def _tokens(text: str) -> list[str | Fraction]:
    tokens: list[str | Fraction] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _NotExact(text[position:])
        if match["number"]:
            tokens.append(Fraction(match["number"].replace(",", "")))
        else:
            tokens.append(match["operator"])
        position = match.end()
    return tokens


def _sum(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    if depth > MAX_DEPTH:
        raise _NotExact("too deep")
    value, at = _product(tokens, at, depth)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        term, following = _product(tokens, at + 1, depth)
        value = value + term if tokens[at] == "+" else value - term
        at = following
    return _bounded(value), at


def _product(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    value, at = _signed(tokens, at, depth)
    while at < len(tokens):
        token = tokens[at]
        if token in ("*", "/"):
            factor, at = _signed(tokens, at + 1, depth)
            value = value * factor if token == "*" else value / factor
        elif token == "(":  # "2(3+4)"
            factor, at = _power(tokens, at, depth)
            value *= factor
        else:
            break
        value = _bounded(value)
    return value, at


def _signed(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    if at < len(tokens) and tokens[at] in ("-", "+"):
        if depth > MAX_DEPTH:
            raise _NotExact("too deep")
        value, following = _signed(tokens, at + 1, depth + 1)
        return (-value if tokens[at] == "-" else value), following
    return _power(tokens, at, depth)


def _power(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    base, at = _atom(tokens, at, depth)
    if at < len(tokens) and tokens[at] in ("^", "**"):
        if depth > MAX_DEPTH:
            raise _NotExact("too deep")
        exponent, at = _signed(tokens, at + 1, depth + 1)
        if exponent.denominator != 1:
            raise _NotExact("an irrational power")
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent.numerator) * bits > MAX_BITS:
            raise _NotExact("too large")
        base = base**exponent.numerator
    return base, at


def _atom(tokens: list[str | Fraction], at: int, depth: int) -> tuple[Fraction, int]:
    if at >= len(tokens):
        raise _NotExact("ends early")
    token = tokens[at]
    if isinstance(token, Fraction):
        value, at = token, at + 1
    elif token == "(":
        value, at = _sum(tokens, at + 1, depth + 1)
        if at >= len(tokens) or tokens[at] != ")":
            raise _NotExact("unbalanced")
        at += 1
    else:
        raise _NotExact(str(token))
    while at < len(tokens) and tokens[at] == "%":
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if isinstance(following, Fraction) or following == "(":
            raise _NotExact("a remainder, not hundredths")
        value, at = value / 100, at + 1
    return value, at


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _NotExact("too large")
    return value
