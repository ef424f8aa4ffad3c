"""The verifiers there are: one kind of evidence a module, found by name.

A verifier registers itself with `@register` (a `Verifier` class) or `@evidence` (one function). Installed packages add
theirs through the entry point group "kaelum.verifiers": each entry names a module that registers on import, or a
`Verifier` class.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import ClassVar, TypeVar

from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import Evidence, ModelScore, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers.base import Verifier

__all__ = ["QUERY_CHECKS", "Verifier", "available", "check_safely", "evidence", "register", "verifier"]

Kind = TypeVar("Kind", bound=Verifier)
Check = Callable[[Query, Candidate], "bool | Evidence | None"]

QUERY_CHECKS = (
    "base", "calculus", "constraints", "counting", "duration", "equation", "expression", "liars", "logic", "ordering",
    "puzzle", "syllogism",
)  # fmt: skip
"""Checks of an answer against its query alone: right for any worker's candidate, unscored where they don't apply."""

_BUILT_IN = (
    "agreement", "arithmetic", "bases", "calculus", "constraints", "counting", "durations", "equations", "expressions",
    "liars", "logic", "orderings", "programs", "puzzles", "sources", "structure", "syllogisms",
)  # fmt: skip
_ENTRY_POINTS = "kaelum.verifiers"
_registry: dict[str, Verifier] = {}


def register(kind: type[Kind]) -> type[Kind]:
    """Class decorator: makes one instance of `kind` known under its `name`. Raises `UsageError` for a taken name."""
    _add(kind())
    return kind


def evidence(*, name: str, tier: Tier) -> Callable[[Check], Check]:
    """Function decorator: registers `check(query, candidate)` as the verifier `name`.

    The function returns True (pass), False (fail), None (nothing to check: unscored) or an `Evidence` of its own with a
    reason; the first line of its docstring is the reason of a bare fail.
    """

    def decorate(check: Check) -> Check:
        _add(_FunctionVerifier(name, tier, check))
        return check

    return decorate


def verifier(name: str) -> Verifier:
    """The verifier called `name`. Raises `UsageError` naming those there are."""
    _load()
    if name not in _registry:
        raise UsageError(f"Unknown verifier '{name}'. There are: {', '.join(sorted(_registry))}.")
    return _registry[name]


def available() -> dict[str, Verifier]:
    """All verifiers by name, sorted."""
    _load()
    return dict(sorted(_registry.items()))


def check_safely(verifier: Verifier, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
    """What `verifier` says; "unscored" with the reason when it raises or returns something that is no `Evidence`."""
    try:
        found: object = verifier.check(query, candidate, sandbox)
    except Exception as error:
        return _unscored(verifier, f"{type(error).__name__}: {error}".splitlines()[0])
    if not isinstance(found, Evidence):
        return _unscored(verifier, f"{verifier.name} returned {type(found).__name__}, not Evidence")
    return found


class _FunctionVerifier(Verifier):
    """A verifier made of one function."""

    name: ClassVar[str] = ""
    tier: ClassVar[Tier] = Tier.CROSS_CHANNEL

    def __init__(self, name: str, tier: Tier, check: Check) -> None:
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self.tier = tier  # pyright: ignore[reportAttributeAccessIssue]
        self._check = check
        self._failure = (inspect.getdoc(check) or f"{name} does not hold").splitlines()[0]

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        found: object = self._check(query, candidate)
        if isinstance(found, Evidence):
            return found
        if isinstance(found, ModelScore):
            raise TypeError("a ModelScore is an opinion, not evidence")
        if found is None:
            return Evidence(tier=self.tier, source=self.name, outcome="unscored", reason="nothing to check")
        if not isinstance(found, bool):
            raise TypeError(f"a check returns bool, None or Evidence, not {type(found).__name__}")
        reason = "" if found else self._failure
        return Evidence(tier=self.tier, source=self.name, outcome="pass" if found else "fail", reason=reason)


def _add(instance: Verifier) -> None:
    known = _registry.get(instance.name)
    # The same module imported again (a reload) replaces its own; two sources of one name are a mistake.
    if known is not None and not _same_origin(known, instance):
        raise UsageError(f"Verifier '{instance.name}' is already registered by {_origin(known)}.")
    _registry[instance.name] = instance


def _origin(instance: Verifier) -> str:
    if isinstance(instance, _FunctionVerifier):
        check = instance._check
        return f"{check.__module__}.{getattr(check, '__qualname__', '?')}"
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def _same_origin(one: Verifier, other: Verifier) -> bool:
    return _origin(one) == _origin(other)


def _unscored(verifier: Verifier, reason: str) -> Evidence:
    return Evidence(tier=verifier.tier, source=verifier.name, outcome="unscored", reason=reason)


@cache
def _load() -> None:
    for module in _BUILT_IN:
        importlib.import_module(f"{__name__}.{module}")
    for entry in entry_points(group=_ENTRY_POINTS):
        loaded: object = entry.load()
        if isinstance(loaded, type) and issubclass(loaded, Verifier) and loaded.name not in _registry:
            register(loaded)
