"""Recomputes the calculations a candidate writes down.

Tier X whatever the outcome: right sums can answer the wrong question, and a slip may lie beside the path to the answer.
A wrong calculation is still a strong hint, and its message is what the model needs to mend it.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.answers import without_code
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.exact import evaluate, plain
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import unscored, vote


@dataclass(frozen=True, slots=True, kw_only=True)
class Calculation:
    """One "left = right" as written; `actual` is what left comes to, and `right` whether that is what stands there."""

    left: str
    stated: str
    actual: Fraction
    right: bool


MENDED = "Recomputed: "
"""How the observation of a rollout begins whose answer was worked out again from its own calculations."""


@register
class ArithmeticVerifier(Verifier):
    """Fails on the first wrong calculation, passes when there are some and all are right."""

    name = "arithmetic"
    tier = Tier.CROSS_CHANNEL

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        found = calculations(candidate.text)
        # The answer is what the calculations come to without their slips: these speak no longer against it.
        mended = MENDED in (candidate.observation or "")
        for calculation in found:
            if not calculation.right:
                if mended:
                    return unscored(self, "the slips were mended, and the answer with them")
                stated = f"{calculation.left} = {calculation.stated}"
                return vote(self, "fail", f"{stated} is wrong: {in_decimals(calculation.actual)}")
        if not found:
            return unscored(self, "no calculation is written down")
        return vote(self, "pass", f"{len(found)} of {len(found)} calculations are right")


_CALCULATED = r"[-+*/^().,%\d\s]"
_SUFFIX = re.compile(rf"({_CALCULATED}*[\d)%])\s*$")
_PREFIX = re.compile(r"\s*([-+(]*(?:\d|\.\d)(?:[-+*/^().,%\d\s]*[\d)%])?)")
# Words after which the numbers that follow are not the whole calculation.
_OPERATORS_IN_WORDS = frozenset(
    ["times", "minus", "plus", "by", "over", "twice", "double", "half", "triple", "sqrt", "log", "ln", "sin", "cos",
     "tan", "mod", "modulo", "power", "root", "squared", "cubed", "of", "frac", "base"]
)  # fmt: skip
_UNIT = r"[A-Za-z]{2,}(?:\s[A-Za-z]{2,})?"


def calculations(text: str) -> list[Calculation]:
    """The calculations in `text` that can be recomputed without doubt about what was meant, in their order.

    What holds a variable, mixes units in a sum, or rounds to a whole number is left out.
    """
    found: list[Calculation] = []
    for line in without_code(text).splitlines():
        if "=" in line and len(line) <= 1000 and re.search(r"\d", line):
            found.extend(_in_line(_unmarked(line)))
    return found


def in_decimals(value: Fraction) -> str:
    """`value` as a whole number, a short decimal or a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    decimal = f"{float(value):.6g}" if abs(value) < 10**15 else str(value)
    return decimal if Fraction(decimal) == value else f"{decimal} ({value})" if value.denominator < 10**6 else decimal


def rounded(value: Fraction, quantum: Fraction) -> tuple[Fraction, Fraction]:
    """`value` to the nearest multiple of `quantum`, a half away from zero and a half to the even one."""
    steps = abs(value) / quantum
    away = (steps + Fraction(1, 2)).__floor__() * quantum
    return (-away if value < 0 else away), round(value / quantum) * quantum


def _unmarked(line: str) -> str:
    line = re.sub(r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}", r" \1 ", line)
    line = re.sub(r"\\(?:boxed|quad|qquad|,|;|!|:)", " ", line)
    line = re.sub(r"\\[\[\]()]|[$`]", " ", line)
    line = re.sub(r"(?<![\w)])\*\*|\*\*(?![\w(])", " ", line)
    line = re.sub(r"%\s+of\s+(?=\d)", "% * ", line)
    line = re.sub(r"^\s*(?:[-*•>]\s+|\d{1,2}[.)]\s+)", "", line)
    return plain(re.sub(r"\([A-Za-z ]+\)", " ", line))


def _in_line(line: str) -> list[Calculation]:
    if re.search(r"[<>!:]=|==|≠|=>|\d{4}-\d\d-\d\d", line):
        return []
    pieces = line.split("=")
    found: list[Calculation] = []
    for left_piece, right_piece in itertools.pairwise(pieces):
        left = _left(left_piece)
        right = _right(right_piece)
        if left is None or right is None:
            continue
        (left_text, actual, left_units), (right_text, stated, right_unit) = left, right
        if left_units and right_unit and right_unit not in left_units:
            continue
        verdict = _agrees(actual, stated, right_text)
        if verdict is not None:
            found.append(Calculation(left=left_text, stated=right_text, actual=actual, right=verdict))
    return found


def _left(piece: str) -> tuple[str, Fraction, set[str]] | None:
    """The calculation that `piece` ends on, its value and its units; None when there is none or it is not whole."""
    units = {_singular(unit) for unit in re.findall(rf"\d\s+({_UNIT})\s*(?=[-+*/)]|$)", piece)}
    if len(units) > 1 and re.search(r"[\d)A-Za-z]\s*[+-]", piece):
        return None
    if units:
        piece = re.sub(rf"(\d)\s+{_UNIT}\s*(?=[-+*/)]|$)", r"\1 ", piece)
    match = _SUFFIX.search(piece)
    if match is None:
        return None
    before = piece[: match.start(1)].rstrip()
    text = match.group(1).strip(" ,.")
    if re.search(r"[\w√!^|}\\/]$", before):
        word = re.search(r"[A-Za-z]+$", before)
        adjacent = not piece[: match.start(1)].endswith((" ", "\t")) and not match.group(1)[:1].isspace()
        if word is None or len(word.group()) < 2 or adjacent or word.group().lower() in _OPERATORS_IN_WORDS:
            return None
    if before and text[:1] in "+-*/^" and re.search(r"[\w)]$", before):
        return None
    # "In 2020, 3 + 4": a number that belongs to the sentence.
    text = re.sub(r"^\d+[,.]\s+(?=[\d(])", "", text)
    if len(re.findall(r"\d+(?:[.,]\d+)*", text)) < 2 or not re.search(r"[\d)%]\s*[-+*/^(]", text):
        return None
    if "," in text and evaluate(text) is None:
        text = text.rpartition(", ")[2].strip()
        if text[:1] in "+-*/^" or not re.search(r"[\d)%]\s*[-+*/^(]\s*[\d(]", text):
            return None
    value = evaluate(text)
    return None if value is None else (_written(text), value, units)


def _right(piece: str) -> tuple[str, Fraction, str] | None:
    """The number or calculation that `piece` begins with, its value and its unit."""
    match = _PREFIX.match(piece)
    if match is None:
        return None
    after = piece[match.end() :]
    text = match.group(1).strip().rstrip(".,")
    text = re.split(r",\s", text)[0].rstrip(".,")
    if text == match.group(1).strip() and re.match(r"[A-Za-z_\\:√!|]|\s*[*/^+×÷-]|\s*(?:remainder|R\b|mod)", after):
        return None
    if text.count("(") < text.count(")"):
        text = text[: -(text.count(")") - text.count("("))] if text.endswith(")") else text
    value = evaluate(text)
    if value is None:
        return None
    unit = re.match(rf"\s+({_UNIT})", after)
    return _written(text), value, _singular(unit.group(1)) if unit else ""


def _written(text: str) -> str:
    """`text` for a reason: a plain fraction without the parentheses that reading it put in."""
    return re.sub(r"\(\(\s*([\d.,]+)\s*\)/\(\s*([\d.,]+)\s*\)\)", r"\1/\2", " ".join(text.split()))


def _singular(unit: str) -> str:
    return unit.split()[0].lower().removesuffix("s")


def _agrees(actual: Fraction, stated: Fraction, text: str) -> bool | None:
    """Whether `stated` is `actual` or its rounding; None where it may be one of something rounded before."""
    if actual == stated:
        return True
    # "25 / 100 = 25%" is right exactly; "25 / 100 * 100 = 25%" has lost its factor, which is a slip of notation.
    if text.endswith("%") and actual == stated * 100:
        return None
    decimals = re.search(r"\.(\d+)\s*$", text)
    if decimals:
        last = Fraction(1, 10 ** len(decimals.group(1)))
        if stated in rounded(actual, last):
            return True
        # Cut off, or off in the last digit, as sums of rounded numbers are: no slip, and not right either.
        return None if abs(actual - stated) < last else False
    if actual.denominator != 1 and abs(actual - stated) < 1:
        return None
    return False
