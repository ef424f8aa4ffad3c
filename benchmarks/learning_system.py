"""The whole system frozen after so many queries of a stream, asked queries that it never saw, at equal tokens.

    python benchmarks/learning_system.py --folder bench-results/bank --budgets 4 8

The stream is replayed from the rollout bank in random orders. Each query is routed by the policy of that moment (budget
8, guests included), its rollouts are drawn from the bank, and every component learns from the evidence; where a
worker's recorded rollouts are used up, the rest go to the next workers of the ranking. After 0, 50, 100, 200 and 400
queries everything is frozen and asked the held-out queries of the streamed families and all queries of the families
that are never streamed, with each of the `--budgets` at most.

Every figure is of the same queries. "Equal tokens": the untrained system is given the smallest budget at which its mean
tokens a query reach those of the learned one, so that ties go to the untrained. `right` is the benchmark's scorer's
word; nothing learns from it.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import BankQuery, Drawn, bank_queries, prior_router
from kaelum_graph.calibration import VoteCalibration, Votes
from kaelum_graph.clusters import Cluster, cluster
from kaelum_graph.evidence import Evidence, ModelScore
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.router_learner import RouterLearner
from kaelum_graph.learning.service import new_state
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.learning.stop_head import StopHead
from kaelum_graph.learning.stop_looks import look_at, look_times
from kaelum_graph.measurements import confidences
from kaelum_graph.posterior import Standing, representative_candidate, vote_weights, weigh
from kaelum_graph.reward import path_score
from kaelum_graph.router import Router
from kaelum_graph.types import Candidate, RolloutId, WorkerName

BUDGET, FIRST_WAVE, LARGEST_WAVE = 8, 4, 16
CHECKPOINTS = (0, 50, 100, 200, 300, 400, 500)
BUDGETS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24)
VARIANTS = {
    "untrained": (False, False, False),
    "router": (True, False, False),
    "reward model": (False, True, False),
    "router and reward model": (True, True, False),
    "all, stop head too": (True, True, True),
}
"""Which parts of what was learned are used: the router, the reward model in the vote, the stop head."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How one query went: whether the answer given is right, and the tokens it took."""

    right: bool
    tokens: int


def drawn_for(query: BankQuery, allocation: Mapping[WorkerName, int], ranking: Sequence[WorkerName]) -> list[Drawn]:
    """The rollouts of an allocation, interleaved as waves draw them; what a worker lacks goes to the next ones."""
    shares, over = dict(allocation), 0
    for name, share in allocation.items():
        have = len(query.drawn[name])
        shares[name], over = min(share, have), over + max(0, share - have)
    for name in ranking:
        more = min(over, len(query.drawn[name]) - shares.get(name, 0))
        if more > 0:
            shares[name], over = shares.get(name, 0) + more, over - more
    left = {name: share for name, share in shares.items() if share}
    picked: list[Drawn] = []
    while any(left.values()):
        name = max(left, key=lambda one: left[one] / shares[one])
        picked.append(query.drawn[name][shares[name] - left[name]])
        left[name] -= 1
    return picked


def routed(
    query: BankQuery, router: Router, *, budget: int, generator: np.random.Generator, id: str = ""
) -> tuple[SeenEpisode, list[Drawn]]:
    """The episode of a search with this router, and its rollouts."""
    route = router.route(query.features, generator=generator, rollouts=budget)
    picked = drawn_for(query, route.allocation, list(route.probabilities))
    seen = query.episode_of(
        picked, route.allocation, probabilities=route.probabilities, propensities=route.propensities, id=id
    )
    return seen, picked


@dataclass(frozen=True, eq=False)
class Voted:
    """The votes of a query's rollouts, weighed by the reward model where there is one with weight."""

    candidates: Sequence[Candidate]
    groups: Sequence[Cluster]
    evidence: Sequence[tuple[Evidence, ...]]
    scores: Sequence[ModelScore | None]
    weights: Sequence[float] | None

    @classmethod
    def of(cls, query: BankQuery, episode: SeenEpisode, picked: Sequence[Drawn], model: RewardModel | None) -> Voted:
        """As the product's *verify* makes them; before there is a reward model, likelihood orders what is level."""
        scores, weights = [likelihood(one) for one in picked], None
        if model is not None and model.skill().weight > 0:
            read = model.score(query.features, episode.rollouts)
            # Rollouts without an answer don't vote.
            scores = [
                ModelScore(source="prm", value=model.path(steps)) if one.answer is not None else None
                for steps, one in zip(read, picked, strict=True)
            ]
            weights = vote_weights(scores, trust=model.skill().weight)
        return cls(
            candidates=[
                Candidate(rollout_id=RolloutId(index), worker=one.worker, text=one.text, answer=one.answer)
                for index, one in enumerate(picked)
            ],
            groups=cluster([one.answer for one in picked]),
            evidence=[one.evidence for one in picked],
            scores=scores,
            weights=weights,
        )

    def standings(self, calibrate: Callable[[float, float], float] | None = None) -> list[Standing]:
        """The answers, the one that is given first."""
        return weigh(
            self.groups, self.candidates, self.evidence,
            scores=self.scores, weights=self.weights, calibrate=calibrate,
        )  # fmt: skip

    def answer(self, calibrate: Callable[[float, float], float] | None = None) -> int | None:
        """The rollout whose answer is given; None without any."""
        if not self.groups:
            return None
        best = self.standings(calibrate)[0]
        shown = representative_candidate(best, self.candidates, self.scores, evidence_by_candidate=self.evidence)
        return int(shown.rollout_id)

    def told(self) -> list[Votes]:
        """What a calibration learns: confidences without anchored votes, and what those then said."""
        return confidences(self.groups, self.candidates, self.evidence, weights=self.weights)


def likelihood(one: Drawn) -> ModelScore | None:
    """The mean likelihood of a rollout's steps."""
    return path_score([None if np.isnan(value) else float(np.exp(value)) for value in one.features.scalars[:, 0]])


def asked(
    queries: Sequence[BankQuery],
    router: Router,
    *,
    budget: int,
    model: RewardModel | None = None,
    calibrate: Callable[[float, float], float] | None = None,
    stop: StopHead | None = None,
) -> list[Answered]:
    """How the frozen parts do on these queries; every variant draws with the same random numbers."""
    found: list[Answered] = []
    for number, query in enumerate(queries):
        episode, picked = routed(query, router, budget=budget, generator=np.random.default_rng([7, number]))
        used = len(picked)
        for count in look_times(len(picked), first=FIRST_WAVE, most=LARGEST_WAVE):
            look = look_at(episode.rollouts[:count], budget=len(picked))
            if look.verified or (stop is not None and stop.should_stop(look)):
                used = count
                break
        if used < len(picked):
            picked = picked[:used]
            episode = query.episode_of(
                picked, episode.allocation, probabilities=episode.probabilities, propensities=episode.propensities
            )
        given = Voted.of(query, episode, picked, model).answer(calibrate)
        right = given is not None and picked[given].right
        found.append(Answered(right, sum(one.tokens for one in picked)))
    return found


def learned_router(state: LearnedState) -> Router:
    """A router of its own with what the state has learned."""
    router = copy.copy(prior_router())
    router.network = copy.deepcopy(router.network)
    state.component(RouterLearner).install(router)
    return router


@dataclass(frozen=True, eq=False)
class Frozen:
    """What was learned, and what checks told of the confidences of votes."""

    state: LearnedState
    told: Sequence[Votes]

    @cached_property
    def calibration(self) -> VoteCalibration:
        """What those confidences have been worth."""
        return VoteCalibration(self.told)


def stream(
    queries: Sequence[BankQuery], order: Sequence[int], checkpoints: Sequence[int], *, number: int
) -> dict[int, Frozen]:
    """What is learned from the stream in that order, frozen at the checkpoints."""
    state, frozen = new_state(prior_router()), dict[int, Frozen]()
    told: list[Votes] = []
    router = copy.copy(prior_router())
    router.network = copy.deepcopy(router.network)
    for count in range(len(order) + 1):
        if count in checkpoints:
            frozen[count] = Frozen(state.copy(), tuple(told))
        if count == len(order):
            break
        state.component(RouterLearner).install(router)
        query = queries[order[count]]
        generator = np.random.default_rng([11, number, count])
        # An id of its own in every order: what is an audit, or held out, is drawn by it.
        episode, picked = routed(query, router, budget=BUDGET, generator=generator, id=f"{query.name} {number}")
        if not episode.audit:
            told += Voted.of(query, episode, picked, state.component(RewardModel)).told()
        # As in a live system: audits train nothing, and held-out episodes no component that must prove itself.
        state.apply(LearningEvent(sequence=count + 1, kind="episode", episode_id=episode.id, episode=episode))
    return frozen


def interval(values: np.ndarray, *, resamples: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of the mean of `values` `[Q]`, one a query."""
    chance = np.random.default_rng(0)
    means = values[chance.integers(0, len(values), (resamples, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


@dataclass(frozen=True, kw_only=True, eq=False)
class Asking:
    """What every variant made of the same queries after so many streamed ones, of each order `[Q]`."""

    right: Sequence[np.ndarray]
    gains: Sequence[np.ndarray]
    tokens: Sequence[np.ndarray]

    @classmethod
    def of(
        cls, queries: Sequence[BankQuery], known: Frozen, ladder: Mapping[int, Sequence[Answered]], *, budget: int
    ) -> dict[str, Asking]:
        """One order's, by variant. `ladder`: the untrained system at every budget."""
        router, state, found = learned_router(known.state), known.state, dict[str, Asking]()
        for name, (with_router, with_model, with_stop) in VARIANTS.items():
            made = asked(
                queries,
                router if with_router else prior_router(),
                budget=budget,
                model=state.component(RewardModel) if with_model else None,
                calibrate=known.calibration if with_model else None,
                stop=state.component(StopHead) if with_stop else None,
            )
            spent = float(np.mean([one.tokens for one in made]))
            equal = next(
                (one for one in ladder.values() if np.mean([each.tokens for each in one]) >= spent), ladder[BUDGETS[-1]]
            )
            right, base = (np.array([one.right for one in answered], dtype=float) for answered in (made, equal))
            tokens = np.array([one.tokens for one in made], dtype=float)
            found[name] = cls(right=[right], gains=[right - base], tokens=[tokens])
        return found

    def plus(self, other: Asking) -> Asking:
        """Both one's orders."""
        return Asking(
            right=[*self.right, *other.right],
            gains=[*self.gains, *other.gains],
            tokens=[*self.tokens, *other.tokens],
        )

    def row(self, places: Sequence[int]) -> dict[str, float]:
        """The figures over some of the queries: each query's mean over the orders, resampled."""
        gain = np.mean(self.gains, axis=0)[places]
        low, high = interval(gain)
        right, tokens = (float(np.mean(values, axis=0)[places].mean()) for values in (self.right, self.tokens))
        return {"right": right, "gain": float(gain.mean()), "low": low, "high": high, "tokens": tokens}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One cell: `gain` is over the untrained system at equal tokens, `low` to `high` its 95% interval."""

    budget: int
    sort: str
    queries: int
    variant: str
    right: float
    gain: float
    low: float
    high: float
    tokens: float


def plot(figures: Sequence[Figure], path: Path) -> None:
    """The learning curves of the router and reward model together, by budget: points gained, and tokens spent."""
    drawn = [one for one in figures if one.variant == "router and reward model"]
    sorts = list(dict.fromkeys(one.sort for one in drawn))
    shape, (above, below) = plt.subplots(
        2, len(sorts), figsize=(11, 6), sharex=True, sharey="row", layout="constrained"
    )
    for column, sort in enumerate(sorts):
        for number, budget in enumerate(dict.fromkeys(one.budget for one in drawn)):
            curve = [one for one in drawn if (one.sort, one.budget) == (sort, budget)]
            counts = [one.queries for one in curve]
            colour, name = f"C{number}", f"{budget} rollouts at most"
            above[column].plot(counts, [100 * one.gain for one in curve], "o-", color=colour, markersize=3, label=name)
            above[column].fill_between(
                counts, [100 * one.low for one in curve], [100 * one.high for one in curve], color=colour, alpha=0.12
            )
            below[column].plot(counts, [one.tokens for one in curve], "o-", color=colour, markersize=3)
        above[column].axhline(0, color="grey", linewidth=0.8)
        above[column].set_title(sort)
        below[column].set_xlabel("queries learned from")
    above[0].set_ylabel("points over untrained, equal tokens")
    below[0].set_ylabel("tokens a query")
    below[0].set_ylim(bottom=0)
    above[0].legend(fontsize=8)
    shape.savefig(path, dpi=120)
    plt.close(shape)


def main() -> None:
    """Learn, freeze, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--orders", type=int, default=20, help="random orders of the stream")
    parser.add_argument("--budgets", type=int, nargs="+", default=[BUDGET], help="rollouts at most a query when asked")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    everything = bank_queries(arguments.folder)
    streamed = [query for query in everything if query.sort == "stream"]
    others = [query for query in everything if query.sort != "stream"]
    checkpoints = [count for count in CHECKPOINTS if count <= len(streamed)]
    print(f"{len(streamed)} streamed queries; asked: {len(others)}, {arguments.orders} orders\n")
    # The untrained system at every budget: what it does with as many tokens as the learned one took.
    ladder = {budget: asked(others, prior_router(), budget=budget) for budget in BUDGETS}
    found: dict[tuple[int, int, str], Asking] = {}
    for number in range(arguments.orders):
        order = np.random.default_rng([5, number]).permutation(len(streamed)).tolist()
        for count, known in stream(streamed, order, checkpoints, number=number).items():
            for budget in arguments.budgets:
                for name, made in Asking.of(others, known, ladder, budget=budget).items():
                    key = (budget, count, name)
                    found[key] = found[key].plus(made) if key in found else made
        print(f"# order {number + 1} done", file=sys.stderr, flush=True)
    sorts = {
        "all": list(range(len(others))),
        "held out": [index for index, query in enumerate(others) if query.sort == "held out"],
        "unseen families": [index for index, query in enumerate(others) if query.sort == "unseen"],
    }
    figures: list[Figure] = []
    for budget in arguments.budgets:
        for sort, places in sorts.items():
            print(f"\n**{sort}**, {len(places)} queries, budget {budget}\n")
            print("| learned from | " + " | ".join(VARIANTS) + " |")
            print("|---|" + "---|" * len(VARIANTS))
            for count in checkpoints:
                cells: list[str] = []
                for name in VARIANTS:
                    row = found[budget, count, name].row(places)
                    points = f"{row['gain'] * 100:+.1f} ({row['low'] * 100:+.1f} to {row['high'] * 100:+.1f})"
                    cells.append(f"{row['right']:.1%}; {points}; {row['tokens']:.0f}")
                    figures.append(Figure(budget=budget, sort=sort, queries=count, variant=name, **row))
                print(f"| {count} | " + " | ".join(cells) + " |")
    print(
        "\nEach cell: right; points over the untrained system at equal tokens with its 95% interval over queries; "
        "mean tokens a query."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in figures], indent=1), encoding="utf-8")
    arguments.images.mkdir(parents=True, exist_ok=True)
    plot(figures, arguments.images / "whole-system.png")


if __name__ == "__main__":
    main()
