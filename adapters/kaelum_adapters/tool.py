"""Kaelum as a tool that an agent may call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.prebuilt import ToolRuntime
from pydantic import BaseModel, Field, ValidationError, create_model

from kaelum_adapters.progress import PROGRESS_KEY, forward
from kaelum_flow.facade import Kaelum, last_answer
from kaelum_flow.state import checked_tenant
from kaelum_graph.answer import Answer, Event, Progress, TextDelta
from kaelum_graph.config import Settings
from kaelum_graph.errors import KaelumError
from kaelum_graph.models.base import CancelToken
from kaelum_graph.types import Json
from kaelum_graph.workers import all_workers

DESCRIPTION = (
    "Reasons about a hard question by tree search over a small model, checks the answer, and says how sure it is: "
    "mathematics, programs, logic, facts, texts, analysis. It sees nothing but the question."
)
HOW_SURE = {
    "verified": "verified: a check on the question itself passed",
    "unverified": "not checked: only the agreement of several attempts speaks for it",
    "unsure": "not sure",
}

NO_RUNTIME = cast("ToolRuntime[Any, Any]", None)
"""What a tool sees that is called outside of a graph. Only a bare `ToolRuntime` annotation is injected, so its
parameter can't be optional."""


class Question(BaseModel):
    """What every agent passes to the tool."""

    question: str = Field(description="The whole question, with everything needed to answer it.")


def kaelum_tool(
    kaelum: Kaelum | None = None,
    *,
    name: str = "kaelum",
    description: str | None = None,
    tenant: str = "",
    trace: bool = True,
    **options: Any,
) -> BaseTool:
    """A tool that answers a question: its content is for the agent to read, its artifact the `Answer` as JSON.

    The content is the answer's text, the value in it, how sure it is and the id for feedback. The artifact holds the
    whole story, with the search's trace unless `trace` is False (a host that checkpoints its messages keeps artifacts
    too). Progress reaches the custom stream of the graph that runs the tool as
    `{"kaelum": {"stage": …, "tool_call_id": …}}`, the answer's text its "tools" stream. Sync and async; cancelling the
    task cancels the search.

    An agent may set `effort` and `worker` (those registered when the tool is made). `options` are per-query settings of
    `Kaelum.ask`; what is set here, or for the Kaelum itself, is not the agent's to choose. `tenant` is whose cache and
    episodes are used. Without a `kaelum` one is made, which loads a model of its own.

    What goes wrong becomes a tool message with status "error" that says so in a line; with
    `tool.handle_tool_error = False` it is raised as `ToolException`. Raises `UsageError` for a bad option or tenant.
    """
    served = kaelum or Kaelum()
    settings = served.services.settings_for(options)
    checked_tenant(tenant)

    def asked(chosen: Mapping[str, Any], cancel: CancelToken) -> dict[str, Any]:
        picked = {key: value for key, value in chosen.items() if value is not None}
        return {**options, **picked, "tenant": tenant, "cancel": cancel}

    def ask(question: str, runtime: ToolRuntime[Any, Any] = NO_RUNTIME, **chosen: Any) -> tuple[str, Json]:
        cancel = CancelToken()
        try:
            events = served.stream(question, **asked(chosen, cancel))
            return content_and_artifact(last_answer(tell(event, runtime) for event in events), trace=trace)
        except KaelumError as error:
            raise ToolException(str(error)) from error
        finally:
            cancel.cancel()

    async def aask(question: str, runtime: ToolRuntime[Any, Any] = NO_RUNTIME, **chosen: Any) -> tuple[str, Json]:
        cancel = CancelToken()
        try:
            events = served.astream(question, **asked(chosen, cancel))
            told = [tell(event, runtime) async for event in events]
            return content_and_artifact(last_answer(iter(told)), trace=trace)
        except KaelumError as error:
            raise ToolException(str(error)) from error
        finally:
            cancel.cancel()

    return StructuredTool.from_function(
        func=ask,
        coroutine=aask,
        name=name,
        description=DESCRIPTION if description is None else description,
        args_schema=question_schema(settings),
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=invalid_arguments,
    )


def question_schema(settings: Settings) -> type[BaseModel]:
    """The arguments of the tool: the question, and what the settings leave for the agent to choose."""
    workers = all_workers()
    experts = " ".join(f"{name}: {worker.description}" for name, worker in workers.items())
    names: Any = Literal[tuple(workers)]
    effort = Field(None, description="How long to search; leave it out to let Kaelum choose.")
    worker = Field(None, description=f"Which expert to ask; leave it out to let Kaelum choose. {experts}")
    fields: dict[str, Any] = {
        "effort": (Literal["low", "medium", "high", "max"] | None, effort),
        "worker": (names | None, worker),
    }
    # A number of rollouts wins over an effort, so that there is nothing left to choose.
    settled = {"effort": settings.effort or settings.sims, "worker": settings.worker}
    open_fields = {name: field for name, field in fields.items() if settled[name] is None}
    return create_model("Question", __base__=Question, **open_fields)


def tell(event: Event, runtime: ToolRuntime[Any, Any]) -> Event:
    """Pass an event on to the streams of the graph that runs the tool; returns the event.

    Several calls may run at once, so each piece of progress names its own.
    """
    if not isinstance(runtime, ToolRuntime):
        return forward(event)
    if isinstance(event, Progress):
        progress = {"stage": event.stage, **event.data, "tool_call_id": runtime.tool_call_id}
        runtime.stream_writer({PROGRESS_KEY: progress})
    elif isinstance(event, TextDelta):
        runtime.emit_output_delta(event.text)
    return event


def content_and_artifact(answer: Answer, *, trace: bool = True) -> tuple[str, Json]:
    """What the agent reads, and what its program may look into."""
    lines: list[str] = []
    if answer.status != "unsure" and answer.answer not in (None, answer.text.strip()):
        lines.append(f"Answer: {answer.answer}")
    lines.append(f"How sure: {HOW_SURE[answer.status]}, P(correct) = {answer.confidence:.2f}")
    if answer.recorded:
        lines.append(f"Id for feedback: {answer.id}")
    artifact = answer.to_json()
    if not trace:
        artifact["trace"] = None
    return "\n\n".join([answer.text, "\n".join(lines)]), artifact


def invalid_arguments(error: Any) -> str:
    """What an agent is told whose arguments don't fit the schema: which, and what was expected."""
    assert isinstance(error, ValidationError), "the schema is a pydantic model"
    return "\n".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
