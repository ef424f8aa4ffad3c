"""Searches whose added verifier hangs: they go on, keep their deadline, and end when cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest

from kaelum_graph.answer import Answer
from kaelum_graph.evidence import Tier
from kaelum_graph.models.base import CancelToken
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import evidence
from kaelum_graph.verifiers.timed import AT_ONCE, BUSY
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always, cycle

pytestmark = pytest.mark.usefixtures("own_registry")

MARBLES = "Tom has some marbles, an even number of them, and gives a few to Ann. How many are left in his bag?"
THREE, EIGHT = "The answer is \\boxed{3}", "The answer is \\boxed{8}"
LONG = 180.0  # seconds a check hangs unless its test lets it go


@pytest.fixture
def gate() -> Generator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def votes_of(answer: Answer, source: str) -> list[dict[str, Any]]:
    rollouts = (answer.trace or {})["rollouts"]
    return [vote for rollout in rollouts for vote in rollout["evidence"] if vote["source"] == source]


def test_a_hanging_check_changes_nothing_but_its_own_votes(make_kaelum: MakeKaelum, gate: threading.Event) -> None:
    kaelum = make_kaelum(cycle(THREE, EIGHT, THREE, THREE), cache=False, learning=False)
    before = kaelum.ask(MARBLES, worker="math", sims=8)

    @evidence(name="asleep", tier=Tier.CONSTRAINT, seconds=0.2)
    def asleep(query: Query, candidate: Candidate) -> bool:
        return gate.wait(LONG)

    @evidence(name="quick", tier=Tier.CROSS_CHANNEL)
    def quick(query: Query, candidate: Candidate) -> bool | None:
        return None

    begun = time.monotonic()
    after = kaelum.ask(MARBLES, worker="math", sims=8)
    assert time.monotonic() - begun < LONG / 3
    votes = votes_of(after, "asleep")
    assert len(votes) == 8
    assert {vote["outcome"] for vote in votes} == {"unscored"}
    assert {vote["reason"] for vote in votes} == {"asleep took longer than 0.2 s", BUSY}
    assert len([vote for vote in votes if vote["reason"] != BUSY]) <= AT_ONCE
    for rollout in (after.trace or {})["rollouts"]:
        assert [vote["source"] for vote in rollout["evidence"]][-2:] == ["asleep", "quick"], "in the order of names"
    for known in ("answer", "status", "confidence", "evidence", "alternatives", "stop_reason"):
        assert getattr(after, known) == getattr(before, known)


def test_a_search_keeps_its_deadline_though_a_check_hangs(make_kaelum: MakeKaelum, gate: threading.Event) -> None:
    @evidence(name="endless", tier=Tier.CONSTRAINT, seconds=LONG)
    def endless(query: Query, candidate: Candidate) -> bool:
        return gate.wait(LONG)

    kaelum = make_kaelum(always(THREE), early_stop=False)
    begun = time.monotonic()
    answer = kaelum.ask(MARBLES, worker="math", sims=64, deadline=2.0)
    assert time.monotonic() - begun < LONG / 3
    assert (answer.answer, answer.stop_reason) == ("3", "deadline")
    assert any("all that the search's deadline left" in vote["reason"] for vote in votes_of(answer, "endless"))


def test_a_cancelled_search_ends_though_a_check_hangs(make_kaelum: MakeKaelum, gate: threading.Event) -> None:
    cancel = CancelToken()

    @evidence(name="endless", tier=Tier.CONSTRAINT, seconds=LONG)
    def endless(query: Query, candidate: Candidate) -> bool:
        cancel.cancel()
        return gate.wait(LONG)

    begun = time.monotonic()
    answer = make_kaelum(always(THREE)).ask(MARBLES, worker="math", sims=16, cancel=cancel)
    assert time.monotonic() - begun < LONG / 3
    assert (answer.answer, answer.stop_reason) == ("3", "cancelled")
    assert "the search was cancelled before endless answered" in {
        vote["reason"] for vote in votes_of(answer, "endless")
    }


def test_an_answer_that_a_check_gave_no_answer_about_is_not_kept(
    make_kaelum: MakeKaelum, gate: threading.Event
) -> None:
    @evidence(name="even", tier=Tier.CONSTRAINT, seconds=0.2)
    def even(query: Query, candidate: Candidate) -> bool | None:
        """an odd number is left"""
        gate.wait(LONG)
        return False if int(candidate.answer or 0) % 2 else None

    kaelum = make_kaelum(always(THREE), max_reflections=0)
    first = kaelum.ask(MARBLES, worker="math", sims=4)
    assert (first.answer, first.status) == ("3", "unverified")
    gate.set()
    until_no_check_runs("even")
    second = kaelum.ask(MARBLES, worker="math", sims=4)
    assert (second.cache, second.status) == ("miss", "unsure"), "it came back, and refutes what it had not seen"


def until_no_check_runs(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == f"kaelum-verifier-{name}":
            thread.join(10)


def test_a_check_runs_in_the_context_that_the_search_was_asked_in(make_kaelum: MakeKaelum) -> None:
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen: set[str] = set()

    @evidence(name="who", tier=Tier.CONSTRAINT)
    def who(query: Query, candidate: Candidate) -> None:
        seen.add(caller.get())

    token = caller.set("ann")
    try:
        make_kaelum(always(THREE)).ask(MARBLES, worker="math", sims=4)
    finally:
        caller.reset(token)
    assert seen == {"ann"}
