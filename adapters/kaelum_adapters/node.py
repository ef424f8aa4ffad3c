"""Kaelum as one node of a bigger LangGraph graph."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.config import get_stream_writer

from kaelum_flow.facade import Kaelum
from kaelum_flow.messages import answer_message, asked
from kaelum_graph.answer import Answer, Event, Progress
from kaelum_graph.types import Json

PROGRESS_KEY = "kaelum"


def kaelum_node(kaelum: Kaelum | None = None, **options: Any) -> Runnable[Mapping[str, Any], Json]:
    """A node for a host graph whose state has `messages`; sync and async.

    It answers the last user turn in its conversation and returns `{"messages": [AIMessage]}`, with the answer's id,
    status and confidence in `response_metadata["kaelum"]`. Progress reaches the host's custom stream as
    `{"kaelum": {"stage": …}}`, whether or not the host streams subgraphs. `options` are those of `Kaelum.ask`:
    per-query settings, `tools`, a `shape`.
    """
    served = kaelum or Kaelum()

    def answer(state: Mapping[str, Any]) -> Json:
        text, turns = asked(state["messages"])
        return reply([forward(event) for event in served.stream(text, **turns, **options)])

    async def aanswer(state: Mapping[str, Any]) -> Json:
        text, turns = asked(state["messages"])
        return reply([forward(event) async for event in served.astream(text, **turns, **options)])

    return RunnableLambda(answer, aanswer, name="kaelum")


def forward(event: Event) -> Event:
    """Pass a progress event on to the host's custom stream, where there is one."""
    if isinstance(event, Progress):
        with suppress(RuntimeError, KeyError):  # called outside of any graph: nobody listens
            get_stream_writer()({PROGRESS_KEY: {"stage": event.stage, **event.data}})
    return event


def reply(events: list[Event]) -> Json:
    """The state update that ends a run."""
    answer = next(event for event in reversed(events) if isinstance(event, Answer))
    return {"messages": [answer_message(answer)]}
