"""What a process has measured of its own search, kept on disk: the operators' worth, the reward model's skill, and how
often an answer of a stated confidence was right.

All of it comes from anchored evidence alone, one record an episode, so that a restart or a second process finds it
again and no episode counts twice.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np

from kaelum_graph.calibration import Calibration
from kaelum_graph.clusters import cluster
from kaelum_graph.evidence import ModelScore
from kaelum_graph.operators import OperatorPriors, Outcomes, anchored_outcome, outcomes_of
from kaelum_graph.posterior import weigh
from kaelum_graph.reward import SOURCE, path_score
from kaelum_graph.skill import Skill, within_query_auroc
from kaelum_graph.storage import Storage
from kaelum_graph.tree import Operator, SearchTree
from kaelum_graph.types import EpisodeId, Json, WorkerName


class Measurements:
    """Running estimates over the episodes of a store. Thread-safe."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._priors = OperatorPriors()
        self._skills: dict[str, Skill] = {}
        self._calibration = Calibration()
        for record in storage.measurements():
            self._take(record)

    def learn(self, episode_id: EpisodeId, tree: SearchTree, *, first: int = 0) -> None:
        """Keep and take in what a finished search measured, from rollout `first` on. Raises `StorageError`."""
        record = measured(tree, first=first)
        if record and self._storage.add_measurements(episode_id, record):
            with self._lock:
                self._take(record)

    def choose(self, worker: WorkerName, possible: Sequence[Operator], generator: np.random.Generator) -> Operator:
        """One of the `possible` operators, by what each has been worth."""
        with self._lock:
            return self._priors.choose(worker, possible, generator)

    def prm_weight(self, source: str = SOURCE) -> float:
        """λ of the search, in [0, 1]: the measured within-query skill of the scores of `source`."""
        with self._lock:
            return self._skills.get(source, Skill()).weight

    def calibrated(self, stated: float) -> float:
        """What an unanchored confidence has been worth, by the anchored checks of earlier queries."""
        with self._lock:
            return self._calibration(stated)

    def table(self) -> dict[tuple[WorkerName, Operator], Outcomes]:
        """What each operator has come to, by worker."""
        with self._lock:
            return self._priors.table()

    def _take(self, record: Json) -> None:
        self._priors.learn({(row[0], row[1]): Outcomes(**row[2]) for row in record.get("operators", ())})
        self._calibration.learn([(stated, passed) for stated, passed in record.get("confidence", ())])
        for source, auroc in record.get("skill", {}).items():
            self._skills[source] = self._skills.get(source, Skill()).plus(auroc)


def measured(tree: SearchTree, *, first: int = 0) -> Json:
    """The measurements of one tree as plain JSON; empty when no anchored check has told anything apart."""
    record: Json = {}
    operators = outcomes_of(tree, first=first)
    if operators:
        record["operators"] = [[*key, dataclasses.asdict(outcomes)] for key, outcomes in operators.items()]
    # Only rollouts drawn without the score can say how good it is: a branch was chosen by its value, the score in it.
    drawn = [rollout for rollout in tree.rollouts[first:] if rollout.simulation.operator == "sample"]
    scores: list[ModelScore | None] = [path_score(rollout.step_scores) for rollout in drawn]
    passed = [None if (outcome := anchored_outcome(rollout)) is None else outcome == "pass" for rollout in drawn]
    auroc = within_query_auroc(scores, passed)
    if auroc is not None:
        record["skill"] = {next(score.source for score in scores if score is not None): auroc}
    # A search that is continued has told of its confidences before.
    pairs = unanchored_confidences(tree) if not first else []
    if pairs:
        record["confidence"] = pairs
    return record


def unanchored_confidences(tree: SearchTree) -> list[tuple[float, bool]]:
    """For each answer that an anchored check decided on: the confidence it had without that, and whether it passed."""
    candidates = [rollout.candidate for rollout in tree.rollouts]
    groups = cluster([candidate.answer for candidate in candidates])
    prefixes = [rollout.prefix for rollout in tree.rollouts]
    evidence = [rollout.evidence for rollout in tree.rollouts]
    unanchored = [tuple(vote for vote in votes if not vote.tier.anchored) for votes in evidence]
    told = weigh(groups, candidates, evidence, prefixes=prefixes)
    stated = {
        standing.cluster: standing.confidence for standing in weigh(groups, candidates, unanchored, prefixes=prefixes)
    }
    return [
        (round(stated[standing.cluster], 4), standing.anchored == "pass")
        for standing in told
        if standing.anchored != "none"
    ]
