"""What is searched with: the last promoted or the pinned version, shared by every process of a data folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.learning.state import LearnedState, Part, Parts
from kaelum_graph.learning.versions import Versions
from kaelum_graph.types import Json

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """A version in use; `id` is None before anything was promoted. Nothing changes `state`."""

    id: str | None
    state: LearnedState
    parts: Parts


class Serving:
    """Keeps `now` up to date. One thread refreshes and publishes; any may read `now`, and keep what it read."""

    def __init__(self, versions: Versions, make_state: Callable[[], LearnedState]) -> None:
        self._versions = versions
        self._make_state = make_state
        self._pointed: str | None = None
        state = make_state()
        self.now = Served(id=None, state=state, parts=state.parts())
        self.pinned: str | None = None
        self.refresh()

    def refresh(self) -> bool:
        """Load the current version if it is another one than before; whether it was. Raises `StorageError`.

        A damaged one is passed over, with a notice, for the one promoted before.
        """
        self.pinned = self._versions.pinned()
        pointed = self.pinned or self._versions.promoted()
        if pointed == self._pointed:
            return False
        older = [version.id for version in reversed(self._versions.list()) if version.promoted]
        self.now = self._first_sound([one for one in (pointed, *older) if one is not None])
        self._pointed = pointed
        return True

    def publish(self, changes: Mapping[str, Part], *, erased: int, counts: Mapping[str, int], metrics: Json) -> bool:
        """Serve these parts in place of what serves of their names; False where nothing differs or one is pinned."""
        before = self.now
        changed = {name: part for name, part in changes.items() if part.digest != before.parts[name].digest}
        if not changed or self._versions.pinned() is not None:
            return False
        parts = {**before.parts, **changed}
        made = self._versions.save(
            parts, kind="serving", erased=erased, parent=before.id, counts=counts, metrics=metrics
        )
        if not self._versions.promote(made):
            return False
        state = self._make_state()
        state.load(parts)
        self.now, self._pointed = Served(id=made, state=state, parts=parts), made
        return True

    def _first_sound(self, version_ids: list[str]) -> Served:
        for version_id in version_ids:
            try:
                return self._load(version_id)
            except (StorageError, UsageError) as error:
                LOG.warning("%s: it is not served", error)
        state = self._make_state()
        return Served(id=None, state=state, parts=state.parts())

    def _load(self, version_id: str) -> Served:
        parts, usable = self._versions.parts(version_id), dict[str, Part]()
        for name, part in parts.items():
            try:
                self._make_state().load({name: part})
            except (ValueError, KeyError) as error:  # an older program's: that component begins anew
                LOG.warning("learned state %s: component '%s' can't be taken over: %s", version_id, name, error)
            else:
                usable[name] = part
        state = self._make_state()
        fresh = state.parts()
        state.load(usable)
        known = {name: usable.get(name, part) for name, part in fresh.items()}
        return Served(id=version_id, state=state, parts=known)
