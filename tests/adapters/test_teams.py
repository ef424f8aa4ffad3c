"""Kaelum in teams: under a supervisor, in a swarm, in langchain's agent; as a tool and as a member of its own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from kaelum_graph import Kaelum, create_kaelum, kaelum_outcome_tool, kaelum_tool
from kaelum_graph.answer import Answer
from tests.adapters.scripted_chat_model import calling, contents, scripted
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."
ASKED: Any = {"messages": [HumanMessage(QUESTION)]}
THREAD: Any = {"configurable": {"thread_id": "1"}}


def last(messages: list[AnyMessage], kind: type[BaseMessage], name: str | None = None) -> Any:
    return next(one for one in reversed(messages) if isinstance(one, kind) and name in (None, one.name))


def stages(parts: list[Any]) -> list[str]:
    """The search's progress in a stream of subgraphs and modes, in order."""
    return [data["kaelum"]["stage"] for _, mode, data in parts if mode == "custom" and "kaelum" in data]


def final(parts: list[Any]) -> list[Any]:
    """The outermost graph's messages at the end."""
    return [data for namespace, mode, data in parts if mode == "values" and not namespace][-1]["messages"]


async def streamed(graph: Any, asked: Any = ASKED, config: Any = None) -> list[Any]:
    modes = ["custom", "values"]
    return [part async for part in graph.astream(asked, config, stream_mode=modes, subgraphs=True)]


def supervised(agents: list[Any], model: Any, **options: Any) -> Any:
    """A supervisor's graph; the package builds it with a function that LangGraph calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return create_supervisor(agents, model=model, **options)


def member(kaelum: Kaelum) -> Any:
    """Kaelum's own graph as a member of a team."""
    return create_kaelum(kaelum).compile(name="kaelum")


async def test_langchains_agent_calls_the_tool_and_reads_the_content(make_kaelum: MakeKaelum) -> None:
    model = scripted(calling(("kaelum", {"question": QUESTION, "worker": "math"})), AIMessage("It is 5."))
    parts = await streamed(create_agent(model, [kaelum_tool(make_kaelum(always(BOXED)))]))
    messages = final(parts)
    result = last(messages, ToolMessage)
    assert contents(messages)[-1] == "It is 5."
    assert result.tool_call_id == messages[1].tool_calls[0]["id"]
    assert Answer.from_json(result.artifact).answer == "5"
    assert "verified" in model.seen[-1][-1].text
    assert stages(parts)[:2] == ["cache", "route"]
    assert set(model.bound) == {"kaelum"}


def test_an_agent_reports_how_an_answer_turned_out(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))

    def report(messages: list[BaseMessage]) -> AIMessage:
        answer_id = messages[-1].text.rsplit(" ", 1)[-1]
        return calling(("report_outcome", {"id": answer_id, "score": 1.0, "comment": "The plan worked."}))

    model = scripted(calling(("kaelum", {"question": QUESTION, "worker": "math"})), report, AIMessage("Done."))
    agent = create_agent(model, [kaelum_tool(kaelum), kaelum_outcome_tool(kaelum)])
    messages = agent.invoke(ASKED)["messages"]
    assert last(messages, ToolMessage).content == "Kept."
    answer_id = last(messages, ToolMessage, "kaelum").artifact["id"]
    (kept,) = [change.after for change in kaelum.services.storage.feedback_log(after=0)]
    assert kept is not None
    assert (kept.episode_id, kept.score) == (answer_id, 1.0)


async def test_a_worker_of_a_supervisor_has_the_tool(make_kaelum: MakeKaelum) -> None:
    call = calling(("kaelum", {"question": QUESTION, "worker": "math"}))
    tool = kaelum_tool(make_kaelum(always(BOXED)))
    worker = create_agent(scripted(call, AIMessage("x is 5.")), [tool], name="mathematician")
    boss = scripted(calling(("transfer_to_mathematician", {})), AIMessage("The team says 5."))
    graph = supervised([worker], boss, output_mode="full_history").compile(checkpointer=InMemorySaver())
    parts = await streamed(graph, config=THREAD)
    messages = final(parts)
    assert contents(messages)[-1] == "The team says 5."
    result = last(messages, ToolMessage, "kaelum")
    assert result.tool_call_id == call.tool_calls[0]["id"]
    assert result.artifact["id"] in result.content
    assert {"route", "wave", "verify"} <= set(stages(parts))
    assert "x is 5." in contents(boss.seen[-1])
    assert len({message.id for message in messages}) == len(messages)


def test_a_supervisor_itself_has_the_tool(make_kaelum: MakeKaelum) -> None:
    idle = create_agent(scripted(), name="idle")
    boss = scripted(calling(("kaelum", {"question": QUESTION, "worker": "math"})), AIMessage("It is 5."))
    graph = supervised([idle], boss, tools=[kaelum_tool(make_kaelum(always(BOXED)))]).compile()
    parts = list(graph.stream(ASKED, stream_mode=["custom", "values"], subgraphs=True))
    assert last(final(parts), ToolMessage, "kaelum").artifact["answer"] == "5"
    assert "verify" in stages(parts)


@pytest.mark.parametrize("run", ["sync", "async"])
async def test_kaelums_own_graph_is_a_member_under_a_supervisor(make_kaelum: MakeKaelum, run: str) -> None:
    boss = scripted(calling(("transfer_to_kaelum", {})), AIMessage("Kaelum says 5."))
    graph = supervised([member(make_kaelum(always(BOXED)))], boss).compile(checkpointer=InMemorySaver())
    result = graph.invoke(ASKED, THREAD) if run == "sync" else await graph.ainvoke(ASKED, THREAD)
    messages = result["messages"]
    told = [message for message in messages if "kaelum" in message.response_metadata]
    assert [message.response_metadata["kaelum"]["answer"] for message in told] == ["5"]
    assert told[0].id == told[0].response_metadata["kaelum"]["id"]
    assert any(BOXED in content for content in contents(boss.seen[-1]))
    assert contents(messages)[-1] == "Kaelum says 5."


async def test_a_swarm_hands_over_to_an_agent_with_the_tool(make_kaelum: MakeKaelum) -> None:
    call = calling(("kaelum", {"question": QUESTION, "worker": "math"}))
    tool = kaelum_tool(make_kaelum(always(BOXED)))
    clerk = create_agent(
        scripted(calling(("transfer_to_solver", {}))), [create_handoff_tool(agent_name="solver")], name="clerk"
    )
    solver = create_agent(scripted(call, AIMessage("It is 5."), AIMessage("Still 5.")), [tool], name="solver")
    graph = create_swarm([clerk, solver], default_active_agent="clerk").compile(checkpointer=InMemorySaver())
    parts = await streamed(graph, config=THREAD)
    messages = final(parts)
    assert contents(messages)[-1] == "It is 5."
    assert last(messages, ToolMessage, "kaelum").tool_call_id == call.tool_calls[0]["id"]
    assert "verify" in stages(parts)
    again = await graph.ainvoke({"messages": [HumanMessage("Sure?")]}, THREAD)
    assert contents(again["messages"])[-1] == "Still 5."
    assert again["messages"][: len(messages)] == messages


async def test_a_swarm_hands_over_to_kaelums_own_graph(make_kaelum: MakeKaelum) -> None:
    clerk = create_agent(
        scripted(calling(("transfer_to_kaelum", {}))), [create_handoff_tool(agent_name="kaelum")], name="clerk"
    )
    swarm = create_swarm([clerk, member(make_kaelum(always(BOXED)))], default_active_agent="clerk")
    graph = swarm.compile(checkpointer=InMemorySaver())
    messages = (await graph.ainvoke(ASKED, THREAD))["messages"]
    assert messages[-1].response_metadata["kaelum"]["answer"] == "5"
    again = (await graph.ainvoke({"messages": [HumanMessage("Solve 2x = 10 for x.")]}, THREAD))["messages"]
    assert again[: len(messages)] == messages
    assert again[-1].response_metadata["kaelum"]["answer"] == "5"
    assert again[-1].id != messages[-1].id
