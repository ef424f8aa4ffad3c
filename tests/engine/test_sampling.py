"""The draw is transformers' own distribution, made from the same settings, whatever shares the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import Sampling
from kaelum_graph.models.sampling import CANDIDATES, check_sampling, draw, likeliest, uniforms

VOCABULARY = 300 * 64 + 17


def logits_of(seed: int, *, spread: float, vocabulary: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def library_distribution(logits: torch.Tensor, *, temperature: float, top_p: float, top_k: int) -> torch.Tensor:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    nothing: Any = torch.zeros(1, 1, dtype=torch.long)
    return warpers(nothing, logits).double().softmax(-1)[0]


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k", "spread"),
    [
        (0.7, 0.95, 0, 4.0),
        (1.0, 0.9, 40, 3.0),
        (1.5, 1.0, 5, 1.0),
        (1.0, 1.0, 0, 2.0),
        (1.0, 0.95, 0, 0.3),  # nearly flat: the nucleus is most of the vocabulary
        (0.7, 0.5, CANDIDATES + 100, 0.2),  # a top-k past the candidates
    ],
)
def test_draws_follow_the_librarys_distribution(temperature: float, top_p: float, top_k: int, spread: float) -> None:
    logits = logits_of(3, spread=spread)
    expected = library_distribution(logits, temperature=temperature, top_p=top_p, top_k=top_k)
    count = 24
    numbers = (np.arange(count) + 0.5) / count
    tokens = draw(
        logits.repeat(count, 1),
        temperatures=[temperature] * count,
        top_ps=[top_p] * count,
        top_ks=[top_k] * count,
        numbers=numbers.tolist(),
    ).tokens
    assert bool((expected[tokens] > 0).all())
    # Evenly spaced numbers must land where the cumulative distribution, in order of ids, says.
    cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), expected.cumsum(0)])
    for number, token in zip(numbers, tokens.tolist(), strict=True):
        assert cumulative[token] - 2e-4 <= number <= cumulative[token + 1] + 2e-4


def test_rows_do_not_touch_each_other() -> None:
    rows = torch.cat([logits_of(seed, spread=spread) for seed, spread in enumerate((4.0, 0.3, 2.0, 1.0))])
    settings = [(0.7, 0.95, 0, 0.3), (1.0, 0.95, 0, 0.6), (0.0, 1.0, 0, 0.1), (1.0, 1.0, 0, 0.9)]

    def drawn(which: list[int]) -> list[int]:
        picked = [settings[row] for row in which]
        return draw(
            rows[which],
            temperatures=[one[0] for one in picked],
            top_ps=[one[1] for one in picked],
            top_ks=[one[2] for one in picked],
            numbers=[one[3] for one in picked],
        ).tokens.tolist()

    assert drawn([0, 1, 2, 3]) == [drawn([row])[0] for row in range(4)]


def test_greedy_takes_the_first_of_equals_and_logprobs_are_the_models_own() -> None:
    logits = logits_of(1, spread=1.0)
    logits[0, [500, 15_000]] = 30.0
    drawn = draw(logits, temperatures=[0.0], top_ps=[0.5], top_ks=[1], numbers=[0.9])
    assert drawn.tokens.tolist() == [500]
    assert drawn.logprobs.item() == pytest.approx(math.log(0.5), abs=1e-4)


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-46, 1e-300])
@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_the_least_temperatures_are_greedy(temperature: float, top_p: float) -> None:
    logits = logits_of(1, spread=4.0)
    drawn = draw(logits, temperatures=[temperature], top_ps=[top_p], top_ks=[0], numbers=[0.9])
    assert drawn.tokens.tolist() == [int(logits.argmax())]


def test_logits_that_are_not_finite_are_reported_by_their_own_row() -> None:
    logits = torch.cat([logits_of(1, spread=1.0), torch.full((1, VOCABULARY), torch.nan)])
    drawn = draw(logits, temperatures=[0.7, 0.7], top_ps=[0.9, 0.9], top_ks=[0, 0], numbers=[0.5, 0.5])
    assert drawn.logprobs.isnan().tolist() == [False, True]
    assert 0 <= int(drawn.tokens[1]) < VOCABULARY


@pytest.mark.parametrize("vocabulary", [50, CANDIDATES * 64, VOCABULARY])
def test_likeliest_are_exactly_the_largest(vocabulary: int) -> None:
    logits = logits_of(5, spread=1.0, vocabulary=vocabulary)
    values, ids = likeliest(logits, CANDIDATES)
    assert torch.equal(values, logits.topk(min(CANDIDATES, vocabulary), dim=-1).values)
    assert torch.equal(logits.gather(1, ids), values)


def test_numbers_are_a_function_of_seed_and_sample() -> None:
    assert np.array_equal(uniforms(7, 2, 10), uniforms(7, 2, 10))
    assert np.array_equal(uniforms(7, 2, 5), uniforms(7, 2, 10)[:5])
    distinct = {tuple(uniforms(seed, index, 3)) for seed in (-7, 0, 7) for index in (0, 1)}
    assert len(distinct) == 6
    assert not np.array_equal(uniforms(None, 0, 5), uniforms(None, 0, 5))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=-0.1),
        Sampling(temperature=math.nan),
        Sampling(temperature=math.inf),
        Sampling(top_p=0.0),
        Sampling(top_p=1.1),
        Sampling(top_p=math.nan),
        Sampling(top_k=-1),
        Sampling(max_tokens=0),
        Sampling(stop=("",)),
        Sampling(stop="abc"),  # type: ignore[arg-type]
        Sampling(temperature="hot"),  # type: ignore[arg-type]
        Sampling(top_p=None),  # type: ignore[arg-type]
        Sampling(max_tokens=1.5),  # type: ignore[arg-type]
        Sampling(seed="x"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_are_named(sampling: Sampling) -> None:
    with pytest.raises(UsageError, match=r"^(temperature|top_p|top_k|max_tokens|stop|seed) is "):
        check_sampling(sampling)


def test_integers_are_numbers() -> None:
    check_sampling(Sampling(temperature=1, top_p=1))
