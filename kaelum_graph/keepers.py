"""Whoever keeps something of episodes beside the episode store, so that forgetting reaches it.

Two groups of entry points, for this package's upper layers and for anybody's: "kaelum.keepers" names functions that
forget, "kaelum.conversations" functions that know which episodes go together. In both `data_dir` is the data folder, in
which they make nothing that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from kaelum_graph.errors import StorageError, UsageError

KEEPER_GROUP = "kaelum.keepers"
CONVERSATION_GROUP = "kaelum.conversations"


class Keeper(Protocol):
    """Forgets. Raises `StorageError` where it can't, and then it has forgotten nothing."""

    def __call__(self, data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
        """How many rows went: those of these episodes, and with a `tenant` all that are its own."""
        ...


class Linker(Protocol):
    """Knows conversations that the episodes themselves don't tell of. Raises `StorageError`."""

    def __call__(self, data_dir: Path, episode_ids: Sequence[str], *, earlier: bool) -> Sequence[str]:
        """What these went on from (`earlier`), or else what went on from these: one step or more, in any order.

        These may be among them, and ids of turns that no episode was kept of: the keepers are told of those too.
        """
        ...


def all_keepers() -> dict[str, Keeper]:
    """Every keeper by its name. Raises `UsageError` where one can't be loaded, or none is registered."""
    found = _loaded(KEEPER_GROUP)
    if not found:
        raise UsageError("no keepers are registered; install the package again: pip install -e .")
    return found


def all_linkers() -> dict[str, Linker]:
    """Every linker by its name. Raises `UsageError` where one can't be loaded."""
    return _loaded(CONVERSATION_GROUP)


def forget_with(
    keepers: dict[str, Keeper], data_dir: Path, episode_ids: Sequence[str], *, tenants: Sequence[str]
) -> dict[str, int]:
    """How many rows went of each keeper: those of these episodes, and all that `tenants` have.

    One that fails stops no other; then it raises `StorageError` for the first.
    """
    first, *further = tenants or [None]
    gone: dict[str, int] = {}
    failures: list[StorageError] = []
    for name, keeper in keepers.items():
        try:
            gone[name] = keeper(data_dir, episode_ids, tenant=first)
            gone[name] += sum(keeper(data_dir, [], tenant=tenant) for tenant in further)
        except StorageError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return gone


def _loaded(group: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            found.setdefault(point.name, point.load())
        except (ImportError, AttributeError) as error:
            raise UsageError(f"{group}: '{point.name}' cannot be loaded, so nothing was forgotten: {error}.") from error
    return found
