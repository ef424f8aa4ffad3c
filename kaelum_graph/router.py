"""The router: a policy network over workers, rollout budgets and depths.

The worker logits are a prototype prior, the cosine of the query to the texts that describe each worker, plus a network
that is zero at first: untrained, the policy is exactly the prior. A trained one (`learning/router_learner.py`) has,
in the prior's place, the reward that each worker is expected to earn, in which the prior is one input; but only as far
as the query is like one that was learned from, for what a worker is worth elsewhere says little here. The rollout
budget is an ordinal choice (Cao et al. 2020, CORAL): one score against rising thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kaelum_graph.config import Effort
from kaelum_graph.encoder import EMBEDDING_SIZE, Encoder
from kaelum_graph.errors import UsageError
from kaelum_graph.seeded import linear, zero_linear
from kaelum_graph.text_features import FEATURE_NAMES
from kaelum_graph.types import Array, WorkerName

FEATURES = EMBEDDING_SIZE + len(FEATURE_NAMES)
HIDDEN = 256
BUDGETS = (4, 8, 16, 32)
USUAL = BUDGETS.index(8)
BUDGET_THRESHOLDS = (-2.0, 1.0, 3.0)
"""Of an untrained budget head, whose score is 0: P(8) = 0.61."""
DEPTHS = (2, 4, 8)
EFFORT_BUDGETS: dict[Effort, int] = {
    "none": 1, "minimal": 2, "low": 4, "medium": 8, "high": 16, "xhigh": 24, "max": 32,
}  # fmt: skip

FAR, NEAR = 0.3, 0.6
"""Cosines between which what is known of one query comes to hold for another. Questions of one family meet at 0.3 to
0.9, of two families of one worker at about 0.2."""

DELTA_SCALE = 20.0
"""Logits of a reward delta of 1: one suggestion of another worker moves the two apart by 1.6 logits."""

SURE = 0.6
"""From this top probability on, all rollouts go to one worker; below it they are shared, so that one query compares."""
MINIMUM_PROPENSITY = 0.03
MINIMUM_SHARE = 2
SHARING_WORKERS = 3

PER_WORKER = ("worker_head", "skip", "prior_weight")
"""What of the network's parameters has a row for each worker."""

PRIOR_SCALE = 30.0
"""Logits of the prior for a cosine of 1. Chosen on the tuning half of tests/engine/routing_queries.py, as was the mean
over all of a worker's prototypes (against its nearest 1, 2, 3 and 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a query goes. `allocation` is each worker's number of rollouts; they sum to `rollouts`.

    `propensities` are the exact probabilities with which each worker is in the allocation: the weights by which the
    learner later undoes the choice. At least 0.03, or 0 for a worker that had no chance at all.
    """

    worker: WorkerName
    probabilities: dict[WorkerName, float]
    allocation: dict[WorkerName, int]
    propensities: dict[WorkerName, float]
    rollouts: int
    depth: int
    sharing: bool


class PolicyNetwork(nn.Module):
    """`[398]` → 256 with a residual layer → worker logits, an ordinal budget score and depth logits; zero at first.

    Around the hidden layers `skip` adds logits that are linear in the features. `prior_gain` and `prior_weight` say
    what the prior counts for: 1 and 0 while untrained; `hidden_gain` what the hidden layers count for. `known` are
    embeddings of queries that it was trained on; with none, all are taken for known. `budget_trust` says
    where the budget head is heard: on a budget above 4, above 8, above 16.
    """

    hidden_gain: Tensor  # []: times the worker logits of the hidden layers
    budget_trust: Tensor  # [3], 0 or 1
    prior_gain: Tensor  # []: times the prior logits
    prior_weight: Tensor  # [W]: times the prior probabilities
    known: Tensor  # [N, 384]; not part of what is saved

    def __init__(self, workers: int) -> None:
        super().__init__()
        generator = np.random.default_rng(0)
        self.skip = zero_linear(FEATURES, workers)
        self.register_buffer("hidden_gain", torch.ones((), dtype=torch.float32))
        self.register_buffer("budget_trust", torch.ones(len(BUDGET_THRESHOLDS), dtype=torch.float32))
        self.register_buffer("prior_gain", torch.ones((), dtype=torch.float32))
        self.register_buffer("prior_weight", torch.zeros(workers, dtype=torch.float32))
        self.register_buffer("known", torch.zeros(0, EMBEDDING_SIZE, dtype=torch.float32), persistent=False)
        self.inlet = linear(FEATURES, HIDDEN, generator)
        self.residual = linear(HIDDEN, HIDDEN, generator)
        self.worker_head = zero_linear(HIDDEN, workers)
        self.budget_head = zero_linear(HIDDEN, 1)
        self.budget_thresholds = nn.Parameter(torch.tensor(BUDGET_THRESHOLDS, dtype=torch.float32))
        self.depth_head = zero_linear(HIDDEN, len(DEPTHS))
        with torch.no_grad():
            self.depth_head.bias.copy_(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float32))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[..., 398]` to worker logits `[..., W]`, budget probabilities `[..., 4]`, depth logits `[..., 3]`."""
        hidden = self.trunk(features)
        budgets = ordinal(self.budget_scores(hidden))
        return self.worker_logits(features, hidden), budgets, self.depth_head(hidden)

    def budget(self, budgets: Tensor) -> int:
        """The budget that is served, of the head's probabilities `[4]`: its own choice, or as near to that from 8 on as
        the thresholds between are trusted."""
        choice, served = int(budgets.argmax()), USUAL
        while served < choice and self.budget_trust[served]:
            served += 1
        while served > choice and self.budget_trust[served - 1]:
            served -= 1
        return BUDGETS[served]

    def trunk(self, features: Tensor) -> Tensor:
        """`[..., 398]` to the hidden `[..., 256]` that the heads share."""
        hidden = torch.relu(self.inlet(features))
        return hidden + torch.relu(self.residual(hidden))

    def worker_logits(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Worker logits `[..., W]` without the prior's."""
        return self.hidden_gain * self.worker_head(hidden) + self.skip(features)

    def policy_logits(self, features: Tensor, logits: Tensor, prior: Tensor) -> Tensor:
        """What the policy `[..., W]` of `features` `[..., 398]` is the softmax of: for a query unlike all known ones
        the `prior` logits alone, for one that is like one of them the worker `logits` with what the prior adds."""
        learned = logits + self.prior_logits(prior)
        if not len(self.known):
            return learned
        nearest = (features[..., :EMBEDDING_SIZE] @ self.known.T).max(dim=-1, keepdim=True).values
        familiarity = ((nearest - FAR) / (NEAR - FAR)).clamp(0.0, 1.0)
        return familiarity * learned + (1.0 - familiarity) * prior

    def budget_scores(self, hidden: Tensor, *, moving: Tensor | None = None) -> Tensor:
        """Log-odds `[..., 3]` of a budget above 4, 8 and 16; they fall because the thresholds rise.

        Where `moving` `[..., 3]` is False the score gets no gradient, and the threshold alone does.
        """
        score = self.budget_head(hidden)
        if moving is not None:
            score = torch.where(moving, score, score.detach())
        return score - self.budget_thresholds.sort().values

    def prior_logits(self, prior: Tensor) -> Tensor:
        """What the prior logits `[..., W]` add to the worker logits."""
        return self.prior_gain * prior + self.prior_weight * torch.softmax(prior, dim=-1)


class Router:
    """The policy over the workers given, each by the texts that describe it (its prototypes)."""

    def __init__(self, *, workers: Mapping[WorkerName, str | Sequence[str]], encoder: Encoder) -> None:
        if not workers:
            raise UsageError("a router needs at least one worker.")
        self.workers = tuple(workers)
        # The mean of a worker's cosines is the cosine to the mean of its prototypes.
        self._prototypes = {
            name: encoder.encode([texts] if isinstance(texts, str) else list(texts)).mean(axis=0)
            for name, texts in workers.items()
        }
        self.network = PolicyNetwork(len(self.workers)).eval()

    @property
    def prototypes(self) -> Array:
        """`[W, 384]`: the mean embedding of each worker's texts, in the order of `workers`."""
        return np.stack([self._prototypes[name] for name in self.workers])

    def prior(self, features: Array) -> Array:
        """`[W]` prior logits of a query's features `[398]`."""
        cosines = [float(self._prototypes[name] @ features[:EMBEDDING_SIZE]) for name in self.workers]
        return PRIOR_SCALE * np.array(cosines, dtype=np.float32)

    def probabilities(
        self, features: Array, *, deltas: Mapping[WorkerName, float] | None = None
    ) -> dict[WorkerName, float]:
        """The policy's probability of each worker, most probable first; `deltas` as with `route`."""
        return self._policy(features, deltas)[0]

    def _policy(
        self, features: Array, deltas: Mapping[WorkerName, float] | None = None
    ) -> tuple[dict[WorkerName, float], int, int]:
        """Worker probabilities, most probable first, and the budget and depth that the heads would choose."""
        network = self.network  # once: the learner may put another one in its place at any time
        with torch.inference_mode():
            given = torch.from_numpy(features.copy())
            logits, budgets, depths = network(given)
            policy = network.policy_logits(given, logits, torch.from_numpy(self.prior(features)))
            moved = [(deltas or {}).get(name, 0.0) for name in self.workers]
            added = DELTA_SCALE * torch.tensor(moved, dtype=torch.float32)
            values: list[float] = torch.softmax(policy + added, dim=-1).tolist()
        found = dict(zip(self.workers, values, strict=True))
        ranked = {name: found[name] for name in sorted(found, key=lambda name: -found[name])}
        return ranked, network.budget(budgets), DEPTHS[int(depths.argmax())]

    def route(
        self,
        features: Array,
        *,
        generator: np.random.Generator,
        effort: Effort | None = None,
        rollouts: int | None = None,
        depth: int | None = None,
        worker: WorkerName | None = None,
        deltas: Mapping[WorkerName, float] | None = None,
        beyond: bool = False,
    ) -> Route:
        """Choose workers, rollouts and depth for a query's features `[398]`.

        `rollouts` wins over `effort`, which wins over the budget head, or, `beyond` it, the next greater budget, for
        what that is worth to be seen; `worker` is taken as it is. When the top
        probability is at least 0.6 the rollouts go to the top worker, else the top three share them in proportion, two
        or more each. Any other worker is, with probability 0.03, a guest with two of them, so that its worth here
        stays known; a budget below four has no guests. `deltas` are rewards that people's ratings add to workers here
        (`RewardDeltas`): 0.05 is one logit. They change the probabilities before anything is drawn, so that the
        propensities are exact. Raises `UsageError`.
        """
        if features.shape != (FEATURES,):
            raise UsageError(f"features have shape {features.shape}; expected ({FEATURES},).")
        if rollouts is not None and rollouts < 1:
            raise UsageError(f"rollouts is {rollouts}; expected at least 1.")
        probabilities, usual_budget, usual_depth = self._policy(features, deltas)
        if beyond:
            usual_budget = BUDGETS[min(BUDGETS.index(usual_budget) + 1, len(BUDGETS) - 1)]
        budget = rollouts or (EFFORT_BUDGETS[effort] if effort else usual_budget)
        limit = depth or usual_depth
        if worker is not None:
            if worker not in probabilities:
                raise UsageError(f"unknown worker '{worker}'; there are: {', '.join(self.workers)}.")
            allocation = {worker: budget}
            propensities = {name: float(name == worker) for name in self.workers}
        else:
            allocation, propensities = allocate(probabilities, budget, generator)
        return Route(
            worker=worker or next(iter(probabilities)),
            probabilities=probabilities,
            allocation=allocation,
            propensities=propensities,
            rollouts=budget,
            depth=limit,
            sharing=len(allocation) > 1,
        )


def ordinal(scores: Tensor) -> Tensor:
    """Probabilities `[..., 4]` of the budgets, of the log-odds `[..., 3]` of one above 4, 8 and 16."""
    above = torch.sigmoid(scores)
    ones, zeros = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
    return torch.cat([ones, above], dim=-1) - torch.cat([above, zeros], dim=-1)


def allocate(
    probabilities: Mapping[WorkerName, float], budget: int, generator: np.random.Generator
) -> tuple[dict[WorkerName, int], dict[WorkerName, float]]:
    """Rollouts per worker, and the probability with which each worker was to get any. Most probable worker first.

    At most one guest takes part. It takes two rollouts that the budget has over; where every rollout is spoken for, it
    takes the place of the last of the workers that share.
    """
    ranked = list(probabilities)
    shared = probabilities[ranked[0]] < SURE
    places = max(1, min(SHARING_WORKERS, budget // MINIMUM_SHARE, len(ranked))) if shared else 1
    inside, outside = ranked[:places], ranked[places:]
    room = budget >= MINIMUM_SHARE * (places + 1)
    chance = min(MINIMUM_PROPENSITY, 1 / len(outside)) if outside and (room or places > 1) else 0.0
    propensities = dict.fromkeys(inside, 1.0) | dict.fromkeys(outside, chance)
    draw = generator.random()
    guest = outside[min(int(draw / chance), len(outside) - 1)] if draw < chance * len(outside) else None
    if not room:
        propensities[inside[-1]] = 1.0 - chance * len(outside)
    if guest is None:
        return share_out(budget, {name: probabilities[name] for name in inside}), propensities
    staying = inside if room else inside[:-1]
    shares = share_out(budget - MINIMUM_SHARE, {name: probabilities[name] for name in staying})
    return shares | {guest: MINIMUM_SHARE}, propensities


def share_out(rollouts: int, weights: Mapping[WorkerName, float]) -> dict[WorkerName, int]:
    """`rollouts` in proportion to `weights`, at least two each where there are enough (largest remainders)."""
    floor = MINIMUM_SHARE if rollouts >= MINIMUM_SHARE * len(weights) else 0
    spare = rollouts - floor * len(weights)
    total = sum(weights.values())
    exact = {name: spare * weight / total for name, weight in weights.items()}
    shares = {name: floor + int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: int(exact[name]) - exact[name])[: rollouts - sum(shares.values())]:
        shares[name] += 1
    return {name: share for name, share in shares.items() if share}
