"""Exact arithmetic on text: a calculator over fractions that evaluates numbers and nothing else.

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
