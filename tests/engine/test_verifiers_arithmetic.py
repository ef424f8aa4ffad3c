"""The calculations a candidate writes down."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kaelum_graph.evidence import Tier
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import verifier
from kaelum_graph.verifiers.arithmetic import calculations, in_decimals
from kaelum_graph.workers import worker


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


RIGHT = [
    "12 × 7 = 84",
    "So 12 * 7 = 84 apples.",
    "1. 3 + 4 = 7",
    "- **3 + 4 = 7**",
    r"\[ 294 - 196 = 98 \]",
    r"\( \frac{588}{3} = 196 \)",
    r"$2 \times 3 = 6$",
    "1,200 + 34 = 1,234",
    "2 + 3 + 4 = 5 + 4 = 9",
    "$5 * 3 = $15",
    "30% of 160 = 48",
    "10 / 4 = 2.5",
    "2 / 3 = 0.67",
    "22 / 7 = 3.14",
    "24 hours * 3 = 72 hours",
    "8 apples - 3 apples = 5 apples",
    "8 (spiders) + 11 (tigers) + 10 (snakes) = 29 legs",
    r"8 \text{ mantis} \times 14 \text{ legs} = 112 \text{ legs}",
    "2^3 = 8",
    "Total = 3 + 4 = 7",
    "(1 + 2) * 3 = 9",
    "-5 + 3 = -2",
    "25 / 100 = 25%",
]
WRONG = {
    "12 × 7 = 74": ("12 * 7", Fraction(84)),
    "859 + 467 = 1326 and 1326 - 914 = 413": ("1326 - 914", Fraction(412)),
    "Total = 186 + 93 = 289": ("186 + 93", Fraction(279)),
    r"\[ \text{Total} = 93 + 186 = 289 \]": ("93 + 186", Fraction(279)),
    "2 + 3 + 4 = 5 + 5 = 10": ("2 + 3 + 4", Fraction(9)),
    "8 (spiders) + 11 (tigers) = 47 legs": ("8 + 11", Fraction(19)),
    "30% of 160 = 50": ("30% * 160", Fraction(48)),
    "2 / 3 = 0.57": ("2 / 3", Fraction(2, 3)),
    "3 apples + 4 apples = 8 apples": ("3 + 4", Fraction(7)),
    r"\frac{270}{72} = \frac{135}{24}": ("270/72", Fraction(15, 4)),
}
LEFT_ALONE = [
    "x + 3 = 7",
    "2x + 3 = 7",
    "f(2) + 3 = 9",
    "x^2 + 3 = 7",
    "√16 + 3 = 7",
    "sqrt(16) + 3 = 7",
    "2 hours + 30 minutes = 150 minutes",
    "2 * 60 minutes = 2 hours",
    r"2 \text{ hours} + 30 \text{ minutes} = 150 \text{ minutes}",
    "2023-03-06 = 2021-03-06",
    "10 % 3 = 1",
    "7 / 2 = 3",
    "10:30 - 9:15 = 1:15",
    "3 times 4 + 2 = 14",
    "n = 5",
    "5 = 5",
    "3 + 4 == 8",
    "3 + 4 <= 8",
    "log 10 + 3 = 4",
    "3 + 4 = x",
    "3 + 4 = 2x",
    "3 + 4 = 7 remainder 2 + 1",
    "twice 3 + 4 = 10",
    "no numbers here = none",
    "```python\nassert 1 + 1 = 3\n```",
]


def check(text: str) -> tuple[str, str]:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text=text, answer="1")
    found = verifier("arithmetic").check(Query(text="?"), candidate, NoSandbox())
    assert found.tier is Tier.CROSS_CHANNEL, "a sum is no anchor"
    return found.outcome, found.reason


@pytest.mark.parametrize("text", RIGHT)
def test_right(text: str) -> None:
    assert check(text)[0] == "pass"


@pytest.mark.parametrize("text", WRONG)
def test_wrong(text: str) -> None:
    left, actual = WRONG[text]
    wrong = [each for each in calculations(text) if not each.right]
    assert wrong[0].left == left
    assert wrong[0].actual == actual
    outcome, reason = check(text)
    assert outcome == "fail"
    assert reason.endswith(f"is wrong: {in_decimals(actual)}")


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_left_alone(text: str) -> None:
    assert check(text)[0] == "unscored"


def test_the_first_wrong_line_is_named() -> None:
    text = "First 3 + 4 = 7.\nThen 12 × 7 = 74.\nSo 74 + 1 = 76."
    assert check(text) == ("fail", "12 * 7 = 74 is wrong: 84")


def test_in_decimals() -> None:
    assert in_decimals(Fraction(84)) == "84"
    assert in_decimals(Fraction(5, 2)) == "2.5"
    assert in_decimals(Fraction(2, 3)) == "0.666667 (2/3)"


def test_a_slip_that_was_mended_speaks_against_no_answer() -> None:
    text = "258 + 52 + 516 = 1000\n\\boxed{1000}"
    own = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text=text, answer="1000")
    found = worker("math").conclude(Query(text="How many are there in all?"), text, NoSandbox())
    mended = Candidate(
        rollout_id=RolloutId(1),
        worker=WorkerName("math"),
        text=text,
        answer=found.answer,
        observation=found.observation,
    )
    assert found.answer == "826"
    assert verifier("arithmetic").check(Query(text="?"), own, NoSandbox()).outcome == "fail"
    assert verifier("arithmetic").check(Query(text="?"), mended, NoSandbox()).outcome == "unscored"
