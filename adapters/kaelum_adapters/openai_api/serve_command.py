"""`kaelum serve`: the OpenAI-compatible server."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.errors import UsageError

if TYPE_CHECKING:
    from kaelum_adapters.openai_api.options import ServerOptions

    Subparsers = argparse._SubParsersAction[Any]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="serve OpenAI's API: chat completions, responses, feedback",
        description=(
            "Answer requests for OpenAI's API until a signal (Ctrl-C, SIGTERM) ends it: then what is under way gets "
            "its time to finish, and a second signal ends the process at once."
        ),
    )
    _add_flags(parser)
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
    from pydantic import ValidationError

    from kaelum_adapters.openai_api.options import ServerOptions

    given = vars(arguments)
    values = {name: given[_dest(name)] for name in ServerOptions.model_fields if _dest(name) in given}
    try:
        return ServerOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UsageError(f"{_flag(name)} has value '{values[name]}': {first['msg'].lower()}.") from error


def _add_flags(parser: argparse.ArgumentParser) -> None:
    from kaelum_adapters.openai_api.options import ServerOptions

    group = parser.add_argument_group("server")
    for name, field in ServerOptions.model_fields.items():
        text = f"{field.description}" if field.default is None else f"{field.description} ({field.default})"
        common: dict[str, Any] = {
            "dest": _dest(name),
            "default": argparse.SUPPRESS,
            "help": text.replace("%", "%%"),
        }
        kinds = {field.annotation, *get_args(field.annotation)}
        if bool in kinds:
            group.add_argument(_flag(name), action=argparse.BooleanOptionalAction, **common)
        elif get_origin(field.annotation) is Literal:
            group.add_argument(_flag(name), choices=get_args(field.annotation), **common)
        else:
            group.add_argument(
                _flag(name), metavar="N" if int in kinds else "X" if float in kinds else "HOST", **common
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _dest(name: str) -> str:
    """Where an option's flag is kept: apart from the settings."""
    return f"server_{name}"
