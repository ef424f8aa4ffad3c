"""The learned state made again from the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

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

    Raises `StorageError`, and whatever a component raises.
    """
    erased = max((number for number, _ in storage.forgotten()), default=0)
    state, at, missed = make_state(), dict[int, dict[str, Part]](), False
    waiting = sorted(set(wanted), reverse=True)
    for event in events_after(storage, 0):
        while waiting and waiting[-1] < event.sequence:
            at[waiting.pop()] = state.parts()
        if stopped():
            return None
        missed |= event.kind == "forgotten" and event.sequence > erased and event.first <= state.position
        state.apply(event)
    at |= {position: state.parts() for position in waiting}
    return Replay(state=state, at=at, erased=erased, missed=missed)
