"""What is no better than what serves takes its place in at most one case of twenty, whenever one looks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kaelum_graph.learning.betting import BettingTest
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.promotion import Challenge, Comparison, PromotionRule
from kaelum_graph.learning.state import LearnedState, is_held_out
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Mean, Order, make_state, seen

RULE = PromotionRule()
EPISODES = 400
Losses = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def shared_noise(worse: float, spread: float) -> Losses:
    """Losses around 0.5 that differ by `worse` on average."""

    def losses(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        serving = random.uniform(0.3, 0.7, EPISODES)
        return serving, serving + worse + random.uniform(-spread, spread, EPISODES)

    return losses


def right_or_wrong(worse: float, differ: float) -> Losses:
    """Losses of 0 and 1; on a share `differ` of the episodes just one of the two is right."""

    def losses(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        serving = (random.random(EPISODES) < 0.5).astype(float)
        lost = (differ + worse) / 2
        drawn = random.random(EPISODES)
        challenger = serving.copy()
        serving[drawn < lost], challenger[drawn < lost] = 0.0, 1.0
        won = (drawn >= lost) & (drawn < differ)
        serving[won], challenger[won] = 1.0, 0.0
        return serving, challenger

    return losses


def rarely_terrible(worse: float, share: float) -> Losses:
    """A bit better nearly always, wholly wrong now and then."""

    def losses(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        bonus = (share - worse) / (1 - share)
        terrible = random.random(EPISODES) < share
        return np.where(terrible, 0.0, bonus), np.where(terrible, 1.0, 0.0)

    return losses


def promoted(losses: Losses, challengers: int, seed: int) -> tuple[float, list[int]]:
    """The share of challengers that were promoted, and after how many episodes."""
    random, after = np.random.default_rng(seed), list[int]()
    for _ in range(challengers):
        comparison = Comparison(rule=RULE)
        for serving, challenger in zip(*losses(random), strict=True):
            comparison.add(serving, challenger)
            if comparison.verdict != "undecided":
                break
        if comparison.verdict == "promote":
            after.append(comparison.fit.count)
    return len(after) / challengers, after


MARGIN = RULE.margin


@pytest.mark.parametrize(
    "losses",
    [
        shared_noise(MARGIN, 0.05), shared_noise(MARGIN, 0.3), right_or_wrong(MARGIN, 0.1), right_or_wrong(MARGIN, 0.5),
        rarely_terrible(MARGIN, 0.02), rarely_terrible(MARGIN, 0.1),
    ],
    ids=["close", "spread", "seldom apart", "often apart", "rarely terrible", "terrible"],
)  # fmt: skip
def test_a_challenger_worse_by_the_margin_is_promoted_in_one_case_of_twenty(losses: Losses) -> None:
    hundred, _ = promoted(losses, 100, seed=1)
    many, _ = promoted(losses, 400, seed=2)
    print(f"\nworse by {MARGIN}: {hundred:.0%} of 100 promoted, {many:.1%} of 400")
    assert hundred <= RULE.alpha
    assert many <= RULE.alpha


def test_one_that_is_worse_by_twice_the_margin_hardly_ever_is() -> None:
    for losses in (shared_noise(2 * MARGIN, 0.3), right_or_wrong(2 * MARGIN, 0.5)):
        share, _ = promoted(losses, 200, seed=3)
        print(f"\nworse by {2 * MARGIN}: {share:.1%} of 200 promoted")
        assert share <= 0.03


def test_one_that_is_equal_may_be_and_harms_nobody() -> None:
    for losses in (shared_noise(0.0, 0.3), right_or_wrong(0.0, 0.5)):
        share, _ = promoted(losses, 200, seed=4)
        print(f"\nequal: {share:.1%} of 200 promoted")
        assert share < 0.5


@pytest.mark.parametrize(
    ("losses", "share", "episodes"),
    [(shared_noise(-0.1, 0.3), 0.95, 90), (shared_noise(-0.2, 0.3), 0.99, 40), (right_or_wrong(-0.2, 0.5), 0.8, 100)],
    ids=["better by 0.1", "better by 0.2", "right more often by 0.2"],
)
def test_a_better_one_is_promoted(losses: Losses, share: float, episodes: int) -> None:
    found, after = promoted(losses, 100, seed=5)
    print(f"\npromoted: {found:.0%} of 100, after {np.median(after):.0f} episodes (median)")
    assert found >= share
    assert np.median(after) <= episodes


def test_a_worse_one_is_dropped_soon() -> None:
    comparison = Comparison(rule=RULE)
    while comparison.verdict == "undecided":
        comparison.add(0.2, 0.6)
    assert comparison.verdict == "drop"
    assert comparison.fit.count < 20
    assert comparison.summary()["gain"] == pytest.approx(-0.4)
    hopeless = Comparison(rule=RULE)
    for number in range(RULE.hopeful):
        assert hopeless.verdict == "undecided"
        hopeless.add(0.5, 0.53 if number % 2 else 0.5)
    assert hopeless.verdict == "drop"


def test_bets_keep_their_bound() -> None:
    test = BettingTest()
    for _ in range(50):
        test.add(1.0)
    assert test.bet == 0.9
    test.add(-1.0)
    assert np.isfinite(test.log_capital)
    with pytest.raises(ValueError, match="below the bound"):
        test.add(-1.01)
    with pytest.raises(ValueError, match="below the bound"):
        test.add(float("nan"))


def challenge(serving: LearnedState, challenger: LearnedState) -> Challenge:
    return Challenge(
        "mean", challenger=("2", challenger.parts()), serving=("1", serving.parts()), make_state=make_state, rule=RULE
    )


def taught(value: float, *names: str) -> LearnedState:
    state = make_state()
    for number, name in enumerate(names, start=1):
        state.apply(
            LearningEvent(sequence=number, kind="episode", episode_id=EpisodeId(name), episode=seen(name, value=value))
        )
    return state


def names(count: int, *, held_out: bool = False, audit: bool = False) -> list[str]:
    every = (f"n{number}" for number in range(10_000))
    kind = (name for name in every if is_held_out(name) == held_out and seen(name).audit == audit)
    return [next(kind) for _ in range(count)]


def test_only_episodes_that_neither_learned_from_judge() -> None:
    usual, out = names(3), names(1, held_out=True)[0]
    one = challenge(taught(0.9, *usual[:2]), taught(0.4, *usual))
    one.score(seen(usual[0], value=0.4), 2)
    one.score(seen(usual[2], value=0.4), 3)
    one.score(seen(names(1, audit=True)[0], value=0.4), 9)
    assert one.comparison.fit.count == 0
    one.score(seen(out, value=0.4), 1)
    one.score(seen("later", value=0.4), 4)
    assert one.comparison.fit.count == 2
    assert one.comparison.fit.mean == pytest.approx((0.5 + MARGIN) / (1 - MARGIN), rel=1e-6)


def test_held_out_and_audit_episodes_teach_no_scored_component() -> None:
    out = names(2, held_out=True)
    state = taught(0.5, *out)
    assert state.component(Mean).count == 0
    assert state.component(Order).events == 2, "what needs no proof takes in all"
    assert taught(0.5, *names(2)).component(Mean).count == 2


def test_a_comparison_goes_on_after_a_restart() -> None:
    serving, challenger = taught(0.9, "a"), taught(0.4, "b")
    whole, first = challenge(serving, challenger), challenge(serving, challenger)
    for number in range(10):
        whole.score(seen(f"x{number}", value=0.3), 10 + number)
        if number < 4:
            first.score(seen(f"x{number}", value=0.3), 10 + number)
    then = challenge(serving, challenger)
    then.restore(first.to_json())
    for number in range(4, 10):
        then.score(seen(f"x{number}", value=0.3), 10 + number)
    assert then.comparison == whole.comparison
    assert then.comparison.fit.count > 5
