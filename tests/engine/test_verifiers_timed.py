"""Added verifiers that are slow, hang, come back, or hang while the process ends."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.models.base import CancelToken
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import Verifier, check_safely, evidence, register, unanswered, verifier
from kaelum_graph.verifiers.timed import AT_ONCE, BUSY, HANGING, desk_of

pytestmark = pytest.mark.usefixtures("own_registry")

QUERY = Query(text="What is 2 + 2?")
CANDIDATE = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text="4", answer="4")
LONG = 60.0  # seconds: what a test that waits for a hanging check would take at least


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


class Gate:
    """A check that hangs until it is opened."""

    def __init__(self) -> None:
        self.opened, self.asked = threading.Event(), 0

    def __call__(self, query: Query, candidate: Candidate) -> bool:
        self.asked += 1
        self.opened.wait(LONG)
        return True


@pytest.fixture
def gate() -> Generator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def ask(name: str, *, deadline: float | None = None, cancel: CancelToken | None = None) -> Evidence:
    return check_safely(verifier(name), QUERY, CANDIDATE, NoSandbox(), deadline=deadline, cancel=cancel)


def at_once(count: int, question: Callable[[], Evidence]) -> list[Evidence]:
    with ThreadPoolExecutor(max_workers=count) as threads:
        return [asked.result() for asked in [threads.submit(question) for _ in range(count)]]


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"kaelum-verifier-{name}"]


def until_none_of(name: str) -> None:
    for thread in threads_of(name):
        thread.join(10)
    assert not threads_of(name)


def test_a_sleeping_verifier_has_no_vote_after_its_seconds(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    evidence(name="asleep", tier=Tier.CONSTRAINT, seconds=0.2)(gate)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        votes = [ask("asleep") for _ in range(5)]
    assert time.monotonic() - begun < LONG / 4
    late = Evidence(tier=Tier.CONSTRAINT, source="asleep", outcome="unscored", reason="asleep took longer than 0.2 s")
    assert votes[:HANGING] == [late] * HANGING
    assert [vote.reason for vote in votes[HANGING:]] == [BUSY] * 3
    assert all(unanswered(vote) for vote in votes)
    assert gate.asked == HANGING, "one that hangs is not asked on and on"
    assert [record.levelname for record in caplog.records] == ["WARNING"], "told once"
    assert "'asleep' took longer than 0.2 s" in caplog.text


def test_a_class_says_its_seconds_and_has_ten_unless_it_does(gate: Gate) -> None:
    @register
    class Slow(Verifier):
        name = "slow-class"
        tier = Tier.EXECUTION
        seconds = 0.1

        def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
            gate(query, candidate)
            return Evidence(tier=self.tier, source=self.name, outcome="pass")

    evidence(name="usual", tier=Tier.EXECUTION)(lambda query, candidate: True)
    assert (verifier("usual").seconds, Verifier.seconds) == (10.0, 10.0)
    assert ask("slow-class").reason == "slow-class took longer than 0.1 s"


def test_one_that_came_back_is_asked_again(gate: Gate) -> None:
    evidence(name="recovering", tier=Tier.CONSTRAINT, seconds=0.1)(gate)
    assert [ask("recovering").outcome for _ in range(4)] == ["unscored"] * 4
    gate.opened.set()
    until_none_of("recovering")
    assert ask("recovering") == Evidence(tier=Tier.CONSTRAINT, source="recovering", outcome="pass")


def test_a_late_answer_is_nobodys(gate: Gate) -> None:
    said: list[str] = []

    def by_turns(query: Query, candidate: Candidate) -> bool:
        said.append(candidate.text)
        return gate(query, candidate) if len(said) == 1 else False

    evidence(name="turns", tier=Tier.CONSTRAINT, seconds=0.2)(by_turns)
    assert ask("turns").outcome == "unscored"
    gate.opened.set()
    assert ask("turns").outcome == "fail", "not the pass that the first question came to meanwhile"


def test_hanging_checks_leave_a_few_threads_however_many_ask(gate: Gate) -> None:
    evidence(name="crowded", tier=Tier.CONSTRAINT, seconds=0.3)(gate)
    votes = at_once(12, lambda: ask("crowded"))
    assert {vote.outcome for vote in votes} == {"unscored"}
    assert gate.asked == len(threads_of("crowded")) == AT_ONCE
    assert all(thread.daemon for thread in threads_of("crowded"))


def test_more_questions_than_are_asked_at_once_wait_their_turn() -> None:
    most, now, lock = [0], [0], threading.Lock()

    def counting(query: Query, candidate: Candidate) -> bool:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return True

    evidence(name="tally", tier=Tier.CONSTRAINT)(counting)
    assert {vote.outcome for vote in at_once(12, lambda: ask("tally"))} == {"pass"}
    assert 1 < most[0] <= AT_ONCE


def test_no_longer_than_the_deadline_leaves(gate: Gate) -> None:
    evidence(name="unhurried", tier=Tier.CONSTRAINT, seconds=LONG)(gate)
    begun = time.monotonic()
    vote = ask("unhurried", deadline=begun + 0.4)
    assert 0.4 <= time.monotonic() - begun < LONG / 4
    assert vote.reason.startswith("unhurried took longer than 0.4")
    assert vote.reason.endswith("s, all that the search's deadline left")
    assert unanswered(vote)
    begun = time.monotonic()
    assert ask("unhurried", deadline=begun - 1).reason == BUSY, "over its deadline, a search waits for one moment only"
    assert gate.asked == 1


def test_a_quick_one_is_heard_also_when_the_time_is_over() -> None:
    evidence(name="quick", tier=Tier.CONSTRAINT)(lambda query, candidate: False)
    cancelled = CancelToken()
    cancelled.cancel()
    assert ask("quick", deadline=time.monotonic() - 5).outcome == "fail"
    assert ask("quick", cancel=cancelled).outcome == "fail"


def test_a_search_that_is_cancelled_waits_no_longer(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    evidence(name="held", tier=Tier.CONSTRAINT, seconds=LONG)(gate)
    cancel = CancelToken()
    threading.Timer(0.3, cancel.cancel).start()
    begun = time.monotonic()
    vote = ask("held", cancel=cancel)
    assert vote.reason == "the search was cancelled before held answered"
    assert unanswered(vote), "the search may be continued, and what it comes to is not to be cached"
    assert time.monotonic() - begun < LONG / 4
    assert not caplog.records, "that is no fault of the verifier's"


def test_a_mended_one_of_the_same_name_is_asked_at_once(gate: Gate) -> None:
    def define(hang: bool) -> None:
        @evidence(name="mended", tier=Tier.CONSTRAINT, seconds=0.1)
        def check(query: Query, candidate: Candidate) -> bool:
            return gate(query, candidate) if hang else True

    define(hang=True)
    assert [ask("mended").outcome for _ in range(3)] == ["unscored"] * 3
    define(hang=False)
    assert ask("mended").outcome == "pass"


def test_it_runs_in_the_callers_context_and_what_it_raises_arrives() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

    def telling(query: Query, candidate: Candidate) -> bool:
        raise TimeoutError(f"asked for {tenant.get()}")

    evidence(name="telling", tier=Tier.CONSTRAINT)(telling)
    token = tenant.set("ann")
    try:
        vote = ask("telling")
    finally:
        tenant.reset(token)
    assert (vote.outcome, vote.reason) == ("unscored", "TimeoutError: asked for ann")
    assert not unanswered(vote), "its own failure, which is told apart"


def test_an_interrupt_in_a_verifier_is_one() -> None:
    def interrupted(query: Query, candidate: Candidate) -> bool:
        raise KeyboardInterrupt

    evidence(name="interrupted", tier=Tier.CONSTRAINT)(interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("interrupted")


def test_a_built_in_one_is_asked_in_the_callers_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = verifier("equation")
    where: list[threading.Thread] = []

    def check(query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        where.append(threading.current_thread())
        return Evidence(tier=Tier.CONSTRAINT, source="equation", outcome="pass")

    monkeypatch.setattr(built_in, "check", check)
    assert ask("equation", deadline=time.monotonic() - 5).outcome == "pass"
    assert where == [threading.current_thread()]


@pytest.mark.parametrize("seconds", [0, -1, "10", True, float("inf"), float("nan"), None])
def test_seconds_of_another_kind_are_refused(seconds: Any) -> None:
    with pytest.raises(UsageError, match=r"'odd' has seconds=.*; expected a number above 0"):
        evidence(name="odd", tier=Tier.CONSTRAINT, seconds=seconds)(lambda query, candidate: True)


def test_a_thread_that_cannot_be_started_is_a_missing_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence(name="threadless", tier=Tier.CONSTRAINT)(lambda query, candidate: True)

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        votes = [ask("threadless") for _ in range(AT_ONCE + 1)]
    assert {vote.reason for vote in votes} == {"RuntimeError: can't start new thread"}
    assert ask("threadless").outcome == "pass", "nothing is counted as still open"
    assert desk_of(verifier("threadless")) is desk_of(verifier("threadless"))


HANGING_AT_EXIT = """
import time
from kaelum_graph.evidence import Tier
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import check_safely, evidence, verifier

@evidence(name="endless", tier=Tier.CONSTRAINT, seconds=0.2)
def endless(query, candidate):
    if candidate.answer == "4":
        time.sleep(600)
    while True:
        pass

for answer in ("4", "5"):
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text=answer, answer=answer)
    print(check_safely(verifier("endless"), Query(text="2 + 2?"), candidate, None).reason)
"""


def test_the_process_ends_while_a_check_sleeps_and_another_loops() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING_AT_EXIT], capture_output=True, text=True, check=False, timeout=LONG
    )
    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["endless took longer than 0.2 s"] * 2)
    assert ended.stderr.count("took longer than") == 1
