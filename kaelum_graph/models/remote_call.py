"""One `generate` call on a remote model: how long it may last, where its text goes, and what each request came to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from kaelum_graph.errors import KaelumError, UpstreamError
from kaelum_graph.models.base import CancelToken, Delta, Finish, Generation, GenerationRequest, OnDelta
from kaelum_graph.models.remote_sample import RemoteSample, estimate_request_tokens, plausible_prompt_tokens

Result = TypeVar("Result")

POLL_SECONDS = 0.02
CLOSING_SECONDS = 2.0

log = logging.getLogger(__name__)


class Call:
    """What the requests of one call share.

    New text is handed to `on_delta` in the caller's own thread, which waits anyway: a callback that is slow, or that
    asks the model something, holds up nobody else's requests.
    """

    def __init__(self, *, deadline: float | None, cancel: CancelToken | None, on_delta: OnDelta | None) -> None:
        self._deadline = deadline
        self._cancel = cancel
        self._on_delta = on_delta
        self._deltas: SimpleQueue[Delta | None] = SimpleQueue()
        self.reached = False
        """True once the backend answered any request of this call."""
        self.lost: KaelumError | None = None
        """Why no request gets through, as soon as one met that."""

    def halted(self) -> Finish | None:
        """Why the call must end now; None while it may go on."""
        if self._cancel is not None and self._cancel.cancelled:
            return "cancelled"
        left = self.seconds_left()
        return "deadline" if left is not None and left <= 0 else None

    def seconds_left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def emit(self, request: GenerationRequest, index: int, text: str) -> None:
        """Queue new text of a sample for the caller."""
        if text and self._on_delta is not None:
            self._deltas.put(Delta(request_id=request.request_id, index=index, text=text))

    def wait(self, future: Future[Result]) -> Result:
        """The future's result; meanwhile the caller's callback gets the text. Cancels the future when interrupted."""
        try:
            if self._on_delta is not None:
                future.add_done_callback(lambda _: self._deltas.put(None))
                while (delta := self._deltas.get()) is not None:
                    self._deliver(delta)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _deliver(self, delta: Delta) -> None:
        assert self._on_delta is not None
        try:
            self._on_delta(delta)
        except Exception:
            log.exception("on_delta failed; the generation goes on")


class Outcome:
    """What one request has come to so far."""

    def __init__(self, request: GenerationRequest, call: Call) -> None:
        self.request = request
        self.samples = [RemoteSample(request) for _ in range(max(request.n, 1))]
        self.claimed_prompt_tokens: object = None
        self._call = call
        self._failures: dict[int, KaelumError] = {}
        self._error: KaelumError | None = None
        self.lost = False

    def use_draft(self, draft: str) -> None:
        """From now on the samples answer to a draft given as text, which they may repeat."""
        self.samples = [RemoteSample(self.request, draft=draft) for _ in self.samples]

    def restart(self, indexes: Sequence[int], *, draft: str = "") -> None:
        """Forget what little came of these samples, before they are asked for again."""
        for index in indexes:
            self.samples[index] = RemoteSample(self.request, draft=draft)

    def emit(self, index: int, text: str) -> None:
        """Pass new text of a sample on to the caller."""
        self._call.emit(self.request, index, text)

    def missing(self) -> list[int]:
        """Samples of which nothing was heard, neither text nor failure."""
        return [
            index
            for index, sample in enumerate(self.samples)
            if not (sample.begun or sample.done or index in self._failures)
        ]

    def fail(self, error: KaelumError, indexes: Sequence[int] | None = None, *, lost: bool = False) -> None:
        """Samples at `indexes` that are not done have failed; without indexes, the whole request has."""
        if indexes is None:
            self._error = error
        for index in indexes or ():
            if not self.samples[index].done:
                self._failures[index] = error
        if lost:
            self.lost = True
            self._call.lost = self._call.lost or error

    def failure(self, index: int) -> KaelumError | None:
        """Why a sample failed."""
        return self._failures.get(index, self._error)

    def generation(self, halt: Finish | None) -> Generation:
        """Its samples, those still running cut short for the reason `halt`; or the error if not one got through."""
        request = self.request
        if self._error is not None:
            return Generation(request_id=request.request_id, error=self._error)
        finished: list[RemoteSample] = []
        for index, sample in enumerate(self.samples):
            if index in self._failures:
                continue
            if not sample.done:
                self.emit(index, sample.halt(halt or "cancelled"))
            if sample.problem:
                self._failures[index] = UpstreamError(f"The model did not do as it was asked: {sample.problem}.")
                continue
            finished.append(sample)
        failures = list(self._failures.values())
        if not finished:
            error = failures[0] if failures else UpstreamError("the server answered without a sample")
            return Generation(request_id=request.request_id, error=error)
        if failures:
            why = failures[0].without_quotation
            log.warning("%d of %d samples were lost: %s", len(failures), len(self.samples), why)
        answered = self._call.reached or any(sample.begun for sample in finished)
        return Generation(
            request_id=request.request_id,
            samples=tuple(sample.sample() for sample in finished),
            prompt_tokens=plausible_prompt_tokens(self.claimed_prompt_tokens, estimate_request_tokens(request))
            if answered
            else 0,
        )


async def run_call(call: Call, work: Sequence[Coroutine[Any, Any, None]]) -> Finish | None:
    """Run the requests of a call side by side until all are done or the call must end; the reason if it must.

    What still runs is then cancelled, which closes each request's connection: that is how a server learns to stop.
    """
    halt = call.halted()
    if halt is not None:
        for coroutine in work:
            coroutine.close()
        return halt
    together = asyncio.gather(*work)
    together.add_done_callback(_note_cancellation)
    try:
        while not together.done() and halt is None:
            await asyncio.wait({together}, timeout=min(POLL_SECONDS, call.seconds_left() or POLL_SECONDS))
            halt = call.halted()
    finally:
        if not together.done():
            together.cancel()
            await asyncio.wait({together}, timeout=CLOSING_SECONDS)
    if halt is None:
        together.result()
    return halt


def _note_cancellation(together: asyncio.Future[Any]) -> None:
    """A cancelled gathering holds its cancellation as an exception, which asyncio reports unless it is looked at."""
    if not together.cancelled():
        together.exception()


def conclude(outcomes: Sequence[Outcome], halt: Finish | None) -> list[Generation]:
    """One generation per outcome, in order. Raises the error that lost the backend if nothing got through for it."""
    lost = [outcome for outcome in outcomes if outcome.lost]
    generations = [outcome.generation(halt) for outcome in outcomes]
    if lost and not any(generation.samples for generation in generations):
        error = next(
            generation.error for outcome, generation in zip(outcomes, generations, strict=True) if outcome.lost
        )
        if error is not None:
            raise error
    return generations
