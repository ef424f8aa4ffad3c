"""The process reward model: it learns from live traffic which reasoning steps lead to right answers.

Its labels come from evidence alone (`labels.py`); its own scores never become one. It is asked before it is taught:
what it said of an episode's rollouts, as far as it had no part in choosing them, is held against the anchored checks,
and that is its skill and its calibration.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kaelum_graph.calibration import NEWEST, Calibration
from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.evidence import ModelScore
from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout, check_evidence
from kaelum_graph.learning.labels import Label, rollout_labels, step_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm_features import GROUPS, Doubles, Group, Steps, describe, worker_columns
from kaelum_graph.learning.prm_late import Late, changed_by_ratings
from kaelum_graph.learning.prm_model import BayesianHead, Examples, Residual, ResidualExample
from kaelum_graph.learning.prm_record import Records
from kaelum_graph.learning.prm_replay import (
    Kept,
    centre,
    keep,
    network_inputs,
    packed,
    path_tables,
    unpacked,
)
from kaelum_graph.learning.prm_scaling import Space
from kaelum_graph.learning.ratings import said_later
from kaelum_graph.logistic import sigmoid
from kaelum_graph.skill import Skill, within_query_auroc
from kaelum_graph.types import Array, Json, WorkerName

SOURCE = "prm"
REPLAY = 256
"""Episodes that are trained on again; what is older stays in the head's posterior."""
SCALED = 128
"""Episodes that the features' scales and directions are taken from."""
NETWORK_REPLAY = 64
NETWORK_BATCH = 4
SURE = 0.5
"""Weight of an anchored label from which on it counts as the truth: a check's, or people's who are right in 85%."""
DOUBT = 1.645
"""Standard deviations below the mean of the lower bound: the logit is above it with probability 0.95."""
ROLLOUT_WEIGHT = 0.5
"""Rollouts of one query are no independent draws."""
UNANCHORED_WEIGHT = 0.5
ENOUGH_QUERIES = 20
"""Queries on which the network must have ranked better than the head alone before it has a say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Of each rollout: its steps' scores, their mean, and the score that it is above with probability 0.95."""

    steps: list[tuple[float, ...]]
    paths: tuple[float, ...]
    lower: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Logits:
    """Of each rollout: its steps', their mean, its standard deviation, and the head's part of the mean."""

    steps: list[Doubles]
    paths: Doubles
    deviations: Doubles
    heads: Doubles


class RewardModel:
    """The reward model. A `Component` (see `component.py`); `noise` must stand before it in the learned state.

    `prototypes` are `[W, 384]` as `Router.prototypes` has them; `groups` the features it may use (see
    `prm_features.py`); `network` whether there is one beside the head.
    """

    name = "prm"

    def __init__(
        self,
        *,
        noise: NoiseModel,
        workers: Sequence[WorkerName],
        prototypes: Array,
        groups: Sequence[Group] = GROUPS,
        network: bool = True,
    ) -> None:
        self._noise = noise
        self.workers = tuple(workers)
        self.groups = tuple(groups)
        self._space = Space(groups=groups, workers=workers)
        self._records = Records(workers, prototypes) if "record" in groups else None
        self._head = BayesianHead(self._space.kinds)
        self._residual = Residual(len(workers)) if network else None
        self._kept: list[Kept] = []
        self._examples: list[Examples] = []
        self._late = Late()
        self._late_examples: list[Examples] = []
        self._seen = 0
        self._skills: dict[str, Skill] = {}
        self._gain = Skill(mean=0.0)
        self._stated: list[tuple[float, bool]] = []
        self._calibration = Calibration()

    # What it says

    def read(self, query_features: Array, rollouts: Sequence[SeenRollout]) -> Reading:
        """All that it says of a query's rollouts, which must be given together: siblings are compared."""
        if not rollouts:
            return Reading(steps=[], paths=(), lower=())
        logits = self._logits(query_features, self._described(query_features, rollouts))
        steps = [tuple(float(value) for value in self._calibrated(of_steps)) for of_steps in logits.steps]
        lower = self._calibrated(logits.paths - DOUBT * logits.deviations)
        return Reading(
            steps=steps,
            paths=tuple(self.path(scores) for scores in steps),
            lower=tuple(float(value) for value in lower),
        )

    def score(self, query_features: Array, rollouts: Sequence[SeenRollout]) -> list[tuple[float, ...]]:
        """Each rollout's scores of its steps, in [0, 1]; one for the whole where its steps aren't known.

        `query_features` are the router's `[398]`; `rollouts` those of one query.
        """
        return self.read(query_features, rollouts).steps

    @staticmethod
    def path(scores: Sequence[float]) -> float:
        """Mean score of a path's steps: what the gate holds against its threshold."""
        return sum(scores) / len(scores)

    def skill(self, model: str = "") -> Skill:
        """How well it has told good rollouts from bad ones of the same query before it was taught, where it had no part
        in choosing them and an anchored check had the last word. `skill(model).weight` is the search's λ with the
        language model `model`: what was earned with one is nothing to another, whose states and likelihoods differ."""
        return self._skills.get(model, Skill())

    def loss(self, episode: SeenEpisode) -> float | None:
        """In [0, 1]: Brier score of the rollouts that an anchored check has judged, averaged with 1 − AUROC where both
        outcomes are among them; None without any."""
        outcomes = _outcomes(self._labelled(episode))
        judged = [index for index, outcome in enumerate(outcomes) if outcome is not None]
        if not judged:
            return None
        paths = self.read(episode.features, episode.rollouts).paths
        brier = sum((paths[index] - bool(outcomes[index])) ** 2 for index in judged) / len(judged)
        auroc = within_query_auroc(_as_scores(paths), outcomes)
        return brier if auroc is None else (brier + 1.0 - auroc) / 2

    def copy(self) -> RewardModel:
        """One that goes on by itself: to serve while this one learns."""
        return copy.deepcopy(self)

    # How it learns

    def learn_episode(self, episode: SeenEpisode) -> None:
        """Say what it would have said, compare, and only then learn. An audit episode is left alone."""
        labels = self._labelled(episode)
        if episode.audit or not episode.rollouts:
            return
        self._examine(episode, labels)
        kept = self._keep(episode, labels, self._known(episode.features))
        self._take_in(kept)
        if self._records is not None:
            self._records.learn(episode.features, kept)

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        """Where other votes or scores of steps hold now, learn the rated episode anew with them: the whole of it while
        it is in the buffer, else what they change (see `prm_late.py`). Forget it where it is gone."""
        feedback = change.after or change.before
        if feedback is None:
            return
        at = next((index for index, one in enumerate(self._kept) if one.id == feedback.episode_id), None)
        if episode is None or episode.audit or not episode.rollouts:
            there = self._late.forget(feedback.episode_id)
            if at is not None:
                del self._kept[at], self._examples[at]
            if there or at is not None:
                self._refit_late()
            return
        if at is None:
            self._learn_late(episode)
            return
        before = self._kept[at]
        if said_later(episode) == before.said:
            return
        after = self._keep(episode, self._labelled(episode), before.records())
        if self._records is not None:
            self._records.revise(episode.features, before, after)
        self._kept[at], self._examples[at] = after, self._made(after)
        self._fit()

    def _learn_late(self, episode: SeenEpisode) -> None:
        """Learn what ratings change about an episode that has left the buffer."""
        told, said, before = self._late.told(episode.id), said_later(episode), self._late.find(episode.id)
        if said == (told if before is None else before.said):
            return
        after = changed_by_ratings(episode, self._noise, _weight) if said not in ("", told) else None
        if before is None and after is None:
            return
        oldest = self._late.put(episode.id, after)
        if oldest is not None:
            self._head.absorb(self._made(oldest))
            self._late.absorbed(oldest)
        self._refit_late()

    def _refit_late(self) -> None:
        self._late_examples = [self._made(one) for one in self._late.kept]
        self._fit()

    def _labelled(self, episode: SeenEpisode) -> list[Label]:
        for rollout in episode.rollouts:
            check_evidence(rollout.evidence)
        return rollout_labels(episode, self._noise)

    def _keep(self, episode: SeenEpisode, labels: Sequence[Label], records: Mapping[WorkerName, float]) -> Kept:
        steps = step_labels(episode, labels, people=self._noise.people)
        return keep(episode, labels, steps, [_weight(label) for label in labels], records)

    def _examine(self, episode: SeenEpisode, labels: Sequence[Label]) -> None:
        """Hold what it says now against the anchored checks of the rollouts that it had no part in choosing."""
        outcomes = [
            outcome if rollout.blind else None
            for outcome, rollout in zip(_outcomes(labels), episode.rollouts, strict=True)
        ]
        if all(outcome is None for outcome in outcomes):
            return
        described = self._described(episode.features, episode.rollouts)
        logits = self._logits(episode.features, described)
        stated = sigmoid(logits.paths).tolist()
        auroc = within_query_auroc(_as_scores(stated), outcomes)
        if auroc is not None:
            self._skills[episode.model] = self.skill(episode.model).plus(auroc)
            if self._residual is not None:
                made = self._network_steps(episode.features, described)
                ends = np.cumsum([len(one.raw) for one in described])[:-1]
                whole = logits.heads + np.array([steps.mean() for steps in np.split(made, ends)])
                with_network, alone = (
                    within_query_auroc(_as_scores(sigmoid(values).tolist()), outcomes)
                    for values in (whole, logits.heads)
                )
                self._gain = self._gain.plus((with_network or 0.0) - (alone or 0.0))
        self._stated += [(one, told) for one, told in zip(stated, outcomes, strict=True) if told is not None]
        del self._stated[:-NEWEST]
        self._calibration = Calibration(self._stated)

    def _take_in(self, kept: Kept) -> None:
        if len(self._kept) == REPLAY:
            self._head.absorb(self._examples[0])
            self._late.absorbed(self._kept[0])
            del self._kept[0], self._examples[0]
        self._kept.append(kept)
        self._seen += 1
        if len(self._kept) > NETWORK_REPLAY:
            self._kept[-NETWORK_REPLAY - 1] = self._kept[-NETWORK_REPLAY - 1].without_steps()
        # The scales are taken anew whenever the log has doubled, then frozen: what has left the buffer rests on them.
        if self._seen <= SCALED and self._seen & (self._seen - 1) == 0:
            self._space.fit([one.of_rollouts() for one in self._kept])
            self._examples = [self._made(one) for one in self._kept]
            self._late_examples = [self._made(one) for one in self._late.kept]
        else:
            self._examples.append(self._made(kept))
        self._fit()
        if self._residual is not None:
            self._residual.learn(self._batch(self._residual_choice()))

    def _fit(self) -> None:
        # A young head moves far with every episode; later one step from where it stood is enough.
        steps = 2 if self._seen <= 32 else 1
        examples = [*self._examples, *self._late_examples]
        self._head.fit(Examples.joined(examples, len(self._space.kinds)), steps=steps)

    def _made(self, kept: Kept) -> Examples:
        """Rows of rollouts and steps, and differences of rollouts of which one is better."""
        rows = self._rows(kept)
        pairs, worth = kept.pairs()
        return Examples(
            rows=np.concatenate([rows, rows[pairs[:, 0]] - rows[pairs[:, 1]]]),
            labels=np.concatenate([kept.labels, np.full(len(pairs), 0.95)]).astype(np.float64),
            weights=np.concatenate([kept.weights, worth]).astype(np.float64),
        )

    def _rows(self, kept: Kept) -> Doubles:
        return self._space.rows(*kept.tables(), kept.workers, centre(kept.of_rollouts()))

    def _residual_choice(self) -> list[int]:
        """The newest episode and others of the newest, drawn by how many have been seen."""
        newest = len(self._kept) - 1
        first = max(0, newest + 1 - NETWORK_REPLAY)
        others = [index for index in range(first, newest) if len(self._kept[index].steps_of)]
        generator = np.random.default_rng([self._seen, 7])
        drawn = generator.permutation(len(others))[:NETWORK_BATCH]
        return [newest, *(others[index] for index in drawn)]

    def _batch(self, chosen: Sequence[int]) -> list[ResidualExample]:
        batch: list[ResidualExample] = []
        for index in chosen:
            kept, size = self._kept[index], self._kept[index].rollouts
            columns = worker_columns([kept.workers[at] for at in kept.steps_of], self.workers)
            pairs, worth = kept.pairs()
            batch.append(
                ResidualExample(
                    inputs=network_inputs(kept.query, kept.steps_text, kept.steps_context, columns),
                    rollouts=kept.steps_of.astype(np.int64),
                    steps=np.bincount(kept.steps_of, minlength=size).astype(np.float32),
                    offsets=self._head.logits(self._examples[index].rows[:size]).astype(np.float32),
                    targets=kept.labels[:size],
                    weights=kept.weights[:size],
                    pairs=pairs,
                    pair_weights=worth,
                )
            )
        return batch

    # Logits

    def _known(self, query_features: Array) -> dict[WorkerName, float]:
        return {} if self._records is None else self._records.of(query_features)

    @property
    def network_weight(self) -> float:
        """1 once the network has ranked better than the head alone over enough queries, else 0."""
        earned = self._residual is not None and self._gain.queries >= ENOUGH_QUERIES and self._gain.mean > 0
        return 1.0 if earned else 0.0

    def _described(self, query_features: Array, rollouts: Sequence[SeenRollout]) -> list[Steps]:
        return describe(query_features, rollouts, self._known(query_features))

    def _logits(self, query_features: Array, described: Sequence[Steps]) -> _Logits:
        counts = np.array([len(one.raw) for one in described])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        rows = self._space.rows(
            np.concatenate([one.raw for one in described]),
            np.concatenate([one.text for one in described]),
            np.concatenate([one.states for one in described]),
            [one.worker for one in described for _ in range(len(one.raw))],
            centre(path_tables(described)),
        )
        steps = head = self._head.logits(rows)
        if self.network_weight:
            steps = head + self._network_steps(query_features, described)
        return _Logits(
            steps=np.split(steps, starts[1:]),
            paths=np.add.reduceat(steps, starts) / counts,
            deviations=self._head.deviations(np.add.reduceat(rows, starts, axis=0) / counts[:, None]),
            heads=np.add.reduceat(head, starts) / counts,
        )

    def _network_steps(self, query_features: Array, described: Sequence[Steps]) -> Doubles:
        assert self._residual is not None
        text, context = (np.concatenate([getattr(one, part) for one in described]) for part in ("text", "context"))
        columns = worker_columns([one.worker for one in described for _ in range(len(one.raw))], self.workers)
        return self._residual.logits(network_inputs(query_features[:EMBEDDING_SIZE], text, context, columns))

    def _calibrated(self, logits: Doubles) -> Doubles:
        return sigmoid(self._calibration.intercept + self._calibration.slope * logits)

    # How it is kept

    def tensors(self) -> Tensors:
        """Head, scales, records, the network with its optimiser, the episodes to train on again, what late ratings
        changed, what was stated."""
        arrays, _ = packed(self._kept)
        found: Tensors = {f"kept.{name}": value for name, value in arrays.items()}
        found |= {f"late.{name}": value for name, value in self._late.tensors().items()}
        found |= {f"space.{name}": value for name, value in self._space.tensors().items()}
        found |= {f"head.{name}": value for name, value in self._head.tensors().items()}
        if self._records is not None:
            found |= {f"record.{name}": value for name, value in self._records.tensors().items()}
        if self._residual is not None:
            found |= {f"network.{name}": value for name, value in self._residual.tensors().items()}
        found["stated"] = np.array(self._stated, dtype=np.float64).reshape(-1, 2)
        skills = [[one.mean, one.squares] for one in (*self._skills.values(), self._gain)]
        found["skill"] = np.array(skills, dtype=np.float64)
        return found

    def meta(self) -> Json:
        """Names and counts."""
        return {
            "workers": list(self.workers),
            "groups": list(self.groups),
            "network": self._residual is not None,
            "seen": self._seen,
            "models": list(self._skills),
            "queries": [one.queries for one in (*self._skills.values(), self._gain)],
            "kept": packed(self._kept)[1],
            "late": self._late.meta(),
        }

    def load(self, tensors: Tensors, meta: Json) -> None:
        """Take over what `tensors` and `meta` gave. Raises `ValueError` for another model's."""
        expected = {"workers": list(self.workers), "groups": list(self.groups), "network": self._residual is not None}
        for key, value in expected.items():
            if meta.get(key) != value:
                raise ValueError(f"{key} of the saved reward model is {meta.get(key)}; expected {value}.")
        try:
            parts = {
                part: {name[len(part) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{part}.")}
                for part in ("kept", "late", "space", "head", "record", "network")
            }
            self._space.load(parts["space"])
            self._head.load(parts["head"])
            if self._records is not None:
                self._records.load(parts["record"])
            if self._residual is not None:
                self._residual.load(parts["network"])
            self._kept = unpacked(parts["kept"], meta["kept"])
            self._late.load(parts["late"], meta["late"])
            skills, queries = tensors["skill"], meta["queries"]
            *known, self._gain = (
                Skill(queries=count, mean=float(row[0]), squares=float(row[1]))
                for count, row in zip(queries, skills, strict=True)
            )
            # Before models were told apart there was one skill, of whichever.
            self._skills = dict(zip(meta.get("models", [""]), known, strict=True))
            self._stated = [(float(stated), bool(right)) for stated, right in tensors["stated"]]
            self._seen = int(meta["seen"])
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"not a saved reward model: {error}") from error
        self._examples = [self._made(one) for one in self._kept]
        self._late_examples = [self._made(one) for one in self._late.kept]
        self._calibration = Calibration(self._stated)


def _weight(label: Label) -> float:
    return ROLLOUT_WEIGHT * label.weight * (1.0 if label.anchored else UNANCHORED_WEIGHT)


def _outcomes(labels: Sequence[Label]) -> list[bool | None]:
    return [label.probability > 0.5 if label.anchored and label.weight >= SURE else None for label in labels]


def _as_scores(values: Sequence[float]) -> list[ModelScore]:
    return [ModelScore(source=SOURCE, value=value) for value in values]
