"""What the router's critic is worth on families that it has not learned from: some are left out of the stream, in turn.

    python benchmarks/router_families.py --folder bench-results/bank

In each of `--splits` random splits four of the families are left out: of the sixteen that are streamed, or with `--all`
of those and the six that never are. The critic learns from three quarters of the other families' queries (the
product's allocation of 8 rollouts, rewards from evidence) and then names the best worker for the left-out families and
for the quarter held back: by itself ("critic"), and held to the prior where no learned query is near, as the product
does ("served"). Reward is the evidence's over all recorded rollouts of the worker named; `right` is the scorer's word,
for evaluation alone.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.learning_system import interval
from benchmarks.replay import BankQuery, bank_queries, prior_router
from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.learning.critic import Critic
from kaelum_graph.learning.labels import rollout_labels, worker_rewards
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.router_learner import TEMPERATURE, softmax
from kaelum_graph.router import FAR, NEAR, allocate
from kaelum_graph.types import WorkerName

BUDGET, LEFT_OUT, HELD_BACK = 8, 4, 4
KNOWN = 256
"""Of the newest learned queries, those that another is compared with."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """A query with the prior `[W]`, and each worker's reward by evidence and right answers `[W]` over all it drew."""

    query: BankQuery
    prior: Numbers
    reward: Numbers
    right: Numbers


def known(query: BankQuery, workers: Sequence[WorkerName]) -> Known:
    """What the bank knows of a query."""
    everyone = {name: len(query.drawn[name]) for name in workers}
    even = dict.fromkeys(workers, 1.0)
    episode, _ = query.episode(everyone, probabilities=even, propensities=even)
    rewards = worker_rewards(episode, rollout_labels(episode, NoiseModel()))
    return Known(
        query=query,
        prior=np.asarray(softmax(prior_router().prior(query.features)), dtype=np.float64),
        reward=np.array([rewards[name].mean for name in workers]),
        right=np.array([np.mean([one.right for one in query.drawn[name]]) for name in workers], dtype=np.float64),
    )


def learned(taught: Sequence[Known], workers: Sequence[WorkerName], generator: np.random.Generator) -> Critic:
    """A critic after these queries, each routed by what it knew when it came."""
    critic, noise = Critic(len(workers)), NoiseModel()
    for one in taught:
        inputs = critic.inputs(one.query.features, one.prior.astype(np.float32))
        policy = softmax((critic.values(inputs) / TEMPERATURE).astype(np.float32))
        ranked: Mapping[WorkerName, float] = {workers[at]: float(policy[at]) for at in np.argsort(-policy)}
        allocation, propensities = allocate(ranked, BUDGET, generator)
        drawn = {name: min(count, len(one.query.drawn[name])) for name, count in allocation.items()}
        episode, _ = one.query.episode(drawn, probabilities=ranked, propensities=propensities)
        rewards = worker_rewards(episode, rollout_labels(episode, noise))
        rows = [workers.index(name) for name in rewards]
        means = np.array([reward.mean for reward in rewards.values()])
        critic.learn(inputs, rows, means, np.array([float(reward.rollouts) for reward in rewards.values()]))
    return critic


def familiarity(asked: Known, taught: Sequence[Known]) -> float:
    """How far what was learned is served on a query, in [0, 1]: as `PolicyNetwork` says."""
    embeddings = np.stack([one.query.features[:EMBEDDING_SIZE] for one in taught[-KNOWN:]])
    nearest = float((embeddings @ asked.query.features[:EMBEDDING_SIZE]).max())
    return min(max((nearest - FAR) / (NEAR - FAR), 0.0), 1.0)


def cell(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Learned, untrained and their difference with its interval, queries resampled; a query may be in many splits."""
    table = np.array([np.mean(values, axis=0) for values in pairs.values()])  # [Q, 2]
    gains = table[:, 0] - table[:, 1]
    low, high = interval(gains)
    return f"{table[:, 0].mean():.3f} | {table[:, 1].mean():.3f} | {gains.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Split, learn, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("bench-results/bank"))
    parser.add_argument("--splits", type=int, default=24)
    parser.add_argument("--all", action="store_true", help="leave out families that are never streamed as well")
    arguments = parser.parse_args()
    workers = list(prior_router().workers)
    sorts = {"stream", "unseen"} if arguments.all else {"stream"}
    everything = [known(query, workers) for query in bank_queries(arguments.folder) if query.sort in sorts]
    families = sorted({one.query.family for one in everything})
    found: dict[tuple[str, str, str], dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    by_family: dict[str, list[float]] = defaultdict(list)
    for split in range(arguments.splits):
        generator = np.random.default_rng([13, split])
        left_out = set(generator.permutation(families)[:LEFT_OUT].tolist())
        inside = [one for one in everything if one.query.family not in left_out]
        order = generator.permutation(len(inside)).tolist()
        back = len(order) // HELD_BACK
        taught = [inside[at] for at in order[back:]]
        critic = learned(taught, workers, generator)
        parts = {
            "families left out": [one for one in everything if one.query.family in left_out],
            "families learned from": [inside[at] for at in order[:back]],
        }
        for part, asked in parts.items():
            for one in asked:
                values = critic.values(critic.inputs(one.query.features, one.prior.astype(np.float32))) / TEMPERATURE
                near = familiarity(one, taught)
                before = int(np.argmax(one.prior))
                for rule, logits in (("critic", values), ("served", near * values + (1 - near) * np.log(one.prior))):
                    best = int(np.argmax(logits))
                    found[part, rule, "reward"][one.query.name].append((one.reward[best], one.reward[before]))
                    found[part, rule, "right"][one.query.name].append((one.right[best], one.right[before]))
                    if (part, rule) == ("families left out", "served"):
                        by_family[one.query.family].append(float(one.right[best] - one.right[before]))
    print(f"{len(everything)} queries of {len(families)} families, {arguments.splits} splits\n")
    print("| queries of | rule | measure | learned | untrained | gain (95%) |\n|---|---|---|---|---|---|")
    for (part, rule, measure), pairs in found.items():
        print(f"| {part} | {rule} | {measure} | {cell(pairs)} |")
    gains = {family: float(np.mean(values)) for family, values in by_family.items()}
    low, high = interval(np.array(list(gains.values())))
    more, fewer = (sum(sign * gain > 0 for gain in gains.values()) for sign in (1, -1))
    print(
        f"\nServed, families left out, each counting once: {np.mean(list(gains.values())):+.3f} of right answers "
        f"({low:+.3f} to {high:+.3f}, families resampled), more in {more}, fewer in {fewer} of {len(gains)}:"
    )
    print(", ".join(f"{family} {gain:+.2f}" for family, gain in sorted(gains.items(), key=lambda item: item[1])))


if __name__ == "__main__":
    main()
