"""What a request of `/v1/responses` comes to: the whole conversation, and the `Ask` for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from kaelum_adapters.openai_api.chat_body import VERBOSITY, least_mass
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Ask, Caller
from kaelum_adapters.openai_api.model_names import check_model
from kaelum_adapters.openai_api.responses_body import ConversationBody, ResponseBody
from kaelum_adapters.openai_api.responses_items import read_items, to_messages
from kaelum_adapters.openai_api.responses_store import KeptResponse, ResponsesStore
from kaelum_adapters.openai_api.responses_tools import FunctionTool, read_shape, read_tool_choice, read_tools
from kaelum_adapters.openai_api.search_options import read_options
from kaelum_graph.types import Json, Message, Shape, Tool, ToolChoice

FIELDS = {
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "logprobs": "include",
}
"""Chat's parameters and what they are called here."""

MOST_CHARACTERS = 2**24
"""What a request may bring back of earlier responses, as JSON: else a few references would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The turns that the model sees, and what of them this request brought. `offered` are the tools as given."""

    messages: tuple[Message, ...]
    items: tuple[Json, ...]
    offered: tuple[FunctionTool, ...]
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    shape: Shape | None


def read_conversation(body: ConversationBody, store: ResponsesStore, *, tenant: str, max_messages: int) -> Conversation:
    """The conversation of a request, with the turns of the responses it goes on from. Blocks on the store.

    `instructions` are the first turn and are this request's alone. Raises `ApiError` 400 or 404 for what is missing,
    too long or not understood.
    """
    offered = read_tools(body.tools)
    parallel = body.parallel_tool_calls is not False
    tools, tool_choice = read_tool_choice(body.tool_choice, offered, parallel=parallel)
    if isinstance(body.input, list) and len(body.input) > max_messages:
        raise _too_many(max_messages)
    kept = Kept(store, tenant=tenant)
    items = read_items(body.input, find=kept.item)
    if not items:
        raise ApiError(400, "input: required, but not given.", param="input", code="missing_required_parameter")
    earlier = read_chain(body.previous_response_id, kept, most=max_messages - len(items))
    instructions = "\n\n".join(filter(None, (body.instructions, _verbosity(body))))
    first = (Message("system", instructions),) if instructions else ()
    return Conversation(
        messages=(*first, *to_messages([*earlier, *items])),
        items=tuple(items),
        offered=offered,
        tools=tools,
        tool_choice=tool_choice,
        shape=read_shape(body.text),
    )


class Kept:
    """What one request brings back of a tenant's earlier responses. Raises `ApiError` 400 once it is too much."""

    def __init__(self, store: ResponsesStore, *, tenant: str) -> None:
        self._store, self._tenant = store, tenant
        self._room = MOST_CHARACTERS

    def item(self, item_id: str) -> Json | None:
        """The item of that id, or None."""
        item = self._store.item(self._tenant, item_id)
        self._count(item, param="input")
        return item

    def response(self, response_id: str) -> KeptResponse | None:
        """The response of that id, or None."""
        kept = self._store.get(self._tenant, response_id)
        self._count(kept and [kept.input, kept.response["output"]], param="previous_response_id")
        return kept

    def _count(self, value: object, *, param: str) -> None:
        self._room -= len(json.dumps(value))
        if self._room < 0:
            message = f"{param}: more than {MOST_CHARACTERS:,} characters of earlier items."
            raise ApiError(400, message, param=param, code="string_above_max_length")


def read_chain(response_id: str | None, earlier: Kept, *, most: int) -> list[Json]:
    """The items of a response and of all that it went on from, oldest first.

    Raises `ApiError` 400 where one of them is not kept (any more), failed, or there are more than `most` items.
    """
    links: list[list[Json]] = []
    count, param = 0, "previous_response_id"
    while response_id is not None:
        kept = earlier.response(response_id)
        if kept is None:
            message = f"{param}: no response '{response_id}' is kept."
            raise ApiError(400, message, param=param, code="previous_response_not_found")
        if kept.response["status"] == "failed":
            message = f"{param}: the response '{response_id}' failed, so there is nothing to go on from."
            raise ApiError(400, message, param=param, code="invalid_value")
        links.append([*kept.input, *kept.response["output"]])
        count += len(links[-1])
        if count > most:
            raise _too_many(most, param=param)
        response_id = kept.previous_id
    return [item for link in reversed(links) for item in link]


def read_ask(body: ResponseBody, conversation: Conversation, caller: Caller, *, retry: bool, key: str = "") -> Ask:
    """The request in the words that a `Runner` understands. `key` is the client's idempotency key, if any.

    Raises `ApiError` 404 for an unknown model, 400 for an option of the search that there isn't.
    """
    return Ask(
        model=check_model(body.model),
        messages=conversation.messages,
        caller=caller,
        tools=conversation.tools,
        tool_choice=conversation.tool_choice,
        shape=conversation.shape,
        temperature=body.temperature,
        top_p=least_mass(body.top_p),
        max_tokens=body.max_output_tokens,
        logprobs=body.wants_logprobs,
        top_logprobs=body.top_logprobs or 0,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        effort=None if body.reasoning is None else body.reasoning.effort,
        options=read_options(body.kaelum),
        fingerprint=fingerprint(body, caller, key),
        retry=retry,
    )


def in_own_words(error: ApiError) -> ApiError:
    """A run's refusal with its field under the name that it has here: runs speak of chat's parameters."""
    if error.param is None:
        return error
    first, *rest = error.param.split(".")
    if first not in FIELDS:
        return error
    param = FIELDS[first] if first == "messages" else ".".join((FIELDS[first], *rest))
    message = error.message
    if message.startswith(f"{error.param}:"):
        message = param + message.removeprefix(error.param)
    told = ApiError(error.status, message, type=error.type, param=param, code=error.code, retry=error.retry)
    told.headers.update(error.headers)
    return told


def fingerprint(body: ResponseBody, caller: Caller, key: str) -> str:
    """SHA-256 in hexadecimal digits over the tenant, the idempotency key and all that the body says."""
    said = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    canonical = json.dumps(["/v1/responses", caller.tenant, key, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _verbosity(body: ConversationBody) -> str | None:
    return None if body.text is None or body.text.verbosity is None else VERBOSITY.get(body.text.verbosity)


def _too_many(most: int, *, param: str = "input") -> ApiError:
    return ApiError(400, f"{param}: more items than the {most} that one request may have.", param=param)
