"""The replay of the slot scheduler: budgets, deadlines and places are kept, and tokens are equal."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from benchmarks.replay import BankQuery
from benchmarks.slot_server import Replayed, Rule, Server, Serving
from benchmarks.slots import uniform_right
from kaelum_graph.bids import Outlook


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def race(number: int, *, right_from: int, ends: int | None = None, tokens: int = 10) -> Replayed:
    """A query that is right from so many rollouts on, and a close race until it `ends`."""

    def outlook(count: int) -> Outlook:
        certain = ends is not None and count >= ends
        return Outlook(
            leader=9 if certain else 2, runner_up=0 if certain else 2, answers=2, standing=4, unanswered=0, refuted=0,
            verified=False, tokens=tokens, left=8 - count,
        )  # fmt: skip

    return Replayed(
        query=cast("BankQuery", Named(f"{number:03d}")),
        tokens=(tokens,) * 8,
        right=tuple(count >= right_from for count in range(9)),
        seen=tuple(outlook(count) for count in range(9)),
        ended=tuple(ends is not None and count >= ends for count in range(9)),
    )


@pytest.mark.parametrize("rule", ["first", "short", "bids", "uniform"])
def test_without_a_limit_every_query_is_served_to_its_end(rule: Rule) -> None:
    paths = [race(at, right_from=8, ends=4 if at % 2 else None) for at in range(20)]
    outcome = Server(paths, Serving(rule=rule, slots=8)).run()
    expected = [8 if rule == "uniform" or at % 2 == 0 else 4 for at in range(20)]
    assert outcome.rollouts.tolist() == expected
    assert outcome.tokens == 10 * sum(expected)
    assert outcome.right.tolist() == [count == 8 for count in expected]
    assert outcome.starved == 0
    assert outcome.longest_wait_grants <= outcome.bound


def test_a_budget_goes_to_those_that_gain_by_it() -> None:
    """Half are settled after their first wave and say so in their bids alone: their tokens go to the others."""
    settled = [race(at, right_from=1, tokens=10) for at in range(10)]
    clear = Outlook(
        leader=4, runner_up=0, answers=1, standing=4, unanswered=0, refuted=0, verified=False, tokens=10, left=4
    )
    settled = [
        Replayed(query=one.query, tokens=one.tokens, right=one.right, seen=(clear,) * 9, ended=(False,) * 9)
        for one in settled
    ]
    open_races = [race(at, right_from=8) for at in range(10, 20)]
    paths = [path for pair in zip(settled, open_races, strict=True) for path in pair]
    budget = 6 * 10 * len(paths)
    short, bids = (
        Server(paths, Serving(rule=cast("Rule", rule), slots=8, budget=budget)).run() for rule in ("short", "bids")
    )
    assert abs(short.tokens - budget) <= 80
    assert abs(bids.tokens - budget) <= 80
    assert bids.rollouts[1::2].mean() - bids.rollouts[::2].mean() > 2.0
    assert abs(short.rollouts[1::2].mean() - short.rollouts[::2].mean()) < 1.0


def test_places_are_never_passed_and_nearly_full_under_load() -> None:
    generator = np.random.default_rng(1)
    paths = [race(at, right_from=1, tokens=int(generator.integers(5, 80))) for at in range(60)]
    whole = Server(paths, Serving(rule="bids", slots=16)).run()
    by_wave = Server(paths, Serving(rule="bids", slots=16, release="wave")).run()
    assert 0.9 < whole.generating <= 1.0
    assert by_wave.generating <= by_wave.granted <= 1.0


def test_at_a_deadline_a_query_is_answered_with_what_it_has() -> None:
    paths = [race(at, right_from=1, tokens=30) for at in range(12)]
    outcome = Server(paths, Serving(rule="bids", slots=4, clients=3, time=45.0)).run()
    assert outcome.rollouts.max() < 8
    assert outcome.rollouts.max() >= 1
    assert outcome.tokens <= 4 * 45 * 12
    assert (outcome.right == (outcome.rollouts > 0)).all()


def test_uniform_is_reckoned_at_equal_tokens() -> None:
    paths = [race(0, right_from=2), race(1, right_from=4)]
    assert uniform_right(paths, 40).tolist() == [1.0, 0.0]
    assert uniform_right(paths, 70).tolist() == [1.0, 0.5]
    assert uniform_right(paths, 10_000).tolist() == [1.0, 1.0]
