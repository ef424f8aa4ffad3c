"""Kaelum's MCP server on a socket: streamable HTTP behind the same keys as `kaelum serve`."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from kaelum_adapters.mcp_options import McpOptions
from kaelum_adapters.mcp_server import create_mcp_server
from kaelum_adapters.openai_api.admission import Admission
from kaelum_adapters.openai_api.app import SPARE_THREADS, limits_of
from kaelum_adapters.openai_api.callers import CALLER, Door, identify
from kaelum_adapters.openai_api.errors import ApiError, error_response
from kaelum_adapters.openai_api.keys import KeyBook
from kaelum_adapters.openai_api.options import check_access
from kaelum_adapters.openai_api.serving import config_of
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import UsageError

PATH = "/mcp"
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedDoor:
    """Whom the server lets in."""

    keys: KeyBook
    options: McpOptions


class KeyGate:
    """Lets in who may use the server, and notes who that is. A session belongs to the key that began it."""

    def __init__(self, app: ASGIApp, *, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's lifespan."""
        if scope["type"] == "http":
            try:
                who = await asyncio.to_thread(identify, self._door, Headers(scope=scope))
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
            scope[CALLER] = who
            if who.key_id:
                scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=who.key_id, scopes=[]))
        await self._app(scope, receive, send)


def create_mcp_app(kaelum: Kaelum, options: McpOptions | None = None) -> Starlette:
    """The application over `kaelum`, which stays the caller's to close; clients connect to its path /mcp.

    Raises `UsageError` where the options would open the server to strangers, or leave the names open by which it is
    reached.
    """
    options = options or McpOptions()
    keys = KeyBook(kaelum.settings.data_dir)
    check_access(options, has_keys=keys.any())
    admission = Admission(
        max_running=options.max_running,
        queue_size=options.queue_size,
        deadline_seconds=options.request_deadline,
        limits_of=lambda key_id: limits_of(keys, options, key_id),
    )
    app = create_mcp_server(kaelum, admission=admission).streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=options.max_body_bytes,
        transport_security=names_allowed(options),
    )
    sessions = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[Any]:
        # Every search blocks a thread while the model works. Python's usual pool has six of them on two cores.
        pool = ThreadPoolExecutor(2 * options.max_running + SPARE_THREADS, thread_name_prefix="kaelum-run")
        asyncio.get_running_loop().set_default_executor(pool)
        async with sessions(app) as state:
            yield state

    app.router.lifespan_context = lifespan
    app.user_middleware.insert(0, Middleware(KeyGate, door=KeyedDoor(keys=keys, options=options)))
    return app


def names_allowed(options: McpOptions) -> TransportSecuritySettings:
    """The host names that requests may have: a web page can make its own name point here, and no other.

    Raises `UsageError` for an address that says nothing of them.
    """
    own = options.host.strip("[]")
    if _is_any_address(own) and not options.allow_host:
        raise UsageError(
            f"--host {options.host} listens on every address: say by which names clients reach it, "
            "for example --allow-host mcp.example.org"
        )
    given = [own, *options.allow_host]
    hosts = [*LOCAL_NAMES, *(f"[{name}]" if ":" in name and not name.startswith("[") else name for name in given)]
    hosts = list(dict.fromkeys(hosts))
    return TransportSecuritySettings(
        allowed_hosts=[form for name in hosts for form in (name, f"{name}:*")],
        allowed_origins=[
            f"{scheme}://{form}" for scheme in ("http", "https") for name in hosts for form in (name, f"{name}:*")
        ],
    )


def serve_mcp(app: Starlette, bound: socket.socket, *, on_listening: Callable[[], None]) -> None:
    """Serve until a signal ends it; searches under way are cancelled then."""
    _Process(config_of(app), on_listening).run(sockets=[bound])


class _Process(uvicorn.Server):
    """uvicorn's server, whose exit code after a signal is 0: it would raise the signal again at its end."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came; a second Ctrl-C waits for nothing."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def _is_any_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
