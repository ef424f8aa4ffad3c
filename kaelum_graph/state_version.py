"""A name for the learned state that a process searches with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from kaelum_graph.storage import Storage
from kaelum_graph.structures.book import StructureBook

DISTRIBUTION = "kaelum-graph"
DIGITS = 12
"""Hexadecimal digits of the digest: two states of the same name are one in 10^14."""


class StateVersion:
    """Names the model, the package's version, what was measured and learned, and the structures that are dealt out.

    `learned` names the learned weights in use, "" for none, and costs nothing. Thread-safe.
    """

    def __init__(
        self,
        storage: Storage,
        structures: StructureBook | None,
        *,
        model: str,
        learned: Callable[[], str] = lambda: "",
    ) -> None:
        self._storage = storage
        self._structures = structures
        self._model = model
        self._learned = learned
        self._package = _package_version()
        self._known: tuple[object, str] | None = None

    def current(self) -> str:
        """ "kaelum-<package version>-<12 hexadecimal digits>": the same as long as nothing is learned, also elsewhere.

        Raises `StorageError` where the stores can't be read.
        """
        measured = self._storage.measurements_version()
        revision = None if self._structures is None else self._structures.revision()
        key = (measured, revision, self._learned())
        known = self._known
        if known is None or known[0] != key:
            known = self._known = (key, self._named(measured, key[2]))
        return known[1]

    def _named(self, measured: str, learned: str) -> str:
        structures = [] if self._structures is None else self._structures.in_use()
        dealt = sorted([one.worker, one.cluster, list(one.lines)] for one in structures)
        state = json.dumps([self._model, self._package, measured, dealt, *([learned] if learned else [])])
        return f"kaelum-{self._package}-{hashlib.sha256(state.encode()).hexdigest()[:DIGITS]}"


def _package_version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"
