"""The verifiers there are: one kind of evidence a module, found by name.

A verifier registers itself with `@register` (a `Verifier` class) or `@evidence` (one function). Installed packages add
theirs through the entry point group "kaelum.verifiers": each entry names a module that registers on import, or a
`Verifier` class.

Which of the built-in ones look at a candidate its worker says (`Worker.verifiers`). One that was added looks at every
worker's candidates, or at those of the workers it names.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from typing import ClassVar, TypeVar, get_args

from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import Evidence, ModelScore, Outcome, Tier
from kaelum_graph.models.base import CancelToken
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers.base import DEFAULT_SECONDS, Verifier
from kaelum_graph.verifiers.timed import NoAnswer, desk_of, unanswered

__all__ = [
    "QUERY_CHECKS", "Verifier", "added", "available", "check_safely", "evidence", "register", "unanswered", "verifier",
]  # fmt: skip

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
_OTHER_VOTERS = ("outcome", "person", "rubric", "verification")
"""Names under which votes are cast that no verifier gives: by an outcome, a person, the judge, a verifying program."""
LONGEST_REASON = 500
"""Characters of a reason that are kept: it goes into the prompt of a rollout that mends what failed."""
_ENTRY_POINTS = "kaelum.verifiers"
_registry: dict[str, Verifier] = {}


def register(kind: type[Kind]) -> type[Kind]:
    """Class decorator: makes one instance of `kind` known under its `name`.

    Raises `UsageError` for a name that is taken, a built-in verifier's above all, and for a `tier`, `workers` or
    `seconds` of another type than `Verifier` states.
    """
    _add(kind())
    return kind


def evidence(
    *, name: str, tier: Tier, workers: Sequence[str] | None = None, seconds: float = DEFAULT_SECONDS
) -> Callable[[Check], Check]:
    """Function decorator: registers `check(query, candidate)` as the verifier `name`.

    The function returns True (pass), False (fail), None (nothing to check: unscored) or an `Evidence` of its own with a
    reason; the first line of its docstring is the reason of a bare fail. It is asked about the candidates of `workers`,
    of all of them without that. It has `seconds` (10 unless told) for one question, and never longer than the search's
    deadline leaves; after that its vote is unscored. Raises `UsageError` as `register` does, and for an `async`
    function.
    """

    def decorate(check: Check) -> Check:
        if inspect.iscoroutinefunction(check):
            raise UsageError(f"Verifier '{name}' is an async function; it has to return its verdict, not await one.")
        _add(_FunctionVerifier(name, tier, check, workers=workers, seconds=seconds))
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


def added(worker: str | None = None) -> tuple[Verifier, ...]:
    """The verifiers beside the built-in ones that look at candidates of `worker` (of any, without one), by name."""
    found = [one for name, one in available().items() if name not in _built_in()]
    return tuple(one for one in found if worker is None or one.workers is None or worker in one.workers)


def check_safely(
    verifier: Verifier,
    query: Query,
    candidate: Candidate,
    sandbox: Sandbox,
    *,
    deadline: float | None = None,
    cancel: CancelToken | None = None,
) -> Evidence:
    """What `verifier` says; "unscored" with the reason when it raises or returns something that is no `Evidence`.

    So is an `Evidence` with a field that is none: what was made of it would be found out far from here. And so is an
    added verifier's answer that isn't there within its `seconds`, at `deadline` (a `time.monotonic()` instant) or a
    moment after `cancel` is set; it runs in a thread of its own, in this one's context (see `timed`).
    """

    def ask() -> object:
        return verifier.check(query, candidate, sandbox)

    try:
        found = ask() if _is_own(verifier) else desk_of(verifier).ask(ask, deadline=deadline, cancel=cancel)
    except NoAnswer as error:
        return _unscored(verifier, str(error))
    except (Exception, SystemExit) as error:
        return _unscored(verifier, f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST_REASON])
    if not isinstance(found, Evidence):
        return _unscored(verifier, f"{verifier.name} returned {type(found).__name__}, not Evidence")
    if not isinstance(found.tier, Tier) or found.outcome not in get_args(Outcome):
        return _unscored(verifier, f"{verifier.name} returned tier {found.tier!r}, outcome {found.outcome!r}")
    if not isinstance(found.source, str) or not isinstance(found.reason, str):
        return _unscored(verifier, f"{verifier.name} returned a source or a reason that is no text")
    if found.source in _OTHER_VOTERS:
        return _unscored(verifier, f"{verifier.name} voted as '{found.source}', the name of another's votes")
    return found if len(found.reason) <= LONGEST_REASON else replace(found, reason=found.reason[:LONGEST_REASON])


class _FunctionVerifier(Verifier):
    """A verifier made of one function."""

    name: ClassVar[str] = ""
    tier: ClassVar[Tier] = Tier.CROSS_CHANNEL

    def __init__(self, name: str, tier: Tier, check: Check, *, workers: Sequence[str] | None, seconds: float) -> None:
        self.name = name  # pyright: ignore[reportAttributeAccessIssue]
        self.tier = tier  # pyright: ignore[reportAttributeAccessIssue]
        self.workers = workers  # pyright: ignore[reportAttributeAccessIssue]
        self.seconds = seconds  # pyright: ignore[reportAttributeAccessIssue]
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
    if not _is_own(instance):
        # So that a built-in one's name is taken whoever is imported first.
        _built_in()
        _check(instance)
    known = _registry.get(instance.name)
    # The same module imported again (a reload) replaces its own; two sources of one name are a mistake.
    if known is not None and not _same_origin(known, instance):
        raise UsageError(f"Verifier '{instance.name}' is already registered by {_origin(known)}.")
    _registry[instance.name] = instance


def _check(instance: Verifier) -> None:
    """Raises `UsageError` for what would only be found out in the middle of a search."""
    if not isinstance(instance.name, str) or not instance.name:
        raise UsageError(f"A verifier has the name {instance.name!r}; expected a text that is not empty.")
    if instance.name in _OTHER_VOTERS:
        raise UsageError(f"Verifier '{instance.name}' has a name under which others vote; choose another.")
    if not isinstance(instance.tier, Tier):
        raise UsageError(f"Verifier '{instance.name}' has the tier {instance.tier!r}, not a Tier like Tier.CONSTRAINT.")
    workers: object = instance.workers
    names = list(workers) if isinstance(workers, list | tuple | set | frozenset) else None
    if workers is not None and (names is None or not all(isinstance(name, str) for name in names)):
        raise UsageError(f"Verifier '{instance.name}' has workers={workers!r}, not names like ('math',).")
    seconds: object = instance.seconds
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < math.inf:
        raise UsageError(f"Verifier '{instance.name}' has seconds={seconds!r}; expected a number above 0.")


def _is_own(instance: Verifier) -> bool:
    return _origin(instance).startswith(f"{__name__}.")


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
def _built_in() -> frozenset[str]:
    """The names of this package's own verifiers, fixed once all of them are imported."""
    for module in _BUILT_IN:
        importlib.import_module(f"{__name__}.{module}")
    return frozenset(name for name, instance in tuple(_registry.items()) if _is_own(instance))


@cache
def _load() -> None:
    _built_in()
    for entry in entry_points(group=_ENTRY_POINTS):
        try:
            loaded: object = entry.load()
        except Exception as error:
            raise UsageError(f"{_ENTRY_POINTS}: '{entry.name}' cannot be loaded: {error}.") from error
        if isinstance(loaded, type) and issubclass(loaded, Verifier):
            known = _registry.get(loaded.name)
            # The module that the class lies in may have registered it already.
            if type(known) is not loaded:
                register(loaded)
