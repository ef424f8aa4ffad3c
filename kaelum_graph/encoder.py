"""The frozen sentence encoder, all-MiniLM-L6-v2, with the text features beside its embedding."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kaelum_graph.text_features import text_features
from kaelum_graph.types import Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDING_SIZE = 384
WINDOW_WORDS = 160
"""MiniLM reads 256 tokens and drops the rest in silence; so many words of ordinary text fit."""


class Encoder:
    """Thread-safe. The model is loaded from `folder` at first use, onto the CPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    @cached_property
    def _model(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        from kaelum_graph.models.local import quiet_loading

        with quiet_loading():
            return SentenceTransformer(str(self.folder), device="cpu", local_files_only=True)

    def encode(self, texts: Sequence[str]) -> Array:
        """`[N, 384]` unit-norm float32. A text longer than the model's window is the mean over its windows.

        Its beginning alone would make all questions after the same long text the same.
        """
        windows = [windows_of(text) for text in texts]
        flat = [window for group in windows for window in group]
        if not flat:
            return np.zeros((0, EMBEDDING_SIZE), dtype=np.float32)
        with self._lock:
            vectors = self._model.encode(flat, normalize_embeddings=True, show_progress_bar=False)
        rows = np.split(np.asarray(vectors, dtype=np.float32), np.cumsum([len(group) for group in windows])[:-1])
        means = np.stack([row.mean(axis=0) for row in rows])
        return means / np.linalg.norm(means, axis=1, keepdims=True).clip(min=1e-12)

    def features(self, text: str) -> Array:
        """`[398]`: the embedding, then the 14 text features."""
        return np.concatenate([self.encode([text])[0], text_features(text)])


def windows_of(text: str, *, words: int = WINDOW_WORDS, most: int = 8) -> list[str]:
    """`text` in windows of at most `words` words; of a very long one the first and last windows."""
    tokens = text.split()
    if len(tokens) <= words:
        return [text]
    windows = [" ".join(tokens[start : start + words]) for start in range(0, len(tokens), words)]
    return windows if len(windows) <= most else [*windows[: most // 2], *windows[-(most // 2) :]]
