"""Stated confidences against what anchored checks then said."""

from __future__ import annotations

import numpy as np
import pytest

from kaelum_graph.calibration import Calibration, VoteCalibration


def test_nothing_seen_nothing_changed() -> None:
    assert Calibration()(0.3) == pytest.approx(0.3)


def test_a_few_pairs_move_it_little_and_many_a_lot() -> None:
    few = Calibration([(0.8, False)] * 2)
    many = Calibration([(0.8, False)] * 100)
    assert 0.5 < few(0.8) < 0.8
    assert many(0.8) < 0.1


def test_overconfidence_is_found_and_mended() -> None:
    generator = np.random.default_rng(1)
    stated = generator.uniform(0.2, 0.85, 400)
    truth = stated**2
    passed = generator.random(400) < truth
    calibration = Calibration(zip(stated.tolist(), passed.tolist(), strict=True))
    before = np.abs(stated - truth).mean()
    after = np.abs(np.array([calibration(value) for value in stated]) - truth).mean()
    assert after < before / 4


def test_order_is_kept_whatever_is_seen() -> None:
    calibration = Calibration([(0.9, False)] * 50 + [(0.1, True)] * 50)
    assert calibration(0.2) < calibration(0.5) < calibration(0.8)


def test_learning_in_parts_is_learning_at_once() -> None:
    pairs = [(0.3, False), (0.6, True), (0.7, False), (0.8, True)] * 5
    parts = Calibration()
    for pair in pairs:
        parts.learn([pair])
    assert parts(0.7) == pytest.approx(Calibration(pairs)(0.7))


class TestVotes:
    def test_a_reward_model_moves_no_confidence_before_it_was_right(self) -> None:
        assert VoteCalibration()(0.6, 0.8) == pytest.approx(0.6)
        mistaken = VoteCalibration([(0.5, 0.8, False), (0.5, 0.2, True)] * 100)
        assert mistaken.shift == 0.0
        assert mistaken(0.6, 0.8) == mistaken(0.6, 0.3)

    def test_one_that_was_wrong_changes_nothing_beside_plain_votes(self) -> None:
        generator = np.random.default_rng(2)
        plain = generator.uniform(0.2, 0.85, 300)
        passed = (generator.random(300) < plain**2).tolist()
        contrary = [(p, 0.3 if right else 0.7, right) for p, right in zip(plain.tolist(), passed, strict=True)]
        alone = VoteCalibration((p, p, right) for p, _, right in contrary)
        assert VoteCalibration(contrary)(0.8, 0.3) == pytest.approx(alone(0.8, 0.8))

    def test_what_it_told_of_stays_as_it_was(self) -> None:
        before = VoteCalibration([(0.5, 0.5, True)] * 5)
        after = before.plus([(0.5, 0.5, False)] * 50)
        assert before(0.5, 0.5) > 0.5 > after(0.5, 0.5)
        assert after.plus([]) is after

    def test_one_that_was_right_is_believed_and_more_agreement_is_never_less_sure(self) -> None:
        right = VoteCalibration([(0.5, 0.8, True), (0.5, 0.2, False)] * 500)
        assert right(0.5, 0.2) < 0.25 < 0.75 < right(0.5, 0.8)
        contrary = VoteCalibration([(0.2, 0.2, True), (0.8, 0.8, False)] * 100)
        assert contrary(0.2, 0.2) < contrary(0.8, 0.8)

    def test_votes_that_are_not_weighed_are_calibrated_as_one_confidence(self) -> None:
        pairs = [(0.3, False), (0.6, True), (0.7, False), (0.8, True)] * 5
        votes = VoteCalibration((stated, stated, passed) for stated, passed in pairs)
        assert votes(0.7, 0.7) == pytest.approx(Calibration(pairs)(0.7))
