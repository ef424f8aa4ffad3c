"""The server as a process: its line, its signals, its end."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from kaelum_adapters.openai_api.drain import Drain
from kaelum_adapters.openai_api.serve_command import options_of
from kaelum_adapters.openai_api.serving import listen, url_of
from kaelum_graph.cli.parser import build_command
from kaelum_graph.errors import UsageError
from tests.adapters.tiny_server import client_of, tiny_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

ROOT = Path(__file__).parents[2]


class Process:
    """A server that runs apart; `url` once it listens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.url = ""
        self.log = ""

    async def listening(self) -> None:
        self.url = (await self._line()).strip()
        assert self.url.startswith("http://127.0.0.1:"), self.log

    async def says(self, text: str) -> None:
        while text not in self.log:
            assert await self._line(), self.log

    async def ended(self) -> int:
        assert self._process.stderr is not None
        self.log += (await asyncio.wait_for(self._process.stderr.read(), 20)).decode()
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def _line(self) -> str:
        assert self._process.stderr is not None
        line = (await asyncio.wait_for(self._process.stderr.readline(), 60)).decode()
        self.log += line
        return line


@asynccontextmanager
async def served(*, drain: float = 10.0, load: float = 0.0) -> AsyncGenerator[tuple[Process, httpx2.AsyncClient]]:
    command = [sys.executable, "-m", "tests.adapters.served_process", "0", str(drain), str(load)]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'graphs'}:{ROOT / 'adapters'}"},
        stderr=asyncio.subprocess.PIPE,
    )
    server = Process(process)
    try:
        await server.listening()
        async with httpx2.AsyncClient(base_url=server.url.removesuffix("/v1"), timeout=20) as client:
            yield server, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.01)


async def test_a_signal_lets_work_finish_and_takes_no_more() -> None:
    async with served() as (server, client):
        work = asyncio.create_task(client.post("/v1/work", json={"seconds": 1.5}))
        lines: list[str] = []
        stream = asyncio.create_task(read_stream(client, lines, seconds=0.3, events=4))
        await until(lambda: lines)
        server.signal(signal.SIGTERM)
        await server.says("shutting down")
        refused = await client.post("/v1/work", json={})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        assert refused.headers["connection"] == "close"
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200
        assert (await work).json()["hurried"] is False
        await stream
        assert lines[-1] == "data: [DONE]"
        assert await server.ended() == 0
        assert "settled" in server.log


async def test_work_that_takes_too_long_is_hurried_then_ended_properly() -> None:
    async with served(drain=1.0) as (server, client):
        anytime = asyncio.create_task(client.post("/v1/work", json={"seconds": 60}))
        lines: list[str] = []
        stream = asyncio.create_task(read_stream(client, lines, seconds=0.1, events=1000))
        await until(lambda: lines)
        began = time.monotonic()
        server.signal(signal.SIGINT)
        answer = await anytime
        assert answer.json()["hurried"] is True, "the best answer so far"
        await stream
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
        assert await server.ended() == 0
        assert time.monotonic() - began < 5


async def test_a_second_signal_ends_it_at_once() -> None:
    async with served(drain=60) as (server, client):
        work = asyncio.create_task(client.post("/v1/work", json={"seconds": 60}))
        await asyncio.sleep(0.2)
        server.signal(signal.SIGTERM)
        await server.says("shutting down")
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert await server.ended() == 128 + signal.SIGTERM
        assert time.monotonic() - began < 2
        with pytest.raises(httpx2.HTTPError):
            await work


async def test_it_ends_while_the_model_is_loading() -> None:
    async with served(load=60) as (server, client):
        assert (await client.get("/ready")).json()["error"]["code"] == "model_loading"
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert "still loading" in server.log
        assert time.monotonic() - began < 5


async def read_stream(client: httpx2.AsyncClient, lines: list[str], *, seconds: float, events: int) -> None:
    body = {"seconds": seconds, "events": events}
    async with client.stream("POST", "/v1/stream", json=body) as response:
        async for line in response.aiter_lines():
            if line:
                lines.append(line)


async def test_a_drain_with_nothing_under_way_is_over_at_once() -> None:
    drain = Drain(seconds=60)
    await asyncio.wait_for(drain.run(), 1)
    assert drain.draining


async def test_who_comes_late_to_a_hurry_is_hurried_too() -> None:
    drain = Drain(seconds=0.05)
    called: list[str] = []
    with drain.under_way():
        with drain.on_hurry(lambda: called.append("gone")):
            pass
        ending = asyncio.create_task(drain.run())
        await asyncio.sleep(0.045)
        with drain.on_hurry(lambda: called.append("late")):
            await asyncio.sleep(0)
        await drain.cancelled.wait()
    await ending
    assert called == ["late"]


async def test_a_request_that_outstays_its_deadline_is_ended(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaelum_adapters.openai_api.under_way.GRACE_SECONDS", 0.05)
    app: FastAPI = tiny_app(make_kaelum(always("4")), request_deadline=0.1)
    async with client_of(app) as client:
        response = await client.post("/v1/work", json={"seconds": 30})
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "timeout"
        response = await client.post("/v1/stream", json={"seconds": 0.02, "events": 1000})
        assert '"timeout"' in response.text.splitlines()[-2]
    assert app.state.server.admission.running == 0


def test_an_address_in_use_is_one_clear_error() -> None:
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert url_of(bound) == f"http://127.0.0.1:{port}/v1"
        assert bound.proto == socket.IPPROTO_TCP, "or each response would wait 40 ms for the client's acknowledgement"
        with pytest.raises(UsageError, match=rf"can't listen on 127\.0\.0\.1 port {port}: Address already in use"):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match=r"can't listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)
    if socket.has_ipv6:
        with listen("::1", 0) as bound:
            assert url_of(bound).startswith("http://[::1]:")


def arguments(*words: str) -> argparse.Namespace:
    point = EntryPoint("serve", "kaelum_adapters.openai_api.serve_command:register", "kaelum.commands")
    return build_command("serve", point).parse_args(list(words))


def test_the_flags_are_the_options() -> None:
    options = options_of(arguments("--port", "9", "--max-running", "3", "--allow-anonymous", "--log-format", "json"))
    assert (options.port, options.max_running, options.allow_anonymous, options.log_format) == (9, 3, True, "json")
    assert options_of(arguments()).allow_anonymous is None
    with pytest.raises(UsageError, match="--port has value '99999'"):
        options_of(arguments("--port", "99999"))


def test_the_command_reports_a_port_in_use_before_it_loads_anything() -> None:
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        chosen = arguments("--port", str(port), "--model", "no-such-model", "--hub", "off")
        with pytest.raises(UsageError, match=f"port {port}: Address already in use") as raised:
            chosen.run(chosen)
    assert raised.value.exit_code == 2


def test_the_command_opens_no_door_without_a_key() -> None:
    chosen = arguments("--host", "0.0.0.0", "--port", "0")
    with pytest.raises(UsageError, match=r"--host 0\.0\.0\.0 opens the server"):
        chosen.run(chosen)


def test_the_command_ends_with_the_reason_when_there_is_no_model(tmp_path: Path) -> None:
    script = (
        "import sys; from importlib.metadata import EntryPoint; from kaelum_graph.cli.parser import build_command\n"
        "from kaelum_graph.errors import KaelumError\n"
        "point = EntryPoint('serve', 'kaelum_adapters.openai_api.serve_command:register', 'kaelum.commands')\n"
        "chosen = build_command('serve', point).parse_args(sys.argv[1:])\n"
        "try: chosen.run(chosen)\n"
        "except KaelumError as error: print(error, file=sys.stderr); sys.exit(error.exit_code)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, "--port", "0", "--model", "no-such-model", "--hub", "off"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'graphs'}:{ROOT / 'adapters'}"},
    )
    assert found.returncode == 2, found.stderr
    assert re.search(r"^Kaelum serves http://127\.0\.0\.1:\d+/v1 \(model no-such-model\)$", found.stderr, re.MULTILINE)
    assert "no-such-model" in found.stderr.splitlines()[-1]
