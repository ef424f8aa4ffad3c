"""What is left of a request's time is its search's deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kaelum_adapters.openai_api import deadline as deadline_module
from kaelum_adapters.openai_api.deadline import CONCLUDING_SECONDS, TimelyRunner
from kaelum_adapters.openai_api.exchange import Ask, RunEvent
from kaelum_adapters.openai_api.request_state import begin_request
from tests.adapters.tiny_server import EchoRunner


class Keeping(EchoRunner):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []

    async def run(self, ask: Ask) -> AsyncIterator[RunEvent]:
        self.asked.append(ask)
        async for event in super().run(ask):
            yield event


@pytest.mark.parametrize(
    ("options", "default", "waited", "expected"),
    [
        ({}, None, 0.0, 60.0 - CONCLUDING_SECONDS),
        ({}, None, 20.0, 40.0 - CONCLUDING_SECONDS),
        ({}, 7.0, 20.0, 7.0),
        ({"deadline": 3.0}, 7.0, 20.0, 3.0),
        ({"deadline": 300.0}, None, 20.0, 40.0 - CONCLUDING_SECONDS),
        ({"deadline": 3.0}, None, 100.0, 0.1),
        ({"deadline": "soon"}, None, 0.0, "soon"),
    ],
)
async def test_a_search_gets_the_time_that_is_left(
    options: dict[str, object],
    default: float | None,
    waited: float,
    expected: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = Keeping()
    state = begin_request()
    monkeypatch.setattr(deadline_module.time, "monotonic", lambda: state.began + waited)
    runner = TimelyRunner(inner, request_seconds=60.0, default_seconds=default)
    for model in ("kaelum", "kaelum-direct"):
        ask = Ask(model=model, messages=(), options={"sims": 4, **options})
        with pytest.raises(IndexError):  # there is no message to echo, and errors pass
            _ = [event async for event in runner.run(ask)]
    search, direct = inner.asked
    assert search.options == {"sims": 4, "deadline": expected}
    assert direct.options == {"sims": 4, **options}
