"""Kaelum as one node of a bigger LangGraph graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from pydantic import ValidationError

from kaelum_adapters.chat_model import FIELD_OF, ChatKaelum, check_arguments
from kaelum_adapters.chat_request import choice_of, shape_of, tools_of
from kaelum_flow.facade import Kaelum
from kaelum_graph.calls import CallRules
from kaelum_graph.errors import UsageError
from kaelum_graph.shapes import ShapeRules
from kaelum_graph.types import Json

PER_CALL = frozenset({"cancel", "shape", "tool_choice", "tools"})
"""Options that are no fields of the chat model."""
OPTIONS = PER_CALL | {"model", "tenant", "timeout"} | set(FIELD_OF) | set(FIELD_OF.values())


def kaelum_node(kaelum: Kaelum | None = None, **options: Any) -> Runnable[Any, Json]:
    """A node for a host graph whose state has `messages`; sync and async.

    It answers the last user turn in its conversation and returns `{"messages": [AIMessage]}`: the message of
    `ChatKaelum`, with the answer's id, status and confidence in `response_metadata["kaelum"]`. The host's stream gets
    its tokens and reasoning as those of any chat model ("messages"), and the search's progress as
    `{"kaelum": {"stage": …}}` ("custom"), whether or not the host streams subgraphs. `options` are those of
    `Kaelum.ask`: per-query settings, `tenant`, `tools`, `tool_choice`, a `shape`. Raises `UsageError` for a bad one.
    Without a `kaelum` one is made out of the environment's settings, which loads a model of its own.
    """
    check_arguments(options, OPTIONS)
    given = {FIELD_OF.get(name, name): value for name, value in options.items()}
    call = checked_call({name: value for name, value in given.items() if name in PER_CALL and value is not None})
    fields = {name: value for name, value in given.items() if name not in PER_CALL}
    try:
        # Whether an answer is known already is for the Kaelum's own cache to say, which takes feedback.
        model = ChatKaelum(kaelum=kaelum or Kaelum(), cache=False, **fields)
    except ValidationError as error:
        raise UsageError("; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())) from error

    def answer(state: Any, config: RunnableConfig) -> Json:
        return {"messages": [model.invoke(conversation(state), config, **call)]}

    async def aanswer(state: Any, config: RunnableConfig) -> Json:
        return {"messages": [await model.ainvoke(conversation(state), config, **call)]}

    return RunnableLambda(answer, aanswer, name="kaelum")


def checked_call(call: Json) -> Json:
    """The tools, the choice of them and the form as the search takes them. Raises `UsageError` for a bad one."""
    tools = tools_of(call.get("tools") or ())
    choice, shape = choice_of(call.get("tool_choice"), tools), shape_of(call.get("shape"))
    CallRules(tools, choice)
    if shape is not None:
        ShapeRules(shape)
    return {**call, "tools": tools, "tool_choice": choice, "shape": shape}


def conversation(state: Any) -> Sequence[AnyMessage]:
    """The messages of a host's state, be it a mapping or an object."""
    return state["messages"] if isinstance(state, Mapping) else state.messages
