"""`kaelum keys`: make, list and revoke the API keys of `kaelum serve`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kaelum_graph.cli.parser import add_action, add_settings_flags, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kaelum_adapters.openai_api.keys import KeyBook, KeyRecord

    Subparsers = argparse._SubParsersAction[Any]


def register(subparsers: Subparsers) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "keys",
        help="make, list and revoke the server's API keys",
        description="Without an action: the list. A change reaches a running server within seconds.",
    )
    _add_options(parser)
    parser.set_defaults(run=run_list)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    add = _action(actions, "add", run_add, "make a key and print it, this once")
    add.add_argument("name", metavar="NAME", help="what the list calls it")
    add.add_argument("--tenant", metavar="T", default=None, help="keys of one tenant share cache, answers and ratings")
    add.add_argument("--requests-per-minute", type=int, metavar="N", default=None, help="most requests a minute")
    add.add_argument("--concurrent", type=int, metavar="N", default=None, help="most requests at once")
    _action(actions, "list", run_list, "every key there was, without the keys themselves")
    revoke = _action(actions, "revoke", run_revoke, "take a key's access away for good")
    revoke.add_argument("name", metavar="NAME", help="its name, or its id")


def run_add(arguments: argparse.Namespace) -> int:
    """Print the new key on standard output, alone, so that it can be piped; 0."""
    key, record = _book(arguments).add(
        arguments.name,
        tenant=arguments.tenant,
        requests_per_minute=arguments.requests_per_minute,
        concurrent=arguments.concurrent,
    )
    if arguments.json:
        print(json.dumps({"key": key, **_row(record)}))
        return 0
    print(key)
    print(f"{record.name}: {record.id}, tenant {record.tenant}; the key is not shown again", file=sys.stderr)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Print the table; 0."""
    rows = [_row(record) for record in _book(arguments).all()]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("there are no keys; make one with: kaelum keys add NAME", file=sys.stderr)
        return 0
    table = [[title.replace("_", " ").upper() for title in rows[0]]]
    table += [["-" if value is None else str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def run_revoke(arguments: argparse.Namespace) -> int:
    """Revoke and say so; 0."""
    record = _book(arguments).revoke(arguments.name)
    print(json.dumps({"revoked": record.id}) if arguments.json else f"revoked {record.name} ({record.id})")
    return 0


def _action(
    actions: Subparsers, name: str, run: Callable[[argparse.Namespace], int], summary: str
) -> argparse.ArgumentParser:
    return add_action(actions, name, run, summary, options=_add_options)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings_flags(parser, only=("data_dir",))


def _book(arguments: argparse.Namespace) -> KeyBook:
    from kaelum_adapters.openai_api.keys import KeyBook

    return KeyBook(settings_of(arguments).settings.data_dir)


def _row(record: KeyRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "id": record.id,
        "tenant": record.tenant,
        "requests_per_minute": record.requests_per_minute,
        "concurrent": record.concurrent,
        "created": _day(record.created),
        "last_used": _day(record.last_used),
        "revoked": _day(record.revoked),
    }


def _day(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")
