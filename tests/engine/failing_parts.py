"""Components that fail on some episodes, and the same ones that were never shown those."""

from __future__ import annotations

from collections.abc import Callable

from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Mean, Order, seen

Bad = Callable[[str], bool]


class Failing(Order):
    """Fails on the episodes that are `bad`, after it has changed itself. `tried` are those that it was given."""

    def __init__(self, bad: Bad, *, name: str = "failing", error: type[Exception] = ZeroDivisionError) -> None:
        super().__init__()
        self.name, self.bad, self.error = name, bad, error
        self.tried: list[str] = []

    def learn_episode(self, episode: SeenEpisode) -> None:
        self.tried.append(episode.id)
        super().learn_episode(episode)
        if self.bad(episode.id):
            raise self.error(f"nothing to divide {episode.id} by")


class Spared(Order):
    """What `Failing` knows if the bad episodes never come to it."""

    def __init__(self, bad: Bad, *, name: str = "failing") -> None:
        super().__init__()
        self.name, self.bad = name, bad

    def learn_episode(self, episode: SeenEpisode) -> None:
        if not self.bad(episode.id):
            super().learn_episode(episode)


class Reading(Order):
    """Remembers what another component knew at each of its own events."""

    name = "reading"

    def __init__(self, read: Order) -> None:
        super().__init__()
        self.read = read

    def learn_episode(self, episode: SeenEpisode) -> None:
        self.take(f"{episode.id} {self.read.events} {self.read.digest}")


class Unjudged(Mean):
    """A `Mean` whose loss can't be told on the episodes that are `bad`."""

    def __init__(self, bad: Bad, *, name: str = "unjudged") -> None:
        super().__init__(name=name)
        self.bad = bad
        self.asked: list[str] = []

    def loss(self, episode: SeenEpisode) -> float | None:
        self.asked.append(episode.id)
        if self.bad(episode.id):
            raise ArithmeticError("no loss")
        return super().loss(episode)


class Refusing(Order):
    """Fails on a rating that it is told of."""

    name = "refusing"

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        raise LookupError("no such rating")


def failing_state(bad: Bad = "bad".__eq__) -> LearnedState:
    """One that fails, one that reads it, and two that have nothing to do with it."""
    failing = Failing(bad)
    return LearnedState([Order(), failing, Reading(failing), Mean()])


def spared_state(bad: Bad = "bad".__eq__) -> LearnedState:
    """What `failing_state` is to know in the end."""
    spared = Spared(bad)
    return LearnedState([Order(), spared, Reading(spared), Mean()])


def episode_event(sequence: int, name: str) -> LearningEvent:
    """An answered query."""
    return LearningEvent(sequence=sequence, kind="episode", episode_id=EpisodeId(name), episode=seen(name))
