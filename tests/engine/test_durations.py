"""Stretches of time: what a question asks for, what an answer states, and whether one is the other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from kaelum_graph.durations import asked_form, asked_span, in_asked_form, read_duration
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import verifier
from kaelum_graph.workers import worker


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = ProcessSandbox()
    yield opened
    opened.close()


CALL = "A call started at 18:54:51 and ended at 19:29:19. How long was it? Answer in HH:MM:SS."


@pytest.mark.parametrize(
    ("question", "length"),
    [
        (CALL, timedelta(minutes=34, seconds=28)),
        ("How long is it from 9:05 am to 1:15 pm?", timedelta(hours=4, minutes=10)),
        ("A train left at 23:10 and arrived at 01:05. How long did it take?", timedelta(hours=1, minutes=55)),
        ("It ended at 12:00 and had started at 11:15. How long was it?", timedelta(minutes=45)),
        ("How many days elapsed from Wed Nov 14 2435 to Tue Dec 18 2435?", timedelta(days=34)),
        ("What is the duration between 2024-02-28 and 2024-03-01?", timedelta(days=2)),
        (
            "It started at Tuesday, February 06, 2891 at 23:41 and ended at Sunday, April 15, 2891 at 00:45. How long?",
            timedelta(days=67, hours=1, minutes=4),
        ),
        ("How long is it from 2024-05-01 08:00 +0200 to 2024-05-01 08:00 -0100?", timedelta(hours=3)),
    ],
)
def test_the_span_that_a_question_asks_for(question: str, length: timedelta) -> None:
    span = asked_span(question)
    assert span is not None
    assert span.length == length


@pytest.mark.parametrize(
    "question",
    [
        "The shop opens at 9:00 and closes at 17:00. When does it open?",
        "It started at 9:00, paused at 10:00 and ended at 11:00. How long was it?",
        "It started at 9:00 and ended at 11:00 with a break of 20 minutes. How long was the work?",
        "What is the time difference between 14:00 and 09:00?",
        "How long is it from 2024-05-01 to 9:00?",
        "How long was it from 25:00 to 26:00?",
        "How long is it from 2024-05-01 08:00 +0200 to 2024-05-01 09:00?",
    ],
)
def test_a_span_that_cannot_be_told_is_none(question: str) -> None:
    assert asked_span(question) is None


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("18 days, 21:21:12", timedelta(days=18, hours=21, minutes=21, seconds=12)),
        ("3:30:57", timedelta(hours=3, minutes=30, seconds=57)),
        ("2 hours and 45 minutes", timedelta(hours=2, minutes=45)),
        ("01:45:29.840", timedelta(hours=1, minutes=45, seconds=29, milliseconds=840)),
        ("34 days", timedelta(days=34)),
        ("12:75", None),
        ("none", None),
    ],
)
def test_a_stated_duration(text: str, length: timedelta | None) -> None:
    assert read_duration(text) == length


def test_an_answer_takes_the_form_that_is_asked_for() -> None:
    assert in_asked_form(CALL, "0:34:28") == "00:34:28"
    assert in_asked_form("How long? Answer in HH:MM.", "6:09:59") == "06:09"
    assert in_asked_form("How long? Answer in D days, HH:MM.", "1 day, 2:03:04") == "1 days, 02:03"
    assert in_asked_form("How long?", "0:34:28") == "0:34:28"
    assert asked_form("Answer in HH:MM:SS.mmm.") is not None


def judged(name: str, question: str, answer: str, sandbox: Sandbox) -> tuple[str, str]:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text=answer, answer=answer)
    vote = verifier(name).check(Query(text=question), candidate, sandbox)
    return vote.outcome, vote.reason


def test_a_duration_is_added_to_the_beginning(sandbox: Sandbox) -> None:
    assert judged("duration", CALL, "00:34:28", sandbox) == ("pass", "18:54:51 plus 00:34:28 is 19:29:19")
    assert judged("duration", CALL, "00:35:28", sandbox) == ("fail", "18:54:51 plus 00:35:28 is not 19:29:19")
    assert judged("duration", CALL, "soon", sandbox)[0] == "unscored"
    minutes = CALL.replace("HH:MM:SS", "HH:MM")
    assert judged("duration", minutes, "00:34", sandbox)[0] == "pass"
    assert judged("duration", minutes, "00:35", sandbox)[0] == "fail"


@pytest.mark.parametrize(
    ("question", "answer", "outcome"),
    [
        ("Convert the base-11 number 115 to base-15", "92", "pass"),
        ("Convert the base-11 number 115 to base-15", "115", "fail"),
        ("Convert the base-6 number 1041 to base-3", "4453", "fail"),
        ("Convert 255 to hexadecimal.", "0xFF", "pass"),
        ("Convert 255 to hexadecimal.", "The hexadecimal number is ff.", "pass"),
        ("Convert 1010 from binary to decimal.", "10", "pass"),
        ("Convert 19 in octal to decimal.", "15", "unscored"),
        ("Convert 5 miles to kilometres.", "8", "unscored"),
        ("Convert 255 to hexadecimal.", "It can't be done", "unscored"),
    ],
)
def test_a_numeral_has_the_value_that_it_was_converted_from(
    question: str, answer: str, outcome: str, sandbox: Sandbox
) -> None:
    assert judged("base", question, answer, sandbox)[0] == outcome


def test_math_does_a_subtraction_of_clocks_again(sandbox: Sandbox) -> None:
    text = "19:29:19 - 18:54:51 = 00:35:28\n\\boxed{00:35:28}"
    found = worker("math").conclude(Query(text=CALL), text, sandbox)
    assert found.answer == "00:34:28"
    assert found.observation == "Recomputed: 19:29:19 - 18:54:51 = 00:34:28"
    other = worker("math").conclude(Query(text=CALL), "About 35 minutes.\n\\boxed{00:35:00}", sandbox)
    assert other.answer == "00:35:00"
