"""`kaelum config`: the effective settings and where each came from."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.config import Loaded

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

MASK = "********"


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "config",
        help="print the effective settings and where each came from",
        description="Print each setting with its origin. Flags given here count as they would for a query.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_settings_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the settings; a secret is shown as asterisks."""
    loaded = settings_of(arguments)
    print(_as_json(loaded) if arguments.json else _as_table(loaded))
    return 0


def _as_json(loaded: Loaded) -> str:
    values = loaded.settings.model_dump(mode="json")
    values["base_url"] = values["base_url"] and _without_password(values["base_url"])
    report: dict[str, Any] = {
        "file": None if loaded.file is None else str(loaded.file),
        "settings": {key: {"value": values[key], "origin": origin} for key, origin in loaded.origins.items()},
    }
    return json.dumps(report, indent=2, ensure_ascii=False)


def _as_table(loaded: Loaded) -> str:
    rows = [(key, _shown(getattr(loaded.settings, key)), origin) for key, origin in loaded.origins.items()]
    key_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{key:{key_width}}  {value:{value_width}}  {origin}" for key, value, origin in rows]
    return "\n".join([f"settings file: {loaded.file or 'none'}", "", *lines])


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, str):
        return _without_password(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", address)
