"""The front door: ask, stream, rate. Sync and async, over one compiled graph."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from langchain_core.language_models import BaseChatModel
from langgraph.graph.state import CompiledStateGraph

from kaelum_flow.forward import build_forward
from kaelum_flow.lats import CANCEL_KEY
from kaelum_flow.retriever import AnyRetriever
from kaelum_flow.services import Services
from kaelum_flow.state import well_formed
from kaelum_graph.answer import Answer, Event, Progress, TextDelta
from kaelum_graph.config import Settings, load_settings, with_overrides
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import CancelToken, PolicyModel
from kaelum_graph.models.progress import Report, silent
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.storage import Feedback
from kaelum_graph.types import EpisodeId, Json, Message
from kaelum_graph.workers import worker as find_worker

EVICTING_SCORE = 0.5
"""A rating below this takes the rated answer out of the cache: a wrong hit must be evictable."""

STEPS_PER_RUN = 2000
"""Bound on the supersteps of one query: four a wave, and the budget is at most 256 rollouts."""


MODES: Any = ["custom", "values"]


class Kaelum:
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
            self._graph = build_forward(self.services).compile(name="kaelum")
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
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Answer:
        """The answer to one query. `options` are per-query settings (`sims`, `worker`, `deadline`, …).

        At the deadline, or once `cancel` is set, the best answer so far is returned and its `stop_reason` says so.
        Raises `UsageError` for an empty query or a bad option, `ModelError` when the model can't do its work.
        """
        return last_answer(self.stream(query, history=history, cancel=cancel, **options))

    def stream(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Iterator[Event]:
        """Progress while it searches, then the answer's text in pieces, then the `Answer`. Leaving early cancels."""
        return self._events(self._question(query, history, options), cancel)

    async def aask(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        cancel: CancelToken | None = None,
        **options: object,
    ) -> Answer:
        """`ask` off the event loop; cancelling the task cancels the search."""
        events = [event async for event in self.astream(query, history=history, cancel=cancel, **options)]
        return last_answer(iter(events))

    def astream(
        self,
        query: str,
        *,
        history: Sequence[Message] = (),
        cancel: CancelToken | None = None,
        **options: object,
    ) -> AsyncIterator[Event]:
        """`stream` off the event loop."""
        return self._aevents(self._question(query, history, options), cancel)

    def continue_search(
        self, episode_id: str, *, sims: int | None = None, cancel: CancelToken | None = None, **options: object
    ) -> Answer:
        """The answer after `sims` more rollouts in the tree of a stored episode; without `sims` as many as it has.

        `episode_id` may be shortened to its beginning, 4 characters or more. The options that the query was asked with
        hold unless given here. What the earlier search stopped for (a passed check, a clear lead) does not stop this
        one again; a reason that comes up anew does. The result is an episode of its own, its cost that of this run, its
        trace the whole tree's. Raises `UsageError` for an unknown episode or one without a tree, and as `ask` does.
        """
        return last_answer(self.stream_continue(episode_id, sims=sims, cancel=cancel, **options))

    def stream_continue(
        self, episode_id: str, *, sims: int | None = None, cancel: CancelToken | None = None, **options: object
    ) -> Iterator[Event]:
        """`continue_search` with the events of `stream`."""
        return self._events(self._further(episode_id, sims, options), cancel)

    async def acontinue_search(
        self, episode_id: str, *, sims: int | None = None, cancel: CancelToken | None = None, **options: object
    ) -> Answer:
        """`continue_search` off the event loop; cancelling the task cancels the search."""
        events = [event async for event in self.astream_continue(episode_id, sims=sims, cancel=cancel, **options)]
        return last_answer(iter(events))

    def astream_continue(
        self, episode_id: str, *, sims: int | None = None, cancel: CancelToken | None = None, **options: object
    ) -> AsyncIterator[Event]:
        """`stream_continue` off the event loop."""
        return self._aevents(self._further(episode_id, sims, options), cancel)

    def feedback(
        self,
        episode_id_or_query: str,
        *,
        score: float | None = None,
        answer: str | None = None,
        worker: str | None = None,
        comment: str | None = None,
        feedback_id: str | None = None,
    ) -> bool:
        """Keep a rating of an answer, by its id or by the query's exact text (its newest episode).

        `score` is in [0, 1]; `answer` is the right answer; `worker` the one that should have been asked. It is on disk
        when this returns. Giving the same `feedback_id` again changes nothing and returns False. A score under 0.5, or
        a correction, takes the answer out of the cache. Raises `UsageError` for an unknown episode or worker.
        """
        if score is None and answer is None and worker is None and comment is None:
            raise UsageError("feedback says nothing: give a score, an answer, a worker or a comment.")
        if score is not None and not 0.0 <= score <= 1.0:
            raise UsageError(f"feedback score is {score}: must be between 0 and 1.")
        if worker is not None:
            find_worker(worker)
        storage, named = self.services.storage, well_formed(episode_id_or_query)
        episode_id = EpisodeId(named)
        if storage.episode(episode_id) is None:
            newest = storage.latest_episode_id(named)
            if newest is None:
                raise UsageError(f"feedback for '{named}': no such episode.")
            episode_id = newest
        kept = storage.add_feedback(
            Feedback(
                id=feedback_id or uuid.uuid4().hex,
                episode_id=episode_id,
                score=score,
                correction=None if answer is None else well_formed(answer),
                worker=worker,
                comment=None if comment is None else well_formed(comment),
            )
        )
        wrong = (score is not None and score < EVICTING_SCORE) or answer is not None
        if wrong and storage.delete_cache_entry(episode_id):
            self.services.forget_cache()
        return kept

    async def afeedback(self, episode_id_or_query: str, **rating: Any) -> bool:
        """`feedback` off the event loop."""
        return await asyncio.to_thread(self.feedback, episode_id_or_query, **rating)

    def metrics(self) -> dict[str, float]:
        """Counts from the episode store. Loads no model."""
        return self.services.storage.counts()

    def close(self) -> None:
        """Free the model, the sandbox and the store. Idempotent."""
        self.services.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _question(self, query: str, history: Sequence[Message], options: dict[str, object]) -> Json:
        if not query.strip():
            raise UsageError("the query is empty.")
        self.services.settings_for(options)
        turns = [dataclasses.asdict(turn) for turn in history]
        return {"query": query, "history": turns, "options": options, "messages": []}

    def _further(self, episode_id: str, sims: int | None, options: dict[str, object]) -> Json:
        overrides = {**options, "sims": sims}
        self.services.settings_for(overrides)
        return {"continue_from": episode_id, "options": overrides, "messages": []}

    def _events(self, state: Json, cancel: CancelToken | None) -> Iterator[Event]:
        token = cancel or CancelToken()
        try:
            for _, mode, data in self.graph.stream(state, run_config(token), stream_mode=MODES, subgraphs=True):
                if event := event_of(mode, data):
                    yield event
        finally:
            token.cancel()

    async def _aevents(self, state: Json, cancel: CancelToken | None) -> AsyncIterator[Event]:
        token = cancel or CancelToken()
        try:
            async for _, mode, data in self.graph.astream(state, run_config(token), stream_mode=MODES, subgraphs=True):
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
        return Answer.from_json(data["answer"])
    return None


def last_answer(events: Iterator[Event]) -> Answer:
    """The answer that ends a stream of events."""
    answer = None
    for event in events:
        if isinstance(event, Answer):
            answer = event
    assert answer is not None, "the respond node ends every run"
    return answer
