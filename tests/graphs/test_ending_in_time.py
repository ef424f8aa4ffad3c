"""A search ends when it is to: programs that hang, wait or sleep hold up neither a deadline nor a cancellation."""

from __future__ import annotations

import threading
import time
from itertools import count

import pytest

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.models.base import CancelToken, GenerationRequest
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.verifiers import unanswered
from tests.graphs.conftest import MakeKaelum

HANGS = "```python\nwhile True: pass\n```"
ASKED = "How many apples are 3 and 4 apples?"


@pytest.fixture(autouse=True)
def warm(make_kaelum: MakeKaelum, sandbox: ProcessSandbox) -> None:
    """The first program waits for the sandbox's server, and the first query for the encoder."""
    sandbox.run("pass")
    make_kaelum(lambda request, k: "\\boxed{7}").ask(ASKED, sims=1)


def test_hanging_programs_end_with_the_deadline(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: HANGS)
    began = time.monotonic()
    answer = kaelum.ask(ASKED, worker="code", sims=8, deadline=1.0)
    assert time.monotonic() - began < 4.0, "two programs at a time, five seconds each, would be ten"
    assert (answer.stop_reason, answer.answer) == ("deadline", None)


def test_hanging_programs_end_with_a_cancellation(make_kaelum: MakeKaelum) -> None:
    token = CancelToken()
    kaelum = make_kaelum(lambda request, k: HANGS)
    threading.Timer(0.5, token.cancel).start()
    began = time.monotonic()
    answer = kaelum.ask(ASKED, worker="code", sims=8, cancel=token)
    assert time.monotonic() - began < 4.0
    assert answer.stop_reason == "cancelled"


def test_a_program_that_slept_through_its_tests_is_not_blamed(make_kaelum: MakeKaelum) -> None:
    examples = "\n".join(f"Input: {n}\nOutput: {n}" for n in range(20))
    kaelum = make_kaelum(lambda request, k: "```python\nimport time\ntime.sleep(1)\nprint(input())\n```")
    began = time.monotonic()
    answer = kaelum.ask(f"Write a program that prints what it reads.\n{examples}", worker="code", sims=1, deadline=2.0)
    assert time.monotonic() - began < 6.0, "twenty examples of a second each"
    assert all(vote.outcome != "fail" for vote in answer.evidence)
    [rollout] = (answer.trace or {})["rollouts"]
    told = [
        Evidence(tier=Tier(vote["tier"]), source=vote["source"], outcome=vote["outcome"], reason=vote["reason"])
        for vote in rollout["evidence"]
    ]
    assert any(unanswered(vote) for vote in told), "nobody knows what its tests would have said: it is not cached"


def test_quick_programs_still_answer_when_the_deadline_has_passed(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: "```python\nprint(3 + 4)\n```", seconds=0.6)
    answer = kaelum.ask(ASKED, worker="code", sims=8, deadline=0.5, early_stop=False)
    assert (answer.stop_reason, answer.answer) == ("deadline", "7")


def test_a_token_budget_is_never_passed(make_kaelum: MakeKaelum) -> None:
    drawn = count()

    def as_long_as_it_may(request: GenerationRequest, k: int) -> str:
        # Answers that all differ, so that nothing but the budget ends the search.
        return " ".join(["word"] * (request.sampling.max_tokens - 1) + [f"\\boxed{{{next(drawn)}}}"])

    kaelum = make_kaelum(as_long_as_it_may, wave_size=16, max_tokens=20)
    answer = kaelum.ask(ASKED, worker="math", sims=64, token_budget=130, early_stop=False)
    assert answer.stop_reason == "tokens"
    assert answer.cost.completion_tokens <= 130
    assert answer.cost.rollouts >= 6, "the budget is spent, too"


def test_a_passed_answer_beside_refuted_votes_was_not_stopped_by_a_deadline(make_kaelum: MakeKaelum) -> None:
    # The example of the question holds, and the demand on its form does not.
    program = "```python\ndef half(n):\n    return n / 2\n```"
    kaelum = make_kaelum(lambda request, k: program)
    asked = "Write a Python function half such that half(4) == 2. Answer with at most 3 words."
    answer = kaelum.ask(asked, worker="code", sims=4)
    assert answer.stop_reason != "deadline"
