"""The rollout bank read back: every recorded rollout concluded, checked and scored, as the product would have seen it.

    python benchmarks/replay.py          # the bank of the repository; minutes, once, for its embeddings
    python benchmarks/replay.py --folder bench-results/bank --pack     # judges what is new, and packs it all

The packed bank, beside this file, is what was judged without the embeddings. A folder in which nothing was recorded is
filled from it at first use.

Judging runs each rollout's program in the sandbox and asks its worker's own verifiers, as a search does; embeddings
are MiniLM's. `right` is the benchmark's scorer's word, for evaluation alone: it is never in a `SeenEpisode`.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import lzma
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bank import Bank, queries, states_of
from benchmarks.suites import PROSE
from benchmarks.tasks import Task
from kaelum_graph.clusters import cluster
from kaelum_graph.encoder import Encoder
from kaelum_graph.evidence import Evidence
from kaelum_graph.learning.episode import RolloutFeatures, SeenEpisode, SeenRollout
from kaelum_graph.learning.projection import smaller
from kaelum_graph.learning.step_features import step_scalars, step_states
from kaelum_graph.router import Router
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Array, Candidate, EpisodeId, Json, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import check_safely, verifier
from kaelum_graph.workers import all_workers
from kaelum_graph.workers.base import Worker

_EVIDENCE = TypeAdapter(tuple[Evidence, ...])
PACKED = Path(__file__).with_name("rollout_bank.jsonl.xz")
JUDGED = "judged"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """One rollout of the bank, judged. `right` is for evaluation alone."""

    worker: WorkerName
    text: str
    answer: str | None
    evidence: tuple[Evidence, ...]
    tokens: int
    finish: str
    right: bool
    features: RolloutFeatures


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BankQuery:
    """One query of the bank with all its rollouts by worker. `features` `[398]` are the router's. `model` is the name
    by which its episodes know the language model: what is learned from them is believed of that one."""

    name: str
    sort: str
    family: str
    question: str
    features: Array
    drawn: Mapping[WorkerName, tuple[Drawn, ...]]
    model: str = ""

    def episode(
        self,
        allocation: Mapping[WorkerName, int],
        *,
        probabilities: Mapping[WorkerName, float],
        propensities: Mapping[WorkerName, float],
        offset: int = 0,
        id: str = "",
    ) -> tuple[SeenEpisode, list[Drawn]]:
        """The episode of a search that drew `allocation` rollouts, the first ones from `offset` on, and the rollouts.

        A worker with fewer recorded rollouts than that gives all it has.
        """
        picked = [one for name, count in allocation.items() for one in self.drawn[name][offset : offset + count]]
        return self.episode_of(
            picked, allocation, probabilities=probabilities, propensities=propensities, id=id
        ), picked

    def episode_of(
        self,
        picked: Sequence[Drawn],
        allocation: Mapping[WorkerName, int],
        *,
        probabilities: Mapping[WorkerName, float],
        propensities: Mapping[WorkerName, float],
        id: str = "",
    ) -> SeenEpisode:
        """The episode of these rollouts."""
        groups = cluster([one.answer for one in picked])
        places: list[int | None] = [None] * len(picked)
        for number, group in enumerate(groups):
            for member in group.members:
                places[member] = number
        return SeenEpisode(
            id=EpisodeId(id or self.name),
            model=self.model,
            features=self.features,
            probabilities=probabilities,
            propensities=propensities,
            allocation=allocation,
            answers=tuple(group.representative for group in groups),
            exhausted=True,
            rollouts=tuple(
                SeenRollout(
                    worker=one.worker, operator="sample", blind=True, cluster=place, prefix=index,
                    evidence=one.evidence, tokens=one.tokens, finish=one.finish, features=one.features,
                )
                for index, (one, place) in enumerate(zip(picked, places, strict=True))
            ),
        )  # fmt: skip


def judged(worker: Worker, task: Task, rollout: Json, sandbox: Sandbox) -> Json:
    """A recorded rollout with its answer, evidence and steps, and whether it is right."""
    query = Query(text=task.question)
    conclusion = worker.conclude(query, rollout["text"], sandbox)
    candidate = Candidate(
        rollout_id=RolloutId(0), worker=worker.name, text=rollout["text"], answer=conclusion.answer,
        program=conclusion.program, observation=conclusion.observation, error=conclusion.error,
    )  # fmt: skip
    evidence: tuple[Evidence, ...] = ()
    if candidate.answer is not None or candidate.program is not None:
        evidence = tuple(check_safely(verifier(name), query, candidate, sandbox) for name in worker.verifiers)
    told = candidate.text if task.family in PROSE and worker.prose else candidate.answer
    return {
        "text": rollout["text"],
        "answer": candidate.answer,
        "evidence": _EVIDENCE.dump_python(evidence, mode="json"),
        "tokens": rollout["tokens"],
        "finish": rollout["finish"],
        "right": bool(told) and bool(task.right(told or "")),
        "steps": list(worker.split_steps(rollout["text"])),
    }


def judge(bank: Bank, encoder: Encoder) -> None:
    """Judge every file of the bank that isn't yet, beside it."""
    folder = bank.folder / JUDGED
    folder.mkdir(exist_ok=True)
    by_name = {asked.name: asked.task for asked in queries()}
    workers = all_workers()
    sandbox = ProcessSandbox()
    try:
        for path in sorted(bank.folder.glob("*.jsonl.gz")):
            target = folder / path.name
            if target.exists():
                continue
            with gzip.open(path, "rt", encoding="utf-8") as file:
                units = [json.loads(line) for line in file]
            units = [unit for unit in units if by_name[unit["query"]].question == unit["question"]]
            made: list[Json] = []
            for unit in units:
                worker = workers[WorkerName(unit["worker"])]
                features = encoder.features(unit["question"])
                rollouts: list[Json] = []
                for rollout in unit["rollouts"]:
                    one = judged(worker, by_name[unit["query"]], rollout, sandbox)
                    scalars = step_scalars(
                        one["steps"], rollout["token_texts"], rollout["logprobs"], rollout["entropies"]
                    )
                    states = step_states(one["steps"], rollout["token_texts"], smaller(states_of(rollout)))
                    embeddings = encoder.encode(one["steps"]).astype(np.float16)
                    rollouts.append({**one, "arrays": [_packed(embeddings), _packed(scalars), _packed(states)]})
                kept = {key: unit[key] for key in ("query", "question", "worker", "prompt_tokens")}
                made.append({**kept, "features": _packed(features), "rollouts": rollouts})
            _write(target, made)
            print(f"# judged {path.name}", file=sys.stderr, flush=True)
    finally:
        sandbox.close()


def pack(folder: Path, target: Path = PACKED) -> int:
    """Put all judged units of the plan into one file, but for the embeddings, which are made anew; how many."""
    asked = {one.name: one.task.question for one in queries()}
    lines: list[str] = []
    for path in sorted((folder / JUDGED).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            units = [json.loads(line) for line in file]
        for unit in units:
            if asked.get(unit["query"]) == unit["question"]:
                del unit["features"]
                rollouts = [{**one, "arrays": [None, *one["arrays"][1:]]} for one in unit["rollouts"]]
                lines.append(json.dumps({**unit, "rollouts": rollouts}, ensure_ascii=False, separators=(",", ":")))
    beside = target.with_suffix(".partial")
    with lzma.open(beside, "wt", encoding="utf-8", preset=9) as file:
        file.write("\n".join(lines))
    beside.replace(target)
    return len(lines)


def unpack(folder: Path, encoder: Encoder, source: Path = PACKED) -> None:
    """Fill a folder's judged units from the packed bank, embeddings made anew."""
    print(f"# unpacking {source.name}; embeddings take minutes, once", file=sys.stderr, flush=True)
    with lzma.open(source, "rt", encoding="utf-8") as file:
        units = [json.loads(line) for line in file]
    for unit in units:
        unit["features"] = _packed(encoder.features(unit["question"]))
        steps = encoder.encode([step for one in unit["rollouts"] for step in one["steps"]]).astype(np.float16)
        ends = np.cumsum([len(one["steps"]) for one in unit["rollouts"]])
        for one, part in zip(unit["rollouts"], np.split(steps, ends[:-1]), strict=True):
            one["arrays"][0] = _packed(part)
    (folder / JUDGED).mkdir(parents=True, exist_ok=True)
    _write(folder / JUDGED / "packed.jsonl.gz", units)


def bank_queries(folder: Path, *, workers: Sequence[str] | None = None) -> list[BankQuery]:
    """The judged queries that every worker has rollouts of, in the order of recording.

    A folder without any is filled from the packed bank first.
    """
    if not any((folder / JUDGED).glob("*.jsonl.gz")) and PACKED.exists():
        unpack(folder, encoder())
    names = list(workers or all_workers())
    units: dict[str, dict[str, Json]] = {}
    asked = {one.name: one.task.question for one in queries()}
    for path in sorted((folder / JUDGED).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                unit = json.loads(line)
                if asked.get(unit["query"]) != unit["question"]:
                    continue
                known = units.setdefault(unit["query"], {})
                if unit["worker"] in known:
                    known[unit["worker"]]["rollouts"] += unit["rollouts"]
                else:
                    known[unit["worker"]] = unit
    found: list[BankQuery] = []
    for name in asked:
        known = units.get(name, {})
        if not all(worker in known for worker in names):
            continue
        sort, family, _ = name.split("/")
        first = known[names[0]]
        found.append(
            BankQuery(
                name=name, sort=sort, family=family, question=first["question"],
                features=_unpacked(first["features"], np.float32, -1),
                drawn={WorkerName(one): tuple(_drawn(one, item) for item in known[one]["rollouts"]) for one in names},
            )
        )  # fmt: skip
    if not found:
        sys.exit(f"{folder}: no query is judged with every worker: python benchmarks/bank.py record, then replay.py")
    return found


@cache
def encoder() -> Encoder:
    """MiniLM, fetched where it is missing."""
    from kaelum_graph.models.weights import default_cache_dir, resolve_encoder

    return Encoder(resolve_encoder(cache_dir=default_cache_dir()))


@cache
def prior_router() -> Router:
    """The untrained router over all workers."""
    workers = {name: (one.description, *one.examples) for name, one in all_workers().items()}
    return Router(workers=workers, encoder=encoder())


def _drawn(worker: str, item: Json) -> Drawn:
    steps = len(item["steps"])
    embeddings, scalars, states = item["arrays"]
    return Drawn(
        worker=WorkerName(worker), text=item["text"], answer=item["answer"],
        evidence=_EVIDENCE.validate_python(item["evidence"]), tokens=item["tokens"], finish=item["finish"],
        right=item["right"],
        features=RolloutFeatures(
            embeddings=_unpacked(embeddings, np.float16, steps, 384),
            scalars=_unpacked(scalars, np.float32, steps, -1) if steps else np.zeros((0, 10), np.float32),
            states=None if states is None else _unpacked(states, np.float16, steps, -1),
        ),
    )  # fmt: skip


def _write(target: Path, units: Sequence[Json]) -> None:
    """All or nothing."""
    beside = target.with_suffix(".partial")
    with gzip.open(beside, "wt", encoding="utf-8") as file:
        for unit in units:
            file.write(json.dumps(unit, ensure_ascii=False) + "\n")
    beside.replace(target)


def _packed(array: Any) -> str | None:
    return None if array is None else base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _unpacked(text: str, kind: Any, *shape: int) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype=kind).reshape(shape)


def main() -> None:
    """Judge what is new, and pack it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--pack", action="store_true", help=f"write {PACKED.name}")
    arguments = parser.parse_args()
    judge(Bank(arguments.folder), encoder())
    found = bank_queries(arguments.folder)
    print(f"{len(found)} queries judged with every worker")
    if arguments.pack:
        print(f"{pack(arguments.folder)} units in {PACKED.name}")


if __name__ == "__main__":
    main()
