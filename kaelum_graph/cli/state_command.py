"""`kaelum state`: what was learned, in versions: list, show, compare, pin, roll back, make again, forget.

Nothing heavy is imported before an action runs. All but `rebuild`, and `forget` where something was learned, read files
alone; these two load the text encoder, for the router's prototypes, and no language model.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from kaelum_graph.cli.parser import add_action, add_settings_flags, settings_of
from kaelum_graph.errors import KaelumError, StorageError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from kaelum_graph.config import Settings
    from kaelum_graph.learning.learner import Learner
    from kaelum_graph.learning.state import LearnedState
    from kaelum_graph.learning.versions import TensorChange, Version, Versions
    from kaelum_graph.storage import Storage

    Subparsers = argparse._SubParsersAction[Any]
    Run = Callable[[argparse.Namespace], int]

NOTHING = "nothing is learned yet: answer some queries first (with learning on)."
START_SECONDS = 60.0
_LIGHT = ("data_dir",)
_HEAVY = ("data_dir", "cache_dir", "hub")


def register(subparsers: Subparsers) -> None:
    """Add the command and its actions."""
    parser = subparsers.add_parser(
        "state",
        help="list, compare, pin, roll back, rebuild and forget what was learned",
        description="Without an action: the list. A running server takes over within seconds what is changed here.",
    )
    _add_options(parser)
    parser.set_defaults(run=run_list)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    _action(actions, "list", run_list, "every version that is kept, oldest first")
    show = _action(actions, "show", run_show, "what one version knows and why it serves")
    show.add_argument("version", nargs="?", default=None, metavar="ID", help="a version; without one that in use")
    pin = _action(actions, "pin", run_pin, "serve this version, whatever is learned, until it is unpinned")
    pin.add_argument("version", metavar="ID", help="a version: its id, its number, or the beginning of its id")
    _action(actions, "unpin", run_unpin, "serve what was promoted last")
    diff = _action(actions, "diff", run_diff, "what differs between two versions")
    diff.add_argument("before", metavar="A", help="a version")
    diff.add_argument("after", metavar="B", help="another one")
    rollback = _action(actions, "rollback", run_rollback, "serve an earlier version again, and pin it")
    rollback.add_argument(
        "version", nargs="?", default=None, metavar="ID", help="which; without one that served before"
    )
    _action(actions, "rebuild", run_rebuild, "make the whole state again from the log", only=_HEAVY)
    forget = _action(actions, "forget", run_forget, "delete answers for good, and what they taught", only=_HEAVY)
    whose = forget.add_mutually_exclusive_group(required=True)
    whose.add_argument(
        "--episode", action="append", default=None, metavar="ID", help="this answer; may be given many times"
    )
    whose.add_argument("--tenant", default=None, metavar="T", help="all answers of a tenant ('' is the local user)")
    whose.add_argument(
        "--conversation", default=None, metavar="ID", help="this answer, what it went on from and what went on from it"
    )


def run_list(arguments: argparse.Namespace) -> int:
    """Print the table; 0."""
    versions = _versions(settings_of(arguments).settings)
    found = [] if versions is None else versions.list()
    rows = [] if versions is None else [_row(version, versions) for version in found]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(NOTHING, file=sys.stderr)
    else:
        print(_table([{key: value for key, value in row.items() if key != "parent"} for row in rows]))
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print one version; 0."""
    versions = _some_versions(settings_of(arguments).settings)
    version_id = _named(versions, arguments.version)
    version = versions.show(version_id)
    components = [
        {
            "component": name,
            "events": part.position,
            "numbers": int(sum(array.size for array in part.tensors.values())),
            "digest": version.digests[name][:12],
        }
        for name, part in versions.parts(version_id).items()
    ]
    row = _row(version, versions)
    checkpoints = [one for one in versions.list() if not one.promoted]  # they alone say what was passed over
    passed_over = (checkpoints[-1] if version.promoted and checkpoints else version).passed_over
    if arguments.json:
        told = {"metrics": version.metrics, "running": list(version.running), "components": components}
        told["passed_over"] = {name: one.to_json() for name, one in passed_over.items()}
        print(json.dumps({**row, **told}, indent=2))
        return 0
    lines = {key: _shown(value) for key, value in row.items()}
    for title, told in (("metrics", version.metrics), ("comparisons", list(version.running))):
        lines |= {title: json.dumps(told)} if told else {}
    lines |= {f"{name} passed over": str(one) for name, one in passed_over.items()}
    width = max(map(len, lines))
    print("\n".join(f"{title:{width}}  {text}" for title, text in lines.items()))
    print(f"\n{_table(components)}")
    return 0


def run_pin(arguments: argparse.Namespace) -> int:
    """Pin and say so; 0."""
    versions = _some_versions(settings_of(arguments).settings)
    version_id = _named(versions, arguments.version)
    versions.pin(version_id)
    return _say(arguments, {"pinned": version_id}, f"pinned {version_id}")


def run_unpin(arguments: argparse.Namespace) -> int:
    """Unpin and say so, also where nothing was pinned; 0."""
    versions = _some_versions(settings_of(arguments).settings)
    before = versions.pinned()
    versions.unpin()
    now = versions.current()
    text = "nothing was pinned" if before is None else f"unpinned {before}"
    return _say(arguments, {"unpinned": before, "serving": now}, f"{text}; serving {now or 'what is untrained'}")


def run_diff(arguments: argparse.Namespace) -> int:
    """Print every tensor that differs; 0, also where none does."""
    versions = _some_versions(settings_of(arguments).settings)
    before, after = _named(versions, arguments.before), _named(versions, arguments.after)
    changes = [_change(change) for change in versions.diff(before, after)]
    one, two = versions.show(before), versions.show(after)
    apart = {
        name: [one.digests.get(name, "")[:12], two.digests.get(name, "")[:12]]
        for name in sorted({*one.digests, *two.digests})
        if one.digests.get(name) != two.digests.get(name)
    }
    if arguments.json:
        told = {"before": before, "after": after, "events": two.position - one.position, "components": apart}
        print(json.dumps({**told, "tensors": changes}, indent=2))
    elif not apart:
        print(f"{before} and {after} know the same")
    else:
        print(f"{before} to {after}: {two.position - one.position:+d} in the log; {', '.join(apart)} differ")
        if changes:
            print(f"\n{_table(changes)}")
    return 0


def run_rollback(arguments: argparse.Namespace) -> int:
    """Go back and say where to; 0."""
    versions = _some_versions(settings_of(arguments).settings)
    before = versions.current()
    if arguments.version is None:
        version_id = versions.rollback()
    else:
        version_id = _named(versions, arguments.version)
        if not versions.show(version_id).promoted:
            raise UsageError(f"learned state '{version_id}' is a checkpoint that never served: pin it instead.")
        versions.parts(version_id)
        versions.point(version_id, pinned=version_id)
    text = f"serving {version_id}, pinned (kaelum state unpin lets newer ones take over)"
    return _say(arguments, {"before": before, "serving": version_id}, text)


def run_rebuild(arguments: argparse.Namespace) -> int:
    """Make the state again and say whether it came out the same; 0."""
    settings = settings_of(arguments).settings
    with _storage(settings) as storage, _learning(settings, storage) as learner:
        rebuilt = learner.rebuild()
    same = "the same as before, bit for bit" if rebuilt.same else "not the same as before"
    report = {"events": rebuilt.events, "same": rebuilt.same, "seconds": round(rebuilt.seconds, 3)}
    return _say(arguments, report, f"rebuilt from {rebuilt.events} events in {rebuilt.seconds:.1f} s: {same}")


def run_forget(arguments: argparse.Namespace) -> int:
    """Delete, also what is pending of earlier times, have what was taught unlearned, and say how much went; 0."""
    from kaelum_graph.conversation import conversation, link_of
    from kaelum_graph.keepers import all_keepers, all_linkers, forget_with

    settings = settings_of(arguments).settings
    keepers, linkers = all_keepers(), all_linkers()
    with _storage(settings) as storage:
        before = storage.pending_forgets()
        names = arguments.episode or ([] if arguments.conversation is None else [arguments.conversation])
        named = [storage.find_episode_id(name, tenant=None, pending=True) for name in names]
        if arguments.conversation is not None:
            links = [partial(linker, settings.data_dir) for linker in linkers.values()]
            gone = storage.forget_episodes(conversation(named[0], [link_of(storage.continuations(named[0])), *links]))
        else:
            gone = storage.forget_episodes(named, tenant=arguments.tenant)
        tenants = [] if arguments.tenant is None else [arguments.tenant]
        # What another tenant has to forget whole waits until it is named again: it may have kept something since.
        pending = [one for one in storage.pending_forgets() if one.episode_id or one.tenant in tenants]
        of_tenants = [one for one in pending if not one.episode_id]
        try:
            ids = [*dict.fromkeys(one.episode_id for one in pending if one.episode_id)]
            rows = forget_with(keepers, settings.data_dir, ids, tenants=tenants)
            storage.wipe()
            storage.end_forgets(of_tenants)
        except StorageError as error:
            raise StorageError(
                f"{_counted(len(gone))} deleted, but not yet all that is kept elsewhere: run it again: {error}"
            ) from error
        versions = _versions(settings)
        taught = versions is not None and any(one.knows(storage.forgotten()) for one in versions.list())
        known = names or any(one.tenant == arguments.tenant for one in before)
        if not gone and not known and not taught and not any(rows.values()):
            raise UsageError(f"tenant '{arguments.tenant}': no episodes are kept.")
        if taught:
            try:
                with _learning(settings, storage) as learner:
                    learner.forget()
            except KaelumError as error:
                raise StorageError(
                    f"{_counted(len(gone))} deleted; what they taught is not yet, and goes when a process learns "
                    f"again: {error}"
                ) from error
        storage.end_forgets(pending)
    unlearned = " and unlearned" if taught else " (nothing was learned from it)" if gone else ""
    beside = ", ".join(f"{name} {count}" for name, count in rows.items() if count)
    completed = [one for one in ids if any(one == earlier.episode_id for earlier in before)]
    text = f"{_counted(len(gone))} deleted{unlearned}{f'; rows deleted with that: {beside}' if beside else ''}"
    text += "; an earlier forget is completed" if set(before) & set(pending) else ""
    return _say(arguments, {"episodes": gone, "completed": completed, "unlearned": taught, "rows": rows}, text)


def _action(
    actions: Subparsers, name: str, run: Run, summary: str, *, only: tuple[str, ...] = _LIGHT
) -> argparse.ArgumentParser:
    return add_action(actions, name, run, summary, options=partial(_add_options, only=only))


def _add_options(parser: argparse.ArgumentParser, *, only: tuple[str, ...] = _LIGHT) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings_flags(parser, only=only)


def _folder(settings: Settings) -> Path:
    from kaelum_graph.learning.learner import STATE_FOLDER

    return settings.data_dir / STATE_FOLDER


def _versions(settings: Settings) -> Versions | None:
    """The versions that there are; None where nothing was ever learned, and then no folder is made."""
    from kaelum_graph.learning.versions import Versions

    return Versions(_folder(settings)) if _folder(settings).is_dir() else None


def _some_versions(settings: Settings) -> Versions:
    versions = _versions(settings)
    if versions is None or not versions.list():
        raise UsageError(f"{_folder(settings)}: {NOTHING}")
    return versions


def _named(versions: Versions, name: str | None) -> str:
    """The version that `name` means; None: the one in use, or where none is the newest. Raises `UsageError`."""
    known = [version.id for version in versions.list()]
    if name is None:
        return versions.current() or known[-1]
    try:
        return versions.find(name)
    except UsageError as error:
        near = difflib.get_close_matches(name, [*known, *(one.partition("-")[2] for one in known)], n=1, cutoff=0.5)
        told = f"the nearest is {near[0]}" if near else f"the newest is {known[-1]}"
        raise UsageError(f"{str(error).rstrip('.')}; {told} (see kaelum state list).") from None


@contextmanager
def _storage(settings: Settings) -> Generator[Storage]:
    from kaelum_graph.storage import STORE_FILE, Storage

    path = settings.data_dir / STORE_FILE
    if not path.exists():
        raise UsageError(f"{path}: no episode is kept yet: ask something first.")
    storage = Storage(path)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def _learning(settings: Settings, storage: Storage) -> Generator[Learner]:
    """A learner that has begun to learn, or to follow the process that does."""
    from kaelum_graph.learning.learner import Learner
    from kaelum_graph.learning.versions import Versions

    learner = Learner(storage, Versions(_folder(settings)), make_state(settings))
    learner.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while learner.status in ("off", "starting") and time.monotonic() < deadline:
            time.sleep(0.01)
        yield learner
    finally:
        learner.stop()


def make_state(settings: Settings) -> Callable[[], LearnedState]:
    """Makes states that have learned nothing, for the registered workers; loads the text encoder."""
    from kaelum_graph.encoder import Encoder
    from kaelum_graph.learning.service import new_state
    from kaelum_graph.models.weights import resolve_encoder
    from kaelum_graph.router import Router
    from kaelum_graph.workers import all_workers

    workers = {name: (one.description, *one.examples) for name, one in all_workers().items()}
    encoder = Encoder(resolve_encoder(cache_dir=settings.cache_dir, hub=settings.hub))
    router = Router(workers=workers, encoder=encoder)
    return lambda: new_state(router, first=settings.first_wave, most=settings.wave_size)


def _row(version: Version, versions: Versions) -> dict[str, Any]:
    pinned, promoted, current = versions.pinned(), versions.promoted(), versions.current()
    roles = [("serving", current), ("pinned", pinned), ("promoted", promoted)]
    return {
        "id": version.id,
        "kind": version.kind,
        "created": datetime.fromtimestamp(version.created_at, UTC).strftime("%Y-%m-%d %H:%MZ"),
        "episodes": version.counts.get("episodes", 0),
        "ratings": version.counts.get("feedback", 0),
        "position": version.position,
        "parent": version.parent,
        "state": ", ".join(name for name, one in roles if one == version.id) or None,
    }


def _change(change: TensorChange) -> dict[str, Any]:
    return {
        "component": change.component,
        "tensor": change.tensor,
        "before": None if change.before is None else list(change.before),
        "after": None if change.after is None else list(change.after),
        "largest": None if math.isnan(change.largest) else change.largest,
        "rms": None if math.isnan(change.rms) else change.rms,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [[title.upper() for title in rows[0]], *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _shown(value: object) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _counted(episodes: int) -> str:
    return "1 episode" if episodes == 1 else f"{episodes} episodes"


def _say(arguments: argparse.Namespace, report: dict[str, Any], text: str) -> int:
    print(json.dumps(report) if arguments.json else text)
    return 0
