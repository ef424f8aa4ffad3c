"""A calculator held to a chain of thought: the calculations it writes down, done again, slips carried forward."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.exact import evaluate
from kaelum_graph.verifiers.arithmetic import calculations

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """`answer` is what the chain comes to without its slips; `lines` are its calculations as they should stand."""

    answer: str
    lines: tuple[str, ...]


def recomputed(question: str, text: str, answer: str) -> Recomputed | None:
    """What `answer` would be had `text` calculated right; None when it has no slip that `answer` hangs on.

    A wrong result is replaced wherever a later calculation takes it up. Where that can't be told (the wrong result is
    also a number of the question, or stands for two different values), nothing is replaced.
    """
    value = evaluate(answer)
    if value is None:
        return None
    given = {evaluate(number) for number in _NUMBER.findall(question)}
    replaced: dict[Fraction, Fraction] = {}
    sure: set[Fraction] = set()
    lines: list[str] = []
    for calculation in calculations(text):
        stated = evaluate(calculation.stated)
        left = _with(calculation.left, replaced)
        actual = evaluate(left)
        if stated is None or actual is None:
            return None
        if calculation.right and left == calculation.left:
            sure.add(stated)
            replaced.pop(stated, None)
            continue
        if stated in given or stated in sure or replaced.get(stated, actual) != actual:
            return None
        replaced[stated] = actual
        lines.append(f"{left} = {written(actual)}")
    if value not in replaced or replaced[value] == value:
        return None
    return Recomputed(answer=written(replaced[value]), lines=tuple(lines))


def written(value: Fraction) -> str:
    """A whole number, a decimal that ends, or a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    decimal = f"{float(value):.10g}"
    return decimal if "e" not in decimal and Fraction(decimal) == value else f"{value.numerator}/{value.denominator}"


def _with(left: str, replaced: dict[Fraction, Fraction]) -> str:
    """`left` with replaced results in the places of the wrong ones."""
    text = left
    leading = re.match(r"\s*-\s*(\d[\d,]*(?:\.\d+)?)", text)
    if leading:
        wrong = -Fraction(leading[1].replace(",", ""))
        if wrong in replaced:
            text = f"({written(replaced[wrong])})" + text[leading.end() :]

    def new(match: re.Match[str]) -> str:
        number = evaluate(match[0])
        return match[0] if number is None or number not in replaced else f"({written(replaced[number])})"

    # What was put in is in parentheses, and is not looked at again.
    parts = re.split(r"(\(-?[\d./]+\))", text) if leading else [text]
    return "".join(part if part.startswith("(") and leading else _NUMBER.sub(new, part) for part in parts)
