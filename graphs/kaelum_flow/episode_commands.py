"""The commands on a stored episode: `kaelum trace` draws its tree, `kaelum continue` goes on searching in it.

Nothing heavy is imported before a command runs: `kaelum --help` loads this module.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from kaelum_flow.commands import add_output_flags, show_search
from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.errors import UsageError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

WIDTH = 120
"""Columns of a drawing that no terminal shows."""


def register_trace(subparsers: Subparsers) -> None:
    """Add `trace`."""
    parser = subparsers.add_parser(
        "trace",
        help="draw the search tree of an earlier answer",
        description=(
            "Draw the search tree of a stored episode: a line a step with visits and mean value, and under the last "
            "step what each rollout came to. Loads no model."
        ),
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="an answer's id or its beginning; without one the newest")
    parser.add_argument("--json", action="store_true", help="print the stored tree as one JSON object")
    parser.add_argument("--all", action="store_true", help="draw every rollout, also those that are alike")
    add_settings_flags(parser)
    parser.set_defaults(run=run_trace)


def register_continue(subparsers: Subparsers) -> None:
    """Add `continue`."""
    parser = subparsers.add_parser(
        "continue",
        help="search on in the tree of an earlier answer",
        usage="%(prog)s [options] ID",
        description=(
            "Spend more rollouts, --sims of them, on the tree of a stored episode; without --sims as many as it has. "
            "What its query was asked with holds unless a flag here says otherwise."
        ),
    )
    parser.add_argument("id", metavar="ID", help="an answer's id, or its beginning (4 characters or more)")
    add_output_flags(parser)
    add_settings_flags(parser)
    parser.set_defaults(run=run_continue)


def run_trace(arguments: argparse.Namespace) -> int:
    """Print the drawing, or the tree."""
    from pydantic import ValidationError

    from kaelum_graph.storage import STORE_FILE, Storage
    from kaelum_graph.tree_text import draw

    path = settings_of(arguments).settings.data_dir / STORE_FILE
    if not path.exists():
        raise UsageError(f"{path}: no episode is kept yet: ask something first.")
    storage = Storage(path)
    try:
        episode_id = storage.find_episode_id(arguments.id)
        record = storage.episode(episode_id) or {}
    finally:
        storage.close()
    if not record.get("tree"):
        raise UsageError(f"episode '{episode_id}' has no search tree.")
    if arguments.json:
        print(json.dumps(record["tree"], indent=2))
        return 0
    try:
        drawing = draw(record, width=_width(), color=_colors(), unicode=_shows("│├└─→★…×·"), whole=arguments.all)
    except (ValidationError, KeyError, TypeError) as error:
        raise UsageError(
            f"episode '{episode_id}': its search tree was written in another form (see --json)."
        ) from error
    print(drawing)
    return 0


def run_continue(arguments: argparse.Namespace) -> int:
    """Search on, and print what that comes to as `ask` does."""
    from kaelum_flow.episodes import read_earlier
    from kaelum_flow.services import PER_QUERY
    from kaelum_graph.storage import STORE_FILE, Storage

    loaded = settings_of(arguments)
    given = {key: getattr(loaded.settings, key) for key in PER_QUERY if loaded.origins[key].startswith("flag ")}
    # Before anything is fetched or loaded: a mistyped id should not cost a download.
    storage = Storage(loaded.settings.data_dir / STORE_FILE)
    try:
        earlier = read_earlier(storage, arguments.id)
    finally:
        storage.close()
    least: float = {**earlier.options, **given}.get("min_confidence", loaded.settings.min_confidence)
    return show_search(
        lambda kaelum, token: kaelum.stream_continue(earlier.episode_id, cancel=token, **given),
        arguments,
        loaded.settings,
        min_confidence=least,
    )


def _width() -> int:
    return max(40, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH


def _colors() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _shows(letters: str) -> bool:
    try:
        letters.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
