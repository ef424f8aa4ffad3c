"""Sources for a query: the node that asks the retriever once before the search, and what of it an answer cites."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence

from langchain_core.runnables import RunnableConfig
from langgraph.types import StreamWriter

from kaelum_flow.lats import cancel_token
from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_options, current_query, current_route, seconds_left, told_of
from kaelum_graph.answer import Source
from kaelum_graph.config import Settings
from kaelum_graph.documents import Documents
from kaelum_graph.models.base import CancelToken
from kaelum_graph.retrieval import Passage, Retriever, excerpts
from kaelum_graph.support import supports
from kaelum_graph.types import Json, Query
from kaelum_graph.workers.base import Worker

SPARE_TOKENS = 256
"""Room left in the context beside prompt, passages and answer: for what a reflection adds."""
CANCEL_POLL_SECONDS = 0.05


class SourceNode:
    """The node that looks a query up, over one set of services."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def retrieve(self, state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        """`sources` for the search, None where nothing is to be asked. What goes wrong becomes a notice."""
        services = self.services
        retriever, readers = services.retriever, reading_workers(services, state)
        if retriever is None or not readers:
            return {"sources": None}
        settings, query = services.settings_for(current_options(state)), current_query(state)
        told_of(state, writer)({"stage": "sources", "state": "asked"})
        # The folder's own index takes as long as the folder is large, but only once.
        limit = None if isinstance(retriever, Documents) else settings.retriever_timeout
        left = seconds_left(state, settings.deadline)
        # Half of a query's time at most: an answer without sources is worth more than sources without an answer.
        seconds = min((each for each in (limit, left and left / 2) if each is not None), default=None)
        cancel = cancel_token(services, config)
        found, problem = ask_in_time(retriever, query.text, seconds=seconds, cancel=cancel)
        shown = excerpts(found, query.text)
        passages = fitting(services, query, shown, readers, settings)
        if len(passages) < len(shown):
            problem = f"the conversation leaves room for {len(passages)} of {len(shown)} passages."
        told_of(state, writer)({"stage": "sources", "state": "found", "passages": len(passages)})
        notices = list(state.get("notices") or [])
        return {
            "sources": [
                dataclasses.asdict(dataclasses.replace(passage, trusted=passage.trusted or settings.trust_sources))
                for passage in passages
            ],
            "notices": [*notices, problem] if problem else notices,
        }


def reading_workers(services: Services, state: KaelumState) -> list[Worker]:
    """The workers that have rollouts in this search and read sources."""
    allocated = current_route(state).get("allocation") or {}
    return [worker for name, worker in services.workers.items() if worker.uses_sources and allocated.get(name)]


def ask_in_time(
    retriever: Retriever, question: str, *, seconds: float | None, cancel: CancelToken | None
) -> tuple[Sequence[Passage], str]:
    """What the retriever finds, or nothing and why. One that overstays is left behind in its own thread."""
    found: list[Sequence[Passage]] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            found.append(retriever(question))
        except BaseException as error:
            errors.append(error)
        done.set()

    threading.Thread(target=ask, name="kaelum-retriever", daemon=True).start()
    end = None if seconds is None else time.monotonic() + seconds
    while not done.wait(CANCEL_POLL_SECONDS):
        if cancel is not None and cancel.cancelled:
            return (), ""
        if end is not None and time.monotonic() >= end:
            return (), f"the retriever gave nothing in {seconds:.3g} s; the answer goes without sources."
    if errors:
        said = (str(errors[0]).splitlines() or [""])[0]
        return (), (
            f"the retriever failed ({type(errors[0]).__name__}{f': {said}' if said else ''}); "
            "the answer goes without sources."
        )
    return found[0], ""


def fitting(
    services: Services, query: Query, passages: Sequence[Passage], readers: Sequence[Worker], settings: Settings
) -> Sequence[Passage]:
    """As many of the passages, the first ones, as every reader's prompt has room for in the model's context."""
    limit = services.model.capabilities.context_tokens if passages else None
    if limit is None:
        return passages

    def fits(count: int) -> bool:
        shown = dataclasses.replace(query, sources=tuple(passages[:count]))
        prompts = [worker.prompt(shown) for worker in readers]
        return all(
            services.model.count_tokens(prompt.messages) + (settings.max_tokens or prompt.max_tokens) + SPARE_TOKENS
            <= limit
            for prompt in prompts
        )

    return passages[: next((count for count in range(len(passages), 0, -1) if fits(count)), 0)]


def cited(state: KaelumState, answer: str | None) -> tuple[Source, ...]:
    """The passages of a search in the order of their numbers, each with whether it supports `answer`."""
    query = current_query(state)
    return tuple(
        Source(
            text=passage.text,
            source=passage.source,
            title=passage.title,
            supports=answer is not None and supports(passage, query.text, answer),
        )
        for passage in query.sources
    )


def may_be_kept(services: Services, state: KaelumState) -> bool:
    """Whether an answer may be cached as far as its sources go: those of a folder, whose content is in the cache's key.

    What a caller's retriever gives tomorrow nobody knows, and a retriever that failed or found nothing may do better.
    """
    sources = state.get("sources")
    return sources is None or (bool(sources) and isinstance(services.retriever, Documents))
