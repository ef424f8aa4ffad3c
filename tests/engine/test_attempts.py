"""Asking again about an attempt, and what a verifying program says of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kaelum_graph.attempts import MOST_SHOWN, Attempt, asked_again, verification
from kaelum_graph.evidence import Tier
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.types import Query
from kaelum_graph.workers import worker

QUERY = Query(text="What is 12 * 12?")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ProcessSandbox]:
    made = ProcessSandbox()
    yield made
    made.close()


def test_a_refinement_shows_the_attempt_and_its_fault_in_the_workers_own_frame() -> None:
    code = worker("code")
    prompt = code.prompt(QUERY)
    attempt = Attempt(text="```python\nprint(12 * 13)\n```", answer="156", fault="12 * 12 is 144, not 156.")
    again = asked_again(prompt, attempt, "refine")
    assert again.messages[: len(prompt.messages)] == prompt.messages
    assert [turn.role for turn in again.messages[-2:]] == ["assistant", "user"]
    assert again.messages[-2].content == attempt.text
    assert "12 * 12 is 144" in again.messages[-1].content
    assert (again.partial_answer, again.stop) == (prompt.partial_answer, prompt.stop)


def test_a_critique_is_not_told_that_anything_is_wrong() -> None:
    again = asked_again(
        worker("math").prompt(QUERY), Attempt(text="It is 144.", answer="144", fault="secret"), "critique"
    )
    assert "secret" not in again.messages[-1].content
    assert "not right" not in again.messages[-1].content


def test_of_a_long_attempt_the_end_is_shown() -> None:
    text = "a" * 5000 + " so 144"
    shown = asked_again(worker("math").prompt(QUERY), Attempt(text=text, answer="144", fault=None), "refine")
    assert len(shown.messages[-2].content) == MOST_SHOWN + 1
    assert shown.messages[-2].content.endswith("so 144")


def test_a_verification_asks_for_a_program_about_the_answer() -> None:
    again = asked_again(worker("math").prompt(QUERY), Attempt(text="It is 145.", answer="145", fault=None), "verify")
    assert "145" in again.messages[-1].content
    assert again.partial_answer == "```python\n"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("```python\nprint(12 * 12 == 144)\n", "pass"),
        ("```python\nprint('checked')\nprint(12 * 12 == 145)\n", "fail"),
        ("```python\nprint(144)\n", "unscored"),
        ("```python\nprint(undefined)\n", "unscored"),
        ("I think it is right.", "unscored"),
        ("```python\nprint(\n", "unscored"),
    ],
)
def test_a_program_votes_only_when_it_decides(text: str, outcome: str, sandbox: ProcessSandbox) -> None:
    vote = verification(text, sandbox)
    assert vote.outcome == outcome
    assert vote.tier is Tier.CROSS_CHANNEL
    assert not vote.tier.anchored
