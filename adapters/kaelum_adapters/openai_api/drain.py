"""An orderly end: no new work, time for what is under way, then a nudge, then the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator

logger = logging.getLogger("kaelum.server")

HURRY_SHARE = 0.2
"""The last part of the time to drain, in which searches are told to give the best answer they have."""
CLOSING_SECONDS = 2.0
"""What cancelled requests get to say that they were cancelled."""


class Drain:
    """The end of one server. `draining` turns new work away; `running` counts requests under way.

    After `seconds`, less a share, every `on_hurry` callback is called; then `cancelled` is set.
    """

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        self.draining = False
        self.running = 0
        self.cancelled = asyncio.Event()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._hurried = False
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def under_way(self) -> Generator[None]:
        """Counts a request for as long as it runs."""
        self.running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()

    @contextlib.contextmanager
    def on_hurry(self, callback: Callable[[], None]) -> Generator[None]:
        """Within this, `callback` is called once time grows short: to end a search with its best answer so far."""
        handle = object()
        self._callbacks[handle] = callback
        try:
            if self._hurried:
                callback()
            yield
        finally:
            del self._callbacks[handle]

    async def run(self) -> None:
        """Drain; returns when nothing is under way any more, or what is left did not heed its cancellation."""
        self.draining = True
        if self.running:
            logger.info("draining: %d requests under way, up to %g s", self.running, self.seconds)
        if await self._idle_within(self.seconds * (1 - HURRY_SHARE)):
            return
        self._hurried = True
        for callback in list(self._callbacks.values()):
            callback()
        if await self._idle_within(self.seconds * HURRY_SHARE):
            return
        logger.warning("draining: %d requests cancelled", self.running)
        self.cancelled.set()
        await self._idle_within(CLOSING_SECONDS)

    async def _idle_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return not self.running
