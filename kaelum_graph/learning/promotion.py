"""Which of what was learned is fit to be searched with: a component must prove itself on episodes that are new to it.

The learner goes on; what is compared is frozen: a challenger from a checkpoint, and the component that serves. Both are
scored on the episodes that no scored component is ever trained on (`is_held_out`: those kept before, and those to come)
and on every other one that came after both had stopped learning. Judging by each example before anything learns from it
is prequential validation (Dawid 1984; Blum, Kalai and Langford 1999); replacing the model in use by a challenger only
on a bound that holds at any time is ChaCha (Wu et al. 2021). Each component is promoted on its own, so that a router
that got worse doesn't hold back a reward model that got better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from kaelum_graph.learning.betting import BettingTest
from kaelum_graph.learning.component import Component
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.one_thread import one_thread
from kaelum_graph.learning.state import LearnedState, Parts, Scored, is_held_out
from kaelum_graph.types import Json

Verdict = Literal["undecided", "promote", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRule:
    """When a challenger takes the place of what serves. Losses are in [0, 1].

    It is promoted when "its mean loss is greater by `margin` or more" is rejected at level `alpha`, and dropped for a
    newer one when "it is no worse" is, when its mean loss is greater by `margin` or more after `hopeful` episodes, or
    after `patience` episodes.
    """

    margin: float = 0.01
    alpha: float = 0.05
    hopeful: int = 80
    patience: int = 400
    replayed: int = 200  # held-out episodes from before the challenge, at most


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Two anytime-valid tests of loss(serving) − loss(challenger), episode by episode."""

    rule: PromotionRule
    fit: BettingTest = field(default_factory=BettingTest)
    worse: BettingTest = field(default_factory=BettingTest)

    def add(self, serving_loss: float, challenger_loss: float) -> None:
        """Take in one episode. A loss beyond [0, 1] counts as the nearest within."""
        difference = _bounded(serving_loss) - _bounded(challenger_loss)
        # Scaled so that the worst that can happen is −1, which the bets are safe against.
        self.fit.add((difference + self.rule.margin) / (1.0 - self.rule.margin))
        self.worse.add(-difference)

    @property
    def verdict(self) -> Verdict:
        """What the episodes so far say."""
        rule, scored = self.rule, self.fit.count
        if self.fit.rejects(rule.alpha):
            return "promote"
        hopeless = scored >= rule.hopeful and self.fit.mean <= 0.0
        return "drop" if self.worse.rejects(rule.alpha) or hopeless or scored >= rule.patience else "undecided"

    def summary(self) -> Json:
        """How many episodes were scored, by how much the challenger's mean loss is lower, the log of the capital."""
        return {
            "scored": self.fit.count,
            "gain": round(-self.worse.mean, 6),
            "log_capital": round(self.fit.log_capital, 4),
        }


class Challenge:
    """One component of a checkpoint against the one that serves, everything else being equal.

    `challenger` and `serving` name the versions that they are of, so that the challenge can go on after a restart.
    Both are judged together with the unscored components of the checkpoint, so that they are held to the same labels.
    """

    def __init__(
        self,
        name: str,
        *,
        challenger: tuple[str, Parts],
        serving: tuple[str | None, Parts],
        make_state: Callable[[], LearnedState],
        rule: PromotionRule,
    ) -> None:
        """Raises `ValueError` where a part isn't taken by its component."""
        self.name = name
        self.challenger, self.part = challenger[0], challenger[1][name]
        self.serving, self.against = serving[0], serving[1][name].digest
        self.comparison = Comparison(rule=rule)
        self._seen = max(self.part.position, serving[1][name].position)
        template = make_state()
        shared = {one.name for one in template.components if not isinstance(one, Scored)}
        common = {**serving[1], **{one: part for one, part in challenger[1].items() if one in shared}}
        self._serving = _scored(template, common, name)
        self._challenger = _scored(make_state(), {**common, name: self.part}, name)

    @one_thread()
    def score(self, episode: SeenEpisode, sequence: int | None) -> Verdict:
        """Judge both on an episode, of event `sequence` or held out, unless one of them may have learned from it."""
        if not episode.audit and (is_held_out(episode.id) or (sequence or 0) > self._seen):
            losses = self._serving.loss(episode), self._challenger.loss(episode)
            if losses[0] is not None and losses[1] is not None:
                self.comparison.add(losses[0], losses[1])
        return self.comparison.verdict

    def to_json(self) -> Json:
        """What `restore` goes on from."""
        return {
            "component": self.name,
            "challenger": self.challenger,
            "serving": self.serving,
            "fit": asdict(self.comparison.fit),
            "worse": asdict(self.comparison.worse),
        }

    def restore(self, told: Json) -> None:
        """Go on from where `to_json` was taken."""
        self.comparison.fit = BettingTest(**told["fit"])
        self.comparison.worse = BettingTest(**told["worse"])


def scored_names(components: Sequence[Component]) -> list[str]:
    """The components that must prove themselves; the rest is served as soon as it is saved."""
    return [component.name for component in components if isinstance(component, Scored)]


def _scored(state: LearnedState, parts: Parts, name: str) -> Scored:
    state.load(parts)
    component = next(one for one in state.components if one.name == name)
    assert isinstance(component, Scored)
    return component


def _bounded(loss: float) -> float:
    if not loss == loss:
        raise ValueError("a loss is NaN: expected a number in [0, 1], or None.")
    return min(max(loss, 0.0), 1.0)
