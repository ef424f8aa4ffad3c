"""Runs of routers over streams of the bank: which worker each held best, before learning and at checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.replay import prior_router
from benchmarks.router_rivals import Linear, Rival, Vowpal, context_of
from benchmarks.router_stream import Ints, RouterBank, drawn_episode
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import Reward, rollout_labels, worker_rewards
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.router_learner import Recipe, RouterLearner, softmax
from kaelum_graph.router import BUDGETS, allocate
from kaelum_graph.types import EpisodeId, WorkerName

CHECKPOINTS = (0, 25, 50, 100, 200, 400, 500)
BUDGET = 8


@dataclass(frozen=True, kw_only=True)
class Run:
    """One router over one order. `before[t]` is the worker held best for the t-th query before it was learned from;
    `at[c]` the workers held best for all tested queries after so many; `answers[t]` whether the search's answer was
    right; `shared` the part of the queries that several workers shared."""

    order: Ints  # [T]
    before: Ints  # [T]
    at: dict[int, Ints]  # of [M]
    answers: np.ndarray[tuple[int], np.dtype[np.float64]]  # [T]
    shared: float


def ours(
    bank: RouterBank,
    order: Ints,
    tested: Ints,
    *,
    seed: int,
    recipe: Recipe | None = None,
    true_rewards: bool = False,
    keep: list[RouterLearner] | None = None,
) -> Run:
    """Our learner: it routes with what it knows, sees the rollouts that it allotted, learns. `keep` gets it."""
    learner = RouterLearner.of(prior_router(), NoiseModel(), recipe=recipe)
    generator = np.random.default_rng([seed, 7])
    before, answers, at, shared = [], [], {}, 0
    ids = train_ids(len(order))

    def held_best(row: int) -> int:
        policy = learner.policy(bank.features[row])
        return max(range(len(bank.workers)), key=lambda place: policy[bank.workers[place]])

    for turn, row in enumerate(order.tolist()):
        if turn in CHECKPOINTS:
            at[turn] = np.array([held_best(one) for one in tested.tolist()])
        policy = learner.policy(bank.features[row])
        ranked = {name: policy[name] for name in sorted(policy, key=lambda name: -policy[name])}
        before.append(bank.workers.index(next(iter(ranked))))
        allocation, propensities = allocate(ranked, BUDGET, generator)
        episode, right = drawn_episode(
            bank, row, allocation, probabilities=ranked, propensities=propensities, generator=generator, id=ids[turn]
        )
        answers.append(right)
        shared += len(allocation) > 1
        if true_rewards:
            learn_true(learner, bank, row, episode)
        else:
            learner.learn_episode(episode)
    at[len(order)] = np.array([held_best(one) for one in tested.tolist()])
    if keep is not None:
        keep.append(learner)
    return Run(order=order, before=np.array(before), at=at, answers=np.array(answers), shared=shared / len(order))


def learned(bank: RouterBank, order: Ints, *, seed: int) -> RouterLearner:
    """Our learner after an order, as it is served."""
    kept: list[RouterLearner] = []
    ours(bank, order, order[:1], seed=seed, keep=kept)
    return kept[0]


def learn_true(learner: RouterLearner, bank: RouterBank, row: int, episode: SeenEpisode) -> None:
    """Let the learner see, in the evidence's place, how often each sampled worker was truly right on this query."""
    place = {name: index for index, name in enumerate(bank.workers)}
    counts = {name: sum(one.worker == name for one in episode.rollouts) for name in episode.allocation}
    learner.learn_rewards(
        episode,
        {name: Reward(float(bank.rights[row, place[name]].mean()), count) for name, count in counts.items() if count},
        np.full(len(BUDGETS) - 1, np.nan, dtype=np.float32),
    )


def rival(bank: RouterBank, order: Ints, tested: Ints, *, make: Callable[[int], Rival], shared: bool, seed: int) -> Run:
    """A rival over the same order, with the same labels, tokens priced the same."""
    bandit = make(seed)
    noise = NoiseModel()
    generator = np.random.default_rng([seed, 7])
    contexts = np.stack([context_of(bank.features[row], bank.priors[row]) for row in range(len(bank.queries))])
    before, answers, at = [], [], {}
    for turn, row in enumerate(order.tolist()):
        # Of a bandit that has seen nothing, the prior is what it holds best.
        if turn in CHECKPOINTS:
            at[turn] = bandit.greedy(contexts[tested], bank.priors[tested]) if turn else bank.priors[tested].argmax(1)
        greedy = bandit.greedy(contexts[[row]], bank.priors[[row]]) if turn else bank.priors[[row]].argmax(1)
        before.append(int(greedy[0]))
        allocation = bandit.allocation(contexts[row], shared=shared)
        episode, right = drawn_episode(
            bank, row, allocation, probabilities={}, propensities={}, generator=generator, id=f"{turn}"
        )
        answers.append(right)
        rewards = worker_rewards(episode, rollout_labels(episode, noise))
        bandit.learn(contexts[row], {name: reward.mean for name, reward in rewards.items()}, shared=shared)
    at[len(order)] = bandit.greedy(contexts[tested], bank.priors[tested])
    return Run(order=order, before=np.array(before), at=at, answers=np.array(answers), shared=float(shared))


def constant(bank: RouterBank, order: Ints, tested: Ints, *, pick: Callable[[int], WorkerName], seed: int) -> Run:
    """A router that learns nothing: `pick` says the worker of a row, which gets all the budget."""
    generator = np.random.default_rng([seed, 7])
    place = {name: index for index, name in enumerate(bank.workers)}
    answers = [
        drawn_episode(
            bank, row, {pick(row): BUDGET}, probabilities={}, propensities={}, generator=generator, id=f"{turn}"
        )[1]
        for turn, row in enumerate(order.tolist())
    ]
    at = np.array([place[pick(row)] for row in tested.tolist()])
    return Run(
        order=order,
        before=np.array([place[pick(row)] for row in order.tolist()]),
        at=dict.fromkeys([*[one for one in CHECKPOINTS if one < len(order)], len(order)], at),
        answers=np.array(answers),
        shared=0.0,
    )


def train_ids(count: int) -> list[EpisodeId]:
    """Ids of episodes that are not kept for audit."""
    found: list[EpisodeId] = []
    number = 0
    while len(found) < count:
        probe = SeenEpisode(
            id=EpisodeId(f"bank-{number}"),
            features=np.zeros(1, dtype=np.float32),
            probabilities={},
            propensities={},
            allocation={},
            rollouts=(),
        )
        found += [] if probe.audit else [probe.id]
        number += 1
    return found


LINEAR = {"ucb": [(0.1, 1.0), (0.3, 1.0), (1.0, 1.0)], "ts": [(0.05, 1.0), (0.1, 1.0), (0.3, 1.0)]}
RATES = (0.05, 0.2, 0.5)
VOWPAL = {
    "VW squarecb": ("--squarecb --gamma_scale 10", "--squarecb --gamma_scale 100"),
    "VW regcb": ("--regcb --mellowness 0.1", "--regcb --mellowness 0.001", "--regcbopt --mellowness 0.1"),
}


def rivals(workers: Sequence[WorkerName]) -> dict[str, dict[str, Callable[[int], Rival]]]:
    """By name the rivals, each in the settings to choose from on the tuning half."""
    made: dict[str, dict[str, Callable[[int], Rival]]] = {}
    for kind, title in (("ucb", "LinUCB"), ("ts", "LinTS")):
        made[title] = {
            f"alpha {alpha}": lambda seed, kind=kind, alpha=alpha, ridge=ridge: Linear(
                workers, kind=kind, alpha=alpha, ridge=ridge, seed=seed
            )
            for alpha, ridge in LINEAR[kind]
        }
    for title, options in VOWPAL.items():
        made[title] = {
            f"{option.split('--')[-1]} rate {rate}": lambda seed, option=option, rate=rate: Vowpal(
                workers, options=option, rate=rate, seed=seed
            )
            for option in options
            for rate in RATES
        }
    return made


def prior_pick(bank: RouterBank) -> Callable[[int], WorkerName]:
    """The untrained router's worker of a row."""
    return lambda row: bank.workers[int(softmax(bank.priors[row]).argmax())]
