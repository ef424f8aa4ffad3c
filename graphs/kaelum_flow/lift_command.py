"""`kaelum lift`: what the search has been worth on the queries it served, as the checks on them say.

Nothing heavy is imported before the command runs: `kaelum --help` loads this module.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from kaelum_graph.cli.parser import add_settings_flags, settings_of
from kaelum_graph.errors import UsageError

if TYPE_CHECKING:
    from kaelum_graph.lift import Compared, Lift, Share

    Subparsers = argparse._SubParsersAction[Any]

NEWEST = 1000
ROWS = (("one sample", "sample"), ("plain vote", "vote"), ("answer given", "answer"))


def register_lift(subparsers: Subparsers) -> None:
    """Add `lift`."""
    parser = subparsers.add_parser(
        "lift",
        help="what the search was worth on the queries it served, against one sample and a plain vote",
        description=(
            "Compare the answers given with one sample and with a plain vote over the same rollouts, on the kept "
            "queries that a check on the question decided (all tenants together). Loads no model."
        ),
    )
    parser.add_argument("--newest", type=int, default=NEWEST, metavar="N", help=f"of so many queries ({NEWEST})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings_flags(parser, only=("data_dir",))
    parser.set_defaults(run=run_lift)


def run_lift(arguments: argparse.Namespace) -> int:
    """Print the table, or the object."""
    from kaelum_flow.scoring import PRM
    from kaelum_graph.lift import compared, lift
    from kaelum_graph.storage import STORE_FILE, Storage
    from kaelum_graph.tree import SearchTree

    if arguments.newest < 1:
        raise UsageError(f"--newest is {arguments.newest}; it must be at least 1.")
    path = settings_of(arguments).settings.data_dir / STORE_FILE
    if not path.exists():
        raise UsageError(f"{path}: no episode is kept yet: ask something first.")
    storage = Storage(path)
    found: dict[str, Compared | None] = {}
    try:
        for record in storage.newest_episodes(arguments.newest):
            # A search that was gone on with is one query: the later tree has the rollouts of the earlier.
            found.pop(record.get("continued_from") or "", None)
            if record.get("tree") and record.get("verdict"):
                tree = SearchTree.from_json(record["tree"])
                learned = (record.get("route") or {}).get("scored_by") == PRM
                found[record["answer"]["id"]] = compared(tree, record["verdict"].get("rollout"), learned=learned)
    finally:
        storage.close()
    told = lift([one for one in found.values() if one is not None], kept=len(found))
    print(json.dumps(dataclasses.asdict(told), indent=2) if arguments.json else text_of(told))
    return 0


def text_of(told: Lift) -> str:
    """The table, in lines of at most 100 characters."""
    from kaelum_graph.lift import ENOUGH_QUERIES

    lines = [f"queries       {told.kept} with a search, {told.queries} decided by a check on the question"]
    if not told.queries:
        return "\n".join([*lines, "no check has decided any of them: nothing can be said of right and wrong."])
    for name, key in ROWS:
        gain = "" if key == "answer" else f"; the answer given {_points(told.shares['answer - ' + key])} points"
        lines.append(f"{name:12s}  right in {_percent(told.shares[key])}{gain}")
    if told.led:
        gain = _points(told.shares["led - blind"])
        lines.append(f"reward model  what it led is right {gain} points more than blind draws, {told.led} queries")
    few = f"from {ENOUGH_QUERIES} queries on" if told.queries < ENOUGH_QUERIES else "over queries"
    lines.append(f"95% intervals {few}. Of queries that no check decides nothing is said here.")
    return "\n".join(lines)


def _percent(share: Share) -> str:
    return f"{share.mean:.0%}" + ("" if share.low is None else f" ({share.low:.0%} to {share.high:.0%})")


def _points(share: Share) -> str:
    interval = (
        "" if share.low is None or share.high is None else f" ({100 * share.low:+.1f} to {100 * share.high:+.1f})"
    )
    return f"{100 * share.mean:+.1f}{interval}"
