"""Answers in groups: within one all are equal, across two all differ, both ways round."""

from __future__ import annotations

import itertools
import time

import pytest

from kaelum_graph.clusters import cluster
from kaelum_graph.equality import answers_equal

GROUPS = [
    ["J. K. Rowling", "**J. K. Rowling**"],
    ["J. R. R. Tolkien", "J. R. R. Tolkien."],
    ["C. S. Lewis"],
    ["C. Darwin"],
    ["(B)", "B. Paris", "B) Paris"],
    ["1939-1945", "1939–1945", "from 1939 to 1945", "1939 - 1945"],
    ["1914-1920"],
    ["3-1", "3 – 1"],
    ["2-0"],
    ["10-15 cm", "10 to 15 cm", "10–15 centimeters"],
    ["20-25 cm"],
    ["$10-$15", "$10 - $15"],
    ["-6", "minus six", "-6.0"],
    ["2", "two", "2.0", "4/2"],
    ["True, False, True", "[True, False, True]"],
    ["True, True, False"],
    ["yes, no"],
    ["yes, yes"],
    ["Yes", "true", "Yes, because it is prime", "Yes. All dogs are mammals"],
    ["No", "No, it does not follow", "No. All are birds, but not all birds fly"],
    ["True, end, spring, our"],
    ["5000000", "5 million", "five million", "5,000,000"],
    ["8 billion", "8000000000"],
    ["5", "x = 5", "five", "X = 5", "$5$"],
    ["24", "2 dozen", "two dozen"],
    ["2000", "two thousand", "2 thousand"],
    ["Ann and Bob", "Ann, Bob"],
    ["Ann or Bob"],
    ["n!"],
    ["n"],
    ["!p"],
    ["p"],
    ["5 degrees below zero", "-5 degrees"],
    ["7 degrees below average"],
    ["98765432109.5", "98,765,432,109.5"],
    ["98765432100.5"],
    ["3.141592653589793238462643"],
    ["3.141592653589793238462644"],
    ["2x3", "2×3"],
    ["3x2"],
    ["44 BC"],
    ["two thirds"],
    ["1.2345e-10"],
    ["5.67891e-10"],
    ["A: knight, B: knave"],
    ["A: knave, B: knight"],
    ["(A) and (C)", "A and C"],
    ["555-1234"],
]


def test_equal_within_a_group_and_different_across() -> None:
    everything = [(number, text) for number, group in enumerate(GROUPS) for text in group]
    for (group, one), (other_group, other) in itertools.product(everything, repeat=2):
        assert answers_equal(one, other) is (group == other_group), (one, other)
    texts = [text for _, text in everything]
    clusters = {frozenset(texts[index] for index in group.members) for group in cluster(texts)}
    assert clusters == {frozenset(group) for group in GROUPS}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 5", "y = 5"),
        ("x = 2, x = 3", "y = 2, y = 3"),
        ("f(x) = 2x", "g(x) = 2x"),
        ("D: 5", "D: 0 02:00"),
        ("(a) 5 (b) 6", "(a) 7 (b) 8"),
        ("(a)+1", "(a)+2"),
        ("2 × 3 matrix", "3 × 2 matrix"),
        ("Alice, Bob, and Carol", "Alice, Bob, or Carol"),
        ("Yes, unless n is even", "yes"),
        ("yes and no", "yes"),
        ("No tigers are birds", "no"),
        ("5 to 8 million", "5 to 8"),
        ("1/2 million", "1/2"),
        ("5!", "5"),
        ("f'", "f"),
        ("0.0000", "0.00001"),
        ("2.0000", "1.99991"),
        ("1234567890123.45", "1234567890123.46"),
        ("5%-10%", "5%"),
        ("1-2, 3-4", "2-3, 4-5"),
        ("10 - 15", "-5"),
    ],
)
def test_different(one: str, other: str) -> None:
    assert not answers_equal(one, other)
    assert not answers_equal(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y = 5", "5"),
        ("42 + 1", "43"),
        ("B", "B. Paris"),
        ("5!", "120"),
        ("f(x) = 2x", "y = 2x"),
        ("x = 2 or x = 3", "2 and 3"),
        ("10-15", "between 10 and 15"),
        ("10-15", "10-15 years"),
        ("10-15%", "10%-15%"),
        ("five percent", "5%"),
        ("$1.5 million", "1,500,000 dollars"),
        ("33.333333333333336", "33.33333333333333"),
        ("0.3333333333333333", "1/3"),
        ("0.9999999999999999", "1"),
        ("1 times", "1"),
        ("Hello!", "Hello"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert answers_equal(one, other)
    assert answers_equal(other, one)


@pytest.mark.parametrize(
    "piece", ["Alice went home ", "1-", "two thousand ", "n!", "A. B", "Yes, because ", "5 or ", "(a) ", "x = ", "1x"]
)
@pytest.mark.parametrize("length", [3900, 20000])
def test_many_long_answers_are_clustered_in_time(piece: str, length: int) -> None:
    answers = [f"{(piece * length)[:length]}{number}" for number in range(128)]
    begun = time.monotonic()
    assert len(cluster(answers)) == 128
    assert time.monotonic() - begun < 15.0
