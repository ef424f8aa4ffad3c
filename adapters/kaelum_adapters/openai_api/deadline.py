"""Runs end in time: what is left of a request's time, and of its client's patience, becomes their deadline."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import cast

from kaelum_adapters.openai_api.exchange import Ask, RunEvent, Runner
from kaelum_adapters.openai_api.model_names import DIRECT
from kaelum_adapters.openai_api.request_state import current_request

CONCLUDING_SECONDS = 1.0
"""Kept back for verifying and sending the answer."""
LEAST_SECONDS = 0.1
TIMEOUT_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Where OpenAI's clients say after how many seconds they give up: the Python one's name, and that of the others."""


def patience_of(headers: Mapping[str, str]) -> float | None:
    """After how many seconds without a byte the client hangs up; None where it doesn't say, or says nonsense."""
    for name in TIMEOUT_HEADERS:
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if seconds > 0:
            return seconds
    return None


class TimelyRunner:
    """A `Runner` that gives another one's runs a deadline: the soonest of the caller's own, the end of the client's
    patience and the request's end.

    `default_seconds` is the deadline of a search that asks for none; `request_seconds` is how long a request may take,
    its wait in the queue included.
    """

    def __init__(self, runner: Runner, *, request_seconds: float, default_seconds: float | None) -> None:
        self._runner = runner
        self._request_seconds = request_seconds
        self._default_seconds = default_seconds

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The events of the inner runner, as they are."""
        ask = dataclasses.replace(ask, options={**ask.options, "deadline": self._deadline(ask)})
        async with aclosing(cast("AsyncGenerator[RunEvent]", self._runner.run(ask))) as events:
            async for event in events:
                yield event

    def _deadline(self, ask: Ask) -> object:
        asked = ask.options.get("deadline", None if ask.model == DIRECT else self._default_seconds)
        spent = time.monotonic() - current_request().began
        whole = self._request_seconds if ask.patience is None else min(self._request_seconds, ask.patience)
        left = max(LEAST_SECONDS, whole - spent - CONCLUDING_SECONDS)
        # What isn't a number is for the settings to refuse.
        return min(asked, left) if isinstance(asked, int | float) else left if asked is None else asked
