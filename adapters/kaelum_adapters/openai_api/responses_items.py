"""The items that a conversation of `/v1/responses` is made of: read strictly, and turned into messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.responses_body import Identifier, Part, TextOrObjects, unsupported
from kaelum_adapters.openai_api.responses_tools import read
from kaelum_graph.types import Json, Message, Role, ToolCall, joined

Status = Literal["in_progress", "completed", "incomplete"]
CallId = Annotated[str, Field(min_length=1, max_length=256)]

UNREADABLE = {
    "input_image": "images",
    "input_file": "files",
    "input_audio": "sound",
    "input_video": "films",
    "computer_screenshot": "screenshots",
}
ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class TextPart(Part):
    """A piece of text. What was annotated is a copy of what a server once said; the text alone is read."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    prompt_cache_breakpoint: None = None


class RefusalPart(Part):
    """What an assistant said in place of an answer."""

    type: Literal["refusal"]
    refusal: str


class DirectCaller(Part):
    """Who made a call: the model itself."""

    type: Literal["direct"]


class MessageItem(Part):
    """A turn. `phase` labels an assistant's turn for the client."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: TextOrObjects
    id: Identifier | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class CallItem(Part):
    """A tool call that the assistant made."""

    type: Literal["function_call"]
    call_id: CallId
    name: str = Field(min_length=1, max_length=256)
    arguments: str
    id: Identifier | None = None
    status: Status | None = None
    namespace: None = None
    caller: DirectCaller | None = None
    async_: Literal[False] | None = Field(default=None, alias="async")
    created_by: str | None = None


class CallOutputItem(Part):
    """What a tool gave back."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: TextOrObjects
    id: Identifier | None = None
    status: Status | None = None
    name: str | None = None
    namespace: None = None
    caller: DirectCaller | None = None
    created_by: str | None = None


class ReasoningItem(Part):
    """Reasoning of an earlier response: taken back and kept, never read by the model."""

    type: Literal["reasoning"]
    summary: list[Json]
    id: Identifier | None = None
    content: list[Json] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class Reference(Part):
    """An item kept with an earlier response."""

    type: Literal["item_reference"] | None = None
    id: Identifier


KINDS: dict[str, type[Part]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": CallOutputItem,
    "reasoning": ReasoningItem,
}
PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def read_items(given: str | Sequence[Json] | None, *, find: Callable[[str], Json | None]) -> list[Json]:
    """The input as items, each checked; a string is one user turn. `find` looks up what an item_reference means.

    Raises `ApiError` 400 with the place of the fault, 404 for a reference to nothing.
    """
    if given is None:
        return []
    if isinstance(given, str):
        return [_canonical({"type": "message", "role": "user", "content": given}, ("input",))]
    items: list[Json] = []
    for place, entry in enumerate(given):
        kind = entry.get("type")
        if kind == "item_reference" or (kind is None and "id" in entry and "role" not in entry):
            named = read(Reference, entry, ("input", place)).id
            if (entry := find(named) or {}) == {}:
                message = f"input.{place}: no item '{named}' is kept (with `store` false, none is)."
                raise ApiError(404, message, param=f"input.{place}.id", code="item_not_found")
        items.append(_canonical(entry, ("input", place)))
    return items


def _canonical(entry: Json, place: tuple[str | int, ...]) -> Json:
    param = ".".join(str(part) for part in place)
    kind = entry.get("type", "message")
    if not isinstance(kind, str) or kind not in KINDS:
        raise unsupported(f"{param}.type", f"not an item that this server knows ({', '.join(KINDS)}, item_reference)")
    item = read(KINDS[kind], entry, place)
    data = {"type": kind, **item.model_dump(exclude_none=True, by_alias=True)}
    if isinstance(item, MessageItem):
        said = "output_text" if item.role == "assistant" else "input_text"
        data["content"] = _parts(item.content, (*place, "content"), kind=said)
    elif isinstance(item, CallOutputItem) and not isinstance(item.output, str):
        data["output"] = _parts(item.output, (*place, "output"), kind="input_text")
    return data


def _parts(content: str | Sequence[Json], place: tuple[str | int, ...], *, kind: str) -> list[Json]:
    if isinstance(content, str):
        return [_text(content, kind)]
    parts: list[Json] = []
    for index, part in enumerate(content):
        at = (*place, index)
        named = part.get("type")
        if isinstance(named, str) and named in UNREADABLE:
            param = ".".join(str(step) for step in (*at, "type"))
            message = f"{param}: this model reads text only; {UNREADABLE[named]} can't be sent."
            raise ApiError(400, message, param=param, code="unsupported_modality")
        if named == "refusal":
            parts.append({"type": "refusal", "refusal": read(RefusalPart, part, at).refusal})
        else:
            parts.append(_text(read(TextPart, part, at).text, kind))
    return parts


def _text(text: str, kind: str) -> Json:
    return {"type": kind, "text": text} | ({"annotations": []} if kind == "output_text" else {})


def number_items(items: Sequence[Json], owner: str) -> list[Json]:
    """The items as they are kept and listed: each with an id (its own, or one made of `owner`) and a status."""
    numbered: list[Json] = []
    for place, item in enumerate(items):
        made = f"{PREFIXES[item['type']]}_{owner}_in{place}"
        numbered.append({"id": made, "status": "completed", **item})
    return numbered


def to_messages(items: Sequence[Json]) -> tuple[Message, ...]:
    """The conversation that the items tell, with each tool's answer after the turn that called it.

    An assistant's turn and the calls after it are one message. Raises `ApiError` 400 for a call without an output and
    an output without a call.
    """
    messages: list[Message] = []
    unanswered: dict[str, None] = {}
    for item in items:
        kind = item["type"]
        if kind == "message":
            messages.append(Message(ROLES[item["role"]], text_of(item["content"])))
        elif kind == "function_call":
            call = ToolCall(item["call_id"], item["name"], item["arguments"])
            if call.id in unanswered:
                raise _unpaired(f"two calls without an output have the call_id '{call.id}'")
            unanswered[call.id] = None
            if messages and messages[-1].role == "assistant":
                said = messages.pop()
                messages.append(Message("assistant", said.content, calls=(*said.calls, call)))
            else:
                messages.append(Message("assistant", "", calls=(call,)))
        elif kind == "function_call_output":
            if item["call_id"] not in unanswered:
                raise _unpaired(f"no function_call has the call_id '{item['call_id']}' of this output")
            del unanswered[item["call_id"]]
            messages.append(Message("tool", text_of(item["output"]), call_id=item["call_id"]))
    if unanswered:
        raise _unpaired(f"no output is there for the function_call '{next(iter(unanswered))}'")
    return tuple(messages)


def text_of(content: str | Sequence[Json]) -> str:
    """The text of a content, its parts joined."""
    if isinstance(content, str):
        return content
    return joined(part["refusal"] if part["type"] == "refusal" else part["text"] for part in content)


def _unpaired(reason: str) -> ApiError:
    return ApiError(400, f"input: {reason}.", param="input", code="invalid_value")
