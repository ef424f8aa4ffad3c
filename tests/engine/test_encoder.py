"""The encoder and the text features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.encoder import Encoder, windows_of
from kaelum_graph.text_features import FEATURE_NAMES, text_features


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder(encoder_folder)


def test_embeddings_have_unit_norm_and_keep_their_order(encoder: Encoder) -> None:
    vectors = encoder.encode(["a cat", "the stock market", "a kitten"])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1] + 0.2
    assert encoder.encode([]).shape == (0, 384)


def test_two_questions_after_the_same_long_text_differ(encoder: Encoder) -> None:
    story = "The ship left the harbour at dawn and met a storm. " * 60
    one, other = encoder.encode([story + "Who was the captain?", story + "How much did the cargo cost?"])
    assert one @ other < 0.9999


def test_features_are_embedding_and_text_features(encoder: Encoder) -> None:
    features = encoder.features("What is 2 + 2?")
    assert features.shape == (398,)
    np.testing.assert_array_equal(features[384:], text_features("What is 2 + 2?"))


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


def test_windows_cover_a_text_from_both_ends() -> None:
    words = [str(number) for number in range(5000)]
    windows = windows_of(" ".join(words), words=100, most=8)
    assert len(windows) == 8
    assert windows[0].split()[0] == "0"
    assert windows[-1].split()[-1] == "4999"
    assert windows_of("short text") == ["short text"]
