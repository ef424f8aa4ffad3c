"""Hosts of the MCP server for tests: a program of its own, and a socket of this process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from starlette.applications import Starlette

from kaelum_adapters.openai_api.serving import listen

ROOT = Path(__file__).parents[2]


@contextmanager
def on_socket(app: Starlette) -> Generator[str]:
    """The address under which clients find `app`, served by uvicorn in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@asynccontextmanager
async def connected(url: str, *, mode: str = "auto", **headers: str) -> AsyncGenerator[Client]:
    """The official client on that address; `headers` with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        create_mcp_http_client(headers=named) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def program(*arguments: str, data_dir: Path, **variables: str) -> StdioServerParameters:
    """`kaelum mcp` over a scripted model, as a host starts it."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "graphs", ROOT / "adapters")))
    settings = {"PYTHONPATH": path, "KAELUM_DATA_DIR": str(data_dir), "KAELUM_CONFIG": "", "KAELUM_HUB": "off"}
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "tests.adapters.mcp_program", *arguments],
        env={**os.environ, **settings, **variables},
        cwd=ROOT,
    )


class Heard:
    """A progress callback that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float | None, str]] = []
        self.first = threading.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """One notification."""
        self.steps.append((progress, total, message or ""))
        self.first.set()


def text_of(result: Any) -> str:
    """What a host's model reads."""
    return "\n".join(block.text for block in result.content)
