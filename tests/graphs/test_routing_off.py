"""What a query gets with routing turned off: one worker whose rollouts can vote."""

from __future__ import annotations

from kaelum_graph.workers import worker
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import cycle

QUESTION = "Which of the three friends is the oldest, if nothing else is known?"


def test_without_routing_the_rollouts_are_of_one_worker_and_vote(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle("So it is \\boxed{Ann}", "It must be \\boxed{Bob}", "Hence \\boxed{Ann}"))
    answer = kaelum.ask(QUESTION, routing=False, sims=6, cache=False)
    assert answer.trace is not None
    assert {rollout["worker"] for rollout in answer.trace["rollouts"]} == {answer.worker}
    assert not worker(answer.worker).prose
    assert (answer.answer, answer.alternatives[0].share) == ("Ann", 4 / 6)


def test_a_named_worker_wins_over_no_routing(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle("Answer: Ann"))
    assert kaelum.ask(QUESTION, routing=False, worker="logic", sims=4).worker == "logic"
