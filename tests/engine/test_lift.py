"""What a search was worth, told by the checks on its query alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaelum_graph.lift import compared, lift
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import RolloutId
from tests.engine.test_operators import add

FIRST = RolloutId(0)


def test_sample_vote_and_answer_are_held_to_the_answer_that_passed() -> None:
    tree = SearchTree()
    for answer in ("8", "8", None, "7"):
        add(tree, answer=answer, outcome="pass" if answer == "7" else None)
    told = compared(tree, RolloutId(3))
    assert told is not None
    assert (told.sample, told.vote, told.answer) == (0.25, 0.0, 1.0)
    assert (told.sighted, told.blind) == (None, None)
    nothing_given = compared(tree, None)
    assert nothing_given is not None
    assert nothing_given.answer == 0.0


def test_tied_answers_share_the_vote() -> None:
    tree = SearchTree()
    for answer in ("7", "8"):
        add(tree, answer=answer, outcome="pass" if answer == "7" else "fail")
    told = compared(tree, FIRST)
    assert told is not None
    assert told.vote == 0.5


def test_only_the_first_wave_is_one_sample() -> None:
    tree = SearchTree()
    add(tree, answer="8", outcome="fail")
    add(tree, answer="7", outcome="pass", operator="refine", target=0, wave=2)
    told = compared(tree, RolloutId(1))
    assert told is not None
    assert (told.sample, told.answer) == (0.0, 1.0)


def test_what_no_check_settles_is_left_out() -> None:
    unchecked, half_known, refuted = SearchTree(), SearchTree(), SearchTree()
    add(unchecked, answer="7")
    add(half_known, answer="8", outcome="fail")
    add(half_known, answer="7")
    add(refuted, answer="8", outcome="fail")
    assert compared(unchecked, FIRST) is None
    assert compared(half_known, RolloutId(1)) is None
    assert compared(refuted, FIRST) is not None
    assert compared(SearchTree(), None) is None


def test_a_check_of_the_form_alone_decides_nothing() -> None:
    tree = SearchTree()
    rollout = add(tree, answer="a draft", outcome="pass")
    tree.rollouts[0] = replace(rollout, evidence=tuple(replace(one, source="constraints") for one in rollout.evidence))
    assert compared(tree, FIRST) is None


def test_sighted_and_blind_rollouts_are_compared_within_a_wave() -> None:
    tree = SearchTree()
    add(tree, answer="8", outcome="fail")
    for answer, sighted in (("7", True), ("7", True), ("7", False), ("8", False)):
        rollout = add(tree, answer=answer, outcome="pass" if answer == "7" else "fail", wave=2)
        tree.rollouts[rollout.id] = replace(rollout, simulation=replace(rollout.simulation, sighted=sighted))
    told = compared(tree, RolloutId(1))
    assert told is not None
    assert (told.sighted, told.blind) == (1.0, 0.5)
    assert lift([told], kept=1).shares["sighted - blind"].mean == 0.5


def test_the_interval_is_over_queries_and_holds_their_mean() -> None:
    found = []
    for number in range(40):
        tree = SearchTree()
        add(tree, answer="7", outcome="pass")
        add(tree, answer="8", outcome="fail")
        found.append(compared(tree, RolloutId(number % 2)))
    told = lift([one for one in found if one is not None], kept=50)
    assert (told.kept, told.queries, told.blinded) == (50, 40, 0)
    answer, over = told.shares["answer"], told.shares["answer - sample"]
    assert answer.mean == pytest.approx(0.5)
    assert 0.3 < answer.low < answer.mean < answer.high < 0.7
    assert over.mean == pytest.approx(0.0)
    assert told.shares["sample"].low == told.shares["sample"].high == 0.5
    assert lift([], kept=3).shares == {}
