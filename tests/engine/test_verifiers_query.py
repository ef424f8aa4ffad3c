"""Checks of an answer against its query alone: expression, equation, calculus, counting, ordering, puzzle, logic.

The rule they share: a right answer never fails, a wrong one never passes, and where the question can't be read there is
no vote.
"""

from __future__ import annotations

import time

import pytest

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS, available, check_safely, verifier
from kaelum_graph.verifiers.expressions import asked_value


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        return ProgramResult(ok=True, stdout="", stderr="", exit_code=0, seconds=0.0)


def check(name: str, question: str, answer: str | None) -> Evidence:
    candidate = Candidate(
        rollout_id=RolloutId(0), worker=WorkerName("math"), text=f"Let me think.\nAnswer: {answer}", answer=answer
    )
    return check_safely(verifier(name), Query(text=question), candidate, NoSandbox())


# verifier, question, right answers, wrong answers
TASKS: list[tuple[str, str, list[str], list[str]]] = [
    (
        "expression",
        "What is 12*(3+4)?",
        ["84", "84.0", "**84**", "$84$", "12*(3+4) = 84"],
        ["85", "-84", "12 * 8"],
    ),
    ("expression", "Compute -5 + 23 - 7", ["11"], ["-11", "35"]),
    ("expression", "17 * 23 = ?", ["391"], ["381"]),
    ("expression", "State the final answer to the following arithmetic problem: 4 - 1 - 7 = ", ["-4"], ["4"]),
    ("expression", "Calculate 5 - 3 - 6.", ["-4"], ["8"]),
    ("expression", "Calculate 2 - -1.", ["3"], ["1"]),
    ("expression", "What is 15% of 80?", ["12", "12.0"], ["15", "1200"]),
    ("expression", "What is 7 times 8?", ["56", "fifty-six"], ["54"]),
    ("expression", "What is 3/4 + 1/8?", ["7/8", "0.875", r"\frac{7}{8}"], ["3/4 + 1/4", "1/8"]),
    ("expression", "what is 1/3 + 1/3", ["2/3", "0.667", "0.66666667"], ["0.66", "1/3"]),
    (
        "expression",
        "Solve the following multiplication: 18271 * 43432. Give only the result as your final answer.",
        ["793546072", "793,546,072"],
        ["793546071"],
    ),
    ("expression", "Find the Greatest Common Divisor (GCD) of these numbers: 780, 462.", ["6"], ["2", "3"]),
    ("expression", "What is the lcm of 4 and 6?", ["12"], ["24"]),
    ("equation", "Solve 3x + 5 = 20", ["5", "x = 5", "5.0", "x=5"], ["6", "x = -5"]),
    ("equation", "Solve for e: 56 - 98*e = -1218", ["13"], ["12"]),
    ("equation", "Find x if 2(x - 3) = 10.", ["8"], ["2"]),
    ("equation", "Solve x^2 - 5x + 6 = 0 for x.", ["2, 3", "x = 2 or x = 3", "{3, 2}", "3 and 2"], ["2, 4", "2", "1"]),
    (
        "equation",
        "Determine the real value(s) of u that satisfies: 98 - 77*u = 0",
        ["1.2727", "14/11", "98/77"],
        ["1.28", "1"],
    ),
    ("equation", "What is the value of y in 4y = 18?", ["4.5", "9/2"], ["4"]),
    ("equation", r"Solve \(x^2 = 2\) for x.", ["sqrt(2), -sqrt(2)", r"\pm\sqrt{2}", "±1.4142"], ["1, -1"]),
    (
        "calculus",
        "What is the integral of x^2?",
        ["x^3/3 + C", r"\frac{x^3}{3} + C", "(1/3)x^3 + C", "x**3/3", "F(x) = x^3/3 + C"],
        ["x^3/2 + C", "2x", "x^3 + C"],
    ),
    (
        "calculus",
        "Calculate the antiderivative: ∫ 2 - 18*x**2 dx\nWhen performing calculations, use ** for powers.",
        ["-6*x**3 + 2*x + C"],
        ["-6*x**3 + C"],
    ),
    ("calculus", "Integrate sin(x) dx", ["-cos(x) + C"], ["cos(x) + C"]),
    ("calculus", "Compute the integral of x^2 from 0 to 3.", ["9", "9.0"], ["27", "x^3/3"]),
    ("calculus", r"Evaluate \int_0^1 x^2 dx", ["1/3", "0.3333", r"\frac{1}{3}"], ["1/2"]),
    (
        "calculus",
        "What is the derivative of sin(x)*x?",
        ["sin(x) + x*cos(x)", "x cos x + sin x"],
        ["cos(x)", "x*cos(x)"],
    ),
    ("calculus", "Find the second derivative of x^3.", ["6x"], ["3x^2"]),
    ("calculus", "Differentiate e^(2t) with respect to t", ["2e^(2t)"], ["e^(2t)"]),
    (
        "counting",
        'How many times does the letter "h" appear in the text: "hundred thousand names"?',
        ["2", "two"],
        ["3"],
    ),
    ("counting", "How many r's are in strawberry?", ["3"], ["2"]),
    ("counting", 'How many words are in the sentence "the cat sat down"?', ["4", "4 words"], ["5"]),
    ("counting", "How many vowels are in the word 'banana'?", ["3"], ["2"]),
    (
        "ordering",
        "Sort these words in ascending order (using ASCII/Unicode ordering) and return them as a comma-separated "
        "list: WARRANTY, They, niggle",
        ["They, WARRANTY, niggle", "['They', 'WARRANTY', 'niggle']", "1. They\n2. WARRANTY\n3. niggle"],
        ["niggle, They, WARRANTY", "They, WARRANTY", "they, warranty, niggle"],
    ),
    (
        "ordering",
        "Sort these numbers in descending order: 14.0, -49.0, 52.2",
        ["52.2, 14, -49", "['52.2', '14.0', '-49.0']"],
        ["-49, 14, 52.2"],
    ),
    ("ordering", "Reverse this list of words: hundred, go, acute", ["acute, go, hundred"], ["hundred, go, acute"]),
    ("ordering", "Spell this word backward (example: sun -> nus): ammonia", ["ainomma"], ["ammonia"]),
    (
        "puzzle",
        "Calculate 309 using all of these numbers: 6, 61, 94, 4.\nEach number may be used at most once.",
        ["94*4 - 61 - 6", "94 × 4 − 61 − 6 = 309"],
        ["94*4 - 61", "300 + 9", "94*4 - 61 - 6 + 4", "309"],
    ),
    (
        "puzzle",
        "Find the prime factorization of 980. Write the factors separated by ×",
        ["2 × 2 × 5 × 7 × 7", "2^2 × 5 × 7^2"],
        ["4 × 5 × 49", "2 × 2 × 5 × 7"],
    ),
    ("puzzle", "Now, form a valid palindrome using the following letters: c, l, c", ["clc"], ["ccl", "lcl"]),
    ("logic", "Is P ∨ ¬P a tautology?", ["Yes", "True"], ["No"]),
    ("logic", "Is the formula (P -> Q) and P and not Q satisfiable?", ["No"], ["Yes"]),
    ("logic", "Is P → Q logically equivalent to ¬Q → ¬P?", ["yes"], ["no"]),
    ("logic", "Does P ∧ (P → Q) entail Q?", ["Yes, by modus ponens"], ["No"]),
    ("logic", "If P is true, Q is false, what is the truth value of P ∧ ¬Q?", ["True"], ["False"]),
]


@pytest.mark.parametrize(
    ("name", "question", "right", "wrong"), TASKS, ids=[f"{t[0]}-{i}" for i, t in enumerate(TASKS)]
)
def test_right_answers_pass_and_wrong_ones_fail(name: str, question: str, right: list[str], wrong: list[str]) -> None:
    for answer in right:
        found = check(name, question, answer)
        assert (found.outcome, found.tier) == ("pass", Tier.CONSTRAINT), (answer, found.reason)
    for answer in wrong:
        found = check(name, question, answer)
        assert found.outcome == "fail", (answer, found.reason)
        assert found.reason
    assert check(name, question, None).outcome == "unscored"


UNREADABLE = [
    "If 3x + 5 = 20, what is 2x + 1?",
    "If 3x + 5 = 20, what is the value of x + 1?",
    "What is the sum of the solutions of x^2 - 5x + 6 = 0?",
    "Solve x + y = 3 and x - y = 1",
    "Solve for x: x + y = 3",
    "Tom has 3 apples and buys 4 more. How many apples does he have?",
    "What is 3 + 4 apples minus some?",
    "Round 3.7 + 1.2 to the nearest integer",
    "What is the remainder of 17 / 5?",
    "In 2020, what was 5 + 3 called?",
    "What is x if the price = 20?",
    "Who wrote the Integral Trees?",
    "What is the area under the integral of x^2 from 0 to 1?",
    "What is the derivative of x^2 at x = 3?",
    "How many unique letters are in banana?",
    "How many days are in a week?",
    "Sort these words by length: aa, b, ccc",
    "Sort your life out: here is how",
    "Is Paris a tautology?",
    "Is it always true that cats sleep?",
    "Solve the riddle: what = heavy and forward but not backward?",
    "Write a poem about e = mc^2",
    "",
]


@pytest.mark.parametrize("question", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_gets_no_vote(question: str) -> None:
    for name in QUERY_CHECKS:
        for answer in ("7", "x = 2", "yes", "a, b", None):
            assert check(name, question, answer).outcome == "unscored", (name, answer)


def test_a_fail_does_not_give_the_result_away() -> None:
    assert "84" not in check("expression", "What is 12*(3+4)?", "83").reason
    assert "391" not in check("expression", "17 * 23 = ?", "1").reason
    assert "5" not in check("equation", "Solve 3x - 2 = 13", "4").reason.replace("3x - 2 = 13", "")


def test_a_fail_names_what_does_not_hold() -> None:
    assert check("equation", "Solve 3x + 5 = 20", "7").reason == "x = 7 does not satisfy 3x + 5 = 20"
    assert "item 1 ('b')" in check("ordering", "Sort these words in ascending order: b, a", "b, a").reason
    assert check("equation", "Solve x^2 = 9", "3").reason == "x^2 = 9 has a solution that is not in '3'"


def test_a_chosen_solution_is_no_fail() -> None:
    question = "Find the positive solution for x: solve x^2 = 9"
    assert check("equation", question, "3").outcome == "unscored"
    assert check("equation", question, "4").outcome == "fail"


def test_letter_case_that_changes_the_count_is_unscored() -> None:
    question = 'How many times does the letter "t" appear in the text: "The tent"?'
    assert check("counting", question, "2").outcome == "unscored"
    assert check("counting", question, "3").outcome == "unscored"
    assert check("counting", question, "4").outcome == "fail"
    assert check("ordering", "Sort these words in ascending order: b, A, C", "A, b, C").outcome == "unscored"


def test_asked_value_reads_one_expression_only() -> None:
    assert asked_value("What is 2 + 2 and 3 + 3?") is None
    assert asked_value("What is 2 + 2? What is 2 + 2?") is None
    assert asked_value("What is 9**9**9?") is None


@pytest.mark.parametrize(
    "piece",
    ["(", '"', "a ", "1 ", "1,", "= ", "x=", "=1", "f(", "how many ", "sort these words: a, ", "not ", "use \"", "Dr. ",
     "between 1 and ", "integral of ", "if a=true, ", "input: a\n", "solve x", "letters: a, ",
     "1 apples * ", "(apples and pears ", "3 = (apples ", "for example "],
)  # fmt: skip
def test_a_hostile_query_or_text_is_checked_in_time(piece: str) -> None:
    text = (piece * 3000)[:6000]
    sandbox = NoSandbox()
    for question, said in ((text, "42"), ("Solve 3x + 5 = 20 for x in exactly 3 words as JSON.", text), (text, text)):
        candidate = Candidate(
            rollout_id=RolloutId(0), worker=WorkerName("m"), text=said, answer=said, program="def f(a):\n  return a"
        )
        for instance in available().values():
            begun = time.monotonic()
            found = check_safely(instance, Query(text=question), candidate, sandbox)
            assert time.monotonic() - begun < 2.5, instance.name
            assert "Error" not in found.reason, (instance.name, found.reason)


def test_no_check_is_fooled_on_generated_tasks() -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym")
    families = [
        "basic_arithmetic", "chain_sum", "countdown", "decimal_chain_sum", "gcd", "intermediate_integration", "lcm",
        "letter_counting", "number_sorting", "palindrome_generation", "polynomial_equations", "prime_factorization",
        "products", "simple_equations", "simple_integration", "spell_backward", "word_sequence_reversal",
        "word_sorting",
        "gsm_symbolic", "time_intervals", "knights_knaves", "propositional_logic", "decimal_arithmetic",
    ]  # fmt: skip
    passed = 0
    for family in families:
        tasks = reasoning_gym.create_dataset(family, size=2, seed=3)
        items = [tasks[index] for index in range(2)]
        for index, item in enumerate(items):
            right, other = str(item["answer"]), str(items[index - 1]["answer"])
            for name in QUERY_CHECKS:
                found = check(name, item["question"], right)
                assert found.outcome != "fail", (family, name, found.reason, item["question"])
                passed += found.outcome == "pass"
                if tasks.score_answer(other, item) < 0.5:
                    assert check(name, item["question"], other).outcome != "pass", (family, name, other)
    assert passed >= 30, "the checks that apply did apply"
