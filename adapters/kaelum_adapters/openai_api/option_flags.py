"""A server's options as flags: one per field, checked by the fields' own rules."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from kaelum_graph.errors import UsageError

if TYPE_CHECKING:
    from kaelum_adapters.openai_api.options import ServerOptions

Options = TypeVar("Options", bound="ServerOptions")


def add_option_flags(
    parser: argparse.ArgumentParser, kind: type[ServerOptions], *, only: Collection[str] | None = None
) -> None:
    """One flag per option of this kind of server, or per one of those in `only`. One not given leaves no trace."""
    group = parser.add_argument_group("server")
    for name in kind.model_fields if only is None else only:
        field = kind.model_fields[name]
        text = f"{field.description}" if field.default in (None, ()) else f"{field.description} ({field.default})"
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
        elif get_origin(field.annotation) is tuple:
            group.add_argument(_flag(name), action="append", metavar="HOST", **common)
        else:
            group.add_argument(
                _flag(name), metavar="N" if int in kinds else "X" if float in kinds else "HOST", **common
            )


def options_from(arguments: argparse.Namespace, kind: type[Options]) -> Options:
    """The options that the flags set. Raises `UsageError` naming flag, value and expectation."""
    from pydantic import ValidationError

    given = vars(arguments)
    values = {name: given[_dest(name)] for name in kind.model_fields if _dest(name) in given}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UsageError(f"{_flag(name)} has value '{values[name]}': {first['msg'].lower()}.") from error


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _dest(name: str) -> str:
    """Where an option's flag is kept: apart from the settings."""
    return f"server_{name}"
