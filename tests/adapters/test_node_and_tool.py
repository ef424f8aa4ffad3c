"""Kaelum inside a host graph and as a tool, over a scripted model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from kaelum_graph import kaelum_node, kaelum_tool
from kaelum_graph.errors import UsageError
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."


def host(node: Any) -> Any:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    graph.add_node("reason", node)
    graph.add_edge(START, "reason")
    graph.add_edge("reason", END)
    return graph.compile()


def test_a_host_gets_the_answer_as_a_message(make_kaelum: MakeKaelum) -> None:
    graph = host(kaelum_node(make_kaelum(always(BOXED)), worker="math"))
    result = graph.invoke({"messages": [HumanMessage(QUESTION)]})
    reply = result["messages"][-1]
    assert isinstance(reply, AIMessage)
    about = reply.response_metadata["kaelum"]
    assert (about["answer"], about["status"]) == ("5", "verified")
    assert reply.id == about["id"]


def test_progress_reaches_the_host_without_subgraph_streaming(make_kaelum: MakeKaelum) -> None:
    graph = host(kaelum_node(make_kaelum(always(BOXED)), worker="math"))
    events = list(graph.stream({"messages": [HumanMessage(QUESTION)]}, stream_mode="custom"))
    stages = [event["kaelum"]["stage"] for event in events]
    assert stages[:2] == ["cache", "route"]
    assert {"wave", "verify"} <= set(stages)


async def test_async_hosts_get_the_same(make_kaelum: MakeKaelum) -> None:
    graph = host(kaelum_node(make_kaelum(always(BOXED)), worker="math"))
    seen = [
        part async for part in graph.astream({"messages": [HumanMessage(QUESTION)]}, stream_mode=["custom", "values"])
    ]
    assert any(mode == "custom" for mode, _ in seen)
    assert seen[-1][1]["messages"][-1].response_metadata["kaelum"]["answer"] == "5"


def test_a_host_without_a_question_is_told(make_kaelum: MakeKaelum) -> None:
    graph = host(kaelum_node(make_kaelum(always(BOXED))))
    with pytest.raises(UsageError, match="empty"):
        graph.invoke({"messages": [AIMessage("hello")]})


def test_the_tool_returns_content_and_artifact(make_kaelum: MakeKaelum) -> None:
    tool = kaelum_tool(make_kaelum(always(BOXED)))
    call = {"name": "kaelum", "args": {"question": QUESTION, "worker": "math"}, "id": "1", "type": "tool_call"}
    message = tool.invoke(call)
    assert "verified" in message.content
    assert message.artifact["answer"] == "5"


async def test_the_tool_runs_in_a_tool_node_and_streams(make_kaelum: MakeKaelum) -> None:
    graph = host(ToolNode([kaelum_tool(make_kaelum(always(BOXED)))]))
    call = {"name": "kaelum", "args": {"question": QUESTION, "effort": "low"}, "id": "1", "type": "tool_call"}
    asked = AIMessage("", tool_calls=[call])
    seen = [part async for part in graph.astream({"messages": [asked]}, stream_mode=["custom", "values"])]
    assert any(mode == "custom" and "kaelum" in data for mode, data in seen)
    assert seen[-1][1]["messages"][-1].artifact["cost"]["rollouts"] <= 4


def test_an_agent_sees_only_what_it_may_set(make_kaelum: MakeKaelum) -> None:
    properties = kaelum_tool(make_kaelum(always(BOXED))).get_input_jsonschema()["properties"]
    assert set(properties) == {"question", "effort", "worker"}
