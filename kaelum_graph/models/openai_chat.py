"""Asking one OpenAI-compatible server: each request until it is answered, refused for good, or out of time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import openai

from kaelum_graph.errors import UpstreamError
from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.models.continuation import PROBE_MAX_TOKENS, PROBE_MESSAGES, probe_continues
from kaelum_graph.models.feature_detection import PROMISES, ContinuationMode, ServerFeatures
from kaelum_graph.models.openai_discovery import Discovery, ListedModel
from kaelum_graph.models.openai_request import CONTINUATION_FLAGS, request_body, sent_parameters
from kaelum_graph.models.openai_wire import Event, Usage, WrongShape, read_answer
from kaelum_graph.models.remote_call import Call, Outcome
from kaelum_graph.models.remote_sample import RemoteSample, estimate_request_tokens
from kaelum_graph.models.request_check import check_request
from kaelum_graph.models.upstream_errors import Failure, RefusedRequest, Server, read_failure
from kaelum_graph.types import Json

LINGER_SECONDS = 1.0
"""How long the end of a stream is waited for once every sample has ended: it brings the usage."""

MAX_LISTED_MODELS = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that one HTTP request may take, that it may pause between two pieces, and before a retry; and retries."""

    timeout_seconds: float
    stall_seconds: float
    backoff_seconds: float
    max_retries: int


class ChatEndpoint:
    """The chat completions of one server for one model. Lives on one event loop."""

    def __init__(
        self, client: openai.AsyncOpenAI, server: Server, discovery: Discovery, *, slots: int, patience: Patience
    ) -> None:
        self.features = ServerFeatures()
        self.server = server
        self._client = client
        self._discovery = discovery
        self._patience = patience
        self._slots = asyncio.Semaphore(slots)
        self._listed: list[ListedModel] | None = None
        self._listing = asyncio.Lock()
        self._probing = asyncio.Lock()
        self._warned_of: set[str] = set()

    async def serve(self, outcome: Outcome, call: Call) -> None:
        """Fill the outcome with samples or failures. Raises nothing but cancellation."""
        try:
            await self._serve(outcome, call)
        except Exception as error:  # a server's answer must never take the other requests down
            failure = self.failure(error)
            outcome.fail(failure.error)

    async def _serve(self, outcome: Outcome, call: Call) -> None:
        request = outcome.request
        check_request(request)
        mode: ContinuationMode = "text"
        if request.partial_answer:
            mode = await self._continuation(call)
            if mode == "text":
                outcome.use_draft(request.partial_answer)
        sampling = request.sampling
        # With a seed each sample is asked for on its own, so that sample i draws the same however many are asked for;
        # servers refuse several greedy ones.
        together = request.n > 1 and sampling.seed is None and sampling.temperature > 0
        if together and self.features.accepts("n"):
            await self._ask(outcome, range(request.n), call, mode)
            if outcome.missing():
                self.features.refuse("n")
        await asyncio.gather(*(self._ask(outcome, [index], call, mode) for index in outcome.missing()))

    async def _ask(self, outcome: Outcome, indexes: Sequence[int], call: Call, mode: ContinuationMode) -> None:
        """Ask for the samples at `indexes` in one HTTP request, again where that helps. Failures go to the outcome."""
        request, draft = outcome.request, outcome.request.partial_answer if mode == "text" else ""
        max_tokens, retries, cuts = request.sampling.max_tokens, 0, 0
        while True:
            if call.lost is not None and not call.reached:
                outcome.fail(call.lost, indexes, lost=True)
                return
            body = request_body(
                request,
                model=self.server.model,
                features=self.features,
                mode=mode,
                samples=len(indexes),
                first_index=indexes[0],
                max_tokens=max_tokens,
            )
            sent = sent_parameters(body)
            if len(indexes) > 1 and "n" not in sent:
                return  # refused meanwhile: they are asked for one by one
            failure = await self._attempt(body, outcome, indexes, call)
            if failure is None:
                return
            fresh = not any(outcome.samples[index].delivered for index in indexes)
            outcome.restart([index for index in indexes if fresh], draft=draft)
            if fresh and failure.refused in sent and failure.refused not in (*CONTINUATION_FLAGS, *PROMISES):
                log.info("%s refuses %s; going on without", self.server.address, failure.refused)
                self.features.refuse(failure.refused)
            elif fresh and failure.room is not None and failure.room < max_tokens:
                max_tokens = failure.room
            elif fresh and failure.cut and cuts == 0:
                cuts += 1
            elif fresh and failure.retry and retries < self._patience.max_retries:
                if not await self._pause(failure, retries, call):
                    outcome.fail(failure.error, indexes)
                    return
                retries += 1
            else:
                if failure.refused in CONTINUATION_FLAGS:
                    self.features.continuation = "text"
                elif failure.refused is not None:
                    self.features.refuse(failure.refused)
                error = await self._name_models(failure) if failure.model_missing else failure.error
                outcome.fail(error, indexes, lost=failure.lost_backend)
                return

    async def _attempt(self, body: Json, outcome: Outcome, indexes: Sequence[int], call: Call) -> Failure | None:
        """Send one request and read its answer; the failure it met, or None."""
        try:
            async with self._slots:
                await self._read(body, outcome, indexes, call)
        except Exception as error:
            return self.failure(error, body, estimate_request_tokens(outcome.request))
        return None

    async def _read(self, body: Json, outcome: Outcome, indexes: Sequence[int], call: Call) -> None:
        """Feed the answer to the samples. Whatever ended early is cut off at the server by closing the connection."""
        samples = [outcome.samples[index] for index in indexes]
        usage = Usage()
        ended, finished, stalled = 0, False, False
        try:
            async with (
                asyncio.timeout(self._patience.timeout_seconds),
                self._client.chat.completions.with_streaming_response.create(**body) as response,
                aclosing(read_answer(response.iter_bytes())) as events,
            ):
                pause: float | None = None
                while not finished and not (ended < len(samples) and all(sample.done for sample in samples)):
                    try:
                        async with asyncio.timeout(pause):
                            event = await anext(events, None)
                    except TimeoutError:
                        if ended == len(samples):
                            break
                        stalled = True
                        raise
                    if event is None:
                        break
                    call.reached = True
                    await self._check_model(event)
                    ended += self._take(event, outcome, indexes)
                    usage.take(event)
                    finished = event.done
                    if ended == len(samples):
                        pause = LINGER_SECONDS
                    elif any(sample.raw_chars for sample in samples):
                        pause = self._patience.stall_seconds  # until then it reads the prompt, which may take longer
        except TimeoutError:
            if stalled:
                seconds = self._patience.stall_seconds
                raise TimeoutError(f"its answer paused for more than {seconds:g} s") from None
            if not any(sample.delivered for sample in samples):
                raise TimeoutError(f"nothing came for {self._patience.timeout_seconds:g} s") from None
            for index, sample in zip(indexes, samples, strict=True):
                outcome.emit(index, sample.halt("deadline"))
        self._conclude(outcome, indexes, usage, finished=finished)

    def _take(self, event: Event, outcome: Outcome, indexes: Sequence[int]) -> int:
        """Feed one event to its samples; the number of samples that the server ended with it."""
        ended = 0
        for piece in event.pieces:
            if not 0 <= piece.index < len(indexes):
                continue  # a choice that nobody asked for
            index = indexes[piece.index]
            sample = outcome.samples[index]
            fresh = sample.feed(piece.text, reasoning=piece.reasoning, tokens=piece.tokens, calls=piece.calls)
            if piece.ended:
                ended += 1
                fresh += sample.end(piece.finish)
            outcome.emit(index, fresh)
        return ended

    def _conclude(self, outcome: Outcome, indexes: Sequence[int], usage: Usage, *, finished: bool) -> None:
        """Judge what the stream left behind. Raises where it broke off, or held nothing."""
        samples = [outcome.samples[index] for index in indexes]
        if not any(sample.begun for sample in samples):
            raise WrongShape("the server answered without choices")
        for index, sample in zip(indexes, samples, strict=True):
            if sample.begun and not sample.done:
                if not finished:
                    raise ConnectionResetError("the stream ended before the answer did")
                outcome.emit(index, sample.end(None))
        outcome.claimed_prompt_tokens = usage.prompt_tokens or outcome.claimed_prompt_tokens
        _share_usage(samples, usage.completion_tokens)
        self._learn_logprobs(outcome, samples)

    def _learn_logprobs(self, outcome: Outcome, samples: Sequence[RemoteSample]) -> None:
        """A server that took `logprobs` and sent text without any does not have them."""
        delivered = [sample for sample in samples if sample.delivered]
        if outcome.request.tools:
            return  # some list no tokens beside tools
        if outcome.request.sampling.logprobs and delivered and not any(sample.listed_tokens for sample in delivered):
            self.features.refuse("logprobs")

    async def _pause(self, failure: Failure, retries: int, call: Call) -> bool:
        """Wait before a retry; False where there is no time for it."""
        seconds = self._patience.backoff_seconds * 2**retries
        if failure.retry_after is not None:
            seconds = max(failure.retry_after, 0.001)
        left = call.seconds_left()
        if seconds >= (self._patience.timeout_seconds if left is None else left):
            return False
        await asyncio.sleep(seconds)
        return True

    async def _continuation(self, call: Call) -> ContinuationMode:
        """How this server takes a partial answer; tried out with a few tokens the first time it matters."""
        async with self._probing:
            if (known := self.features.continuation) is not None:
                return known
            mode = await self._probe(call)
            if mode is not None:
                self.features.continuation = mode
                log.info("%s takes a partial answer as: %s", self.server.address, mode)
            return mode or "text"

    async def _probe(self, call: Call) -> ContinuationMode | None:
        """The mode that works; None where the trial met a failure that says nothing."""
        *messages, begun = PROBE_MESSAGES
        request = GenerationRequest(
            messages=tuple(messages),
            partial_answer=begun.content,
            sampling=Sampling(temperature=0, max_tokens=PROBE_MAX_TOKENS, logprobs=False),
        )
        modes: tuple[ContinuationMode, ...] = ("flag", "plain")
        for mode in modes:
            trial = Outcome(request, Call(deadline=None, cancel=None, on_delta=None))
            await self._ask(trial, [0], call, mode)
            generation = trial.generation(None)
            if generation.samples:
                return mode if probe_continues(generation.samples[0].text) else "text"
            if not isinstance(generation.error, RefusedRequest):
                return None
        return "text"

    async def _check_model(self, event: Event) -> None:
        """A router that quietly answers with another of its models is caught; another spelling of ours is not."""
        asked, spoke = self.server.model, event.model
        if not spoke or spoke == asked or spoke in self._warned_of:
            return
        listed = {model.name for model in await self.models()}
        if spoke in listed and asked in listed and not spoke.startswith(asked):
            raise WrongShape(f"it was asked for model {asked!r} and answered with {spoke!r}")
        self._warned_of.add(spoke)
        log.info("%s calls the model %r %r in its answers", self.server.address, asked, spoke)

    async def models(self) -> list[ListedModel]:
        """What the server lists, asked once; empty where it does not say."""
        async with self._listing:
            if self._listed is None:
                try:
                    self._listed = await self._discovery.models()
                except (openai.OpenAIError, UpstreamError, TimeoutError):
                    self._listed = []
            return self._listed

    def remember(self, listed: list[ListedModel]) -> None:
        """Take this for the server's list, so that it is not asked again."""
        self._listed = listed

    async def _name_models(self, failure: Failure) -> UpstreamError:
        """The failure of a missing model, with what there is instead."""
        names = [model.name for model in await self.models()]
        shown = ", ".join(names[:MAX_LISTED_MODELS]) + (", …" if len(names) > MAX_LISTED_MODELS else "")
        return UpstreamError(self.server.hide(f"{failure.error}; it has: {shown or 'none that it lists'}"))

    def failure(self, error: Exception, body: Json | None = None, prompt_tokens: int = 0) -> Failure:
        """What an exception means."""
        sent = sent_parameters(body) if body else frozenset[str]()
        return read_failure(error, server=self.server, sent=sent, prompt_tokens=prompt_tokens)


def _share_usage(samples: Sequence[RemoteSample], completion_tokens: object) -> None:
    """Split the count of a whole answer over its samples, by their tokens where these are listed, else by length."""
    if not isinstance(completion_tokens, int) or isinstance(completion_tokens, bool):
        return
    listed = all(sample.listed_tokens for sample in samples)
    sizes = [sample.listed_tokens if listed else sample.raw_chars for sample in samples]
    for sample, size in zip(samples, sizes, strict=True):
        sample.claimed_tokens = completion_tokens * (size / sum(sizes) if any(sizes) else 1 / len(samples))
