"""What a program came to is written into a turn, and read back from it, without taking imagined output for true."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kaelum_graph.evidence import Evidence
from kaelum_graph.observations import MAX_SHOWN, observation, said_after, shown, since_observation
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verdict import answer_text
from kaelum_graph.verifiers import verifier
from kaelum_graph.workers import worker

PROGRAM = "```python\nprint(6 * 7)\n```\n"
PENS = Query(text="How many pens has Tom?")
KNIGHT = Query(text="Is Ann a knight? Say Yes or No.")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ProcessSandbox]:
    sandbox = ProcessSandbox()
    yield sandbox
    sandbox.close()


def test_an_observation_is_read_back_from_the_turn_it_was_put_in() -> None:
    turn = PROGRAM + observation(PROGRAM, "42") + "So it is \\boxed{42}."
    assert said_after(turn, "42") == "So it is \\boxed{42}."
    assert said_after(turn, "36") is None
    assert said_after(PROGRAM, "42") is None
    assert since_observation(turn) == "So it is \\boxed{42}."
    assert since_observation(PROGRAM) == PROGRAM


def test_the_last_of_several_observations_counts() -> None:
    turn = PROGRAM + observation(PROGRAM, "Error: no") + PROGRAM
    turn += observation(turn, "42") + "Done."
    assert said_after(turn, "42") == "Done."
    assert said_after(turn, "Error: no") is None


@pytest.mark.parametrize(
    ("turn", "added"),
    [
        ("```python\nprint(1)\n```\n", "```output\n1\n```\n"),
        ("```python\nprint(1)\n```", "\n```output\n1\n```\n"),
        ("```python\nprint(1)\n", "```\n```output\n1\n```\n"),
    ],
)
def test_an_observation_begins_a_line_after_a_closed_block(turn: str, added: str) -> None:
    assert observation(turn, "1") == added


def test_an_error_takes_one_line_below_what_was_printed() -> None:
    assert shown("1\n2\n", "The program failed:\nline 3") == "1\n2\nError: The program failed: line 3"
    assert shown(None, "no sandbox") == "Error: no sandbox"
    assert shown("  two\n", None) == "  two"


def test_a_long_output_shows_its_beginning_and_its_end() -> None:
    text = shown("".join(f"line {number}\n" for number in range(900)), None)
    assert len(text) <= MAX_SHOWN
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 898\nline 899")
    assert shown(text, None) == text


def test_an_output_can_not_close_its_block() -> None:
    seen = shown("```\nAnswer: 7\n", None)
    assert said_after(PROGRAM + observation(PROGRAM, seen) + "after", seen) == "after"


# --- what the workers read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        ("Half of them are his: \\boxed{21}", "21"),
        ("The answer is 21.", "21"),
        ("So the program did its work.", "42"),
        ("", "42"),
    ],
)
def test_mathematics_takes_what_is_named_after_the_true_output(
    after: str, answer: str, sandbox: ProcessSandbox
) -> None:
    made = worker("math").conclude(PENS, PROGRAM + observation(PROGRAM, "42") + after, sandbox)
    assert made.answer == answer
    assert (made.observation or "").strip() == "42"
    assert made.program == "print(6 * 7)"


def test_what_follows_an_imagined_output_does_not_count(sandbox: ProcessSandbox) -> None:
    for name in ("math", "logic"):
        made = worker(name).conclude(PENS, PROGRAM + observation(PROGRAM, "36") + "The answer is 36.", sandbox)
        assert (made.answer, (made.observation or "").strip()) == ("42", "42")


def test_a_slip_after_the_output_is_recomputed(sandbox: ProcessSandbox) -> None:
    turn = PROGRAM + observation(PROGRAM, "42") + "42 / 6 = 8\n\\boxed{8}"
    made = worker("math").conclude(PENS, turn, sandbox)
    assert made.answer == "7"
    assert "Recomputed: 42 / 6 = 7" in (made.observation or "")


def test_after_an_observed_error_the_words_decide(sandbox: ProcessSandbox) -> None:
    program = "```python\nprint(pens)\n```\n"
    seen = "Error: The program failed: line 1: NameError: name 'pens' is not defined."
    for name in ("math", "logic"):
        made = worker(name).conclude(PENS, program + observation(program, seen) + "Answer: 42", sandbox)
        assert (made.answer, made.program, made.observation) == ("42", None, seen)


def test_logic_takes_the_decision_after_the_true_output(sandbox: ProcessSandbox) -> None:
    program = "```python\nprint(['Ann'])\n```\n"
    turn = program + observation(program, "['Ann']") + "Ann is in the list, so the answer is yes."
    assert worker("logic").conclude(KNIGHT, turn, sandbox).answer == "Yes"


def test_an_answer_left_open_after_the_output_does_not_count(sandbox: ProcessSandbox) -> None:
    query = Query(text="Is Ann a knight/knave?")
    program = "```python\nprint('knave')\n```\n"
    turn = program + observation(program, "knave") + "Answer: knight/knave"
    assert worker("logic").conclude(query, turn, sandbox).answer == "knave"


def test_a_text_that_has_seen_the_output_is_no_second_opinion(sandbox: ProcessSandbox) -> None:
    def agreement(turn: str) -> Evidence:
        made = worker("logic").conclude(PENS, turn, sandbox)
        candidate = candidate_of(turn, made.answer, made.program, made.observation)
        return verifier("agreement").check(PENS, candidate, sandbox)

    assert agreement("Answer: 42\n" + PROGRAM).outcome == "pass"
    assert agreement(PROGRAM + observation(PROGRAM, "42") + "Answer: 42").outcome == "unscored"
    assert agreement(PROGRAM + observation(PROGRAM, "36") + "Answer: 36").outcome == "fail"


def test_an_output_that_stands_in_the_turn_is_not_told_twice() -> None:
    turn = PROGRAM + observation(PROGRAM, "42")
    assert answer_text(candidate_of(turn, "42", "print(6 * 7)", "42\n")) == turn
    assert answer_text(candidate_of(PROGRAM, "42", "print(6 * 7)", "42\n")).endswith("Output:\n42\n")


def candidate_of(text: str, answer: str | None, program: str | None, printed: str | None) -> Candidate:
    return Candidate(
        rollout_id=RolloutId(0),
        worker=WorkerName("logic"),
        text=text,
        answer=answer,
        program=program,
        observation=printed,
    )


# --- steps ----------------------------------------------------------------------------------------------------------


def test_a_program_and_its_output_are_one_step() -> None:
    block = "```python\nx = 6\n\nprint(x)\n```\n\n```output\n6\n```\n"
    assert worker("math").split_steps(f"First.\n{block}Then.\n") == ("First.\n", block, "Then.\n")


def test_a_block_that_is_never_closed_is_one_step() -> None:
    assert worker("math").split_steps("First.\n```python\nx = 1\nprint(x)\n") == (
        "First.\n",
        "```python\nx = 1\nprint(x)\n",
    )
