"""The encoder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph.encoder import Encoder
from kaelum_graph.text_features import text_features


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


def test_the_end_of_a_long_text_counts_as_its_beginning_does(encoder: Encoder) -> None:
    story = "The ship left the harbour at dawn and met a storm. " * 60
    captain, cargo, again, front, front_cargo = encoder.encode(
        [
            story + "Who was the captain?",
            story + "How much did the cargo cost?",
            story + "Please: who was the captain?",
            "Who was the captain? " + story,
            "How much did the cargo cost? " + story,
        ]
    )
    assert captain @ again > captain @ cargo + 0.01
    assert captain @ cargo < 0.99
    assert front @ front_cargo < 0.999


def test_a_long_text_without_spaces_is_read_at_both_ends(encoder: Encoder) -> None:
    middle = "abcdefgh" * 500
    one, other = encoder.encode(["1111" + middle + "2222", "1111" + middle + "the cat sat on the mat"])
    assert one @ other < 0.99


def test_a_text_of_exactly_the_window_is_read_once(encoder: Encoder) -> None:
    assert len(encoder._parts(encoder._model(), "cat " * 250)) == 1
    head, tail = encoder._parts(encoder._model(), "cat " * 251 + "dog")
    assert (len(head.split()), len(tail.split()), tail.split()[-1]) == (250, 64, "dog")


@pytest.mark.parametrize("text", ["", "\ud83d alone", "\x00", "é" * 300, "word " * 300_000])
def test_any_text_has_an_embedding(encoder: Encoder, text: str) -> None:
    (vector,) = encoder.encode([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_threads_share_one_encoder(encoder_folder: Path) -> None:
    encoder = Encoder(encoder_folder)
    texts = [f"What is {number} plus {number}? " * (1 + 40 * (number % 2)) for number in range(4)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        vectors = list(pool.map(encoder.encode, [[text] for text in texts]))
    np.testing.assert_allclose(np.concatenate(vectors), encoder.encode(texts), atol=1e-5)


def test_nothing_is_printed(encoder_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Encoder(encoder_folder).encode(["a cat"])
    assert capfd.readouterr() == ("", "")


def test_features_are_embedding_and_text_features(encoder: Encoder) -> None:
    features = encoder.features("What is 2 + 2?")
    assert features.shape == (398,)
    np.testing.assert_array_equal(features[384:], text_features("What is 2 + 2?"))
