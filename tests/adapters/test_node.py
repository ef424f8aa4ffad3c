"""Kaelum as a node: tokens, progress and the one message, however the host runs and streams it."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send
from pydantic import BaseModel
from typing_extensions import TypedDict

from kaelum_flow.facade import Kaelum
from kaelum_graph import kaelum_node
from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import Shape, Tool, ToolCall, ToolChoice
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Said, always

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."
ASKED = {"messages": [HumanMessage(QUESTION)]}


def host(node: Any, state: Any = MessagesState, **compiling: Any) -> Any:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    graph.add_node("reason", node)
    graph.add_edge(START, "reason")
    graph.add_edge("reason", END)
    return graph.compile(**compiling)


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always(BOXED), sims=2, learning=False, worker="math")


@pytest.mark.parametrize("subgraphs", [False, True])
def test_tokens_come_as_a_chat_models_and_the_message_only_once(kaelum: Kaelum, subgraphs: bool) -> None:
    graph = host(kaelum_node(kaelum))
    parts = list(graph.stream(ASKED, stream_mode="messages", version="v2", subgraphs=subgraphs))
    told = [part["data"] for part in parts]
    assert all(isinstance(message, AIMessageChunk) for message, _ in told), "no whole message after its pieces"
    assert {metadata["langgraph_node"] for _, metadata in told} == {"reason"}
    assert len({message.id for message, _ in told}) == 1
    assert "".join(message.text for message, _ in told) == BOXED
    assert told[0][0].content_blocks[0]["type"] == "reasoning"


def test_the_streamed_message_is_the_one_in_the_state(kaelum: Kaelum) -> None:
    graph = host(kaelum_node(kaelum))
    ids: set[str] = set()
    last: Any = None
    for mode, data in graph.stream(ASKED, stream_mode=["messages", "values"]):
        if mode == "messages":
            ids.add(data[0].id)
        else:
            last = data["messages"][-1]
    assert ids == {last.id}
    assert last.response_metadata["kaelum"]["id"] == last.id
    assert last.usage_metadata["output_token_details"]["reasoning"] > 0


async def test_events_of_the_host(kaelum: Kaelum) -> None:
    graph = host(kaelum_node(kaelum))
    pieces: list[str] = []
    ends = 0
    async for event in graph.astream_events(ASKED, version="v2"):
        if event["event"] == "on_chat_model_stream":
            pieces.append(event["data"]["chunk"].text)
        ends += event["event"] == "on_chat_model_end"
    assert "".join(pieces) == BOXED
    assert ends == 1


@pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel is experimental")
async def test_events_of_the_host_by_content_blocks(kaelum: Kaelum) -> None:
    graph = host(kaelum_node(kaelum))
    stream = await graph.astream_events(ASKED, version="v3")
    text = ""
    async for message in stream.messages:
        text += str(await message.text)
    assert text == BOXED


class Seen(BaseCallbackHandler):
    """Whom the model was run for."""

    def __init__(self) -> None:
        self.tags: list[str] = []
        self.metadata: dict[str, Any] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, **told: Any) -> None:
        self.tags += told["tags"] or []
        self.metadata |= told["metadata"] or {}


def test_callbacks_tags_and_metadata_of_the_host_pass_through(kaelum: Kaelum) -> None:
    seen = Seen()
    config: Any = {"callbacks": [seen], "tags": ["nightly"], "metadata": {"customer": "c-7"}}
    host(kaelum_node(kaelum)).invoke(ASKED, config)
    assert "nightly" in seen.tags
    assert seen.metadata["customer"] == "c-7"
    assert seen.metadata["ls_provider"] == "kaelum"


def echo(request: GenerationRequest, k: int) -> Said:
    asked = next(turn.content for turn in reversed(request.messages) if turn.role == "user")
    number = "".join(character for character in asked if character.isdigit())[:1]
    return f"It is \\boxed{{{number}}}"


class Questions(TypedDict):
    questions: list[str]
    messages: Annotated[list[AnyMessage], operator.add]


async def test_several_at_once(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(echo, sims=2, learning=False, worker="analysis")
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Questions)
    graph.add_node("reason", kaelum_node(kaelum))
    spread = [f"Say the number {number}." for number in (3, 5, 8)]
    graph.add_conditional_edges(
        START,
        lambda state: [Send("reason", {"messages": [HumanMessage(one)]}) for one in state["questions"]],
        ["reason"],
    )
    graph.add_edge("reason", END)
    compiled: Any = graph.compile()
    told: dict[str, str] = {}
    async for message, _ in compiled.astream({"questions": spread}, stream_mode="messages"):
        told[message.id] = told.get(message.id, "") + message.text
    assert sorted(told.values()) == [f"It is \\boxed{{{number}}}" for number in (3, 5, 8)]
    ended = compiled.invoke({"questions": spread, "messages": []})
    assert [message.text[-2] for message in ended["messages"]] == ["3", "5", "8"], "in the order they were sent in"


def test_the_same_question_twice_in_a_thread_has_two_answers(kaelum: Kaelum) -> None:
    """The cache gives the first one's answer again, under its id; the state must not take it for the first message."""
    graph = host(kaelum_node(kaelum), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    first = graph.invoke(ASKED, config)["messages"][-1]
    repeated = {"messages": [HumanMessage(QUESTION)]}
    ended = graph.invoke(repeated, config)["messages"]
    assert [message.type for message in ended] == ["human", "ai", "human", "ai"]
    assert ended[1].id == first.id


def test_a_state_that_is_an_object(kaelum: Kaelum) -> None:
    class State(BaseModel):
        messages: Annotated[list[AnyMessage], operator.add]

    assert host(kaelum_node(kaelum), State).invoke(ASKED)["messages"][-1].text == BOXED


def test_options_are_those_of_ask(make_kaelum: MakeKaelum) -> None:
    def calls_or_json(request: GenerationRequest, k: int) -> Said:
        if request.shape is not None:
            return '{"x": 5}'
        return ("", (ToolCall("c", "note", "{}"),)) if request.tools else BOXED

    kaelum = make_kaelum(calls_or_json, sims=2, learning=False)
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    node = kaelum_node(kaelum, shape=Shape(kind="json_schema", schema=schema), cache=False, tenant="ann")
    reply = host(node).invoke(ASKED)["messages"][-1]
    assert reply.text == '{"x": 5}'
    assert kaelum.services.storage.has_episode(reply.id, tenant="ann")
    assert reply.response_metadata["kaelum"]["cache"] == "off"
    forced = kaelum_node(kaelum, tools=[Tool(name="note")], tool_choice=ToolChoice(mode="required"))
    turn = host(forced).invoke(ASKED)["messages"][-1]
    assert [call["name"] for call in turn.tool_calls] == ["note"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"simms": 3}, "did you mean 'sims'"),
        ({"sims": 0}, "sims"),
        ({"sims": "lots"}, "sims: .*integer"),
        ({"effort": "huge"}, "effort: .*'max'"),
        ({"tenant": 5}, "tenant: .*string"),
        ({"tenant": "\ud800"}, "no valid Unicode"),
        ({"response_format": {"type": "json_object"}}, "unknown option 'response_format'"),
        ({"parallel_tool_calls": False}, "unknown option 'parallel_tool_calls'"),
        ({"tools": [7]}, "can't be offered"),
        ({"tools": [Tool(name="note"), Tool(name="note")]}, "note"),
        ({"tool_choice": "required"}, "no tools to choose"),
        ({"tool_choice": ToolChoice(mode="required")}, "tool"),
        ({"shape": "short"}, "json_schema"),
        ({"shape": Shape(kind="json_schema", schema={"type": "nonsense"})}, "nonsense"),
    ],
)
def test_a_bad_option_is_refused_in_a_line_when_the_graph_is_built(kaelum: Kaelum, options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        kaelum_node(kaelum, **options)
    assert len(str(refused.value).splitlines()) == 1


def test_a_class_may_be_the_form_of_the_answer(make_kaelum: MakeKaelum) -> None:
    class Root(BaseModel):
        x: int

    kaelum = make_kaelum(lambda request, k: '{"x": 5}' if request.shape else BOXED, sims=2, learning=False)
    assert host(kaelum_node(kaelum, shape=Root)).invoke(ASKED)["messages"][-1].text == '{"x": 5}'


async def test_leaving_the_hosts_stream_ends_the_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), seconds=0.05, sims=64, wave_size=1, early_stop=False, learning=False)
    model: Any = kaelum.services.model
    task = asyncio.create_task(host(kaelum_node(kaelum)).ainvoke(ASKED))
    while not model.drawn:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.3)
    drawn = model.drawn
    await asyncio.sleep(0.3)
    assert model.drawn == drawn < 64


def test_a_host_without_a_question_is_told(kaelum: Kaelum) -> None:
    with pytest.raises(UsageError, match="empty"):
        host(kaelum_node(kaelum)).invoke({"messages": [AIMessage("hello")]})
