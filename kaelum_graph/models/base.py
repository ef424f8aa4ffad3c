"""What a policy model is: many requests in one call, n samples each, each request failing alone."""

from __future__ import annotations

import asyncio
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.errors import KaelumError
from kaelum_graph.types import Message, RequestId, Shape, Tool, ToolCall, ToolChoice

Finish = Literal["stop", "length", "cancelled", "deadline"]


@dataclass(frozen=True, slots=True)
class HiddenState:
    """What a layer two thirds up the model held once it had read token `position` of a sample (counted from 0)."""

    position: int
    values: NDArray[np.float16]  # [hidden size]


def new_request_id() -> RequestId:
    """A fresh random request id."""
    return RequestId(uuid.uuid4().hex)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens. `temperature` 0 is greedy; `top_k` 0 is off; `stop` strings are cut from the text.

    With a `seed`, sample i of a request draws from a generator seeded by (seed, i), whatever shares its batch.
    Penalties are those of the OpenAI API: taken from a token's logit for each time it was generated (frequency) or once
    it was (presence), in [-2, 2]. `logit_bias` adds to the logits of token ids. `top_logprobs` most likely tokens are
    told at each position.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = True
    top_logprobs: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """`n` samples that answer `messages`, each continuing the assistant turn begun by `partial_answer`.

    `tools` are shown to the model in its own chat format, and what it calls is in `Sample.calls`; under a `tool_choice`
    of "required", or of a name, every sample calls. `shape` holds every sample to a form, token by token; beside tools
    that may be called, a sample has the form or calls. A partial answer cannot go with a shape, and must not hold the
    beginning of a call. With `insight` samples tell their entropies and hidden states, where the backend has them.
    `on_end` is called once for each sample that ended, with its `stopped_by`, at once and from any thread, by backends
    that can tell (a local model); it must neither raise nor block.
    """

    messages: tuple[Message, ...]
    partial_answer: str = ""
    n: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    shape: Shape | None = None
    insight: bool = False
    on_end: Callable[[str | None], None] | None = field(default=None, compare=False)
    request_id: RequestId = field(default_factory=new_request_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One continuation.

    `text` is new text only: neither the partial answer nor the stop string. `token_logprobs` are natural logarithms
    under the model's own distribution (before temperature and top-p), one per generated token (the end-of-sequence
    token left out), or None where the backend has none; `token_texts` goes with it, one string per token.
    `stopped_by` is the stop string that ended it, "" where the model ended its turn, None where that isn't known.
    `calls` are the tool calls it made, taken out of `text`; the tokens of a local model's calls are among those listed.
    A call that is of none of the offered tools, or was cut short with none before it, stays in `text`. `alternatives`
    has, for each token, the most likely tokens with their log-probabilities, likeliest first; None where none were
    asked for or the backend has none. `token_entropies`, in nats, one per token, are those of the distributions that
    the tokens were drawn from, before temperature and top-p; `states` the hidden states at the ends of lines and the
    last one before the end. None where no insight was asked for or the backend gives none.
    """

    text: str
    finish: Finish
    completion_tokens: int
    token_logprobs: tuple[float, ...] | None = None
    token_texts: tuple[str, ...] | None = None
    stopped_by: str | None = None
    calls: tuple[ToolCall, ...] = ()
    alternatives: tuple[tuple[tuple[str, float], ...], ...] | None = None
    token_entropies: tuple[float, ...] | None = None
    states: tuple[HiddenState, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The outcome of one request: its samples, or the error that befell it alone."""

    request_id: RequestId
    samples: tuple[Sample, ...] = ()
    prompt_tokens: int = 0
    error: KaelumError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """New text of one sample while it is being generated."""

    request_id: RequestId
    index: int
    text: str


OnDelta: TypeAlias = Callable[[Delta], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend does natively. Callers may use every feature; what is missing is emulated or left None.

    `context_tokens` is None where the backend does not say. `continuation` False means that a partial answer is
    passed on as text in the prompt, not as a true prefix. `tools` and `shapes` False mean that requests with tools, or
    with a shape, meet a `UsageError`. `exact_counts` means that `count_tokens` never estimates.
    """

    context_tokens: int | None
    multiple_samples: bool
    logprobs: bool
    continuation: bool
    seed: bool
    tools: bool = False
    shapes: bool = False
    exact_counts: bool = False


class CancelToken:
    """Set once, from any thread; generation stops at the next token and keeps what it has.

    One of other tokens is also set when one of those is, but not the other way round.
    """

    def __init__(self, *others: CancelToken | None) -> None:
        self._event, self._others = threading.Event(), [other for other in others if other is not None]

    def cancel(self) -> None:
        """Ask whoever holds this token to stop. Idempotent."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._event.is_set() or any(other.cancelled for other in self._others)


class PolicyModel(ABC):
    """A language model that proposes reasoning. Thread-safe: concurrent calls may share batches."""

    name: str

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend does natively, as far as it is known now."""

    @property
    def max_batch(self) -> int | None:
        """Sequences that it generates at a time, more wait in its queue; None where the backend does not say."""
        return None

    @abstractmethod
    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        """One `Generation` per request, in order. Blocks.

        `deadline` is a `time.monotonic()` instant; at it, or at cancellation, each sample is returned as far as it
        got (`finish` says so). A request's own failure (context overflow, bad parameters, a server's 400) is its
        `Generation.error` and leaves the others alone; only the loss of the whole backend raises (`ModelError`).
        `on_delta` is called from any thread, in order per sample; an exception it raises must not harm generation.
        """

    @abstractmethod
    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Prompt tokens of `messages` with the chat template; an estimate where the backend has no tokenizer."""

    async def agenerate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        """`generate` off the event loop; cancelling the task cancels the generation."""
        token = cancel or CancelToken()
        try:
            return await asyncio.to_thread(self.generate, requests, deadline=deadline, cancel=token, on_delta=on_delta)
        except asyncio.CancelledError:
            token.cancel()
            raise

    def close(self) -> None:
        """Free threads, connections and memory. Idempotent; a closed model raises `ModelError` when used."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
