"""The learned state made again from the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from kaelum_graph.learning.guarded import Guarded
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.state import LearnedState, Part
from kaelum_graph.storage import Storage

BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """`state` has taken in the whole log. `at[p]` is what each component knew up to event p.

    It heeds every "forgotten" event up to number `erased`; `missed` says that a later one told to forget what was read.
    """

    state: LearnedState
    at: dict[int, dict[str, Part]]
    erased: int
    missed: bool


def events_after(storage: Storage, position: int) -> Iterator[LearningEvent]:
    """The log from there to its end, also what is added meanwhile."""
    while events := storage.learning_events(after=position, limit=BATCH):
        yield from events
        position = events[-1].sequence


def replay(
    storage: Storage,
    make_state: Callable[[], LearnedState],
    *,
    wanted: Collection[int] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> Replay | None:
    """Learn everything again from event 0, noting what was known at the positions `wanted`; None when `stopped`.

    Events that a component fails on are passed over as they were at first. Raises `StorageError`.
    """
    erased = max((number for number, _ in storage.forgotten()), default=0)
    guarded, at, missed = Guarded(make_state, level=logging.DEBUG), dict[int, dict[str, Part]](), False
    waiting = sorted(set(wanted), reverse=True)
    for event in events_after(storage, 0):
        while waiting and waiting[-1] < event.sequence:
            at[waiting.pop()] = guarded.state.parts()
        if stopped():
            return None
        missed |= event.kind == "forgotten" and event.sequence > erased and event.first <= guarded.state.position
        guarded.take(event)
    at |= {position: guarded.state.parts() for position in waiting}
    return Replay(state=guarded.state, at=at, erased=erased, missed=missed)
