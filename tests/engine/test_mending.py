"""Small slips in programs: mended where Python's own words name them, left alone everywhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kaelum_graph.sandbox import ProcessSandbox, Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.workers import worker
from kaelum_graph.workers.mending import MENDED, mended
from kaelum_graph.workers.programs import run_program, words_instead

FILTER = (
    "Keep all numbers larger than 39.2 in this list: ['31.897', '20', '90.747']\n"
    "Return the new list in the same format."
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = ProcessSandbox()
    yield opened
    opened.close()


def turn(program: str) -> str:
    return f"```python\n{program}\n```"


@pytest.mark.parametrize(
    ("question", "program", "answer"),
    [
        (FILTER, "print([n for n in ['31.897', '20', '90.747'] if n > 39.2])", "['90.747']"),
        (FILTER, "print([n for n in ['31.897', '20', '90.747'] if int(n) > 39.2])", "['90.747']"),
        (FILTER, 'print(", ".join([n for n in [31.897, 20, 90.747] if n > 39.2]))', "['90.747']"),
        # Two slips, one after the other.
        (FILTER, "Kept = ['90.747']\nprint([n for n in kept if n > 39.2])", "['90.747']"),
        ("Which is cheapest?", "arbor_cost = 4\nfjord_cost = 6\nprint(min(Arbor_Cost, Fjord_cost))", "4"),
        ("State the final answer: 65 + 86 + 79 =", "65 + 86 + 79 = 258", "230"),
        ("State the final answer: 6 * 7 - 2 =", "6 * 7 = 41\n42 - 2 = 39", "40"),
        ("What is 6 * 7?", "x = 6\n6 * 7 = 41\nprint(x * 7)", "42"),
    ],
)
def test_a_slip_is_mended_and_told(sandbox: Sandbox, question: str, program: str, answer: str) -> None:
    concluded = run_program(Query(text=question), turn(program), sandbox)
    assert concluded.answer == answer
    assert concluded.error is None
    assert concluded.program is not None
    assert concluded.program.startswith(MENDED)


@pytest.mark.parametrize(
    ("program", "failure"),
    [
        # Two names could be meant.
        ("total_a = 1\ntotalA = 2\nprint(TOTAL_A)", "NameError"),
        ("print(unknown)", "NameError"),
        ("print(1 / 0)", "ZeroDivisionError"),
        ("print([n for n in ['x', 'y'] if n > 3])", "TypeError"),
        ("print(min({'a': 1}, {'a': 2}))", "TypeError"),
        ("2 * x = 10", "no valid Python"),
        ("total Brook = 3", "no valid Python"),
        ("print(int('seven'))", "ValueError"),
    ],
)
def test_what_is_no_small_slip_fails_with_its_own_words(sandbox: Sandbox, program: str, failure: str) -> None:
    concluded = run_program(Query(text="What comes out?"), turn(program), sandbox)
    assert concluded.answer is None
    assert failure in (concluded.error or "")
    assert concluded.program == program


def test_a_program_that_runs_is_never_touched(sandbox: Sandbox) -> None:
    program = "n = '9'\nN = 3\nprint(n, N, n > '10')"
    concluded = run_program(Query(text="What does it print?"), turn(program), sandbox)
    assert concluded.program == program
    assert concluded.answer == "9 3 True"


def test_a_program_nested_too_deep_is_left_alone() -> None:
    deep = "x = " + "-" * 5_000 + "1 > '2'"
    assert mended(deep, "TypeError: '>' not supported between instances of 'int' and 'str'") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (turn("Haseeb"), "Haseeb"),
        (turn("hot air balloons"), "hot air balloons"),
        (turn("Slowly,\nthe window glows."), "Slowly,\nthe window glows."),
        (turn("# All cats are mammals.\n# Answer: Yes"), "Yes"),
        (turn("# Count the letters\n# one by one"), None),
        (turn("total Brook = 3"), None),
        (turn("print(unknown)"), None),
        (turn("for x in y:\n    pass"), None),
        (turn("12 +"), None),
        ("No block at all.", None),
    ],
)
def test_words_in_the_place_of_a_program(text: str, said: str | None) -> None:
    assert words_instead(text) == said


def test_the_code_worker_answers_with_words_where_its_program_is_none(sandbox: Sandbox) -> None:
    code = worker(WorkerName("code"))
    concluded = code.conclude(Query(text="Who fancies brewing beer?"), turn("Haseeb"), sandbox)
    assert (concluded.answer, concluded.program, concluded.error) == ("Haseeb", None, None)
