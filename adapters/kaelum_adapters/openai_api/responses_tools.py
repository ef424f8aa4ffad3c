"""`tools`, `tool_choice` and `text.format` of `/v1/responses`, read into the engine's own values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from kaelum_adapters.answer_form import schema_form
from kaelum_adapters.openai_api.errors import ApiError, validation_error
from kaelum_adapters.openai_api.responses_body import Part, TextConfig, unsupported
from kaelum_graph.types import Json, Shape, Tool, ToolChoice

MOST_TOOLS = 128
_HOSTED = re.compile(r"[a-z0-9_.-]{1,64}")
P = TypeVar("P", bound=Part)


class FunctionTool(Part):
    """A function of the client's own."""

    type: Literal["function"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    async_: Literal[False] | None = Field(default=None, alias="async")


class NamedTool(Part):
    """A function by its name."""

    type: Literal["function"]
    name: str


class AllowedTools(Part):
    """Some of the tools, of which the model may (auto) or must (required) call one."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[Json]


def read(kind: type[P], value: Any, place: tuple[str | int, ...]) -> P:
    """`value` as a `kind`; raises `ApiError` 400 whose `param` begins with `place`."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = [{**problem, "loc": (*place, *problem["loc"])} for problem in error.errors()]
        raise validation_error(problems) from error


def read_tools(entries: Sequence[Json] | None) -> tuple[FunctionTool, ...]:
    """The tools offered, in order. Raises `ApiError` 400 for hosted tools, which nothing here could run."""
    if entries is not None and len(entries) > MOST_TOOLS:
        raise ApiError(400, f"tools: {len(entries)} given, at most {MOST_TOOLS}.", param="tools", code="invalid_value")
    tools: list[FunctionTool] = []
    for place, entry in enumerate(entries or ()):
        refuse_hosted(entry, f"tools.{place}")
        tool = read(FunctionTool, entry, ("tools", place))
        if any(tool.name == other.name for other in tools):
            param = f"tools.{place}.name"
            raise ApiError(400, f"{param}: '{tool.name}' is there twice.", param=param, code="invalid_value")
        tools.append(tool)
    return tuple(tools)


def refuse_hosted(entry: Json, param: str) -> None:
    """Raises `ApiError` 400, naming the kind, for a tool that the client doesn't run itself."""
    kind = entry.get("type")
    if isinstance(kind, str) and kind != "function":
        named = f"'{kind}'" if _HOSTED.fullmatch(kind) else "this kind of"
        raise unsupported(f"{param}.type", f"{named} tools are not run here; only 'function' tools, run by the client")


def read_tool_choice(
    value: str | Json | None, tools: Sequence[FunctionTool], *, parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools that may be called, and whether they must be. Raises `ApiError` 400 for what fits no tool."""
    offered = tuple(_tool(tool) for tool in tools)
    if value is None or value == "auto":
        return offered, ToolChoice(parallel=parallel)
    if value == "none":
        return offered, ToolChoice(mode="none", parallel=parallel)
    if value == "required":
        if not offered:
            raise _choice("'required' needs tools")
        return offered, ToolChoice(mode="required", parallel=parallel)
    if isinstance(value, str):
        raise _choice("must be 'auto', 'none', 'required' or an object")
    if value.get("type") == "allowed_tools":
        allowed = read(AllowedTools, value, ("tool_choice",))
        names = [_named(entry, offered, f"tool_choice.tools.{place}") for place, entry in enumerate(allowed.tools)]
        if not names:
            raise _choice("allowed_tools allows none; say 'none'")
        kept = tuple(tool for tool in offered if tool.name in names)
        return kept, ToolChoice(mode=allowed.mode, parallel=parallel)
    return offered, ToolChoice(mode="required", name=_named(value, offered, "tool_choice"), parallel=parallel)


def _named(entry: Json, offered: Sequence[Tool], param: str) -> str:
    refuse_hosted(entry, param)
    name = read(NamedTool, entry, tuple(param.split("."))).name
    if all(tool.name != name for tool in offered):
        param = f"{param}.name"
        raise ApiError(400, f"{param}: no tool of that name is in `tools`.", param=param, code="invalid_value")
    return name


def _tool(tool: FunctionTool) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=tool.parameters or {"type": "object", "properties": {}},
        strict=bool(tool.strict),
    )


def _choice(reason: str) -> ApiError:
    return ApiError(400, f"tool_choice: {reason}.", param="tool_choice", code="invalid_value")


def read_shape(text: TextConfig | None) -> Shape | None:
    """The form that the answer's text must have; None for plain text. Raises `ApiError` 400 for a half-given one."""
    form = None if text is None else text.format
    if form is None:
        return None
    if form.type != "json_schema":
        for name in ("name", "description", "schema_", "strict"):
            if getattr(form, name) is not None:
                param = f"text.format.{name.rstrip('_')}"
                raise ApiError(400, f"{param}: only with the type 'json_schema'.", param=param, code="invalid_value")
    if form.type == "text":
        return None
    if form.type == "json_object":
        return Shape(kind="json_object")
    if form.schema_ is None or form.name is None:
        param = "text.format.schema" if form.schema_ is None else "text.format.name"
        message = f"{param}: required, but not given."
        raise ApiError(400, message, param=param, code="missing_required_parameter")
    return schema_form(form.schema_, name=form.name, description=form.description, strict=form.strict)
