"""The body of a chat-completions request, fitted to what its server is known to accept."""

from __future__ import annotations

from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.models.continuation import with_draft
from kaelum_graph.models.feature_detection import ContinuationMode, ServerFeatures
from kaelum_graph.models.hermes import tool_json
from kaelum_graph.models.openai_wire import wire_messages
from kaelum_graph.models.request_check import callable_tools, must_call
from kaelum_graph.types import Json, Message, Tool

MAX_STOP_STRINGS = 4
"""What OpenAI takes. The others, and these again, are enforced on the text that comes back."""

CONTINUATION_FLAGS = ("continue_final_message", "add_generation_prompt")


def request_body(
    request: GenerationRequest,
    *,
    model: str,
    features: ServerFeatures,
    mode: ContinuationMode,
    samples: int,
    first_index: int,
    max_tokens: int,
) -> Json:
    """Keyword arguments for the client's `create`: `samples` samples, of which the first is number `first_index`."""
    sampling = request.sampling
    messages = request.messages
    if request.partial_answer and mode == "text":
        messages = with_draft(messages, request.partial_answer)
    elif request.partial_answer:
        messages = (*messages, Message("assistant", request.partial_answer))
    body: Json = {"model": model, "messages": wire_messages(messages)}
    extra: Json = {}

    def put(name: str, value: object, *, wanted: bool = True, into: Json = body) -> None:
        if wanted and features.accepts(name):
            into[name] = value

    put("stream", True)
    put("stream_options", {"include_usage": True}, wanted="stream" in body)
    put("n", samples, wanted=samples > 1)
    put("max_tokens", max_tokens)
    put("max_completion_tokens", max_tokens, wanted="max_tokens" not in body)
    greedy = sampling.temperature == 0
    put("temperature", sampling.temperature)
    put("top_p", sampling.top_p, wanted=not greedy and sampling.top_p < 1)
    put("top_k", sampling.top_k, wanted=not greedy and sampling.top_k > 0, into=extra)
    # A stop string inside a forced call would leave half a call.
    stop = [] if must_call(request) else [text for text in sampling.stop if text][:MAX_STOP_STRINGS]
    put("stop", stop, wanted=bool(stop))
    if sampling.seed is not None:
        put("seed", sample_seed(sampling.seed, first_index))
    put("logprobs", True, wanted=sampling.logprobs or sampling.top_logprobs > 0)
    # llama.cpp lists twenty alternatives for each token unless told otherwise.
    alternatives = sampling.top_logprobs or (1 if features.owner == "llamacpp" else 0)
    put("top_logprobs", alternatives, wanted=alternatives > 0 and "logprobs" in body)
    put("parallel_tool_calls", False, wanted=bool(callable_tools(request)) and not request.tool_choice.parallel)
    body |= promised_parameters(request)
    if request.partial_answer and mode == "flag":
        extra.update(continue_final_message=True, add_generation_prompt=False)
    if extra:
        body["extra_body"] = extra
    return body


def promised_parameters(request: GenerationRequest) -> Json:
    """The parameters without which the answer would be another one; they are never left out."""
    sampling, choice, shape = request.sampling, request.tool_choice, request.shape
    body: Json = {}
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    if callable_tools(request):
        body["tools"] = [wire_tool(tool) for tool in request.tools]
        if choice.name is not None:
            body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        elif choice.mode == "required":
            body["tool_choice"] = "required"
    if shape is not None and shape.kind == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif shape is not None:
        form = {"name": shape.name or "answer", "schema": shape.schema, "strict": shape.strict}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def wire_tool(tool: Tool) -> Json:
    """A tool as the wire has it."""
    wire = tool_json(tool)
    if tool.strict:
        wire["function"]["strict"] = True
    return wire


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample `index`, the same whatever else is asked for; in [0, 2^31)."""
    return (seed * 1_000_003 + index * 7_919) % 2**31


def sent_parameters(body: Json) -> frozenset[str]:
    """Names of everything in the body."""
    return frozenset(body) | frozenset(body.get("extra_body", ()))
