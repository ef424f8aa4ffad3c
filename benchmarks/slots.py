"""Whom the places of the batch should go to: many recorded queries in flight at once, replayed under several rules.

    python benchmarks/slots.py --folder bench-results/bank             # the queries that tuning did not see
    python benchmarks/slots.py --folder bench-results/bank --tune      # what is set, on the stream's even queries

Each query draws the bank's rollouts of the first two workers in the untrained router's order, the second's once the
first's are used up (4 each, shuffled within a worker by the seed): 8 in all, the untrained router's usual budget. A
rollout takes a place for as many steps as it has tokens. Answers are by the product's own clusters and posterior; the
benchmark's scorer only counts them.

    uniform   every query the same number of rollouts and no early end; where a budget falls between two numbers, a
              share of the queries gets one more
    first     first come first served in whole waves; a search ends when its evidence is clear (`stopping`)
    short     the same, with waves that may be cut: "bids" without bids
    bids      the same ends, places by `slot_queue` with the bids of `bids`

Two loads. Budget: all queries come at once and share a number of tokens, the same for every rule: a share of what
"first" would spend without a limit. Deadline: `clients` ask one query after the other, and each is answered at the
latest after a multiple of the time that this takes where they share the places evenly; uniform is then reckoned at the
tokens that the rule spent, without losing anything to deadlines. Intervals are paired bootstraps over queries.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import BankQuery, bank_queries
from benchmarks.slot_server import Outcome, Replayed, Rule, Server, Serving, replayed
from kaelum_graph.bids import CHECKED_PRIOR, bid
from kaelum_graph.slot_queue import FIRST_SHARE, PATIENCE
from kaelum_graph.slots import LEAST_WAVE

WORKERS = 2


def uniform_right(paths: Sequence[Replayed], tokens: float) -> NDArray[np.float64]:
    """How often each query is right when all get equally many rollouts, for so many tokens in all."""
    most = paths[0].most
    totals = [sum(sum(path.tokens[:count]) for path in paths) for count in range(most + 1)]
    below = max(count for count in range(most + 1) if totals[count] <= max(tokens, 0.0))
    lower = np.array([path.right[below] for path in paths], dtype=float)
    if below == most:
        return lower
    share = (tokens - totals[below]) / (totals[below + 1] - totals[below])
    return (1 - share) * lower + share * np.array([path.right[below + 1] for path in paths], dtype=float)


def interval(values: NDArray[np.float64], generator: np.random.Generator) -> tuple[float, float]:
    """Bootstrap 95% interval of the mean over queries, in points."""
    drawn = generator.integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return 100 * float(low), 100 * float(high)


Streams = list[list[Replayed]]  # by seed; the same queries in each, in an order of the seed's own
Offers = dict[str, Serving]


def compared(streams: Streams, servings: Offers) -> list[tuple[str, list[Outcome], NDArray[np.float64]]]:
    """For each rule its outcomes by seed and, `[3, queries]`, how often each query was right, and would have been under
    uniform at the same tokens; and the tokens, all means over the seeds."""
    rows: list[tuple[str, list[Outcome], NDArray[np.float64]]] = []
    names = sorted({path.query.name for path in streams[0]})
    for label, serving in servings.items():
        outcomes: list[Outcome] = []
        told = np.zeros((2, len(names)))
        for stream in streams:
            outcome = Server(stream, serving).run()
            place = np.searchsorted(names, [path.query.name for path in stream])
            np.add.at(told[0], place, outcome.right)
            np.add.at(told[1], place, uniform_right(stream, outcome.tokens))
            outcomes.append(outcome)
        rows.append((label, outcomes, told * len(names) / sum(map(len, streams))))
    return rows


def show(title: str, streams: Streams, servings: Offers) -> None:
    """Print a table: accuracy at equal tokens, occupancy, waiting."""
    generator = np.random.default_rng(0)
    queries = len({path.query.name for path in streams[0]})
    print(f"\n{title}; n = {queries} queries, each {sum(map(len, streams)) // queries} times")
    print("| rule | tokens/query | right % | uniform % | points over uniform | over first | generating % | granted % "
          "| longest wait: steps | grants | bound | starved |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows = compared(streams, servings)
    base = next(told[0] for label, _, told in rows if label == "first")
    for label, outcomes, told in rows:
        gain, over = told[0] - told[1], told[0] - base
        low, high = interval(gain, generator)
        under, above = interval(over, generator)

        def mean(name: str, outcomes: list[Outcome] = outcomes) -> float:
            return float(np.mean([getattr(one, name) for one in outcomes]))

        cells = [
            label,
            f"{mean('tokens') / len(streams[0]):.0f}",
            f"{100 * told[0].mean():.1f}",
            f"{100 * told[1].mean():.1f}",
            f"{100 * gain.mean():+.1f} [{low:+.1f}, {high:+.1f}]",
            f"{100 * over.mean():+.1f} [{under:+.1f}, {above:+.1f}]",
            f"{100 * mean('generating'):.1f}",
            f"{100 * mean('granted'):.1f}",
            f"{max(one.longest_wait for one in outcomes):.0f}",
            *(f"{max(getattr(one, name) for one in outcomes)}" for name in ("longest_wait_grants", "bound")),
            f"{sum(one.starved for one in outcomes)}",
            f"{mean('mean_time'):.0f}",
        ]
        print(f"| {' | '.join(cells)} |")


RULES: tuple[Rule, ...] = ("first", "short", "bids")


@cache
def demand_of(paths: tuple[Replayed, ...]) -> float:
    """Tokens a query that "first" spends on these without a limit."""
    return Server(paths, Serving(rule="first", slots=32)).run().tokens / len(paths)


def demand(streams: Streams) -> float:
    """Tokens a query that "first" spends without a limit."""
    return float(np.mean([demand_of(tuple(one)) for one in streams]))


def budgets(streams: Streams, slots: int, share: float, **options: Any) -> Offers:
    """The rules at a budget of so much of the demand."""
    budget = share * demand(streams) * len(streams[0])
    return {rule: Serving(rule=rule, slots=slots, budget=budget, **options) for rule in RULES}


def deadlines(streams: Streams, slots: int, clients: int, share: float) -> Offers:
    """The rules where each query has so many times what its demand takes when `clients` share the places evenly."""
    time = share * demand(streams) * clients / slots
    served: Offers = {rule: Serving(rule=rule, slots=slots, clients=clients, time=time) for rule in RULES}
    return {**served, "bids, by wave": Serving(rule="bids", slots=slots, clients=clients, time=time, release="wave")}


def streams_of(queries: Sequence[BankQuery], *, seeds: int, workers: int) -> Streams:
    """The queries once a seed, in another order with other rollouts first."""
    made: Streams = []
    for seed in range(seeds):
        paths = [
            replayed(query, np.random.default_rng([seed, at]), workers=workers) for at, query in enumerate(queries)
        ]
        made.append([paths[at] for at in np.random.default_rng(seed).permutation(len(paths))])
    return made


SHARES = (0.8, 0.9, 1.0)
TIMES = (1.0, 1.5, 2.0)


def tune(streams: Streams) -> None:
    """Print what the settings are worth in points over uniform: three budgets on 32 places and on 8, then three
    deadlines with 32 clients and with 64."""
    for count in range(streams[0][0].most + 1):
        print(
            f"{count} rollouts: {100 * float(np.mean([[one.right[count] for one in s] for s in streams])):.1f}% right"
        )
    endless = [list(itertools.chain(*streams))]
    usual: dict[str, Any] = {
        "checked_prior": CHECKED_PRIOR,
        "patience": PATIENCE,
        "first_share": FIRST_SHARE,
        "least": LEAST_WAVE,
    }
    tried: list[dict[str, Any]] = [{"rule": "first"}, {}]
    tried += [{"patience": p, "first_share": f} for f in (0.25, 0.5, 0.75, 1.0) for p in (32, 64, 128)]
    tried += [{"checked_prior": 2.0}, {"checked_prior": 20.0}, {"least": 1}, {"least": 2}]
    for change in tried:
        options: dict[str, Any] = {"rule": "bids", **usual, **change}
        options["offer"] = partial(bid, checked_prior=options.pop("checked_prior"))
        over: list[float] = []
        for slots, share in itertools.product((32, 8), SHARES):
            serving = Serving(slots=slots, budget=share * demand(streams) * len(streams[0]), **options)
            ((_, _, told),) = compared(streams, {"": serving})
            over.append(100 * float((told[0] - told[1]).mean()))
        for clients, share in itertools.product((32, 64), TIMES):
            serving = Serving(slots=32, clients=clients, time=share * demand(streams) * clients / 32, **options)
            ((_, _, told),) = compared(endless, {"": serving})
            over.append(100 * float((told[0] - told[1]).mean()))
        print(f"{change}: {np.round(over, 1)}, mean {np.mean(over):+.2f}", flush=True)


def main() -> None:
    """Tune on the even queries of the stream, or report on all others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=WORKERS)
    arguments = parser.parse_args()
    found = bank_queries(arguments.folder)
    even = [one for one in found if one.sort == "stream" and int(one.name.rsplit("/", 1)[1]) % 2 == 0]
    if arguments.tune:
        tune(streams_of(even, seeds=arguments.seeds, workers=arguments.workers))
        return
    rest = [one for one in found if one not in even]
    streams = streams_of(rest, seeds=arguments.seeds, workers=arguments.workers)
    kinds = Counter("odd stream" if one.sort == "stream" else one.sort for one in rest)
    print(", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    for slots, share in itertools.product((32, 8), SHARES):
        show(f"Budget: {share:.0%} of the demand, {slots} places", streams, budgets(streams, slots, share))
    endless = [list(itertools.chain(*streams))]
    for clients, share in itertools.product((32, 64), TIMES):
        title = f"Deadline: {clients} clients, {share:.0%} of the demand's time, 32 places"
        show(title, endless, deadlines(endless, 32, clients, share))


if __name__ == "__main__":
    main()
