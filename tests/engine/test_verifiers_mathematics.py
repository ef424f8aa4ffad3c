"""Sums, equations, calculus, formulas and bases: each check reads the whole question, or casts no vote."""

from __future__ import annotations

import pytest

from kaelum_graph.evidence import Evidence
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import check_safely, verifier
from kaelum_graph.verifiers.wording import unread, without_form


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


def check(name: str, question: str, answer: str) -> Evidence:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text=f"Answer: {answer}", answer=answer)
    return check_safely(verifier(name), Query(text=question), candidate, NoSandbox())


# verifier, question, answers that pass, that fail, that get no vote
DECIDED: list[tuple[str, str, list[str], list[str], list[str]]] = [
    ("expression", "Simplify 12/18", ["2/3"], ["3/2", "5/6"], ["12/18", "4/6", "0.667"]),
    ("expression", "Simplify 7/8", ["7/8"], ["8/7"], ["14/16"]),
    ("expression", "Simplify 3 + 4", ["7"], ["8"], ["3 + 4"]),
    ("expression", "What is 144/12?", ["12", "twelve"], ["11"], ["144/12", "12/1"]),
    ("expression", "Compute 2^10", ["1024", "1,024"], ["1000"], ["2^10", "2 * 512"]),
    ("expression", "Calculate 1/3", ["0.33", "0.3333", "33.33%"], ["0.34", "1/4"], ["0.3", "1/3", "0", "0.3..."]),
    ("expression", "Calculate 2/3", ["0.67", "0.667", "0.6666666666666666"], ["0.66", "0.68"], ["0.7", "0.6666"]),
    ("expression", "Calculate 7.09/2", ["3.545"], ["3.53"], ["3.54", "3.55"]),
    ("expression", "Calculate 2/3 to three decimal places.", ["0.667"], ["0.666", "0.67"], ["0.66667", "2/3"]),
    ("expression", "Calculate 1/8, rounded to 2 decimal places.", ["0.13", "0.12"], ["0.14", "0.1"], ["0.125"]),
    ("expression", "Calculate 2000/3 to two significant figures.", ["670"], ["660", "700"], ["667"]),
    ("expression", "What is 3 + 4?", ["7", "seven"], ["8"], ["7 (seven)", "yes", "a sum", "7 million", "7 apples"]),
    ("expression", "Calculate 2000000 * 4", ["8,000,000", "8e6", "8 × 10^6"], ["8"], ["2000000 * 4"]),
    ("expression", "Compute 1000 + 1000", ["2000"], ["200"], ["two thousand"]),
    ("expression", "Compute 5/2", ["2.5", "2 1/2"], ["2/5"], ["2½", "5/2", "2 2/4"]),
    ("expression", "What is 2 + 2? Give only the number, without explanation.", ["4"], ["5"], ["four or five"]),
    ("expression", "Find the lcm of these three numbers: 4, 6 and 10.", ["60"], ["30"], ["lcm(4, 6, 10)"]),
    ("equation", "If x^2 = 16, what is x?", ["4, -4", "±4"], ["5"], ["4"]),
    ("equation", "Find one solution of x^2 = 9", [], ["4"], ["3", "-3", "3, -3"]),
    ("equation", "Solve abs(x) = 3", [], ["4"], ["3", "3, -3"]),
    ("equation", "Solve (x^2-1)/(x-1) = 0", [], ["1", "2"], ["-1"]),
    ("equation", "Solve x^2 = 2^x", [], ["3"], ["2", "4", "2, 4"]),
    ("equation", "Solve (x^4-1)(x^5-1) = 0", [], ["2"], ["1"]),
    ("equation", "Solve sqrt(x) = 4", ["16"], ["2"], ["no solution"]),
    ("equation", "Solve 2^x = 8", ["3"], ["4"], []),
    ("equation", "Solve 3x = 1", ["1/3", "0.33"], ["0.34", "3"], ["0.3", "x = 1/3, y = 2", "1/3 apples"]),
    ("equation", "Please solve the equation 7y - 14 = 0 and show your work.", ["y = 2"], ["3"], ["z = 2, t = 2"]),
    ("calculus", "Find the fourth derivative of x^5.", ["120x"], ["5x^4"], ["Yes", "two x"]),
    ("calculus", "Find the 4th derivative of x^5", ["120x"], ["5x^4"], []),
    ("calculus", "Find the second order derivative of x^3.", ["6x"], ["3x^2"], ["d/dx(3x^2)"]),
    ("calculus", "Compute d/dx x^3.", ["3x^2"], ["x^2"], ["d/dx x^3"]),
    ("calculus", "Find the integral: ∫ x^2 dx", ["x^3/3 + C"], ["2x"], ["∫ x^2 dx", "a cubic"]),
    ("calculus", "Integrate x^2 between 0 and 1", ["1/3", "0.33"], ["0.34"], ["0.3"]),
    ("logic", "Is P or not P a tautology? Answer yes or no.", ["Yes"], ["No"], ["P"]),
    ("logic", "If P is true and Q is false, is P ∧ ¬Q true?", ["Yes"], ["No"], []),
    ("base", "Convert the binary number 1011 to decimal. Give only the number.", ["11"], ["1011"], ["eleven"]),
    ("base", "Convert 255 to hexadecimal.", ["FF", "0xff"], ["FE"], ["FF and so on"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "question", "right", "wrong", "open_"), DECIDED, ids=[task[1][:50] for task in DECIDED]
)
def test_answers(name: str, question: str, right: list[str], wrong: list[str], open_: list[str]) -> None:
    for answers, outcome in ((right, "pass"), (wrong, "fail"), (open_, "unscored")):
        for answer in answers:
            found = check(name, question, answer)
            assert found.outcome == outcome, (answer, found.reason)


# Each asks for something else than the part of it that has a shape the check knows.
UNREAD: dict[str, list[str]] = {
    "expression": [
        "What is 9/11?", "What is 24/7?", "what is a 4x4", "What is 555-1234?", "What is 3 + 4!", "What is 5! + 2?",
        "What is the product of 3 - 4?", "What is -3^2?", "Compute 50 + 10%", "What is 20% of 50 + 10?",
        "What is 6/2(1+2)?", "What is 2^3^2?", "Is 3 * 4 a number?", "What is 17 * 23 in binary?",
        "Compute 12 / 4, then double it", "What is 7 * 8? And what is the capital of France?",
        "I have 3 * 4 apples, what is it?", "What is half of 3 + 4?", "What is not 3 + 4?", "What is sqrt(4 + 5)?",
        "What is the gcd of 12 and 18 squared?", "What is the gcd of 12 and 18, plus 1?",
        "What is the gcd of 1,200 and 300?", "What is the lcm of 4 and 6 above 20?", "Is the gcd of 12 and 18 a prime?",
    ],
    "equation": [
        "Solve x^2 - 5x + 6 = 0 for x > 2", "Solve 3x + 5 = 20 and give 2x",
        "Solve 3x + 5 = 20. Give 2x as your answer.",
        "Solve 3x + 5 = 20. What is x + 1?", "Find the reciprocal of x if 2x = 8", "Find x! if 2x = 6", "Solve 2x = 6!",
        "What is the number of solutions of x^2 = 9?", "How many solutions does x^2 = 9 have?", "Solve log(x) = 2",
        "Solve sin(x) = 0.5", "Solve 1/2x = 4", "Solve 2x = 7 in integers", "Solve 3x = 1 mod 7", "Solve 3x = 6 for y",
        "Solve 3x = 10 and round to the nearest integer.", "Given y = 3, solve 2x = 6", "Solve 2x = 6 where y = x + z",
        "Is x = 5 a solution of 2x = 10?", "If 2x = 10, find the perimeter of a square of side x",
        "Solve x^2 + 1 = 0 over the complex numbers", "Solve 2x = 5, 3y = 6",
    ],
    "calculus": [
        "What is the derivative of x^2 at 3?", "What is the logarithmic derivative of x^2?", "Differentiate x^2 twice",
        "Find the antiderivative of 2x where F(0) = 5", "Find the tenth derivative of x^2", "What is ∫ x dx + 3?",
        "Find the derivative of the derivative of x^2", "Evaluate 2 ∫ x dx", "Find the definite integral of x^2",
        "Find the derivative of f(x) = 3x^2 and evaluate it at x = 1", "What is the integral of x^2 plus 1?",
        "What is the inverse of the derivative of x^2?", "What is twice the derivative of x^2?", "Derivative of log(x)",
        "When is the derivative of x^2 zero?", "What is the integral of x^2 over [0, 1]?", "Integrate x from 0 to t",
        "What is the derivative of xy?", "What is the derivative of e^2x?", "Is the derivative of x^2 2x?",
        "What is the derivative of x^2, x^3 and x^4?", "Differentiate sin^-1(x)",
    ],
    "logic": [
        "Is p or q always true if p is true?", "Is P ∨ ¬P a tautology or a contradiction?",
        "Suppose Q is true. Is P ∨ Q a tautology?",
        "Given that p -> q, is q always true?", "Why is p or not p a tautology?", "Is P → Q a tautology when P = Q?",
        "Is P → Q equivalent to ¬P ∨ Q under intuitionistic logic?", "Does P imply P or Q? And does Q imply P?",
        "If P is true, Q is false and R implies S, what is the truth value of P ∧ ¬Q?",
        "If P is true, Q is false, what is the truth value of P and Q or P?",
        "Is (P ∧ Q) → P valid in all but one case?", "Is P or Q satisfiable and is P and not P satisfiable?",
    ],
    "base": [
        "Convert binary 101 to decimal and add 1", "Convert 101 to decimal", "Convert 10 to base 2 in 8 bits",
        "Convert 7 to binary using two's complement", "Convert 12 to binary, then reverse the digits",
        "How would I convert 10 to binary in Python?", "How many ones are there if you convert 7 to binary?",
        "Convert 10 to binary with leading zeros",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "question"), [(name, question) for name in UNREAD for question in UNREAD[name]])
def test_what_is_not_read_whole_gets_no_vote(name: str, question: str) -> None:
    for answer in ("2", "3", "12", "0.82", "1/3", "2x", "x^2", "x = 5", "2, 3", "yes", "no", "101", "ff"):
        assert check(name, question, answer).outcome == "unscored", answer


def test_unread_names_the_first_word_that_may_matter() -> None:
    assert unread("Please give me only your final answer: ") is None
    assert unread("what is the for x > 2", {"x"}) == ">"
    assert unread("and give 2x") == "2"


def test_without_form_keeps_what_is_no_request_of_form() -> None:
    asked = "Solve 2x = 6\nWhen solving, please follow these instructions:\n1. "
    assert without_form(f"{asked}Round all decimal values to 4 places.") == "Solve 2x = 6"
    assert "Give 2x" in without_form(f"{asked}Give 2x instead of x.")
    assert without_form("Give only the number of roots, no explanation") == "Give only the number of roots,"
