"""Any LangChain chat model as a policy model: samples in parallel, whatever the model itself can do."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, BaseLanguageModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import (
    ToolCall as LangChainToolCall,
)

from kaelum_flow.chat_model_errors import described, read_chat_model_failure
from kaelum_flow.chat_model_settings import PROMISED, BoundModel, ChatModelSettings
from kaelum_flow.thread_stream import call_within, iterate_in_thread
from kaelum_graph.errors import ModelError, UpstreamError
from kaelum_graph.models.background_loop import BackgroundLoop
from kaelum_graph.models.base import (
    CancelToken,
    Capabilities,
    Finish,
    Generation,
    GenerationRequest,
    OnDelta,
    PolicyModel,
    Sampling,
)
from kaelum_graph.models.continuation import PROBE_MAX_TOKENS, PROBE_MESSAGES, probe_continues, with_draft
from kaelum_graph.models.hermes import arguments_of
from kaelum_graph.models.openai_wire import read_token_logprobs, text_of
from kaelum_graph.models.remote_call import Call, Outcome, conclude, run_call
from kaelum_graph.models.remote_calls import CallPiece
from kaelum_graph.models.remote_sample import estimate_prompt_tokens, plausible_prompt_tokens
from kaelum_graph.models.request_check import check_request
from kaelum_graph.models.upstream_errors import Failure, RefusedRequest
from kaelum_graph.types import Json, Message, ToolCall

COUNTING_SECONDS = 2.0
LENGTH_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})

log = logging.getLogger(__name__)


class ChatModelPolicy(PolicyModel):
    """Generates with `chat_model`, at most `max_parallel` samples at a time. Thread-safe.

    Each sample is a call of its own, streamed where the model streams. `timeout_seconds` bounds one sample; a call's
    deadline comes before it. A model that cannot be interrupted inside a call is left to finish it in its thread.
    `name` None takes the model's own.
    """

    def __init__(
        self,
        chat_model: BaseChatModel,
        *,
        name: str | None = None,
        max_parallel: int = 8,
        timeout_seconds: float = 600.0,
    ) -> None:
        self.name = name or _name_of(chat_model)
        self._chat_model = chat_model
        self._settings = ChatModelSettings(chat_model)
        self._server = described(chat_model, self.name)
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(max_parallel)
        self._probing = asyncio.Lock()
        self._continues: bool | None = None
        self._shows_logprobs = self._settings.has_field("logprobs")
        self._async_only = False
        self._counts = _counts_by_itself(chat_model)
        self._closing = threading.Lock()
        self._closed = False
        self._loop = BackgroundLoop("kaelum-chat-models")

    def __repr__(self) -> str:
        return f"ChatModelPolicy({self.name})"

    @property
    def capabilities(self) -> Capabilities:
        """What the chat model is known to do. A setting counts where the model declares it and has not refused it."""
        profile: Any = getattr(self._chat_model, "profile", None)
        context = profile.get("max_input_tokens") if isinstance(profile, dict) else None
        return Capabilities(
            context_tokens=context if isinstance(context, int) and context > 0 else None,
            multiple_samples=False,
            logprobs=self._shows_logprobs and self._settings.accepts("logprobs"),
            continuation=bool(self._continues),
            seed=self._settings.has_field("seed"),
            tools=type(self._chat_model).bind_tools is not BaseChatModel.bind_tools,
        )

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        call = Call(deadline=deadline, cancel=cancel, on_delta=on_delta)
        with self._closing:
            self._check_open()
            future = self._loop.submit(self._generate(list(requests), call))
        try:
            return call.wait(future)
        except FutureCancelled:
            raise ModelError(f"{self!r} was closed while it generated.") from None

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """The model's own count where it has one and answers within 2 s, else an estimate by characters."""
        self._check_open()
        if not self._counts:
            return estimate_prompt_tokens(messages)
        turns = chat_messages(messages)
        counter = self._chat_model
        if type(counter).get_token_ids is BaseLanguageModel.get_token_ids and counter.custom_get_token_ids is None:
            # What is left would be LangChain's fallback, which fetches GPT-2's tokenizer from the network.
            counter = counter.model_copy(update={"custom_get_token_ids": _no_tokenizer})
        try:
            count = call_within(COUNTING_SECONDS, lambda: counter.get_num_tokens_from_messages(turns))
        except Exception as error:
            self._counts = False
            log.info("%s cannot count tokens here (%s); they are estimated", self.name, type(error).__name__)
            return estimate_prompt_tokens(messages)
        return plausible_prompt_tokens(count, estimate_prompt_tokens(messages))

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._loop.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"{self!r} is closed.")

    async def _generate(self, requests: Sequence[GenerationRequest], call: Call) -> list[Generation]:
        outcomes = [Outcome(request, call) for request in requests]
        halt = await run_call(call, [self._serve(outcome, call) for outcome in outcomes])
        return conclude(outcomes, halt)

    async def _serve(self, outcome: Outcome, call: Call) -> None:
        """Fill the outcome with samples or failures. Raises nothing but cancellation."""
        request = outcome.request
        try:
            check_request(request)
            messages, draft = request.messages, ""
            if request.partial_answer:
                if await self._continuation():
                    messages = (*messages, Message("assistant", request.partial_answer))
                else:
                    draft = request.partial_answer
                    messages = with_draft(messages, draft)
                    outcome.use_draft(draft)
            turns = chat_messages(messages)
            await asyncio.gather(*(self._ask(outcome, index, turns, draft, call) for index in range(request.n)))
        except Exception as error:  # whatever a model raises must never take the other requests down
            outcome.fail(self._failure(error, BoundModel(self._chat_model, None, {}, frozenset()), request).error)

    async def _ask(self, outcome: Outcome, index: int, turns: list[BaseMessage], draft: str, call: Call) -> None:
        """One sample, asked for again without whatever setting the model refuses."""
        request = outcome.request
        async with self._slots:
            while True:
                if call.lost is not None and not call.reached:
                    outcome.fail(call.lost, [index], lost=True)
                    return
                bound = self._settings.bind(request, index)
                was_async = self._async_only
                try:
                    await self._read(outcome, index, turns, bound, call)
                    return
                except Exception as error:
                    failure = self._failure(error, bound, request)
                    sync_missing = isinstance(error, NotImplementedError) and not was_async
                if outcome.samples[index].delivered:
                    outcome.fail(failure.error, [index], lost=failure.lost_backend)
                    return
                outcome.restart([index], draft=draft)
                if sync_missing and _has_async_methods(self._chat_model):
                    self._async_only = True
                elif failure.refused in bound.sent and failure.refused not in PROMISED:
                    log.info("%s refuses %s; going on without", self.name, failure.refused)
                    self._settings.refuse(failure.refused)
                else:
                    outcome.fail(failure.error, [index], lost=failure.lost_backend)
                    return

    async def _read(
        self, outcome: Outcome, index: int, turns: list[BaseMessage], bound: BoundModel, call: Call
    ) -> None:
        """Feed one sample until it is done, the model ends, or time is up."""
        sample = outcome.samples[index]
        finish: Finish | None = None
        usage = {"input_tokens": 0, "output_tokens": 0}
        try:
            async with asyncio.timeout(self._timeout_seconds), aclosing(self._chunks(turns, bound)) as chunks:
                async for chunk in chunks:
                    call.reached = True
                    metadata: Json = chunk.response_metadata
                    logprobs = metadata.get("logprobs")
                    entries = cast("Json", logprobs).get("content") if isinstance(logprobs, dict) else logprobs
                    tokens = read_token_logprobs(entries)
                    self._shows_logprobs = self._shows_logprobs or bool(tokens)
                    fresh = sample.feed(
                        text_of(chunk.content),
                        reasoning=_reasoning_of(chunk),
                        tokens=tokens,
                        calls=_calls_of(chunk),
                    )
                    outcome.emit(index, fresh)
                    finish = _finish_of(metadata) or finish
                    _add_usage(usage, chunk)
                    if sample.done:
                        break
        except TimeoutError:
            if not sample.delivered:
                raise TimeoutError(f"nothing came for {self._timeout_seconds:g} s") from None
            outcome.emit(index, sample.halt("deadline"))
        if not sample.begun:
            raise UpstreamError(f"{self.name} answered without a message")
        sample.claimed_tokens = usage["output_tokens"] or None
        outcome.claimed_prompt_tokens = usage["input_tokens"] or outcome.claimed_prompt_tokens
        outcome.emit(index, sample.end(finish))
        if sample.delivered and not sample.listed_tokens:
            self._shows_logprobs = self._shows_logprobs and not outcome.request.sampling.logprobs

    def _chunks(self, turns: list[BaseMessage], bound: BoundModel) -> AsyncGenerator[AIMessage]:
        if self._async_only:
            stream = bound.model.astream(turns, stop=bound.stop, **bound.arguments)
            return cast("AsyncGenerator[AIMessage]", stream)
        return iterate_in_thread(lambda: bound.model.stream(turns, stop=bound.stop, **bound.arguments))

    async def _continuation(self) -> bool:
        """Whether the model goes on with a last assistant message; tried out the first time it matters."""
        async with self._probing:
            if self._continues is None:
                self._continues = await self._probe()
            return bool(self._continues)

    async def _probe(self) -> bool | None:
        """None where the trial met a failure that says nothing."""
        sampling = Sampling(temperature=0, max_tokens=PROBE_MAX_TOKENS, logprobs=False)
        call = Call(deadline=None, cancel=None, on_delta=None)
        trial = Outcome(GenerationRequest(messages=PROBE_MESSAGES[:1], sampling=sampling), call)
        await self._ask(trial, 0, chat_messages(PROBE_MESSAGES), "", call)
        generation = trial.generation(None)
        if generation.samples:
            return probe_continues(generation.samples[0].text)
        return False if isinstance(generation.error, RefusedRequest) else None

    def _failure(self, error: Exception, bound: BoundModel, request: GenerationRequest) -> Failure:
        failure = read_chat_model_failure(
            error, server=self._server, sent=bound.sent, prompt_tokens=estimate_prompt_tokens(request.messages)
        )
        if failure.error is not error:
            failure.error.__cause__ = error
        return failure


def chat_messages(messages: Sequence[Message]) -> list[BaseMessage]:
    """Messages as LangChain has them. A tool's result that answers no call of theirs goes as a human turn."""
    called = {call.id for message in messages for call in message.calls}
    return [_chat_message(message, called) for message in messages]


def _chat_message(message: Message, called: set[str]) -> BaseMessage:
    if message.role == "tool":
        if message.call_id in called:
            return ToolMessage(message.content, tool_call_id=message.call_id)
        return HumanMessage(f"Tool result:\n{message.content}")
    if message.role == "assistant":
        return AIMessage(message.content, tool_calls=[_tool_call(call) for call in message.calls])
    return SystemMessage(message.content) if message.role == "system" else HumanMessage(message.content)


def _tool_call(call: ToolCall) -> LangChainToolCall:
    arguments = arguments_of(call)
    args = cast("Json", arguments) if isinstance(arguments, dict) else {}
    return LangChainToolCall(name=call.name, args=args, id=call.id)


def _calls_of(message: AIMessage) -> tuple[CallPiece, ...]:
    """What a chunk, or a whole message, says about tool calls."""
    told: Sequence[Any] = [*message.tool_calls, *message.invalid_tool_calls]
    if isinstance(message, AIMessageChunk):
        told = message.tool_call_chunks
    pieces: list[CallPiece] = []
    for position, call in enumerate(told):
        index, arguments = call.get("index"), call.get("args")
        pieces.append(
            CallPiece(
                index=index if isinstance(index, int) else position,
                id=call.get("id") or "",
                name=call.get("name") or "",
                arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
            )
        )
    return tuple(pieces)


def _name_of(chat_model: BaseChatModel) -> str:
    for field in ("model_name", "model", "model_id", "deployment_name"):
        value = getattr(chat_model, field, None)
        if isinstance(value, str) and value:
            return value
    return str(chat_model._llm_type)


def _counts_by_itself(chat_model: BaseChatModel) -> bool:
    """Whether the model has a token count of its own, rather than LangChain's fallback."""
    names = ("get_num_tokens_from_messages", "get_num_tokens", "get_token_ids")
    own = any(getattr(type(chat_model), name) is not getattr(BaseLanguageModel, name) for name in names)
    return own or chat_model.custom_get_token_ids is not None


def _has_async_methods(chat_model: BaseChatModel) -> bool:
    """Whether the model has asynchronous methods of its own, rather than LangChain's, which call the others."""
    kind = type(chat_model)
    return kind._agenerate is not BaseChatModel._agenerate or kind._astream is not BaseChatModel._astream


def _no_tokenizer(text: str) -> list[int]:
    raise NotImplementedError("no tokenizer of its own")


def _reasoning_of(message: AIMessage) -> str:
    """Reasoning text of a chunk, in any of the places where integrations put it."""
    told = message.additional_kwargs.get("reasoning_content")
    parts = [told] if isinstance(told, str) else []
    if isinstance(message.content, list):
        for block in message.content:
            if isinstance(block, dict):
                parts += [value for key in ("reasoning", "thinking") if isinstance(value := block.get(key), str)]
    return "".join(parts)


def _finish_of(metadata: Json) -> Finish | None:
    """Why the model stopped, where it says."""
    reasons = (metadata.get(key) for key in ("finish_reason", "stop_reason", "done_reason"))
    reason = next((reason for reason in reasons if isinstance(reason, str) and reason), None)
    if reason is None:
        return None
    return "length" if reason.lower() in LENGTH_REASONS else "stop"


def _add_usage(usage: dict[str, int], message: AIMessage) -> None:
    """Usage comes in parts: some models tell the prompt's at the start and the answer's at the end."""
    told: Any = message.usage_metadata or {}
    for key in usage:
        value = told.get(key)
        if isinstance(value, int):
            usage[key] += value
