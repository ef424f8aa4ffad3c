"""The rollout bank: what every worker makes of the same queries, recorded once with the real model, replayed often.

    python benchmarks/bank.py record               # hours on two cores; goes on where it was stopped
    python benchmarks/bank.py show                 # what there is so far

A unit is one query with one worker: its plain rollouts as a search draws them (acting included), with tokens,
log-probabilities, entropies and hidden states at the ends of lines. Queries come round by round, one of every family a
round, so that a bank that was cut short is a smaller bank. Three sorts of queries: "stream" (16 families, the live
traffic that is learned from), "held out" (other queries of those families) and "unseen" (six families that are never
streamed). Nothing here holds a reference answer: what is right is asked of `benchmarks.tasks` when a bank is read.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.suites import seed_of
from benchmarks.tasks import Task, tasks
from kaelum_graph.acting import Turn, act
from kaelum_graph.models.base import GenerationRequest, HiddenState, PolicyModel, Sampling
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Json, Query, WorkerName
from kaelum_graph.workers import all_workers
from kaelum_graph.workers.base import Worker

STREAMED = (
    "gsm_symbolic", "letter_counting", "syllogism", "capitals", "passages", "comparisons", "chain_sum", "word_sorting",
    "elements", "simple_equations", "number_filtering", "gcd", "count_bits", "needle_haystack",
    "fraction_simplification", "leg_counting",
)  # fmt: skip
UNSEEN = ("time_intervals", "spell_backward", "knights_knaves", "currencies", "complaints", "verses")
STREAM_ROUNDS, HELD_OUT_ROUNDS, UNSEEN_ROUNDS = 32, 8, 16
TABLES = {"elements": 29}
"""Families made from a table, and how many tasks that gives a seed."""
STREAM_SEED, HELD_OUT_SEED = 3, 4
ROLLOUTS = 4
MOST_TOKENS = 256
"""Of one rollout: what is longer is seldom right at this size, and costs as much as five that are."""
UNITS_A_CALL = 60
CALLS_AT_ONCE = 3
"""So that the last long rollouts of one call share their batch with the next call's."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query of the bank."""

    sort: str
    task: Task

    @property
    def name(self) -> str:
        """Names it in the record."""
        return f"{self.sort}/{self.task.family}/{self.task.index}"


def queries() -> list[Asked]:
    """All queries, in the order of recording."""
    plan = [
        ("stream", STREAMED, STREAM_SEED, STREAM_ROUNDS, STREAM_SEED),
        ("held out", STREAMED, HELD_OUT_SEED, HELD_OUT_ROUNDS, None),
        ("unseen", UNSEEN, HELD_OUT_SEED, UNSEEN_ROUNDS, HELD_OUT_SEED),
    ]
    found = [
        (round_number / rounds, Asked(sort=sort, task=task))
        for sort, families, seed, rounds, first in plan
        for family in families
        for round_number, task in enumerate(
            tasks(family, seed=seed, size=min(rounds, TABLES.get(family, rounds)), first=first)
        )
    ]
    return [asked for _, asked in sorted(found, key=lambda pair: pair[0])]


def request_of(asked: Asked, worker: Worker, *, samples: int, first: int = 0) -> GenerationRequest:
    """What a worker asks for; `first` counts the rollouts that there are already."""
    prompt = worker.prompt(Query(text=asked.task.question))
    return GenerationRequest(
        messages=prompt.messages,
        partial_answer=prompt.partial_answer,
        n=samples,
        sampling=Sampling(
            max_tokens=min(prompt.max_tokens, MOST_TOKENS), stop=prompt.stop, seed=seed_of(asked.task, 7 + first)
        ),
        insight=True,
    )


class Bank:
    """Units in gzipped JSONL files of a folder, one file a call of the model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def units(self) -> Iterator[Json]:
        """Every unit of the plan, file by file; one that was recorded of another question is passed over."""
        asked = {one.name: one.task.question for one in queries()}
        # What was unpacked has been recorded elsewhere.
        unpacked = self.folder.glob("judged/packed.jsonl.gz")
        for path in sorted([*self.folder.glob("*.jsonl.gz"), *unpacked]):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                for line in file:
                    unit = json.loads(line)
                    if asked.get(unit["query"]) == unit["question"]:
                        yield unit

    def recorded(self) -> Counter[tuple[str, str]]:
        """How many rollouts each query and worker has."""
        return Counter({(unit["query"], unit["worker"]): len(unit["rollouts"]) for unit in self.units()})

    def keep(self, units: Sequence[Json]) -> None:
        """Write units beside the others, all or nothing."""
        path = self.folder / f"{time.time_ns()}.jsonl.gz"
        beside = path.with_suffix(".partial")
        with gzip.open(beside, "wt", encoding="utf-8") as file:
            for unit in units:
                file.write(json.dumps(unit, ensure_ascii=False) + "\n")
        beside.replace(path)


def turn_json(turn: Turn) -> Json:
    """A rollout as plain JSON."""
    return {
        "text": turn.text,
        "finish": turn.finish,
        "tokens": turn.completion_tokens,
        "token_texts": turn.token_texts,
        "logprobs": [_rounded(value) for value in turn.token_logprobs or ()],
        "entropies": [_rounded(value) for value in turn.token_entropies or ()],
        "states": [[state.position, base64.b64encode(state.values.tobytes()).decode()] for state in turn.states],
    }


def states_of(rollout: Json) -> list[HiddenState]:
    """The hidden states of a recorded rollout."""
    return [
        HiddenState(position, np.frombuffer(base64.b64decode(text), dtype=np.float16))
        for position, text in rollout["states"]
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def record(bank: Bank, model: PolicyModel, sandbox: Sandbox, *, samples: int, minutes: float) -> None:
    """Record what is missing, in order, for at most so many minutes."""
    workers, have = all_workers(), bank.recorded()
    todo = deque((asked, name) for asked in queries() for name in workers if not have[(asked.name, name)])
    end, made, start = time.monotonic() + 60 * minutes, 0, time.monotonic()
    with ThreadPoolExecutor(2) as sandboxes, ThreadPoolExecutor(CALLS_AT_ONCE) as calls:
        running: set[Future[list[Json]]] = set()
        while running or (todo and time.monotonic() < end):
            while todo and len(running) < CALLS_AT_ONCE and time.monotonic() < end:
                chunk = [todo.popleft() for _ in range(min(UNITS_A_CALL, len(todo)))]
                running.add(calls.submit(_units, chunk, model, sandbox, sandboxes, samples))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for call in done:
                units = call.result()
                bank.keep(units)
                made += sum(rollout["tokens"] for unit in units for rollout in unit["rollouts"])
                spent = time.monotonic() - start
                print(f"# {made} tokens, {made / spent:.0f}/s, {len(todo)} units to go", file=sys.stderr, flush=True)


def _units(
    chunk: Sequence[tuple[Asked, WorkerName]], model: PolicyModel, sandbox: Sandbox, pool: Executor, samples: int
) -> list[Json]:
    """One call's units."""
    workers = all_workers()
    # Long turns first: short ones then fill the places that they leave.
    chunk = sorted(chunk, key=lambda pair: pair[1] in ("code", "factual"))
    acted = act(
        model,
        [request_of(asked, workers[name], samples=samples) for asked, name in chunk],
        [workers[name].prompt(Query(text=asked.task.question)).observe for asked, name in chunk],
        sandbox=sandbox,
        pool=pool,
    )
    units: list[Json] = []
    for (asked, name), outcome in zip(chunk, acted, strict=True):
        if outcome.error is not None:
            raise outcome.error
        units.append(
            {
                "query": asked.name,
                "question": asked.task.question,
                "worker": name,
                "prompt_tokens": outcome.prompt_tokens,
                "rollouts": [turn_json(turn) for turn in outcome.turns],
            }
        )
    return units


def show(bank: Bank) -> str:
    """What there is."""
    sorts: dict[str, Counter[str]] = {}
    tokens = rollouts = 0
    for unit in bank.units():
        sort, family, _ = unit["query"].split("/")
        sorts.setdefault(sort, Counter())[family] += 1
        rollouts += len(unit["rollouts"])
        tokens += sum(rollout["tokens"] for rollout in unit["rollouts"])
    lines = [f"{rollouts} rollouts, {tokens} tokens"]
    for sort, families in sorts.items():
        lines.append(f"{sort}: {sum(families.values())} units of {len(families)} families")
    return "\n".join(lines)


def load(model: str, *, max_batch: int) -> Any:
    """The local model of that folder or name."""
    from kaelum_graph.models.local import LocalPolicyModel
    from kaelum_graph.models.weights import default_cache_dir, resolve_model

    folder = Path(model) if Path(model).is_dir() else resolve_model(model, cache_dir=default_cache_dir())
    return LocalPolicyModel.load(folder, name=folder.name, engine="padded", max_batch=max_batch)


def main() -> None:
    """Record or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "show"))
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    parser.add_argument("--samples", type=int, default=ROLLOUTS, help="rollouts a unit")
    parser.add_argument("--batch", type=int, default=96, help="sequences at a time")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after the call that is under way by then")
    arguments = parser.parse_args()
    bank = Bank(arguments.folder)
    if arguments.what == "record":
        sandbox = ProcessSandbox()
        try:
            with load(arguments.model, max_batch=arguments.batch) as model:
                record(bank, model, sandbox, samples=arguments.samples, minutes=arguments.minutes)
        finally:
            sandbox.close()
    print(show(bank))


if __name__ == "__main__":
    main()
