"""The body of `/v1/chat/completions`: every parameter is honoured or refused, none is dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictStr

from kaelum_adapters.answer_form import schema_form
from kaelum_adapters.openai_api.conversation import ChatTurn, Given, read_messages
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Ask, Caller
from kaelum_adapters.openai_api.model_names import check_model
from kaelum_adapters.openai_api.responses_body import Metadata, WordOrObject
from kaelum_adapters.openai_api.responses_tools import FunctionTool, read, read_tool_choice
from kaelum_adapters.openai_api.search_options import read_options
from kaelum_graph.types import Json, Message, Shape, Tool, ToolChoice

MOST_TOOLS = 128
MOST_STOPS = 4
LEAST_MASS = 1e-6
VERBOSITY = {"low": "Answer as briefly as you can.", "high": "Answer at length and in detail."}

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


def _strings(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value
    raise ValueError("must be a string or a list of strings")


# Checked before the union is, whose own errors would name its members in place of the field.
Strings = Annotated[StrictStr | list[StrictStr], BeforeValidator(_strings)]


class StreamOptions(Given):
    """`include_obfuscation` pads the chunks, so that their sizes on the wire don't give the text away."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SchemaGiven(Given):
    """The schema of a structured answer."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    schema_: Json | None = Field(default=None, alias="schema")
    strict: bool | None = None


class FormatGiven(Given):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaGiven | None = None


class FunctionOffered(Given):
    """A function of the client's own."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class ToolOffered(Given):
    """A tool; only functions, which the client runs, can be offered."""

    type: str
    function: FunctionOffered | None = None


class ChatBody(Given):
    """What a client sends. Fields that change nothing here say so; what can't be done is refused in `check`."""

    model: str
    messages: list[ChatTurn] = Field(min_length=1)
    n: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=2**31, description="not OpenAI's own; 0 and -1 are off")
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    stop: Strings | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    reasoning_effort: Effort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    response_format: FormatGiven | None = None
    tools: list[ToolOffered] | None = Field(default=None, max_length=MOST_TOOLS)
    tool_choice: WordOrObject | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionOffered] | None = Field(default=None, max_length=MOST_TOOLS)
    function_call: WordOrObject | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    kaelum: Json | None = Field(default=None, description="settings of this one search; see docs/server.md")
    # Labels for the client's own bookkeeping: kept with a stored completion, without effect on the answer.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in-memory", "in_memory", "24h"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # Refused, each with its own reason.
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    moderation: Any = None


def check(body: ChatBody, *, max_messages: int, max_n: int) -> None:
    """Raise `ApiError` 400 for what can't be honoured, or contradicts itself."""
    if len(body.messages) > max_messages:
        raise _refused("messages", f"{len(body.messages)} given, at most {max_messages}")
    if body.n is not None and body.n > max_n:
        raise _refused("n", f"{body.n} given, at most {max_n}")
    if body.modalities not in (None, ["text"]):
        raise _refused("modalities", "only ['text'] can be had", code="unsupported_modality")
    for name, reason in (
        ("audio", "there is no sound"),
        ("prediction", "predicted outputs are not made use of"),
        ("web_search_options", "nothing here searches the web"),
        ("moderation", "nothing here moderates"),
    ):
        if getattr(body, name) is not None:
            raise _refused(name, reason, code="unsupported_parameter")
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise _refused("max_tokens", "contradicts max_completion_tokens; give one of them")
    if body.top_logprobs is not None and not body.logprobs:
        raise _refused("top_logprobs", "needs logprobs to be true")
    form = body.response_format
    if form is not None and form.type != "json_schema" and form.json_schema is not None:
        raise _refused("response_format.json_schema", "only with the type 'json_schema'")
    if body.stream_options is not None and not body.stream:
        raise _refused("stream_options", "only with stream true")
    if body.functions and body.tools:
        raise _refused("functions", "the older form of tools; give one of them")
    if body.function_call is not None and not body.functions:
        raise _refused("function_call", "needs functions")
    if body.metadata and not body.store:
        raise _refused("metadata", "only kept with store true")


def read_ask(body: ChatBody, caller: Caller, *, retry: bool, key: str = "") -> Ask:
    """The request in the words that a `Runner` understands. `key` is the client's idempotency key, if any.

    Raises `ApiError` 404 for an unknown model and 400 for what makes no sense.
    """
    tools, choice = _tools(body)
    messages = read_messages(body.messages)
    if wish := VERBOSITY.get(body.verbosity or ""):
        messages = (Message("system", wish), *messages)
    return Ask(
        model=check_model(body.model),
        messages=messages,
        caller=caller,
        tools=tools,
        tool_choice=choice,
        shape=_shape(body.response_format),
        n=body.n or 1,
        temperature=body.temperature,
        top_p=least_mass(body.top_p),
        top_k=body.top_k if body.top_k is not None and body.top_k > 0 else None,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=_stop(body.stop),
        seed=None if body.seed is None else body.seed % 2**63,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=_logit_bias(body.logit_bias),
        effort=body.reasoning_effort,
        options=read_options(body.kaelum),
        fingerprint=fingerprint(body, caller, key),
        retry=retry,
    )


def least_mass(top_p: float | None) -> float | None:
    """`top_p` as samplers take it: no probability mass at all is the likeliest token alone."""
    return None if top_p is None else max(top_p, LEAST_MASS)


def fingerprint(body: ChatBody, caller: Caller, key: str) -> str:
    """SHA-256 in hexadecimal digits over the tenant, the idempotency key and all that the body says."""
    said = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    canonical = json.dumps(["/v1/chat/completions", caller.tenant, key, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def _stop(given: str | list[str] | None) -> tuple[str, ...]:
    stop = (given,) if isinstance(given, str) else tuple(given or ())
    if len(stop) > MOST_STOPS:
        raise _refused("stop", f"{len(stop)} given, at most {MOST_STOPS}")
    if not all(stop):
        raise _refused("stop", "an empty string would stop everything")
    return stop


def _logit_bias(given: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    for token in given or ():
        if not (token.isascii() and token.isdecimal()):
            raise _refused("logit_bias", f"'{token[:20]}' is no token id")
    return tuple(sorted((int(token), float(bias)) for token, bias in (given or {}).items()))


def _shape(form: FormatGiven | None) -> Shape | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return Shape(kind="json_object")
    given = form.json_schema
    if given is None or given.schema_ is None:
        param = "response_format.json_schema" if given is None else "response_format.json_schema.schema"
        raise _refused(param, "required, but not given", code="missing_required_parameter")
    return schema_form(given.schema_, name=given.name, description=given.description, strict=given.strict)


def _tools(body: ChatBody) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools in the flat form of the Responses API, which is read elsewhere; both APIs mean the same."""
    offered: list[FunctionTool] = []
    given = body.tools or [ToolOffered(type="function", function=one) for one in body.functions or ()]
    for number, tool in enumerate(given):
        param = f"tools.{number}" if body.tools else f"functions.{number}"
        if tool.type != "function":
            raise _refused(f"{param}.type", "only 'function' tools, run by the client", code="unsupported_parameter")
        if tool.function is None:
            raise _refused(f"{param}.function", "required, but not given", code="missing_required_parameter")
        flat = {"type": "function", **tool.function.model_dump(exclude_none=True)}
        place = (*param.split("."), "function") if body.tools else tuple(param.split("."))
        offered.append(read(FunctionTool, flat, place))
        if sum(one.name == tool.function.name for one in offered) > 1:
            raise _refused(f"{param}.function.name", f"'{tool.function.name}' is there twice")
    choice = body.function_call if body.functions else body.tool_choice
    if choice is not None and not offered:
        if choice in ("none", "auto"):
            return (), ToolChoice()
        raise _refused("tool_choice", "needs tools")
    if body.functions and isinstance(choice, dict):
        choice = {"type": "function", **choice}
    # The older form of a reply has room for one call.
    parallel = body.parallel_tool_calls is not False and not body.functions
    return read_tool_choice(_flat(choice), offered, parallel=parallel)


def _flat(choice: str | Json | None) -> str | Json | None:
    """`tool_choice` of chat completions in the form of the Responses API."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "allowed_tools" and isinstance(inner := choice.get("allowed_tools"), dict):
        tools = inner.get("tools")
        named = (
            [_flat(tool) if isinstance(tool, dict) else tool for tool in tools] if isinstance(tools, list) else tools
        )
        return {"type": "allowed_tools", "mode": inner.get("mode"), "tools": named}
    if choice.get("type") == "function" and isinstance(inner := choice.get("function"), dict):
        return {"type": "function", **inner}
    return choice


def _refused(param: str, reason: str, *, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"{param}: {reason}.", param=param, code=code)
