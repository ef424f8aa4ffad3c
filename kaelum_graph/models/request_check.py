"""What a request must look like before a model is asked, and what it says about calling tools."""

from __future__ import annotations

import math

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.models.hermes import OPEN
from kaelum_graph.types import Message, Tool

MAX_TOP_LOGPROBS = 20


def callable_tools(request: GenerationRequest) -> tuple[Tool, ...]:
    """The tools that may be called: all, the one that was named, or none."""
    choice = request.tool_choice
    if choice.name is not None:
        return tuple(tool for tool in request.tools if tool.name == choice.name)
    return () if choice.mode == "none" else request.tools


def must_call(request: GenerationRequest) -> bool:
    """Whether every sample has to call a tool."""
    return request.tool_choice.mode == "required" or request.tool_choice.name is not None


def many_calls(request: GenerationRequest) -> bool:
    """Whether a sample may hold more than one call. A tool that was named is called once."""
    return request.tool_choice.parallel and request.tool_choice.name is None


def check_decoding(request: GenerationRequest) -> None:
    """Raise `UsageError` for tools, a shape, penalties or biases that make no sense, whatever the backend."""
    sampling = request.sampling
    for name in ("frequency_penalty", "presence_penalty"):
        value: object = getattr(sampling, name)
        if not isinstance(value, int | float) or not -2 <= value <= 2:
            raise UsageError(f"{name} is {value}; it must be a number from -2 to 2")
    _check_bias(sampling)
    if not isinstance(sampling.top_logprobs, int) or not 0 <= sampling.top_logprobs <= MAX_TOP_LOGPROBS:
        raise UsageError(f"top_logprobs is {sampling.top_logprobs}; it must be from 0 to {MAX_TOP_LOGPROBS}")
    _check_tools(request)
    shape = request.shape
    if shape is not None and shape.kind == "json_schema" and not isinstance(shape.schema, dict):
        raise UsageError("the shape is a json_schema without a schema")
    if shape is not None and request.partial_answer:
        raise UsageError("a partial answer cannot be held to a shape")


def check_last_message(message: Message) -> None:
    """Raise `UsageError` where a conversation that ends in `message` cannot be answered."""
    if message.role == "assistant":
        raise UsageError("the last message is the assistant's; give what it began as partial_answer")
    if message.role != "tool" and not message.content.strip():
        raise UsageError("the last message is empty")


def _check_bias(sampling: Sampling) -> None:
    for token, bias in sampling.logit_bias:
        if not isinstance(token, int) or token < 0:
            raise UsageError(f"logit_bias has a bias for token {token!r}; it must be the id of a token")
        if not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise UsageError(f"logit_bias of token {token} is {bias}; it must be a number from -100 to 100")


def _check_tools(request: GenerationRequest) -> None:
    names = [tool.name for tool in request.tools]
    if not all(names):
        raise UsageError("a tool has no name")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two tools are named {doubled[0]!r}; names must differ")
    choice = request.tool_choice
    if choice.name is not None and choice.name not in names:
        raise UsageError(f"tool_choice names {choice.name!r}; the tools are: {', '.join(names) or 'none'}")
    if must_call(request) and not names:
        raise UsageError("tool_choice wants a call, and there are no tools")
    if callable_tools(request) and OPEN in request.partial_answer:
        raise UsageError("a partial answer cannot hold the beginning of a tool call")


def check_request(request: GenerationRequest) -> None:
    """Raise `UsageError` naming the first field that has a value it must not have, before a remote model is asked."""
    sampling, last = request.sampling, request.messages[-1] if request.messages else None
    if last is None:
        raise UsageError("messages is empty; it must hold at least one message")
    check_last_message(last)
    check_decoding(request)
    if request.n < 1:
        raise UsageError(f"n is {request.n}; it must be at least 1")
    if not math.isfinite(sampling.temperature) or sampling.temperature < 0:
        raise UsageError(f"temperature is {sampling.temperature}; it must be a number of at least 0")
    if not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p is {sampling.top_p}; it must be above 0 and at most 1")
    if sampling.top_k < 0:
        raise UsageError(f"top_k is {sampling.top_k}; it must be at least 0 (0 is off)")
    if sampling.max_tokens < 1:
        raise UsageError(f"max_tokens is {sampling.max_tokens}; it must be at least 1")
    if isinstance(sampling.stop, str) or not all(isinstance(text, str) and text for text in sampling.stop):
        raise UsageError(f"stop is {sampling.stop!r}; it must be a tuple of non-empty strings")
