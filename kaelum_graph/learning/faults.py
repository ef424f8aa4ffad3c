"""What is noted where a component fails on an event of the log: it passes over that event, and the rest goes on.

Whether a component fails is a function of the log, and so is all that is noted here: the same log is passed over in the
same places after a restart, in another process, and where the state is made again from event 0. That is why a component
that was set aside is not tried again because a process started, but on every 32nd event that it would learn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaelum_graph.errors import StorageError
from kaelum_graph.types import Json

IN_A_ROW = 8
"""A component that fails on so many events in a row is set aside."""

TRY_EVERY = 32
"""One that is set aside is tried on one event of so many."""

NEWEST = 5
ERROR_LENGTH = 200

NO_FAULT = (StorageError, MemoryError)
"""What has gone wrong around a component and not in it: learning waits or stops, and no event is passed over.

A component reads and writes no file, so an `OSError` of its own is a fault like any other.
"""


class ComponentFault(Exception):
    """`component` raised on the event of number `event`: the state that was taking it in may be half changed."""

    def __init__(self, component: str, event: int, error: Exception) -> None:
        super().__init__(f"component '{component}' failed on event {event}: {error_text(error)}")
        self.component = component
        self.event = event
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """`count` events were not learned by a component, `row` of them since it last learned one.

    `newest` are the numbers of the last few on which it failed, oldest first, `error` is what it raised on the last.
    """

    count: int = 0
    newest: tuple[int, ...] = ()
    row: int = 0
    error: str = ""

    @property
    def set_aside(self) -> bool:
        """Whether it failed on too many events in a row to be tried on each."""
        return self.row >= IN_A_ROW

    @property
    def waits(self) -> bool:
        """Whether the next event is not even tried."""
        return self.set_aside and self.row % TRY_EVERY != 0

    def with_fault(self, event: int, error: str) -> PassedOver:
        """It failed on one more."""
        newest = (*self.newest, event)[-NEWEST:]
        return PassedOver(count=self.count + 1, newest=newest, row=self.row + 1, error=error)

    def with_untried(self) -> PassedOver:
        """One more came while it was set aside."""
        return PassedOver(count=self.count + 1, newest=self.newest, row=self.row + 1, error=self.error)

    def with_learned(self) -> PassedOver:
        """It learned one: the row is ended, and so is its being set aside."""
        return PassedOver(count=self.count, newest=self.newest, row=0, error=self.error)

    def to_json(self) -> Json:
        """What `from_json` reads."""
        return {"count": self.count, "newest": list(self.newest), "row": self.row, "error": self.error}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> PassedOver:
        """What `to_json` gave. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        newest = tuple(int(event) for event in said["newest"])
        return cls(count=int(said["count"]), newest=newest, row=int(said["row"]), error=str(said["error"]))

    def __str__(self) -> str:
        events = f"{self.count} event{'' if self.count == 1 else 's'}"
        now = ", set aside" if self.set_aside else ""
        return f"{events}, failed last on {', '.join(map(str, self.newest))}{now}: {self.error}"


def error_text(error: Exception) -> str:
    """The class and the message in one line of at most 200 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
    return text if len(text) <= ERROR_LENGTH else f"{text[: ERROR_LENGTH - 1]}…"
