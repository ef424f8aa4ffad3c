"""What the votes of unanchored sources are worth, learned where an anchored check has decided.

Agreement (C), other channels (X) and a judge (J) share the policy model's biases. Alone they give no certainty; how
much they give is measured on anchored items: answers that a person, an executed test or a check against the query's
own constraints has judged. For one answer, counting distinct beginnings,

    agreement   a = mass / (answering + 1)        Laplace's rule over the other rollouts: none votes for itself
    constancy   c = the same among one worker's rollouts alone, the highest of its workers
    sources     s = Σ log-likelihood ratios of the sources that voted, each from its sensitivity and specificity
    log-odds    z = w₀ + w₁ · logit(a) + w₂ · logit(c) + w₃ · s + the mean offset of its workers
    label       min(max(σ(z), 0.15), 0.85)

Where the rollouts are spread over six workers of which one knows the matter, its answer has a small share of all and a
large one of its own worker's: both count. Where an anchor has passed another answer of the query, the label is at most
1 − P(that one is right), and 0.15 at least.

People are anchors, but not all of them know: how often they are right is measured where a check has decided as well, by
expectation-maximisation over who of the two was wrong where they differ, from a prior of 0.99. Where both have voted on
an answer the more reliable one decides.

Sensitivity is P(pass | right, voted), specificity P(fail | wrong, voted), each with a Beta prior whose mean gives the
ratios that `posterior.py` states (a pass counts 1.5, a fail a quarter). The weights are fitted by maximum a posteriori
around (0, ½, ½, 1) and offsets of 0. Queries that can be checked are not like those that can't, so the priors are
narrow: what is learned on the one is believed of the other only so far. Before anything was seen the model says what is
stated. Correlated sources get a w₃ below 1.

The kept items are the whole state; everything else is a function of them, so what a person's later rating changes is
simply replaced.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.evidence import FORM, Evidence, Tier
from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.episode import SeenEpisode, check_evidence, clusters_of
from kaelum_graph.logistic import fitted
from kaelum_graph.posterior import CEILING, FAIL_CONFIDENCE, FLOOR, PASS_CONFIDENCE, anchored_vote
from kaelum_graph.types import Json

Reals = NDArray[np.float64]

NEWEST = 2000
"""Items that are kept: what is measured is the model and the prompts of now."""

SENSITIVITY, SPECIFICITY = 0.9, 0.4
"""Means of the priors. They give posterior.py's ratios: 0.9 / 0.6 = 1.5 for a pass, 0.1 / 0.4 = 1/4 for a fail."""
PRIOR_VOTES = 10.0
"""Strength of the Beta priors, in votes."""
PEOPLE = PASS_CONFIDENCE[Tier.HUMAN]
"""Mean of the prior of people's reliability."""
ROUNDS = 50
"""Of expectation-maximisation; it moves by less than a thousandth from some 20 on."""

CENTRE = (0.0, 0.5, 0.5, 1.0)
SPREADS = (0.25, 0.25, 0.25, 0.25)
OFFSET_SPREAD = 0.25
"""Prior means and standard deviations of the weights, and of each worker's offset. The spreads were chosen on searches
that no figure of docs/learning.md is taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What unanchored sources say of one answer: `agreement` and `constancy` in (0, 1), each source's lean in [-1, 1],
    each worker's share of the rollouts that gave it, and what anchors say of the `rival`: of the other answers the one
    that they speak for most."""

    agreement: float
    constancy: float
    leans: Mapping[str, float]
    workers: Mapping[str, float]
    rival: Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What anchors say of one answer: P(right) by the strongest check that voted, and whether people passed it; None
    where there is none."""

    checked: float | None
    passed: bool | None

    @classmethod
    def of(cls, votes: Sequence[Evidence]) -> Judgement:
        """Of all votes on it."""
        people, _ = anchored_vote([vote for vote in votes if vote.tier is Tier.HUMAN])
        outcome, tier = anchored_vote([vote for vote in votes if vote.tier is not Tier.HUMAN])
        return cls(
            checked=None if tier is None else (PASS_CONFIDENCE if outcome == "pass" else FAIL_CONFIDENCE)[tier],
            passed=None if people == "none" else people == "pass",
        )

    def right(self, people: float) -> float:
        """P(right), where people are right with probability `people`; a half where nobody has voted."""
        checked = 0.5 if self.checked is None else self.checked
        if self.passed is None or people < max(checked, 1.0 - checked):
            return checked
        return people if self.passed else 1.0 - people


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An answer that an anchor has judged, and what was said without it at that time."""

    episode: str
    signal: Signal
    judgement: Judgement
    rollouts: int
    stated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """How unanchored labels did on audit episodes, by rollout: share on the anchor's side, and calibration error."""

    items: int
    rollouts: int
    accuracy: float
    calibration_error: float


class NoiseModel:
    """The learned reliability of unanchored evidence. A `Component` (see `component.py`)."""

    name = "noise"

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._audits: list[Item] = []
        self._fitted: _Fit | None = None

    def probability(self, signal: Signal) -> float:
        """P(right) of an answer that no anchor has judged, in [0.15, 0.85]."""
        fit = self._fit()
        told = float(_inputs([signal], fit)[0] @ fit.weights)
        # Where another answer is right this one is not; that another is wrong says nothing of it.
        rival = signal.rival.right(fit.people)
        highest = min(CEILING, 1.0 - rival) if rival > 0.5 else CEILING
        return max(min(1.0 / (1.0 + math.exp(-told)), highest), FLOOR)

    def rated(self, signal: Signal, judgement: Judgement) -> float:
        """P(right) of an answer that people alone have judged, in [0.01, 0.99]: what was to be said of it without them,
        and what their word is worth."""
        before, word = self.probability(signal), judgement.right(self.people)
        odds = before / (1.0 - before) * word / (1.0 - word)
        return min(max(odds / (1.0 + odds), 1.0 - PEOPLE), PEOPLE)

    @property
    def people(self) -> float:
        """P(a person who says that an answer is right or wrong is right), in [0.5, 0.99] or so."""
        return self._fit().people

    def sources(self) -> dict[str, tuple[float, float]]:
        """Posterior mean sensitivity and specificity of every source that has voted on an anchored item."""
        return dict(self._fit().rates)

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """The intercept, the weights of agreement and of constancy, and that of the sources together."""
        first, second, third, fourth = (float(one) for one in self._fit().weights[: len(CENTRE)])
        return first, second, third, fourth

    def offsets(self) -> dict[str, float]:
        """What is added to the log-odds of each worker's answers."""
        fit = self._fit()
        return dict(zip(fit.workers, map(float, fit.weights[len(CENTRE) :]), strict=True))

    @property
    def seen(self) -> int:
        """Anchored items that the model rests on."""
        return len(self._items)

    def audited(self, *, bins: int = 10) -> Audited | None:
        """How the labels that were stated did on audit episodes, which never train; None before the first."""
        told = [item for item in self._audits if item.judgement.checked is not None or self.people >= CEILING]
        if not told:
            return None
        stated = np.array([item.stated for item in told])
        right = np.array([item.judgement.right(self.people) > 0.5 for item in told], dtype=float)
        counts = np.array([item.rollouts for item in told], dtype=float)
        return Audited(
            items=len(told),
            rollouts=int(counts.sum()),
            accuracy=float(np.average((stated >= 0.5) == (right > 0.5), weights=counts)),
            calibration_error=calibration_error(stated, right, counts, bins=bins),
        )

    def learn_episode(self, episode: SeenEpisode) -> None:
        """Take in what anchors decided. An audit episode is counted and moves nothing."""
        found = self._items_of(episode)
        if found:
            kept = self._audits if episode.audit else self._items
            kept += found
            del kept[:-NEWEST]
            if not episode.audit:
                self._fitted = None

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        """Replace what the rated episode taught by what it teaches with the votes that hold now."""
        feedback = change.after or change.before
        if feedback is None:
            return
        for kept in (self._items, self._audits):
            kept[:] = [item for item in kept if item.episode != feedback.episode_id]
        self._fitted = None
        if episode is not None:
            self.learn_episode(episode)

    def tensors(self) -> Tensors:
        """Numbers of the kept items, training ones first: `items` `[N, 8]` are agreement, constancy, P(right) by a
        check and people's vote of the rival, the same of the answer, rollouts and stated; `leans` `[N, S]` and
        `workers` `[N, W]`. NaN: there is none."""
        everything = [*self._items, *self._audits]
        signals = [item.signal for item in everything]
        numbers = [
            (item.signal.agreement, item.signal.constancy, *_numbers(item.signal.rival), *_numbers(item.judgement),
             item.rollouts, item.stated)
            for item in everything
        ]  # fmt: skip
        return {
            "items": np.array(numbers, dtype=np.float64).reshape(-1, 8),
            "leans": _spread([signal.leans for signal in signals], _names(signal.leans for signal in signals)),
            "workers": _spread([signal.workers for signal in signals], _names(signal.workers for signal in signals)),
        }

    def meta(self) -> Json:
        """The names of sources and workers, and the episodes of the kept items."""
        signals = [item.signal for item in (*self._items, *self._audits)]
        return {
            "sources": _names(signal.leans for signal in signals),
            "workers": _names(signal.workers for signal in signals),
            "episodes": [item.episode for item in self._items],
            "audits": [item.episode for item in self._audits],
        }

    def load(self, tensors: Tensors, meta: Json) -> None:
        """Take over a saved state. Raises `ValueError`."""
        try:
            episodes: list[str] = [*meta["episodes"], *meta["audits"]]
            training = len(meta["episodes"])
            numbers, tables = tensors["items"], (tensors["leans"], tensors["workers"])
            names: tuple[list[str], list[str]] = (meta["sources"], meta["workers"])
        except KeyError as error:
            raise ValueError(f"not a noise model: {error} is missing") from error
        shapes = [numbers.shape, *(table.shape for table in tables)]
        if shapes != [(len(episodes), width) for width in (8, *map(len, names))]:
            raise ValueError(f"not a noise model: shapes {shapes} for {len(episodes)} items")
        leans, workers = (_gathered(table, known) for table, known in zip(tables, names, strict=True))
        made = [
            Item(
                episode=episode,
                signal=Signal(
                    agreement=float(row[0]),
                    constancy=float(row[1]),
                    rival=_judgement(row[2], row[3]),
                    leans=lean,
                    workers=share,
                ),
                judgement=_judgement(row[4], row[5]),
                rollouts=int(row[6]),
                stated=float(row[7]),
            )
            for episode, row, lean, share in zip(episodes, numbers, leans, workers, strict=True)
        ]
        self._items, self._audits = made[:training], made[training:]
        self._fitted = None

    def _items_of(self, episode: SeenEpisode) -> list[Item]:
        found: list[Item] = []
        for members, signal in zip(clusters_of(episode), signals(episode), strict=True):
            judgement = Judgement.of(_of_value(episode, members))
            if judgement != NOBODY:
                stated, count = self.probability(signal), len(members)
                found.append(
                    Item(episode=episode.id, signal=signal, judgement=judgement, rollouts=count, stated=stated)
                )
        return found

    def _fit(self) -> _Fit:
        if self._fitted is None:
            self._fitted = _fitted(self._items)
        return self._fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    people: float
    rates: Mapping[str, tuple[float, float]]
    workers: Sequence[str]
    weights: Reals  # [4 + W]


def signals(episode: SeenEpisode) -> list[Signal]:
    """What the unanchored sources say of each of the episode's answers. Raises `TypeError` for a model's score."""
    groups, rollouts = clusters_of(episode), episode.rollouts
    for rollout in rollouts:
        check_evidence(rollout.evidence)
    begun = [{(rollouts[index].prefix, rollouts[index].worker) for index in members} for members in groups]
    masses = [len({prefix for prefix, _ in own}) for own in begun]
    of_worker = Counter(worker for own in begun for _, worker in own)
    judged = [Judgement.of(_of_value(episode, members)) for members in groups]
    found: list[Signal] = []
    for place, (members, own, mass) in enumerate(zip(groups, begun, masses, strict=True)):
        mine = Counter(worker for _, worker in own)
        drawn = Counter(rollouts[index].worker for index in members)
        found.append(
            Signal(
                agreement=mass / (sum(masses) + 1),
                constancy=max((count / (of_worker[worker] + 1) for worker, count in mine.items()), default=0.0),
                leans=_leans([vote for index in members for vote in rollouts[index].evidence], len(members)),
                workers={worker: count / len(members) for worker, count in sorted(drawn.items())},
                rival=max((*judged[:place], *judged[place + 1 :]), key=_spoken_for, default=NOBODY),
            )
        )
    return found


def reliability_of_people(items: Sequence[Item]) -> float:
    """How often people are right, from the answers that a check has judged as well; not below 0.5, where their word
    would say nothing. A person's word on several answers of one search counts once."""
    both = [
        (item.episode, max(one.checked, 1.0 - one.checked), one.passed == (one.checked > 0.5))
        for item in items
        if (one := item.judgement).checked is not None and one.passed is not None
    ]
    answers = Counter(episode for episode, _, _ in both)
    people = PEOPLE
    for _ in range(ROUNDS):
        wrong = 0.0
        for episode, check, agree in both:
            right, mistaken = (check, 1.0 - check) if agree else (1.0 - check, check)
            blame = (1.0 - people) * mistaken
            wrong += blame / (people * right + blame) / answers[episode]
        people = (PRIOR_VOTES * PEOPLE + len(answers) - wrong) / (PRIOR_VOTES + len(answers))
    return max(people, 0.5)


def reliabilities(items: Sequence[Item], people: float) -> dict[str, tuple[float, float]]:
    """Posterior mean sensitivity and specificity by source. An item counts by how sure its anchor is."""
    passes: dict[str, list[float]] = {}
    for item in items:
        for source, lean in item.signal.leans.items():
            if lean == 0.0:
                continue
            counts = passes.setdefault(source, [0.0, 0.0, 0.0, 0.0])
            wrong = 0 if lean > 0 else 1
            counts[wrong] += item.judgement.right(people) * abs(lean)
            counts[2 + wrong] += (1 - item.judgement.right(people)) * abs(lean)
    return {
        source: (
            (hit + PRIOR_VOTES * SENSITIVITY) / (hit + miss + PRIOR_VOTES),
            (refused + PRIOR_VOTES * SPECIFICITY) / (alarm + refused + PRIOR_VOTES),
        )
        for source, (hit, miss, alarm, refused) in sorted(passes.items())
    }


def calibration_error(stated: Reals, right: Reals, counts: Reals | None = None, *, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins: the mean of |stated − right| over bins, weighted by counts."""
    weights = np.ones(len(stated)) if counts is None else counts
    places = np.minimum((np.asarray(stated) * bins).astype(int), bins - 1)
    gaps = [abs(float((weights * (stated - right))[places == place].sum())) for place in range(bins)]
    return sum(gaps) / float(weights.sum())


def _leans(votes: Sequence[Evidence], members: int) -> dict[str, float]:
    leans: dict[str, float] = {}
    for vote in votes:
        if not vote.tier.anchored and vote.outcome != "unscored":
            leans[vote.source] = leans.get(vote.source, 0.0) + (1.0 if vote.outcome == "pass" else -1.0) / members
    return {source: min(max(lean, -1.0), 1.0) for source, lean in sorted(leans.items())}


NOBODY = Judgement(checked=None, passed=None)


def _spoken_for(judgement: Judgement) -> tuple[float, float]:
    """By checks first, for how reliable people are is another matter."""
    return judgement.checked or 0.5, 0.5 if judgement.passed is None else float(judgement.passed)


def _of_value(episode: SeenEpisode, members: Sequence[int]) -> list[Evidence]:
    """The votes on an answer's value; a check of its form is left out, it can only refute a value."""
    return [vote for index in members for vote in episode.rollouts[index].evidence if vote.source != FORM]


def _numbers(judgement: Judgement) -> tuple[float, float]:
    """What `_judgement` is made from; NaN for None."""
    checked, passed = judgement.checked, judgement.passed
    return math.nan if checked is None else checked, math.nan if passed is None else float(passed)


def _judgement(checked: float, passed: float) -> Judgement:
    return Judgement(
        checked=None if math.isnan(checked) else float(checked), passed=None if math.isnan(passed) else bool(passed)
    )


def _names(tables: Iterable[Mapping[str, float]]) -> list[str]:
    return sorted({name for table in tables for name in table})


def _spread(tables: Sequence[Mapping[str, float]], names: Sequence[str], missing: float = math.nan) -> Reals:
    """`[N, len(names)]`, in float64."""
    made = np.full((len(tables), len(names)), missing)
    places = {name: place for place, name in enumerate(names)}
    for row, table in enumerate(tables):
        for name, value in table.items():
            if name in places:
                made[row, places[name]] = value
    return made


def _gathered(table: NDArray[Any], names: Sequence[str]) -> list[dict[str, float]]:
    """What `_spread` was given."""
    return [{name: float(row[at]) for at, name in enumerate(names) if not np.isnan(row[at])} for row in table]


def _inputs(signals: Sequence[Signal], fit: _Fit) -> Reals:
    """`[N, 4 + W]`. A source that was never seen has its prior's ratios, a worker no offset."""
    sources = _names(signal.leans for signal in signals)
    leans = _spread([signal.leans for signal in signals], sources, 0.0)
    rates = np.array([fit.rates.get(source, (SENSITIVITY, SPECIFICITY)) for source in sources]).reshape(-1, 2).T
    passing, failing = np.log(rates[0] / (1 - rates[1])), np.log((1 - rates[0]) / rates[1])
    shares = np.array([(signal.agreement, signal.constancy) for signal in signals])
    return np.column_stack(
        [
            np.ones(len(signals)),
            np.log(shares / (1 - shares)),
            leans.clip(min=0) @ passing - leans.clip(max=0) @ failing,
            _spread([signal.workers for signal in signals], fit.workers, 0.0),
        ]
    )


def _fitted(items: Sequence[Item]) -> _Fit:
    """Rates, then the maximum a posteriori weights. Weights of evidence don't turn negative.

    An item counts once per rollout that gave the answer. Those with a rival take part, though their label is set:
    without them a query that has a pass would show its right answer and none of its wrong ones.
    """
    workers = _names(item.signal.workers for item in items)
    centre = np.array([*CENTRE, *(0.0 for _ in workers)])
    people = reliability_of_people(items)
    fit = _Fit(people=people, rates=reliabilities(items, people), workers=workers, weights=centre)
    if not items:
        return fit
    inputs = _inputs([item.signal for item in items], fit).T  # [4 + W, N]
    right = np.array([item.judgement.right(people) for item in items])
    counts = np.array([float(item.rollouts) for item in items])
    precision = np.array([*SPREADS, *(OFFSET_SPREAD for _ in workers)]) ** -2.0
    weights, _ = fitted(inputs, right, centre=centre, precision=precision, counts=counts)
    weights[1 : len(CENTRE)] = weights[1 : len(CENTRE)].clip(min=0.0)
    return replace(fit, weights=weights)
