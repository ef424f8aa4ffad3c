"""Searches end in time: what is left of a request's time becomes the search's deadline."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from kaelum_adapters.openai_api.exchange import Ask, RunEvent, Runner
from kaelum_adapters.openai_api.request_state import current_request

CONCLUDING_SECONDS = 1.0
"""Kept back for verifying and sending the answer."""
LEAST_SECONDS = 0.1
DIRECT = "kaelum-direct"


class TimelyRunner:
    """A `Runner` that gives another one's searches a deadline: the sooner of the caller's own and the request's end.

    `default_seconds` is the deadline of a search that asks for none; `request_seconds` is how long a request may take,
    its wait in the queue included. The plain model has no best answer so far: it is cut off by the server instead.
    """

    def __init__(self, runner: Runner, *, request_seconds: float, default_seconds: float | None) -> None:
        self._runner = runner
        self._request_seconds = request_seconds
        self._default_seconds = default_seconds

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The events of the inner runner, as they are."""
        if ask.model != DIRECT:
            ask = dataclasses.replace(ask, options={**ask.options, "deadline": self._deadline(ask)})
        async with aclosing(cast("AsyncGenerator[RunEvent]", self._runner.run(ask))) as events:
            async for event in events:
                yield event

    def _deadline(self, ask: Ask) -> object:
        asked = ask.options.get("deadline", self._default_seconds)
        spent = time.monotonic() - current_request().began
        left = max(LEAST_SECONDS, self._request_seconds - spent - CONCLUDING_SECONDS)
        # What isn't a number is for the settings to refuse.
        return min(asked, left) if isinstance(asked, int | float) else left if asked is None else asked
