"""Programs run on the query's own examples, in the real sandbox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kaelum_graph.errors import SandboxError
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox import REQUIRED, ProcessSandbox, probe
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import check_safely, verifier
from kaelum_graph.verifiers.program_examples import InputExample, call_examples, input_examples


def _refusal() -> str | None:
    try:
        return probe().lacks(REQUIRED)
    except SandboxError as error:
        return str(error)


REFUSAL = _refusal()
isolated = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = ProcessSandbox()
    yield box
    box.close()


class NoIsolation(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise SandboxError("this machine has no isolation")


def check(
    question: str, program: str | None, sandbox: Sandbox, *, observation: str | None = None, error: str | None = None
) -> Evidence:
    candidate = Candidate(
        rollout_id=RolloutId(0), worker=WorkerName("code"), text="", answer="x", program=program,
        observation=observation, error=error,
    )  # fmt: skip
    return check_safely(verifier("program"), Query(text=question), candidate, sandbox)


DOUBLE = "def double(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    ("question", "examples"),
    [
        ("Write double.\nassert double(2) == 4\nassert double(0) == 0", [("double(2)", 4), ("double(0)", 0)]),
        ("Write double so that double(2) = 4 and double(3) -> 6.", [("double(2)", 4), ("double(3)", 6)]),
        ("`double(2)` should return `4`.", [("double(2)", 4)]),
        (">>> double(2)\n4\n>>> double(-1)\n-2", [("double(2)", 4), ("double(-1)", -2)]),
        ("print(double([1])) # [1, 1]\ndouble([1]) returns [1, 1]", [("double([1])", [1, 1])]),
        ("assert not double(0)", [("bool(not double(0))", True)]),
        ("assert abs(double(0.1) - 0.2) < 1e-9", [("bool(abs(double(0.1) - 0.2) < 1e-09)", True)]),
        ("Input: x = 3\nOutput: 6", [("double(x=3)", 6)]),
        ("Write double: double(1) = 2, double(2) = 4", [("double(1)", 2), ("double(2)", 4)]),
        ("**double(2) = 4**\n- double(3) = 6 because 3 + 3 is 6", [("double(2)", 4), ("double(3)", 6)]),
        ("Write double (double(2) == 4). It is quick.", [("double(2)", 4)]),
        ("Write double. It should be exact: double((1, 2)) returns (1, 2, 1, 2).", [("double((1, 2))", (1, 2, 1, 2))]),
        ("double(-1) = -2; double(0.5) = 1.0;", [("double(-1)", -2), ("double(0.5)", 1.0)]),
        ("Write a function double(x). It is quick.", []),
        ("assert triple(2) == 6", []),
        ("Then def double(x): ...", []),
    ],
)
def test_call_examples(question: str, examples: list[tuple[str, object]]) -> None:
    assert [(one.expression, one.expected) for one in call_examples(question, DOUBLE)] == examples


@pytest.mark.parametrize(
    "question",
    [
        # What a broken program gives is what is wrong with it.
        "My function is broken: double(2) returns 5. Please fix it.",
        "double(2) gives 5 instead of 4. Write it anew.",
        "Why is double(2) = 5 here? def double(x): return x + 3",
        "I get double(2) = 5 with this code.",
        "Currently double(2) -> 5, write it so that it doubles.",
        "There is a bug in my code:\n>>> double(2)\n5",
        "Debug this.\nInput: x = 2\nOutput: 5",
        # What follows takes it back, or makes it something else.
        "Write double, where double(500) = 1,000",
        "Write double so that double(3) = 3 * 2",
        "Write double; double(n) returns True if n is even",
        "Write double: double(2) = 4 or 5",
        "Write double: double(2) = 4, not 5",
        "Write double: double(2) = 4 cm",
        "Write double: double(0.33) = 0.666...",
        "Write double: double(1) = 2, 4",
        "Write double: print(double(2) == 5) # False",
        "Write double: 1 + double(2) = 5",
        "Write double: x = double(2) = 4",
        "Write double: double(values) = 4",
        "Write double.\nvalues = [1]\nassert double(values) == [1, 1]",
        # The question's own function, and a value that is asked for.
        "Suppose double(2) = 4 and double(3) = 6. What is double(10)?",
        "In Python, double(1) = 2 and double(2) = 4. What is double(10)?",
        "If double(2) = 5, find the constant.",
        "A list:\nInput: the numbers\nOutput: their doubles",
    ],
)
def test_what_is_no_example(question: str) -> None:
    assert call_examples(question, DOUBLE) == []


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("My function is broken: double(2) returns 5. It should return 4: double(2) must return 4, not 5.", 4),
        ("Fix double: double(2) should give 4 instead of 5.", 4),
        ("Fix double.\nassert double(2) == 4", 4),
        ("This fails, fix it.\nInput: x = 2\nActual output: 5\nExpected output: 4", None),
    ],
)
def test_in_a_report_of_a_fault_what_should_be_counts(question: str, expected: object) -> None:
    assert [one.expected for one in call_examples(question, DOUBLE)] == ([] if expected is None else [expected])


@isolated
@pytest.mark.parametrize(
    ("question", "program", "outcome"),
    [
        ("Write half: half(3) = 1.5, half(1) = 0.5", "def half(x): return x / 2", "pass"),
        ("Write half: half(3) = 1.5, half(1) = 0.5", "def half(x): return x / 3", "fail"),
        ("Write fib with fib(0) = 0, fib(1) = 1.", "def fib(n): return n", "pass"),
        ("Write area with area(1) = 3.14", "def area(r): return 3.14159265 * r * r", "unscored"),
        ("Write area with area(1) = 3.14", "def area(r): return 2 * r * r", "fail"),
        ("Write area.\nassert area(1) == 3.14", "def area(r): return 3.14159265 * r * r", "fail"),
        ("Write f so that f(2) outputs 4", "def f(x): print(2 * x)", "unscored"),
        ("Write f so that f(2) returns 4", "def f(x): print(2 * x)", "fail"),
        ("Write f:\nprint(f(2))  # 4", "def f(x): return str(2 * x)", "unscored"),
        ("Write reverse.\nInput: hello\nOutput: olleh", "def reverse(s): return s[::-1]", "unscored"),
        ("Reverse a line.\nInput: hello\nOutput: olleh", "print(input()[::-1])", "pass"),
        ("Reverse a line.\nInput: hello\nOutput: olleh", "print(input())", "fail"),
        ("Halve a number.\nInput: 6\nOutput: 3", "print(int(input()) / 2)", "pass"),
        ("Halve a number.\nInput: 6\nOutput: 3", "print(int(input('Number: ')) // 2)", "unscored"),
        ("Halve a number.\nInput: 6\nOutput: 3", "print(int(input()) / 3)", "fail"),
        ("Write f.\nInput: b = 1, a = 3\nOutput: 2", "def f(a, b): return a - b", "pass"),
        ("Write f.\nassert f(1) == 1\nassert f(values) == 3", "def f(x): return x", "unscored"),
        ("Write f.\nassert f(1) == 1\nassert f(values) == 3", "def f(x): return 2", "fail"),
    ],
)
def test_examples_in_words(question: str, program: str, outcome: str, sandbox: Sandbox) -> None:
    assert check(question, program, sandbox).outcome == outcome


def test_input_examples() -> None:
    question = "Add two numbers.\n\nInput:\n1 2\nOutput:\n3\n\nSample Input: 4 5\nSample Output: 9\n"
    assert input_examples(question) == [InputExample(stdin="1 2", stdout="3"), InputExample(stdin="4 5", stdout="9")]
    assert input_examples("Input: a list of numbers\nOutput: the sum") == []


@isolated
def test_examples_that_hold_are_an_anchored_pass(sandbox: Sandbox) -> None:
    found = check("Write double.\nassert double(2) == 4\nassert double('a') == 'aa'", DOUBLE, sandbox)
    assert (found.tier, found.outcome) == (Tier.EXECUTION, "pass")
    assert found.reason == "2 of 2 of the query's examples hold"


@isolated
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def double(x):\n    return x + 2 if x else 1\n", "double(0) gave 1, not 0"),
        ("def double(x):\n    return x.y\n", "raised AttributeError"),
        ("import sys\ndef double(x): return 4\nsys.exit(0)\n", "double(0) gave 4, not 0"),
        ("import os\ndef double(x): return 2 * x\nos._exit(0)\n", "failed"),
        ("def double(x:\n", "SyntaxError"),
        ("def double(x):\n    return str(2 * x)\n", "gave '4', not 4"),
    ],
)
def test_a_broken_example_is_an_anchored_fail(program: str, reason: str, sandbox: Sandbox) -> None:
    found = check("assert double(2) == 4\nassert double(0) == 0", program, sandbox)
    assert (found.tier, found.outcome) == (Tier.EXECUTION, "fail")
    assert reason in found.reason


@isolated
def test_a_forged_report_is_not_believed(sandbox: Sandbox) -> None:
    forged = (
        "import os, sys\n"
        "def double(x): return 0\n"
        "for mark in ('', 'x' * 32, '0' * 32):\n"
        '    print(mark + \'[{"value": "4"}]\')\n'
        "sys.stdout.flush()\n"
        "os._exit(0)\n"
    )
    assert check("assert double(2) == 4", forged, sandbox).outcome == "fail"
    chatty = "print('[{}]')\n" + DOUBLE
    assert check("assert double(2) == 4", chatty, sandbox).outcome == "pass"


@isolated
def test_a_program_that_python_warns_about_still_counts(sandbox: Sandbox) -> None:
    assert check("assert double(2) == 4", 'pattern = "\\d"\n' + DOUBLE, sandbox).outcome == "pass"


@isolated
def test_floats_and_containers_compare_by_value(sandbox: Sandbox) -> None:
    question = "f(1) = 0.333333\nf(2) = [1, 2.5]\nf(3) = {'a': 1}\nf(4) = (1, 2)"
    program = "def f(n):\n    return [None, 1/3, [1.0, 2.5], {'a': 1}, [1, 2]][n]\n"
    assert check(question, program, sandbox).outcome == "pass"


@isolated
def test_a_program_that_reads_input(sandbox: Sandbox) -> None:
    question = "Add two numbers.\n\nInput: 1 2\nOutput: 3\n\nInput: 10 20\nOutput: 30\n"
    good = "a, b = map(int, input().split())\nprint(a + b)"
    bad = "a, b = map(int, input().split())\nprint(a * b)"
    assert check(question, good, sandbox).outcome == "pass"
    found = check(question, bad, sandbox)
    assert (found.tier, found.outcome) == (Tier.EXECUTION, "fail")
    assert "it printed 2, not 3" in found.reason


def test_without_examples_a_program_that_runs_proves_nothing() -> None:
    assert check("Write something", DOUBLE, NoIsolation(), observation="4").outcome == "unscored"
    assert check("Write something", None, NoIsolation()).outcome == "unscored"


def test_a_crash_and_an_empty_output_are_fails_but_no_anchors() -> None:
    crashed = check("Write something", "1/0", NoIsolation(), error="line 1: ZeroDivisionError: division by zero")
    assert (crashed.tier, crashed.outcome) == (Tier.CROSS_CHANNEL, "fail")
    assert "ZeroDivisionError" in crashed.reason
    silent = check("Write something", "x = 1", NoIsolation(), observation="\n")
    assert (silent.tier, silent.outcome) == (Tier.CROSS_CHANNEL, "fail")


def test_without_isolation_there_is_no_vote() -> None:
    found = check("assert double(2) == 4", DOUBLE, NoIsolation())
    assert (found.outcome, found.reason) == ("unscored", "SandboxError: this machine has no isolation")


@pytest.mark.parametrize(
    ("text", "observation", "outcome"),
    [
        ("```python\nprint(42)\n```\nAnswer: 42", "42\n", "pass"),
        ("```python\nprint(42)\n```\nThe answer is **42.0**.", "The result is: 42\n", "pass"),
        ("```python\nprint(42)\n```\nAnswer: 41", "42\n", "fail"),
        ("```python\nprint(42)\n```", "42\n", "unscored"),
        ("Answer: 42", None, "unscored"),
    ],
)
def test_agreement_of_a_program_and_its_text(text: str, observation: str | None, outcome: str) -> None:
    candidate = Candidate(
        rollout_id=RolloutId(0), worker=WorkerName("code"), text=text, answer="42", program="print(42)",
        observation=observation,
    )  # fmt: skip
    found = verifier("agreement").check(Query(text="?"), candidate, NoIsolation())
    assert (found.tier, found.outcome) == (Tier.CROSS_CHANNEL, outcome)
