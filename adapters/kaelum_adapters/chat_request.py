"""What a call of the chat model asks: LangChain's messages, tools, choices and forms as the search takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel

from kaelum_adapters.answer_form import schema_form
from kaelum_flow.state import made, tool_fields
from kaelum_graph.errors import UsageError
from kaelum_graph.types import Json, Shape, Tool, ToolChoice

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
REQUIRED = ("any", "required", True)


def with_answered_calls(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages, a call whose arguments were no JSON among an assistant's calls where a tool's turn answers it.

    LangChain keeps such calls apart (`invalid_tool_calls`), and its agents tell the model what was wrong with them. The
    arguments are left out: what came back says what they were.
    """
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    given: list[BaseMessage] = []
    for message in messages:
        if isinstance(message, AIMessage):
            failed = [
                ToolCall(name=call.get("name") or "", args={}, id=call["id"], type="tool_call")
                for call in message.invalid_tool_calls
                if call.get("id") in answered
            ]
            if failed:
                message = message.model_copy(update={"tool_calls": [*message.tool_calls, *failed]})
        given.append(message)
    return given


def wire_tools(tools: Sequence[Any], *, strict: bool | None = None) -> list[Json]:
    """Tools in OpenAI's form, out of anything that LangChain takes for a tool, or a `Tool`.

    Raises `UsageError` for anything else.
    """
    return [_wired(tool, strict) for tool in tools]


def _wired(tool: Any, strict: bool | None) -> Json:
    if isinstance(tool, Tool):
        fields: Json = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        return {"type": "function", "function": {**fields, "strict": tool.strict}}
    if isinstance(tool, dict) and tool.get("type") == "function":
        named = cast("Json", tool)
        # The Responses API has the fields of a function beside its type.
        flat = {key: value for key, value in named.items() if key != "type"}
        return named if "function" in named else {"type": "function", "function": flat}
    if isinstance(tool, dict) and isinstance(tool.get("schema"), dict) and "name" in tool:
        # What stands inside OpenAI's `response_format`: LangChain would offer a tool without arguments.
        named = cast("Json", tool)
        kept = {key: named[key] for key in ("name", "description", "strict") if key in named}
        given = {} if strict is None else {"strict": strict}
        return {"type": "function", "function": {**kept, "parameters": named["schema"], **given}}
    try:
        wired = convert_to_openai_tool(tool, strict=strict)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{tool!r:.80} can't be offered as a tool: {_first_line(error)}") from error
    if "function" not in wired:
        raise UsageError(f"tools of the kind '{wired.get('type')}' are not run here; only functions of the caller's.")
    return _without_dicts_own(wired)


def tools_of(given: Sequence[Any]) -> tuple[Tool, ...]:
    """The tools as the search takes them. Raises `UsageError` for what is no tool."""
    return tuple(made(Tool, tool_fields(tool), "a tool") for tool in wire_tools(given))


def choice_of(given: Any, tools: Sequence[Tool], *, parallel: bool | None = None) -> ToolChoice:
    """Whether the tools must be called, out of every form in which LangChain says it.

    "auto" or None, "any", "required" or True, "none" or False, a tool's name, or OpenAI's or Anthropic's object with
    one. Raises `UsageError` for a tool that isn't there, and where tools must be called and there are none.
    """
    if isinstance(given, ToolChoice):
        return given
    at_once = parallel is not False
    if given in (None, "auto"):
        return ToolChoice(parallel=at_once)
    if given in ("none", False):
        return ToolChoice(mode="none", parallel=at_once)
    if not tools:
        raise UsageError("tool_choice: there are no tools to choose from.")
    if given in REQUIRED:
        return ToolChoice(mode="required", parallel=at_once)
    name = _chosen(given)
    if name is None:
        return choice_of(given["type"], tools, parallel=parallel)
    if all(tool.name != name for tool in tools):
        raise UsageError(f"tool_choice: there is no tool '{name}'; there are {', '.join(tool.name for tool in tools)}.")
    return ToolChoice(mode="required", name=name, parallel=at_once)


def _chosen(given: Any) -> str | None:
    """The name that a choice names; None where it only says how."""
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        inner = cast("Mapping[str, Any]", given.get("function") or given)
        if isinstance(name := inner.get("name"), str):
            return name
        if given.get("type") in ("auto", "any", "none", "required"):
            return None
    raise UsageError("tool_choice: expected auto, any, none or the name of a tool.")


def shape_of(given: Any) -> Shape | None:
    """The form that OpenAI's `response_format` or a class asks for, or a `Shape` as it is.

    Raises `UsageError` for all else.
    """
    if given is None or isinstance(given, Shape):
        return given
    if isinstance(given, type):
        given = response_format(given)
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Shape(kind="json_object")
    said = given.get("json_schema") if kind == "json_schema" else None
    if not isinstance(said, Mapping) or not isinstance(said.get("schema"), Mapping):
        raise UsageError("response_format: expected text, json_object, or json_schema with its schema.")
    named = cast("Json", said)
    return schema_form(
        dict(named["schema"]),
        name=named.get("name") or "",
        description=named.get("description"),
        strict=named.get("strict"),
    )


def is_model_class(schema: Any) -> TypeGuard[type[BaseModel]]:
    """Whether a schema is a pydantic class."""
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def response_format(schema: Any, *, strict: bool | None = None) -> Json:
    """OpenAI's `response_format` for a pydantic class, a TypedDict, a JSON schema or what stands inside that format.

    Raises `UsageError` for anything else.
    """
    if isinstance(schema, dict) and "properties" not in schema:
        form = cast("Json", schema)
        if form.get("type") in ("json_schema", "json_object"):
            return form
        if isinstance(form.get("name"), str) and isinstance(form.get("schema"), dict):
            return {"type": "json_schema", "json_schema": form if strict is None else {**form, "strict": strict}}
    if is_model_class(schema):
        form = schema.model_json_schema()
        name = schema.__name__
    else:
        try:
            form = _without_dicts_own(convert_to_json_schema(schema))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{schema!r:.80} is no schema that an answer could have: {_first_line(error)}") from error
        name = str(form.get("title") or "answer")
    given: Json = {"name": _NOT_IN_A_NAME.sub("_", name)[:64], "schema": form}
    if strict is not None:
        given["strict"] = strict
    return {"type": "json_schema", "json_schema": given}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _without_dicts_own(value: Any) -> Any:
    """`value` without the descriptions that LangChain takes from `dict` itself where a TypedDict has no docstring."""
    if isinstance(value, dict):
        fields = cast("Json", value)
        return {
            key: _without_dicts_own(inner)
            for key, inner in fields.items()
            if not (key == "description" and inner == dict.__doc__)
        }
    if isinstance(value, list):
        return [_without_dicts_own(inner) for inner in cast("list[Any]", value)]
    return value
