"""The weight that a model's scores earn: none for noise, some for skill, and only within queries."""

from __future__ import annotations

import numpy as np
import pytest

from kaelum_graph.evidence import ModelScore
from kaelum_graph.skill import ENOUGH_QUERIES, Skill, measured, within_query_auroc


def scores(*values: float | None) -> list[ModelScore | None]:
    return [None if value is None else ModelScore(source="test", value=value) for value in values]


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert within_query_auroc(scores(0.9, 0.1, 0.5), [True, False, False]) == 1.0
    assert within_query_auroc(scores(0.1, 0.9, 0.5), [True, False, False]) == 0.0
    assert within_query_auroc(scores(0.5, 0.5), [True, False]) == 0.5
    assert within_query_auroc(scores(0.9, 0.2, 0.5, 0.1), [True, True, False, False]) == 0.75


def test_one_outcome_or_no_scores_measure_nothing() -> None:
    assert within_query_auroc(scores(0.9, 0.1), [True, True]) is None
    assert within_query_auroc(scores(None, 0.1), [True, False]) is None
    assert within_query_auroc(scores(0.9, 0.1), [None, False]) is None


def test_nothing_weighs_before_enough_queries() -> None:
    assert measured([1.0] * (ENOUGH_QUERIES - 1)).weight == 0.0
    assert measured([1.0] * ENOUGH_QUERIES).weight == 1.0


def test_running_mean_and_spread_are_those_of_the_whole() -> None:
    values = np.random.default_rng(1).random(50)
    skill = measured(values.tolist())
    assert skill.queries == 50
    assert skill.mean == pytest.approx(values.mean())
    assert skill.squares == pytest.approx(((values - values.mean()) ** 2).sum())


def test_noise_earns_a_weight_at_most_one_time_in_ten() -> None:
    """A random reward model over 60 queries of 2 right and 6 wrong rollouts."""
    generator = np.random.default_rng(2)
    weights: list[float] = []
    for _ in range(300):
        aurocs: list[float] = []
        for _ in range(60):
            noise = scores(*generator.random(8).tolist())
            auroc = within_query_auroc(noise, [True, True] + [False] * 6)
            assert auroc is not None
            aurocs.append(auroc)
        weights.append(measured(aurocs).weight)
    assert np.mean(np.array(weights) > 0) <= 0.1
    assert np.mean(weights) < 0.01


def test_noise_soon_orders_nothing_and_a_weak_score_goes_on_to() -> None:
    """Before 20 queries anything may order what is level; after 100 noise does in one run of six or fewer."""
    generator = np.random.default_rng(4)
    noise = [measured((generator.random(100) < 0.5).astype(float).tolist()).orders for _ in range(200)]
    weak = [measured((generator.random(100) < 0.62).astype(float).tolist()).orders for _ in range(200)]
    assert measured([0.0] * 19).orders
    assert not measured([0.0] * 20).orders
    assert np.mean(noise) <= 0.2
    assert np.mean(weak) >= 0.8


def test_skill_earns_weight() -> None:
    generator = np.random.default_rng(3)
    skill = Skill()
    for _ in range(60):
        good, bad = generator.normal(1.0, 1.0, 2), generator.normal(0.0, 1.0, 6)
        auroc = within_query_auroc(scores(*good.tolist(), *bad.tolist()), [True, True] + [False] * 6)
        assert auroc is not None
        skill = skill.plus(auroc)
    assert 0.5 < skill.weight <= 1.0
