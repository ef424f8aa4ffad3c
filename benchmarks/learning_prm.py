"""How well the reward model learns from live traffic alone: the rollout bank replayed in several orders.

    python benchmarks/learning_prm.py --folder bench-results/bank               # tables, and plots in docs/images
    python benchmarks/learning_prm.py --folder bench-results/bank --tune        # the half of the stream to tune on

A query's episode has four rollouts of each of the three workers that the untrained router prefers. The stream is
learned query by query; after some queries the model is asked about queries that it never learns from: held-out ones of
the streamed families, and families that are never streamed. What is right is the benchmark's word and used for
evaluation alone. AUROC is within queries, over rollouts that have an answer, each query counting once; the intervals
are 95% bootstrap intervals over queries, each query's figure being its mean over the orders.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

mpl.use("Agg")
from matplotlib import pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.prm_contenders import Asked, Case, Doubles, Learned, Likelihood, Makers, Share, case_of, makers
from benchmarks.replay import bank_queries, prior_router
from kaelum_graph.posterior import anchored_vote
from kaelum_graph.workers import all_workers

CHECKPOINTS = (0, 50, 100, 200, 300, 400, 500)
WORKERS_PER_QUERY = 3
WITHOUT, WITH, TEXT = "all without agreement", "all", "MiniLM alone"
DRAWN = (
    "likelihood (reward.py)", "share, not learned", TEXT, WITHOUT, WITH, "control: self-labelled",
    "upper bound: true labels",
)  # fmt: skip
"""The contenders that are drawn: with all of them nothing could be seen."""
Measure = Callable[[Doubles, Case], float]


def auroc(scores: Doubles, case: Case, *, same_worker: bool = False, answered: bool = True) -> float:
    """Within the query, over pairs of a right and a wrong rollout; NaN without such a pair."""
    able = case.clusters >= 0 if answered else np.ones(len(scores), dtype=bool)
    pairs = case.right[:, None] & ~case.right[None, :] & able[:, None] & able[None, :]
    if same_worker:
        pairs &= case.workers[:, None] == case.workers[None, :]
    if not pairs.any():
        return np.nan
    gaps = np.sign(scores[:, None] - scores[None, :])[pairs]
    return float((gaps + 1).mean() / 2)


def voted(weights: Doubles, case: Case, *, anchors: bool = False) -> float:
    """1 if the answer with the most weight is right, 0 if not, between on a tie; `anchors`: what a check has passed
    goes before, what one has failed behind the rest."""
    count = int(case.clusters.max(initial=-1)) + 1
    if not count:
        return 0.0
    mass = np.array([weights[case.clusters == cluster].sum() for cluster in range(count)])
    if anchors:
        for cluster in range(count):
            members = np.flatnonzero(case.clusters == cluster)
            outcome, _ = anchored_vote([vote for index in members for vote in case.drawn[int(index)].evidence])
            mass[cluster] += {"pass": 100.0, "none": 0.0, "fail": -100.0}[outcome]
    best = np.flatnonzero(mass >= mass.max() - 1e-9)
    return float(np.mean([case.right[case.clusters == cluster].mean() for cluster in best]))


def calibration_error(stated: Doubles, right: NDArray[np.bool_]) -> float:
    """Ten bins of equal width, weighed by their rollouts."""
    bins = np.minimum((stated * 10).astype(int), 9)
    gaps = [
        abs(stated[bins == one].mean() - right[bins == one].mean()) * (bins == one).mean()
        for one in range(10)
        if (bins == one).any()
    ]
    return float(sum(gaps))


def interval(values: Doubles, generator: np.random.Generator) -> tuple[float, float, float, int]:
    """Mean, its 95% bootstrap interval over queries, and their number; NaN are no queries."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.nan, np.nan, np.nan, 0
    means = generator.choice(known, (2000, len(known))).mean(axis=1)
    return float(known.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)), len(known)


def told(values: Doubles, *, signed: bool = False) -> str:
    """A cell of a table."""
    mean, low, high, count = interval(values, np.random.default_rng(0))
    sign = "+" if signed else ""
    return f"{mean:{sign}.3f} ({low:{sign}.3f}, {high:{sign}.3f}; {count})" if count else "none"


@dataclass(kw_only=True, eq=False)
class Curve:
    """One contender: scores of the test cases and its λ by checkpoint and order, and of each streamed query what it
    said before it learned from it."""

    scores: dict[int, list[list[Doubles]]]
    weights: dict[int, list[float]]
    prequential: list[dict[str, Doubles]]
    skills: list[str]
    seconds: list[float]

    @property
    def last(self) -> int:
        """The last checkpoint."""
        return max(self.scores)

    def at(self, checkpoint: int) -> list[list[Doubles]]:
        """The scores at a checkpoint; of what doesn't learn there is only one list."""
        return self.scores.get(checkpoint) or self.scores[0]


def run(make: Callable[[int], Asked], stream: Sequence[Case], tests: Sequence[Case], orders: int) -> Curve:
    """Stream the cases in several orders. What can't learn is asked once."""
    curve = Curve(scores={}, weights={}, prequential=[], skills=[], seconds=[])
    for seed in range(orders):
        asked = make(seed)
        said: dict[str, Doubles] = {}
        order = np.random.default_rng([seed, 5]).permutation(len(stream))
        fixed = isinstance(asked, Share | Likelihood)
        for done in range(len(order) + 1):
            if (done == 0 and fixed) or (not fixed and (done in CHECKPOINTS or done == len(order))):
                curve.scores.setdefault(done, []).append([asked.scores(case) for case in tests])
                curve.weights.setdefault(done, []).append(
                    asked.model.skill().weight if isinstance(asked, Learned) else 1.0
                )
            if done < len(order):
                case = stream[order[done]]
                said[case.query.name] = asked.scores(case)
                asked.learn(case)
        curve.prequential.append(said)
        curve.skills.append(asked.skill())
        if isinstance(asked, Learned):
            curve.seconds += asked.seconds
        if fixed:
            break
    return curve


def per_query(runs: Sequence[Sequence[Doubles]], cases: Sequence[Case], measure: Measure) -> Doubles:
    """The measure of each case, mean over the orders."""
    return np.array([float(np.mean([measure(one[index], case) for one in runs])) for index, case in enumerate(cases)])


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], help="names of contenders")
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    workers = list(all_workers())
    queries = bank_queries(arguments.folder)
    router = prior_router()
    cases = [case_of(one, list(router.probabilities(one.features))[:WORKERS_PER_QUERY]) for one in queries]
    stream = [case for case in cases if case.query.sort == "stream"]
    if arguments.tune:
        even = [case for case in stream if number_of(case) % 2 == 0]
        tune(even, makers(workers, even, arguments.only), arguments.orders)
        return
    tests = [case for case in cases if case.query.sort != "stream"]
    print(
        f"{len(stream)} streamed queries, {len(tests)} to test on; {arguments.orders} orders; "
        f"{sum(len(case.drawn) for case in cases)} rollouts."
    )
    curves: dict[str, Curve] = {}
    for name, make in makers(workers, stream, arguments.only).items():
        curves[name] = run(make, stream, tests, arguments.orders)
        print(f"# {name}", file=sys.stderr, flush=True)
    report(curves, stream, tests)
    arguments.images.mkdir(parents=True, exist_ok=True)
    plot(curves, tests, arguments.images / "prm-auroc.png", auroc, "within-query AUROC")
    plot(curves, tests, arguments.images / "prm-auroc-same-worker.png", same_worker, "within-query AUROC, same worker")


def number_of(case: Case) -> int:
    """The task's index in its family."""
    return int(case.query.name.rsplit("/", 1)[1])


def same_worker(scores: Doubles, case: Case) -> float:
    """AUROC over pairs of one worker's rollouts: where knowing the worker is of no use."""
    return auroc(scores, case, same_worker=True)


def unanswered(scores: Doubles, case: Case) -> float:
    """AUROC with the rollouts that have no answer among the wrong ones."""
    return auroc(scores, case, answered=False)


def tune(even: Sequence[Case], contenders: Makers, orders: int) -> None:
    """What was said of even-numbered streamed queries before they were learned."""
    print(f"{len(even)} queries; {orders} orders")
    for name, make in contenders.items():
        curve = run(make, even, [], orders)
        said = [[one[case.query.name] for case in even] for one in curve.prequential]
        print(f"{name:45s} {told(per_query(said, even, auroc))} {told(per_query(said, even, same_worker))}", flush=True)


def report(curves: dict[str, Curve], stream: Sequence[Case], tests: Sequence[Case]) -> None:
    """Tables in Markdown: figure (interval; queries)."""
    held = [index for index, case in enumerate(tests) if case.query.sort == "held out"]
    unseen = [index for index, case in enumerate(tests) if case.query.sort == "unseen"]
    checkpoints = sorted({done for curve in curves.values() for done in curve.scores})
    for title, measure in (("Within-query AUROC", auroc), ("The same, within one worker's rollouts", same_worker)):
        print(f"\n{title}, after so many queries\n")
        print("| | " + " | ".join(str(done) for done in checkpoints) + " |\n" + "|---" * (len(checkpoints) + 1) + "|")
        for name, curve in curves.items():
            cells = [
                told(per_query(curve.at(done), tests, measure)) if done in curve.scores else "=" for done in checkpoints
            ]
            print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nAfter the whole stream\n")
    print("| | held out | unseen families | with unanswered | streamed, odd, before learning |\n|---|---|---|---|---|")
    odd = [case for case in stream if number_of(case) % 2]
    for name, curve in curves.items():
        values = per_query(curve.at(curve.last), tests, auroc)
        said = [[one[case.query.name] for case in odd] for one in curve.prequential]
        cells = [
            told(values[held]),
            told(values[unseen]),
            told(per_query(curve.at(curve.last), tests, unanswered)),
            told(per_query(said, odd, auroc)),
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")
    votes(curves, tests)
    print(
        "\nCalibration error of a rollout's score (bar: at most 0.08), λ and its own estimate, milliseconds a query\n"
    )
    print("| | test queries | held out | unseen families | its own estimate, first order | median | most |")
    print("|---|---|---|---|---|---|---|")
    for name, curve in curves.items():
        if curve.seconds:
            errors = [told_error(curve, tests, chosen) for chosen in (range(len(tests)), held, unseen)]
            cost = [f"{1000 * value:.0f}" for value in (np.median(curve.seconds), np.max(curve.seconds))]
            print(f"| {name} | " + " | ".join([*errors, curve.skills[0], *cost]) + " |")
    if {WITHOUT, WITH, TEXT} <= curves.keys():
        bars(curves, tests)


def votes(curves: dict[str, Curve], tests: Sequence[Case]) -> None:
    """How much of the gap between majority vote and any-of-N a weighted vote closes."""
    any_right = np.array([float(case.right[case.clusters >= 0].any()) for case in tests])
    for title, anchors in (("scores alone", False), ("what a check has passed first, what it failed last", True)):

        def vote(scores: Doubles, case: Case, anchors: bool = anchors) -> float:
            return voted(np.maximum(scores, 0), case, anchors=anchors)

        majority = np.array([voted(np.ones(len(case.right)), case, anchors=anchors) for case in tests])
        print(f"\nVotes, {title}: majority {told(majority)}, any of N {told(any_right)}\n")
        print(
            "| | vote weighed by score | gain | gap closed | weighed by 1 - λ + λ · score | gain |\n"
            "|---|---|---|---|---|---|"
        )
        for name, curve in curves.items():
            runs, weights = curve.at(curve.last), curve.weights.get(curve.last) or curve.weights[0]
            full = per_query(runs, tests, vote)
            mixed = [
                [1 - weight + weight * scores for scores in one] for one, weight in zip(runs, weights, strict=True)
            ]
            careful = per_query(mixed, tests, vote)
            closed = share_closed(full - majority, any_right - majority)
            print(
                f"| {name} | {told(full)} | {told(full - majority, signed=True)} | {closed} | {told(careful)} | "
                f"{told(careful - majority, signed=True)} |"
            )


def share_closed(gains: Doubles, gaps: Doubles) -> str:
    """Mean gain over mean gap, with its bootstrap interval over queries."""
    if not gaps.mean():
        return "no gap"
    picked = np.random.default_rng(0).integers(len(gains), size=(2000, len(gains)))
    ratios = gains[picked].mean(axis=1) / np.maximum(gaps[picked].mean(axis=1), 1e-9)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return f"{gains.mean() / gaps.mean():.0%} ({low:.0%}, {high:.0%})"


def told_error(curve: Curve, tests: Sequence[Case], chosen: Sequence[int]) -> str:
    """Calibration error of answered rollouts after the whole stream, mean over the orders; queries are resampled."""
    runs = curve.at(curve.last)
    if not len(chosen):
        return "none"

    def error(picked: Sequence[int] | NDArray[np.int64], one: Sequence[Doubles]) -> float:
        able = [tests[index].clusters >= 0 for index in picked]
        stated = np.concatenate([one[index][which] for index, which in zip(picked, able, strict=True)])
        right = np.concatenate([tests[index].right[which] for index, which in zip(picked, able, strict=True)])
        return calibration_error(stated, right)

    generator = np.random.default_rng(0)
    again = [np.mean([error(generator.choice(chosen, len(chosen)), one) for one in runs[:5]]) for _ in range(200)]
    low, high = np.quantile(again, (0.025, 0.975))
    return f"{np.mean([error(chosen, one) for one in runs]):.3f} ({low:.3f}, {high:.3f}; {len(chosen)})"


def bars(curves: dict[str, Curve], tests: Sequence[Case]) -> None:
    """Design decision 3, at 300 queries or as near as the bank comes."""
    done = min(300, curves[WITHOUT].last) if 300 in curves[WITHOUT].scores else curves[WITHOUT].last
    without, whole, text = (per_query(curves[name].at(done), tests, auroc) for name in (WITHOUT, WITH, TEXT))
    share = per_query(curves["share, not learned"].at(0), tests, auroc) if "share, not learned" in curves else None
    print(f"\nBars, after {done} queries\n\n| Bar | Measured | |\n|---|---|---|")
    rows: list[tuple[str, Doubles, float, bool]] = [
        ("without agreement at least 0.62", without, 0.62, False),
        ("at least 0.07 above MiniLM alone", without - text, 0.07, True),
        ("with agreement at least 0.88", whole, 0.88, False),
    ]
    for name, values, bar, signed in rows:
        print(f"| {name} | {told(values, signed=signed)} | {'met' if np.nanmean(values) >= bar else 'missed'} |")
    if share is not None:
        print(f"| above the answer's share (no bar) | {told(whole - share, signed=True)} | |")


def plot(curves: dict[str, Curve], tests: Sequence[Case], path: Path, measure: Measure, label: str) -> None:
    """Learning curves with 95% intervals over queries."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for number, (name, curve) in enumerate((name, curves[name]) for name in DRAWN if name in curves):
        points = sorted(curve.scores)
        found = [interval(per_query(curve.scores[done], tests, measure), np.random.default_rng(0)) for done in points]
        colour = f"C{number}"
        if len(points) == 1:
            axes.axhline(found[0][0], color=colour, linestyle=":", label=name)
            continue
        style = "--" if ":" in name else "-"
        axes.plot(points, [mean for mean, *_ in found], style, color=colour, marker="o", markersize=3, label=name)
        axes.fill_between(
            points, [low for _, low, _, _ in found], [high for _, _, high, _ in found], color=colour, alpha=0.08
        )
    axes.axhline(0.5, color="grey", linewidth=0.8)
    axes.set_xlabel("streamed queries")
    axes.set_ylabel(label)
    figure.legend(fontsize=8, ncols=4, loc="outside lower center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
