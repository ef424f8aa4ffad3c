"""The router: exactly its prior while untrained, honest about its odds, and steady when workers come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.router import BUDGETS, MINIMUM_PROPENSITY, Router, share_out
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
    right = [next(iter(router.probabilities(encoder.features(query)))) == name for query, name in held_out]
    print(f"prior, held-out queries: {sum(right)} of {len(right)}")
    assert len(right) == 36
    assert sum(right) / len(right) >= 0.75


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


def test_propensities_are_the_true_odds(encoder: Encoder) -> None:
    texts = {WorkerName(name): [text] for name, text in {"a": "cats", "b": "dogs", "c": "the stock market"}.items()}
    router = Router(workers=texts, encoder=encoder)
    features = encoder.features("cats")
    random, runs = np.random.default_rng(5), 4000
    routes = [router.route(features, generator=random, rollouts=4) for _ in range(runs)]
    for name in router.workers:
        share = sum(name in route.allocation for route in routes) / runs
        assert share == pytest.approx(routes[0].propensities[name], abs=0.015)
    assert min(routes[0].propensities.values()) >= MINIMUM_PROPENSITY


def test_the_same_seed_gives_the_same_route(router: Router, encoder: Encoder) -> None:
    features = encoder.features("Sort these words")
    assert router.route(features, generator=generator()) == router.route(features, generator=generator())


def test_building_a_router_moves_no_one_elses_random_numbers(encoder: Encoder) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    Router(workers={WorkerName("a"): ["a"]}, encoder=encoder)
    assert torch.equal(torch.rand(1), expected)


def test_what_was_learned_survives_a_save_and_a_change_of_workers(encoder: Encoder, tmp_path: Path) -> None:
    a, b, c = WorkerName("a"), WorkerName("b"), WorkerName("c")
    before = Router(workers={a: ["cats"], b: ["dogs"]}, encoder=encoder)
    with torch.no_grad():
        before.network.worker_head.bias.copy_(torch.tensor([0.5, 2.0]))
    before.save(tmp_path / "router.safetensors")
    after = Router(workers={c: ["fish"], b: ["dogs"]}, encoder=encoder)
    after.load(tmp_path / "router.safetensors")
    assert after.network.worker_head.bias.tolist() == [0.0, 2.0]
    (tmp_path / "other").write_text("no router")
    with pytest.raises(StorageError, match="not a saved router"):
        after.load(tmp_path / "other")


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
