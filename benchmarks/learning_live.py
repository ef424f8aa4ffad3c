"""One live run to confirm what the replays say: the learned system, frozen, beside the untrained one, with the model.

    python benchmarks/learning_live.py --tasks 10       # an hour on two cores; goes on where it was stopped

The bank's stream is learned from as `learning_system.py` does (its first order), the state is put into a data folder,
and two Kaelums that learn nothing more, one with that state and one without, answer the same new queries: of the
families of the stream and of those never streamed, from a seed that nothing was made or learned with. Both have the
same budget of rollouts, and what both ask the model for in one run is drawn once: they differ by what they learned, not
by luck. The untrained one is also asked with half the budget, for the learned one takes fewer tokens. `right` is the
benchmark's scorer's word.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bank import STREAMED, UNSEEN
from benchmarks.learning_system import BUDGET, stream
from benchmarks.recorded import RecordedModel
from benchmarks.replay import bank_queries
from benchmarks.suites import PROSE, seed_of
from benchmarks.tasks import Task, tasks
from benchmarks.workers import load
from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.learning.noise_model import calibration_error
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.service import versions_of
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.types import EpisodeId

LEARNED = "learned"
VARIANTS = {"untrained": BUDGET, "untrained, half the rollouts": BUDGET // 2, LEARNED: BUDGET}
"""Each with its greatest number of rollouts."""
SEED = 8
"""Even: tables deal their items out by odd and even seeds, and the stream's is odd."""
PARALLEL_QUERIES = 16


@dataclass(frozen=True, kw_only=True)
class Live:
    """One query answered by one of the variants."""

    variant: str
    family: str
    index: int
    right: bool
    confidence: float
    tokens: int
    worker: str


class Kept:
    """What was answered so far, in a JSONL file."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.all = [Live(**json.loads(line)) for line in lines]

    def add(self, one: Live) -> None:
        """Keep it."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(one)) + "\n")
            self.all.append(one)


def teach(folder: Path, bank: Path, model: str) -> None:
    """Put what the bank's stream teaches into a data folder, to be served: the state, and what votes were worth."""
    versions = versions_of(folder)
    if versions.current() is None:
        streamed = [replace(query, model=model) for query in bank_queries(bank) if query.sort == "stream"]
        order = np.random.default_rng([5, 0]).permutation(len(streamed)).tolist()
        known = stream(streamed, order, [len(streamed)], number=0)[len(streamed)]
        weight, shift = known.state.component(RewardModel).skill(model).weight, known.calibration.shift
        print(
            f"# learned from {len(streamed)} queries; λ = {weight:.2f}, shift {shift:.2f}", file=sys.stderr, flush=True
        )
        storage = Storage(folder / STORE_FILE)
        storage.add_measurements(EpisodeId("bank"), {"model": model, "confidence": known.told})
        storage.close()
        versions.point(versions.save(known.state, kind="serving"))


def answered(kaelum: Kaelum, task: Task, variant: str) -> Live:
    """Ask and judge."""
    answer = kaelum.ask(task.question, sims=VARIANTS[variant], seed=seed_of(task, SEED))
    best = answer.answer or (answer.alternatives[0].answer if answer.alternatives else "")
    text = answer.text if task.family in PROSE and answer.status != "unsure" else best
    return Live(
        variant=variant, family=task.family, index=task.index, right=bool(text) and bool(task.right(text)),
        confidence=answer.confidence, tokens=answer.cost.completion_tokens, worker=answer.worker,
    )  # fmt: skip


def run(arguments: argparse.Namespace, kept: Kept) -> None:
    """Everything that is not yet among the results."""
    asked = [task for family in (*STREAMED, *UNSEEN) for task in tasks(family, seed=SEED, size=arguments.tasks)]
    known = {(one.variant, one.family, one.index) for one in kept.all}
    left = [(task, name) for task in asked for name in VARIANTS if (name, task.family, task.index) not in known]
    random.Random(0).shuffle(left)
    if not left:
        return
    draws = arguments.keep / "draws.jsonl.gz"
    # Entropies and hidden states, which the reward model reads, are shared too, but not recorded.
    draws.unlink(missing_ok=True)
    backend = load(arguments.model)
    model = RecordedModel(draws, name=backend.name, load=lambda: backend)
    teach(arguments.keep / LEARNED, arguments.folder, model.name)
    options: dict[str, Any] = {"cache": False, "learning": False}
    kaelums = {
        name: Kaelum(
            Settings(data_dir=arguments.keep / name.replace(", ", "-").replace(" ", "-"), **options), model=model
        )
        for name in VARIANTS
    }
    try:
        with ThreadPoolExecutor(PARALLEL_QUERIES) as pool:
            list(pool.map(lambda pair: kept.add(answered(kaelums[pair[1]], pair[0], pair[1])), left))
    finally:
        for kaelum in kaelums.values():
            kaelum.close()
        model.close()


def tables(found: list[Live]) -> str:
    """Markdown: the learned system beside each untrained one, and the difference by query."""
    by_query: dict[tuple[str, int], dict[str, Live]] = {}
    for one in found:
        by_query.setdefault((one.family, one.index), {})[one.variant] = one
    lines = ["| queries | beside | its right | learned | learned − it, points | tokens | other worker | "
             "calibration error |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for other in VARIANTS:
        pairs = [(each[other], each[LEARNED]) for each in by_query.values() if {other, LEARNED} <= each.keys()]
        for title, families in (("all", (*STREAMED, *UNSEEN)), ("streamed families", STREAMED), ("unseen", UNSEEN)):
            mine = [pair for pair in pairs if pair[0].family in families]
            if mine and other != LEARNED:
                lines.append(f"| {title}, {len(mine)} | {other} | {compared(mine)} |")
    return "\n".join(lines)


def compared(pairs: list[tuple[Live, Live]]) -> str:
    """The cells of one row: both, and the second less the first with a bootstrap interval over queries."""
    right = np.array([[one.right for one in pair] for pair in pairs], dtype=float)
    gain = 100 * (right[:, 1] - right[:, 0])
    means = gain[np.random.default_rng(0).integers(0, len(gain), (2000, len(gain)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    tokens = [np.mean([pair[at].tokens for pair in pairs]) for at in (0, 1)]
    moved = np.mean([pair[0].worker != pair[1].worker for pair in pairs])
    errors = [
        calibration_error(np.array([pair[at].confidence for pair in pairs]), right[:, at], bins=5) for at in (0, 1)
    ]
    return (
        f"{right[:, 0].mean():.1%} | {right[:, 1].mean():.1%} | {gain.mean():+.1f} ({low:+.1f} to {high:+.1f}) | "
        f"{tokens[0]:.0f}, {tokens[1]:.0f} | {moved:.0%} | {errors[0]:.3f}, {errors[1]:.3f}"
    )


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--keep", type=Path, default=Path("bench-results/live"), help="folder of states and outcomes")
    parser.add_argument("--tasks", type=int, default=4, help="of each of the 22 families")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    kept = Kept(arguments.keep / "live.jsonl")
    run(arguments, kept)
    print(tables(kept.all))


if __name__ == "__main__":
    main()
