"""What labels made of evidence alone are worth, on the rollout bank: `right` is asked for here and nowhere else.

    python benchmarks/learning_labels.py --folder bench-results/bank

Episodes are made as a search makes them (the untrained router's allocation of eight rollouts; then every worker with
all that the bank has). The stream is labelled in its order, each episode before the noise model takes it in; then,
without learning on, the held-out queries and the families that were never streamed. Design choices were made on other
searches and on the stream's even indices, so of the stream only the odd ones are reported. Intervals: bootstrap over
queries, 95%.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import BankQuery, Drawn, bank_queries, prior_router
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import Label, rollout_labels
from kaelum_graph.learning.noise_model import NoiseModel, calibration_error
from kaelum_graph.types import WorkerName

ROLLOUTS = 8
RESAMPLES = 400
SORTS = ("stream", "held out", "unseen")
NAN = float("nan")
Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rollout's label beside what is so. `fresh` is the label of a noise model that has learned nothing."""

    label: Label
    fresh: Label
    right: bool
    worker: WorkerName
    cluster: int | None
    drawn: Drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """All rollouts of one query."""

    query: BankQuery
    audit: bool
    rows: tuple[Row, ...]

    @property
    def reported(self) -> bool:
        """Whether nothing was tuned on it."""
        return self.query.sort != "stream" or int(self.query.name.rsplit("/", 1)[1]) % 2 == 1


Choose = Callable[[Mapping[WorkerName, list[Row]]], list[WorkerName]]
"""The workers to take of a query's; their rewards are averaged."""


def labelled(episodes: Sequence[tuple[BankQuery, SeenEpisode, list[Drawn]]]) -> tuple[list[Told], NoiseModel]:
    """Every episode labelled: the stream in order and before it is learned from, then the rest."""
    noise, fresh = NoiseModel(), NoiseModel()
    found: list[Told] = []
    for sort in SORTS:
        for query, episode, drawn in episodes:
            if query.sort != sort:
                continue
            rows = tuple(
                Row(label=label, fresh=before, right=one.right, worker=one.worker, cluster=seen.cluster, drawn=one)
                for label, before, one, seen in zip(
                    rollout_labels(episode, noise),
                    rollout_labels(episode, fresh),
                    drawn,
                    episode.rollouts,
                    strict=True,
                )
            )
            found.append(Told(query=query, audit=episode.audit, rows=rows))
            if sort == "stream":
                noise.learn_episode(episode)
    return found, noise


def numbers(rows: Iterable[Row], *, fresh: bool = False) -> tuple[Reals, Reals]:
    """Labels and what was right."""
    kept = list(rows)
    told = [(one.fresh if fresh else one.label).probability for one in kept]
    return np.array(told), np.array([float(one.right) for one in kept])


def interval(queries: Sequence[Told], measure: Callable[[Sequence[Told]], float], *, digits: int = 3) -> str:
    """The measure over the queries and its 95% interval."""
    value = measure(queries)
    if np.isnan(value):
        return "–"
    generator = np.random.default_rng(0)
    drawn = [
        measure([queries[at] for at in generator.integers(len(queries), size=len(queries))]) for _ in range(RESAMPLES)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def rows_of(queries: Sequence[Told], *, anchored: bool | None = None, answered: bool = True) -> list[Row]:
    """Rollouts; `anchored` None takes all of them. Unanchored ones are those with an answer."""
    return [
        row
        for told in queries
        for row in told.rows
        if anchored is None
        or (row.label.anchored == anchored and (anchored or not answered or row.drawn.answer is not None))
    ]


def accuracy(queries: Sequence[Told]) -> float:
    """Of the anchored labels."""
    labels, right = numbers(rows_of(queries, anchored=True))
    return float(((labels > 0.5) == (right > 0.5)).mean()) if len(labels) else NAN


def error(*, anchored: bool | None, fresh: bool) -> Callable[[Sequence[Told]], float]:
    """Expected calibration error in ten bins."""

    def measure(queries: Sequence[Told]) -> float:
        labels, right = numbers(rows_of(queries, anchored=anchored), fresh=fresh)
        return calibration_error(labels, right) if len(labels) else NAN

    return measure


def within(*, fresh: bool) -> Callable[[Sequence[Told]], float]:
    """Mean AUROC of the unanchored labels within queries that have right and wrong ones among them."""

    def of_query(told: Told) -> float:
        labels, right = numbers(rows_of([told], anchored=False), fresh=fresh)
        good, bad = labels[right > 0.5], labels[right <= 0.5]
        if not len(good) or not len(bad):
            return NAN
        return float(((good[:, None] > bad) + 0.5 * (good[:, None] == bad)).mean())

    def measure(queries: Sequence[Told]) -> float:
        found = [value for value in map(of_query, queries) if not np.isnan(value)]
        return float(np.mean(found)) if found else NAN

    return measure


def across(*, fresh: bool) -> Callable[[Sequence[Told]], float]:
    """AUROC of the unanchored labels over all queries together."""

    def measure(queries: Sequence[Told]) -> float:
        labels, right = numbers(rows_of(queries, anchored=False), fresh=fresh)
        good, bad = labels[right > 0.5], np.sort(labels[right <= 0.5])
        if not len(good) or not len(bad):
            return NAN
        below, upto = np.searchsorted(bad, good, "left"), np.searchsorted(bad, good, "right")
        return float((below + upto).mean() / 2 / len(bad))

    return measure


def overall(told: Sequence[Told]) -> list[str]:
    """Accuracy, calibration and ranking by sort of query."""
    lines = [
        "| queries | n | rollouts | right | anchored labels | their accuracy | noise model | error, all labels | "
        "error, unanchored | AUROC within a query | AUROC across |",
        "|" + "---|" * 11,
    ]
    audits = [one for one in told if one.audit]
    pooled = [one for one in told if one.reported]
    for name, queries in [
        *((sort, [one for one in told if one.query.sort == sort]) for sort in SORTS),
        ("all of these", pooled),
        ("audit", audits),
    ]:
        kept = [one for one in queries if one.reported]
        if not kept:
            continue
        rows = rows_of(kept)
        anchored = rows_of(kept, anchored=True)
        for fresh in (True, False):
            lines.append(
                f"| {name} | {len(kept)} | {len(rows)} | {np.mean([row.right for row in rows]):.1%} | "
                f"{len(anchored)} ({len(anchored) / len(rows):.0%}) | {interval(kept, accuracy)} | "
                f"{'fresh' if fresh else 'learned'} | {interval(kept, error(anchored=None, fresh=fresh))} | "
                f"{interval(kept, error(anchored=False, fresh=fresh))} | {interval(kept, within(fresh=fresh))} | "
                f"{interval(kept, across(fresh=fresh))} |"
            )
    return [
        *lines,
        "",
        f"Labels that were exactly right would show an error of {exact_error(pooled):.3f} on so few queries.",
    ]


def exact_error(queries: Sequence[Told]) -> float:
    """The mean calibration error of all labels if every answer were right with just the probability it is given."""
    labels, _ = numbers(rows_of(queries))
    clusters = [(one.query.name, row.cluster) for one in queries for row in one.rows]
    places = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    own = np.array([places[cluster] for cluster in clusters])
    generator = np.random.default_rng(0)
    drawn = (generator.random(len(places))[own] < labels for _ in range(RESAMPLES))
    return float(np.mean([calibration_error(labels, right.astype(float)) for right in drawn]))


def by_family(told: Sequence[Told]) -> list[str]:
    """How much of each family an anchor judges, and what the other labels say."""
    families: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        families[one.query.family].append(one)
    lines = [
        "| family | queries | rollouts | right | queries with an anchor | rollouts with one | accuracy there | "
        "unanchored | right | mean label fresh | learned | no answer |",
        "|" + "---|" * 12,
    ]
    for family, queries in families.items():
        rows, anchored, free = rows_of(queries), rows_of(queries, anchored=True), rows_of(queries, anchored=False)
        some = sum(any(row.label.anchored for row in one.rows) for one in queries)
        labels, right = numbers(free)
        lines.append(
            f"| {family} | {len(queries)} | {len(rows)} | {np.mean([row.right for row in rows]):.0%} | {some} | "
            f"{len(anchored)} | {_or_dash(accuracy(queries), '.1%')} | {len(free)} | {_mean(right)} | "
            f"{_mean(numbers(free, fresh=True)[0])} | {_mean(labels)} | "
            f"{sum(row.drawn.answer is None for row in rows)} |"
        )
    return lines


def bins(told: Sequence[Told]) -> list[str]:
    """Unanchored labels by what they say, beside what was right."""
    lines = ["| label of an unanchored rollout | rollouts | mean label | right |", "|---|---|---|---|"]
    labels, right = numbers(rows_of([one for one in told if one.reported], anchored=False))
    edges = (0.0, 0.1501, 0.25, 0.35, 0.5, 0.65, 0.8499, 1.0)
    for low, high in pairwise(edges):
        inside = (labels >= low) & (labels < high)
        if inside.any():
            lines.append(
                f"| {low:.2f}–{high:.2f} | {inside.sum()} | {labels[inside].mean():.2f} | {right[inside].mean():.2f} |"
            )
    return lines


def disagreements(told: Sequence[Told]) -> list[str]:
    """Anchored labels that the benchmark's scorer contradicts, with an example."""
    found: Counter[tuple[str, str, str]] = Counter()
    example: dict[tuple[str, str, str], str] = {}
    for one in told:
        for row in rows_of([one], anchored=True):
            if (row.label.probability > 0.5) != row.right:
                sources = {
                    vote.source for vote in row.drawn.evidence if vote.tier.anchored and vote.outcome != "unscored"
                }
                key = (one.query.family, ", ".join(sorted(sources)), "pass" if row.label.probability > 0.5 else "fail")
                found[key] += 1
                example.setdefault(key, " ".join((row.drawn.answer or "").split())[:60])
    lines = ["| family | anchor | said | rollouts | an answer |", "|---|---|---|---|---|"]
    return lines + [
        f"| {family} | {source or 'of an equal answer'} | {said} | {count} | {example[family, source, said]} |"
        for (family, source, said), count in found.most_common()
    ]


def workers(told: Sequence[Told]) -> list[str]:
    """Whether labels tell the right worker: the one with the highest mean label of a query, beside what is possible."""

    def mean_right(choose: Choose, queries: Sequence[Told]) -> float:
        gained: list[float] = []
        for one in queries:
            groups = grouped(one.rows)
            gained.append(np.mean([np.mean([row.right for row in groups[name]]) for name in choose(groups)]).item())
        return float(np.mean(gained)) if gained else NAN

    def by(value: Callable[[Row], float]) -> Choose:
        def choose(groups: Mapping[WorkerName, list[Row]]) -> list[WorkerName]:
            means = {name: float(np.mean([value(row) for row in rows])) for name, rows in groups.items()}
            top = max(means.values())
            return [name for name, mean in means.items() if mean >= top - 1e-9]

        return choose

    choices: list[tuple[str, Choose]] = [
        ("any", list),
        ("highest mean label, fresh", by(lambda row: row.fresh.probability)),
        ("highest mean label, learned", by(lambda row: row.label.probability)),
        ("best", by(lambda row: float(row.right))),
    ]
    lines = ["| queries | n | worker of the query | mean right |", "|---|---|---|---|"]
    # A family with a check of its value on fewer than a tenth of its rollouts counts as one without.
    share: dict[str, float] = {}
    for family in {one.query.family for one in told}:
        rows = rows_of([one for one in told if one.query.family == family])
        valued = [row for row in rows if row.label.anchored and not _form_alone(row)]
        share[family] = len(valued) / len(rows)
    kept = [one for one in told if one.reported]
    for name, queries in (
        ("of families with anchors", [one for one in kept if share[one.query.family] >= 0.1]),
        ("of families without", [one for one in kept if share[one.query.family] < 0.1]),
    ):
        for title, choose in choices if queries else ():
            lines.append(f"| {name} | {len(queries)} | {title} | {interval(queries, partial(mean_right, choose))} |")
        by_worker: dict[tuple[str, WorkerName], list[Row]] = defaultdict(list)
        for one in queries:
            for worker, rows in grouped(one.rows).items():
                by_worker[one.query.family, worker] += rows
        if len(by_worker) > 2:
            for title, fresh in (("fresh", True), ("learned", False)):
                pairs = [
                    tuple(float(column.mean()) for column in numbers(rows, fresh=fresh)) for rows in by_worker.values()
                ]
                related = np.corrcoef(np.array(pairs).T)[0, 1]
                lines.append(
                    f"| {name} | {len(pairs)} family × worker | correlation of mean label ({title}) and right | "
                    f"{related:.2f} |"
                )
    return lines


def grouped(rows: Sequence[Row]) -> dict[WorkerName, list[Row]]:
    """By worker."""
    found: dict[WorkerName, list[Row]] = {}
    for row in rows:
        found.setdefault(row.worker, []).append(row)
    return found


def state(noise: NoiseModel) -> list[str]:
    """What the noise model came to."""
    weights = ", ".join(f"{value:.2f}" for value in noise.weights)
    offsets = ", ".join(f"{name} {value:+.2f}" for name, value in noise.offsets().items())
    lines = [
        f"{noise.seen} anchored items; people are believed at {noise.people:.3f}. Intercept, agreement, constancy, "
        f"sources: {weights}. Offsets: {offsets}.",
        "",
        "| source | sensitivity | specificity |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {first:.2f} | {second:.2f} |" for name, (first, second) in noise.sources().items()]
    if (audited := noise.audited()) is not None:
        lines += [
            "",
            f"Against the anchors of audit episodes alone, as a live system sees it: {audited.rollouts} rollouts, "
            f"unanchored labels on the anchor's side {audited.accuracy:.1%}, calibration error "
            f"{audited.calibration_error:.3f}.",
        ]
    return lines


def _form_alone(row: Row) -> bool:
    votes = [vote for vote in row.drawn.evidence if vote.tier.anchored and vote.outcome != "unscored"]
    return all(vote.source == "constraints" for vote in votes)


def _mean(values: Reals) -> str:
    return f"{values.mean():.2f}" if len(values) else "–"


def _or_dash(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    arguments = parser.parse_args()
    queries = bank_queries(arguments.folder)
    router, generator = prior_router(), np.random.default_rng(0)
    routes = [router.route(query.features, generator=generator, rollouts=ROLLOUTS) for query in queries]
    sorts = Counter(query.sort for query in queries)
    print(f"{len(queries)} queries: " + ", ".join(f"{sorts[sort]} {sort}" for sort in SORTS))
    for title, spread in (("The untrained router's eight rollouts", False), ("Every worker", True)):
        episodes: list[tuple[BankQuery, SeenEpisode, list[Drawn]]] = []
        for query, route in zip(queries, routes, strict=True):
            allocation = {name: len(drawn) for name, drawn in query.drawn.items()} if spread else route.allocation
            episode, drawn = query.episode(
                allocation, probabilities=route.probabilities, propensities=route.propensities
            )
            episodes.append((query, episode, drawn))
        told, noise = labelled(episodes)
        sections = {
            "": overall(told),
            "The noise model after the stream": state(noise),
            "Unanchored labels": bins(told),
            "Families": by_family(told),
            "Where an anchor and the scorer differ": disagreements(told),
        }
        if spread:
            sections["Do labels tell the worker?"] = workers(told)
        print(f"\n## {title}")
        for name, lines in sections.items():
            print(f"\n### {name}\n" if name else "")
            print("\n".join(lines))


if __name__ == "__main__":
    main()
