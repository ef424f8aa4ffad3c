"""The comparisons under way: each scored component of a checkpoint against the one that serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.faults import IN_A_ROW, NO_FAULT, error_text
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.promotion import Challenge, PromotionRule, scored_names
from kaelum_graph.learning.ratings import with_ratings
from kaelum_graph.learning.serving import Serving
from kaelum_graph.learning.state import LearnedState, Part, Parts, is_held_out
from kaelum_graph.learning.versions import Version, Versions
from kaelum_graph.storage import Storage
from kaelum_graph.types import Json

LOG = logging.getLogger(__name__)


class Challenges:
    """At most one a component. While a version is pinned nothing is compared. Belongs to the learner's thread.

    An episode that a component of either side can't be judged by, because it raises, says nothing of that component.
    After eight in a row the comparison ends without a verdict, and a newer checkpoint's component may challenge.
    """

    def __init__(
        self,
        storage: Storage,
        versions: Versions,
        serving: Serving,
        make_state: Callable[[], LearnedState],
        *,
        rule: PromotionRule,
    ) -> None:
        self.names = tuple(scored_names(make_state().components))
        self._storage = storage
        self._versions = versions
        self._serving = serving
        self._make_state = make_state
        self._rule = rule
        self._running: dict[str, Challenge] = {}
        self._failed: dict[str, int] = {}  # episodes in a row that one of the two raised on
        self._warned: set[str] = set()

    def summary(self) -> dict[str, Json]:
        """How each stands."""
        return {name: challenge.comparison.summary() for name, challenge in list(self._running.items())}

    def to_json(self) -> list[Json]:
        """What `resume` goes on from."""
        return [challenge.to_json() for challenge in self._running.values()]

    def versions(self) -> set[str]:
        """The versions that must be kept for them."""
        return {one for each in self._running.values() for one in (each.challenger, each.serving) if one is not None}

    def clear(self) -> None:
        """End all without a verdict."""
        self._running, self._failed = {}, {}

    def drop_outdated(self) -> None:
        """End those against what serves no more."""
        now = self._serving.now.parts
        self._running = {name: one for name, one in self._running.items() if one.against == now[name].digest}

    def score(self, event: LearningEvent, *, erased: int, counts: Mapping[str, int]) -> None:
        """Judge by a new episode, before anything learns from it; what has proved itself serves from now on."""
        if event.kind != "episode" or event.episode is None or self._serving.pinned is not None:
            return
        for challenge in list(self._running.values()):
            self._judge(challenge, event.episode, event.sequence)
            self._settle(challenge, erased=erased, counts=counts)

    def begin(self, version_id: str, parts: Parts, *, position: int, erased: int, counts: Mapping[str, int]) -> None:
        """Let each component that is not being compared, and differs from what serves, challenge it.

        The held-out episodes before event `position`, with the ratings that hold now, are the first to judge by.
        """
        serving = self._serving.now
        if self._serving.pinned is not None:
            return
        new = [
            self._challenge(name, (version_id, parts), (serving.id, serving.parts))
            for name in self.names
            if name not in self._running and parts[name].digest != serving.parts[name].digest
        ]
        self._running |= {challenge.name: challenge for challenge in new}
        self._failed |= dict.fromkeys((challenge.name for challenge in new), 0)
        if not new:
            return
        recent = self._storage.seen_episode_ids(until=position, limit=self._rule.replayed * 10)
        for episode_id in [one for one in recent if is_held_out(one)][-self._rule.replayed :]:
            if (seen := self._storage.seen_episode(episode_id)) is None:
                continue
            ratings = self._storage.ratings_until(episode_id, position)
            for challenge in new:
                if challenge.name in self._running and challenge.comparison.verdict == "undecided":
                    self._judge(challenge, seen, None, ratings=ratings)
        for challenge in new:
            self._settle(challenge, erased=erased, counts=counts)

    def resume(self, version: Version) -> None:
        """Go on with those that were under way when a checkpoint was kept, unless something else serves by now."""
        now = self._serving.now
        self.clear()
        for told in version.running:
            name = told["component"]
            try:
                before = self._versions.parts(told["serving"]) if told["serving"] else self._make_state().parts()
                challenger = told["challenger"], self._versions.parts(told["challenger"])
                challenge = self._challenge(name, challenger, (told["serving"], before))
                challenge.restore(told)
            except (StorageError, UsageError, ValueError, KeyError, TypeError) as error:
                LOG.warning("the comparison of '%s' begins anew: %s", name, error)
                continue
            if self._serving.pinned is not None or challenge.against == now.parts[name].digest:
                self._running[name] = challenge

    def _challenge(self, name: str, challenger: tuple[str, Parts], serving: tuple[str | None, Parts]) -> Challenge:
        return Challenge(name, challenger=challenger, serving=serving, make_state=self._make_state, rule=self._rule)

    def _judge(
        self, challenge: Challenge, episode: SeenEpisode, sequence: int | None, *, ratings: Sequence[Feedback] = ()
    ) -> None:
        name, scored = challenge.name, challenge.comparison.fit.count
        try:
            challenge.score(with_ratings(episode, ratings) if ratings else episode, sequence)
        except NO_FAULT:
            raise
        except Exception as error:
            self._failed[name] = self._failed.get(name, 0) + 1
            if name not in self._warned:
                self._warned.add(name)
                LOG.warning("'%s' can't be judged by an episode: %s", name, error_text(error), exc_info=error)
            if self._failed[name] >= IN_A_ROW:
                LOG.info("learned state %s: no verdict, '%s': %s", challenge.challenger, name, error_text(error))
                del self._running[name]
        if challenge.comparison.fit.count > scored:
            self._failed[name] = 0

    def _settle(self, challenge: Challenge, *, erased: int, counts: Mapping[str, int]) -> None:
        verdict = challenge.comparison.verdict
        if verdict == "undecided" or challenge.name not in self._running:
            return
        del self._running[challenge.name]
        summary = {challenge.name: challenge.comparison.summary()}
        if verdict == "promote":
            proved: dict[str, Part] = {challenge.name: challenge.part}
            self._serving.publish(proved, erased=erased, counts=counts, metrics=summary)
        LOG.info("learned state %s: %s, %s", challenge.challenger, verdict, summary)
