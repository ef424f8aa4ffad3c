"""A search's events as the progress of a request, which the protocol wants to grow with every word of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kaelum_adapters.thinking import Thinking
from kaelum_graph.answer import Event, Progress

_NEARER = 0.125
"""Part of the way to the next whole rollout that a step goes which no rollout has ended for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`done` rollouts of `total` (None while the budget is not known), and what goes on in words."""

    done: float
    total: float | None
    message: str


class SearchProgress:
    """The steps of one search: `done` grows with each, by fractions between two rollouts."""

    def __init__(self) -> None:
        self._thinking = Thinking()
        self._done = 0.0
        self._total: float | None = None

    def about(self, event: Event | None) -> Step | None:
        """The step that an event makes, None for none; a None event stands for a long silence."""
        message = self._thinking.about(event).strip()
        rollouts = 0.0
        if isinstance(event, Progress):
            if event.stage == "route":
                self._total = event.data["rollouts"]
            elif event.stage == "wave":
                rollouts, self._total = event.data["rollouts"], event.data["budget"]
        if not message:
            return None
        further = self._done + (math.floor(self._done) + 1 - self._done) * _NEARER
        self._done = float(max(rollouts, further))
        if self._total is not None:
            self._total = max(self._total, self._done)
        return Step(done=self._done, total=self._total, message=message)
