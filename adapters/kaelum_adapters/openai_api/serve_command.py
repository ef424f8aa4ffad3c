"""`kaelum serve`: the OpenAI-compatible server."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from kaelum_adapters.openai_api.option_flags import add_option_flags, options_from
from kaelum_graph.cli.parser import add_settings_flags, settings_of

if TYPE_CHECKING:
    from kaelum_adapters.openai_api.options import ServerOptions

    Subparsers = argparse._SubParsersAction[Any]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    from kaelum_adapters.openai_api.options import ServerOptions

    parser = subparsers.add_parser(
        "serve",
        help="serve OpenAI's API: chat completions, responses, feedback",
        description=(
            "Answer requests for OpenAI's API until a signal (Ctrl-C, SIGTERM) ends it: then what is under way gets "
            "its time to finish, and a second signal ends the process at once."
        ),
    )
    add_option_flags(parser, ServerOptions)
    add_settings_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes; 0. Raises errors of exit code 2 for a port in use, 3 for a model not to be had."""
    from kaelum_adapters.openai_api.app import create_app
    from kaelum_adapters.openai_api.log_lines import start_log
    from kaelum_adapters.openai_api.serving import listen, serve, url_of
    from kaelum_flow.commands import open_kaelum

    settings = settings_of(arguments).settings
    options = options_of(arguments)
    start_log(form=options.log_format, level=options.log_level)
    with open_kaelum(settings, notify=say) as kaelum:
        app = create_app(kaelum, options)
        with listen(options.host, options.port) as bound:
            upstream = f"{settings.model or 'its own'} at {settings.base_url}"
            model = kaelum.services.model_name if settings.base_url is None else upstream
            settled = serve(app, bound, on_listening=lambda: say(f"Kaelum serves {url_of(bound)} (model {model})"))
        if not settled:
            # A thread is still loading the model; nothing can stop it, and closing would wait for it.
            os._exit(0)
    return 0


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def options_of(arguments: argparse.Namespace) -> ServerOptions:
    """The server's options from the flags. Raises `UsageError` naming flag, value and expectation."""
    from kaelum_adapters.openai_api.options import ServerOptions

    return options_from(arguments, ServerOptions)
