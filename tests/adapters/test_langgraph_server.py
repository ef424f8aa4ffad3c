"""Kaelum on LangGraph Server: what `langgraph.json` names, and a real `langgraph dev` with a remote graph's client.

The server's package can't share an environment with this project's test tools. The tests that need it run where it can
be imported all the same, or where the variable `LANGGRAPH_PYTHON` names an interpreter that has it beside Kaelum.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from langgraph.graph import StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient
from starlette.applications import Starlette

from kaelum_adapters.langgraph_app import host_app
from kaelum_adapters.openai_api.keys import KeyBook
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

ROOT = Path(__file__).parents[2]
BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."
START_SECONDS = 240
NAMED = os.environ.get("LANGGRAPH_PYTHON")
HERE = sys.executable if importlib.util.find_spec("langgraph_api") else None
PYTHON = str(Path(NAMED).absolute()) if NAMED else HERE

needs_server = pytest.mark.skipif(
    PYTHON is None, reason="langgraph-api is not installed, and LANGGRAPH_PYTHON names no interpreter that has it"
)


def test_the_configuration_names_what_there_is() -> None:
    written = json.loads((ROOT / "langgraph.json").read_text())
    home, name = written["graphs"]["kaelum"]["path"].split(":")
    app_home, app_name = written["http"]["app"].split(":")
    assert home == app_home, "one module, so one Kaelum and one model"
    module = importlib.import_module(home)
    assert isinstance(getattr(module, name), StateGraph), "uncompiled: the server brings its checkpointer"
    assert isinstance(getattr(module, app_name), Starlette)


async def paths(app: Starlette, *wanted: str, client: tuple[str, int], **headers: str) -> list[int]:
    transport = httpx2.ASGITransport(app, client=client)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as http:
        return [(await http.get(path)).status_code for path in wanted]


async def test_the_host_gets_openai_s_api_and_no_other_path(make_kaelum: MakeKaelum) -> None:
    app = host_app(make_kaelum(always(BOXED)))
    here = ("127.0.0.1", 1)
    found = await paths(app, "/v1/models", "/v1/feedback", "/metrics", "/info", "/docs", "/health", client=here)
    assert found == [200, 200, 404, 404, 404, 404]


async def test_other_machines_need_a_key(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    app, there = host_app(kaelum), ("192.0.2.7", 1)
    assert await paths(app, "/v1/models", client=there) == [401]
    key, _ = KeyBook(kaelum.settings.data_dir).add("agent")
    app = host_app(kaelum)
    assert await paths(app, "/v1/models", client=there) == [401]
    assert await paths(app, "/v1/models", client=there, authorization=f"Bearer {key}") == [200]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ok", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


class Dev:
    """A `langgraph dev` over a scripted model; it keeps what it logs."""

    def __init__(self, folder: Path) -> None:
        assert PYTHON is not None
        home = "tests.adapters.scripted_langgraph"
        written = {"dependencies": ["."], "graphs": {"kaelum": f"{home}:graph"}, "http": {"app": f"{home}:app"}}
        (folder / "langgraph.json").write_text(json.dumps(written))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "dev.log"
        path = os.pathsep.join(map(str, (ROOT, ROOT / "graphs", ROOT / "adapters")))
        variables = {"PYTHONPATH": path, "KAELUM_DATA_DIR": str(folder / "data"), "KAELUM_CONFIG": ""}
        command = [PYTHON, "-c", "from langgraph_cli.cli import cli; cli()", "dev"]
        flags = ["--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *flags], cwd=folder, env={**os.environ, **variables}, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Return once it answers."""
        until = time.monotonic() + START_SECONDS
        while not is_up(self.url):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.5)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Generator[Dev]:
    server = Dev(tmp_path_factory.mktemp("langgraph"))
    try:
        server.wait()
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.process.kill()


@pytest.fixture
def client(dev: Dev) -> Generator[SyncLangGraphClient]:
    with get_sync_client(url=dev.url) as client:
        yield client


def question(text: str = QUESTION, **options: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "options": options}


@needs_server
@pytest.mark.timeout(START_SECONDS + 120)
def test_a_remote_graph_gets_an_answer(client: SyncLangGraphClient) -> None:
    result: Any = RemoteGraph("kaelum", sync_client=client).invoke(question(worker="math"))
    about = result["messages"][-1]["response_metadata"]["kaelum"]
    assert (about["answer"], about["status"]) == ("5", "verified")


@needs_server
def test_a_remote_graph_streams_the_search(client: SyncLangGraphClient) -> None:
    graph = RemoteGraph("kaelum", sync_client=client)
    stages: list[str] = []
    texts: list[str] = []
    parts: Any = graph.stream(question(cache=False, worker="math"), stream_mode=["custom"], subgraphs=True)
    for _, _, data in parts:
        stages.append(data["stage"])
        texts.append(data.get("text", ""))
    assert {"route", "wave", "verify"} <= set(stages)
    assert "".join(texts) == BOXED


@needs_server
def test_a_thread_keeps_its_checkpoints(client: SyncLangGraphClient) -> None:
    graph = RemoteGraph("kaelum", sync_client=client)
    config: Any = {"configurable": {"thread_id": client.threads.create()["thread_id"]}}
    graph.invoke(question(), config)
    graph.invoke(question("Solve 4x = 20 for x."), config)
    state: Any = graph.get_state(config)
    assert [message["type"] for message in state.values["messages"]] == ["human", "ai"] * 2
    assert len(list(graph.get_state_history(config))) > 2


@needs_server
def test_openai_s_api_stands_beside_the_graph(dev: Dev) -> None:
    body = {"model": "kaelum", "messages": [{"role": "user", "content": QUESTION}]}
    request = urllib.request.Request(
        f"{dev.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        reply = json.loads(response.read())
    assert reply["kaelum"]["answer"] == "5"
    rating = json.dumps({"id": reply["id"], "score": 1}).encode()
    request = urllib.request.Request(f"{dev.url}/v1/feedback", rating, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200


@needs_server
def test_nothing_blocks_the_server_s_event_loop(dev: Dev) -> None:
    openai_s = {"model": "kaelum-direct", "messages": [{"role": "user", "content": QUESTION}]}
    for path, body in (("/v1/chat/completions", openai_s), ("/v1/responses", {"model": "kaelum", "input": QUESTION})):
        request = urllib.request.Request(
            f"{dev.url}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.status == 200
    said = dev.log.read_text()
    assert "Welcome" in said
    assert "BlockingError" not in said
