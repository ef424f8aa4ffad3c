"""The frozen sentence encoder, all-MiniLM-L6-v2, with the text features beside its embedding."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kaelum_graph.text_features import text_features
from kaelum_graph.types import Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDING_SIZE = 384
HEAD_TOKENS = 250
"""MiniLM reads 256 tokens, its two marks among them, and drops the rest in silence."""
TAIL_TOKENS = 64
"""What is asked of a long text stands at its end. Over 1,000 words and one of two questions, the cosine between the two
was 0.997 with all windows averaged, 0.974 with as long a tail as the head and 0.955 with a tail of 64 tokens, and 0.991
between two wordings of one question."""
HEAD_CHARACTERS = 8_000
TAIL_CHARACTERS = 2_000
"""No more of a text is cut into tokens, so that a book costs no more than a page."""


class Encoder:
    """Thread-safe. The model is loaded from `folder` at first use, onto the CPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._loaded: SentenceTransformer | None = None

    def encode(self, texts: Sequence[str]) -> Array:
        """`[N, 384]` unit-norm float32. A text past the model's window is the mean of its head's and tail's embeddings.

        Its beginning alone would make all questions after the same long text the same.
        """
        if not texts:
            return np.zeros((0, EMBEDDING_SIZE), dtype=np.float32)
        with self._lock:
            model = self._model()
            parts = [self._parts(model, text) for text in texts]
            flat = [part for pair in parts for part in pair]
            vectors = model.encode(flat, normalize_embeddings=True, show_progress_bar=False)
        rows = np.split(np.asarray(vectors, dtype=np.float32), np.cumsum([len(pair) for pair in parts])[:-1])
        means = np.stack([row.mean(axis=0) for row in rows])
        return means / np.linalg.norm(means, axis=1, keepdims=True).clip(min=1e-12)

    def tokens_read(self, texts: Sequence[str]) -> list[tuple[int, bool]]:
        """For each text how many of its tokens `encode` reads, and whether those are all of them."""
        with self._lock:
            model = self._model()
            parts = [self._parts(model, text) for text in texts]
            return [(sum(len(_offsets(model, part)) for part in pair), len(pair) == 1) for pair in parts]

    def features(self, text: str) -> Array:
        """`[398]`: the embedding, then the 14 text features."""
        return np.concatenate([self.encode([text])[0], text_features(text)])

    def _model(self) -> SentenceTransformer:
        if self._loaded is None:
            from sentence_transformers import SentenceTransformer

            from kaelum_graph.models.local import quiet_loading

            with quiet_loading():
                self._loaded = SentenceTransformer(str(self.folder), device="cpu", local_files_only=True).eval()
        return self._loaded

    def _parts(self, model: SentenceTransformer, text: str) -> list[str]:
        """The text itself when the model can read it whole; else its head and its tail."""
        # Half of a surrogate pair, which JSON can carry, has no bytes: the tokenizer would fail on it.
        text = text.encode("utf-8", errors="replace").decode()
        if len(text) <= HEAD_TOKENS:
            return [text]
        head, tail = text[:HEAD_CHARACTERS], text[-TAIL_CHARACTERS:]
        ends = _offsets(model, head)
        if len(ends) <= HEAD_TOKENS and len(text) <= HEAD_CHARACTERS:
            return [text]
        starts = _offsets(model, tail)
        return [
            head[: ends[HEAD_TOKENS - 1][1]] if len(ends) >= HEAD_TOKENS else head,
            tail[starts[-TAIL_TOKENS][0] :] if len(starts) >= TAIL_TOKENS else tail,
        ]


def _offsets(model: SentenceTransformer, text: str) -> list[tuple[int, int]]:
    """Where each of the model's tokens begins and ends in `text`."""
    return model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
