"""The router: exactly its prior while untrained, honest about its odds, and steady when workers come and go."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kaelum_graph.config import Effort
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import UsageError
from kaelum_graph.router import BUDGETS, MINIMUM_PROPENSITY, PolicyNetwork, Router, allocate, share_out
from kaelum_graph.types import WorkerName
from kaelum_graph.workers import all_workers
from tests.engine.routing_queries import QUERIES


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder(encoder_folder)


@pytest.fixture(scope="module")
def router(encoder: Encoder) -> Router:
    return Router(
        workers={name: (one.description, *one.examples) for name, one in all_workers().items()}, encoder=encoder
    )


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def test_untrained_it_is_the_prototype_prior(router: Router, encoder: Encoder) -> None:
    features = encoder.features("What is 2 + 2?")
    prior = np.exp(router.prior(features) - router.prior(features).max())
    found = router.probabilities(features)
    np.testing.assert_allclose([found[name] for name in router.workers], prior / prior.sum(), rtol=1e-4)
    route = router.route(features, generator=generator())
    assert (route.rollouts, route.depth) == (8, 4)


def test_the_prior_sends_most_queries_to_their_worker(router: Router, encoder: Encoder) -> None:
    held_out = [(query, name) for name, queries in QUERIES.items() for query in queries[1::2]]
    embeddings = encoder.encode([query for query, _ in held_out])
    rest = np.zeros(14, dtype=np.float32)
    found = [next(iter(router.probabilities(np.concatenate([embedding, rest])))) for embedding in embeddings]
    right = [worker == name for worker, (_, name) in zip(found, held_out, strict=True)]
    print(f"prior, held-out queries: {sum(right)} of {len(right)}")
    assert len(right) == 60
    assert sum(right) / len(right) >= 0.85


def test_budget_choice_is_ordinal(router: Router) -> None:
    _, budgets, _ = router.network(torch.zeros(398))
    assert budgets.shape == (len(BUDGETS),)
    assert float(budgets.sum().detach()) == pytest.approx(1.0)
    assert float(budgets.min().detach()) >= 0.0


@pytest.mark.parametrize(("effort", "rollouts"), [("none", 1), ("low", 4), ("high", 16), ("max", 32)])
def test_effort_sets_the_budget(router: Router, encoder: Encoder, effort: str, rollouts: int) -> None:
    features = encoder.features("What is 2 + 2?")
    route = router.route(features, generator=generator(), effort=effort)  # type: ignore[arg-type]
    assert route.rollouts == sum(route.allocation.values()) == rollouts
    assert router.route(features, generator=generator(), effort="low", rollouts=5).rollouts == 5


def test_a_named_worker_gets_everything(router: Router, encoder: Encoder) -> None:
    route = router.route(encoder.features("hello"), generator=generator(), worker=WorkerName("logic"), rollouts=6)
    assert route.allocation == {"logic": 6}
    with pytest.raises(UsageError, match="plumbing"):
        router.route(encoder.features("hello"), generator=generator(), worker=WorkerName("plumbing"))


def test_an_unsure_router_shares_the_rollouts(encoder: Encoder) -> None:
    texts = {WorkerName(name): ["the same words"] for name in "abcd"}
    route = Router(workers=texts, encoder=encoder).route(
        encoder.features("anything"), generator=generator(), rollouts=8
    )
    assert route.sharing
    assert len(route.allocation) == 3
    assert min(route.allocation.values()) >= 2
    assert sum(route.allocation.values()) == 8


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 5, 6, 8, 32])
@pytest.mark.parametrize("top", [0.9, 0.4])
def test_propensities_are_the_true_odds(budget: int, top: float) -> None:
    names = [WorkerName(name) for name in "abcdef"]
    probabilities = dict(zip(names, [top, *np.linspace(0.3, 0.1, 5) * (1 - top)], strict=True))
    random, runs = np.random.default_rng(5), 20_000
    drawn = [allocate(probabilities, budget, random) for _ in range(runs)]
    propensities = drawn[0][1]
    for allocation, odds in drawn:
        assert sum(allocation.values()) == budget
        assert min(allocation.values()) >= min(2, budget)
        assert max(allocation.values()) == allocation.get(names[0])
        assert odds == propensities
    for name in names:
        share = sum(name in allocation for allocation, _ in drawn) / runs
        assert share == pytest.approx(propensities[name], abs=0.009)
        assert propensities[name] == 0.0 or propensities[name] >= MINIMUM_PROPENSITY
    assert (min(propensities.values()) > 0) == (budget >= 4)


def test_a_sure_router_gives_the_top_worker_all_but_a_guests_two() -> None:
    probabilities = {WorkerName("a"): 0.8, WorkerName("b"): 0.15, WorkerName("c"): 0.05}
    random = np.random.default_rng(2)
    drawn = [allocate(probabilities, 8, random)[0] for _ in range(500)]
    assert sum(allocation == {"a": 8} for allocation in drawn) / 500 == pytest.approx(0.94, abs=0.03)
    assert all(allocation[WorkerName("a")] >= 6 for allocation in drawn)


def test_many_workers_leave_the_odds_sound() -> None:
    probabilities = {WorkerName(str(number)): 0.02 for number in range(50)}
    _, propensities = allocate(probabilities, 4, generator())
    assert sum(propensities.values()) == pytest.approx(2.0)
    assert min(propensities.values()) >= 0.0


def test_a_description_may_be_one_string(encoder: Encoder) -> None:
    one = Router(workers={WorkerName("a"): "cats", WorkerName("b"): "dogs"}, encoder=encoder)
    other = Router(workers={WorkerName("a"): ["cats"], WorkerName("b"): ["dogs"]}, encoder=encoder)
    features = encoder.features("a kitten")
    assert one.probabilities(features) == other.probabilities(features)


def test_bad_requests_are_named(router: Router, encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="398"):
        router.route(np.zeros(384, dtype=np.float32), generator=generator())
    with pytest.raises(UsageError, match="at least 1"):
        router.route(encoder.features("hello"), generator=generator(), rollouts=0)
    with pytest.raises(UsageError, match="at least one worker"):
        Router(workers={}, encoder=encoder)


def test_a_higher_budget_score_never_lowers_the_budget() -> None:
    network = PolicyNetwork(2)
    expected: list[float] = []
    for bias in (-6.0, -2.0, 0.0, 2.0, 6.0):
        with torch.no_grad():
            network.budget_head.bias.fill_(bias)
            _, budgets, _ = network(torch.zeros(398))
        expected.append(float(budgets @ torch.tensor(BUDGETS, dtype=torch.float32)))
    assert expected == sorted(expected)
    assert expected[0] < 5
    assert expected[-1] > 30


def test_every_head_gets_a_gradient_once_its_outlet_has_moved() -> None:
    network = PolicyNetwork(3)
    features = torch.randn(5, 398, generator=torch.Generator().manual_seed(0))
    workers, budgets, depths = network(features)
    loss = workers.logsumexp(-1).sum() + budgets[:, -1].log().sum() + depths.logsumexp(-1).sum()
    loss.backward()
    for head in (network.worker_head, network.budget_head, network.depth_head):
        assert head.weight.grad is not None
        assert head.weight.grad.abs().sum() > 0


def test_routing_is_fast(router: Router, encoder: Encoder) -> None:
    """In processor time of its own thread, and the quickest of many: on a busy machine threads of the matrix product
    spin while they wait for one another, and the rest measures the neighbours."""
    features, random = encoder.features("What is 2 + 2?"), generator()
    seconds: list[float] = []
    for _ in range(50):
        start = time.thread_time()
        router.route(features, generator=random)
        seconds.append(time.thread_time() - start)
    print(f"route: median {1000 * float(np.median(seconds)):.2f} ms")
    assert min(seconds) < 0.002


def test_the_same_seed_gives_the_same_route(router: Router, encoder: Encoder) -> None:
    features = encoder.features("Sort these words")
    assert router.route(features, generator=generator()) == router.route(features, generator=generator())


def test_building_a_router_moves_no_one_elses_random_numbers(encoder: Encoder) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    Router(workers={WorkerName("a"): ["a"]}, encoder=encoder)
    assert torch.equal(torch.rand(1), expected)


def test_beyond_the_budget_that_was_chosen_there_is_the_next_one(router: Router, encoder: Encoder) -> None:
    features = encoder.features("What is 12 * 13?")

    def given(*, rollouts: int | None = None, effort: Effort | None = None) -> int:
        return router.route(features, generator=generator(), beyond=True, rollouts=rollouts, effort=effort).rollouts

    assert given() == 16
    assert given(rollouts=4) == 4, "a budget that was named is kept"
    assert given(effort="low") == 4
    with torch.no_grad():
        router.network.budget_head.bias.fill_(20.0)
    assert given() == 32, "there is no greater one"
    with torch.no_grad():
        router.network.budget_head.bias.zero_()


def test_the_budget_head_is_followed_as_far_as_it_is_trusted() -> None:
    network = PolicyNetwork(2)
    for choice, trust, served in [
        (0, (0, 1, 1), 8), (0, (1, 0, 0), 4), (1, (1, 1, 1), 8), (2, (1, 0, 1), 8), (2, (0, 1, 0), 16),
        (3, (1, 0, 1), 8), (3, (0, 1, 0), 16), (3, (0, 1, 1), 32),
    ]:  # fmt: skip
        network.budget_trust.copy_(torch.tensor(trust))
        assert network.budget(torch.eye(4)[choice]) == served


@pytest.mark.parametrize(
    ("rollouts", "weights", "expected"),
    [
        (8, {"a": 0.5, "b": 0.5}, {"a": 4, "b": 4}),
        (8, {"a": 0.98, "b": 0.02}, {"a": 6, "b": 2}),
        (1, {"a": 1.0}, {"a": 1}),
    ],
)
def test_shares_sum_to_the_budget(rollouts: int, weights: dict[WorkerName, float], expected: dict[str, int]) -> None:
    assert share_out(rollouts, weights) == expected
