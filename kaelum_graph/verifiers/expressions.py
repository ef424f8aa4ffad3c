"""Evaluates the arithmetic that a query asks for and compares."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.answer_values import Number, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.exact import evaluate, plain
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.arithmetic import in_decimals, rounded
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote
from kaelum_graph.verifiers.wording import asks_yes_or_no, is_unclear, unread, without_form

_COMPUTE = frozenset("compute calculate evaluate find solve simplify arithmetic calculation expression math".split())
_OPERATIONS = {
    "sum": "+-", "addition": "+-", "difference": "-", "subtraction": "-", "product": "*", "multiplication": "*",
    "quotient": "/", "division": "/",
}  # fmt: skip
"""What a named operation may hold: "the product of 3 - 4" is not what it says."""
_KNOWN = (
    _COMPUTE | _OPERATIONS.keys() | frozenset("value result number how much does equal equals exact exactly".split())
)
_COMMON = frozenset(
    "find compute calculate determine value result these two three four numbers integers number".split()
)
_SPAN = re.compile(r"(?<![\w.])[-+(]*\s*(?:\d|\.\d)[-+*/^().,%\d\s]*[\d)%!]|(?<![\w.])\d")
_AMBIGUOUS = re.compile(
    r"\d\s+\(|(?:^|[(*/+-])\s*-\s*[\d.]+\s*(?:\^|\*\*)|(?:\^|\*\*)\s*[-\d.]+\s*(?:\^|\*\*)"
    r"|[-+]\s*[\d.]+\s*%|%\s*\*[^+-]*\d\s*[-+]"
)
"""-3^2, 2^3^2, 50 + 10%, 20% of 50 + 10: people read these in two ways."""
_NAME = re.compile(r"\d+(?:-\d+)+|\d{1,2}/\d{1,2}|\d+(?:/\d+){2,}|\d{1,2}x\d{1,2}", re.IGNORECASE)
"""9/11, 24/7, 4-4-2, 555-1234, 4x4: after a bare "what is" perhaps a name."""
_ROUNDING = re.compile(
    r",?\s*(?:(?:and\s+)?(?:rounded|round(?:\s+(?:it|(?:your|the)\s+(?:final\s+)?(?:answer|result)))?)|correct|accurate)?"
    r"\s+to\s+(?P<count>\d|one|two|three|four|five|six)\s+(?:(?P<places>decimal\s+places?)|significant\s+(?:figures?|digits?))\b",
    re.IGNORECASE,
)
_COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_NUMERAL = re.compile(
    r"[-+]?(?P<whole>[\d,]*)(?:\.(?P<decimals>\d*))?(?:(?:e|\*10(?:\^|\*\*)\(?)(?P<exponent>[-+]?\d+)\)?)?"
    r"(?P<percent>%|percent)?"
)
_FRACTION = re.compile(r"\(*[-+]?\(*(-?\d+)\)*/\(*(-?\d+)\)*")
_MIXED = re.compile(r"-?\d+\s+(\d+)\s*/\s*(\d+)")
_SHORT = 10**4
"""A value that ends within four decimals is written out, not rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The value asked for; `lowest` for "simplify", `quantum` (a power of ten) where the query says how to round."""

    expression: str
    value: Fraction
    lowest: bool = False
    quantum: Fraction | None = None


@register
class ExpressionVerifier(Verifier):
    """Passes or fails an answer to "What is 12*(3+4)?", "17 × 23 = ?", "15% of 80", a gcd or an lcm."""

    name = "expression"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        asked = asked_value(query.text)
        if asked is None:
            return unscored(self, "the query is no plain calculation")
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer, said = read(candidate.answer), shortened(candidate.answer)
        if not isinstance(answer, Number) or answer.unit:
            return unscored(self, f"'{said}' is no bare number")
        outcome, remark = _judged(answer, asked)
        if outcome is None:
            return unscored(self, f"'{said}' {remark}")
        if outcome:
            return vote(self, "pass", f"{asked.expression} = {in_decimals(asked.value)}{remark}")
        # The message doesn't give the value away: a model that is told the result has not reasoned.
        return vote(self, "fail", f"{asked.expression} is not {said}")


def _judged(answer: Number, asked: Asked) -> tuple[bool | None, str]:
    """Whether `answer` is the value as it should be written; None, and why, where it is not wrong and yet not it."""
    text = plain(answer.text).strip().lower()
    distance = abs(answer.value - asked.value)
    fraction = _FRACTION.fullmatch(text) or _MIXED.fullmatch(text)
    numeral = _NUMERAL.fullmatch(text.replace(" ", "")) if re.search(r"\d", text) else None
    if fraction is None and numeral is None and re.search(r"\d", text):
        # An echo of the question has its value too; equal answers share their votes, so this one fails none of them.
        return (None if distance == 0 else False), "is to be worked out, not written down"
    if distance == 0 and asked.quantum is None:
        if fraction:
            top, bottom = abs(int(fraction[1])), abs(int(fraction[2]))
            if math.gcd(top, bottom) != 1 or bottom == 1:
                return None, "is not in lowest terms"
            echo = "".join(text.split()) == "".join(asked.expression.split())
            return (None, "is the question again") if echo and not asked.lowest else (True, "")
        if asked.lowest and asked.value.denominator != 1 and "." not in asked.expression:
            return None, "is no fraction in lowest terms"
        return True, ""
    if numeral is None:
        return (False, "") if distance else (None, "is not rounded as asked")
    return _judged_decimals(answer.value, asked, numeral)


def _judged_decimals(stated: Fraction, asked: Asked, numeral: re.Match[str]) -> tuple[bool | None, str]:
    decimals = numeral["decimals"] or ""
    place = int(numeral["exponent"] or 0) - len(decimals) - (2 if numeral["percent"] else 0)
    if abs(place) > 400:
        return None, "is out of reach"
    shown = Fraction(10) ** place
    if asked.quantum is not None:
        if stated in rounded(asked.value, asked.quantum):
            return True, ", rounded"
        finer = shown < asked.quantum and stated in rounded(asked.value, shown)
        return (None, "shows more digits than asked for") if finer else (False, "")
    distance = abs(stated - asked.value)
    if decimals and distance * 10**9 <= abs(asked.value):
        return True, ""  # floating-point noise
    if stated in rounded(asked.value, shown):
        digits = ((numeral["whole"] or "") + decimals).replace(",", "").lstrip("0")
        short = asked.value.denominator == 1 or _SHORT % asked.value.denominator == 0
        if len(digits) >= 2 and decimals and not short and not asked.lowest:
            return True, ", rounded"
        return None, "is only roughly the value"
    # The whole part of a quotient, and more digits cut off than rounded: neither is the value nor plainly wrong.
    whole = not decimals and shown == 1 and distance < 1
    cut = len(decimals) >= 3 and distance < shown and abs(stated) < abs(asked.value)
    return (None, "is the value cut short") if whole or cut else (False, "")


def asked_value(question: str) -> Asked | None:
    """The one value a query asks for; None when it asks for anything more or else."""
    if len(question) > 600 or asks_yes_or_no(question):
        return None
    written = without_form(question)
    named = _common_measure(written)
    if named is not None:
        return named
    text = re.sub(r"%\s+of\s+(?=[\d(])", "% * ", plain(written))
    rounding = _ROUNDING.search(text)
    if rounding:
        text = f"{text[: rounding.start()]} {text[rounding.end() :]}"
    text, ends = re.subn(r"=\s*(?:\?|_+|x)?\s*$|=\s*\?", " ", text.strip().rstrip("."))
    if "=" in text:
        return None
    for words, sign in (("times|multiplied by", "*"), ("divided by|over", "/"), ("plus", "+"), ("minus", "-")):
        text = re.sub(rf"(?<=[\d)])\s+(?:{words})\s+(?=[\d(-])", f" {sign} ", text, flags=re.IGNORECASE)
    spans = [match.group().strip() for match in _SPAN.finditer(text)]
    if len(spans) != 1 or not re.search(r"[\d)%]\s*[-+*/^(]", spans[0]):
        return None
    if _AMBIGUOUS.search(spans[0]) or is_unclear(spans[0]):
        return None
    rest = text.replace(spans[0], " ")
    words = set(re.findall(r"[a-z]+", rest.lower()))
    if unread(rest, _KNOWN) is not None:
        return None
    signs = set(re.findall(r"(?<=[\d)%])\s*([-+/^]|\*\*?)", spans[0]))
    if any(not signs <= set(_OPERATIONS[word]) for word in words & _OPERATIONS.keys()):
        return None
    computes = ends or words & (_COMPUTE | _OPERATIONS.keys()) or {"work", "out"} <= words
    numbers = [word.strip("?.,!\"'()") for word in written.split() if re.search(r"\d", word)]
    if not computes and len(numbers) == 1 and _NAME.fullmatch(numbers[0]):
        return None
    value = evaluate(spans[0])
    if value is None:
        return None
    quantum = _quantum(rounding, value) if rounding else None
    return Asked(expression=shortened(spans[0]), value=value, lowest="simplify" in words, quantum=quantum)


def _quantum(rounding: re.Match[str], value: Fraction) -> Fraction:
    """The unit of the last digit that a request for decimal places or significant figures leaves."""
    count = _COUNTS.get(rounding["count"].lower()) or int(rounding["count"])
    if rounding["places"] or value == 0:
        return Fraction(1, 10**count)
    leading = len(str(abs(value.numerator))) - len(str(value.denominator))
    if abs(value) < Fraction(10) ** leading:
        leading -= 1
    return Fraction(10) ** (leading - count + 1)


def _common_measure(question: str) -> Asked | None:
    """The greatest common divisor or least common multiple that a query asks for."""
    rest, divisors = re.subn(
        r"\b(?:greatest|highest|largest) common (?:divisor|factor)\b|\b(?:gcd|gcf|hcf)\b", " ", question, flags=re.I
    )
    rest, multiples = re.subn(r"\b(?:least|lowest|smallest) common multiple\b|\blcm\b", " ", rest, flags=re.I)
    lists = list(re.finditer(r"(?<![\d.,-])\d{1,18}(?:\s*(?:,\s*and|,|and|&)\s*\d{1,18})+(?![\d.]*\d)", rest))
    if bool(divisors) == bool(multiples) or len(lists) != 1 or re.search(r"\d,\d{3}(?!\d)", lists[0].group()):
        return None
    if unread(f"{rest[: lists[0].start()]} {rest[lists[0].end() :]}", _COMMON) is not None:
        return None
    numbers = [int(number) for number in re.findall(r"\d+", lists[0].group())]
    name, value = ("gcd", math.gcd(*numbers)) if divisors else ("lcm", math.lcm(*numbers))
    return Asked(expression=f"{name}({', '.join(map(str, numbers))})", value=Fraction(value))
