"""The command line's grammar: commands from entry points, one flag per setting, one-line errors."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from kaelum_graph.config import Loaded, Settings, load_settings
from kaelum_graph.errors import UsageError

COMMAND_GROUP = "kaelum.commands"
DEFAULT_COMMAND = "ask"
DISTRIBUTION = "kaelum-graph"

_EPILOG = """\
A first argument that is no command is a query: kaelum "..." is kaelum ask "...". After -- everything is a query.
The options of a query are listed by: kaelum ask --help

examples:
  kaelum "What is the integral of x^2?"
  kaelum --sims 16 --stream "How many r are in strawberry?"
  git diff | kaelum "Is there a bug in this change?"
  kaelum --feedback "What is 2+2?" --answer 4 --score 1

exit codes:
  0 answered   10 answered, but not sure   2 bad input or settings   3 model, weights or server
  4 query past the context window   5 storage   1 anything else   130 interrupted   141 reader went away
"""


class CommandParser(argparse.ArgumentParser):
    """A parser whose mistakes come out as one `UsageError` line, with the nearest option for an unknown one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"unrecognized arguments: (-[^\s=]*)", message):
            near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1)
            message += f" (did you mean {near[0]}?" if near else " (a query that begins with - goes after --"
            message += f"{'' if near else ';'} see {self.prog} --help)"
        raise UsageError(message)


def command_entry_points() -> dict[str, EntryPoint]:
    """Registered commands by name; of two with one name, the first found."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=COMMAND_GROUP), key=lambda point: point.name):
        found.setdefault(point.name, point)
    return found


def build_parser(commands: Mapping[str, EntryPoint]) -> CommandParser:
    """The parser of the whole program, for its help and version. A command that cannot be loaded says so there."""
    parser, subparsers = _program()
    for name, point in commands.items():
        try:
            point.load()(subparsers)
        except ImportError as error:
            subparsers.add_parser(name, help=f"cannot be loaded: {error}".replace("%", "%%"))
    return parser


def build_command(name: str, point: EntryPoint) -> CommandParser:
    """One command's own parser; no other command's code is loaded. Raises `UsageError` when this one's can't be."""
    _, subparsers = _program()
    try:
        point.load()(subparsers)
    except ImportError as error:
        raise UsageError(f"command '{name}' cannot be loaded: {error}.") from error
    return subparsers.choices[name]


def _program() -> tuple[CommandParser, Any]:
    parser = CommandParser(
        prog="kaelum",
        usage="kaelum [options] QUERY\n       kaelum COMMAND ...",
        description="Reason about a query with a tree search over a local language model.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"kaelum {_version()}")
    return parser, parser.add_subparsers(title="commands", metavar="COMMAND", prog="kaelum")


def add_settings_flags(parser: argparse.ArgumentParser, *, only: Collection[str] | None = None) -> None:
    """One flag per field of `Settings`, or of those in `only`, and --config.

    A command names in `only` what it reads; variables and files may set the rest all the same. A flag that is not given
    leaves no trace in the namespace.
    """
    search = parser.add_argument_group("settings (over KAELUM_... variables, over a settings file)")
    for key in Settings.model_fields if only is None else only:
        field = Settings.model_fields[key]
        default = field.get_default(call_default_factory=True)
        hint = field.description if default is None else f"{field.description} ({_default_text(default)})"
        flag = f"--{key.replace('_', '-')}"
        help_text = (hint or "").replace("%", "%%")
        if field.annotation is bool:
            search.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=help_text, dest=_dest(key)
            )
        else:
            search.add_argument(
                flag,
                default=argparse.SUPPRESS,
                help=help_text,
                dest=_dest(key),
                metavar=_metavar(key, field.annotation),
            )
    search.add_argument("--config", type=Path, metavar="FILE", help="settings file to read instead of the usual ones")


def add_action(
    actions: argparse._SubParsersAction[Any],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    *,
    options: Callable[[argparse.ArgumentParser], None],
) -> argparse.ArgumentParser:
    """Add an action of a command: `kaelum COMMAND NAME`. `options` adds those that may stand before its name too."""
    parser = actions.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        argument_default=argparse.SUPPRESS,  # what was said before the action's name stays as it was said
    )
    options(parser)
    parser.set_defaults(run=run)
    return parser


def settings_of(arguments: argparse.Namespace) -> Loaded:
    """The effective settings for parsed arguments. Raises `ConfigError`."""
    given = vars(arguments)
    flags = {key: given[_dest(key)] for key in Settings.model_fields if _dest(key) in given}
    return load_settings(flags=flags, environ=os.environ, file=arguments.config)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of the command that `argv` names, its function under `run`. Raises `UsageError`.

    Exits for --help and --version, as argparse does.
    """
    commands = command_entry_points()
    if DEFAULT_COMMAND not in commands:
        raise UsageError("no commands are registered; install the package first: pip install -e .")
    if argv and argv[0] in ("-h", "--help", "--version"):
        return build_parser(commands if argv[0] != "--version" else {}).parse_args(argv[:1])
    named = bool(argv) and argv[0] in commands
    name, rest = (argv[0], argv[1:]) if named else (DEFAULT_COMMAND, argv)
    arguments = build_command(name, commands[name]).parse_args(rest)
    words: list[str] = getattr(arguments, "query", [])
    if not named and len(words) == 1 and words[0] in commands and "--" not in rest:
        # Whoever writes `kaelum --sims 3 graph` hardly wants to ask "graph", and a search is costly.
        raise UsageError(
            f"'{words[0]}' is a command and goes first: kaelum {words[0]} ...; as a query: kaelum -- {words[0]}"
        )
    return arguments


def _dest(key: str) -> str:
    """Where a setting's flag is kept: apart from a command's own options."""
    return f"setting_{key}"


def _metavar(key: str, annotation: Any) -> str:
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is not None and all(isinstance(choice, str) for choice in get_args(kind)):
            return "{" + ",".join(get_args(kind)) + "}"
    return {
        "base_url": "URL",
        "api_key": "KEY",
        "model": "MODEL",
        "worker": "WORKER",
        "device": "DEVICE",
        "documents": "DIR",
    }.get(key, "DIR" if key.endswith("_dir") else "N" if int in (annotation, *get_args(annotation)) else "X")


def _default_text(default: object) -> str:
    return {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed)"
