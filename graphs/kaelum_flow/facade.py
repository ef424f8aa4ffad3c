"""The front door: ask, stream, rate. Sync and async, over one compiled graph."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, cast

from langchain_core.language_models import BaseChatModel
from langgraph.graph.state import CompiledStateGraph

from kaelum_flow.forward import build_forward
from kaelum_flow.lats import CANCEL_KEY
from kaelum_flow.ratings import Ratings
from kaelum_flow.retriever import AnyRetriever
from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, checked_tenant, read_request, turn_fields
from kaelum_flow.trace import trace_of
from kaelum_graph.answer import Answer, Event, Progress, TextDelta
from kaelum_graph.config import Settings, load_settings, with_overrides
from kaelum_graph.encoder import Encoder
from kaelum_graph.models.base import CancelToken, PolicyModel
from kaelum_graph.models.progress import Report, silent
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Json, Message, Shape, Tool, ToolChoice

STEPS_PER_RUN = 2000
"""Bound on the supersteps of one query: four a wave, and the budget is at most 256 rollouts."""


MODES: Any = ["custom", "values"]


ANY_TOOL = ToolChoice()
"""Tools may be called, none must be."""


class Kaelum(Ratings):
    """A reasoning model over a small one. Nothing heavy is loaded before the first question.

    `settings` are taken as they are; without them the environment and the settings file are read. `overrides` are
    fields of `Settings`. `model` may be any `PolicyModel` or LangChain chat model; without it `settings.base_url` or a
    local model is used. `notify` gets one-line notices, such as which model was taken and why. `retriever`
    (a LangChain retriever, a Runnable or a function from a question to texts or documents) is asked for facts; it wins
    over the `documents` setting.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        model: PolicyModel | BaseChatModel | None = None,
        encoder: Encoder | None = None,
        sandbox: Sandbox | None = None,
        notify: Callable[[str], None] | None = None,
        retriever: AnyRetriever | None = None,
        **overrides: object,
    ) -> None:
        if settings is None:
            settings = load_settings(flags=overrides, environ=os.environ).settings
        else:
            settings = with_overrides(settings, overrides)
        if isinstance(model, BaseChatModel):
            from kaelum_flow.chat_model_policy import ChatModelPolicy

            model = ChatModelPolicy(model)
        self.settings = settings
        self.services = Services(
            settings, model=model, encoder=encoder, sandbox=sandbox, notify=notify, retriever=retriever
        )
        self._graph: CompiledStateGraph[Any, Any, Any, Any] | None = None

    @property
    def graph(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """The compiled forward pass, named "kaelum"."""
        if self._graph is None:
            # A host's checkpointer is not for the searches of its nodes and tools: several in one task are numbered by
            # the order in which they start, so that a resumed one may be given another's answer.
            self._graph = build_forward(self.services, checkpointed=False).compile(name="kaelum", checkpointer=False)
        return self._graph

    def fetch(self, report: Report = silent) -> None:
        """Get the model's files onto this machine, where they are not. `ask` does so too; here `report` is told.

        Raises `WeightsError` when they can't be had.
        """
        self.services.fetch(report)

    def ask(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        since: Sequence[Message] = (),
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = ANY_TOOL,
        shape: Shape | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Answer:
        """The answer to one query. `options` are per-query settings (`sims`, `worker`, `deadline`, …).

        `history` are the turns before the query, `since` those after it: the assistant's calls and what the tools gave
        back. With `tools` the answer may be calls of them (`Answer.calls`), for the caller to make: nothing is executed
        here. With a `shape` its text is JSON of that form.

        `tenant`, any text, keeps those apart who share this Kaelum: cached answers, episodes and feedback are theirs
        alone. "" is the local user.

        At the deadline, or once `cancel` is set, the best answer so far is returned and its `stop_reason` says so.
        Raises `UsageError` for an empty query, a bad option, tools or a shape that make no sense; `ModelError` when the
        model can't do its work, or nothing it says has the shape.
        """
        events = self.stream(
            query,
            history=history,
            since=since,
            tools=tools,
            tool_choice=tool_choice,
            shape=shape,
            tenant=tenant,
            cancel=cancel,
            **options,
        )
        return last_answer(events)

    def stream(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        since: Sequence[Message] = (),
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = ANY_TOOL,
        shape: Shape | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Iterator[Event]:
        """Progress while it searches, then the answer's text in pieces, then the `Answer`. Leaving early cancels."""
        return self._events(
            self._question(
                query,
                options,
                history=history,
                since=since,
                tools=tools,
                tool_choice=tool_choice,
                shape=shape,
                tenant=tenant,
            ),
            cancel,
        )

    async def aask(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        since: Sequence[Message] = (),
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = ANY_TOOL,
        shape: Shape | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Answer:
        """`ask` off the event loop; cancelling the task cancels the search."""
        events = self.astream(
            query,
            history=history,
            since=since,
            tools=tools,
            tool_choice=tool_choice,
            shape=shape,
            tenant=tenant,
            cancel=cancel,
            **options,
        )
        return last_answer(iter([event async for event in events]))

    def astream(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        since: Sequence[Message] = (),
        tools: Sequence[Tool] = (),
        tool_choice: ToolChoice = ANY_TOOL,
        shape: Shape | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> AsyncIterator[Event]:
        """`stream` off the event loop."""
        return self._aevents(
            self._question(
                query,
                options,
                history=history,
                since=since,
                tools=tools,
                tool_choice=tool_choice,
                shape=shape,
                tenant=tenant,
            ),
            cancel,
        )

    def continue_search(
        self,
        episode_id: str,
        *,
        sims: int | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Answer:
        """The answer after `sims` more rollouts in the tree of a stored episode; without `sims` as many as it has.

        `episode_id` may be shortened to its beginning, 4 characters or more. The options that the query was asked with
        hold unless given here. What the earlier search stopped for (a passed check, a clear lead) does not stop this
        one again; a reason that comes up anew does. The result is an episode of its own, its cost that of this run, its
        trace the whole tree's. Raises `UsageError` for an unknown episode or one without a tree, and as `ask` does.
        """
        return last_answer(self.stream_continue(episode_id, sims=sims, tenant=tenant, cancel=cancel, **options))

    def stream_continue(
        self,
        episode_id: str,
        *,
        sims: int | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Iterator[Event]:
        """`continue_search` with the events of `stream`."""
        return self._events(self._further(episode_id, sims, tenant, options), cancel)

    async def acontinue_search(
        self,
        episode_id: str,
        *,
        sims: int | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Answer:
        """`continue_search` off the event loop; cancelling the task cancels the search."""
        events = self.astream_continue(episode_id, sims=sims, tenant=tenant, cancel=cancel, **options)
        return last_answer(iter([event async for event in events]))

    def astream_continue(
        self,
        episode_id: str,
        *,
        sims: int | None = None,
        tenant: str = "",
        cancel: CancelToken | None = None,
        **options: object,
    ) -> AsyncIterator[Event]:
        """`stream_continue` off the event loop."""
        return self._aevents(self._further(episode_id, sims, tenant, options), cancel)

    def metrics(self, *, tenant: str | None = None) -> dict[str, float]:
        """Counts from the episode store, of all tenants or of one; measurements are shared. Loads no model."""
        return self.services.storage.counts(tenant=tenant)

    @property
    def state_version(self) -> str:
        """A short name of the model, this package's version and all that was learned: another one with each change.

        Costs less than a millisecond while nothing changes, and loads no model.
        """
        return self.services.state_version

    def close(self) -> None:
        """End the queries under way and free the model, the sandbox and the store. Idempotent.

        Queries get a moment to give what they have, as `cancelled`; after it, and for good, there is a `UsageError`.
        A run of `graph` itself, or of a graph around it, is ended but not waited for.
        """
        self.services.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _question(
        self,
        query: str,
        options: dict[str, object],
        *,
        history: Sequence[Message],
        since: Sequence[Message],
        tools: Sequence[Tool],
        tool_choice: ToolChoice,
        shape: Shape | None,
        tenant: str,
    ) -> Json:
        self.services.settings_for(options)
        state: Json = {
            "query": query,
            "history": [turn_fields(turn) for turn in history],
            "since": [turn_fields(turn) for turn in since],
            "tools": [dataclasses.asdict(tool) for tool in tools],
            "tool_choice": dataclasses.asdict(tool_choice),
            "shape": None if shape is None else dataclasses.asdict(shape),
            "tenant": checked_tenant(tenant),
            "options": options,
            "messages": [],
        }
        read_request(cast("KaelumState", state))
        return state

    def _further(self, episode_id: str, sims: int | None, tenant: str, options: dict[str, object]) -> Json:
        overrides = {**options, "sims": sims}
        self.services.settings_for(overrides)
        asked = {"continue_from": episode_id, "tenant": checked_tenant(tenant)}
        return {**asked, "options": overrides, "messages": []}

    def _events(self, state: Json, cancel: CancelToken | None) -> Iterator[Event]:
        token = CancelToken(cancel)
        with self.services.query_under_way():
            try:
                for _, mode, data in self.graph.stream(state, run_config(token), stream_mode=MODES, subgraphs=True):
                    if event := event_of(mode, data):
                        yield event
            finally:
                token.cancel()

    async def _aevents(self, state: Json, cancel: CancelToken | None) -> AsyncIterator[Event]:
        token, events = CancelToken(cancel), self.graph.astream
        with self.services.query_under_way():
            try:
                async for _, mode, data in events(state, run_config(token), stream_mode=MODES, subgraphs=True):
                    if event := event_of(mode, data):
                        yield event
            finally:
                token.cancel()


def run_config(token: CancelToken) -> Any:
    """The configuration of one run: how it is cancelled, and when it would be endless."""
    return {"configurable": {CANCEL_KEY: token}, "recursion_limit": STEPS_PER_RUN}


def event_of(mode: str, data: Any) -> Event | None:
    """A stream item of the graph as an event; None for what is of no interest to a caller."""
    if mode == "custom" and isinstance(data, dict) and "stage" in data:
        rest = {key: value for key, value in data.items() if key != "stage"}
        return TextDelta(text=rest["text"]) if data["stage"] == "text" else Progress(stage=data["stage"], data=rest)
    if mode == "values" and data.get("answer"):
        return dataclasses.replace(Answer.from_json(data["answer"]), trace=trace_of(data))
    return None


def last_answer(events: Iterator[Event]) -> Answer:
    """The answer that ends a stream of events."""
    answer = None
    for event in events:
        if isinstance(event, Answer):
            answer = event
    assert answer is not None, "the respond node ends every run"
    return answer
