"""What people's ratings change about routing: simulated people, who err, rate 50 answers of a stream from the bank.

    python benchmarks/learning_feedback.py --folder bench-results/bank            # the report; minutes
    python benchmarks/learning_feedback.py --folder bench-results/bank --tune     # the scale, on even stream queries

A person is honest in 4 of 5 ratings: scores the answer 1 or 0 as it is right or wrong, and names the worker that is
best at such questions, be it the one that answered or another. In 1 of 5 the score is the wrong one and so is the
worker. Where no worker is better than the rest, none is named. Each arm runs its own stream, with the routes that
follow from what it has learned, over the same orders of queries:

    nothing             the untrained router
    deltas              reward deltas alone
    evidence            the learning router, from machine checks alone
    evidence + H        the same, the ratings being evidence too
    evidence + H + deltas

"Router right" is the share of queries whose most probable worker has the best accuracy there, among queries on which
the workers differ; "worth" is the accuracy of that worker; "family right" asks for the best worker of the query's
family. None of the queries that are asked about were rated in that order, and none is one of the even half of the
stream, on which the constants were chosen. Intervals: 95%, bootstrap over queries.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import BankQuery, bank_queries, prior_router
from kaelum_graph.clusters import cluster
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.deltas import RewardDeltas
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.router_learner import RouterLearner, new_network
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.posterior import representative_candidate, weigh
from kaelum_graph.router import DELTA_SCALE, Route, Router
from kaelum_graph.types import Array, Candidate, EpisodeId, RolloutId, WorkerName

BUDGET = 8
LOOKS = (0, 5, 10, 25, 50)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What learns. `scale` is in logits for a delta of 1."""

    name: str
    evidence: bool = False
    ratings: bool = False
    deltas: bool = False
    scale: float = DELTA_SCALE


ARMS = (
    Arm(name="nothing"),
    Arm(name="deltas", deltas=True),
    Arm(name="evidence", evidence=True),
    Arm(name="evidence + H", evidence=True, ratings=True),
    Arm(name="evidence + H + deltas", evidence=True, ratings=True, deltas=True),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """Each worker's accuracy on a query and on its family. For people and for evaluation alone."""

    query: Mapping[WorkerName, float]
    family: Mapping[WorkerName, float]

    @property
    def differ(self) -> bool:
        """Whether it matters who is asked."""
        return len(set(self.query.values())) > 1

    def best(self) -> list[WorkerName]:
        """The workers of the best accuracy on the query."""
        return [name for name, value in self.query.items() if value == max(self.query.values())]


class Policy:
    """What one arm has learned, and the routes that follow from it."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.router: Router = copy.copy(prior_router())
        self.router.network = new_network(len(self.router.workers))
        noise = NoiseModel()
        self.learner = RouterLearner.of(self.router, noise)
        self.deltas = RewardDeltas()
        self.state = LearnedState([noise, self.learner, self.deltas] if arm.evidence else [self.deltas])

    def route(self, query: BankQuery, generator: np.random.Generator) -> Route:
        """The route of a query as it would be drawn now."""
        return self.router.route(query.features, generator=generator, rollouts=BUDGET, deltas=self._deltas(query))

    def tops(self, queries: Sequence[BankQuery]) -> list[WorkerName]:
        """The most probable worker of each query, as `Router.probabilities` has it, all in one batch."""
        features, priors = np.stack([one.features for one in queries]), np.stack([prior_of(one) for one in queries])
        network = self.router.network
        with torch.inference_mode():
            given = torch.from_numpy(features)
            logits = network.policy_logits(given, network(given)[0], torch.from_numpy(priors)).numpy()
        names = self.router.workers
        added = [[self._deltas(query).get(name, 0.0) for name in names] for query in queries]
        return [names[place] for place in (logits + DELTA_SCALE * np.array(added)).argmax(axis=1)]

    def learn(self, episode: SeenEpisode, rating: Feedback) -> None:
        """Take in an answered query, then what a person said of it."""
        at = self.state.position
        self.state.apply(LearningEvent(sequence=at + 1, kind="episode", episode_id=episode.id, episode=episode))
        change = FeedbackChange(sequence=at + 2, at=0.0, before=None, after=rating)
        if self.arm.ratings or not self.arm.evidence:
            ratings = (rating,)
            self.state.apply(
                LearningEvent(
                    sequence=at + 2, kind="feedback", episode_id=episode.id, episode=episode, change=change,
                    ratings=ratings,
                )
            )  # fmt: skip
        if self.arm.evidence:
            self.learner.install(self.router)

    def _deltas(self, query: BankQuery) -> Mapping[WorkerName, float]:
        if not self.arm.deltas:
            return {}
        found = self.deltas.worker_deltas(query.features)
        return {name: value * self.arm.scale / DELTA_SCALE for name, value in found.items()}


@cache
def prior_of(query: BankQuery) -> Array:
    """`[W]` prior logits."""
    return prior_router().prior(query.features)


def answered(query: BankQuery, route: Route, name: str, generator: np.random.Generator) -> tuple[SeenEpisode, bool]:
    """The episode of a search along `route`, with the answer it gives; and whether that is right."""
    picked = [
        query.drawn[worker][place]
        for worker, count in route.allocation.items()
        for place in generator.permutation(len(query.drawn[worker]))[:count]
    ]
    episode = query.episode_of(
        picked, route.allocation, probabilities=route.probabilities, propensities=route.propensities, id=name
    )
    candidates = [
        Candidate(rollout_id=RolloutId(place), worker=one.worker, text=one.text, answer=one.answer)
        for place, one in enumerate(picked)
    ]
    groups = cluster([one.answer for one in picked])
    if not groups:
        return episode, False
    standing = weigh(groups, candidates, [one.evidence for one in picked])[0]
    shown = representative_candidate(standing, candidates, evidence_by_candidate=[one.evidence for one in picked])
    chosen = groups.index(standing.cluster)
    return replace(episode, chosen=chosen, shown=int(shown.rollout_id)), picked[shown.rollout_id].right


def said(
    episode: SeenEpisode, right: bool, truth: Truth, generator: np.random.Generator, *, honesty: float
) -> Feedback:
    """What a simulated person says of an answer."""
    honest = bool(generator.random() < honesty)
    best = max(truth.family, key=lambda name: truth.family[name])
    others = [name for name in truth.family if truth.family[name] < truth.family[best]]
    suggested: WorkerName | None = None
    if others:
        suggested = best if honest else others[generator.integers(len(others))]
    score = 1.0 if right == honest else 0.0
    return Feedback(id=f"of {episode.id}", episode_id=episode.id, score=score, worker=suggested, source="cli")


def run(
    arm: Arm,
    queries: Sequence[BankQuery],
    truths: Sequence[Truth],
    stream: Sequence[int],
    order: int,
    asked: Values,
    *,
    honesty: float,
) -> Values:
    """`[looks, queries, 3]`: right, worth and family right at each look, the last after the whole stream.

    NaN where `asked` is 0.
    """
    policy, generator = Policy(arm), np.random.default_rng([order, 7])
    looks = looks_at(len(stream))
    found = np.full((len(looks), len(queries), 3), np.nan)
    for step in range(len(stream) + 1):
        if step in looks:
            places: list[int] = np.flatnonzero(asked).tolist()
            for place, top in zip(places, policy.tops([queries[at] for at in places]), strict=True):
                truth = truths[place]
                if truth.differ:
                    found[looks.index(step), place, 0] = top in truth.best()
                    family_best = max(truth.family.values())
                    found[looks.index(step), place, 2] = truth.family[top] >= family_best - 1e-9
                found[looks.index(step), place, 1] = truth.query[top]
        if step < len(stream):
            query, truth = queries[stream[step]], truths[stream[step]]
            name = EpisodeId(f"{order} {query.name}")
            episode, right = answered(query, policy.route(query, generator), name, generator)
            rating = said(episode, right, truth, np.random.default_rng([order, step]), honesty=honesty)
            policy.learn(episode, rating)
    return found


def looks_at(ratings: int) -> list[int]:
    """After how many ratings the router is looked at, of so many."""
    return [*(look for look in LOOKS if look < ratings), ratings]


def interval(values: Values) -> str:
    """Mean of `[orders, queries]` over what isn't NaN, and its 95% interval over queries."""
    kept = ~np.isnan(values).all(axis=0)
    if not kept.any():
        return "-"
    means = np.nanmean(values[:, kept], axis=0)
    draws = np.random.default_rng(0).integers(0, len(means), (2000, len(means)))
    low, high = np.percentile(means[draws].mean(axis=1), [2.5, 97.5])
    return f"{100 * means.mean():6.1f} [{100 * low:5.1f}, {100 * high:5.1f}]"


def truths_of(queries: Sequence[BankQuery]) -> list[Truth]:
    """Every query's truth."""
    own = [{name: float(np.mean([one.right for one in drawn])) for name, drawn in q.drawn.items()} for q in queries]
    families: dict[str, list[Mapping[WorkerName, float]]] = {}
    for query, accuracy in zip(queries, own, strict=True):
        families.setdefault(query.family, []).append(accuracy)
    mean = {
        family: {name: float(np.mean([one[name] for one in group])) for name in group[0]}
        for family, group in families.items()
    }
    return [Truth(accuracy, mean[query.family]) for query, accuracy in zip(queries, own, strict=True)]


def place_of(query: BankQuery) -> int:
    """The number of a query in its family."""
    return int(query.name.split("/")[2])


def study(arms: Sequence[Arm], queries: Sequence[BankQuery], *, orders: int, tuning: bool, honesty: float) -> None:
    """Run every arm over the orders and print the tables."""
    truths = truths_of(queries)
    stream = [at for at, q in enumerate(queries) if q.sort == "stream" and (not tuning or place_of(q) % 2 == 0)]
    rest = [] if tuning else [at for at, q in enumerate(queries) if q.sort != "stream"]
    sorts = np.array(["unseen families" if q.sort == "unseen" else "streamed families" for q in queries])
    rated = min(LOOKS[-1], len(stream) * 2 // 3)
    looks = looks_at(rated)
    found = np.full((len(arms), orders, len(looks), len(queries), 3), np.nan)
    for order in range(orders):
        shuffled = [stream[at] for at in np.random.default_rng([order, 1]).permutation(len(stream))]
        asked = np.zeros(len(queries))
        # What was tuned on the even half is not reported on it.
        asked[[at for at in shuffled[rated:] if tuning or place_of(queries[at]) % 2] + rest] = 1.0
        for place, arm in enumerate(arms):
            found[place, order] = run(arm, queries, truths, shuffled[:rated], order, asked, honesty=honesty)
        print(f"# order {order + 1} of {orders}", file=sys.stderr, flush=True)
    print(f"{len(queries)} queries, {len(stream)} of them to be rated, {rated} ratings in each of {orders} orders")
    print(f"{100 * honesty:g}% of the ratings are honest")
    for sort in sorted(set(sorts)):
        columns = (sorts == sort) & ~np.isnan(found[..., 1]).all(axis=(0, 1, 2))
        if not columns.any():
            continue
        differ = sum(truth.differ for truth, there in zip(truths, columns, strict=True) if there)
        print(f"\n{sort}: {int(columns.sum())} queries asked about, on {differ} of which the workers differ")
        for kind, title in enumerate(("router right", "worth", "family right")):
            print(f"\n  {title:22}" + "".join(f"{f'after {look}':>24}" for look in looks))
            for place, arm in enumerate(arms):
                cells = [interval(found[place, :, at][:, columns, kind]) for at in range(len(looks))]
                print(f"  {arm.name:22}" + "".join(f"{cell:>24}" for cell in cells))
        print(f"\n  gain in worth after {rated} ratings, over the same queries")
        names = [arm.name for arm in arms]
        for one, other in (
            ("deltas", "nothing"),
            ("evidence", "nothing"),
            ("evidence + H", "evidence"),
            (names[-1], "evidence + H"),
        ):
            if one in names and other in names:
                gain = found[names.index(one), :, -1] - found[names.index(other), :, -1]
                print(f"  {one + ' − ' + other:44}{interval(gain[:, columns, 1])}")


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--honesty", type=float, default=0.8, help="share of ratings that are true")
    parser.add_argument("--tune", action="store_true", help="compare scales on the even half of the stream")
    parser.add_argument("--quick", action="store_true", help="only the arms without the learning router")
    arguments = parser.parse_args()
    queries = bank_queries(arguments.folder)
    arms: Sequence[Arm] = ARMS[:2] if arguments.quick else ARMS
    if arguments.tune:
        scales = (5.0, 10.0, 20.0, 40.0, 80.0)
        arms = [ARMS[0], *(Arm(name=f"scale {scale:g}", deltas=True, scale=scale) for scale in scales)]
    study(arms, queries, orders=arguments.orders, tuning=arguments.tune, honesty=arguments.honesty)


if __name__ == "__main__":
    main()
