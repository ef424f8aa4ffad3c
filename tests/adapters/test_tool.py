"""The tools by themselves, and in a ToolNode: schema, content, artifact, progress, errors, cancelling, feedback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from kaelum_adapters.outcome_tool import kaelum_outcome_tool
from kaelum_adapters.tool import kaelum_tool
from kaelum_graph import workers
from kaelum_graph.answer import Answer
from kaelum_graph.errors import ConfigError, ModelError, UsageError
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import WorkerName
from tests.adapters.scripted_chat_model import calling
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Script, always, cycle

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."


def called(**args: Any) -> Any:
    """A call as an agent makes it."""
    return {"name": "kaelum", "args": {"question": QUESTION, **args}, "id": "call_1", "type": "tool_call"}


def in_a_graph(tool: Any, **compiled: Any) -> Any:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([tool]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    return graph.compile(**compiled)


def failing(error: Exception) -> Script:
    def script(request: GenerationRequest, k: int) -> str:
        raise error

    return script


def test_the_content_says_what_how_sure_and_under_which_id(make_kaelum: MakeKaelum) -> None:
    message = kaelum_tool(make_kaelum(always(BOXED))).invoke(called(worker="math"))
    answer = Answer.from_json(message.artifact)
    assert message.content.splitlines() == [
        "First I subtract.",
        "The answer is \\boxed{5}",
        "",
        "Answer: 5",
        f"How sure: verified: a check on the question itself passed, P(correct) = {answer.confidence:.2f}",
        f"Id for feedback: {answer.id}",
    ]
    assert (message.status, message.tool_call_id, message.name) == ("success", "call_1", "kaelum")


def test_the_artifact_is_the_whole_answer_with_its_trace(make_kaelum: MakeKaelum) -> None:
    artifact = kaelum_tool(make_kaelum(always(BOXED))).invoke(called(worker="math")).artifact
    assert json.loads(json.dumps(artifact)) == artifact
    assert Answer.from_json(artifact).query == QUESTION
    assert artifact["trace"]["rollouts"]


def test_the_trace_can_be_left_out(make_kaelum: MakeKaelum) -> None:
    artifact = kaelum_tool(make_kaelum(always(BOXED)), trace=False).invoke(called()).artifact
    assert artifact["trace"] is None
    assert artifact["evidence"]


def test_not_sure_is_said_with_the_best_candidates(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle("The answer is \\boxed{7}", "The answer is \\boxed{8}"), max_reflections=0)
    message = kaelum_tool(kaelum).invoke(called(worker="math"))
    assert message.content.startswith("Not sure. The best candidates are:")
    assert "How sure: not sure" in message.content
    assert "Answer:" not in message.content
    assert "7" in message.content
    assert "8" in message.content


def test_plain_arguments_give_plain_content(make_kaelum: MakeKaelum) -> None:
    assert "Answer: 5" in kaelum_tool(make_kaelum(always(BOXED))).invoke({"question": QUESTION, "worker": "math"})


async def test_async_gives_the_same(make_kaelum: MakeKaelum) -> None:
    message = await kaelum_tool(make_kaelum(always(BOXED))).ainvoke(called(worker="math"))
    assert message.artifact["answer"] == "5"
    assert "Answer: 5" in message.content


def test_an_agent_sees_question_effort_and_the_registered_workers(make_kaelum: MakeKaelum) -> None:
    schema: Any = kaelum_tool(make_kaelum(always(BOXED))).tool_call_schema
    properties = schema.model_json_schema()["properties"]
    assert set(properties) == {"question", "effort", "worker"}
    assert properties["worker"]["anyOf"][0]["enum"] == list(workers.all_workers())
    assert all(name in properties["worker"]["description"] for name in workers.all_workers())


def test_a_worker_of_ones_own_is_offered(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    class Proofs(type(workers.worker("math"))):
        name = WorkerName("proofs")
        description = "Proves a theorem."

    monkeypatch.setattr(workers, "_registry", dict(workers._registry))
    workers.register(Proofs)
    tool = kaelum_tool(make_kaelum(always(BOXED)))
    assert tool.args["worker"]["anyOf"][0]["enum"][-1] == "proofs"
    assert tool.invoke(called(worker="proofs")).artifact["worker"] == "proofs"


def test_what_is_set_is_not_the_agents_to_choose(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    tool = kaelum_tool(kaelum, name="mathematician", description="Solves equations.", worker="math", sims=3)
    assert (tool.name, tool.description, set(tool.args)) == ("mathematician", "Solves equations.", {"question"})
    artifact = tool.invoke({**called(worker="code"), "name": "mathematician"}).artifact
    assert artifact["worker"] == "math"
    assert artifact["cost"]["rollouts"] <= 3


def test_what_is_set_for_the_kaelum_is_not_the_agents_to_choose(make_kaelum: MakeKaelum) -> None:
    assert set(kaelum_tool(make_kaelum(always(BOXED), sims=6)).args) == {"question", "worker"}
    assert set(kaelum_tool(make_kaelum(always(BOXED), worker="math")).args) == {"question", "effort"}


def test_effort_bounds_the_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: f"The answer is \\boxed{{{k}}}", max_reflections=0, early_stop=False)
    rollouts = [
        kaelum_tool(kaelum).invoke(called(effort=effort)).artifact["cost"]["rollouts"] for effort in ("low", "high")
    ]
    assert rollouts[0] < rollouts[1]


def test_a_bad_option_is_told_when_the_tool_is_made(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    with pytest.raises(UsageError, match="unknown option 'simulations'"):
        kaelum_tool(kaelum, simulations=3)
    with pytest.raises(ConfigError, match="sims"):
        kaelum_tool(kaelum, sims=-1)


def test_tenants_have_their_own_answers(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    ann, bob = kaelum_tool(kaelum, tenant="ann"), kaelum_tool(kaelum, tenant="bob")
    states = [tool.invoke(called(worker="math")).artifact["cache"] for tool in (ann, ann, bob)]
    assert states == ["miss", "hit", "miss"]


@pytest.mark.parametrize("v2", [False, True])
async def test_progress_and_text_reach_the_hosts_streams(make_kaelum: MakeKaelum, v2: bool) -> None:
    graph = in_a_graph(kaelum_tool(make_kaelum(always(BOXED))))
    state = {"messages": [AIMessage("", tool_calls=[called(worker="math")])]}
    parts: list[tuple[str, Any]] = []
    modes = ["custom", "tools", "values"]
    async for part in graph.astream(state, stream_mode=modes, **({"version": "v2"} if v2 else {})):
        parts.append((part["type"], part["data"]) if v2 else part)
    progress = [data["kaelum"] for mode, data in parts if mode == "custom"]
    assert [data["stage"] for data in progress][:2] == ["cache", "route"]
    assert {data["tool_call_id"] for data in progress} == {"call_1"}
    deltas = [data["delta"] for mode, data in parts if mode == "tools" and data["event"] == "tool-output-delta"]
    assert "".join(deltas) == BOXED
    message = parts[-1][1]["messages"][-1]
    assert isinstance(message, ToolMessage)
    assert message.artifact["id"] == progress[0]["id"]


def test_sync_hosts_get_the_same(make_kaelum: MakeKaelum) -> None:
    graph = in_a_graph(kaelum_tool(make_kaelum(always(BOXED))))
    state = {"messages": [AIMessage("", tool_calls=[called(worker="math")])]}
    parts = list(graph.stream(state, stream_mode=["custom", "tools"]))
    stages = [data["kaelum"]["stage"] for mode, data in parts if mode == "custom"]
    assert {"cache", "route", "wave", "verify"} <= set(stages)
    assert "".join(data.get("delta", "") for mode, data in parts if mode == "tools") == BOXED


def test_calls_side_by_side_are_told_apart_with_a_checkpointer(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    graph = in_a_graph(kaelum_tool(make_kaelum(always(BOXED), cache=False)), checkpointer=InMemorySaver())
    both = calling(
        ("kaelum", {"question": QUESTION, "worker": "math"}), ("kaelum", {"question": QUESTION, "worker": "code"})
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    events = list(graph.stream({"messages": [both]}, config, stream_mode="custom"))
    messages = graph.get_state(config).values["messages"][1:]
    assert [message.tool_call_id for message in messages] == [call["id"] for call in both.tool_calls]
    assert [message.artifact["worker"] for message in messages] == ["math", "code"]
    told = [event["kaelum"] for event in events]
    routed = {progress["tool_call_id"]: progress["worker"] for progress in told if progress["stage"] == "route"}
    assert [routed[message.tool_call_id] for message in messages] == ["math", "code"]


def test_a_host_that_was_killed_runs_the_search_again(make_kaelum: MakeKaelum) -> None:
    alive: list[bool] = []

    def script(request: GenerationRequest, k: int) -> str:
        if k == 6 and not alive:
            raise ZeroDivisionError
        return f"The answer is \\boxed{{{k}}}"

    kaelum = make_kaelum(script, early_stop=False, max_reflections=0)
    graph = in_a_graph(kaelum_tool(kaelum, sims=12), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    with pytest.raises(ZeroDivisionError):
        graph.invoke({"messages": [AIMessage("", tool_calls=[called(worker="math")])]}, config)
    alive.append(True)
    drawn: Any = kaelum.services.model
    before = drawn.drawn
    artifact = graph.invoke(None, config)["messages"][-1].artifact
    assert artifact["cost"]["rollouts"] == drawn.drawn - before == 12


def test_a_model_that_fails_is_told_in_a_tool_message(make_kaelum: MakeKaelum) -> None:
    tool = kaelum_tool(make_kaelum(failing(ModelError("the model ran out of memory."))))
    message = tool.invoke(called(worker="math"))
    assert (message.status, message.content) == ("error", "the model ran out of memory.")
    graph = in_a_graph(tool)
    result = graph.invoke({"messages": [AIMessage("", tool_calls=[called(worker="math")])]})
    assert result["messages"][-1].status == "error"


def test_a_host_may_have_failures_raised(make_kaelum: MakeKaelum) -> None:
    tool = kaelum_tool(make_kaelum(failing(ModelError("the model ran out of memory."))))
    tool.handle_tool_error = False
    with pytest.raises(ToolException, match="out of memory"):
        tool.invoke(called(worker="math"))


def test_a_fault_in_a_program_is_not_hidden(make_kaelum: MakeKaelum) -> None:
    with pytest.raises(ZeroDivisionError):
        kaelum_tool(make_kaelum(failing(ZeroDivisionError()))).invoke(called(worker="math"))


@pytest.mark.parametrize(
    ("args", "said"), [({"question": "  "}, "empty"), ({"effort": "huge"}, "effort"), ({"worker": "cook"}, "worker")]
)
async def test_an_agents_mistakes_are_told_in_a_line(make_kaelum: MakeKaelum, args: Any, said: str) -> None:
    tool = kaelum_tool(make_kaelum(always(BOXED)))
    for message in (tool.invoke(called(**args)), await tool.ainvoke(called(**args))):
        assert message.status == "error"
        assert said in message.content
        assert len(message.content.splitlines()) == 1


def test_a_forged_runtime_is_not_used(make_kaelum: MakeKaelum) -> None:
    message = kaelum_tool(make_kaelum(always(BOXED))).invoke(called(worker="math", runtime="mine"))
    assert message.artifact["answer"] == "5"


class Slow:
    """A script that takes a while for every sample, and counts them."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.drawn = 0

    def __call__(self, request: GenerationRequest, k: int) -> str:
        self.begun.set()
        self.drawn += 1
        time.sleep(0.05)
        return f"The answer is \\boxed{{{k}}}"


async def test_cancelling_the_task_cancels_the_search(make_kaelum: MakeKaelum) -> None:
    slow = Slow()
    tool = kaelum_tool(make_kaelum(slow, wave_size=2), sims=200, early_stop=False)
    task = asyncio.create_task(tool.ainvoke(called(worker="creative")))
    await asyncio.to_thread(slow.begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.5)
    drawn = slow.drawn
    await asyncio.sleep(0.5)
    assert slow.drawn == drawn < 50


async def test_leaving_the_hosts_stream_cancels_the_search(make_kaelum: MakeKaelum) -> None:
    slow = Slow()
    graph = in_a_graph(kaelum_tool(make_kaelum(slow, wave_size=2), sims=200, early_stop=False))
    stream = graph.astream({"messages": [AIMessage("", tool_calls=[called(worker="creative")])]}, stream_mode="custom")
    async for event in stream:
        if event["kaelum"]["stage"] == "wave":
            break
    await stream.aclose()
    await asyncio.sleep(0.5)
    drawn = slow.drawn
    await asyncio.sleep(0.5)
    assert slow.drawn == drawn < 50


def test_an_outcome_is_kept_by_the_id_in_the_content(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    content = kaelum_tool(kaelum, tenant="ann").invoke({"question": QUESTION, "worker": "math"})
    answer_id = content.rsplit(" ", 1)[-1]
    tool = kaelum_outcome_tool(kaelum, tenant="ann")
    said = {"id": answer_id, "score": 0.0, "comment": "It failed."}
    assert [tool.invoke(dict(said)) for _ in range(2)] == ["Kept.", "Known already."]
    assert kaelum_tool(kaelum, tenant="ann").invoke(called(worker="math")).artifact["cache"] == "miss"


@pytest.mark.parametrize(
    ("args", "said"), [({"id": "no such", "score": 1.0}, "no such"), ({"id": "x", "score": 7}, "score")]
)
async def test_an_outcome_of_nothing_is_told(make_kaelum: MakeKaelum, args: Any, said: str) -> None:
    tool = kaelum_outcome_tool(make_kaelum(always(BOXED)))
    call: Any = {"name": "report_outcome", "args": args, "id": "1", "type": "tool_call"}
    for message in (tool.invoke(call), await tool.ainvoke(call)):
        assert message.status == "error"
        assert said in message.content
