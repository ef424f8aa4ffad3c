"""Kaelum as a tool that an agent may call."""

from __future__ import annotations

from typing import Literal

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from kaelum_adapters.node import forward
from kaelum_flow.facade import Kaelum
from kaelum_graph.answer import Answer
from kaelum_graph.types import Json


class Question(BaseModel):
    """What an agent passes to the tool."""

    question: str = Field(description="The whole question, with everything needed to answer it.")
    effort: Literal["low", "medium", "high", "max"] = Field("medium", description="How long to search.")
    worker: Literal["math", "code", "logic", "factual", "creative", "analysis"] | None = Field(
        None, description="Which expert to ask; leave out to let Kaelum choose."
    )


def kaelum_tool(kaelum: Kaelum | None = None) -> BaseTool:
    """A tool named "kaelum": content is the answer with its status, the artifact is the whole `Answer` as JSON.

    Sync and async. Progress reaches the stream of the graph that runs the tool as `{"kaelum": {"stage": …}}`.
    """
    served = kaelum or Kaelum()

    def ask(question: str, effort: str = "medium", worker: str | None = None) -> tuple[str, Json]:
        events = [forward(event) for event in served.stream(question, effort=effort, worker=worker)]
        return content_and_artifact([event for event in events if isinstance(event, Answer)])

    async def aask(question: str, effort: str = "medium", worker: str | None = None) -> tuple[str, Json]:
        events = [forward(event) async for event in served.astream(question, effort=effort, worker=worker)]
        return content_and_artifact([event for event in events if isinstance(event, Answer)])

    return StructuredTool.from_function(
        func=ask,
        coroutine=aask,
        name="kaelum",
        description="Reasons about a hard question (mathematics, programs, logic, facts, analysis) by tree search, "
        "checks the answer, and says how sure it is.",
        args_schema=Question,
        response_format="content_and_artifact",
    )


def content_and_artifact(answers: list[Answer]) -> tuple[str, Json]:
    """What the agent reads, and what its program may look into."""
    answer = answers[-1]
    lines = [answer.text, f"[{answer.status}, P(correct) = {answer.confidence:.2f}, id {answer.id}]"]
    return "\n\n".join(lines), answer.to_json()
