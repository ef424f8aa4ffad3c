"""The written form of tools, calls and results that Hermes models, Qwen among them, are trained on.

Templates that know it write it themselves; here it is for all others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

from kaelum_graph.types import Json, Message, Tool, ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"

INTRODUCTION = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
INSTRUCTION = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    f"{OPEN}{CLOSE} XML tags:\n"
    f'{OPEN}\n{{"name": <function-name>, "arguments": <args-json-object>}}\n{CLOSE}'
)


def tool_json(tool: Tool) -> Json:
    """A tool as the OpenAI API and every chat template have it."""
    function: Json = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def arguments_of(call: ToolCall) -> object:
    """The call's arguments as a value; the text itself where it is no JSON."""
    try:
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return call.arguments


def call_text(call: ToolCall) -> str:
    """A call as the model writes it."""
    name = json.dumps(call.name, ensure_ascii=False)
    return f'{OPEN}\n{{"name": {name}, "arguments": {call.arguments or "{}"}}}\n{CLOSE}'


def with_tools_as_text(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The conversation with tools in its system prompt, calls in the assistant's text, results in user turns."""
    turns: list[Message] = []
    for is_result, group in groupby(messages, key=lambda message: message.role == "tool"):
        if is_result:
            results = (f"<tool_response>\n{message.content}\n</tool_response>" for message in group)
            turns.append(Message("user", "\n".join(results)))
            continue
        for message in group:
            parts = [message.content] if message.content else []
            turns.append(Message(message.role, "\n".join([*parts, *map(call_text, message.calls)])))
    if not tools:
        return turns
    listed = "\n".join(json.dumps(tool_json(tool), ensure_ascii=False) for tool in tools)
    prompt = INTRODUCTION + listed + INSTRUCTION
    if turns and turns[0].role == "system":
        return [Message("system", f"{turns[0].content}\n\n{prompt}"), *turns[1:]]
    return [Message("system", prompt), *turns]
