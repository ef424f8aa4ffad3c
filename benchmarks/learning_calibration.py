"""Is P(correct) as often right as it says, while the reward model learns? Ways to calibrate it, side by side.

    python benchmarks/learning_calibration.py --orders 6               # on the rollout bank's stream
    python benchmarks/learning_calibration.py --kept bench-results/…   # a kept run of search.py judged again, in order

On the bank, the stream is learned from in several random orders; of each query that no check decided, and for which the
reward model had weight, each way states its P(correct) before anything is learned from that query. The even-numbered
tasks are there to choose by, the odd ones to report. `right` is the benchmark's scorer's word.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.learning_system import BUDGET, Voted, learned_router, routed
from benchmarks.replay import BankQuery, bank_queries, prior_router
from benchmarks.suites import FAMILIES, PROSE
from benchmarks.tasks import tasks
from kaelum_graph.calibration import Calibration, VoteCalibration, Votes
from kaelum_graph.learning.episode import is_audit
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.service import new_state
from kaelum_graph.measurements import unanchored_confidences
from kaelum_graph.posterior import CEILING, weigh
from kaelum_graph.tree import SearchTree
from kaelum_graph.verdict import decide
from kaelum_graph.workers import all_workers

PROSE_WORKERS = tuple(name for name, worker in all_workers().items() if worker.prose)
Told = tuple[float, bool]
"""P(correct) as stated, and whether the answer was right."""


class Ways:
    """What each way of calibrating would state, learning as it goes."""

    def __init__(self) -> None:
        self.plain, self.weighed, self.both = Calibration(), Calibration(), VoteCalibration()

    def maps(self) -> dict[str, Callable[[float, float], float]]:
        """Each way, from the confidences by plain and by weighed votes to P(correct)."""
        return {
            "plain votes": lambda plain, weighed: plain,
            "weighed votes": lambda plain, weighed: weighed,
            "plain votes, calibrated": lambda plain, weighed: self.plain(plain),
            "weighed votes, with the plain votes' map": lambda plain, weighed: self.plain(weighed),
            "weighed votes, with their own map": lambda plain, weighed: self.weighed(weighed),
            "one map of both (in use)": self.both,
        }

    def learn(self, seen: Sequence[Votes]) -> None:
        """What checks said of a query's answers."""
        self.plain.learn((plain, passed) for plain, _, passed in seen)
        self.weighed.learn((weighed, passed) for _, weighed, passed in seen)
        self.both = self.both.plus(seen)


def on_the_bank(queries: Sequence[BankQuery], number: int) -> dict[tuple[str, str], list[Told]]:
    """One order of the stream: what each way stated, by half of the tasks."""
    state, ways = new_state(prior_router()), Ways()
    told: dict[tuple[str, str], list[Told]] = {}
    for count, place in enumerate(np.random.default_rng([5, number]).permutation(len(queries)).tolist()):
        query = queries[place]
        router, model = learned_router(state), state.component(RewardModel)
        generator = np.random.default_rng([11, number, count])
        episode, picked = routed(query, router, budget=BUDGET, generator=generator, id=f"{query.name} {number}")
        voted = Voted.of(query, episode, picked, model)
        shown = voted.answer()
        if shown is not None and voted.weights is not None:
            best = voted.standings()[0]
            if best.anchored == "none":
                half = "odd" if int(query.name.rsplit("/", 1)[1]) % 2 else "even"
                counted = weigh(voted.groups, voted.candidates, voted.evidence)
                plain = next(one.confidence for one in counted if one.cluster == best.cluster)
                for name, say in ways.maps().items():
                    stated = min(say(plain, best.confidence), CEILING)
                    told.setdefault((half, name), []).append((stated, picked[shown].right))
        if not episode.audit:
            ways.learn(voted.told())
        state.apply(LearningEvent(sequence=count + 1, kind="episode", episode_id=episode.id, episode=episode))
    return told


def kept_again(folder: Path) -> dict[tuple[str, str], list[Told]]:
    """The searches that `search.py` kept in a folder, judged again one after the other by each way."""
    seed = int(next(folder.glob("*-seed*.jsonl")).stem.split("-seed")[1].split("-")[0])
    asked = {
        task.question: task
        for families in FAMILIES.values()
        for family in families
        for task in tasks(family, seed=seed, size=20)
    }
    ways, rows = Ways(), list[tuple[bool, dict[str, Told]]]()
    store = next(folder.glob("episodes/*/search/kaelum.sqlite"))
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        kept = connection.execute("SELECT id, query, record FROM episodes ORDER BY sequence").fetchall()
    for episode_id, question, written in kept:
        record, task = json.loads(written), asked.get(question)
        if task is None:
            continue
        tree, route = SearchTree.from_json(record["tree"]), record["route"]
        row: dict[str, Told] = {}
        for name, say in ways.maps().items():
            verdict = decide(
                tree, worker=route["worker"], min_confidence=0.0, prm_threshold=0.0, prose=PROSE_WORKERS,
                trust=route.get("prm_weight", 0.0), calibrate=say,
            )  # fmt: skip
            best = verdict.answer or (verdict.alternatives[0].answer if verdict.alternatives else "")
            answer = verdict.text if task.family in PROSE and verdict.status != "unsure" else best
            row[name] = (verdict.confidence, bool(answer) and bool(task.right(answer)))
        rows.append((record["verdict"]["status"] == "verified", row))
        if not is_audit(episode_id):
            ways.learn(unanchored_confidences(tree, trust=route.get("prm_weight", 0.0)))
    late = [row for verified, row in rows[len(rows) // 2 :] if not verified]
    parts = (("all", [row for _, row in rows]), ("second half, no passed check", late))
    return {(part, name): [row[name] for row in chosen] for part, chosen in parts for name in ways.maps()}


def error(told: Sequence[Told], *, bins: int = 5) -> float:
    """Calibration error in bins of equal size."""
    found = np.array(sorted(told), dtype=float)
    gaps = [len(part) * abs(part[:, 0].mean() - part[:, 1].mean()) for part in np.array_split(found, bins)]
    return sum(gaps) / len(found)


def table(told: dict[tuple[str, str], list[Told]]) -> str:
    """Markdown."""
    lines = ["| | P(correct) by | answers | stated | right | calibration error | Brier |", "|---" * 7 + "|"]
    for (part, name), found in sorted(told.items()):
        values = np.array(found, dtype=float)
        brier = ((values[:, 0] - values[:, 1]) ** 2).mean()
        lines.append(
            f"| {part} | {name} | {len(found)} | {values[:, 0].mean():.3f} | {values[:, 1].mean():.3f} | "
            f"{error(found):.3f} | {brier:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--orders", type=int, default=6)
    parser.add_argument("--kept", type=Path, help="the --keep folder of a run of search.py, in place of the bank")
    arguments = parser.parse_args()
    if arguments.kept:
        print(table(kept_again(arguments.kept)))
        return
    streamed = [query for query in bank_queries(arguments.folder) if query.sort == "stream"]
    print(f"{len(streamed)} streamed queries, {arguments.orders} orders\n")
    told: dict[tuple[str, str], list[Told]] = {}
    for number in range(arguments.orders):
        for key, found in on_the_bank(streamed, number).items():
            told.setdefault(key, []).extend(found)
    print(table(told))


if __name__ == "__main__":
    main()
