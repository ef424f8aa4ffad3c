"""When one worker's rollouts scatter, another is asked."""

from __future__ import annotations

import pytest

from kaelum_graph.evidence import Outcome
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import WorkerName
from kaelum_graph.widening import widened
from tests.engine.test_operators import CODE, MATH, add

CREATIVE = WorkerName("creative")
PROBABILITIES = {MATH: 0.7, CREATIVE: 0.2, CODE: 0.07, WorkerName("logic"): 0.03}


def tree_of(*answers: str | None, outcome: Outcome | None = None, worker: WorkerName = MATH) -> SearchTree:
    tree = SearchTree()
    for answer in answers:
        add(tree, answer=answer, outcome=outcome, worker=worker)
    return tree


def widen(tree: SearchTree, allocation: dict[WorkerName, int] | None = None) -> dict[WorkerName, int]:
    return widened(allocation or {MATH: 16}, tree, PROBABILITIES, prose=[CREATIVE])


def test_scattered_answers_give_half_of_what_is_left_to_the_next_worker_with_values() -> None:
    assert widen(tree_of("1", "2", "3", "4")) == {MATH: 10, CODE: 6}
    assert widen(tree_of("1", None, None, None)) == {MATH: 10, CODE: 6}


def test_agreement_changes_nothing() -> None:
    assert widen(tree_of("1", "1", "2", "3")) == {MATH: 16}


def test_agreement_on_a_refuted_answer_is_none() -> None:
    assert widen(tree_of("1", "1", "1", "1", outcome="fail")) == {MATH: 10, CODE: 6}


def test_a_checked_answer_changes_nothing() -> None:
    tree = tree_of("1", "2", "3")
    add(tree, answer="4", outcome="pass")
    assert widen(tree) == {MATH: 16}


def test_too_early_or_too_late_changes_nothing() -> None:
    assert widen(tree_of("1", "2", "3")) == {MATH: 16}
    assert widen(tree_of("1", "2", "3", "4", "5"), {MATH: 8}) == {MATH: 8}


def test_drafts_are_left_alone() -> None:
    assert widen(tree_of("a", "b", "c", "d", worker=CREATIVE), {CREATIVE: 16}) == {CREATIVE: 16}


@pytest.mark.parametrize("answers", [("1", "2", "3", "4"), ("1", "2", "3", "4", "5", "6", "7")])
def test_no_rollout_is_lost_or_taken_back(answers: tuple[str, ...]) -> None:
    tree = tree_of(*answers)
    allocation = widen(tree)
    assert sum(allocation.values()) == 16
    assert allocation[MATH] >= len(answers)
