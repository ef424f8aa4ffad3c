"""The server as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette

from kaelum_adapters.openai_api.drain import CLOSING_SECONDS
from kaelum_adapters.openai_api.server import Server
from kaelum_graph.errors import KaelumError, UsageError

logger = logging.getLogger("kaelum.server")

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection (httpx2: 5 s, proxies: 60), or they would write into a closed one."""
STUCK_SECONDS = 10.0
"""How long threads may take to end after the drain; a model call that hears no cancellation ends with the process."""
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `UsageError` when the address is in use, unknown or not ours to take."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        # With the protocol: asyncio turns Nagle's algorithm, 40 ms for each small response, off for TCP alone.
        bound = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            # Two sockets may bind one address until one listens.
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise UsageError(f"can't listen on {host} port {port}: {error.strerror or error}.") from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Where clients find the API."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def config_of(app: Starlette) -> uvicorn.Config:
    """How uvicorn runs an app of ours: its own logs are off, and what is under way has a while to end."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(CLOSING_SECONDS),
        backlog=BACKLOG,
        lifespan="on",
    )


def serve(app: FastAPI, bound: socket.socket, *, on_listening: Callable[[], None]) -> bool:
    """Serve until a signal ends it, in good order; returns whether all that was under way has ended.

    Raises `KaelumError` when the model can't be loaded.
    """
    server: Server = app.state.server
    process = _Process(config_of(app), server, on_listening)
    process.run(sockets=[bound])
    error = server.readiness.error
    if process.load_failed and error is not None:
        if isinstance(error, KaelumError):
            raise error
        raise KaelumError(f"the model could not be loaded: {type(error).__name__}: {error}") from error
    return server.readiness.state != "loading"


class _Process(uvicorn.Server):
    """uvicorn's server with an end of our own: the first signal drains, the second ends the process there and then."""

    def __init__(self, config: uvicorn.Config, server: Server, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self.load_failed = False
        self._server = server
        self._on_listening = on_listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._signalled = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, say so, and watch how the model's loading goes."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._tasks.append(asyncio.create_task(self._watch_loading()))
            self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came. (uvicorn would raise it again at its end, so that the exit code would not be 0.)"""
        if self._signalled or self._loop is None:
            os.write(2, b"kaelum: ended at once\n")
            os._exit(128 + sig)
        self._signalled = True
        self._loop.call_soon_threadsafe(self._begin_drain, signal.Signals(sig).name)

    def _begin_drain(self, name: str) -> None:
        seconds = self._server.drain.seconds
        logger.info("%s: shutting down", name)
        last = threading.Timer(seconds + 2 * CLOSING_SECONDS + STUCK_SECONDS, _leave)
        last.daemon = True
        last.start()
        self._tasks.append(asyncio.create_task(self._drain()))

    async def _drain(self) -> None:
        try:
            await self._server.drain.run()
        finally:
            self.should_exit = True

    async def _watch_loading(self) -> None:
        await self._server.readiness.ended()
        if self._server.readiness.error is not None:
            self.load_failed = self.should_exit = True


def _leave() -> None:
    sys.stderr.flush()
    os._exit(0)
