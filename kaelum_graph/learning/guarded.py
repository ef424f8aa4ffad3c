"""The learned state as it takes in the log, whatever its components raise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kaelum_graph.learning.faults import IN_A_ROW, ComponentFault, PassedOver, error_text
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.state import LearnedState, Parts

LOG = logging.getLogger(__name__)
KEEP_EVERY = 32
"""Events after which what is known is noted: noting it costs about as much as one or two events to learn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """All that a state knew at one time."""

    parts: Parts
    counts: Mapping[str, int]
    passed_over: Mapping[str, PassedOver]


class Guarded:
    """Takes in events with `state`. Where a component fails on one, that component passes over it, and it alone.

    A component that raised may be half changed, and so nothing of it is used: the whole state goes back to what was
    noted last and takes the events since then again, without that one for that component. The components that read it
    see it as it was before. `state` is another object then. Belongs to one thread; between two calls `state` is whole.
    """

    def __init__(self, make_state: Callable[[], LearnedState], *, level: int = logging.WARNING) -> None:
        """`level` is that of the log's lines about events passed over."""
        self._make_state = make_state
        self._level = level
        self._since: list[LearningEvent] = []
        self._passing: dict[int, dict[str, str]] = {}
        self.begin(make_state())

    def begin(self, state: LearnedState, parts: Parts | None = None) -> None:
        """Go on from this state. `parts` are what it knows, where they are at hand."""
        self.state = state
        self.keep(parts)

    def keep(self, parts: Parts | None = None) -> None:
        """Note what is known now, to go back to. `parts` are that, where they are at hand."""
        self._known = _Known(
            parts=self.state.parts() if parts is None else parts,
            counts=dict(self.state.counts),
            passed_over=self.state.passed_over,
        )
        self._since, self._passing = [], {}

    def take(self, event: LearningEvent) -> None:
        """Take in the next event. Raises `ValueError` for one that was taken in, and `faults.NO_FAULT`."""
        self._since.append(event)
        try:
            self.state.apply(event)
        except ComponentFault as fault:
            self._take_again(fault)
        else:
            if len(self._since) >= KEEP_EVERY:
                self.keep()

    def _take_again(self, fault: ComponentFault | None) -> None:
        """Ends, because a component is not tried again on an event that it failed on."""
        state = self.state
        while fault is not None:
            self._passing.setdefault(fault.event, {})[fault.component] = error_text(fault.error)
            self._tell(fault)
            state, fault = self._as_noted(), None
            try:
                for event in self._since:
                    state.apply(event, passing=self._passing.get(event.sequence, {}))
            except ComponentFault as another:
                fault = another
        before, self.state = self._known.passed_over, state
        for name, one in state.passed_over.items():
            if one.set_aside and not before.get(name, PassedOver()).set_aside:
                LOG.log(self._level, "'%s' failed on %d events in a row and is set aside", name, IN_A_ROW)
        # A component that fails on one event may fail on the next: then nothing is left to take again.
        self.keep()

    def _as_noted(self) -> LearnedState:
        state = self._make_state()
        state.load(self._known.parts)
        state.counts, state.passed_over = dict(self._known.counts), self._known.passed_over
        return state

    def _tell(self, fault: ComponentFault) -> None:
        text = "event %d is passed over by '%s': %s"
        LOG.log(self._level, text, fault.event, fault.component, error_text(fault.error), exc_info=fault.error)
