"""Exact arithmetic, and what it refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kaelum_graph.exact import evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12*(3+4)", Fraction(84)),
        ("-5 + 23 - 7", Fraction(11)),
        ("17 × 23", Fraction(391)),
        ("1,234 + 1", Fraction(1235)),
        ("50%", Fraction(1, 2)),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("2^3^2", Fraction(512)),
        ("-2^2", Fraction(-4)),
        ("2**-2", Fraction(1, 4)),
        ("10⁻³", Fraction(1, 1000)),
        ("7 - -3", Fraction(10)),
        ("8 / 3 * 3", Fraction(8)),
        (r"\frac{1}{2} + \frac12", Fraction(1)),
        (r"3 \times 4 \div 6", Fraction(2)),
        ("2(3+4)", Fraction(14)),
        ("3 x 4", Fraction(12)),
        ("1.5e3", Fraction(1500)),
        ("{[(1+2)*3]}", Fraction(9)),
    ],
)
def test_value(text: str, value: Fraction) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "1/0", "(1+2", "1+2)", "5 6", "10 % 3", "9**9**9", "9^9^9^9", "2^0.5", "1,2", "7 // 2", "0x10", "1" * 600,
     "__import__('os')", "1;2", "(" * 200 + "1" + ")" * 200, "-" * 300 + "1", "1e999999"],
)  # fmt: skip
def test_refused(text: str) -> None:
    assert evaluate(text) is None
