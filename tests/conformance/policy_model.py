"""What every policy model must do, whatever is behind it.

To run the suite over a backend, subclass `PolicyModelConformance` in a test module and give it a fixture `backend`
that returns a `Backend`. The suite asks only for what `PolicyModel` promises; where a backend lacks a feature
(`capabilities`), the tests of that feature are skipped.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from kaelum_graph.errors import KaelumError, ModelError
from kaelum_graph.models.base import (
    CancelToken,
    Delta,
    Generation,
    GenerationRequest,
    PolicyModel,
    Sample,
    Sampling,
)
from kaelum_graph.types import Message

PROMPT_SECONDS = 2.0
"""How long after a cancellation or a deadline a call may take to return. Generous, for loaded machines."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A model under test.

    `make` builds another of its kind, to be closed. `prompt` has an answer of at least eight tokens. `long_prompt`
    has one that takes at least five seconds to give `long_tokens` tokens of. `bad` is a prompt that only this
    backend refuses, where there is such a thing.
    """

    model: PolicyModel
    make: Callable[[], PolicyModel]
    prompt: str
    long_prompt: str
    long_tokens: int = 4000
    bad: str | None = None


def request(
    prompt: str,
    *,
    n: int = 1,
    partial_answer: str = "",
    temperature: float = 1.0,
    max_tokens: int = 16,
    stop: tuple[str, ...] = (),
    seed: int | None = None,
    logprobs: bool = True,
) -> GenerationRequest:
    """A request of one user turn."""
    return GenerationRequest(
        messages=(Message("user", prompt),),
        partial_answer=partial_answer,
        n=n,
        sampling=Sampling(
            temperature=temperature, top_p=1.0, max_tokens=max_tokens, stop=stop, seed=seed, logprobs=logprobs
        ),
    )


def only(generations: list[Generation]) -> tuple[Sample, ...]:
    """The samples of the one generation."""
    (generation,) = generations
    assert generation.error is None, generation.error
    return generation.samples


def texts(generations: list[Generation]) -> list[str]:
    """The texts of the one generation."""
    return [sample.text for sample in only(generations)]


def joined(deltas: list[Delta]) -> dict[tuple[str, int], str]:
    """Streamed text per sample."""
    parts: dict[tuple[str, int], str] = defaultdict(str)
    for delta in deltas:
        parts[delta.request_id, delta.index] += delta.text
    return dict(parts)


def whole(generations: list[Generation]) -> dict[tuple[str, int], str]:
    """Returned text per sample that has any."""
    return {
        (generation.request_id, index): sample.text
        for generation in generations
        for index, sample in enumerate(generation.samples)
        if sample.text
    }


class PolicyModelConformance:
    """The suite. A subclass has a fixture `backend`."""

    def test_as_many_samples_as_asked_for(self, backend: Backend) -> None:
        samples = only(backend.model.generate([request(backend.prompt, n=5)]))
        assert len(samples) == 5
        assert all(sample.text for sample in samples)
        assert len({sample.text for sample in samples}) > 1, "samples at temperature 1 are all the same"

    def test_no_request_is_no_work(self, backend: Backend) -> None:
        assert backend.model.generate([]) == []

    def test_generations_come_in_the_order_of_requests(self, backend: Backend) -> None:
        requests = [request(backend.prompt, n=1 + at % 3, max_tokens=2 + at % 5) for at in range(8)]
        generations = backend.model.generate(requests)
        assert [generation.request_id for generation in generations] == [item.request_id for item in requests]
        assert [len(generation.samples) for generation in generations] == [item.n for item in requests]

    def test_greedy_samples_repeat(self, backend: Backend) -> None:
        first, second = texts(backend.model.generate([request(backend.prompt, n=2, temperature=0)]))
        assert first == second
        assert texts(backend.model.generate([request(backend.prompt, temperature=0)])) == [first]

    def test_a_seed_fixes_each_sample_whatever_is_asked_for_beside_it(self, backend: Backend) -> None:
        four = texts(backend.model.generate([request(backend.prompt, n=4, seed=11)]))
        self._needs(backend, seed=True)  # some backends know only once they were asked
        assert len(set(four)) > 1, "samples of one seed must differ among themselves"
        others = [request(backend.prompt, n=2, seed=5), request(backend.prompt, n=2, seed=11)]
        other, two = backend.model.generate(others)
        assert [sample.text for sample in two.samples] == four[:2]
        assert [sample.text for sample in other.samples] != four[:2]

    def test_max_tokens_bounds_every_sample(self, backend: Backend) -> None:
        samples = only(backend.model.generate([request(backend.prompt, n=4, max_tokens=3)]))
        assert all(0 < sample.completion_tokens <= 3 for sample in samples)
        assert any(sample.finish == "length" for sample in samples)
        assert all(sample.finish in ("length", "stop") for sample in samples)

    def test_stop_strings_cut_the_text_wherever_they_fall(self, backend: Backend) -> None:
        (text,) = texts(backend.model.generate([request(backend.prompt, temperature=0)]))
        assert len(text) >= 8, f"the prompt's answer is too short to cut: {text!r}"
        # Three characters from each place: some of them lie across tokens and pieces of the stream.
        stops = [text[at : at + 3] for at in range(1, min(len(text) - 3, 14)) if "\ufffd" not in text[at : at + 3]]
        assert stops
        requests = [request(backend.prompt, temperature=0, stop=("\0never", stop)) for stop in stops]
        deltas: list[Delta] = []
        generations = backend.model.generate(requests, on_delta=deltas.append)
        for stop, generation in zip(stops, generations, strict=True):
            (sample,) = generation.samples
            assert sample.text == text[: text.find(stop)], f"stop {stop!r} of {text!r}"
            assert sample.finish == "stop"
        assert joined(deltas) == whole(generations)

    def test_more_than_four_stop_strings(self, backend: Backend) -> None:
        (text,) = texts(backend.model.generate([request(backend.prompt, temperature=0)]))
        stop = (*(f"\0never{at}" for at in range(5)), text[3:6])
        (cut,) = texts(backend.model.generate([request(backend.prompt, temperature=0, stop=stop)]))
        assert cut == text[: text.find(text[3:6])]

    def test_the_partial_answer_is_not_in_the_text(self, backend: Backend) -> None:
        partial = "The first step is done.\nThe second step"
        samples = only(backend.model.generate([request(backend.prompt, n=2, partial_answer=partial)]))
        assert len(samples) == 2
        for sample in samples:
            assert sample.text
            assert not sample.text.lstrip().startswith(partial)

    def test_the_partial_answer_counts_as_prompt(self, backend: Backend) -> None:
        (plain,) = backend.model.generate([request(backend.prompt)])
        (begun,) = backend.model.generate([request(backend.prompt, partial_answer="one two three four five " * 4)])
        assert 0 < plain.prompt_tokens < begun.prompt_tokens

    def test_streamed_pieces_make_up_the_text(self, backend: Backend) -> None:
        requests = [request(backend.prompt, n=3), request(backend.prompt, n=2, partial_answer="Well, ")]
        deltas: list[Delta] = []
        generations = backend.model.generate(requests, on_delta=deltas.append)
        assert joined(deltas) == whole(generations)
        assert len(deltas) > 5, "nothing was streamed piece by piece"
        assert all(delta.text for delta in deltas)

    def test_a_failing_callback_harms_nothing(self, backend: Backend) -> None:
        def broken(delta: Delta) -> None:
            raise RuntimeError("the caller's own mistake")

        samples = only(backend.model.generate([request(backend.prompt, n=2)], on_delta=broken))
        assert all(sample.finish in ("stop", "length") for sample in samples)

    def test_a_callback_may_ask_the_model_something(self, backend: Backend) -> None:
        counts: list[int] = []

        def ask(delta: Delta) -> None:
            if not counts:
                counts.append(backend.model.count_tokens([Message("user", "How long is this?")]))

        only(backend.model.generate([request(backend.prompt)], on_delta=ask))
        assert counts
        assert counts[0] > 0

    def test_log_probabilities_go_with_the_text(self, backend: Backend) -> None:
        generations = backend.model.generate([request(backend.prompt, n=3)])
        self._needs(backend, logprobs=True)
        for sample in only(generations):
            self._check_logprobs(sample)

    def test_log_probabilities_of_a_text_cut_by_a_stop_string(self, backend: Backend) -> None:
        (text,) = texts(backend.model.generate([request(backend.prompt, temperature=0)]))
        self._needs(backend, logprobs=True)
        cut = request(backend.prompt, temperature=0, stop=(text[4:7],))
        (sample,) = only(backend.model.generate([cut]))
        assert sample.text
        self._check_logprobs(sample)

    def test_log_probabilities_are_left_out_when_not_asked_for(self, backend: Backend) -> None:
        (sample,) = only(backend.model.generate([request(backend.prompt, logprobs=False)]))
        assert sample.token_logprobs is None
        assert sample.token_texts is None

    def test_cancelled_before_it_began(self, backend: Backend) -> None:
        token = CancelToken()
        token.cancel()
        started = time.monotonic()
        samples = only(backend.model.generate([self._long(backend, n=2)], cancel=token))
        assert [sample.finish for sample in samples] == ["cancelled", "cancelled"]
        assert time.monotonic() - started < PROMPT_SECONDS

    def test_cancelled_while_it_runs_keeps_what_there_is(self, backend: Backend) -> None:
        token, deltas = CancelToken(), list[Delta]()
        cancelled_at: list[float] = []

        def cancel_soon(delta: Delta) -> None:
            deltas.append(delta)
            if len(deltas) == 4:
                cancelled_at.append(time.monotonic())
                token.cancel()

        generations = backend.model.generate([self._long(backend, n=2)], cancel=token, on_delta=cancel_soon)
        assert time.monotonic() - cancelled_at[0] < PROMPT_SECONDS
        samples = only(generations)
        assert [sample.finish for sample in samples] == ["cancelled", "cancelled"]
        assert any(sample.text for sample in samples)
        assert joined(deltas) == whole(generations)

    def test_a_deadline_keeps_what_there_is(self, backend: Backend) -> None:
        started = time.monotonic()
        deltas: list[Delta] = []
        generations = backend.model.generate(
            [self._long(backend, n=2), self._long(backend)], deadline=started + 0.3, on_delta=deltas.append
        )
        assert 0.25 < time.monotonic() - started < 0.3 + PROMPT_SECONDS
        samples = [sample for generation in generations for sample in generation.samples]
        assert [sample.finish for sample in samples] == ["deadline"] * 3
        assert any(sample.text for sample in samples)
        assert joined(deltas) == whole(generations)

    def test_a_deadline_that_is_past(self, backend: Backend) -> None:
        started = time.monotonic()
        samples = only(backend.model.generate([self._long(backend, n=2)], deadline=started - 1))
        assert [(sample.finish, sample.text) for sample in samples] == [("deadline", "")] * 2
        assert time.monotonic() - started < PROMPT_SECONDS

    def test_the_model_goes_on_after_a_cancellation(self, backend: Backend) -> None:
        backend.model.generate([self._long(backend)], deadline=time.monotonic() + 0.1)
        assert len(only(backend.model.generate([request(backend.prompt, n=2)]))) == 2

    @pytest.mark.parametrize(
        "bad",
        [
            {"temperature": -1.0},
            {"temperature": math.nan},
            {"max_tokens": 0},
            {"n": 0},
            {"prompt": ""},
        ],
        ids=["temperature", "nan", "max_tokens", "n", "prompt"],
    )
    def test_a_bad_request_fails_alone(self, backend: Backend, bad: dict[str, object]) -> None:
        fields: dict[str, object] = {"prompt": backend.prompt, **bad}
        prompt = str(fields.pop("prompt"))
        wrong = request(prompt, **fields)  # pyright: ignore[reportArgumentType]
        generations = backend.model.generate([request(backend.prompt), wrong, request(backend.prompt, n=2)])
        self._check_only_the_second_failed(generations)

    def test_a_request_that_only_the_backend_can_refuse_fails_alone(self, backend: Backend) -> None:
        if backend.bad is None:
            pytest.skip("this backend refuses no prompt of its own")
        wrong = request(backend.bad, n=2)
        generations = backend.model.generate([request(backend.prompt), wrong, request(backend.prompt, n=2)])
        self._check_only_the_second_failed(generations)

    def test_a_bad_request_on_its_own_is_an_error_and_no_exception(self, backend: Backend) -> None:
        (generation,) = backend.model.generate([request(backend.prompt, max_tokens=-1)])
        assert isinstance(generation.error, KaelumError)

    def test_threads_share_the_model(self, backend: Backend) -> None:
        def work(at: int) -> bool:
            requests = [request(backend.prompt, n=1 + at % 2), request(backend.prompt, n=2)]
            deltas: list[Delta] = []
            generations = backend.model.generate(requests, on_delta=deltas.append)
            assert [item.request_id for item in requests] == [item.request_id for item in generations]
            assert [len(item.samples) for item in generations] == [1 + at % 2, 2]
            return joined(deltas) == whole(generations)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))

    async def test_asynchronous_calls_share_the_model(self, backend: Backend) -> None:
        calls = [backend.model.agenerate([request(backend.prompt, n=2)]) for _ in range(3)]
        for generations in await asyncio.gather(*calls):
            assert len(only(generations)) == 2

    async def test_a_cancelled_task_ends_its_generation(self, backend: Backend) -> None:
        token, begun = CancelToken(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def note(delta: Delta) -> None:
            loop.call_soon_threadsafe(begun.set)

        task = asyncio.create_task(backend.model.agenerate([self._long(backend)], cancel=token, on_delta=note))
        await asyncio.wait_for(begun.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert token.cancelled

    def test_token_counts_grow_with_the_messages(self, backend: Backend) -> None:
        short = [Message("user", "How long is this?")]
        long = [Message("system", "Answer in one word."), Message("user", "How long is this? " * 20)]
        assert 0 < backend.model.count_tokens(short) < backend.model.count_tokens(long) < 2000

    def test_a_closed_model_says_so(self, backend: Backend) -> None:
        with backend.make() as model:
            assert model.name
            assert len(only(model.generate([request(backend.prompt, max_tokens=2)]))) == 1
        model.close()
        with pytest.raises(ModelError):
            model.generate([request(backend.prompt)])

    def test_closing_ends_a_generation_that_runs(self, backend: Backend) -> None:
        model = backend.make()
        begun = CancelToken()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(
                model.generate, [self._long(backend)], on_delta=lambda delta: begun.cancel(), cancel=CancelToken()
            )
            limit = time.monotonic() + 20
            while not begun.cancelled and time.monotonic() < limit:
                time.sleep(0.01)
            model.close()
            try:
                errors = [generation.error for generation in future.result(10)]
            except ModelError as error:
                errors = [error]
        assert errors
        assert all(isinstance(error, ModelError) for error in errors)

    def _long(self, backend: Backend, *, n: int = 1) -> GenerationRequest:
        return request(backend.long_prompt, n=n, max_tokens=backend.long_tokens)

    def _needs(self, backend: Backend, *, seed: bool = False, logprobs: bool = False) -> None:
        has = backend.model.capabilities
        if (seed and not has.seed) or (logprobs and not has.logprobs):
            pytest.skip("this backend does not have the feature")

    def _check_logprobs(self, sample: Sample) -> None:
        assert sample.token_logprobs is not None
        assert sample.token_texts is not None
        assert len(sample.token_logprobs) == len(sample.token_texts)
        assert 0 < len(sample.token_logprobs) <= sample.completion_tokens
        assert "".join(sample.token_texts) == sample.text
        assert all(math.isfinite(value) and value <= 0 for value in sample.token_logprobs)

    def _check_only_the_second_failed(self, generations: list[Generation]) -> None:
        first, wrong, third = generations
        assert isinstance(wrong.error, KaelumError)
        assert "\n" not in str(wrong.error)
        assert not wrong.samples
        assert (first.error, len(first.samples)) == (None, 1)
        assert (third.error, len(third.samples)) == (None, 2)
