"""Retries that join the run under way, or get the one that just ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.exchange import Ask, Caller, Finished, Piece, Reply, RunEvent, Runner, Started, Usage
from kaelum_adapters.openai_api.retries import SharedRunner
from kaelum_graph.errors import UpstreamError
from kaelum_graph.types import Message
from tests.adapters.tiny_server import client_of
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always


class StepwiseRunner:
    """Each run gives `Started`, then a piece whenever the test lets one through, then `Finished`."""

    def __init__(self, *, pieces: int = 3, fail: bool = False) -> None:
        self.pieces, self.fail = pieces, fail
        self.begun = 0
        self.closed = 0
        self.gate = asyncio.Semaphore(0)

    def let(self, pieces: int) -> None:
        for _ in range(pieces):
            self.gate.release()

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        self.begun += 1
        number = self.begun
        try:
            yield Started(id=f"run-{number}", created=number, model=ask.model, system_fingerprint="fp")
            for place in range(self.pieces):
                await self.gate.acquire()
                yield Piece(text=f"{number}.{place} ")
            if self.fail:
                raise UpstreamError("it broke")
            yield Finished(
                id=f"run-{number}", replies=(Reply(index=0, text="done", finish="stop"),), usage=Usage(), story={}
            )
        finally:
            self.closed += 1


def ask(*, retry: bool = False, fingerprint: str = "same", tenant: str = "") -> Ask:
    caller = Caller(tenant=tenant)
    return Ask(model="kaelum", messages=(Message("user", "hi"),), caller=caller, fingerprint=fingerprint, retry=retry)


async def listen(runner: Runner, given: Ask) -> list[RunEvent]:
    return [event async for event in runner.run(given)]


async def soon() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def id_of(events: list[RunEvent]) -> str:
    assert isinstance(events[0], Started)
    return events[0].id


async def test_a_retry_joins_the_run_under_way_from_its_first_event() -> None:
    inner = StepwiseRunner()
    shared = SharedRunner(inner)
    assert isinstance(shared, Runner)
    first = asyncio.create_task(listen(shared, ask()))
    inner.let(2)
    await soon()
    second = asyncio.create_task(listen(shared, ask(retry=True)))
    inner.let(1)
    heard, again = await asyncio.gather(first, second)
    assert heard == again
    assert [type(event).__name__ for event in heard] == ["Started", "Piece", "Piece", "Piece", "Finished"]
    assert inner.begun == 1


async def test_a_retry_gets_a_finished_run_until_it_is_too_old() -> None:
    clock = [0.0]
    inner = StepwiseRunner()
    inner.let(100)
    shared = SharedRunner(inner, keep_seconds=120, now=lambda: clock[0])
    heard = await listen(shared, ask())
    clock[0] = 119.0
    assert await listen(shared, ask(retry=True)) == heard
    clock[0] = 121.0
    assert id_of(await listen(shared, ask(retry=True))) == "run-2"


async def test_a_quiet_server_lets_a_finished_run_go_by_itself() -> None:
    inner = StepwiseRunner()
    inner.let(3)
    shared = SharedRunner(inner, keep_seconds=0.05)
    await listen(shared, ask())
    assert shared._runs
    assert shared._characters > 0
    await asyncio.sleep(0.1)
    assert not shared._runs
    assert shared._characters == 0


async def test_a_first_ask_always_starts_a_run() -> None:
    inner = StepwiseRunner()
    shared = SharedRunner(inner)
    first = asyncio.create_task(listen(shared, ask()))
    await soon()
    second = asyncio.create_task(listen(shared, ask()))
    await soon()
    inner.let(6)
    assert {id_of(await first), id_of(await second)} == {"run-1", "run-2"}
    assert id_of(await listen(shared, ask(retry=True))) == "run-2", "the newest is the one to get again"


@pytest.mark.parametrize("other", [{"fingerprint": "other"}, {"tenant": "other"}])
async def test_only_the_same_request_of_the_same_tenant_is_joined(other: dict[str, str]) -> None:
    inner = StepwiseRunner()
    inner.let(6)
    shared = SharedRunner(inner)
    await listen(shared, ask())
    assert (
        id_of(
            await listen(
                shared, ask(retry=True, fingerprint=other.get("fingerprint", "same"), tenant=other.get("tenant", ""))
            )
        )
        == "run-2"
    )


async def test_requests_without_a_fingerprint_are_never_shared() -> None:
    inner = StepwiseRunner()
    inner.let(6)
    shared = SharedRunner(inner)
    await listen(shared, ask(fingerprint=""))
    assert id_of(await listen(shared, ask(fingerprint="", retry=True))) == "run-2"


async def test_the_run_is_cancelled_at_once_when_its_last_listener_leaves() -> None:
    inner = StepwiseRunner()
    shared = SharedRunner(inner)
    first = asyncio.create_task(listen(shared, ask()))
    await soon()
    second = asyncio.create_task(listen(shared, ask(retry=True)))
    await soon()
    first.cancel()
    await soon()
    assert inner.closed == 0, "one is still listening"
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert inner.closed == 1
    inner.let(3)
    assert id_of(await listen(shared, ask(retry=True))) == "run-2", "a cancelled run can't be joined"


async def test_closing_the_events_early_ends_the_work_before_it_returns() -> None:
    inner = StepwiseRunner()
    shared = SharedRunner(inner)
    async with aclosing(shared.run(ask())) as events:
        assert isinstance(await anext(events), Started)
    assert inner.closed == 1


async def test_a_failed_run_fails_for_all_who_listen_and_is_not_given_again() -> None:
    inner = StepwiseRunner(fail=True)
    shared = SharedRunner(inner)
    first = asyncio.create_task(listen(shared, ask()))
    await soon()
    second = asyncio.create_task(listen(shared, ask(retry=True)))
    await soon()
    inner.let(3)
    for task in (first, second):
        with pytest.raises(UpstreamError, match="it broke"):
            await task
    inner.fail = False
    inner.let(3)
    assert id_of(await listen(shared, ask(retry=True))) == "run-2"


async def test_the_oldest_run_makes_room_and_its_listener_still_gets_the_whole_of_it() -> None:
    inner = StepwiseRunner()
    shared = SharedRunner(inner, capacity=2)
    first = asyncio.create_task(listen(shared, ask(fingerprint="a")))
    await soon()
    inner.let(3)
    for name in ("b", "c"):
        await asyncio.gather(asyncio.create_task(listen(shared, ask(fingerprint=name))), release(inner, 3))
    assert len(await first) == 5
    assert id_of(await asyncio.wait_for(release_and_listen(inner, shared, ask(fingerprint="a", retry=True)), 5)) == (
        "run-4"
    )
    assert id_of(await listen(shared, ask(fingerprint="c", retry=True))) == "run-3"


async def release(inner: StepwiseRunner, pieces: int) -> None:
    inner.let(pieces)


async def release_and_listen(inner: StepwiseRunner, shared: SharedRunner, given: Ask) -> list[RunEvent]:
    inner.let(3)
    return await listen(shared, given)


async def test_a_run_with_too_much_text_is_not_kept_and_holds_only_what_is_still_to_be_read() -> None:
    inner = StepwiseRunner(pieces=50)
    shared = SharedRunner(inner, max_characters=1000)
    inner.let(50)
    assert len(await listen(shared, ask())) == 52
    assert not shared._runs
    assert shared._characters == 0
    inner.let(50)
    assert id_of(await listen(shared, ask(retry=True))) == "run-2"


async def test_a_slow_reader_gets_every_event_in_order() -> None:
    inner = StepwiseRunner(pieces=30)
    shared = SharedRunner(inner, max_characters=500)
    inner.let(30)
    heard: list[str] = []
    async for event in shared.run(ask()):
        if isinstance(event, Piece):
            heard.append(event.text)
        await asyncio.sleep(0.001)
    assert heard == [f"1.{place} " for place in range(30)]


async def test_a_clients_retry_over_http_gets_the_same_completion(make_kaelum: MakeKaelum) -> None:
    inner = StepwiseRunner()
    inner.let(100)
    app = create_app(make_kaelum(always("4")), runner=inner)
    app.state.server.readiness._load = lambda: None
    body = {"model": "kaelum", "messages": [{"role": "user", "content": "hi"}]}
    async with app.router.lifespan_context(app), client_of(app) as client:
        first, again, other = [
            await client.post("/v1/chat/completions", json=body, headers=headers)
            for headers in ({}, {"x-stainless-retry-count": "1"}, {"x-stainless-retry-count": "0"})
        ]
    assert first.status_code == 200, first.text
    assert first.json() == again.json()
    assert other.json()["id"] != first.json()["id"]
    assert inner.begun == 2
