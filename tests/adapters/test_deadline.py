"""What is left of a request's time is its search's deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kaelum_adapters.openai_api import deadline as deadline_module
from kaelum_adapters.openai_api.deadline import CONCLUDING_SECONDS, TimelyRunner, patience_of
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
        ({"patience": 20.0}, None, 5.0, 15.0 - CONCLUDING_SECONDS),
        ({"patience": 20.0}, 7.0, 5.0, 7.0),
        ({"patience": 1e300}, None, 0.0, 60.0 - CONCLUDING_SECONDS),
        ({"patience": 0.5}, None, 0.0, 0.1),
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
    patience: Any = options.pop("patience", None)
    for model in ("kaelum", "kaelum-direct"):
        ask = Ask(model=model, messages=(), options={"sims": 4, **options}, patience=patience)
        with pytest.raises(IndexError):  # there is no message to echo, and errors pass
            _ = [event async for event in runner.run(ask)]
    search, direct = inner.asked
    assert search.options == {"sims": 4, "deadline": expected}
    if default is None:  # which is how long searches may take
        assert direct.options == search.options


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-stainless-read-timeout": "1.5"}, 1.5),
        ({"x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-timeout": "30"}, 30.0),
        ({"x-stainless-read-timeout": "None", "x-stainless-timeout": "30"}, 30.0),
        ({"x-stainless-read-timeout": "inf"}, float("inf")),
        *(({"x-stainless-read-timeout": text}, None) for text in ("None", "", "nan", "0", "-3", "soon", "1,5")),
    ],
)
def test_clients_say_how_long_they_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert patience_of(headers) == seconds
