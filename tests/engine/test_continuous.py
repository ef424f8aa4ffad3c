"""What only the continuous engine can get wrong: its manager's life, and rows that are not all its own."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest
import torch

from kaelum_graph.errors import ModelError
from kaelum_graph.models.base import CancelToken, GenerationRequest, Sampling
from kaelum_graph.models.continuous import ContinuousEngine, prefers_continuous
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.types import Message
from tests.engine.test_architectures import build
from tests.engine.tiny_models import CONTEXT, DEVICE, byte_tokenizer, random_qwen2


@pytest.fixture
def model() -> Generator[LocalPolicyModel]:
    with LocalPolicyModel(random_qwen2(), byte_tokenizer(), name="tiny", engine="continuous", max_batch=4) as local:
        yield local


def ask(text: str = "go", *, n: int = 1, **sampling: Any) -> GenerationRequest:
    chosen: dict[str, Any] = {"temperature": 1.0, "seed": 1, "max_tokens": 10} | sampling
    return GenerationRequest(messages=(Message("user", text),), n=n, sampling=Sampling(**chosen))


def texts(model: LocalPolicyModel, request: GenerationRequest) -> list[str]:
    generation = model.generate([request])[0]
    assert generation.error is None
    return [sample.text for sample in generation.samples]


def engine_of(model: LocalPolicyModel) -> ContinuousEngine:
    engine = model._engine
    assert isinstance(engine, ContinuousEngine)
    return engine


def test_it_says_what_the_padded_engine_says() -> None:
    request = ask("a question", n=3, max_tokens=60)
    # Both are built before a manager starts: its thread seeds torch's global generator.
    weights = [random_qwen2(), random_qwen2()]
    said: list[list[str]] = []
    for engine, raw in zip(("padded", "continuous"), weights, strict=True):
        with LocalPolicyModel(raw, byte_tokenizer(), name="tiny", engine=engine) as local:  # type: ignore[arg-type]
            said.append(texts(local, request))
    assert said[0] == said[1]


def test_a_greedy_request_does_not_end_the_managers_thread(model: LocalPolicyModel) -> None:
    assert texts(model, ask(temperature=0.0))
    assert texts(model, ask(temperature=0))
    assert engine_of(model)._manager.is_running()


def test_a_dead_manager_is_replaced(model: LocalPolicyModel) -> None:
    expected = texts(model, ask())
    dead = engine_of(model)._manager
    dead.stop(block=True, hard_stop=True)
    assert texts(model, ask()) == expected
    assert engine_of(model)._manager is not dead


def test_nothing_is_kept_of_what_has_ended(model: LocalPolicyModel) -> None:
    cancelled = CancelToken()
    cancelled.cancel()
    for _ in range(4):
        model.generate([ask(n=6), ask(stop=("e", "a"), n=3), ask(max_tokens=1)])
        model.generate([ask()], cancel=cancelled)
        model.generate([ask(max_tokens=400, n=2)], deadline=time.monotonic() + 0.05)
    engine = engine_of(model)
    scheduler = engine._manager.batch_processor.scheduler
    blocks = scheduler.cache.num_blocks

    def held() -> int:
        return round((1 - scheduler.cache.compute_free_capacity()) * blocks)

    # The manager sees to a cancellation before its next step, not before the caller has its answer; one that comes as
    # its last request ends may wait for the next request, with the page it holds. It never adds up.
    limit = time.monotonic() + 10
    while (engine._live or scheduler.has_pending_requests() or held() > 1) and time.monotonic() < limit:
        time.sleep(0.01)
    assert engine._live == {}
    assert not scheduler.has_pending_requests()
    assert held() <= 1


def test_a_batch_of_one_holds_the_whole_context() -> None:
    with LocalPolicyModel(random_qwen2(), byte_tokenizer(), name="tiny", engine="continuous", max_batch=1) as local:
        rest = CONTEXT - local.count_tokens((Message("user", "x"),))
        long = ask("x" * (rest - 20), max_tokens=1000, temperature=3.0)
        generation = local.generate([long])[0]
        assert generation.error is None
        assert generation.samples[0].finish in ("length", "stop")


def test_rows_of_nobody_are_ignored(model: LocalPolicyModel) -> None:
    scores = torch.randn(3, 11)
    best = engine_of(model).step(["unknown"], scores).argmax(-1)
    assert best.tolist() == [0, 0, 0]


def test_architectures_it_does_not_carry_are_refused() -> None:
    with pytest.raises(ModelError, match="JambaForCausalLM"):
        ContinuousEngine(build("jamba"), max_batch=4, context=256)


@pytest.mark.skipif(DEVICE != "cpu", reason="the choice on a CPU")
def test_a_cpu_prefers_the_padded_engine() -> None:
    assert not prefers_continuous(random_qwen2())
    with LocalPolicyModel(random_qwen2(), byte_tokenizer(), name="tiny") as local:
        assert local.engine_name == "padded"
