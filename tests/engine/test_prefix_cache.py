"""What a new prompt shares with an earlier one is not read again, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.models.prefix_cache import LEAST_TOKENS, PrefixCache, common_length
from kaelum_graph.types import Message
from tests.engine.tiny_models import byte_tokenizer, random_qwen2

INSTRUCTIONS = "Solve the problem in short lines, one calculation a line with its result."

cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reads prompts faster than it copies them")


def ask(text: str, *, n: int = 1) -> GenerationRequest:
    return GenerationRequest(
        messages=(Message("system", INSTRUCTIONS), Message("user", text)),
        n=n,
        sampling=Sampling(temperature=1.0, seed=3, max_tokens=12),
    )


def serve(raw: Any) -> LocalPolicyModel:
    return LocalPolicyModel(raw, byte_tokenizer(), name="tiny", engine="padded")


def texts(model: LocalPolicyModel, *requests: GenerationRequest) -> list[list[str]]:
    generations = model.generate(list(requests))
    assert all(generation.error is None for generation in generations)
    return [[sample.text for sample in generation.samples] for generation in generations]


class Reads:
    """Prompt tokens of every forward pass that reads more than one."""

    def __init__(self, model: Any) -> None:
        self.tokens: list[int] = []
        model.register_forward_pre_hook(self._before, with_kwargs=True)

    def _before(self, _module: Any, args: Any, kwargs: Any) -> None:
        length = kwargs.get("input_ids", args[0] if args else None).shape[1]
        if length > 1:
            self.tokens.append(length)


@cpu_only
def test_instructions_are_read_once() -> None:
    raw = random_qwen2()
    reads = Reads(raw)
    with serve(raw) as model:
        texts(model, ask("What is 1 + 1?"))
        texts(model, ask("And what is 2 + 9?"))
    first, second = reads.tokens
    assert first > len(INSTRUCTIONS) + 20
    assert second < 60


@cpu_only
@pytest.mark.parametrize("company", [1, 4])
def test_the_answers_are_those_of_a_model_that_reads_everything(company: int) -> None:
    questions = [f"What is {number} + {number}?" for number in range(company)]
    with serve(random_qwen2()) as model:
        texts(model, ask("What is 100 + 100?"))
        shared = texts(model, *(ask(question, n=2) for question in questions))
    alone: list[list[str]] = []
    for question in questions:
        with serve(random_qwen2()) as model:
            alone += texts(model, ask(question, n=2))
    assert shared == alone


@cpu_only
def test_the_same_prompt_again_is_hardly_read_at_all() -> None:
    raw = random_qwen2()
    reads = Reads(raw)
    with serve(raw) as model:
        assert texts(model, ask("Why?")) == texts(model, ask("Why?"))
    assert len(reads.tokens) == 1


def cache_of(raw: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return raw(torch.tensor([ids])).past_key_values


def test_what_is_kept_stays_under_its_bound() -> None:
    raw = random_qwen2()
    prompts = [[number] * 40 for number in range(5)]
    caches = [cache_of(raw, ids) for ids in prompts]
    one = sum(layer.keys.numel() * 2 * layer.keys.element_size() for layer in caches[0].layers)
    kept = PrefixCache(raw.config, most_bytes=2 * one)
    for ids, cache in zip(prompts, caches, strict=True):
        kept.keep(ids, cache)
    assert [kept.begins(ids) for ids in prompts] == [False, False, False, True, True]
    tiny = PrefixCache(raw.config, most_bytes=one - 1)
    tiny.keep(prompts[0], caches[0])
    assert not tiny.begins(prompts[0])


def test_a_short_common_beginning_is_not_worth_it() -> None:
    raw = random_qwen2()
    kept = PrefixCache(raw.config)
    kept.keep([1] * 60, cache_of(raw, [1] * 60))
    assert not kept.begins([1] * (LEAST_TOKENS - 1) + [2] * 40)
    cache, length = kept.longest([1] * LEAST_TOKENS + [2] * 40)
    assert length == LEAST_TOKENS
    assert cache.get_seq_length() == LEAST_TOKENS


def test_common_length() -> None:
    assert common_length([1, 2, 3], [1, 2, 4]) == 2
    assert common_length([1, 2], [1, 2, 4]) == 2
    assert common_length([], [1]) == 0
