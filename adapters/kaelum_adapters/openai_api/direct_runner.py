"""The plain model, as it is: no search, no graph, no tools of ours."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import (
    Ask,
    Called,
    Finished,
    FinishReason,
    Piece,
    Reply,
    RunEvent,
    Started,
    TokenLogprob,
    Usage,
)
from kaelum_flow.facade import Kaelum
from kaelum_graph.models.base import CancelToken, Delta, Generation, GenerationRequest, Sample, Sampling

DEFAULT_TOKENS = 2048
"""Most new tokens of a reply whose client names no bound."""
CUT = ("length", "deadline")
"""How samples end that might have gone on: their clients are told "length", which is what they know."""
PATIENCE_SECONDS = 5.0
"""After so long without a word a run counts as begun: the client of a stream then sees that something is under way."""


class DirectRunner:
    """A `Runner` over the policy model. Nothing of it is recorded, so nothing of it can be rated."""

    def __init__(self, kaelum: Kaelum) -> None:
        self._kaelum = kaelum

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """Text as it is generated. At the deadline that is all there will be; `TimeoutError` where there is none.

        `Started` waits a while for the first of it, so that a failure before that is an error of the whole request.
        """
        refuse_search_options(ask)
        seconds = ask.options.get("deadline")
        services = self._kaelum.services
        model = services.model  # loaded before any request is let in
        request = self._request(ask)
        fingerprint = await asyncio.to_thread(lambda: self._kaelum.state_version)
        loop = asyncio.get_running_loop()
        deltas = Deltas(loop)
        patience = loop.call_later(PATIENCE_SECONDS, deltas.wake)
        token = CancelToken()
        deadline = None if seconds is None else time.monotonic() + seconds
        work = asyncio.create_task(model.agenerate([request], deadline=deadline, cancel=token, on_delta=deltas.take))
        work.add_done_callback(lambda _: deltas.end())
        started = Started(
            id=uuid.uuid4().hex,
            created=int(time.time()),
            model=ask.model,
            system_fingerprint=fingerprint,
        )
        sent = [""] * ask.n
        begun = False
        try:
            async for batch in deltas:
                if not begun:
                    begun = True
                    patience.cancel()
                    yield started
                for delta in batch:
                    sent[delta.index] += delta.text
                    yield Piece(text=delta.text, index=delta.index)
            (generation,) = await work
            if generation.error is not None:
                raise generation.error
            if all(one.finish == "deadline" and not (one.text or one.calls) for one in generation.samples):
                raise TimeoutError("not a word came before the deadline")
            if not begun:
                yield started
            replies = tuple(reply_of(index, sample, ask) for index, sample in enumerate(generation.samples))
            for reply in replies:
                if reply.text.startswith(sent[reply.index]) and reply.text != sent[reply.index]:
                    yield Piece(text=reply.text[len(sent[reply.index]) :], index=reply.index)
                if reply.calls:
                    yield Called(calls=reply.calls, index=reply.index)
            yield Finished(id=started.id, replies=replies, usage=usage_of(generation), story={"model": model.name})
        finally:
            patience.cancel()
            token.cancel()
            if not work.done():
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work

    def _request(self, ask: Ask) -> GenerationRequest:
        settings = self._kaelum.settings
        return GenerationRequest(
            messages=ask.messages,
            n=ask.n,
            sampling=Sampling(
                temperature=settings.temperature if ask.temperature is None else ask.temperature,
                top_p=settings.top_p if ask.top_p is None else ask.top_p,
                top_k=ask.top_k or 0,
                max_tokens=ask.max_tokens or settings.max_tokens or DEFAULT_TOKENS,
                stop=ask.stop,
                seed=ask.seed,
                logprobs=ask.logprobs,
                top_logprobs=ask.top_logprobs,
                frequency_penalty=ask.frequency_penalty,
                presence_penalty=ask.presence_penalty,
                logit_bias=ask.logit_bias,
            ),
            tools=ask.tools,
            tool_choice=ask.tool_choice,
            shape=ask.shape,
        )


class Deltas:
    """Pieces of text from the model's threads, handed to the event loop: one wake-up for all that came meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Delta] = deque()
        self._awake = asyncio.Event()
        self._called = self._ended = self._asked = False

    def take(self, delta: Delta) -> None:
        """Called from any thread."""
        self._waiting.append(delta)
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever would read this
                self._loop.call_soon_threadsafe(self._awake.set)

    def end(self) -> None:
        """Nothing more will come. Called on the loop."""
        self._ended = True
        self._awake.set()

    def wake(self) -> None:
        """Have the reader come round once, though there be nothing for it. Called on the loop."""
        self._asked = True
        self._awake.set()

    async def __aiter__(self) -> AsyncGenerator[list[Delta]]:
        """What came meanwhile, again and again; nothing at all after a `wake`."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            # Before the queue is emptied: what is put in from here on calls anew.
            self._called = False
            ended, asked, self._asked = self._ended, self._asked, False
            taken: list[Delta] = []
            while self._waiting:
                taken.append(self._waiting.popleft())
            if joined := _joined(taken):
                yield joined
            elif asked and not ended:
                yield []
            if ended:
                return


def _joined(deltas: list[Delta]) -> list[Delta]:
    """One delta for each sample: what a slow reader has missed comes in one piece."""
    texts: dict[int, list[str]] = {}
    for delta in deltas:
        texts.setdefault(delta.index, []).append(delta.text)
    first = deltas[0].request_id if deltas else None
    return [
        Delta(request_id=first, index=index, text="".join(parts))
        for index, parts in texts.items()
        if first is not None and any(parts)
    ]


def refuse_search_options(ask: Ask) -> None:
    """Raise `ApiError` 400 for what only a search could honour."""
    if ask.effort not in (None, "none"):
        message = "reasoning_effort: kaelum-direct does not search; use kaelum, or 'none'."
        raise ApiError(400, message, param="reasoning_effort", code="unsupported_parameter")
    options = [key for key in ask.options if key != "deadline"]
    if options:
        param = f"kaelum.{options[0]}"
        raise ApiError(400, f"{param}: kaelum-direct does not search.", param=param, code="unsupported_parameter")


def reply_of(index: int, sample: Sample, ask: Ask) -> Reply:
    """A sample as a choice."""
    finish: FinishReason = "tool_calls" if sample.calls else "length" if sample.finish in CUT else "stop"
    return Reply(index=index, text=sample.text, finish=finish, calls=sample.calls, logprobs=logprobs_of(sample, ask))


def logprobs_of(sample: Sample, ask: Ask) -> tuple[TokenLogprob, ...] | None:
    """Its tokens' log-probabilities where they were asked for. Raises `ApiError` 400 where the model has none."""
    if not ask.logprobs or sample.calls:  # a call's tokens are none of the text's
        return None
    if sample.token_logprobs is None or sample.token_texts is None:
        raise ApiError(400, "logprobs: the model behind this server gives none.", param="logprobs")
    tops = sample.alternatives or ((),) * len(sample.token_logprobs)
    return tuple(
        TokenLogprob(token=text, logprob=logprob, top=top)
        for text, logprob, top in zip(sample.token_texts, sample.token_logprobs, tops, strict=True)
    )


def usage_of(generation: Generation) -> Usage:
    """All tokens are shown: none was thought with."""
    completion = sum(sample.completion_tokens for sample in generation.samples)
    return Usage(prompt_tokens=generation.prompt_tokens, completion_tokens=completion)
