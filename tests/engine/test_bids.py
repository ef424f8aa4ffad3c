"""Bids: what more rollouts may gain, from the counts of a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kaelum_graph.bids import Outlook, bid, expected_gain, lead_is_kept, outlook
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.stopping import leader_is_certain
from kaelum_graph.tree import Rollout, SearchTree, Simulation
from kaelum_graph.types import Candidate, RolloutId, WorkerName

MATH = WorkerName("math")


def seen(
    leader: int, runner_up: int, *, others: int = 0, left: int = 16, tokens: float = 100.0, **counts: int
) -> Outlook:
    return Outlook(
        leader=leader, runner_up=runner_up, answers=(leader > 0) + (runner_up > 0) + others,
        standing=leader + runner_up + others, unanswered=counts.get("unanswered", 0), refuted=counts.get("refuted", 0),
        verified=False, tokens=tokens, left=left,
    )  # fmt: skip


def test_the_gain_is_what_deciding_later_is_worth() -> None:
    """Against draws from the posterior itself."""
    generator = np.random.default_rng(3)
    leader, runner_up, rollouts = 5, 3, 6
    rates = generator.beta(leader + 1, runner_up + 1, size=200_000)
    votes = generator.binomial(rollouts, rates)
    kept = np.array([lead_is_kept(leader + j, runner_up + rollouts - j) for j in range(rollouts + 1)])[votes]
    drawn = float(np.maximum(kept, 1 - kept).mean() - lead_is_kept(leader, runner_up))
    trust = 9 / 10
    assert expected_gain(seen(leader, runner_up), rollouts=round(rollouts / trust)) == pytest.approx(
        trust * drawn, abs=0.003
    )


def test_the_lead_is_kept_as_the_stopping_test_has_it() -> None:
    for leader, runner_up in ((4, 0), (3, 0), (9, 3), (9, 4)):
        assert leader_is_certain(leader, runner_up) == (lead_is_kept(leader, runner_up) >= 0.95)


def test_a_close_race_bids_more_than_a_clear_one() -> None:
    bids = [bid(seen(leader, 8 - leader)) for leader in (4, 5, 6, 7, 8)]
    assert bids == sorted(bids, reverse=True)
    assert bids[0] > 10 * bids[-1] > 0.0


def test_scattered_answers_bid_less_than_a_race_between_two() -> None:
    assert bid(seen(2, 2, others=4)) < bid(seen(4, 4))
    assert bid(seen(2, 2, unanswered=4)) == pytest.approx(bid(seen(2, 2, others=4)))


def test_what_is_verified_or_has_nothing_left_bids_nothing() -> None:
    assert bid(replace(seen(2, 2), verified=True)) == 0.0
    assert bid(seen(2, 2, left=0)) == 0.0


def test_each_refuted_answer_makes_the_next_one_less_likely() -> None:
    bids = [bid(seen(0, 0, refuted=refuted)) for refuted in (4, 8, 16)]
    assert bids == sorted(bids, reverse=True)
    assert bids[0] > bid(seen(0, 0, unanswered=4))


def test_a_bid_is_per_token() -> None:
    assert bid(seen(3, 2, tokens=50.0)) == pytest.approx(2 * bid(seen(3, 2, tokens=100.0)))


def test_it_looks_further_than_one_rollout() -> None:
    assert expected_gain(seen(3, 1), rollouts=1) == 0.0
    assert bid(seen(3, 1, left=16)) > bid(seen(3, 1, left=3)) >= 0.0


def test_gains_are_probabilities() -> None:
    for leader in range(6):
        for runner_up in range(leader + 1):
            for refuted in (0, 3):
                for rollouts in (1, 4, 32):
                    assert 0.0 <= expected_gain(seen(leader, runner_up, refuted=refuted), rollouts=rollouts) <= 1.0


def test_the_outlook_of_a_tree() -> None:
    tree = SearchTree()

    def add(answer: str | None, outcome: str | None = None, tokens: int = 50) -> None:
        simulation = Simulation(node_id=tree.worker_node(MATH).id, worker=MATH, operator="sample")
        tree.start(simulation)
        at = len(tree.rollouts)
        evidence = () if outcome is None else (Evidence(tier=Tier.CONSTRAINT, source="check", outcome=outcome),)  # type: ignore[arg-type]
        tree.complete(
            Rollout(
                id=RolloutId(at), wave=1, simulation=simulation,
                candidate=Candidate(rollout_id=RolloutId(at), worker=MATH, text=f"{at}", answer=answer),
                evidence=evidence, steps=(f"step {at}",), step_scores=(None,), finish="stop", completion_tokens=tokens,
                value=0.5,
            )
        )  # fmt: skip

    assert outlook(tree, left=9).tokens == 100.0
    for answer in ("7", "7", "8", None):
        add(answer)
    add("9", "fail", 100)
    assert outlook(tree, left=3) == Outlook(
        leader=2, runner_up=1, answers=2, standing=3, unanswered=1, refuted=1, verified=False, tokens=60.0, left=3
    )
    add("7", "pass")
    assert outlook(tree, left=2).verified
