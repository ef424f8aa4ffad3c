"""What a search was worth, told by the checks on its query alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kaelum_graph.lift import Compared, compared, lift
from kaelum_graph.tree import Operator, SearchTree
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
    assert told.led is None
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


def led(tree: SearchTree, *, learned: bool = True) -> float | None:
    told = compared(tree, FIRST, learned=learned)
    assert told is not None
    return told.led


def draw(tree: SearchTree, *, wave: int, sighted: bool, right: bool, operator: Operator = "sample") -> None:
    answer, outcome = ("7", "pass") if right else ("8", "fail")
    rollout = add(tree, answer=answer, outcome=outcome, wave=wave, operator=operator)
    tree.rollouts[rollout.id] = replace(rollout, simulation=replace(rollout.simulation, sighted=sighted))


def test_what_was_led_is_compared_within_waves_after_the_first() -> None:
    tree = SearchTree()
    for sighted in (True, False):
        draw(tree, wave=1, sighted=sighted, right=sighted)
    assert led(tree) is None, "in the first wave there is nothing to choose"
    for wave, rights in ((2, ((True, True), (True, True), (False, True), (False, False))), (3, ((True, False),))):
        for sighted, right in rights:
            draw(tree, wave=wave, sighted=sighted, right=right)
    draw(tree, wave=2, sighted=False, right=False, operator="refine")
    assert led(tree) == 0.5
    assert led(tree, learned=False) is None
    told = compared(tree, FIRST, learned=True)
    assert told is not None
    assert lift([told], kept=1).shares["led - blind"].mean == 0.5


def test_waves_of_unlike_size_and_success_don_t_look_like_an_effect() -> None:
    chance = np.random.default_rng(3)
    found: list[float] = []
    for _ in range(600):
        tree = SearchTree()
        add(tree, answer="7", outcome="pass")
        for wave, size, rate in ((2, 8, 0.15), (3, 2, 0.6)):
            for _ in range(size):
                draw(tree, wave=wave, sighted=bool(chance.random() > 0.25), right=bool(chance.random() < rate))
        if (one := led(tree)) is not None:
            found.append(one)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_what_was_cut_off_is_no_wrong_sample() -> None:
    tree = SearchTree()
    add(tree, answer="7", outcome="pass")
    for _ in range(3):
        add(tree, answer=None, finish="cancelled")
    told = compared(tree, FIRST)
    assert told is not None
    assert told.sample == 1.0


def test_the_interval_is_over_queries_and_holds_their_mean() -> None:
    found = []
    for number in range(40):
        tree = SearchTree()
        add(tree, answer="7", outcome="pass")
        add(tree, answer="8", outcome="fail")
        found.append(compared(tree, RolloutId(number % 2)))
    told = lift([one for one in found if one is not None], kept=50)
    assert (told.kept, told.queries, told.led) == (50, 40, 0)
    answer, over = told.shares["answer"], told.shares["answer - sample"]
    assert answer.mean == pytest.approx(0.5)
    assert answer.low is not None
    assert answer.high is not None
    assert 0.3 < answer.low < answer.mean < answer.high < 0.7
    assert over.mean == pytest.approx(0.0)
    assert told.shares["sample"].low is None, "alike throughout"
    assert lift([], kept=3).shares == {}


def test_few_queries_have_no_interval_and_equal_ones_are_not_certain() -> None:
    one = Compared(sample=0.5, vote=0.0, answer=1.0)
    assert lift([one] * 9, kept=9).shares["answer"].low is None
    same = Compared(sample=1.0, vote=1.0, answer=1.0)
    assert lift([same] * 20, kept=20).shares["answer - vote"].low is None, "no difference yet is no proof of none"
    sure, never = (lift([one] * 20, kept=20).shares[name] for name in ("answer", "vote"))
    assert sure.low == pytest.approx(0.839, abs=1e-3)  # Wilson's interval of 20 of 20
    assert sure.high == pytest.approx(1.0)
    assert never.high == pytest.approx(0.161, abs=1e-3)
