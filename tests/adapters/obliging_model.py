"""A script for a model that does what LangChain's standard tests ask of one: it calls, fills in forms, and talks."""

from __future__ import annotations

import json
import re
from typing import Any

from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import Tool, ToolCall
from tests.graphs.scripted_model import Said

SPOKEN = "Here you are.\nIt comes to \\boxed{3}"


def obliging(request: GenerationRequest, k: int) -> Said:
    """JSON where a form is asked for, a call where a tool may be and none was yet, else a plain answer."""
    asked = "\n".join(turn.content for turn in request.messages if turn.role == "user")
    if request.shape is not None:
        named = dict.fromkeys(re.findall(r"'([a-z]\w*)'", asked)) or {"answer": None}
        schema = request.shape.schema or {"properties": {name: {"type": "string"} for name in named}}
        return json.dumps(filled(schema, asked))
    may_call = request.tools and request.tool_choice.mode != "none"
    if may_call and (request.tool_choice.mode == "required" or request.messages[-1].role != "tool"):
        tool = chosen(request)
        arguments = json.dumps(filled(tool.parameters, asked), ensure_ascii=False)
        return "", (ToolCall(f"call_{k}", tool.name, arguments),)
    return SPOKEN


def chosen(request: GenerationRequest) -> Tool:
    named = [tool for tool in request.tools if tool.name == request.tool_choice.name]
    return (named or list(request.tools))[0]


def filled(schema: dict[str, Any], asked: str) -> dict[str, Any]:
    """An object with every property of the schema: numbers and quoted words out of what was asked, where there are."""
    numbers, quoted = re.findall(r"\d+", asked), re.findall(r"'([^']+)'", asked)
    values: dict[str, Any] = {}
    for name, kind in (schema.get("properties") or {}).items():
        if kind.get("type") == "integer":
            values[name] = int(numbers[0]) if numbers else 1
        else:
            values[name] = quoted[0] if quoted else f"a {name}"
    return values
