"""The router's backward pass: a critic that learns what each worker is worth, and a policy gradient on top of it.

The served policy is softmax(logits) with

    logits(w) = Q(w) / T  +  network(w)            T = 0.15 in units of reward

Q is the mean of a Bayesian linear critic (`critic.py`), whose inputs include the prior; it is exact after every query
and carries the policy. The network's hidden layers are there for what is not linear: they climb the expected policy
gradient of doubly robust values, with an entropy bonus of T, so that nothing moves them where the critic is right (for
softmax(Q / T) is where that gradient vanishes). They are in the served policy only while they have proved themselves:
each query is judged by both policies before it is learned from, and over the newest 256 the mean lead of the one with
hidden layers must be above zero by two standard errors. The budget head must prove itself too, for fewer than 8
rollouts, for more and for many more apart (`budgets.py`).

    value(w) = Q(w)                                         where w took no part
             = Q₀(w) + (reward − Q₀(w)) / propensity        where it did, Q₀ from before this query was learned from

Advantages are values less their mean under the policy: within one query, so that only differences between its workers
teach. Inverse propensities are held at 5 or less.

What this says of the workers is served as far as a query is like one of the newest 256 (its cosine to the nearest); one
that is like none goes by the prior (`PolicyNetwork.policy_logits`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.feedback import FeedbackChange
from kaelum_graph.learning.budgets import BudgetProof, budget_gains, budget_leads, budget_values
from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.critic import MEAN, TRUST, Critic, Doubles, prior_logits, softmax
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.experience import (
    Experience,
    of_the_draw,
    packed,
    propensity_row,
    reward_row,
    unpacked,
)
from kaelum_graph.learning.labels import Label, Reward, rollout_labels, worker_rewards
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.policy_training import Batch, PolicyTrainer, by_worker
from kaelum_graph.router import PolicyNetwork, Router, ordinal
from kaelum_graph.types import Array, Json, WorkerName

TEMPERATURE = 0.15
"""Reward by which a worker must be better to be e times as probable."""
REPLAY, BATCH, STEPS = 256, 64, 1
MOST_WEIGHT = 5.0
"""Bound of inverse propensities in training; a guest's 33 would drown everything else."""
ENOUGH_LEADS, DOUBT = 64, 2.0
"""Queries that the hidden layers must have been judged by, and standard errors taken off their mean lead."""
MOST_LOSS_WEIGHT = 10.0
"""The same in `RouterLearner.loss`, where a bias costs more than variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn. The defaults are what is served; the rest is for ablations (`benchmarks/learning_router.py`)."""

    prior: bool = True
    pairing: bool = True
    critic: bool = True
    """Whether the critic's values are in the policy. Without them the network alone learns, on top of the prior."""
    doubly_robust: bool = True
    """Whether workers that took no part have the critic's values. Without: the mean of those that did."""
    entropy: float = TEMPERATURE
    steps: int = STEPS
    proof: bool = True
    """Whether the hidden layers must prove themselves before they are served."""
    optimiser: Literal["adamw", "muon"] = "adamw"


class RouterLearner:
    """What is learned about the workers. A `Component` (see `component.py`)."""

    name = "router"

    def __init__(
        self,
        *,
        workers: Sequence[WorkerName],
        prototypes: Array,
        noise: NoiseModel,
        recipe: Recipe | None = None,
    ) -> None:
        """`prototypes` `[W, 384]` as `Router.prototypes` has them; `noise` turns evidence into labels."""
        self.workers = tuple(workers)
        self.recipe = recipe or Recipe()
        self.episodes = self.audits = self.forced = 0
        self._prototypes = np.array(prototypes, dtype=np.float32)
        self._noise = noise
        self._critic = Critic(len(self.workers), pairing=self.recipe.pairing, prior=self.recipe.prior)
        self._replay: list[Experience] = []
        self._budgets = BudgetProof()
        self._trainer = PolicyTrainer(
            new_network(len(self.workers)), entropy=self.recipe.entropy, optimiser=self.recipe.optimiser
        )
        self._refresh()

    @classmethod
    def of(cls, router: Router, noise: NoiseModel, *, recipe: Recipe | None = None) -> RouterLearner:
        """A learner for this router's workers."""
        return cls(workers=router.workers, prototypes=router.prototypes, noise=noise, recipe=recipe)

    def learn_episode(self, episode: SeenEpisode) -> None:
        """Take in an answered query. An audit episode is counted; a forced one teaches the critic alone."""
        if episode.audit:
            self.audits += 1
            return
        labels = rollout_labels(episode, self._noise)
        self.learn_rewards(episode, worker_rewards(episode, labels), _gains(episode, labels))

    def learn_rewards(self, episode: SeenEpisode, earned: Mapping[WorkerName, Reward], gains: Array) -> None:
        """Take in what each worker earned on a query, and `[3]` what more rollouts were worth (NaN: not known)."""
        rewards, rollouts = reward_row(of_the_draw(episode, earned), self.workers)
        if not rollouts.any():
            return
        self.episodes += 1
        self.forced += episode.forced
        features = np.array(episode.features, dtype=np.float32)
        prior, inputs = self._inputs(features)
        foreseen, propensities = self._critic.values(inputs), propensity_row(episode, self.workers)
        seen = Experience(
            episode=episode.id,
            forced=episode.forced,
            features=features,
            prior=prior,
            inputs=inputs,
            rollouts=rollouts,
            rewards=rewards,
            propensities=propensities,
            foreseen=foreseen,
            lead=self._lead(features, prior, foreseen, rewards, rollouts, propensities),
            gains=gains,
        )
        self._critic.learn(inputs, seen.rows, rewards[seen.rows], rollouts[seen.rows])
        if not episode.forced:
            self._budgets.add(episode.id, budget_leads(self.budget_choice(features), gains))
        self._replay = [*self._replay, seen][-REPLAY:]
        self._train()

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        """A rating that came, changed or went: what the episode taught becomes what it teaches with its votes of now.

        Of an episode that is no longer among the newest 256 nothing is changed.
        """
        if episode is None or episode.audit:
            return
        place = next((at for at, one in enumerate(self._replay) if one.episode == episode.id), None)
        if place is None:
            return
        seen = self._replay[place]
        rewards, _, gains = self._rewards(episode)
        rows = seen.rows
        self._critic.revise(seen.inputs, rows, seen.rollouts[rows], (rewards - seen.rewards)[rows])
        self._replay[place] = seen.with_rewards(rewards, gains)
        self._budgets.revise(episode.id, gains)
        self._train()

    def values(self, features: Array) -> dict[WorkerName, float]:
        """The critic's expected reward of each worker on a query's features `[398]`."""
        found = self._critic.values(self._inputs(features)[1])
        return dict(zip(self.workers, found.tolist(), strict=True))

    def policy(self, features: Array) -> dict[WorkerName, float]:
        """The probability of each worker as a router would have it after `install`, before any sharing."""
        network, given = self._trainer.network, torch.from_numpy(np.array(features, dtype=np.float32))
        with torch.inference_mode():
            logits = network.policy_logits(given, network(given)[0], torch.from_numpy(self._prior(features)))
            found: list[float] = torch.softmax(logits, dim=-1).tolist()
        return dict(zip(self.workers, found, strict=True))

    def budget_choice(self, features: Array) -> int:
        """The index among `BUDGETS` of what the head would choose for a query's features `[398]`, heard or not."""
        network = self._trainer.network
        with torch.inference_mode():
            scores = network.budget_scores(network.trunk(torch.from_numpy(features)))
            return int(ordinal(scores).argmax())

    def install(self, router: Router) -> None:
        """Hand what was learned to a serving router, in one step: a query is routed by the old network or the new one.

        A worker that the learner doesn't know is expected to do as workers do.
        """
        rows = [self.workers.index(name) if name in self.workers else None for name in router.workers]
        network = network_of(self._trainer.network.state_dict(), rows)
        if self._critic_serves:
            set_skip(network, self._critic, rows)
        network.known = self._trainer.network.known
        router.network = network

    def loss(self, episode: SeenEpisode) -> float | None:
        """1 − the doubly robust estimate of this policy's reward on an episode it wasn't trained on, held in [0, 1].

        Its baseline is the untrained critic's, the same for every version: none marks its own work. None for an audit
        or a forced episode, or where nothing was sampled.
        """
        if episode.audit or episode.forced:
            return None
        rewards, rollouts, _ = self._rewards(episode)
        rows = np.flatnonzero(rollouts)
        if not len(rows):
            return None
        policy = np.array(list(self.policy(episode.features).values()))
        prior = softmax(self._prior(episode.features))
        baseline = MEAN + TRUST * (prior - 1 / len(self.workers))
        weights = np.minimum(1 / np.maximum(propensity_row(episode, self.workers), 1e-9), MOST_LOSS_WEIGHT)
        value = policy @ baseline + (policy * weights * (rewards - baseline))[rows].sum()
        return float(min(max(1.0 - value, 0.0), 1.0))

    def tensors(self) -> Tensors:
        """The critic, the network, its optimiser's moments and the replayed queries."""
        network = self._trainer.network.state_dict()
        return {
            "critic/mean": self._critic.mean.copy(),
            "critic/covariance": self._critic.packed(),
            **{f"network/{name}": np.array(tensor.numpy()) for name, tensor in network.items()},
            **{f"moments/{name}": array for name, array in self._trainer.moments().items()},
            **{f"budget/{name}": leads for name, leads in self._budgets.leads().items()},
            **packed(self._replay, len(self.workers)),
        }

    def meta(self) -> Json:
        """The workers' names in their order, counts, and the replayed queries' ids."""
        return {
            "workers": list(self.workers),
            "episodes": self.episodes,
            "audits": self.audits,
            "forced": self.forced,
            "replay": [one.episode for one in self._replay],
            "budget": self._budgets.episodes(),
        }

    def load(self, tensors: Tensors, meta: Json) -> None:
        """Take over a saved state by the workers' names. What was learned about a worker that is still there stays; a
        new one starts from the prior and from what holds for all. Raises `ValueError` for what is not a router's.
        """
        try:
            saved = [WorkerName(name) for name in meta["workers"]]
            rows = [saved.index(name) if name in saved else None for name in self.workers]
            self._critic = Critic(len(self.workers), pairing=self.recipe.pairing, prior=self.recipe.prior)
            self._critic.take_over(tensors["critic/mean"], tensors["critic/covariance"], rows)
            saved_network = {
                name: torch.from_numpy(np.array(array)) for name, array in under(tensors, "network").items()
            }
            network = network_of(saved_network, rows)
            self._trainer = PolicyTrainer(network, entropy=self.recipe.entropy, optimiser=self.recipe.optimiser)
            same = list(self.workers) == saved
            moments = under(tensors, "moments")
            self._trainer.take_moments({key: value for key, value in moments.items() if same or not by_worker(key)})
            self._budgets.load(under(tensors, "budget"), meta["budget"])
            self._replay = unpacked(tensors, meta["replay"], self._inputs, rows)
            self.episodes, self.audits, self.forced = meta["episodes"], meta["audits"], meta["forced"]
        except (KeyError, TypeError, IndexError, RuntimeError) as error:
            raise ValueError(f"not a saved router: {error}") from error
        self._refresh()

    @property
    def _critic_serves(self) -> bool:
        return self.recipe.critic and self.episodes > 0

    def _rewards(self, episode: SeenEpisode) -> tuple[Doubles, Doubles, Array]:
        labels = rollout_labels(episode, self._noise)
        rewards, rollouts = reward_row(of_the_draw(episode, worker_rewards(episode, labels)), self.workers)
        return rewards, rollouts, _gains(episode, labels)

    def _prior(self, features: Array) -> Array:
        """`[W]` prior logits, as the router has them."""
        if not self.recipe.prior:
            return np.zeros(len(self.workers), dtype=np.float32)
        return prior_logits(features, self._prototypes)

    def _inputs(self, features: Array) -> tuple[Array, Doubles]:
        """Prior logits `[W]` and the critic's inputs `[W, 112]`."""
        prior = self._prior(features)
        return prior, self._critic.inputs(features, softmax(prior))

    def _refresh(self) -> None:
        """Put the critic as it is now into the policy, the queries it knows, and the hidden layers if they have earned
        it."""
        if self._replay:
            known = np.stack([one.features[:EMBEDDING_SIZE] for one in self._replay])
            self._trainer.network.known = torch.from_numpy(known)
        if self._critic_serves:
            set_skip(self._trainer.network, self._critic, range(len(self.workers)))
        self._trainer.network.hidden_gain.fill_(float(self._proved()))
        self._trainer.network.budget_trust.copy_(torch.from_numpy(self._budgets.trust))

    def _lead(
        self,
        features: Array,
        prior: Array,
        foreseen: Doubles,
        rewards: Doubles,
        rollouts: Doubles,
        propensities: Doubles,
    ) -> float:
        """By how much the policy with the hidden layers beats the one without on a query, in doubly robust reward."""
        network = self._trainer.network
        given = torch.from_numpy(features)
        with torch.inference_mode():
            plain = network.skip(given) + network.prior_logits(torch.from_numpy(prior))
            hidden = network.worker_head(network.trunk(given))
            moved = torch.softmax(plain + hidden, dim=-1) - torch.softmax(plain, dim=-1)
        weights = np.minimum(1 / np.maximum(propensities, 1e-9), MOST_WEIGHT) * (rollouts > 0)
        return float(moved.numpy().astype(np.float64) @ (foreseen + weights * (rewards - foreseen)))

    def _proved(self) -> bool:
        """Whether the hidden layers are part of the policy. Where nothing else learns they are all there is."""
        if not (self.recipe.proof and self.recipe.critic):
            return True
        leads = np.array([one.lead for one in self._replay if not one.forced])
        if len(leads) < ENOUGH_LEADS:
            return False
        return bool(leads.mean() > DOUBT * leads.std(ddof=1) / np.sqrt(len(leads)))

    def _train(self) -> None:
        self._refresh()
        usable = [one for one in self._replay if not one.forced]
        if not usable:
            return
        features = np.stack([one.features for one in usable])
        priors = np.stack([one.prior for one in usable])
        values = self._doubly_robust(usable)
        gains = np.stack([one.gains for one in usable])
        generator = np.random.default_rng([self.episodes, len(usable)])
        for _ in range(self.recipe.steps):
            # The newest query and a draw from all; always as many, so that sums have one order.
            picks = np.append(generator.integers(0, len(usable), BATCH - 1), len(usable) - 1)
            self._trainer.step(
                Batch(features=features[picks], priors=priors[picks], values=values[picks], gains=gains[picks])
            )

    def _doubly_robust(self, kept: Sequence[Experience]) -> Array:
        """`[N, W]`: the values of each query's workers."""
        rollouts, rewards = np.stack([one.rollouts for one in kept]), np.stack([one.rewards for one in kept])
        took_part = rollouts > 0
        if self.recipe.doubly_robust:
            now = self._critic.values(np.stack([one.inputs for one in kept]))
            foreseen = np.stack([one.foreseen for one in kept])
            propensities = np.stack([one.propensities for one in kept])
            weights = np.minimum(1 / np.maximum(propensities, 1e-9), MOST_WEIGHT)
            values = np.where(took_part, foreseen + weights * (rewards - foreseen), now)
        else:
            means = (rewards * took_part).sum(axis=1, keepdims=True) / took_part.sum(axis=1, keepdims=True).clip(min=1)
            values = np.where(took_part, rewards, means)
        return values.astype(np.float32)


def _gains(episode: SeenEpisode, labels: Sequence[Label]) -> Array:
    """`[3]`: `budget_gains`, of a search that was not to be stopped. Of another nothing is known: more rollouts were
    drawn because the first had come to little."""
    gains = budget_gains(budget_values(episode, labels))
    return gains if episode.exhausted else np.full_like(gains, np.nan)


def under(tensors: Tensors, name: str) -> Tensors:
    """What lies under `name/`, by the rest of its name."""
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def new_network(workers: int) -> PolicyNetwork:
    """An untrained network, the same every time."""
    return PolicyNetwork(workers).eval()


def network_of(saved: Mapping[str, Tensor], rows: Sequence[int | None]) -> PolicyNetwork:
    """A network whose i-th worker was the saved one's `rows[i]`-th, or is new (None): then its rows are zero."""
    network = new_network(len(rows))
    state = network.state_dict()
    for key, tensor in saved.items():
        if by_worker(key):
            state[key] = torch.stack([torch.zeros_like(tensor[0]) if row is None else tensor[row] for row in rows])
        else:
            state[key] = tensor.clone()
    network.load_state_dict(state)
    return network


def set_skip(network: PolicyNetwork, critic: Critic, rows: Sequence[int | None]) -> None:
    """Let the network's linear part be the critic's values over the temperature, in the prior's place."""
    weights, trusts, offsets = critic.linear(rows)
    with torch.no_grad():
        network.skip.weight.copy_(torch.from_numpy(weights / TEMPERATURE))
        network.skip.bias.copy_(torch.from_numpy(offsets / TEMPERATURE))
        network.prior_weight.copy_(torch.from_numpy(trusts / TEMPERATURE))
        network.prior_gain.zero_()
