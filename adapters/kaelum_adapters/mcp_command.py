"""`kaelum mcp`: Kaelum as tools of a Model Context Protocol host.

Nothing heavy is imported before the command runs: `kaelum --help` loads this module.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kaelum_adapters.openai_api.option_flags import add_option_flags, options_from
from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.errors import KaelumError, UsageError

if TYPE_CHECKING:
    from kaelum_flow.facade import Kaelum

    Subparsers = argparse._SubParsersAction[Any]

EXTRA = "mcp"
STUCK_SECONDS = 5.0
"""How long threads may take to end after the host is gone; a model that is still being loaded ends with the process."""
_HTTP_ONLY = "server_"


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "mcp",
        help="serve tools to agents: the Model Context Protocol, on standard input and output or on HTTP",
        description=(
            "Offer Kaelum to a Model Context Protocol host: tools to reason, to search on, and to say how an answer "
            "did. Without --http the host starts this command and talks to it on standard input and output."
        ),
    )
    from kaelum_adapters.mcp_options import MCP_FLAGS, McpOptions

    parser.add_argument("--http", action="store_true", help="serve streamable HTTP under /mcp instead")
    parser.add_argument(
        "--preload",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="load the model right after the start, beside the server, not at the first question (on with --http)",
    )
    add_option_flags(parser, McpOptions, only=MCP_FLAGS)
    add_settings_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until the host hangs up or a signal comes; 0. Raises `UsageError` where the extra is not installed."""
    from kaelum_adapters.openai_api.log_lines import start_log
    from kaelum_adapters.openai_api.serve_command import say
    from kaelum_flow.commands import open_kaelum

    _check_extra()
    stray = [name for name in vars(arguments) if name.startswith(_HTTP_ONLY)]
    if stray and not arguments.http:
        flag = stray[0].removeprefix(_HTTP_ONLY).replace("_", "-")
        raise UsageError(f"--{flag} goes with --http: without it the host talks on standard input and output.")
    settings = settings_of(arguments).settings
    start_log(form="text", level="warning")
    with open_kaelum(settings, notify=say) as kaelum:
        preload = arguments.http if arguments.preload is None else arguments.preload
        serve = _serve_http if arguments.http else _serve_stdio
        serve(kaelum, arguments, preload=preload)
        last = threading.Timer(STUCK_SECONDS, os._exit, (0,))
        last.daemon = True
        last.start()
    last.cancel()
    return 0


def _serve_stdio(kaelum: Kaelum, arguments: argparse.Namespace, *, preload: bool) -> None:
    from kaelum_adapters.mcp_server import create_mcp_server

    if preload:
        _load_beside(kaelum)
    # What anybody prints goes to standard error only while the server runs: held back, it would be written after the
    # protocol.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    # The thread that waits for the host's next line hears no cancellation: Python's own handler would wait with it.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        create_mcp_server(kaelum).run("stdio")
    finally:
        signal.signal(signal.SIGINT, before)


def _serve_http(kaelum: Kaelum, arguments: argparse.Namespace, *, preload: bool) -> None:
    from kaelum_adapters.mcp_http import PATH, create_mcp_app, serve_mcp
    from kaelum_adapters.mcp_options import McpOptions
    from kaelum_adapters.openai_api.serve_command import say
    from kaelum_adapters.openai_api.serving import listen, url_of

    options = options_from(arguments, McpOptions)
    app = create_mcp_app(kaelum, options)
    with listen(options.host, options.port) as bound:
        if preload:
            _load_beside(kaelum)
        url = url_of(bound).removesuffix("/v1") + PATH
        serve_mcp(app, bound, on_listening=lambda: say(f"Kaelum serves MCP on {url}"))


def _load_beside(kaelum: Kaelum) -> None:
    """Load the model in a thread that doesn't keep the process from ending; the first question waits for it."""
    from kaelum_adapters.openai_api.app import load
    from kaelum_adapters.openai_api.serve_command import say

    def work() -> None:
        try:
            load(kaelum)
        except KaelumError as error:  # whoever asks is told too, and loading is tried again then
            say(f"kaelum: {error}")

    threading.Thread(target=work, name="kaelum-load", daemon=True).start()


def _check_extra() -> None:
    try:
        import_module("mcp.server.mcpserver")
    except ImportError as error:
        raise UsageError(f"kaelum mcp needs an extra: pip install 'kaelum-graph[{EXTRA}]' ({error}).") from error
