"""A policy model that remembers what it drew, so that contenders share draws and an interrupted run goes on.

Two requests that ask for the same thing with the same seed get the same samples, whoever asks: methods that are
compared differ by what they do with samples, not by luck, and nothing is generated twice.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kaelum_graph.models.base import (
    CancelToken,
    Capabilities,
    Generation,
    GenerationRequest,
    OnDelta,
    PolicyModel,
    Sample,
    Sampling,
)
from kaelum_graph.types import Message

SAMPLING_FIELDS = ("temperature", "top_p", "top_k", "max_tokens", "stop", "seed", "logprobs")


class RecordedModel(PolicyModel):
    """`load` makes the model behind it, at the first request that isn't on record. `path` is a gzipped JSONL file."""

    def __init__(self, path: Path, *, name: str, load: Callable[[], PolicyModel]) -> None:
        self.name = name
        self.generated_tokens = 0
        self._path, self._load = path, load
        self._model: PolicyModel | None = None
        self._known: dict[str, tuple[int, list[Sample]]] = {}
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._key_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        if path.exists():
            for key, prompt_tokens, samples in _records(path):
                known = self._known.setdefault(key, (prompt_tokens, []))
                known[1].extend(samples)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the local model."""
        return Capabilities(context_tokens=None, multiple_samples=True, logprobs=True, continuation=True, seed=True)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        """What is on record, and what is missing of it freshly drawn."""
        keys = [self._key(request) for request in requests]
        with ExitStack() as held:
            # Equal requests of two threads would both be drawn; in one order, so that no two wait for each other.
            for key in sorted(set(keys)):
                held.enter_context(self._key_locks[key])
            return self._generate(keys, requests, deadline=deadline, cancel=cancel)

    def _generate(
        self,
        keys: Sequence[str],
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None,
        cancel: CancelToken | None,
    ) -> list[Generation]:
        with self._lock:
            have = [len(self._known.get(key, (0, []))[1]) for key in keys]
        missing = [
            (key, _further(request, known))
            for key, request, known in zip(keys, requests, have, strict=True)
            if known < request.n
        ]
        failures: dict[str, Generation] = {}
        if missing:
            drawn = self._opened().generate([request for _, request in missing], deadline=deadline, cancel=cancel)
            for (key, _), generation in zip(missing, drawn, strict=True):
                if generation.error is not None:
                    failures[key] = generation
                else:
                    self._keep(key, generation)
        return [
            failures[key] if key in failures else self._recorded(key, request)
            for key, request in zip(keys, requests, strict=True)
        ]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """An estimate: the record must do without its model."""
        return sum(len(message.content) for message in messages) // 3

    def close(self) -> None:
        """Close the model behind, if it was ever needed."""
        if self._model is not None:
            self._model.close()

    def _opened(self) -> PolicyModel:
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _key(self, request: GenerationRequest) -> str:
        # What a request leaves at its default stays out of the key, so that a record outlives new fields.
        turns = [_told(message, Message("user", ""), always=("role", "content")) for message in request.messages]
        sampling = _told(request.sampling, Sampling(), always=SAMPLING_FIELDS)
        asked: list[object] = [self.name, turns, request.partial_answer, sampling]
        # Insight costs nothing and changes no sample.
        rest = replace(request, messages=(), partial_answer="", sampling=Sampling(), n=1, insight=False)
        if more := _told(rest, GenerationRequest(messages=(), request_id=rest.request_id), always=()):
            asked.append(more)
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]

    def _recorded(self, key: str, request: GenerationRequest) -> Generation:
        with self._lock:
            prompt_tokens, samples = self._known[key]
            return Generation(
                request_id=request.request_id, samples=tuple(samples[: request.n]), prompt_tokens=prompt_tokens
            )

    def _keep(self, key: str, generation: Generation) -> None:
        line = [key, generation.prompt_tokens, [_sample_json(sample) for sample in generation.samples]]
        with self._lock:
            known = self._known.setdefault(key, (generation.prompt_tokens, []))
            known[1].extend(generation.samples)
            self.generated_tokens += sum(sample.completion_tokens for sample in generation.samples)
            with gzip.open(self._path, "at", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def _further(request: GenerationRequest, known: int) -> GenerationRequest:
    """The request for the samples after the first `known`; their seed is another, so none is drawn again."""
    if not known:
        return request
    seed = None if request.sampling.seed is None else request.sampling.seed * 1009 + known
    return replace(request, n=request.n - known, sampling=replace(request.sampling, seed=seed))


def _records(path: Path) -> list[tuple[str, int, list[Sample]]]:
    """What the file holds; a run that was killed may have left its last member unfinished."""
    found: list[tuple[str, int, list[Sample]]] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                key, prompt_tokens, samples = json.loads(line)
                found.append((key, prompt_tokens, [_sample(item) for item in samples]))
    except (EOFError, ValueError):
        good = path.with_suffix(".good")
        with gzip.open(good, "wt", encoding="utf-8") as file:
            for key, prompt_tokens, samples in found:
                file.write(json.dumps([key, prompt_tokens, [_sample_json(sample) for sample in samples]]) + "\n")
        good.replace(path)
    return found


def _sample_json(sample: Sample) -> list[object]:
    logprobs = None if sample.token_logprobs is None else [round(value, 4) for value in sample.token_logprobs]
    return [sample.text, sample.finish, sample.completion_tokens, logprobs, sample.token_texts, sample.stopped_by]


def _sample(item: list[object]) -> Sample:
    text, finish, tokens, logprobs, texts, stopped_by = [*item, None][:6]
    return Sample(
        text=text,  # pyright: ignore[reportArgumentType]
        finish=finish,  # pyright: ignore[reportArgumentType]
        completion_tokens=tokens,  # pyright: ignore[reportArgumentType]
        token_logprobs=None if logprobs is None else tuple(logprobs),  # pyright: ignore[reportArgumentType]
        token_texts=None if texts is None else tuple(texts),  # pyright: ignore[reportArgumentType]
        stopped_by=stopped_by,  # pyright: ignore[reportArgumentType]
    )


def _told(value: Any, plain: Any, *, always: Collection[str]) -> dict[str, Any]:
    """The fields of a dataclass that differ from those of `plain`, and those in `always`."""
    usual = asdict(plain)
    return {key: item for key, item in asdict(value).items() if key in always or item != usual[key]}
