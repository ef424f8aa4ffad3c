"""How the padded engine fills its batches: prompts read once, sequences that join and leave, waves elsewhere."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from kaelum_graph.models.base import Delta, GenerationRequest, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.models.padded import PaddedEngine, Rows, left_pad, prefill_batches
from kaelum_graph.types import Message
from tests.engine.test_architectures import build
from tests.engine.tiny_models import byte_tokenizer, random_qwen2


class Passes:
    """The `[B, L]` shape of every forward pass of a model, and a gate that holds one back."""

    def __init__(self, model: Any) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.hold_at = -1
        self.held = threading.Event()
        self.go_on = threading.Event()
        model.register_forward_pre_hook(self._before, with_kwargs=True)

    def _before(self, _module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self.shapes.append(tuple(ids.shape))
        if len(self.shapes) == self.hold_at:
            self.held.set()
            assert self.go_on.wait(20)

    @property
    def rows(self) -> list[int]:
        """Rows of each step, prompts aside."""
        return [rows for rows, length in self.shapes if length == 1]


def ask(text: str, *, n: int = 1, tokens: int = 8, seed: int = 1) -> GenerationRequest:
    sampling = Sampling(temperature=1.0, seed=seed, max_tokens=tokens)
    return GenerationRequest(messages=(Message("user", text),), n=n, sampling=sampling)


def texts(model: LocalPolicyModel, requests: list[GenerationRequest]) -> list[list[str]]:
    generations = model.generate(requests)
    assert all(generation.error is None for generation in generations)
    return [[sample.text for sample in generation.samples] for generation in generations]


def serve(raw: Any, *, max_batch: int = 32) -> LocalPolicyModel:
    return LocalPolicyModel(raw, byte_tokenizer(), name="tiny", engine="padded", max_batch=max_batch)


def test_a_prompt_is_read_once_for_all_its_samples() -> None:
    raw = random_qwen2()
    passes = Passes(raw)
    with serve(raw) as model:
        texts(model, [ask("some question", n=8)])
        prompt = model.count_tokens((Message("user", "some question"),))
    reading = [shape for shape in passes.shapes if shape[1] > 1]
    assert reading == [(1, prompt - 1)]
    assert passes.rows[0] == 8


def test_a_newcomer_joins_the_running_batch() -> None:
    raw = random_qwen2(seed=4)
    passes = Passes(raw)
    with serve(raw) as model:
        alone = texts(model, [ask("first", tokens=60)]), texts(model, [ask("the second one", n=2, tokens=6)])
        passes.shapes.clear()
        passes.hold_at = 8
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(texts, model, [ask("first", tokens=60)])
            assert passes.held.wait(20)
            second = pool.submit(texts, model, [ask("the second one", n=2, tokens=6)])
            while not model._engine._queue:  # type: ignore[attr-defined]
                pass
            passes.go_on.set()
            assert (first.result(20), second.result(20)) == alone
    # One row, then three, then one again, without starting over.
    assert [rows for at, rows in enumerate(passes.rows) if at == 0 or rows != passes.rows[at - 1]] == [1, 3, 1]
    assert len(passes.rows) < 70


def test_rows_that_ended_leave_the_batch() -> None:
    raw = random_qwen2(seed=4)
    passes = Passes(raw)
    requests = [ask(f"q{size}", tokens=size, seed=size) for size in (4, 4, 4, 40)]
    with serve(raw) as model:
        together = texts(model, requests)
        assert passes.rows[0] == 4
        assert passes.rows[-1] == 1
        assert together == [texts(model, [request])[0] for request in requests]


def test_a_full_batch_takes_the_next_as_soon_as_a_row_is_free() -> None:
    raw = random_qwen2(seed=4)
    passes = Passes(raw)
    requests = [ask(f"q{size}", tokens=size, seed=size) for size in (5, 30, 5, 5, 5, 5)]
    with serve(raw, max_batch=2) as model:
        together = texts(model, requests)
        assert max(passes.rows) == 2
        # The long one runs beside all the others, one after another.
        assert len(passes.rows) <= 32
        assert together == [texts(model, [request])[0] for request in requests]


def test_waves_follow_each_other_where_rows_cannot_join() -> None:
    raw = build("jamba")
    passes = Passes(raw)
    with serve(raw, max_batch=2) as model:
        together = texts(model, [ask("one", n=3, tokens=5), ask("two two", tokens=5)])
        assert [rows for rows, length in passes.shapes if length > 1] == [2, 2]
        assert together[0] == texts(model, [ask("one", n=3, tokens=5)])[0]


def test_calls_are_served_first_come_first_served() -> None:
    raw = random_qwen2(seed=4)
    passes = Passes(raw)
    order: list[str] = []
    with serve(raw, max_batch=1) as model, ThreadPoolExecutor(4) as pool:
        passes.hold_at = 3
        calls: list[Future[Any]] = [pool.submit(texts, model, [ask("zero")])]
        assert passes.held.wait(20)
        for number in range(3):
            calls.append(pool.submit(model.generate, [ask(f"{number}", n=2)], on_delta=note(order, str(number))))
            while len(model._engine._queue) < 2 * (number + 1):  # type: ignore[attr-defined]
                pass
        passes.go_on.set()
        for call in calls:
            call.result(20)
    assert [name for at, name in enumerate(order) if at == 0 or name != order[at - 1]] == ["0", "1", "2"]


def note(order: list[str], name: str) -> Any:
    def receive(_: Delta) -> None:
        order.append(name)

    return receive


def test_left_padding() -> None:
    ids, mask = left_pad([[1, 2, 3], [9]], torch.device("cpu"))
    assert ids.tolist() == [[1, 2, 3], [0, 0, 9]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_prefill_batches_group_equal_prompts_within_a_token_budget() -> None:
    class Stub:
        def __init__(self, *ids: int) -> None:
            self.ids = list(ids)

    a, b, c, d = Stub(1, 2, 3), Stub(4, 5), Stub(1, 2, 3), Stub(*range(9))
    batches = prefill_batches([a, b, c, d], 8)  # type: ignore[list-item]
    assert batches == [[[b], [a, c]], [[d]]]


def cache_of(rows: list[list[float]]) -> DynamicCache:
    """A cache of one layer whose keys are `rows` and whose values are their negatives."""
    made = DynamicCache()
    keys = torch.tensor(rows)[:, None, :, None]
    made.update(keys, -keys, 0)
    return made


def cached(rows: Rows) -> list[list[float]]:
    layer: Any = rows.cache.layers[0] if rows.cache else None
    assert torch.equal(layer.values, -layer.keys)
    return layer.keys[:, 0, :, 0].tolist()


def test_joining_pads_the_shorter_side_and_leaving_trims_what_all_share() -> None:
    class Stub:
        done = False

    one, two, three = Stub(), Stub(), Stub()
    cpu = torch.device("cpu")
    rows = Rows(cpu)
    rows.join([one], *left_pad([[1, 2, 3, 4]], cpu), cache_of([[1, 2, 3]]))  # type: ignore[list-item]
    rows.join([two, three], *left_pad([[5, 6], [7, 8, 9]], cpu), cache_of([[0, 5], [7, 8]]))  # type: ignore[list-item]
    assert rows.ids.tolist() == [[1, 2, 3, 4], [0, 0, 5, 6], [0, 7, 8, 9]]
    assert rows.mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    assert cached(rows) == [[1, 2, 3], [0, 0, 5], [0, 7, 8]]
    rows.keep([1, 2])
    assert rows.samples == [two, three]
    assert rows.ids.tolist() == [[0, 5, 6], [7, 8, 9]]
    assert rows.mask.tolist() == [[0, 1, 1], [1, 1, 1]]
    assert cached(rows) == [[0, 5], [7, 8]]
    rows.join([one], *left_pad([[1, 2, 3, 4, 5]], cpu), cache_of([[1, 2, 3, 4]]))  # type: ignore[list-item]
    assert cached(rows) == [[0, 0, 0, 5], [0, 0, 7, 8], [1, 2, 3, 4]]
    rows.keep([])
    assert (rows.samples, rows.cache) == ([], None)


@pytest.mark.parametrize("wanted", [1, 3])
def test_the_engine_never_exceeds_its_batch(wanted: int) -> None:
    raw = random_qwen2()
    passes = Passes(raw)
    with serve(raw, max_batch=wanted) as model:
        assert isinstance(model._engine, PaddedEngine)
        texts(model, [ask("a", n=4), ask("b", n=2)])
    assert max(passes.rows) == wanted
