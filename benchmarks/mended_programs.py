"""What reading failed programs again is worth: the rollout bank's failures, concluded as the product does now.

    python benchmarks/mended_programs.py          # minutes; no model, no embeddings

The bank was recorded before small slips were mended (`kaelum_graph/workers/mending.py`), so each of its rollouts whose
program failed is concluded again, with the same text. Scorers decide right and wrong for this table alone.
"""

from __future__ import annotations

import json
import lzma
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bank import queries
from benchmarks.replay import PACKED
from benchmarks.tasks import Score
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Json, Query, WorkerName
from kaelum_graph.workers import worker


@dataclass(slots=True)
class Count:
    """Rollouts of a worker in a family: all, those whose program failed, and what became of these and of all."""

    all: int = 0
    right_before: int = 0
    failed: int = 0
    answered: int = 0
    in_words: int = 0
    right: int = 0


def main() -> None:
    """Print the table."""
    asked = {one.name: one.task for one in queries()}
    counts: defaultdict[tuple[str, str], Count] = defaultdict(Count)
    sandbox = ProcessSandbox()
    try:
        with lzma.open(PACKED, "rt", encoding="utf-8") as file:
            for unit in map(json.loads, file):
                task = asked[unit["query"]]
                for rollout in unit["rollouts"]:
                    count(counts[unit["worker"], task.family], unit, rollout, task.right, sandbox)
    finally:
        sandbox.close()
    print("| worker | family | rollouts | failed | answered now | in words | right now | right of all, before → now |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, family), one in sorted(counts.items()):
        if one.failed:
            print(row(name, family, one))
    for name in sorted({name for name, _ in counts}):
        print(row(name, "**all**", total([one for (whose, _), one in counts.items() if whose == name])))
    print(row("**all**", "", total(list(counts.values()))))


def count(found: Count, unit: Json, rollout: Json, right: Score, sandbox: Sandbox) -> None:
    """Add a rollout, its answer read again where its program failed."""
    found.all += 1
    found.right_before += bool(rollout["right"])
    if not any(one["source"] == "program" and one["outcome"] == "fail" for one in rollout["evidence"]):
        return
    found.failed += 1
    concluded = worker(WorkerName(unit["worker"])).conclude(Query(text=unit["question"]), rollout["text"], sandbox)
    if concluded.answer:
        found.answered += 1
        found.in_words += concluded.program is None
        found.right += bool(right(concluded.answer))


def total(counts: list[Count]) -> Count:
    """The sum of counts."""
    return Count(*(sum(getattr(one, name) for one in counts) for name in Count.__slots__))


def row(name: str, family: str, one: Count) -> str:
    """A line of the table. A rollout whose program failed had no answer, so what is right now was not before."""
    before, now = one.right_before / one.all, (one.right_before + one.right) / one.all
    return (
        f"| {name} | {family} | {one.all} | {one.failed} | {one.answered} | {one.in_words} | {one.right} "
        f"| {before:.1%} → {now:.1%} |"
    )


if __name__ == "__main__":
    main()
