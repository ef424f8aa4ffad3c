"""Closing a Kaelum ends its searches and is for good; and parts that are made hold up nobody who wants others."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kaelum_flow.create import create_kaelum
from kaelum_flow.facade import Kaelum
from kaelum_flow.services import Services
from kaelum_graph.errors import UsageError
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel

ASKED = "How many gerbils live in Bodo's barn?"


class Loading:
    """Takes the place of a Kaelum's model; loading it waits to be `let`."""

    def __init__(self, kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.let = threading.Event(), threading.Event()
        self.loads: list[ScriptedModel] = []
        self.closed: list[ScriptedModel] = []
        kaelum.services._given["model"] = None
        vars(kaelum.services)["_chosen_model"] = ("scripted", "named")
        monkeypatch.setattr(Services, "_load_model", lambda services: self.load())

    def load(self) -> ScriptedModel:
        loading = self

        class Loaded(ScriptedModel):
            def close(self) -> None:
                loading.closed.append(self)

        self.begun.set()
        assert self.let.wait(10)
        self.loads.append(Loaded(lambda request, k: f"The answer is \\boxed{{{k}}}.", seconds=0.05))
        return self.loads[-1]


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    made = make_kaelum(lambda request, k: f"The answer is \\boxed{{{k}}}.", seconds=0.05, cache=False)
    made.ask(ASKED, worker="math", sims=1)
    return made


def test_a_search_ends_with_what_it_has(kaelum: Kaelum) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(kaelum.ask, ASKED, worker="math", sims=200, wave_size=1, early_stop=False)
        while not kaelum.services._under_way:
            time.sleep(0.01)
        time.sleep(0.2)
        kaelum.close()
        assert asked.done()
        answer = asked.result()
    assert answer.stop_reason == "cancelled"
    assert answer.recorded
    assert kaelum.services._made == {}


def test_a_closed_kaelum_answers_no_more(kaelum: Kaelum) -> None:
    graph = create_kaelum(kaelum).compile()
    kaelum.close()
    kaelum.close()
    for use in (lambda: kaelum.ask(ASKED), kaelum.metrics, lambda: graph.invoke({"query": ASKED, "messages": []})):
        with pytest.raises(UsageError, match="closed"):
            use()
    assert kaelum.services._made == {}


async def test_a_closed_kaelum_answers_no_more_on_a_loop(kaelum: Kaelum) -> None:
    kaelum.close()
    with pytest.raises(UsageError, match="closed"):
        await kaelum.aask(ASKED)


def test_whoever_reads_the_events_may_close(kaelum: Kaelum) -> None:
    began = time.monotonic()
    events: Any = kaelum.stream(ASKED, worker="math", sims=8)
    next(events)
    kaelum.close()
    assert time.monotonic() - began < 1.5, "it does not wait for itself"
    events.close()


def test_a_model_that_is_loaded_meanwhile_is_closed(kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = Loading(kaelum, monkeypatch)
    monkeypatch.setattr("kaelum_flow.services.CLOSING_SECONDS", 0.1)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(kaelum.ask, ASKED, worker="math", sims=4)
        assert loading.begun.wait(10)
        kaelum.close()
        loading.let.set()
        with pytest.raises(UsageError, match="closed"):
            asked.result()
    assert loading.closed == loading.loads
    assert len(loading.loads) == 1


def test_loading_the_model_holds_up_nobody_else(kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = Loading(kaelum, monkeypatch)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(kaelum.ask, ASKED, worker="math", sims=4) for _ in range(3)]
        assert loading.begun.wait(10)
        seen = pool.submit(lambda: (kaelum.metrics(), kaelum.services.router, kaelum.services.cache)).result(5)
        assert seen[0]["episodes"] == 1
        loading.let.set()
        assert all(each.result().cost.rollouts for each in asked)
    assert len(loading.loads) == 1, "one model for all of them"
