"""What a second four rollouts of a query are worth, and whether the learned budget head can tell."""

from __future__ import annotations

import numpy as np

from benchmarks.replay import encoder
from benchmarks.router_intervals import resampled, told
from benchmarks.router_runs import learned
from benchmarks.router_stream import RouterBank, drawn_episode, order_of
from kaelum_graph.learning.budgets import budget_values
from kaelum_graph.learning.labels import rollout_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.router import BUDGETS, Router, allocate
from kaelum_graph.workers import all_workers


def budgets(bank: RouterBank, orders: int) -> None:
    """Print what a second four rollouts are worth, and what the learned budget head makes of it."""
    tested = np.concatenate([bank.rows("held out"), bank.rows("unseen")])
    stream, noise, small = bank.rows("stream"), NoiseModel(), BUDGETS.index(8) + 1
    values = np.zeros((orders, len(tested), small))
    chose_more, would_have = (np.zeros((orders, len(tested)), dtype=bool) for _ in range(2))
    for seed in range(orders):
        learner = learned(bank, order_of(stream, seed), seed=seed)
        router = Router(
            workers={name: (one.description, *one.examples) for name, one in all_workers().items()}, encoder=encoder()
        )
        learner.install(router)
        generator = np.random.default_rng([seed, 9])
        for place, row in enumerate(tested.tolist()):
            features = bank.features[row]
            chose_more[seed, place] = router.route(features, generator=generator).rollouts > BUDGETS[0]
            would_have[seed, place] = learner.budget_choice(features) > 0
            allocation, odds = allocate(router.probabilities(features), 8, generator)
            # A sure router asks for eight rollouts of one worker, and the bank has but four: they are too few to judge.
            episode, _ = drawn_episode(
                bank, row, allocation, probabilities={}, propensities=odds, generator=generator, id=f"{row}"
            )
            found = budget_values(episode, rollout_labels(episode, noise))
            values[seed, place] = [*found, *[np.nan] * small][:small]
    known = ~np.isnan(values[:, :, 1])
    gain = np.where(known, values[:, :, 1] - values[:, :, 0], 0.0)
    print("\n## Budgets\n")
    print(f"{len(tested)} held-out and unseen queries, {orders} orders; {int(known.sum())} searches of 8 rollouts.\n")
    print("| | P(right) of the answer, less the price of its tokens |\n|---|---|")
    print(f"| 4 rollouts | {told(resampled(np.where(known, values[:, :, 0], 0.0), known.astype(float)))} |")
    print(f"| 8 rollouts, less 4 | {told(resampled(gain, known.astype(float)), '+.3f')} |")
    print(f"| as the head chooses, less 4 | {told(resampled(gain * chose_more, known.astype(float)), '+.3f')} |")
    heard = told(resampled(gain * would_have, known.astype(float)), "+.3f")
    print(f"| as it would if it were heard, less 4 | {heard} |")
    print(
        f"\nThe head chooses more than 4 for {chose_more.mean():.0%} of the queries, "
        f"and would for {would_have.mean():.0%} if it were heard."
    )
