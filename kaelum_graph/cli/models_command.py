"""`kaelum models`: what is installed and what can be had, get, remove."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from kaelum_graph.cli.parser import add_settings_flags, settings_of

if TYPE_CHECKING:
    from kaelum_graph.config import Settings

    Subparsers = argparse._SubParsersAction[Any]


def register(subparsers: Subparsers) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "models",
        help="list, get and remove models",
        description="Without an action: the models that are installed, and those of the catalogue.",
    )
    parser.add_argument("action", nargs="?", choices=("list", "get", "remove"), default="list")
    parser.add_argument("name", nargs="?", metavar="NAME", help="catalogue name, hub id org/name, or path of a GGUF")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    add_settings_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; 0, or an error raised."""
    from kaelum_graph.errors import UsageError

    settings = settings_of(arguments).settings
    if arguments.action == "list":
        if arguments.name:
            raise UsageError(f"`kaelum models list` takes no name, got '{arguments.name}'.")
        print(json.dumps(table(settings), indent=2) if arguments.json else lines(table(settings)))
        return 0
    if not arguments.name:
        raise UsageError(f"`kaelum models {arguments.action}` needs a NAME; `kaelum models` lists them.")
    if arguments.action == "get":
        from kaelum_graph.models.progress import on_terminal
        from kaelum_graph.models.weights import resolve_model

        with on_terminal() as report:
            folder = resolve_model(arguments.name, cache_dir=settings.cache_dir, hub=settings.hub, report=report)
        print(json.dumps({"name": arguments.name, "folder": str(folder)}) if arguments.json else folder)
        return 0
    from kaelum_graph.models.weights import remove_model

    freed = remove_model(arguments.name, cache_dir=settings.cache_dir)
    print(json.dumps({"name": arguments.name, "freed": freed}) if arguments.json else f"{freed / 1e6:,.0f} MB freed")
    return 0


def table(settings: Settings) -> list[dict[str, Any]]:
    """One row a model: those installed, then the rest of the catalogue. `size` in bytes, None where unknown."""
    from kaelum_graph.models.catalogue import MODELS
    from kaelum_graph.models.weights import installed_models

    rows: list[dict[str, Any]] = [
        {"name": model.name, "state": "installed", "size": model.size, "source": model.source}
        for model in installed_models(settings.cache_dir)
    ]
    there = {row["name"] for row in rows}
    for entry in MODELS.values():
        if entry.name not in there:
            source = f"hub {entry.hub_id}" + (", or PyPI" if entry.wheels else "")
            rows.append({"name": entry.name, "state": "available", "size": entry.size or None, "source": source})
    return rows


def lines(rows: list[dict[str, Any]]) -> str:
    """The table as text."""
    width = max(len(row["name"]) for row in rows)
    sizes = [f"{row['size'] / 1e6:,.0f} MB" if row["size"] else "" for row in rows]
    return "\n".join(
        f"{row['name']:{width}}  {row['state']:9}  {size:>9}  {row['source']}"
        for row, size in zip(rows, sizes, strict=True)
    )
