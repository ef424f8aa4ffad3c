"""Who works, who waits, in what order, and what the others are told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI

from kaelum_adapters.openai_api import admission as admission_module
from kaelum_adapters.openai_api.admission import Admission, Bucket, KeyLimits
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.keys import KeyBook
from tests.adapters.tiny_server import client_of, tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

UNLIMITED = KeyLimits()


def gate(*, running: int = 1, queue: int = 10, seconds: float = 10.0, limits: KeyLimits = UNLIMITED) -> Admission:
    return Admission(max_running=running, queue_size=queue, deadline_seconds=seconds, limits_of=lambda key: limits)


def who(name: str) -> Caller:
    return Caller(tenant=name, key_id=name)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """Tasks that hold a slot until they are let go, and the order in which they got it."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.order: list[str] = []
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, mark: str = "") -> asyncio.Task[None]:
        task = asyncio.create_task(self._hold(name, mark or name))
        self.tasks.append(task)
        return task

    async def _hold(self, name: str, mark: str) -> None:
        async with self.admission.slot(who(name)):
            self.order.append(mark)
            await self.go.wait()

    async def finish(self) -> None:
        self.go.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_tenants_take_turns_and_a_tenants_own_come_in_order() -> None:
    crowd = Crowd(gate())
    crowd.add("busy", "busy0")
    await settle()
    for index in range(1, 4):
        crowd.add("busy", f"busy{index}")
    await settle()
    crowd.add("quiet", "quiet0")
    crowd.add("third", "third0")
    await settle()
    assert (crowd.admission.running, crowd.admission.waiting) == (1, 5)
    await crowd.finish()
    assert crowd.order == ["busy0", "busy1", "quiet0", "third0", "busy2", "busy3"]
    assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)


async def test_never_more_than_the_limit_work_and_no_place_is_lost() -> None:
    admission = gate(running=3, queue=1000)
    most = 0

    async def work(index: int) -> None:
        nonlocal most
        async with admission.slot(who(str(index % 7))):
            most = max(most, admission.running)
            await asyncio.sleep(0.001 * (index % 3))
            if index % 5 == 0:
                raise ValueError

    tasks = [asyncio.create_task(work(index)) for index in range(200)]
    await asyncio.sleep(0.005)
    for task in tasks[::3]:
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert most == 3
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_full_queue_sends_away() -> None:
    crowd = Crowd(gate(queue=1))
    crowd.add("a")
    crowd.add("b")
    await settle()
    with pytest.raises(ApiError) as raised:
        async with crowd.admission.slot(who("c")):
            pass
    assert (raised.value.status, raised.value.code) == (429, "server_overloaded")
    assert 1 <= int(raised.value.headers["retry-after"]) <= 60
    assert raised.value.headers["x-should-retry"] == "true"
    await crowd.finish()


async def test_no_tenant_keeps_the_others_out_of_a_full_queue() -> None:
    crowd = Crowd(gate(queue=3))
    for index in range(4):
        crowd.add("busy", f"busy{index}")
        await settle()
    crowd.add("quiet", "quiet0")
    await settle()
    with pytest.raises(ApiError) as raised:
        await crowd.tasks[3]
    assert (raised.value.status, raised.value.code) == (429, "server_overloaded")
    assert (crowd.admission.running, crowd.admission.waiting) == (1, 3)
    for name in ("busy", "quiet"):  # who has as many waiting as any has no claim to more
        with pytest.raises(ApiError):
            async with crowd.admission.slot(who(name)):
                pass
    await crowd.finish()
    assert crowd.order == ["busy0", "busy1", "quiet0", "busy2"]
    assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)


async def test_who_leaves_the_queue_gives_up_the_turn_at_once() -> None:
    crowd = Crowd(gate())
    crowd.add("a")
    await settle()
    leaving = crowd.add("b")
    crowd.add("c")
    await settle()
    leaving.cancel()
    await settle()
    assert crowd.admission.waiting == 1
    await crowd.finish()
    assert crowd.order == ["a", "c"]


async def test_a_turn_that_comes_as_its_owner_leaves_goes_to_the_next() -> None:
    for first in ("cancel", "release"):
        crowd = Crowd(gate())
        holder = crowd.add("a")
        await settle()
        leaving = crowd.add("b")
        crowd.add("c")
        await settle()
        for step in (first, "release" if first == "cancel" else "cancel"):
            (leaving if step == "cancel" else holder).cancel()
            if step == "release" and first == "release":
                await asyncio.sleep(0)
        await settle()
        assert crowd.order[-1] == "c"
        await crowd.finish()
        assert (crowd.admission.running, crowd.admission.waiting) == (0, 0)


async def test_waiting_counts_towards_the_deadline() -> None:
    crowd = Crowd(gate(seconds=0.05))
    crowd.add("a")
    await settle()
    with pytest.raises(ApiError) as raised:
        async with crowd.admission.slot(who("b")):
            pass
    assert (raised.value.status, raised.value.code) == (503, "queue_timeout")
    assert crowd.admission.waiting == 0
    await crowd.finish()
    async with gate(seconds=5.0).slot(who("a")) as slot:
        assert 4.5 < slot.remaining() <= 5.0
        assert slot.waited < 0.1


async def test_a_key_may_only_have_so_many_at_once() -> None:
    crowd = Crowd(gate(running=10, limits=KeyLimits(concurrent=2)))
    crowd.add("a")
    crowd.add("a")
    await settle()
    with pytest.raises(ApiError) as raised:
        async with crowd.admission.slot(who("a")):
            pass
    assert (raised.value.status, raised.value.code) == (429, "concurrency_limit_exceeded")
    crowd.add("b")
    await settle()
    assert crowd.order == ["a", "a", "b"]
    await crowd.finish()
    async with crowd.admission.slot(who("a")):
        pass


def test_a_bucket_refills_evenly() -> None:
    bucket = Bucket(60, now=0.0)
    bucket.tokens -= 60
    assert bucket.seconds_until(1) == 1.0
    bucket.refill(30.0)
    assert bucket.tokens == 30.0
    bucket.refill(1000.0)
    assert bucket.tokens == 60.0
    assert bucket.seconds_until(60) == 0.0


async def test_retry_after_follows_recent_service_times(monkeypatch: pytest.MonkeyPatch) -> None:
    admission, now = gate(queue=0), [0.0]
    monkeypatch.setattr(admission_module.time, "monotonic", lambda: now[0])
    assert admission.retry_seconds() == 5
    async with admission.slot(who("a")):
        now[0] += 20.0
    assert admission.retry_seconds() == 20
    async with admission.slot(who("a")):
        now[0] += 1000.0
    assert admission.retry_seconds() == 60, "a longer wait no client heeds"


@pytest.fixture
def app(make_kaelum: MakeKaelum) -> FastAPI:
    return tiny_app(make_kaelum(always("4")), max_running=1, queue_size=1)


async def test_rate_headers_are_on_answers_and_refusals(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaelum_adapters.openai_api.keys.FRESH_SECONDS", 0.0)
    key, _ = KeyBook(app.state.server.kaelum.settings.data_dir).add("agent", requests_per_minute=2)
    async with client_of(app, authorization=f"Bearer {key}") as client:
        left: list[str] = []
        for path in ("/v1/work", "/v1/stream"):
            response = await client.post(path, json={})
            assert response.status_code == 200
            assert response.headers["x-ratelimit-limit-requests"] == "2"
            left.append(response.headers["x-ratelimit-remaining-requests"])
        assert left[0] == "1"
        response = await client.post("/v1/work", json={})
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(response.headers["retry-after"]) <= 30


async def test_a_client_that_leaves_frees_its_place_in_queue_and_at_work(app: FastAPI) -> None:
    """ASGI by hand: the client leaves while one request works and another waits."""
    server, ledger = app.state.server, app.state.ledger
    leaves = [asyncio.Event(), asyncio.Event()]
    requests = [asyncio.create_task(ask(app, {"seconds": 30}, leave)) for leave in leaves]
    while (server.admission.running, server.admission.waiting) != (1, 1):
        await asyncio.sleep(0.001)
    leaves[1].set()
    assert await asyncio.wait_for(requests[1], 1) == []
    assert (server.admission.running, server.admission.waiting) == (1, 0)
    leaves[0].set()
    assert await asyncio.wait_for(requests[0], 1) == []
    assert (server.admission.running, ledger.cancelled, ledger.done) == (0, 1, 0)


async def test_a_client_that_leaves_a_stream_ends_its_work(app: FastAPI) -> None:
    leave = asyncio.Event()
    request = asyncio.create_task(ask(app, {"seconds": 0.01, "events": 10_000}, leave, path="/v1/stream"))
    while not app.state.ledger.begun:
        await asyncio.sleep(0.001)
    leave.set()
    sent = await asyncio.wait_for(request, 1)
    assert sent[0]["status"] == 200
    assert app.state.ledger.cancelled == 1
    assert app.state.server.admission.running == 0


async def ask(app: FastAPI, body: dict[str, Any], leave: asyncio.Event, *, path: str = "/v1/work") -> list[Any]:
    """What the application sends until the client leaves."""
    sent: list[Any] = []
    bodies = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        if bodies:
            return bodies.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }
    await app(scope, receive, send)
    return sent
