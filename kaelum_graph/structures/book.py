"""The book of structures: which one a query's samples are drawn with, and what is learned from how they did.

`choose` before the samples, `learn` after the query; and when `learn` says that a discovery is due, `discover`, in the
background or once the answer is out. A structure is drawn with on trial (every other sample), adopted (in all samples,
but for a quarter of the queries, which go on comparing) or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import CancelToken, PolicyModel
from kaelum_graph.sqlite_file import wipe
from kaelum_graph.structures.base import Choice, RolloutOutcome, Structure
from kaelum_graph.structures.discover import MOST_QUESTIONS, Discovery, discover
from kaelum_graph.structures.store import STRUCTURES_FILE, Entry, StructureStore
from kaelum_graph.structures.task_clusters import MOST_CLUSTERS, TaskCluster, joined, least_used, nearest
from kaelum_graph.structures.trial import Trial, decide, still_good
from kaelum_graph.types import Array, WorkerName
from kaelum_graph.workers.base import Worker

AUDIT_SHARE = 0.25
"""Share of an adopted structure's queries that still draw every other sample without it: what helped may stop to."""
STALE_SECONDS = 3600.0
"""After this long a discovery that never ended was that of a process that died, and may be made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDiscovery:
    """A cluster that has seen enough and has no structure yet for this model; its questions are the examples."""

    worker: WorkerName
    cluster: int
    questions: tuple[str, ...]


class StructureBook:
    """The structures of one policy model in a data folder. Thread-safe; several processes may share the folder."""

    def __init__(self, data_dir: Path, *, model: str) -> None:
        self.model = model
        self._store = StructureStore(data_dir / STRUCTURES_FILE)

    def choose(self, worker: WorkerName, embedding: Array, generator: np.random.Generator) -> Choice | None:
        """How to deal a query's samples out; None for no structure. Call it once per query and worker.

        `embedding`: `[384]`, unit norm. The same book and generator state give the same choice.
        """
        clusters = self._store.clusters(worker)
        place = nearest(clusters, _checked(embedding))
        entry = None if place is None else self._store.entry(clusters[place].id, self.model)
        if entry is None or entry.state not in ("trial", "adopted"):
            return None
        share = 1.0 if entry.state == "trial" else AUDIT_SHARE
        # Both coins are tossed whatever the state, so that a decision shifts nothing else that is drawn.
        audit, first = generator.random(2)
        return Choice(
            structure=entry.structure,
            paired=bool(audit < share),
            first=bool(first < 0.5),
            propensity=1.0 - share / 2.0,
        )

    def learn(
        self,
        worker: WorkerName,
        embedding: Array,
        outcomes: Sequence[RolloutOutcome],
        *,
        choice: Choice | None,
        question: str | None,
        episode_id: str,
    ) -> DueDiscovery | None:
        """Take in a finished query; what is due to be discovered now, if anything. Raises `StorageError`.

        `outcomes` are the samples drawn from the question alone, in the arms that `choice` gave them (all "without" for
        None): what was branched or mended from another is no sample of its own. The same episode again changes nothing.
        A `question` of None is not kept: no structure will be sought with it as an example.
        """
        checked = _checked(embedding)
        with self._store.transaction():
            if not self._store.mark_learned(episode_id, worker):
                return None
            # A question on which no check can vote is no reason to seek a structure: nothing could ever show its worth.
            known = any(outcome.passed is not None for outcome in outcomes)
            cluster = self._joined(worker, checked, question if known else None)
            tried = choice.structure if choice is not None and choice.paired else None
            self._store.mark_joined(
                episode_id, worker, cluster=cluster.id, tried=None if tried is None else tried.cluster
            )
            if tried is not None:
                self._take(tried, outcomes)
            if len(cluster.questions) < MOST_QUESTIONS or not self._open(cluster.id):
                return None
        return DueDiscovery(worker=worker, cluster=cluster.id, questions=cluster.questions)

    def discover(
        self,
        due: DueDiscovery,
        model: PolicyModel,
        worker: Worker,
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Structure | None:
        """Discover a cluster's structure and put it on trial; None when nothing usable came, or another is at it.

        Blocks for three calls of the model. Raises `ModelError` or `StorageError`; after an error or an interruption
        it is due again at the cluster's next query.
        """
        empty = Structure(worker=due.worker, cluster=due.cluster, model=self.model, lines=(), prompt_tokens=0)
        claim = Entry(
            structure=empty, state="sought", trial=Trial(), watch=Trial(), reason="", sought_at=round(time.time(), 3)
        )
        with self._store.transaction():
            if self._store.cluster_worker(due.cluster) is None or not self._open(due.cluster):
                return None
            self._store.put_entry(claim)
        found = Discovery(lines=None, interrupted=True)
        structure: Structure | None = None
        try:
            found = discover(model, worker, due.questions, deadline=deadline, cancel=cancel)
            if found.lines is not None:
                structure = replace(empty, lines=found.lines, prompt_tokens=found.prompt_tokens)
        finally:
            with self._store.transaction():
                now = self._store.entry(due.cluster, self.model)
                if now is None or now.state != "sought" or now.sought_at != claim.sought_at:
                    structure = None  # the cluster was given up, or another took this discovery over
                elif found.interrupted:
                    self._store.drop_entry(due.cluster, self.model)
                elif structure is None:
                    self._store.put_entry(replace(claim, state="none", reason=found.reason))
                else:
                    self._store.put_entry(replace(claim, state="trial", structure=structure))
        return structure

    def revision(self) -> tuple[int, int]:
        """Another one after every change of the file, by any process. Costs microseconds."""
        return self._store.revision()

    def in_use(self) -> list[Structure]:
        """The structures that are dealt out now: adopted, or on trial."""
        entries = self._store.entries("WHERE model = ? AND state IN ('trial', 'adopted')", self.model)
        return [entry.structure for entry in entries]

    def entries(self) -> list[Entry]:
        """Every structure of every model, and where it stands."""
        return self._store.entries()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._store.close()

    def _joined(self, worker: WorkerName, embedding: Array, question: str | None) -> TaskCluster:
        """The cluster that the query joins or founds, stored."""
        clusters = self._store.clusters(worker)
        clock = 1 + max((cluster.last for cluster in clusters), default=0)
        place = nearest(clusters, embedding)
        if place is None:
            if len(clusters) >= MOST_CLUSTERS:
                self._store.drop_cluster(clusters[least_used(clusters, clock=clock)].id)
            cluster = TaskCluster(centroid=embedding, last=clock)
        else:
            cluster = joined(clusters[place], embedding, clock=clock)
        if question is not None:
            others = (one for one in cluster.questions if one != question)
            cluster = replace(cluster, questions=(*others, question)[-MOST_QUESTIONS:])
        return replace(cluster, id=self._store.put_cluster(worker, cluster))

    def _take(self, structure: Structure, outcomes: Sequence[RolloutOutcome]) -> None:
        """Move the trial (or the watch) of a structure on by one query."""
        entry = self._store.entry(structure.cluster, structure.model)
        # The cluster may have been given up, or the structure dropped by another query, since the samples were dealt.
        if entry is None or entry.structure != structure:
            return
        if entry.state == "trial":
            trial = entry.trial.plus(outcomes, prompt_tokens=structure.prompt_tokens)
            decision = decide(trial)
            state = {"adopt": "adopted", "drop": "dropped", "go on": "trial"}[decision]
            self._store.put_entry(replace(entry, trial=trial, state=state))
        elif entry.state == "adopted":
            watch = entry.watch.plus(outcomes, prompt_tokens=structure.prompt_tokens)
            self._store.put_entry(replace(entry, watch=watch, state="adopted" if still_good(watch) else "dropped"))

    def _open(self, cluster: int) -> bool:
        """Whether a structure may be sought for a cluster: it has none, and nobody is at it."""
        entry = self._store.entry(cluster, self.model)
        return entry is None or (entry.state == "sought" and time.time() - entry.sought_at > STALE_SECONDS)


def forget(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
    """How many rows of the book in a data folder went with these episodes; for the group "kaelum.keepers".

    Every cluster that one of them joined goes whole, for it is a mean of its members; later queries make it again. A
    process that has the book open goes on with what is left. `tenant` adds nothing: whose an episode was is not kept
    here. Raises `StorageError`.
    """
    path = data_dir / STRUCTURES_FILE
    if not path.is_file():
        return 0
    store = StructureStore(path)
    try:
        with store.transaction():
            gone = store.forget(episode_ids)
    finally:
        store.close()
    wipe(path)
    return gone


def _checked(embedding: Array) -> Array:
    if embedding.shape != (EMBEDDING_SIZE,):
        raise UsageError(f"embedding has the shape {embedding.shape}; expected ({EMBEDDING_SIZE},).")
    return embedding
