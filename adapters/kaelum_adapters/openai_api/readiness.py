"""Loading the model beside the running server, so that neither the process nor its first request stands still."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from kaelum_adapters.openai_api.errors import ApiError, as_api_error
from kaelum_graph.errors import KaelumError

logger = logging.getLogger("kaelum.server")

TRY_AGAIN_SECONDS = 30.0

State = Literal["idle", "loading", "ready", "failed"]


class Readiness:
    """Whether the model is there. `load` brings it into memory and raises where it can't.

    `state` is idle until `start`. After a failure the next request that comes `TRY_AGAIN_SECONDS` later tries anew.
    """

    def __init__(self, load: Callable[[], object]) -> None:
        self.state: State = "idle"
        self.error: Exception | None = None
        self._load = load
        self._failed_at = 0.0
        self._ended: asyncio.Event | None = None

    def start(self) -> None:
        """Begin to load, in a thread that doesn't keep the process from ending."""
        loop = asyncio.get_running_loop()
        ended = self._ended = asyncio.Event()
        self.state, self.error = "loading", None

        def end(state: State, error: Exception | None) -> None:
            self.state, self.error, self._failed_at = state, error, time.monotonic()
            ended.set()

        def work() -> None:
            outcome: tuple[State, Exception | None] = ("ready", None)
            try:
                self._load()
            except Exception as error:
                outcome = ("failed", error)
                known = isinstance(error, KaelumError)
                logger.error("the model could not be loaded: %s", error, exc_info=None if known else error)
            try:
                loop.call_soon_threadsafe(end, *outcome)
            except RuntimeError:  # the loop was closed meanwhile
                return

        threading.Thread(target=work, name="kaelum-load", daemon=True).start()

    async def wait(self) -> None:
        """Return once the model is there; at once where loading was never begun. Raises `ApiError` 503."""
        if self.state == "failed" and time.monotonic() - self._failed_at >= TRY_AGAIN_SECONDS:
            self.start()
        if self.state == "loading" and self._ended is not None:
            await self._ended.wait()
        if self.error is not None:
            raise unavailable(self.error)

    async def ended(self) -> None:
        """Return when loading ended, well or not."""
        if self._ended is not None:
            await self._ended.wait()


def unavailable(error: Exception) -> ApiError:
    """Why the model isn't to be had, as a 503 whatever it was."""
    told = as_api_error(error)
    return ApiError(503, f"The model could not be loaded: {told.message}", code="model_unavailable")
