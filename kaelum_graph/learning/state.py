"""The whole of what is learned: its components, taking in the log one event after the other."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from kaelum_graph.learning.component import Component, Tensors
from kaelum_graph.learning.episode import SeenEpisode, is_audit
from kaelum_graph.learning.faults import NO_FAULT, ComponentFault, PassedOver
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.one_thread import one_thread
from kaelum_graph.learning.ratings import with_ratings
from kaelum_graph.types import Json

C = TypeVar("C")

HELD_OUT_SHARE = 0.1
"""Of the episodes that are not for audit, those that no scored component is trained on."""


@runtime_checkable
class Scored(Protocol):
    """A component that can be told how well it does, so that a new version of it must first prove itself."""

    def loss(self, episode: SeenEpisode) -> float | None:
        """How badly it does on an episode that it was not trained on, in [0, 1]; None where that can't be said.

        Reads, and changes nothing. It must be a mean of evidence: never of this or another model's own opinion.
        """
        ...


def is_held_out(episode_id: str) -> bool:
    """Whether scored components are not to be trained on it but to be judged by it. One id in ten, by its hash."""
    digest = hashlib.sha256(f"held out {episode_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32 and not is_audit(episode_id)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one component knows, after the event of number `position`."""

    tensors: Tensors
    meta: Json
    position: int = 0

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits: equal for equal knowledge, wherever in the log that was reached."""
        whole = hashlib.sha256()
        for name in sorted(self.tensors):
            array = np.asarray(self.tensors[name], order="C")
            whole.update(json.dumps([name, array.dtype.str, array.shape]).encode())
            whole.update(array.tobytes())
        whole.update(json.dumps(self.meta, sort_keys=True).encode())
        return whole.hexdigest()


Parts = Mapping[str, Part]


class LearnedState:
    """The components, in an order that stays: a later one may read an earlier one. Not thread-safe while it learns."""

    def __init__(self, components: Sequence[Component]) -> None:
        """Nothing learned yet. Raises `ValueError` for two components of one name."""
        self.components = tuple(components)
        self.position = 0
        self.counts = {"episodes": 0, "feedback": 0}
        self.passed_over: Mapping[str, PassedOver] = {}  # by component; never changed, another takes its place
        if len({component.name for component in components}) < len(components):
            raise ValueError(f"components {[component.name for component in components]}: expected a name only once.")

    @property
    def names(self) -> tuple[str, ...]:
        """The components' names, in their order."""
        return tuple(component.name for component in self.components)

    def component(self, kind: type[C]) -> C:
        """The component of that class. Raises `LookupError`."""
        for component in self.components:
            if isinstance(component, kind):
                return component
        raise LookupError(f"no component {kind.__name__}: there are {', '.join(self.names)}.")

    @one_thread()
    def apply(self, event: LearningEvent, *, passing: Mapping[str, str] | None = None) -> None:
        """Take in the next event, but not for the components `passing` (name: what it raised) and those set aside.

        Raises `ValueError` for one that was taken in, `ComponentFault` where a component raises, and `faults.NO_FAULT`;
        after the last two the state is of no use any more.
        """
        if event.sequence <= self.position:
            raise ValueError(f"event {event.sequence} comes after {self.position}: expected a greater number.")
        untaught, rated = is_held_out(event.episode_id), cache(partial(_rated, event))
        teaches = event.change is not None or (event.kind == "episode" and event.episode is not None)
        for component in self.components:
            if not teaches or (untaught and isinstance(component, Scored)):
                continue
            name = component.name
            so_far = self.passed_over.get(name, PassedOver())
            if passing and name in passing:
                self.passed_over = {**self.passed_over, name: so_far.with_fault(event.sequence, passing[name])}
            elif so_far.waits:
                self.passed_over = {**self.passed_over, name: so_far.with_untried()}
            else:
                _teach(component, event, rated)
                if so_far.row:
                    self.passed_over = {**self.passed_over, name: so_far.with_learned()}
        if event.kind == "episode":
            self.counts["episodes"] += event.episode is not None
        elif event.kind == "feedback":
            self.counts["feedback"] += 1
        self.position = event.sequence

    def parts(self) -> dict[str, Part]:
        """What each component knows now: nothing that is learned later changes it."""
        return {
            component.name: Part(
                tensors={name: np.array(array) for name, array in component.tensors().items()},
                meta=json.loads(json.dumps(component.meta())),
                position=self.position,
            )
            for component in self.components
        }

    @one_thread()
    def load(self, parts: Parts) -> None:
        """Take over what the components with a part there knew; `position` becomes the greatest of theirs.

        Raises `ValueError` for a part that a component doesn't take; then this state is of no use any more.
        """
        for component in self.components:
            if (part := parts.get(component.name)) is not None:
                component.load(
                    {name: np.array(array) for name, array in part.tensors.items()}, copy.deepcopy(part.meta)
                )
        self.position = max((part.position for part in parts.values()), default=0)

    def copy(self) -> LearnedState:
        """Another state that knows the same and learns on its own."""
        return copy.deepcopy(self)


def _rated(event: LearningEvent) -> SeenEpisode | None:
    return None if event.episode is None else with_ratings(event.episode, event.ratings)


def _teach(component: Component, event: LearningEvent, rated: Callable[[], SeenEpisode | None]) -> None:
    try:
        if event.change is not None:
            component.learn_feedback(event.change, rated())
        elif event.episode is not None:
            component.learn_episode(event.episode)
    except NO_FAULT:
        raise
    except Exception as error:
        raise ComponentFault(component.name, event.sequence, error) from error


def digest_of(parts: Parts) -> str:
    """12 hexadecimal digits that name what all parts know together."""
    whole = json.dumps([[name, parts[name].digest] for name in sorted(parts)])
    return hashlib.sha256(whole.encode()).hexdigest()[:12]
