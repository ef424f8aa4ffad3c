"""Searches in the nodes of a host that is interrupted and resumed: each answer is that of its own question."""

from __future__ import annotations

import re
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from kaelum_graph import ChatKaelum, Kaelum, kaelum_node
from kaelum_graph.models.base import CancelToken, GenerationRequest
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

CONFIG: RunnableConfig = {"configurable": {"thread_id": "one"}}
QUESTIONS = [f"How much is {number} apples?" for number in (3, 4, 5, 6, 7)]


def counted(request: GenerationRequest, index: int) -> str:
    """The number in the question."""
    asked = "\n".join(turn.content for turn in request.messages)
    return f"The answer is \\boxed{{{re.findall(r'How much is ([0-9]+)', asked)[-1]}}}"


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(counted, cache=False, sims=2, seed=None)


def test_a_batch_before_an_interrupt_keeps_its_order(kaelum: Kaelum) -> None:
    model = ChatKaelum(kaelum=kaelum, worker="math")

    def ask(state: MessagesState) -> Any:
        told = model.batch([*QUESTIONS])
        interrupt("go on?")
        return {"messages": told}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({"messages": []}, CONFIG)
    messages = graph.invoke(Command(resume=True), CONFIG)["messages"]
    assert [one.response_metadata["kaelum"]["answer"] for one in messages] == ["3", "4", "5", "6", "7"]


def test_nothing_of_a_nodes_search_is_kept_by_the_host(kaelum: Kaelum) -> None:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("reason", kaelum_node(kaelum, worker="math"))
    builder.add_edge(START, "reason")
    saver = InMemorySaver()
    builder.compile(checkpointer=saver).invoke({"messages": [HumanMessage(QUESTIONS[0])]}, CONFIG)
    kept = list(saver.list(None))
    assert kept
    assert all((item.config.get("configurable") or {}).get("checkpoint_ns", "") == "" for item in kept)


def test_a_token_cancels_what_it_was_given_for_and_is_left_as_it_is(kaelum: Kaelum) -> None:
    token = CancelToken()
    model = ChatKaelum(kaelum=kaelum, worker="math").bind(cancel=token)
    told = [model.invoke(question) for question in QUESTIONS[:2]]
    assert [one.response_metadata["kaelum"]["answer"] for one in told] == ["3", "4"]
    assert not token.cancelled
    next(iter(kaelum.stream(QUESTIONS[0], worker="math", cancel=token)))
    assert not token.cancelled, "whoever leaves ends one search and not those of others"
    token.cancel()
    assert kaelum.ask(QUESTIONS[0], worker="math", cancel=token).stop_reason == "cancelled"


def test_known_answers_of_a_fan_out_are_messages_of_their_own(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("The answer is \\boxed{5}"), cache=True)
    question = "Solve 3x + 5 = 20 for x."
    kaelum.ask(question, worker="math")
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("reason", kaelum_node(kaelum, worker="math"))
    builder.add_conditional_edges(
        START, lambda state: [Send("reason", {"messages": [HumanMessage(question)]})] * 2, ["reason"]
    )
    told = builder.compile().invoke({"messages": []})["messages"]
    assert [one.response_metadata["kaelum"]["cache"] for one in told if isinstance(one, AIMessage)] == ["hit", "hit"]


def test_progress_says_which_search_it_is_of(kaelum: Kaelum) -> None:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("reason", kaelum_node(kaelum, worker="math"))
    sends = [Send("reason", {"messages": [HumanMessage(question)]}) for question in QUESTIONS[:2]]
    builder.add_conditional_edges(START, lambda state: sends, ["reason"])
    events: list[Any] = list(builder.compile().stream({"messages": []}, stream_mode="custom"))
    stages: dict[str, set[str]] = {}
    for event in events:
        stages.setdefault(event["kaelum"]["id"], set()).add(event["kaelum"]["stage"])
    assert len(stages) == 2
    assert all({"cache", "route", "wave", "verify"} <= seen for seen in stages.values())
