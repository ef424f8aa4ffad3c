"""What the engines of the local model have in common: their interface, and how a step's tokens reach its samples."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from kaelum_graph.errors import KaelumError, ModelError
from kaelum_graph.models.logit_shaping import shape_rows
from kaelum_graph.models.running_sample import RunningSample
from kaelum_graph.models.sampling import CANDIDATES, alternatives, draw, entropies, likeliest, own_logprobs


class Engine(Protocol):
    """Extends samples until they end. Thread-safe."""

    name: str

    @property
    def max_batch(self) -> int:
        """Sequences at a time; halved when memory ran out."""
        ...

    def submit(self, samples: Sequence[RunningSample]) -> None:
        """Take samples, in the order they are to start. Raises `ModelError` once closed."""
        ...

    def close(self) -> None:
        """Fail what is unfinished and end every thread. Idempotent."""
        ...


def draw_rows(samples: Sequence[RunningSample], scores: Tensor, states: Tensor | None = None) -> Tensor:
    """Draw `[B]` tokens from `scores` `[B, V]` and push each to its sample; one that has ended gets token 0.

    `states` `[B, H]` are what a layer held at each row's last token, for the samples that tell theirs.

    Rows of `scores` may be written to. Log-probabilities are those before a request's own changes to the logits. A
    sample whose text cannot be extended (a tokenizer that fails) ends with that error, alone.
    """
    live = [row for row, sample in enumerate(samples) if not sample.done]
    tokens = torch.zeros(len(samples), dtype=torch.long, device=scores.device)
    if not live:
        return tokens
    picked = [samples[row] for row in live]
    logits = scores if len(live) == len(samples) else scores[live]
    others = _alternatives(picked, logits)
    shaped, before = shape_rows(picked, logits)
    drawn = draw(
        logits,
        temperatures=[sample.sampling.temperature for sample in picked],
        top_ps=[sample.sampling.top_p for sample in picked],
        top_ks=[sample.sampling.top_k for sample in picked],
        numbers=[sample.number for sample in picked],
    )
    tokens[live] = drawn.tokens
    logprobs = drawn.logprobs
    if shaped:
        logprobs[shaped] = own_logprobs(before, drawn.tokens[shaped])
        drawn.entropies[shaped] = entropies(before, likeliest(before, CANDIDATES)[0])
    if states is not None:
        for row, sample in zip(live, picked, strict=True):
            sample.note(states[row])
    drawings = zip(picked, drawn.tokens.tolist(), logprobs.tolist(), drawn.entropies.tolist(), strict=True)
    for row, (sample, token, logprob, entropy) in enumerate(drawings):
        try:
            sample.push(token, logprob, others.get(row, ()), entropy=entropy)
        except KaelumError as error:
            sample.fail(error)
        except Exception as error:
            sample.fail(ModelError(f"The tokenizer could not decode token {token}: {first_line(error)}"))
    return tokens


def _alternatives(samples: Sequence[RunningSample], logits: Tensor) -> dict[int, Sequence[tuple[int, float]]]:
    """By row, the likeliest tokens with their log-probabilities, for the samples that tell them."""
    rows = [row for row, sample in enumerate(samples) if sample.sampling.top_logprobs]
    if not rows:
        return {}
    most = max(samples[row].sampling.top_logprobs for row in rows)
    found = alternatives(logits[rows], most)
    return {row: told[: samples[row].sampling.top_logprobs] for row, told in zip(rows, found, strict=True)}


def can_join(model: Any) -> bool:
    """True where the model's cache is plain keys and values in every layer, so that rows can be added and dropped."""
    if not getattr(model, "_supports_default_dynamic_cache", lambda: False)():
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def close_at_exit(engine: Engine) -> None:
    """Close `engine` when the interpreter ends, before it joins or kills threads.

    A thread killed inside the model aborts the process, and one that nobody closes would be joined for ever.
    """
    held = weakref.ref(engine)

    def close() -> None:
        if (left := held()) is not None:
            left.close()

    getattr(threading, "_register_atexit", atexit.register)(close)


def is_out_of_memory(error: BaseException) -> bool:
    """True for a device or an allocator that had no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    """The error's message up to its first line break."""
    return (str(error).splitlines() or [""])[0]
