"""What the router learns from live queries, measured on the rollout bank.

    python benchmarks/learning_router.py --folder bench-results/bank              # everything; half an hour
    python benchmarks/learning_router.py --folder bench-results/bank --part gap   # or curves, shift, ablations, budgets

The oracle gap first: how much a perfect choice of the worker could bring. Then learning curves over 20 stream orders
against contextual bandits, a stream whose mix shifts at half-time, and ablations. Settings of the rivals are chosen on
stream queries of even number; what is reported is on odd ones before they are learned from, on held-out queries of the
same families, and on families that are never streamed. Intervals are 95%, bootstrapped over queries and orders.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.router_budgets import budgets
from benchmarks.router_intervals import interval, mean_of, resampled, told
from benchmarks.router_plots import plot_curves
from benchmarks.router_runs import CHECKPOINTS, Run, constant, ours, prior_pick, rival, rivals
from benchmarks.router_stream import (
    Floats,
    Ints,
    RouterBank,
    best_by_family,
    best_single,
    informed_oracle,
    order_of,
    read,
    shifted_order,
)
from kaelum_graph.learning.router_learner import Recipe

KINDS = {"reward": "reward", "right": "right answers"}
AFTER_SHIFT = ((0, 10), (10, 25), (25, 50), (50, 100), (100, 200))

RECIPES: dict[str, Recipe] = {
    "as served": Recipe(),
    "no prior": Recipe(prior=False),
    "no critic in the policy": Recipe(critic=False),
    "nor doubly robust values": Recipe(critic=False, doubly_robust=False),
    "no pairing": Recipe(pairing=False),
    "no network": Recipe(steps=0),
    "network without proof": Recipe(proof=False),
    "without proof, no doubly robust values": Recipe(proof=False, doubly_robust=False),
    "without proof, no entropy bonus": Recipe(proof=False, entropy=0.0),
    "without proof, Muon": Recipe(proof=False, optimiser="muon"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """Both ends that a router is measured between, on M queries: the best single worker and the oracle."""

    rows: Ints  # [M]
    single: Floats  # [M]
    oracle: Floats  # [M]


def gap(bank: RouterBank) -> None:
    """Print the oracle gap."""
    print("\n## The oracle gap\n")
    print("| Queries | n | Measure | Best single | Prior | Best of family | Oracle | Gap, oracle − single |")
    print("|---|---|---|---|---|---|---|---|")
    for sort in ("stream", "held out", "unseen", "all"):
        rows = np.arange(len(bank.queries)) if sort == "all" else bank.rows(sort)
        if len(rows) < 8:
            continue
        for kind, title in KINDS.items():
            table = bank.rewards[rows] if kind == "reward" else bank.rights[rows]
            families = bank.families[rows]
            single, family = best_single(table), best_by_family(table, families)
            oracle, _ = informed_oracle(table, families)
            prior = table.mean(axis=2)[np.arange(len(rows)), bank.priors[rows].argmax(axis=1)]
            print(
                f"| {sort} | {len(rows)} | {title} | {mean_of(single)} | {mean_of(prior)} | {mean_of(family)} "
                f"| {mean_of(oracle)} | **{mean_of(oracle - single)}** |"
            )
            if sort == "all" and (oracle - single).mean() < 0.05:
                print(f"\n**The gap in {title} is under 5 points: the workers need better tools first.**\n")
    means = {kind: bank.values(kind).mean(axis=0) for kind in KINDS}
    print("\n| Worker | Reward | Right |\n|---|---|---|")
    for place, name in enumerate(bank.workers):
        print(f"| {name} | {means['reward'][place]:.3f} | {means['right'][place]:.3f} |")


def scale_of(bank: RouterBank, rows: Ints, kind: str) -> Scale:
    """The single worker is the one that was best on the stream; its queries judge it by all others of them."""
    table = bank.rewards if kind == "reward" else bank.rights
    stream = bank.rows("stream")
    values = table.mean(axis=2)
    total = values[stream].sum(axis=0)
    streamed = set(stream.tolist())
    single = np.array(
        [values[row, (total - values[row] if row in streamed else total).argmax()] for row in rows.tolist()]
    )
    # The oracle may look at every query of the bank for what a family's workers are worth.
    worth, _ = informed_oracle(table, bank.families)
    return Scale(rows=rows, single=single, oracle=worth[rows])


def measured(
    values: Floats, scale: Scale, runs: Sequence[Run], checkpoint: int, places: Mapping[int, int]
) -> tuple[Floats, Floats]:
    """`[O, M]` values of the arms held best at a checkpoint, and a mask of the queries not yet learned from."""
    found = np.stack([values[scale.rows, run.at[checkpoint]] for run in runs])
    mask = np.ones_like(found)
    for turn, run in enumerate(runs):
        for row in run.order[:checkpoint].tolist():
            if row in places:
                mask[turn, places[row]] = 0.0
    return found, mask


def chosen_settings(bank: RouterBank, orders: int) -> dict[str, Callable[[Ints, Ints, int], Run]]:
    """The rivals in the setting that earned most on the tuning half, before learning from each query."""
    rows = bank.rows("stream", parity=0)
    rewards = bank.values("reward")
    made: dict[str, Callable[[Ints, Ints, int], Run]] = {}
    for title, settings in rivals(bank.workers).items():
        for shared in (False, True):
            earned = {
                name: np.mean(
                    [
                        rewards[run.order, run.before].mean()
                        for seed in range(orders)
                        for run in [
                            rival(bank, order_of(rows, 100 + seed), rows[:1], make=make, shared=shared, seed=seed)
                        ]
                    ]
                )
                for name, make in settings.items()
            }
            best = max(earned, key=lambda name: earned[name])
            name = f"{title}, {'shared' if shared else 'alone'}"
            print(f"# {name}: {best} of {', '.join(f'{key} {value:.3f}' for key, value in earned.items())}", flush=True)
            made[name] = lambda order, tested, seed, make=settings[best], shared=shared: rival(
                bank, order, tested, make=make, shared=shared, seed=seed
            )
    return made


def routers(bank: RouterBank, tuning_orders: int) -> dict[str, Callable[[Ints, Ints, int], Run]]:
    """By name what runs over an order."""
    best = bank.workers[int(bank.values("reward")[bank.rows("stream", parity=0)].mean(axis=0).argmax())]
    return {
        "ours": lambda order, tested, seed: ours(bank, order, tested, seed=seed),
        "prior alone": lambda order, tested, seed: constant(bank, order, tested, pick=prior_pick(bank), seed=seed),
        f"{best} alone": lambda order, tested, seed: constant(bank, order, tested, pick=lambda _: best, seed=seed),
        **chosen_settings(bank, tuning_orders),
    }


def checkpoints(size: int) -> list[int]:
    """Those that the stream reaches, and its end."""
    return [*[one for one in CHECKPOINTS if one < size], size]


def curves(bank: RouterBank, made: Mapping[str, Callable[[Ints, Ints, int], Run]], orders: int, images: Path) -> None:
    """Print and draw the learning curves."""
    stream = bank.rows("stream")
    odd, held_out, unseen = bank.rows("stream", parity=1), bank.rows("held out"), bank.rows("unseen")
    tested = np.concatenate([odd, held_out, unseen])
    places = {int(row): place for place, row in enumerate(odd.tolist())}
    runs: dict[str, list[Run]] = {}
    for name, run in made.items():
        runs[name] = [run(order_of(stream, seed), tested, seed) for seed in range(orders)]
        print(f"# {name}: {orders} orders", file=sys.stderr, flush=True)
    points = checkpoints(len(stream))
    same = np.arange(len(odd) + len(held_out))
    sets = {"same families": same, "unseen families": np.arange(len(same), len(tested))}
    drawn: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for kind, title in KINDS.items():
        scale = scale_of(bank, tested, kind)
        for group, members in sets.items():
            if not len(members):
                continue
            print(f"\n### {title.capitalize()} of the worker held best, {group}\n")
            print(
                f"{len(members)} queries, those not yet learned from; {orders} orders. "
                f"Best single {scale.single[members].mean():.3f}, oracle {scale.oracle[members].mean():.3f}.\n"
            )
            for part in (False, True):
                print(f"| {'Part of the gap closed' if part else 'Router'} | " + " | ".join(map(str, points)) + " |")
                print("|---" * (len(points) + 1) + "|")
                for name, ran in runs.items():
                    row: list[tuple[float, float, float]] = []
                    for point in points:
                        values, mask = measured(bank.values(kind), scale, ran, point, places)
                        values, mask = values[:, members], mask[:, members]
                        base = scale.single[members] if part else 0.0
                        span = (scale.oracle - scale.single)[members] if part else 1.0
                        row.append(resampled((values - base) * mask, span * mask))
                    if group == "same families" and not part:
                        drawn.setdefault(kind, {})[name] = row
                    print(f"| {name} | " + " | ".join(told(one, ".2f" if part else ".3f") for one in row) + " |")
                print()
            against_best(bank, runs, scale, kind, members, places, points)
    answers(bank, runs, points)
    scales = {kind: scale_of(bank, tested[same], kind) for kind in KINDS}
    plot_curves(
        points, drawn, {kind: (one.single.mean(), one.oracle.mean()) for kind, one in scales.items()},
        images / "router-learning.svg", title="Worker held best, same families",
    )  # fmt: skip


def against_best(
    bank: RouterBank,
    runs: Mapping[str, Sequence[Run]],
    scale: Scale,
    kind: str,
    members: Ints,
    places: Mapping[int, int],
    points: Sequence[int],
) -> None:
    """Print ours less the best rival at each checkpoint, paired by order and query."""
    for info in ("alone", "shared"):
        names = [name for name in runs if name.endswith(f", {info}")]
        row: list[str] = []
        for point in points:
            found = {name: measured(bank.values(kind), scale, runs[name], point, places) for name in [*names, "ours"]}
            mask = found["ours"][1][:, members]
            means = {name: (found[name][0][:, members] * mask).sum() / mask.sum() for name in names}
            top = max(means, key=lambda name: means[name])
            difference = (found["ours"][0] - found[top][0])[:, members] * mask
            row.append(f"{point}: {told(resampled(difference, mask), '+.3f')} to {top.split(',')[0]}")
        print(f"Ours less the best rival ({info}): " + "; ".join(row) + "\n")


def answers(bank: RouterBank, runs: Mapping[str, Sequence[Run]], points: Sequence[int]) -> None:
    """Print how often the searches' own answers were right while they learned."""
    print("\n### Right answers of the searches themselves, in order of the stream\n")
    spans = list(pairwise(points))
    print("| Router | " + " | ".join(f"{low} – {high}" for low, high in spans) + " | shared |")
    print("|---" * (len(spans) + 2) + "|")
    for name, ran in runs.items():
        cells = [told(interval([run.answers[low:high].mean() for run in ran])) for low, high in spans]
        print(f"| {name} | " + " | ".join(cells) + f" | {np.mean([run.shared for run in ran]):.2f} |")


def shift(bank: RouterBank, made: Mapping[str, Callable[[Ints, Ints, int], Run]], orders: int) -> None:
    """Print how soon each router is good at the second half's families."""
    stream = bank.rows("stream")
    print("\n## Mix shift at half-time\n")
    size = len(shifted_order(bank, stream, 0)) // 2
    spans = [(low, min(high, size)) for low, high in AFTER_SHIFT if low < size]
    print(
        f"{size} queries of the first families, then {size} of the others; {orders} orders. Queries after the shift.\n"
    )
    shifted = {
        name: [run(shifted_order(bank, stream, seed), stream[:1], seed) for seed in range(orders)]
        for name, run in made.items()
        if not name.endswith("alone") or "," not in name
    }
    for kind, title in KINDS.items():
        scale = scale_of(bank, np.arange(len(bank.queries)), kind)
        values = bank.values(kind)
        print(
            f"| {title.capitalize()} | last 25 before | " + " | ".join(f"{low} – {high}" for low, high in spans) + " |"
        )
        print("|---" * (len(spans) + 2) + "|")
        windows = [(max(size - 25, 0), size), *[(size + low, size + high) for low, high in spans]]
        for name, ran in shifted.items():
            cells = [
                told(interval([values[run.order[low:high], run.before[low:high]].mean() for run in ran]))
                for low, high in windows
            ]
            print(f"| {name} | " + " | ".join(cells) + " |")
        for name, ends in (("best single", scale.single), ("oracle", scale.oracle)):
            any_runs = next(iter(shifted.values()))
            cells = [f"{np.mean([ends[run.order[low:high]].mean() for run in any_runs]):.3f}" for low, high in windows]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print()


def ablations(bank: RouterBank, orders: int) -> None:
    """Print what each part of the learner is worth."""
    stream, odd, held_out = bank.rows("stream"), bank.rows("stream", parity=1), bank.rows("held out")
    tested = np.concatenate([odd, held_out])
    places = {int(row): place for place, row in enumerate(odd.tolist())}
    runs: dict[str, list[Run]] = {}
    for name, recipe in RECIPES.items():
        runs[name] = [ours(bank, order_of(stream, seed), tested, seed=seed, recipe=recipe) for seed in range(orders)]
        print(f"# {name}", file=sys.stderr, flush=True)
    runs["true rewards (bound)"] = [
        ours(bank, order_of(stream, seed), tested, seed=seed, true_rewards=True) for seed in range(orders)
    ]
    points = checkpoints(len(stream))[1:]
    print("\n## Ablations\n")
    print(f"{len(tested)} queries of the same families, those not yet learned from; {orders} orders. Less ours.\n")
    for kind, title in KINDS.items():
        scale = scale_of(bank, tested, kind)
        found = {
            (name, point): measured(bank.values(kind), scale, ran, point, places)
            for name, ran in runs.items()
            for point in points
        }
        print(f"| {title.capitalize()} | " + " | ".join(map(str, points)) + " |")
        print("|---" * (len(points) + 1) + "|")
        for name in runs:
            cells: list[str] = []
            for point in points:
                values, mask = found[name, point]
                if name == "as served":
                    cells.append(told(resampled(values * mask, mask)))
                else:
                    cells.append(told(resampled((values - found["as served", point][0]) * mask, mask), "+.3f"))
            print(f"| {name} | " + " | ".join(cells) + " |")
        print()


def main() -> None:
    """Print everything as Markdown and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--tuning-orders", type=int, default=5)
    parser.add_argument("--part", choices=("gap", "curves", "shift", "ablations", "budgets"), action="append")
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bank = read(arguments.folder)
    counts = {sort: len(bank.rows(sort)) for sort in ("stream", "held out", "unseen")}
    print(f"{len(bank.queries)} queries: {', '.join(f'{count} {sort}' for sort, count in counts.items())}.")
    parts = arguments.part or ["gap", "curves", "shift", "ablations", "budgets"]
    if "gap" in parts:
        gap(bank)
    if "curves" in parts or "shift" in parts:
        made = routers(bank, arguments.tuning_orders)
        if "curves" in parts:
            print("\n## Learning curves")
            curves(bank, made, arguments.orders, arguments.images)
        if "shift" in parts:
            shift(bank, made, arguments.orders)
    if "ablations" in parts:
        ablations(bank, arguments.orders)
    if "budgets" in parts:
        budgets(bank, arguments.orders)


if __name__ == "__main__":
    main()
