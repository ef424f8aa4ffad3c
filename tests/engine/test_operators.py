"""Operators: when each is possible, and how their worth is learned from anchored evidence alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.measurements import Measurements, measured, score_skill, unanchored_confidences
from kaelum_graph.operators import OperatorPriors, Outcomes, outcomes_of, possible_operators
from kaelum_graph.storage import Storage
from kaelum_graph.tree import Operator, Rollout, SearchTree, Simulation, rollout_value
from kaelum_graph.types import Candidate, EpisodeId, RolloutId, WorkerName

MATH, CODE = WorkerName("math"), WorkerName("code")


def add(
    tree: SearchTree,
    *,
    answer: str | None = "7",
    outcome: Outcome | None = None,
    tier: Tier = Tier.CONSTRAINT,
    error: str | None = None,
    operator: Operator = "sample",
    target: int | None = None,
    worker: WorkerName = MATH,
    score: float = 0.5,
    wave: int = 1,
    program: str | None = None,
    finish: str = "stop",
) -> Rollout:
    simulation = Simulation(
        node_id=tree.worker_node(worker).id,
        worker=worker,
        operator=operator,
        target=None if target is None else RolloutId(target),
    )
    tree.start(simulation)
    evidence = () if outcome is None else (Evidence(tier=tier, source="check", outcome=outcome, reason="2 + 2 is 4"),)
    number = RolloutId(len(tree.rollouts))
    rollout = Rollout(
        id=number,
        wave=wave,
        simulation=simulation,
        candidate=Candidate(
            rollout_id=number, worker=worker, text=f"text {number}", answer=answer, error=error, program=program
        ),
        evidence=evidence,
        steps=(f"text {number}",),
        step_scores=(score,),
        finish=finish,
        completion_tokens=50,
        value=rollout_value(evidence, None, prm_weight=0.0),
    )
    tree.complete(rollout)
    return rollout


class TestPossible:
    def test_without_anything_to_check_there_is_only_sampling(self) -> None:
        tree = SearchTree()
        add(tree, answer="7")
        add(tree, answer="8", outcome="fail", tier=Tier.CROSS_CHANNEL)
        assert possible_operators(tree, MATH) == {"sample": None}

    def test_a_failed_check_makes_its_attempt_refinable(self) -> None:
        tree = SearchTree()
        add(tree)
        add(tree, outcome="fail")
        possible = possible_operators(tree, MATH)
        assert possible["refine"] == 1
        assert possible["critique"] in (0, 1)

    def test_a_crash_is_a_fault_without_any_check(self) -> None:
        tree = SearchTree()
        add(tree, answer=None, error="The program failed: NameError.", program="x")
        assert possible_operators(tree, MATH)["refine"] == 0

    def test_a_missing_answer_or_a_cut_off_program_is_no_fault(self) -> None:
        tree = SearchTree()
        add(tree, answer=None, error="No final answer was given.")
        add(tree, answer=None, error="The program is no valid Python.", program="x", finish="length")
        add(tree, answer=None, error="this machine has no sandbox")
        assert possible_operators(tree, MATH) == {"sample": None}

    def test_an_unchecked_answer_can_be_verified_by_a_program_once_something_can_be_checked(self) -> None:
        tree = SearchTree()
        add(tree, answer=None, error="The program failed: NameError.", program="x")
        add(tree, answer="7")
        assert possible_operators(tree, MATH)["verify"] == 1
        add(tree, answer=None, outcome="pass", tier=Tier.CROSS_CHANNEL, operator="verify", target=1)
        assert "verify" not in possible_operators(tree, MATH)

    def test_an_attempt_is_shown_again_twice_at_most_and_the_least_shown_first(self) -> None:
        tree = SearchTree()
        add(tree, outcome="fail")
        add(tree, outcome="fail")
        refine = Simulation(node_id=tree.worker_node(MATH).id, worker=MATH, operator="refine", target=RolloutId(1))
        assert possible_operators(tree, MATH)["refine"] == 1
        assert possible_operators(tree, MATH, wave=[refine])["refine"] == 0
        first = replace(refine, target=RolloutId(0))
        assert "refine" not in possible_operators(tree, MATH, wave=[refine, refine, first, first])

    def test_other_workers_attempts_are_left_alone(self) -> None:
        tree = SearchTree()
        add(tree, outcome="fail", worker=CODE)
        assert possible_operators(tree, MATH) == {"sample": None}

    def test_a_reflection_can_be_refined_on_without_an_attempt(self) -> None:
        assert possible_operators(SearchTree(), MATH, reflecting=True) == {"sample": None, "refine": None}


class TestPriors:
    def test_what_passes_more_often_is_chosen_more_often(self) -> None:
        priors = OperatorPriors()
        priors.learn({(MATH, "refine"): Outcomes(passes=30, fails=10, tokens=4000, rollouts=40)})
        priors.learn({(MATH, "sample"): Outcomes(passes=5, fails=35, tokens=4000, rollouts=40)})
        generator = np.random.default_rng(1)
        chosen = [priors.choose(MATH, ("sample", "refine"), generator) for _ in range(200)]
        assert chosen.count("refine") > 180
        assert [priors.choose(CODE, ("sample", "refine"), generator) for _ in range(200)].count("refine") in range(
            60, 140
        )

    def test_tokens_are_paid_for(self) -> None:
        priors = OperatorPriors()
        priors.learn({(MATH, "refine"): Outcomes(passes=50, fails=50, tokens=100_000, rollouts=100)})
        priors.learn({(MATH, "sample"): Outcomes(passes=40, fails=60, tokens=10_000, rollouts=100)})
        generator = np.random.default_rng(1)
        assert [priors.choose(MATH, ("sample", "refine"), generator) for _ in range(50)].count("sample") > 45

    def test_untried_operators_cost_what_a_sample_costs(self) -> None:
        priors = OperatorPriors()
        priors.learn({(MATH, "sample"): Outcomes(passes=30, fails=70, tokens=30_000, rollouts=100)})
        generator = np.random.default_rng(1)
        chosen = [priors.choose(MATH, ("sample", "refine", "critique"), generator) for _ in range(400)]
        assert chosen.count("sample") > 200
        assert chosen.count("critique") < 60

    def test_what_branches_have_been_worth_is_their_prior(self) -> None:
        priors = OperatorPriors()
        assert priors.branching(MATH) == 1.0
        priors.learn({(MATH, "branch"): Outcomes(passes=9, fails=3, tokens=1200, rollouts=12)})
        assert priors.branching(MATH) > 2.0
        assert priors.branching(CODE) == 1.0
        priors.learn({(MATH, "sample"): Outcomes(passes=400, fails=0, tokens=4000, rollouts=400)})
        assert priors.branching(MATH) == 0.25, "no operator is ruled out"

    def test_what_is_long_past_fades(self) -> None:
        priors = OperatorPriors()
        for _ in range(20):
            priors.learn({(MATH, "sample"): Outcomes(passes=0, fails=50, tokens=1, rollouts=50)})
        for _ in range(20):
            priors.learn({(MATH, "sample"): Outcomes(passes=50, fails=0, tokens=1, rollouts=50)})
        assert priors.worth(MATH, "sample") > 0.85


class TestLearning:
    def test_only_anchored_votes_count(self) -> None:
        tree = SearchTree()
        add(tree, outcome="pass", tier=Tier.CROSS_CHANNEL)
        add(tree, outcome="fail", tier=Tier.CLUSTER)
        assert measured(tree) == {}

    def test_passes_and_fails_go_to_worker_and_operator(self) -> None:
        tree = SearchTree()
        add(tree, outcome="fail")
        add(tree, outcome="pass", operator="refine", target=0, wave=2)
        add(tree, answer=None, wave=2)
        add(tree, outcome="fail", wave=2)
        found = outcomes_of(tree)
        assert found[MATH, "sample"] == Outcomes(passes=0, fails=2, tokens=100, rollouts=2)
        assert found[MATH, "refine"] == Outcomes(passes=1, fails=0, tokens=50, rollouts=1)

    def test_what_was_drawn_before_there_was_a_choice_does_not_count(self) -> None:
        tree = SearchTree()
        add(tree, outcome="pass")
        add(tree, outcome="pass", wave=2)
        assert outcomes_of(tree) == {}

    def test_a_programs_check_votes_on_the_attempt_it_was_written_for(self) -> None:
        tree = SearchTree()
        add(tree, answer="7")
        add(tree, answer=None, outcome="fail", tier=Tier.CROSS_CHANNEL, operator="verify", target=0)
        assert [vote.outcome for vote in tree.rollouts[0].evidence] == ["fail"]

    def test_the_scores_skill_comes_from_plain_samples(self) -> None:
        tree = SearchTree()
        add(tree, outcome="pass", score=0.9)
        add(tree, outcome="fail", score=0.2)
        add(tree, outcome="fail", score=0.99, operator="branch")
        assert measured(tree)["skill"] == {"likelihood": 1.0}

    def test_one_worker_that_is_likelier_and_better_shows_no_skill_of_the_score(self) -> None:
        tree = SearchTree()
        for score in (0.8, 0.9):
            add(tree, outcome="pass", score=score, worker=CODE)
            add(tree, outcome="fail", score=score - 0.5)
        assert score_skill(tree) is None

    def test_a_check_of_the_form_alone_teaches_neither_skill_nor_confidence(self) -> None:
        tree = SearchTree()
        for number in range(4):
            rollout = add(tree, answer=f"draft {number}", outcome="pass" if number else "fail", score=0.2 * number)
            votes = tuple(replace(vote, source="constraints") for vote in rollout.evidence)
            tree.rollouts[number] = replace(rollout, evidence=votes)
        assert [passed for *_, passed in unanchored_confidences(tree)] == [False]

    def test_plain_votes_and_those_that_count_by_a_learned_score_are_told_apart(self) -> None:
        tree = SearchTree()
        for answer, score in (("1", 0.9), ("1", 0.9), ("2", 0.1), ("2", 0.1)):
            rollout = add(tree, answer=answer, outcome="pass" if answer == "1" else "fail", score=score)
            tree.rollouts[rollout.id] = replace(rollout, scored_by="prm")
        assert unanchored_confidences(tree) == [(0.5, 0.5, True), (0.5, 0.5, False)]
        passed, failed = unanchored_confidences(tree, trust=1.0)
        assert passed == (0.5, pytest.approx((3.6 + 1) / (4 + 2), abs=1e-3), True)
        assert failed == (0.5, pytest.approx((0.4 + 1) / (4 + 2), abs=1e-3), False)
        assert measured(tree, weighed=tree, trust=1.0)["confidence"] == [passed, failed]

    def test_records_of_one_confidence_are_still_read(self, tmp_path: Path) -> None:
        storage = Storage(tmp_path / "kaelum.sqlite")
        for number in range(50):
            storage.add_measurements(EpisodeId(f"e{number}"), {"model": "m", "confidence": [[0.8, False]]})
        assert Measurements(storage, model="m").calibration(0.8, 0.8) < 0.3
        storage.close()

    def test_an_episode_is_learned_once_and_found_again_after_a_restart(self, tmp_path: Path) -> None:
        tree = SearchTree()
        add(tree, outcome="fail", score=0.2)
        add(tree, outcome="pass", score=0.9, wave=2)
        storage = Storage(tmp_path / "kaelum.sqlite")
        first = Measurements(storage, model="m")
        for number in range(30):
            first.learn(EpisodeId(f"e{number}"), tree)
            first.learn(EpisodeId(f"e{number}"), tree)
        assert len(storage.measurements()) == 30
        assert first.prm_weight() == 1.0
        again = Measurements(storage, model="m")
        assert again.prm_weight() == first.prm_weight()
        assert again.table() == first.table()
        assert again.table()[MATH, "sample"].rollouts == 30
        other = Measurements(storage, model="another")
        assert other.table() == {}
        assert other.prm_weight() == 0.0
        storage.close()
