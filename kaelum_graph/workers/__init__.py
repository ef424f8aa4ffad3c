"""The workers there are: one domain a module, found by name.

A worker registers itself with `@register`. Every module of this package is looked into, so a new one only has to lie
here; installed packages add theirs through the entry point group "kaelum.workers": each entry names a module that
registers on import, or a `Worker` class.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import TypeVar

from kaelum_graph.errors import UsageError
from kaelum_graph.types import WorkerName
from kaelum_graph.workers.base import Conclusion, Prompt, Worker

__all__ = ["Conclusion", "Prompt", "Worker", "all_workers", "register", "worker"]

Kind = TypeVar("Kind", bound=Worker)

_ORDER = ("math", "code", "logic", "factual", "creative", "analysis")
_ENTRY_POINTS = "kaelum.workers"
_registry: dict[WorkerName, Worker] = {}


def register(kind: type[Kind]) -> type[Kind]:
    """Class decorator: makes one instance of `kind` known under its `name`. Raises `UsageError` for a taken name."""
    known = _registry.get(kind.name)
    # The same module imported again (a reload) replaces its own; two sources of one name are a mistake.
    if known is not None and _origin(type(known)) != _origin(kind):
        raise UsageError(f"Worker '{kind.name}' is already registered by {_origin(type(known))}.")
    _registry[kind.name] = kind()
    return kind


def all_workers() -> dict[WorkerName, Worker]:
    """All workers by name: the six of this package in their fixed order, then the others by name."""
    _load()
    places = {name: place for place, name in enumerate(_ORDER)}
    names = sorted(_registry, key=lambda name: (places.get(name, len(places)), name))
    return {name: _registry[name] for name in names}


def worker(name: str) -> Worker:
    """The worker called `name`. Raises `UsageError` naming those there are."""
    known = all_workers()
    found = known.get(WorkerName(name))
    if found is None:
        raise UsageError(f"unknown worker '{name}'; there are: {', '.join(known)}.")
    return found


def _origin(kind: type[Worker]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for entry in entry_points(group=_ENTRY_POINTS):
        loaded: object = entry.load()
        if isinstance(loaded, type) and issubclass(loaded, Worker) and loaded.name not in _registry:
            register(loaded)
