"""LangChain's messages in and out: the question in a conversation, and the answer as its next turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolCall

from kaelum_flow.state import read_message, read_request
from kaelum_graph.answer import Answer
from kaelum_graph.shapes_schema import read_json
from kaelum_graph.types import Json
from kaelum_graph.types import ToolCall as Call

ABOUT_KEY = "kaelum"
"""Key of a message's `response_metadata` under which the answer's story stands."""


def asked(messages: Sequence[AnyMessage]) -> tuple[str, dict[str, Any]]:
    """The last user turn, and the turns around it as `Kaelum.ask` takes them: `history` and `since`.

    Raises `UsageError` when there is no user turn, or one that says nothing.
    """
    request = read_request({"messages": list(messages)})
    return request["text"], {key: tuple(map(read_message, request[key])) for key in ("history", "since")}


def answer_message(answer: Answer, messages: Sequence[BaseMessage] = ()) -> AIMessage:
    """The answer as the next turn of a conversation, under its `own_id`; calls of tools as LangChain's own."""
    return AIMessage(
        content=answer.text,
        id=own_id(answer.id, messages),
        tool_calls=[message_call(call) for call in answer.calls],
        response_metadata={ABOUT_KEY: about(answer)},
    )


def own_id(answer_id: str | None, messages: Sequence[BaseMessage]) -> str | None:
    """The id of the message that holds an answer: the answer's own, unless the conversation has a message of that id.

    So it is when the cache answers the same question in it again. A graph's state would take the new message for the
    earlier one.
    """
    known = {message.id for message in messages}
    name, again = answer_id, 1
    while name is not None and name in known:
        again += 1
        name = f"{answer_id}-{again}"
    return name


def about(answer: Answer) -> Json:
    """What a message says of the answer in it: the handle for feedback, and how sure it is."""
    return {
        "id": answer.id,
        "answer": answer.answer,
        "status": answer.status,
        "confidence": answer.confidence,
        "worker": answer.worker,
        "cache": answer.cache,
        "stop_reason": answer.stop_reason,
        "state_version": answer.state_version,
    }


def message_call(call: Call) -> ToolCall:
    """A call as LangChain's messages have it."""
    return ToolCall(name=call.name, args=read_json(call.arguments), id=call.id, type="tool_call")
