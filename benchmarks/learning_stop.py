"""Stopping rules on recorded searches: how many tokens each saves, and how many points it loses to the full budget.

    python benchmarks/learning_stop.py --folder bench-results/bank --searches bench-results/search

The bank has four rollouts of each of six workers for every query. A search of B rollouts over it: the untrained router
routes the query with B rollouts, and they are drawn in the order in which a search draws them; where a worker's four
are used up, its place goes to the most probable worker that has some left. So with B above 4 a sure route mixes in
other workers, which a live search would not: the bank's searches disagree more than live ones do late in a search, and
their full budget is worth less. The four of a worker come in a random order, and each query is searched `--repeats`
times; intervals resample queries, not repeats.

`--searches` are recorded live searches that ran to their budget of 8 (`benchmarks/search.py`, "search, no early
stopping"): there every rule that looks after 4 rollouts is replayed exactly, and one that looks after 2 sees the first
half of a wave of 4.

`right` is the benchmark's scorer's word: it is counted in the tables, and nothing learns from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import bank_queries
from benchmarks.stop_searches import FIRST_WAVES, LARGEST_WAVE, Moment, Search, bank_search, live_searches
from kaelum_graph.learning.stop_head import GAP, StopHead
from kaelum_graph.learning.stop_looks import LOOK_FEATURES, Look, look_times

Numbers = NDArray[np.float64]
BUDGETS = (8, 12, 16)
PROMISES = (0.01, 0.02)
FOLDS = 10
LEAD = LOOK_FEATURES.index("lead")

Rule = Callable[[Look], bool]
"""Whether to stop at a look without an anchored pass; at one with a pass every rule but the full budget stops."""


def stopped(search: Search, rule: Rule, first: int) -> Moment:
    """Where a search ends under a rule."""
    for count in look_times(len(search.episode.rollouts), first=first, most=LARGEST_WAVE):
        moment = search.moments[count]
        if moment.look.verified or rule(moment.look):
            return moment
    return search.end


def oracle(search: Search, first: int) -> Moment:
    """The first look at which the answer is as right as it will be at the end."""
    for count in look_times(len(search.episode.rollouts), first=first, most=LARGEST_WAVE):
        if search.moments[count].right >= search.end.right:
            return search.moments[count]
    return search.end


@dataclass(frozen=True, kw_only=True)
class Score:
    """Tokens saved (share of the full budget's), points lost and points of regret, with 95% bootstrap intervals."""

    name: str
    queries: int
    saved: tuple[float, float, float]
    lost: tuple[float, float, float]
    regret: float

    def row(self) -> str:
        """A row of a Markdown table."""
        saved, lost = ([f"{100 * value:.1f}" for value in triple] for triple in (self.saved, self.lost))
        return (
            f"| {self.name} | {saved[0]}% ({saved[1]} to {saved[2]}) | {lost[0]} ({lost[1]} to {lost[2]}) "
            f"| {100 * self.regret:.2f} |"
        )


HEADER = "| rule | tokens saved | points lost | lost by evidence |\n|---|---|---|---|"


def score(name: str, searches: Sequence[Search], ends: Sequence[Moment]) -> Score:
    """What ending the searches at `ends` saves and loses against their full budgets; queries are resampled."""
    names = sorted({search.query for search in searches})
    place = {query: index for index, query in enumerate(names)}
    totals = np.zeros((len(names), 5))
    for search, end in zip(searches, ends, strict=True):
        totals[place[search.query]] += (
            end.tokens, search.end.tokens, float(search.end.right) - float(end.right), end.regret, 1.0,
        )  # fmt: skip
    generator = np.random.default_rng(0)
    picks = generator.integers(len(names), size=(2000, len(names)))
    sums = totals[picks].sum(axis=1)
    whole = totals.sum(axis=0)
    saved = np.percentile(1 - sums[:, 0] / sums[:, 1], [2.5, 97.5])
    lost = np.percentile(sums[:, 2] / sums[:, 4], [2.5, 97.5])
    return Score(
        name=name,
        queries=len(names),
        saved=(1 - whole[0] / whole[1], float(saved[0]), float(saved[1])),
        lost=(whole[2] / whole[4], float(lost[0]), float(lost[1])),
        regret=whole[3] / whole[4],
    )


def by_rule(name: str, searches: Sequence[Search], rule: Rule, first: int) -> Score:
    """A rule's score."""
    return score(name, searches, [stopped(search, rule, first) for search in searches])


def never(look: Look) -> bool:
    """Only an anchored pass stops."""
    return False


def always(look: Look) -> bool:
    """Stops at the first look."""
    return True


def sequential(look: Look) -> bool:
    """The sequential test at 0.95."""
    return look.certain


def certain(certainty: float) -> Rule:
    """The sequential test at another certainty."""
    return lambda look: float(look.features[LEAD]) >= np.log(certainty / (1 - certainty)) - 1e-9


def plain_rules(searches: Sequence[Search], first: int) -> list[Score]:
    """The rules that learn nothing."""
    return [
        by_rule("anchored pass only", searches, never, first),
        by_rule("sequential test, 0.95", searches, sequential, first),
        by_rule("sequential test, 0.85", searches, certain(0.85), first),
        by_rule("sequential test, or evidence far ahead", searches, StopHead().should_stop, first),
        by_rule("always at the first look", searches, always, first),
        score("oracle", searches, [oracle(search, first) for search in searches]),
    ]


def head_of(searches: Sequence[Search], first: int, promise: float) -> StopHead:
    """A head that has learned from these full runs."""
    taught = sum(not search.episode.audit for search in searches)
    head = StopHead(
        first=first,
        most=LARGEST_WAVE,
        promise=promise,
        learning_runs=10**9,
        learning_share=1.0,
        refit_every=max(taught, 1),
    )
    for search in searches:
        head.learn_episode(search.episode)
    return head


def cross_validated(searches: Sequence[Search], first: int, promise: float) -> tuple[list[Moment], int]:
    """Where heads that learned from the other nine tenths of the queries end each search; and how many had learned."""
    names = sorted({search.query for search in searches})
    fold = dict(zip(names, np.random.default_rng(7).permutation(len(names)) % FOLDS, strict=True))
    ends: dict[int, Moment] = {}
    ready = 0
    for number in range(FOLDS):
        head = head_of([one for one in searches if fold[one.query] != number], first, promise)
        ready += head.threshold is not None
        ends |= {
            index: stopped(one, head.should_stop, first)
            for index, one in enumerate(searches)
            if fold[one.query] == number
        }
    return [ends[index] for index in range(len(searches))], ready


def prequential(stream: Sequence[Search], first: int, *, orders: int, promise: float) -> tuple[list[Score], int]:
    """A head that learns online, its full runs paid for: over the whole stream, and over its last quarter.

    The second is in how many orders it had learned a threshold at the end.
    """
    searches: list[Search] = []
    ends: list[Moment] = []
    last: list[tuple[Search, Moment]] = []
    ready = 0
    for order in range(orders):
        head = StopHead(first=first, most=LARGEST_WAVE, promise=promise)
        for turn, place in enumerate(np.random.default_rng(order).permutation(len(stream))):
            search = stream[place]
            full = head.full_run(search.episode.id)
            end = search.end if full else stopped(search, head.should_stop, first)
            searches.append(search)
            ends.append(end)
            if turn * 4 >= len(stream) * 3:
                last.append((search, end))
            head.learn_episode(replace(search.episode, exhausted=end is search.end))
        ready += head.threshold is not None
    return [
        score("online: the whole stream", searches, ends),
        score("online: its last quarter", [one for one, _ in last], [end for _, end in last]),
    ], ready


def learning_curve(searches: Sequence[Search], first: int, *, orders: int, promise: float) -> list[Score]:
    """Heads frozen after so many full runs, on the queries that they have not seen."""
    found: list[Score] = []
    for runs in (0, 60, 120, 160, 200, 300, 400):
        if runs > len(searches) - 20:
            break
        rest: list[Search] = []
        ends: list[Moment] = []
        ready = 0
        for order in range(orders):
            places = np.random.default_rng(100 + order).permutation(len(searches))
            # Of a head that learned nothing the same queries are asked as of the first that did.
            head = head_of([searches[place] for place in places[:runs]], first, promise)
            ready += head.threshold is not None
            own = [searches[place] for place in places[max(runs, 60) :]]
            rest += own
            ends += [stopped(one, head.should_stop, first) for one in own]
        found.append(score(f"frozen after {runs} queries ({ready} of {orders} orders ready)", rest, ends))
    return found


def curve(searches: Sequence[Search], statistic: Callable[[Look], float], first: int) -> Numbers:
    """`[T, 2]`: share of tokens saved and points lost as a rule on `statistic` (low: stop) becomes bolder."""
    values = {id(moment): statistic(moment.look) for search in searches for moment in search.moments.values()}
    levels = np.unique(np.quantile(list(values.values()), np.linspace(0, 1, 80)))
    points: list[tuple[float, float]] = []
    for level in levels:
        tokens = full = lost = 0.0
        for search in searches:
            end = search.end
            for count in look_times(len(search.episode.rollouts), first=first, most=LARGEST_WAVE):
                moment = search.moments[count]
                if moment.look.verified or values[id(moment)] <= level:
                    end = moment
                    break
            tokens, full = tokens + end.tokens, full + search.end.tokens
            lost += float(search.end.right) - float(end.right)
        points.append((1 - tokens / full, 100 * lost / len(searches)))
    return np.array(points)


def risk(head: StopHead) -> Callable[[Look], float]:
    """The head's own statistic: predicted regret by what stopping saves."""
    return lambda look: head.predicted(look.features) * look.budget / max(look.budget - look.count, 1)


def draw(panels: Sequence[tuple[str, Sequence[tuple[str, Numbers]], Sequence[Score]]], path: Path) -> None:
    """Tokens saved against points lost, a panel a set of searches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.2), squeeze=False)
    for axis, (title, curves, marked) in zip(axes[0], panels, strict=True):
        for name, points in curves:
            axis.plot(100 * points[:, 0], points[:, 1], label=name, linewidth=1.6)
        for number, one in enumerate(marked):
            axis.errorbar(
                100 * one.saved[0], 100 * one.lost[0], fmt="os^Dv"[number % 5], color="black", markersize=5,
                yerr=[[100 * (one.lost[0] - one.lost[1])], [100 * (one.lost[2] - one.lost[0])]],
                elinewidth=0.7, label=f"{one.name} (95%)",
            )  # fmt: skip
        axis.axhspan(-20, 1, color="green", alpha=0.06)
        axis.axvline(40, color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=title, xlabel="tokens saved, %", ylabel="points lost", xlim=(0, 80), ylim=(-6, 14))
        axis.legend(fontsize=7, loc="upper left")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def families(searches: Sequence[Search], ends: Sequence[Moment]) -> str:
    """What a rule saves and loses in each family."""
    lines = ["| family | searches | tokens saved | points lost |", "|---|---|---|---|"]
    for family in sorted({search.family for search in searches}):
        own = [(one, end) for one, end in zip(searches, ends, strict=True) if one.family == family]
        saved = 1 - sum(end.tokens for _, end in own) / max(sum(one.end.tokens for one, _ in own), 1)
        lost = sum(float(one.end.right) - float(end.right) for one, end in own) / len(own)
        lines.append(f"| {family} | {len(own)} | {100 * saved:.0f}% | {100 * lost:.1f} |")
    return "\n".join(lines)


def labels_table(sets: Sequence[tuple[str, Sequence[Search]]]) -> str:
    """Whether the label is worth its name: the regret by evidence beside the points that are truly lost."""
    lines = [
        "| searches | stopped after | answer is another at the end | lost by evidence | points lost |",
        "|---|---|---|---|---|",
    ]
    for name, searches in sets:
        for count in (2, 4, 8):
            own = [one for one in searches if count in one.moments and len(one.episode.rollouts) > count]
            if not own:
                continue
            cut = score("", own, [one.moments[count] for one in own])
            other = np.mean([one.moments[count].look.leader != one.end.look.leader for one in own])
            lost = [f"{100 * value:.1f}" for value in cut.lost]
            lines.append(
                f"| {name}, n = {cut.queries} | {count} | {100 * other:.0f}% | {100 * cut.regret:.1f} "
                f"| {lost[0]} ({lost[1]} to {lost[2]}) |"
            )
    return "\n".join(lines)


def show(title: str, scores: Sequence[Score]) -> None:
    """Print a table."""
    print(f"\n### {title}, n = {scores[0].queries} queries\n\n{HEADER}")
    for one in scores:
        print(one.row())


def summary(title: str, searches: Sequence[Search], first: int) -> list[Score]:
    """Print what every rule makes of the searches, the learned head cross-validated over queries."""
    scores = plain_rules(searches, first)
    for promise in PROMISES:
        ends, ready = cross_validated(searches, first, promise)
        scores.append(score(f"learned, promise {promise} (ready in {ready} of {FOLDS} folds)", searches, ends))
    show(title, scores)
    return scores


def learning(title: str, stream: Sequence[Search], first: int, orders: int) -> None:
    """Print what a head makes of a stream that it learns from, frozen at times and online."""
    show(
        f"{title}, learned in {orders} orders, promise {PROMISES[0]}",
        learning_curve(stream, first, orders=orders, promise=PROMISES[0]),
    )
    scores, ready = prequential(stream, first, orders=orders, promise=PROMISES[0])
    show(f"{title}, learned online in {orders} orders ({ready} had a threshold at the end)", scores)


def main() -> None:
    """Print the tables and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--searches", type=Path, help="recorded live searches")
    parser.add_argument("--half", choices=("even", "odd", "both"), default="both", help="of the stream's tasks")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--repeats", type=int, default=3, help="searches a query where nothing is learned from it")
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    queries = bank_queries(arguments.folder)
    wanted = {"even": (0,), "odd": (1,), "both": (0, 1)}[arguments.half]
    live = live_searches(arguments.searches) if arguments.searches else []
    print(f"{len(queries)} bank queries, {arguments.repeats} searches each; {len(live)} live searches")
    sets: list[tuple[str, Sequence[Search]]] = [("live, budget 8", live)] if live else []
    panels: list[tuple[str, Sequence[tuple[str, Numbers]], Sequence[Score]]] = []
    for first in FIRST_WAVES if live else ():
        scores = summary(f"Live searches of 8, first wave {first}", live, first)
        for parity, name in ((0, "even"), (1, "odd")):
            own = [one for one in live if one.index % 2 == parity]
            show(f"Live searches of 8, first wave {first}, {name} tasks", plain_rules(own, first)[:4])
        learning(f"Live searches of 8, first wave {first}", live, first, arguments.orders)
        half = head_of([one for one in live if one.index % 2 == 0], first, PROMISES[0])
        rest = [one for one in live if one.index % 2]
        panels.append(
            (
                f"live searches of 8, first wave {first}",
                [
                    ("learned on even tasks, odd ones shown", curve(rest, risk(half), first)),
                    ("evidence's lead", curve(live, lambda look: -float(look.features[GAP]), first)),
                    ("sequential test", curve(live, lambda look: -float(look.features[LEAD]), first)),
                ],
                [scores[1], scores[3], *scores[-2:]],
            )
        )
    if live:
        ends, _ = cross_validated(live, 2, PROMISES[0])
        print(f"\n### By family: live, learned, promise {PROMISES[0]}, first wave 2\n\n{families(live, ends)}")
    for budget in arguments.budgets:
        searches = [bank_search(query, budget, repeat) for query in queries for repeat in range(arguments.repeats)]
        stream = [one for one in searches if one.sort == "stream" and one.index % 2 in wanted]
        once = [one for one in stream if one.episode.id.endswith(" 0")]
        sets.append((f"bank, budget {budget}", stream))
        for first in FIRST_WAVES:
            title = f"Bank, budget {budget}, first wave {first}"
            show(f"{title}, stream ({arguments.half})", plain_rules(stream, first))
            summary(f"{title}, stream ({arguments.half}), one search a query", once, first)
            learning(f"{title}, stream", once, first, arguments.orders)
            heads = [(promise, head_of(once, first, promise)) for promise in PROMISES]
            for sort in ("held out", "unseen"):
                own = [one for one in searches if one.sort == sort]
                if not own:
                    continue
                frozen = [
                    by_rule(
                        f"frozen after {head.runs} runs, promise {promise}"
                        + ("" if head.threshold is not None else " (not ready)"),
                        own, head.should_stop, first,
                    )
                    for promise, head in heads
                ]  # fmt: skip
                show(f"{title}, {sort}", [*plain_rules(own, first), *frozen])
            own = [one for one in searches if one.sort != "stream"]
            if first == 2 and budget in (8, 16) and own:
                head = heads[0][1]
                panels.append(
                    (
                        f"bank, budget {budget}, first wave 2, held out and unseen",
                        [
                            ("learned on the stream", curve(own, risk(head), first)),
                            ("evidence's lead", curve(own, lambda look: -float(look.features[GAP]), first)),
                            ("sequential test", curve(own, lambda look: -float(look.features[LEAD]), first)),
                        ],
                        [by_rule("sequential test, 0.95", own, sequential, first),
                         by_rule("or evidence far ahead", own, StopHead().should_stop, first),
                         by_rule(f"frozen, promise {PROMISES[0]}", own, head.should_stop, first)],
                    )
                )  # fmt: skip
    print("\n### What the label is worth\n\n" + labels_table(sets))
    draw(panels, arguments.images / "stop-head.png")


if __name__ == "__main__":
    main()
