"""Exact arithmetic, and what it refuses."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kaelum_graph.exact import evaluate, in_digits


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


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("two thousand", "2000"),
        ("5 million", "5000000"),
        ("$1.5 million", "$1500000"),
        ("-$5 billion", "-$5000000000"),
        ("about 8 billion people", "about 8000000000 people"),
        ("one hundred and fifty", "150"),
        ("Two thousand and five", "2005"),
        ("one hundred and fifty thousand two hundred and six", "150206"),
        ("nine hundred ninety-nine thousand nine hundred ninety-nine", "999999"),
        ("2 million 500 thousand", "2500000"),
        ("a hundred", "100"),
        ("a dozen eggs", "12 eggs"),
        ("2 dozen", "24"),
        ("forty-two apples", "42 apples"),
        ("three point one four", "3.14"),
        ("minus five", "-5"),
        ("minus 3.50", "-3.50"),
    ],
)
def test_numbers_in_words(text: str, digits: str) -> None:
    assert in_digits(text) == digits


@pytest.mark.parametrize(
    "text",
    ["", "42", "1.50", "1,234", "-5.50", "5,6", "five and six", "one two", "two-thirds", "two thousand dozen", "a cat",
     "5 to 8 million", "1/2 million", "1.5e3 million", "million", "nineteen ninety-nine", "twenty zero", "10:30"],
)  # fmt: skip
def test_what_is_no_number_in_words_is_left(text: str) -> None:
    assert in_digits(text) == text
