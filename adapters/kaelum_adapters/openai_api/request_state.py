"""What the parts that serve one request tell each other about it."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class RequestState:
    """`began` is on the clock of `time.monotonic`; `headers` go on the response."""

    began: float = field(default_factory=time.monotonic)
    headers: dict[str, str] = field(default_factory=dict[str, str])


_current: ContextVar[RequestState | None] = ContextVar("kaelum_request", default=None)


def begin_request() -> RequestState:
    """The state of the request that this task serves from here on."""
    state = RequestState()
    _current.set(state)
    return state


def current_request() -> RequestState:
    """The state of the request that this task serves; a fresh one outside the server."""
    return _current.get() or RequestState()
