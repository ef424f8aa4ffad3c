"""What the numbers of `layer_entropies.py score` tell of which rollouts of a query are right, in tables.

Each number alone, and logistic regressions that are taught what is right: an upper bound on what labels of any other
source would give. They are cross-validated, by query or by family (no query of a family that was trained on), and how
strongly they are held back is chosen within the training part. Every feature is its deviation from the mean of the
query's answered rollouts, as in the reward model; the columns of the "worker" group stand for the worker's record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.layer_entropies import PLACES, is_mixed
from benchmarks.learning_prm import Measure, auroc, per_query, same_worker, told
from benchmarks.prm_contenders import Case, case_of
from benchmarks.replay import BankQuery
from kaelum_graph.learning.prm_features import (
    AGREEMENT_COLUMNS,
    SCALAR_COLUMNS,
    TEXT_COLUMNS,
    Doubles,
    describe,
    known_mean,
)
from kaelum_graph.types import Json, WorkerName
from kaelum_graph.workers import all_workers

FOLDS, INNER_FOLDS = 10, 3
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Of the data against the prior: scikit-learn's `C`."""
COMPONENTS = 32
"""Of a group of embeddings or states, fitted on the training part."""
WIDE = ("text", "hidden")
BASES: Mapping[str, tuple[str, ...]] = {
    "nothing else": (),
    "scalars": ("scalars",),
    "scalars, worker": ("scalars", "worker"),
    "all without agreement": ("scalars", "cosines", "text", "hidden", "worker"),
    "all": ("scalars", "cosines", "text", "hidden", "worker", "agreement"),
}
LENSES: Mapping[str, tuple[str, ...]] = {
    "entropies after steps": ("entropy after",),
    "entropies and divergences after steps": ("entropy after", "divergence after"),
    "the same before their last tokens too": (
        "entropy after", "divergence after", "entropy before", "divergence before",
    ),
}  # fmt: skip
GROUPS = tuple(dict.fromkeys(group for groups in (*BASES.values(), *LENSES.values()) for group in groups))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The answered rollouts of all queries, one a row. `groups` `[N, ...]` are deviations within the query, 0 where a
    number isn't known; `lens` has each lens number by name, NaN where it isn't."""

    cases: list[Case]
    query: NDArray[np.int64]
    family: NDArray[np.int64]
    right: NDArray[np.bool_]
    groups: Mapping[str, Doubles]
    lens: Mapping[str, Doubles]
    layers: list[int]

    def by_case(self, scores: Doubles) -> list[Doubles]:
        """Scores of rows as scores of all rollouts of each case; 0 without an answer."""
        found: list[Doubles] = []
        for index, case in enumerate(self.cases):
            spread = np.zeros(len(case.right))
            spread[case.clusters >= 0] = scores[self.query == index]
            found.append(spread)
        return found


def table_of(found: Sequence[BankQuery], lines: Sequence[Json]) -> Table:
    """The mixed queries that were read with every worker. Raises `ValueError` where there are none."""
    names = list(all_workers())
    known = {(line["query"], line["worker"]): line for line in lines}
    queries = [one for one in found if is_mixed(one) and all((one.name, name) in known for name in names)]
    if len({tuple(line["layers"]) for line in lines}) != 1 or not queries:
        raise ValueError("no query was read with every worker, or not all with the same layers")
    families = sorted({one.family for one in queries})
    cases = [case_of(one, names) for one in queries]
    able = [case.clusters >= 0 for case in cases]
    parts = [_groups(case, names, which) for case, which in zip(cases, able, strict=True)]
    read = [
        [known[query.name, name]["rollouts"][place] for name in names for place in range(len(query.drawn[name][:4]))]
        for query in queries
    ]
    layers: list[int] = lines[0]["layers"]
    numbers = [
        [_lens(one, layers) for one, answer in zip(rollouts, which, strict=True) if answer]
        for rollouts, which in zip(read, able, strict=True)
    ]
    columns = list(numbers[0][0])
    for part, rows in zip(parts, numbers, strict=True):
        for kind in ("entropy", "divergence"):
            for place in PLACES:
                chosen = [name for name in columns if name.startswith(kind) and f" {place} " in name]
                part[f"{kind} {place}"] = np.array([[row[name] for name in chosen] for row in rows])
    return Table(
        cases=cases,
        query=np.repeat(np.arange(len(cases)), [which.sum() for which in able]),
        family=np.repeat([families.index(one.family) for one in queries], [which.sum() for which in able]),
        right=np.concatenate([case.right[which] for case, which in zip(cases, able, strict=True)]),
        groups={group: np.concatenate([_deviations(part[group]) for part in parts]) for group in GROUPS},
        lens={name: np.array([row[name] for rows in numbers for row in rows]) for name in columns},
        layers=layers,
    )


def _groups(case: Case, names: Sequence[WorkerName], able: NDArray[np.bool_]) -> dict[str, Doubles]:
    """The reward model's features of the answered rollouts, each the mean over a rollout's steps."""
    steps = [
        one for one, which in zip(describe(case.episode.features, case.episode.rollouts), able, strict=True) if which
    ]
    raw = np.array([known_mean(one.raw) for one in steps])
    return {
        "scalars": raw[:, SCALAR_COLUMNS],
        "cosines": raw[:, TEXT_COLUMNS],
        "agreement": raw[:, AGREEMENT_COLUMNS],
        "text": np.array([known_mean(one.text) for one in steps]),
        "hidden": np.array([known_mean(one.states) for one in steps]),
        "worker": np.eye(len(names))[case.workers[able]],
    }


def _lens(rollout: Json | None, layers: Sequence[int]) -> dict[str, float]:
    """Every lens number of a rollout: its mean over the steps, and the last step's."""
    found: dict[str, float] = {}
    for kind in ("entropy", "divergence"):
        # The output's divergence from itself is 0.
        for index, layer in enumerate(layers if kind == "entropy" else layers[:-1]):
            for place in PLACES:
                rows = [] if rollout is None else [row[index] for row in rollout[place][kind] if row is not None]
                found[f"{kind} {layer} {place} mean"] = float(np.mean(rows)) if rows else np.nan
                found[f"{kind} {layer} {place} last"] = rows[-1] if rows else np.nan
    return found


def _deviations(table: Doubles) -> Doubles:
    return np.nan_to_num(table - known_mean(table))


def cross_validated(table: Table, groups: Sequence[str], units: NDArray[np.int64], *, seed: int) -> Doubles:
    """`[N]`: what a logistic regression on these groups says of rows of `units` that it was not trained on."""
    from sklearn.model_selection import GroupKFold

    scores = np.zeros(len(table.right))
    folds = min(FOLDS, len(np.unique(units)))
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(scores, groups=units):
        columns = np.concatenate([_fitted(table.groups[group], train, group in WIDE) for group in groups], axis=1)
        inner = GroupKFold(INNER_FOLDS, shuffle=True, random_state=seed)
        parts = list(inner.split(train, groups=units[train]))

        def quality(
            strength: float,
            columns: Doubles = columns,
            train: NDArray[np.int64] = train,
            parts: list[Any] = parts,
        ) -> float:
            said = np.zeros(len(table.right))
            for learn, held in parts:
                said[train[held]] = _taught(table, columns, train[learn], strength)[train[held]]
            inside = set(table.query[train].tolist())
            values = [auroc(one, table.cases[at]) for at, one in enumerate(table.by_case(said)) if at in inside]
            return float(np.mean(values))

        best = max(STRENGTHS, key=quality)
        scores[test] = _taught(table, columns, train, best)[test]
    return scores


def _fitted(columns: Doubles, train: NDArray[np.int64], wide: bool) -> Doubles:
    """Columns of unit variance on the training rows; of wide groups, their first components there."""
    from sklearn.decomposition import PCA

    if wide:
        made: Any = PCA(min(COMPONENTS, len(train), columns.shape[1]), random_state=0).fit(columns[train])
        columns = made.transform(columns)
    return np.clip(columns / columns[train].std(axis=0).clip(min=1e-9), -5, 5)


def _taught(table: Table, columns: Doubles, train: NDArray[np.int64], strength: float) -> Doubles:
    """`[N]` log-odds of a regression taught by the true labels of `train`, each query with equal weight."""
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(table.query[train], minlength=len(table.cases))
    weights = 1.0 / counts[table.query[train]]
    model: Any = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
    model.fit(columns[train], table.right[train], sample_weight=weights * len(weights) / weights.sum())
    return model.decision_function(columns)


def report(found: Sequence[BankQuery], lines: Sequence[Json], *, repeats: int = 2) -> None:
    """Print all tables in Markdown: figure (95% bootstrap interval over queries; queries)."""
    table = table_of(found, lines)
    sorts = [case.query.sort for case in table.cases]
    told_sorts = ", ".join(f"{sorts.count(sort)} {sort}" for sort in dict.fromkeys(sorts))
    seconds, tokens = sum(line["seconds"] for line in lines), sum(line["tokens"] for line in lines)
    print(f"{len(table.cases)} mixed queries ({told_sorts}), {len(table.right)} answered rollouts")
    print(f"{tokens} tokens read in {seconds:.0f} s; {agreement(lines)}")
    print("\nEach number alone, the lower the better: within-query AUROC\n")
    print(
        "| | "
        + " | ".join(f"{place}, {way}" for place in PLACES for way in ("mean", "last"))
        + " |\n|---|---|---|---|---|"
    )
    for row in dict.fromkeys(tuple(name.split()[:2]) for name in table.lens):
        cells = [
            told(_values(table, [-np.nan_to_num(table.lens[f"{row[0]} {row[1]} {place} {way}"])], auroc))
            for place in PLACES
            for way in ("mean", "last")
        ]
        print(f"| {row[0]}, layer {row[1]} | " + " | ".join(cells) + " |")
    print("\nLogistic regressions taught what is right: within-query AUROC, and what the lens adds\n")
    print("| | by query | gain | by query, same worker | gain | by family | gain |\n" + "|---" * 7 + "|")
    for base, groups in BASES.items():
        before: list[Doubles] = []
        for lens, added in ({"": ()} | dict(LENSES)).items():
            if not groups and not added:
                continue
            by_query, by_family = (
                [cross_validated(table, (*groups, *added), units, seed=seed) for seed in range(repeats)]
                for units in (table.query, table.family)
            )
            measured = [
                _values(table, by_query, auroc),
                _values(table, by_query, same_worker),
                _values(table, by_family, auroc),
            ]
            cells: list[str] = []
            for index, values in enumerate(measured):
                cells += [told(values), told(values - before[index], signed=True) if before else ""]
            before = before or (measured if not added else [])
            print(f"| {base}{f' + {lens}' if lens else ''} | " + " | ".join(cells) + " |", flush=True)


def _values(table: Table, runs: Sequence[Doubles], measure: Measure) -> Doubles:
    return per_query([table.by_case(scores) for scores in runs], table.cases, measure)


def agreement(lines: Sequence[Json]) -> str:
    """How near the output's entropies lie to those that were noted as the tokens were drawn."""
    pairs: list[tuple[float, float]] = []
    for line in lines:
        for rollout in line["rollouts"]:
            if rollout is not None:
                both = zip(rollout["before"]["entropy"], rollout["recorded"], strict=True)
                pairs += [(row[-1], noted) for row, noted in both if row is not None and noted is not None]
    made, noted = np.array(pairs).T
    gap = np.abs(made - noted)
    return (
        f"entropies beside those noted when drawn: correlation {np.corrcoef(made, noted)[0, 1]:.4f}, "
        f"median gap {np.median(gap):.4f}, 95% within {np.quantile(gap, 0.95):.3f} nats, {len(pairs)} steps"
    )
