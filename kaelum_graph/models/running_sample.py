"""One sample on its way: its prompt, the tokens so far, and when it ends. Engines push tokens; callers wait."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kaelum_graph.errors import KaelumError, ModelError
from kaelum_graph.models.base import Delta, Finish, HiddenState, Sample, Sampling
from kaelum_graph.models.call_reader import CallReader
from kaelum_graph.models.detokenizer import Detokenizer
from kaelum_graph.models.logit_shaping import LogitShaper
from kaelum_graph.types import RequestId


@dataclass(frozen=True, slots=True)
class Wake:
    """Tells a waiting call that one of its sequences ended."""


class Mailbox:
    """What a caller waits on: new text of its sequences, and word of each that ended."""

    def __init__(self, *, streaming: bool) -> None:
        self.streaming = streaming
        self._queue: SimpleQueue[Delta | Wake] = SimpleQueue()

    def put(self, item: Delta | Wake) -> None:
        """Leave an item; never blocks."""
        self._queue.put(item)

    def get(self, timeout: float) -> Delta | Wake | None:
        """The next item, or None after `timeout` seconds."""
        try:
            return self._queue.get(timeout=max(0.0, timeout))
        except Empty:
            return None


class RunningSample:
    """Sample `index` of a request, shared by the engine that extends it and the caller that waits for it.

    `prompt` are its prompt tokens; `tokens` those drawn so far, the end-of-sequence token left out; `max_tokens` is
    already clipped to what the context window leaves. `shaper` changes its logits, and may end it; `reader` makes what
    takes tool calls out of its text. Whoever ends it first wins: an engine with a stop or the
    length, the caller with a cancellation or a deadline. After that, pushes do nothing.
    """

    def __init__(
        self,
        *,
        request_id: RequestId,
        index: int,
        prompt: list[int],
        max_tokens: int,
        sampling: Sampling,
        eos_ids: frozenset[int],
        numbers: NDArray[np.float64],
        detokenizer: Detokenizer,
        mailbox: Mailbox,
        shaper: LogitShaper | None = None,
        reader: Callable[[], CallReader | None] = lambda: None,
        insight: bool = False,
        on_end: Callable[[str | None], None] | None = None,
    ) -> None:
        self.request_id = request_id
        self.index = index
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.tokens: list[int] = []
        self.out_of_memory = 0
        self.error: KaelumError | None = None
        self.finish: Finish | None = None
        self.shaper = shaper
        self._logprobs: list[float] = []
        self._insight = insight
        self._on_end = on_end
        self._entropies: list[float] = []
        self._states: dict[int, Tensor] = {}
        self._alternatives: list[Sequence[tuple[int, float]]] = []
        self._eos_ids = eos_ids
        self._numbers = numbers
        self._detokenizer = detokenizer
        self._mailbox = mailbox
        self._reader = reader
        self._streamed = reader()
        self._lock = threading.Lock()

    @property
    def done(self) -> bool:
        """True once it has ended, in whatever way."""
        return self.finish is not None or self.error is not None

    @property
    def number(self) -> float:
        """The uniform number in [0, 1) that its next token is drawn with."""
        return float(self._numbers[len(self.tokens)])

    @property
    def ids(self) -> list[int]:
        """Prompt and tokens so far: what a model must have read before the next token."""
        return self.prompt + self.tokens

    def note(self, state: Tensor) -> None:
        """Take what a layer held `[H]` at the last token. Kept are the newest and those at the ends of lines."""
        if not self._insight or not self.tokens:
            return
        with self._lock:
            last = len(self.tokens) - 1
            if last and "\n" not in self._detokenizer.token_texts[last - 1]:
                self._states.pop(last - 1, None)
            self._states[last] = state.half().cpu()

    def push(
        self, token: int, logprob: float, alternatives: Sequence[tuple[int, float]] = (), *, entropy: float = math.nan
    ) -> None:
        """Take the next token, its natural log-probability and the likeliest tokens with theirs; may end the sample.

        `entropy`, in nats, is that of the distribution that it was drawn from. Raises `ModelError` where its grammar
        does not allow the token.
        """
        with self._lock:
            if self.done:
                return
            if math.isnan(logprob):
                self._end(error=ModelError("The model produced logits that are not finite; its weights may be broken."))
                return
            if token in self._eos_ids:
                self._end(finish="stop")
                return
            if self.shaper is not None:
                self.shaper.take(token)
            self.tokens.append(token)
            self._logprobs.append(logprob)
            self._entropies.append(entropy)
            self._alternatives.append(alternatives)
            self._detokenizer.push(token)
            if self._detokenizer.stopped or (self.shaper is not None and self.shaper.ended):
                self._end(finish="stop")
            elif len(self.tokens) >= self.max_tokens:
                self._end(finish="length")
            else:
                self._emit()
                if self._streamed is not None and self._streamed.repeats:
                    self._end(finish="stop")  # a weak model would go on for ever

    def stop(self, finish: Finish) -> None:
        """End it with what it has."""
        with self._lock:
            if not self.done:
                self._end(finish=finish)

    def fail(self, error: KaelumError) -> None:
        """End it with an error."""
        with self._lock:
            if not self.done:
                self._end(error=error)

    def sample(self) -> Sample:
        """The sample as it stands. Log-probabilities cover the tokens of its text."""
        with self._lock:
            texts = tuple(self._detokenizer.token_texts)
            text, calls = self._detokenizer.text, ()
            if (reader := self._reader()) is not None:
                text = reader.feed(text) + reader.flush()
                calls = reader.calls
            return Sample(
                text=text,
                finish=self.finish or "cancelled",
                completion_tokens=len(self.tokens),
                token_logprobs=tuple(self._logprobs[: len(texts)]) if self.sampling.logprobs else None,
                token_texts=texts if self.sampling.logprobs else None,
                stopped_by=self._stopped_by,
                calls=calls,
                alternatives=self._told(len(texts)) if self.sampling.top_logprobs else None,
                token_entropies=tuple(self._entropies[: len(texts)]) if self._insight else None,
                states=self._kept_states(len(texts)) if self._insight else None,
            )

    @property
    def _stopped_by(self) -> str | None:
        if self._detokenizer.stopped:
            return self._detokenizer.stopped_by
        return "" if self.finish == "stop" else None

    def _kept_states(self, count: int) -> tuple[HiddenState, ...] | None:
        """The states at the first `count` tokens; None where the engine gave none."""
        kept = [HiddenState(at, state.numpy()) for at, state in sorted(self._states.items()) if at < count]
        return tuple(kept) or None

    def _told(self, count: int) -> tuple[tuple[tuple[str, float], ...], ...]:
        """The alternatives of the first `count` tokens."""
        spell = self._detokenizer.spell
        return tuple(tuple((spell(token), value) for token, value in row) for row in self._alternatives[:count])

    def _end(self, *, finish: Finish | None = None, error: KaelumError | None = None) -> None:
        self._emit(final=True)
        self.finish, self.error = finish, error
        self._mailbox.put(Wake())
        if self._on_end is not None:
            self._on_end(self._stopped_by)

    def _emit(self, *, final: bool = False) -> None:
        if self._mailbox.streaming or self._streamed is not None:
            text = self._detokenizer.take(final=final)
            if self._streamed is not None:
                text = self._streamed.feed(text) + (self._streamed.flush() if final else "")
            if text and self._mailbox.streaming:
                self._mailbox.put(Delta(request_id=self.request_id, index=self.index, text=text))


def unfinished(samples: Sequence[RunningSample]) -> list[RunningSample]:
    """Those that have not ended."""
    return [sample for sample in samples if not sample.done]
