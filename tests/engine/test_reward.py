"""Step likelihoods line up with the steps they were generated in."""

from __future__ import annotations

import math

import pytest

from kaelum_graph.reward import path_score, step_scores


def test_each_step_is_the_geometric_mean_of_its_tokens() -> None:
    scores = step_scores(("ab\n", "cd"), ("a", "b\n", "c", "d"), tuple(math.log(p) for p in (0.5, 0.125, 0.9, 0.9)))
    assert scores == pytest.approx([0.25, 0.9])


def test_a_given_prefix_has_no_score() -> None:
    scores = step_scores(("given\n", "new"), ("n", "ew"), (math.log(0.5), math.log(0.5)))
    assert scores[0] is None
    assert scores[1] == pytest.approx(0.5)


def test_an_observation_in_between_has_no_score_and_shifts_none() -> None:
    texts = ("run\n", "seen\n", "so", " 4")
    half, tenth = math.log(0.5), math.log(0.1)
    scores = step_scores(("given\n", "run\n", "seen\n", "so 4"), texts, (half, None, tenth, tenth))
    assert scores == [None, pytest.approx(0.5), None, pytest.approx(0.1)]


def test_a_step_that_ends_on_an_observation_is_scored_by_its_own_tokens() -> None:
    scores = step_scores(("run\nseen\n", "so"), ("run\n", "seen\n", "so"), (math.log(0.5), None, math.log(0.1)))
    assert scores == pytest.approx([0.5, 0.1])


def test_without_log_probabilities_nothing_is_scored() -> None:
    assert step_scores(("a", "b"), None, None) == [None, None]
    assert path_score([None, None]) is None


def test_path_score_is_the_mean_of_the_scored_steps() -> None:
    score = path_score([None, 0.2, 0.6])
    assert score is not None
    assert score.value == pytest.approx(0.4)


def test_no_steps_no_scores() -> None:
    assert step_scores((), (), ()) == []
