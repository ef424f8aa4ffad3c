"""What a process has measured of its own search, kept on disk: the operators' worth, the reward model's skill, and how
often an answer of a stated confidence was right.

All of it comes from anchored evidence alone, one record an episode, so that a restart or a second process finds it
again and no episode counts twice.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Hashable, Sequence

import numpy as np

from kaelum_graph.calibration import VoteCalibration, Votes
from kaelum_graph.clusters import Cluster, cluster
from kaelum_graph.evidence import Evidence
from kaelum_graph.operators import OperatorPriors, Outcomes, outcomes_of
from kaelum_graph.posterior import form_checked, vote_weights, weigh
from kaelum_graph.reward import SOURCE, path_score
from kaelum_graph.skill import Skill, within_query_auroc
from kaelum_graph.storage import Storage
from kaelum_graph.tree import Operator, Rollout, SearchTree
from kaelum_graph.types import Candidate, EpisodeId, Json, WorkerName
from kaelum_graph.verdict import learned_scores


class Measurements:
    """Running estimates over one policy model's episodes in a store. Thread-safe."""

    def __init__(self, storage: Storage, *, model: str) -> None:
        self._storage = storage
        self._model = model
        self._lock = threading.Lock()
        self._priors = OperatorPriors()
        self._skills: dict[str, Skill] = {}
        self._calibration = VoteCalibration()
        records = [record for record in storage.measurements() if record.get("model") == model]
        for record in records:
            self._take({key: value for key, value in record.items() if key != "confidence"})
        # Fitted once for all of them.
        self._take({"confidence": [pair for record in records for pair in record.get("confidence", ())]})

    def learn(
        self,
        episode_id: EpisodeId,
        tree: SearchTree,
        *,
        first: int = 0,
        weighed: SearchTree | None = None,
        trust: float = 0.0,
    ) -> None:
        """Keep and take in what a finished search measured, from rollout `first` on. Raises `StorageError`.

        `weighed` is the tree with the scores that its votes counted by, to the degree `trust`; None: its own scores.
        """
        record = measured(tree, first=first, weighed=weighed, trust=trust)
        if record and self._storage.add_measurements(episode_id, {**record, "model": self._model}):
            with self._lock:
                self._take(record)

    def choose(self, worker: WorkerName, possible: Sequence[Operator], generator: np.random.Generator) -> Operator:
        """One of the `possible` operators, by what each has been worth."""
        with self._lock:
            return self._priors.choose(worker, possible, generator)

    def branching(self, worker: WorkerName) -> float:
        """What a branch has been worth to the worker, in samples."""
        with self._lock:
            return self._priors.branching(worker)

    def prm_weight(self, source: str = SOURCE) -> float:
        """λ of the search, in [0, 1]: the measured within-query skill of the scores of `source`."""
        return self.skill(source).weight

    def skill(self, source: str = SOURCE) -> Skill:
        """What has been measured of the scores of `source`."""
        with self._lock:
            return self._skills.get(source, Skill())

    @property
    def calibration(self) -> VoteCalibration:
        """What unanchored confidences, by plain votes and by weighed ones, have been worth up to now, as anchored
        checks told. It stays as it is, for all answers of a query, while others are learned from."""
        with self._lock:
            return self._calibration

    def table(self) -> dict[tuple[WorkerName, Operator], Outcomes]:
        """What each operator has come to, by worker."""
        with self._lock:
            return self._priors.table()

    def _take(self, record: Json) -> None:
        self._priors.learn({(row[0], row[1]): Outcomes(**row[2]) for row in record.get("operators", ())})
        # Before votes were told apart there was one confidence.
        self._calibration = self._calibration.plus((one[0], one[-2], one[-1]) for one in record.get("confidence", ()))
        for source, auroc in record.get("skill", {}).items():
            self._skills[source] = self._skills.get(source, Skill()).plus(auroc)


def measured(tree: SearchTree, *, first: int = 0, weighed: SearchTree | None = None, trust: float = 0.0) -> Json:
    """The measurements of one tree as plain JSON; empty when no anchored check has told anything apart.

    `weighed` and `trust` are as for `Measurements.learn`.
    """
    record: Json = {}
    operators = outcomes_of(tree, first=first)
    if operators:
        record["operators"] = [[*key, dataclasses.asdict(outcomes)] for key, outcomes in operators.items()]
    sources = sorted({rollout.scored_by for rollout in tree.rollouts[first:]})
    aurocs = {source: score_skill(tree, source=source, first=first) for source in sources}
    if skill := {source: auroc for source, auroc in aurocs.items() if auroc is not None}:
        record["skill"] = skill
    # A search that is continued has told of its confidences before.
    pairs = unanchored_confidences(weighed or tree, trust=trust) if not first else []
    if pairs:
        record["confidence"] = pairs
    return record


def score_skill(tree: SearchTree, *, source: str = SOURCE, first: int = 0) -> float | None:
    """Within-query AUROC of the scores of `source`, among rollouts that differ by chance; None where none compare.

    Those are one worker's plain samples in one arm: a branch was chosen by its value, the score in it, and one worker
    may be likelier and better than another. Groups weigh by their samples. A check of form alone judges no reasoning.
    """
    groups: dict[tuple[str, bool], list[Rollout]] = {}
    for rollout in tree.rollouts[first:]:
        simulation = rollout.simulation
        sampled = simulation.operator == "sample" and rollout.scored_by == source
        if sampled and not form_checked(rollout.evidence):
            groups.setdefault((simulation.worker, simulation.planned), []).append(rollout)
    total, weight = 0.0, 0
    for rollouts in groups.values():
        scores = [path_score(rollout.step_scores) for rollout in rollouts]
        auroc = within_query_auroc(scores, [OUTCOMES[rollout.outcome] for rollout in rollouts])
        if auroc is not None:
            total, weight = total + auroc * len(rollouts), weight + len(rollouts)
    return total / weight if weight else None


OUTCOMES: dict[str | None, bool | None] = {"pass": True, "fail": False, None: None}


def unanchored_confidences(tree: SearchTree, *, trust: float = 0.0) -> list[Votes]:
    """`confidences` of a tree's answers, votes weighed by the reward model's scores to the degree `trust`."""
    candidates = [rollout.candidate for rollout in tree.rollouts]
    scores = [path_score(rollout.step_scores, source=rollout.scored_by) for rollout in tree.rollouts]
    return confidences(
        cluster([candidate.answer for candidate in candidates]),
        candidates,
        [rollout.evidence for rollout in tree.rollouts],
        weights=vote_weights(learned_scores(tree, scores), trust=trust),
        prefixes=tree.prefixes(),
    )


def confidences(
    groups: Sequence[Cluster],
    candidates: Sequence[Candidate],
    evidence: Sequence[Sequence[Evidence]],
    *,
    weights: Sequence[float] | None,
    prefixes: Sequence[Hashable] | None = None,
) -> list[Votes]:
    """For each answer that an anchored check decided on: the confidences that it had without that, by plain votes and
    by votes that count by `weights`, and whether it passed. Arguments are as for `posterior.weigh`."""
    unanchored = [tuple(vote for vote in votes if not vote.tier.anchored) for votes in evidence]

    def stated(weights: Sequence[float] | None) -> dict[Cluster, float]:
        standings = weigh(groups, candidates, unanchored, prefixes=prefixes, weights=weights)
        return {standing.cluster: round(standing.confidence, 4) for standing in standings}

    plain, weighed = stated(None), stated(weights)
    return [
        (plain[standing.cluster], weighed[standing.cluster], standing.anchored == "pass")
        for standing in weigh(groups, candidates, evidence, prefixes=prefixes)
        if standing.anchored != "none" and not form_checked(standing.evidence)
    ]
