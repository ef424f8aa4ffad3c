"""From evidence to labels: how probably each rollout's answer is right, and what that says of its steps and worker.

Nothing here takes a model's score, so no label can depend on the reward model.

| A rollout | Its label |
|---|---|
| a check judged its answer | 0.97 / 0.03 (E), 0.95 / 0.05 (V), for the whole answer cluster |
| a person did | up to 0.99 / 0.01, with what would be said without them; less sure once people were seen to be wrong |
| both did | the more reliable one |
| only a draft's form was checked, and holds | 0.85, not anchored: what it says was not checked |
| an anchor passed another answer of the query | 0.15, not anchored (more where people did who are often wrong) |
| no anchor | `NoiseModel.probability` of what X, C and J say together, in 0.15-0.85 |
| no answer at all | 0.02, not anchored: it can't be right, but no check has said so |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kaelum_graph.evidence import FORM, Evidence, Tier
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout, check_evidence, clusters_of
from kaelum_graph.learning.noise_model import PEOPLE, Judgement, NoiseModel, Signal, signals
from kaelum_graph.posterior import CEILING, anchored_vote, form_checked, votes_on_answer
from kaelum_graph.types import WorkerName

NO_ANSWER = 0.02
"""P(right) of a rollout without an answer."""

TOKEN_PRICE = 0.05
"""Probability that a thousand tokens must buy. The workers' rollouts differ by about a hundred tokens: that is half a
point, so the price decides between workers that are equally good and hardly otherwise."""

ENOUGH_ROLLOUTS = 2.0
"""Effective rollouts below a step from which on its label is of use."""


@dataclass(frozen=True, slots=True)
class Label:
    """P(a rollout's answer is right). `anchored`: a check that is no opinion decided. `weight` in [0, 1] is what the
    label tells: 1 for an anchored one, (2p − 1)² for the rest (the information that a coin which lies with probability
    1 − p leaves of one bit's worth of Fisher information)."""

    probability: float
    anchored: bool
    weight: float


@dataclass(frozen=True, slots=True)
class StepLabel:
    """P(right) from a step on: the mean over the rollouts that pass through it, and their effective number.

    `anchored` is the share of them that an anchor judged; `last` whether it is its rollout's last step; `rated` whether
    a person said so of the step itself (then the mean is that score, held in 0.01-0.99, and closer to a half once
    people were seen to be wrong).
    """

    probability: float
    rollouts: float
    anchored: float
    last: bool
    rated: bool = False

    @property
    def usable(self) -> bool:
        """Whether to train on it: a person's word, two effective rollouts, or the step that states the answer.

        An inner step that one rollout alone passed through inherits that rollout's outcome without being its cause:
        it takes part in training by its rollout's label (as one of the path's steps), never with one of its own.
        """
        return self.rated or self.last or self.rollouts >= ENOUGH_ROLLOUTS


@dataclass(frozen=True, slots=True)
class Reward:
    """Of one worker in one episode: mean label less the price of its tokens, over so many rollouts."""

    mean: float
    rollouts: int


def rollout_labels(episode: SeenEpisode, noise: NoiseModel) -> list[Label]:
    """A label for every rollout, in order. Raises `TypeError` for evidence that is a model's score."""
    for rollout in episode.rollouts:
        check_evidence(rollout.evidence)
    labels = [_unanchored(NO_ANSWER)] * len(episode.rollouts)
    for members, signal in zip(clusters_of(episode), signals(episode), strict=True):
        if not members:
            continue
        votes = votes_on_answer([vote for index in members for vote in episode.rollouts[index].evidence])
        if anchored_vote(votes)[1] is None:
            label = _unanchored(noise.probability(signal))
        elif form_checked(votes):
            label = _unanchored(CEILING)
        else:
            label = _anchored(votes, signal, noise)
        for index in members:
            labels[index] = label
    return labels


def step_labels(episode: SeenEpisode, labels: Sequence[Label], *, people: float = PEOPLE) -> list[list[StepLabel]]:
    """A label for every step of every rollout; an empty list for a rollout without features. `people`: how often those
    who score steps are right.

    Rollouts whose steps are the same from the start on share them, as in the tree: a step is known by its worker and by
    the bytes of its embedding and of those before it. Rollouts with the same steps throughout are one path, and count
    in proportion to how often it was drawn: the mean is the binomial one. Their effective number is the sum of their
    labels' weights: a rollout of which nothing is known does not count, and one that an anchor judged counts whole.
    """
    _same_length(episode, labels)
    paths = [_path(rollout) for rollout in episode.rollouts]
    below: dict[tuple[object, ...], list[int]] = {}
    for index, path in enumerate(paths):
        for node in path:
            below.setdefault(node, []).append(index)
    made: list[list[StepLabel]] = []
    for rollout, path in zip(episode.rollouts, paths, strict=True):
        rated = dict(rollout.rated)
        row: list[StepLabel] = []
        for place, node in enumerate(path):
            members = [labels[index] for index in below[node]]
            last = place + 1 == len(path)
            if place in rated:
                row.append(StepLabel(min(max(rated[place], 1.0 - people), people), 1.0, 1.0, last, rated=True))
                continue
            row.append(
                StepLabel(
                    math.fsum(label.probability for label in members) / len(members),
                    math.fsum(label.weight for label in members),
                    sum(label.anchored for label in members) / len(members),
                    last,
                )
            )
        made.append(row)
    return made


def worker_rewards(
    episode: SeenEpisode, labels: Sequence[Label], *, token_price: float = TOKEN_PRICE
) -> dict[WorkerName, Reward]:
    """Each worker's mean label − `token_price` · tokens / 1000, over its rollouts, in units of probability."""
    _same_length(episode, labels)
    gained: dict[WorkerName, list[float]] = {}
    for rollout, label in zip(episode.rollouts, labels, strict=True):
        gained.setdefault(rollout.worker, []).append(label.probability - token_price * rollout.tokens / 1000)
    return {worker: Reward(math.fsum(values) / len(values), len(values)) for worker, values in gained.items()}


def _anchored(votes: Sequence[Evidence], signal: Signal, noise: NoiseModel) -> Label:
    """A check's word tells all there is; people's as much less as they are less reliable than was stated."""
    if any(vote.tier is Tier.HUMAN for vote in votes):
        # A form that holds says nothing of a draft that a person refused, or praised.
        votes = [vote for vote in votes if vote.source != FORM or vote.outcome != "pass"]
    judgement = Judgement.of(votes)
    if judgement.checked is not None:
        return Label(judgement.right(noise.people), True, 1.0)
    weight = ((2 * noise.people - 1) / (2 * PEOPLE - 1)) ** 2
    return Label(noise.rated(signal, judgement), True, min(weight, 1.0))


def _unanchored(probability: float) -> Label:
    return Label(probability, False, (2 * probability - 1) ** 2)


def _path(rollout: SeenRollout) -> list[tuple[object, ...]]:
    """Names for the rollout's steps; equal for two rollouts as far as they share a beginning.

    A branch tells of the steps that it added alone: it shares them with branches of the same beginning.
    """
    if rollout.features is None:
        return []
    path: list[tuple[object, ...]] = []
    node: tuple[object, ...] = (rollout.worker, rollout.prefix if rollout.operator == "branch" else None)
    for embedding in rollout.features.embeddings:
        node = (node, embedding.tobytes())
        path.append(node)
    return path


def _same_length(episode: SeenEpisode, labels: Sequence[Label]) -> None:
    if len(labels) != len(episode.rollouts):
        raise ValueError(f"{len(labels)} labels for {len(episode.rollouts)} rollouts")
