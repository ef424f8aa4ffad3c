"""The fourteen numbers about a question's surface."""

from __future__ import annotations

import time

import numpy as np
import pytest

from kaelum_graph.text_features import FEATURE_NAMES, text_features


@pytest.mark.parametrize("text", ["", " ", "?", "ü" * 100_000, "1" * 50, "```\n", "\x00\ud7ff", "العربية 你好 🙂"])
def test_any_text_has_features_in_range(text: str) -> None:
    values = text_features(text)
    assert values.shape == (14,)
    assert len(FEATURE_NAMES) == 14
    assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("12345 + 6789", "digits"),
        ("x = y * z", "operators"),
        ("def f(x): return x", "code_marks"),
        ("If A then B", "logic_words"),
        ("Write a poem", "creative_words"),
        ("Compare trains and cars", "analysis_words"),
        ("Use exactly 5 words", "constraint_words"),
        ("Who wrote Faust?", "asks_for_a_fact"),
        ("How many cats?", "asks_for_a_quantity"),
        ("- one\n- two", "list_items"),
    ],
)
def test_each_feature_sees_its_mark(text: str, feature: str) -> None:
    index = FEATURE_NAMES.index(feature)
    assert text_features(text)[index] > text_features("the sea is calm")[index]


def test_the_question_after_a_long_text_is_seen() -> None:
    index = FEATURE_NAMES.index("asks_for_a_quantity")
    assert text_features("The sea is calm. " * 3000 + "How many ships are there?")[index] == 1.0


def test_a_huge_text_takes_no_time() -> None:
    start = time.perf_counter()
    text_features("The sea is calm and the ships are white. " * 100_000)
    assert time.perf_counter() - start < 1.0


def test_the_same_text_gives_the_same_features() -> None:
    np.testing.assert_array_equal(text_features("Sort 3, 1, 2."), text_features("Sort 3, 1, 2."))
