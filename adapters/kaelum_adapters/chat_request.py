"""What a call of the chat model asks: LangChain's messages, tools, choices and forms as the search takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, cast

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel

from kaelum_adapters.answer_form import schema_form
from kaelum_flow.state import made, tool_fields
from kaelum_graph.errors import UsageError
from kaelum_graph.types import Json, Shape, Tool, ToolChoice

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
TEXT_PARTS = frozenset({"text", "input_text", "output_text", "plain_text"})
REQUIRED = ("any", "required", True)


def check_texts(messages: Sequence[BaseMessage]) -> None:
    """Raise `UsageError` for a part of a message that this model would have to leave unread, such as an image.

    An assistant's own turns may hold reasoning and calls beside their text: those stand elsewhere in the message.
    """
    for place, message in enumerate(messages):
        if isinstance(message.content, str) or isinstance(message, AIMessage):
            continue
        for part in message.content:
            kind = "text" if isinstance(part, str) else part.get("type")
            if kind not in TEXT_PARTS:
                raise UsageError(f"messages.{place}.content: this model reads text only; '{kind}' can't be sent.")


def wire_tools(tools: Sequence[Any], *, strict: bool | None = None) -> list[Json]:
    """Tools in OpenAI's form, out of anything that LangChain takes for a tool, or a `Tool`.

    Raises `UsageError` for anything else.
    """
    return [_wired(tool, strict) for tool in tools]


def _wired(tool: Any, strict: bool | None) -> Json:
    if isinstance(tool, Tool):
        fields: Json = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        return {"type": "function", "function": {**fields, "strict": tool.strict}}
    if isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool:
        return cast("Json", tool)
    try:
        wired = convert_to_openai_tool(tool, strict=strict)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{tool!r:.80} can't be offered as a tool: {error}") from error
    if "function" not in wired:
        raise UsageError(f"tools of the kind '{wired.get('type')}' are not run here; only functions of the caller's.")
    return wired


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
    """The form that OpenAI's `response_format` asks for, or a `Shape` as it is. Raises `UsageError` for all else."""
    if given is None or isinstance(given, Shape):
        return given
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
    """OpenAI's `response_format` for a pydantic class, a TypedDict or a JSON schema.

    Raises `UsageError` for anything else.
    """
    if isinstance(schema, dict) and schema.get("type") in ("json_schema", "json_object") and "properties" not in schema:
        return cast("Json", schema)
    if is_model_class(schema):
        form: Json = schema.model_json_schema()
        name = schema.__name__
    else:
        try:
            form = convert_to_json_schema(schema)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{schema!r:.80} is no schema that an answer could have: {error}") from error
        name = str(form.get("title") or "answer")
    given: Json = {"name": _NOT_IN_A_NAME.sub("_", name)[:64], "schema": form}
    if strict is not None:
        given["strict"] = strict
    return {"type": "json_schema", "json_schema": given}
