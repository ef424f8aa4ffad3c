"""The trial of a structure: what a query's gain is, and what the sequential test adopts and drops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kaelum_graph.evidence import Evidence, ModelScore, Outcome, Tier
from kaelum_graph.structures.base import Arm, Choice, RolloutOutcome, Structure
from kaelum_graph.structures.trial import (
    MOST_QUERIES,
    Decision,
    Trial,
    decide,
    evidence_against,
    evidence_for,
    gain,
    still_good,
)
from kaelum_graph.types import WorkerName

STRUCTURE = Structure(worker=WorkerName("math"), cluster=1, model="m", lines=("Read it", "Solve it"), prompt_tokens=0)


def rollout(arm: Arm, passed: bool | None, tokens: int = 100, *, tier: Tier = Tier.CONSTRAINT) -> RolloutOutcome:
    outcome: Outcome = "unscored" if passed is None else "pass" if passed else "fail"
    return RolloutOutcome(arm=arm, evidence=(Evidence(tier=tier, source="t", outcome=outcome),), tokens=tokens)


PASS = {(arm, tokens): rollout(arm, True, tokens) for arm in ("with", "without") for tokens in (100, 200)}
FAIL = {(arm, tokens): rollout(arm, False, tokens) for arm in ("with", "without") for tokens in (100, 200)}


def trial_of(
    rates: tuple[float, float],
    generator: np.random.Generator,
    *,
    samples: int = 8,
    until_pass: bool = False,
    tokens: int = 100,
) -> tuple[Decision, Trial]:
    """A whole trial over easy and hard queries: pass rates without and with are these on average."""
    trial = Trial()
    while (decision := decide(trial)) == "go on":
        # What makes a query easy is common to both arms; rates stay in [0, 1].
        shift = generator.uniform(-1.0, 1.0) * min(*rates, 1.0 - max(rates))
        choice = Choice(structure=STRUCTURE, paired=True, first=bool(generator.random() < 0.5), propensity=0.5)
        outcomes: list[RolloutOutcome] = []
        for sample in range(samples):
            arm = choice.arm(sample)
            passed = generator.random() < rates[arm == "with"] + shift
            outcomes.append((PASS if passed else FAIL)[arm, tokens if arm == "with" else 100])
            if until_pass and passed:
                break
        trial = trial.plus(outcomes, prompt_tokens=0)
    return decision, trial


def adopted(rates: tuple[float, float], *, streams: int, seed: int, **options: bool | int) -> float:
    """Share of simulated trials that end in adoption."""
    generator = np.random.default_rng(seed)
    decisions = [trial_of(rates, generator, **options)[0] for _ in range(streams)]  # pyright: ignore[reportArgumentType]
    return decisions.count("adopt") / streams


@pytest.mark.parametrize(
    "options", [{}, {"until_pass": True, "streams": 1000}, {"samples": 5}], ids=["whole", "until-pass", "odd"]
)
def test_what_makes_no_difference_is_adopted_one_time_in_twenty_at_most(options: dict[str, bool | int]) -> None:
    assert adopted((0.4, 0.4), **{"streams": 400, "seed": 1, **options}) <= 0.05  # pyright: ignore[reportArgumentType]


def test_fifteen_points_are_mostly_found() -> None:
    assert adopted((0.4, 0.55), streams=200, seed=2) >= 0.55
    assert adopted((0.4, 0.55), streams=100, seed=3, samples=16) >= 0.85


def test_what_harms_is_dropped_and_early() -> None:
    generator = np.random.default_rng(4)
    ended = [trial_of((0.45, 0.25), generator) for _ in range(60)]
    assert {decision for decision, _ in ended} == {"drop"}
    assert np.median([trial.queries for _, trial in ended]) < 25


def test_a_gain_that_costs_as_many_more_tokens_is_none() -> None:
    """0.3 at 100 tokens and 0.6 at 200: at equal tokens there is nothing in it."""
    assert adopted((0.3, 0.6), streams=100, seed=5) >= 0.95
    assert adopted((0.3, 0.6), streams=100, seed=5, tokens=200) <= 0.05


def test_the_prompt_counts_a_quarter_and_only_in_later_queries() -> None:
    outcomes = [rollout("with", True), rollout("without", False)]
    first = Trial().plus(outcomes, prompt_tokens=400)
    assert first.mean_gain == 1.0
    assert first.token_factor == 0.5
    assert first.plus(outcomes, prompt_tokens=400).gains == 1.5


def test_cheapness_alone_earns_nothing() -> None:
    trial = Trial()
    for _ in range(MOST_QUERIES):
        trial = trial.plus([rollout("with", True, 10), rollout("without", True, 100)], prompt_tokens=0)
    assert trial.token_factor == 1.0
    assert evidence_for(trial) == 1.0
    assert decide(trial) == "drop"


def test_a_gain_is_the_difference_of_the_anchored_pass_shares() -> None:
    outcomes = [rollout("with", True), rollout("with", None), rollout("without", False), rollout("without", True)]
    assert gain(outcomes, token_factor=1.0) == 0.0
    assert gain([*outcomes, rollout("with", True)], token_factor=1.0) == pytest.approx(2 / 3 - 1 / 2)


def test_without_anchors_or_without_a_pair_nothing_is_learned() -> None:
    agreeing = [rollout("with", True, tier=Tier.CLUSTER), rollout("without", False, tier=Tier.JUDGE)]
    assert gain(agreeing, token_factor=1.0) is None
    assert gain([rollout("with", True), rollout("with", False)], token_factor=1.0) is None
    assert gain([], token_factor=1.0) is None
    trial = Trial().plus(agreeing, prompt_tokens=0)
    assert (trial.queries, trial.pairs, evidence_for(trial), evidence_against(trial)) == (1, 0, 1.0, 1.0)


def test_a_trial_that_learns_nothing_ends_all_the_same() -> None:
    trial = Trial()
    for _ in range(MOST_QUERIES):
        assert decide(trial) == "go on"
        trial = trial.plus([rollout("with", None), rollout("without", None)], prompt_tokens=0)
    assert decide(trial) == "drop"


def test_a_loss_on_the_whole_is_not_adopted_however_often_it_wins() -> None:
    won = Trial(queries=30, pairs=30, gains=-0.5, favour=(9.0, 9.0))
    assert evidence_for(won) > 20
    assert decide(won) == "go on"


def test_the_bets_are_fair_for_every_size_of_gain() -> None:
    """Mean 1 over g and -g: what makes the e-value an e-value."""
    for size in (0.0, 0.125, 0.5, 1.0):
        won = Trial().plus(_worth(size), prompt_tokens=0)
        lost = Trial().plus(_worth(-size), prompt_tokens=0)
        assert (evidence_for(won) + evidence_for(lost)) / 2 == pytest.approx(1.0)
        assert evidence_for(won) == pytest.approx(evidence_against(lost))


def _worth(size: float) -> list[RolloutOutcome]:
    share = round(8 * abs(size))
    arms: tuple[Arm, Arm] = ("with", "without") if size > 0 else ("without", "with")
    return [rollout(arms[0], number < share) for number in range(8)] + [rollout(arms[1], False)]


def test_the_order_of_queries_with_equal_tokens_does_not_matter() -> None:
    queries = [_worth(size) for size in (0.5, -0.25, 1.0, 0.125)]
    there, back = Trial(), Trial()
    for one, other in zip(queries, reversed(queries), strict=True):
        there, back = there.plus(one, prompt_tokens=0), back.plus(other, prompt_tokens=0)
    assert evidence_for(there) == pytest.approx(evidence_for(back))
    assert math.isclose(there.mean_gain, back.mean_gain)


def test_a_structure_on_watch_goes_when_it_harms_and_never_for_its_age() -> None:
    neutral = harmful = Trial()
    for _ in range(3 * MOST_QUERIES):
        neutral = neutral.plus([rollout("with", True), rollout("without", True)], prompt_tokens=0)
    for _ in range(8):
        harmful = harmful.plus([rollout("with", False), rollout("without", True)], prompt_tokens=0)
    assert still_good(neutral)
    assert not still_good(harmful)


def test_a_models_own_score_is_refused() -> None:
    score = ModelScore(source="prm", value=0.9)
    with pytest.raises(TypeError, match="ModelScore is no evidence"):
        RolloutOutcome(arm="with", evidence=(score,), tokens=1)  # pyright: ignore[reportArgumentType]


def test_one_failed_check_outweighs_a_passed_one() -> None:
    votes = tuple(Evidence(tier=Tier.EXECUTION, source="t", outcome=outcome) for outcome in ("pass", "fail"))
    assert RolloutOutcome(arm="with", evidence=votes, tokens=1).passed is False


def test_arms_alternate_from_the_coin_on() -> None:
    for first in (True, False):
        choice = Choice(structure=STRUCTURE, paired=True, first=first, propensity=0.5)
        arms = [choice.arm(sample) for sample in range(6)]
        assert arms.count("with") == 3
        assert (arms[0] == "with") is first
        assert [choice.text(sample) is not None for sample in range(6)] == [arm == "with" for arm in arms]
    alone = Choice(structure=STRUCTURE, paired=False, first=False, propensity=0.875)
    assert {alone.arm(sample) for sample in range(4)} == {"with"}
    assert alone.text(0) == "1. Read it\n2. Solve it"
