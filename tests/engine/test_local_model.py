"""What the local model promises, whichever engine is behind it: every test here runs on both."""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast

import pytest
import torch

from kaelum_graph.errors import ContextOverflow, ModelError, UsageError
from kaelum_graph.models.base import CancelToken, Delta, Generation, GenerationRequest, Sample, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.types import Message
from tests.engine.tiny_models import CONTEXT, byte_tokenizer, random_qwen2, reciting_qwen2

EngineName = Literal["padded", "continuous"]
Make = Callable[..., LocalPolicyModel]
LONG = 400


@pytest.fixture(scope="module", autouse=True)
def light_collections() -> Generator[None]:
    """The library collects garbage whenever a manager stops; what the imports left need not be searched each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", params=["padded", "continuous"])
def random_model(request: pytest.FixtureRequest) -> Generator[LocalPolicyModel]:
    """A tiny random model on the engine under test, shared by the tests that leave it as it was."""
    with LocalPolicyModel(random_qwen2(), byte_tokenizer(), name="tiny", engine=request.param) as model:
        yield model


@pytest.fixture
def make(random_model: LocalPolicyModel) -> Generator[Make]:
    """Serves a tiny model of the test's own on the engine under test; closes it afterwards."""
    made: list[LocalPolicyModel] = []

    def build(model: Any = None, **options: Any) -> LocalPolicyModel:
        if model is None and not options:
            return random_model
        engine = cast("EngineName", random_model.engine_name)
        tokenizer = options.pop("tokenizer", byte_tokenizer())
        local = LocalPolicyModel(model or random_qwen2(), tokenizer, name="tiny", engine=engine, **options)
        assert local.engine_name == engine
        made.append(local)
        return local

    yield build
    for local in made:
        local.close()


def ask(text: str = "go", *, n: int = 1, partial: str = "", **sampling: Any) -> GenerationRequest:
    sampling = {"max_tokens": 12, "seed": 1, "temperature": 1.0} | sampling
    messages = (Message("user", text),)
    return GenerationRequest(messages=messages, n=n, partial_answer=partial, sampling=Sampling(**sampling))


def only(generations: list[Generation]) -> Sample:
    assert len(generations) == 1
    assert generations[0].error is None
    return generations[0].samples[0]


def texts(generation: Generation) -> list[str]:
    assert generation.error is None
    return [sample.text for sample in generation.samples]


# What comes back ----------------------------------------------------------------------------------------------------


def test_many_requests_keep_their_order_and_number(make: Make) -> None:
    model = make()
    requests = [ask("one", n=3), ask("a longer question", n=1), ask("two", n=2, max_tokens=5)]
    generations = model.generate(requests)
    assert [generation.request_id for generation in generations] == [request.request_id for request in requests]
    assert [len(generation.samples) for generation in generations] == [3, 1, 2]
    for request, generation in zip(requests, generations, strict=True):
        assert generation.prompt_tokens == model.count_tokens(request.messages)
        for sample in generation.samples:
            assert 0 < sample.completion_tokens <= request.sampling.max_tokens
            assert sample.token_logprobs is not None
            assert sample.token_texts is not None
            assert len(sample.token_logprobs) == len(sample.token_texts)
            assert "".join(sample.token_texts) == sample.text
            assert all(value <= 0 for value in sample.token_logprobs)


def test_no_requests(make: Make) -> None:
    assert make().generate([]) == []


def test_more_samples_than_the_batch_holds(make: Make) -> None:
    alone = texts(make(max_batch=32).generate([ask(n=7)])[0])
    assert texts(make(max_batch=2).generate([ask(n=7)])[0]) == alone
    assert len(set(alone)) == 7


def test_a_turn_ends_where_the_model_ends_it(make: Make) -> None:
    sample = only(make(reciting_qwen2("hi")).generate([ask(temperature=0.0)]))
    assert (sample.text, sample.finish, sample.completion_tokens) == ("hi", "stop", 2)


def test_log_probabilities_can_be_left_out(make: Make) -> None:
    sample = only(make().generate([ask(logprobs=False)]))
    assert sample.token_logprobs is None
    assert sample.token_texts is None


def test_greedy_text_and_log_probabilities_are_the_plain_models(make: Make) -> None:
    plain, tokenizer = random_qwen2(), byte_tokenizer()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "go"}], add_generation_prompt=True, return_tensors="pt"
    ).input_ids.to(plain.device)
    mask = torch.ones_like(prompt)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    expected = plain.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=30, eos_token_id=ends)[0]
    new = torch.tensor([token for token in expected[prompt.shape[1] :].tolist() if token not in ends])
    logits = plain(expected[None]).logits[0, prompt.shape[1] - 1 : -1].float().log_softmax(-1)
    # Another request, longer and sampled, in the same batch.
    greedy, _ = make().generate([ask(temperature=0.0, max_tokens=30), ask("another one here", max_tokens=30)])
    sample = greedy.samples[0]
    assert sample.token_logprobs is not None
    assert sample.text == tokenizer.decode(new, skip_special_tokens=True).rstrip("\ufffd")
    assert sample.token_logprobs == pytest.approx(logits.gather(1, new[:, None])[:, 0].tolist(), abs=1e-3)


# Seeds and independence ---------------------------------------------------------------------------------------------


def test_a_seeded_request_does_not_depend_on_what_shares_its_batch(make: Make) -> None:
    model = make()
    request = ask("what", n=3, seed=5, max_tokens=40)
    alone = texts(model.generate([request])[0])
    others = [ask("x" * size, seed=size, max_tokens=9 * size, temperature=size / 3) for size in (1, 3, 9)]
    crowded = texts(model.generate([others[0], request, *others[1:]])[1])
    assert crowded == alone
    assert len(set(alone)) == 3
    assert texts(model.generate([ask("what", n=1, seed=5, max_tokens=40)])[0]) == alone[:1]


def test_without_a_seed_texts_differ(make: Make) -> None:
    model = make()
    first, second = model.generate([ask(seed=None, max_tokens=20), ask(seed=None, max_tokens=20)])
    assert texts(first) != texts(second)


def test_temperature_and_top_k_are_each_requests_own(make: Make) -> None:
    greedy, narrow, hot = make().generate(
        [ask(temperature=0.0, max_tokens=30), ask(top_k=1, max_tokens=30), ask(temperature=5.0, max_tokens=30)]
    )
    assert texts(greedy) == texts(narrow)
    assert texts(greedy) != texts(hot)


# Bad requests -------------------------------------------------------------------------------------------------------

SOME = (Message("user", "go"),)
BAD: dict[str, GenerationRequest] = {
    "negative temperature": ask(temperature=-1.0),
    "temperature that is no number": ask(temperature=math.nan),
    "top_p of zero": ask(top_p=0.0),
    "top_p above one": ask(top_p=1.5),
    "negative top_k": ask(top_k=-3),
    "no tokens": ask(max_tokens=0),
    "no samples": ask(n=0),
    "empty stop string": ask(stop=("a", "")),
    "no messages": GenerationRequest(messages=()),
    "assistant last": GenerationRequest(messages=(*SOME, Message("assistant", "well"))),
    "blank last": GenerationRequest(messages=(Message("user", "  \n"),)),
    "unknown role": GenerationRequest(messages=(Message("robot", "go"),)),  # type: ignore[arg-type]
    "content that is no text": GenerationRequest(messages=(Message("user", None),)),  # type: ignore[arg-type]
}


def test_bad_requests_fail_alone(make: Make) -> None:
    model = make()
    good = ask("fine", n=2)
    expected = texts(model.generate([good])[0])
    generations = model.generate([*BAD.values(), good])
    for name, generation in zip(BAD, generations, strict=False):
        assert isinstance(generation.error, UsageError), name
        assert "\n" not in str(generation.error)
        assert generation.samples == ()
    assert texts(generations[-1]) == expected


def test_a_prompt_past_the_context_window_fails_alone(make: Make) -> None:
    model = make()
    huge, good = model.generate([ask("x" * CONTEXT), ask("fine")])
    assert isinstance(huge.error, ContextOverflow)
    assert huge.error.limit_tokens == CONTEXT
    assert huge.error.prompt_tokens > CONTEXT
    assert good.error is None
    assert model.capabilities.context_tokens == CONTEXT


def test_max_tokens_is_cut_to_what_the_window_leaves(make: Make) -> None:
    model = make(random_qwen2(seed=2))
    used = model.count_tokens((Message("user", "x"),))
    filling = "x" * (CONTEXT - used - 3)
    sample = only(model.generate([ask(filling, max_tokens=1000, top_k=5)]))
    assert (sample.completion_tokens, sample.finish) == (4, "length")
    overflow = model.generate([ask(filling + "x" * 4)])[0].error
    assert isinstance(overflow, ContextOverflow)


# Stop strings and streams -------------------------------------------------------------------------------------------


def test_stop_strings_across_tokens(make: Make) -> None:
    model = make(reciting_qwen2("one stabl"))
    cut, whole, both = model.generate(
        [
            ask(temperature=0.0, stop=("sta",)),
            ask(temperature=0.0, stop=("stabs", "z")),
            ask(temperature=0.0, stop=("tabl", " s")),
        ]
    )
    assert texts(cut) == ["one "]
    assert cut.samples[0].finish == "stop"
    assert cut.samples[0].token_texts == ("o", "n", "e", " ")
    assert texts(whole) == ["one stabl"]
    assert texts(both) == ["one"]


def test_deltas_join_to_the_text_and_never_show_a_stop_string(make: Make) -> None:
    model = make(reciting_qwen2("aé✓<end>z"))
    deltas: list[Delta] = []
    request = ask(n=2, temperature=0.0, stop=("<end>",), max_tokens=30)
    sample = model.generate([request], on_delta=deltas.append)[0].samples[0]
    assert sample.text == "aé✓"
    for index in range(2):
        pieces = [delta.text for delta in deltas if delta.index == index]
        assert pieces == ["a", "é", "✓"]
    assert {delta.request_id for delta in deltas} == {request.request_id}


def test_random_bytes_stream_as_they_end(make: Make) -> None:
    deltas: list[Delta] = []
    generation = make().generate([ask(n=4, max_tokens=60)], on_delta=deltas.append)[0]
    for index, sample in enumerate(generation.samples):
        assert "".join(delta.text for delta in deltas if delta.index == index) == sample.text


def test_an_incomplete_character_is_not_shown(make: Make) -> None:
    sample = only(make(reciting_qwen2("a😀")).generate([ask(temperature=0.0, max_tokens=3)]))
    assert sample.text == "a"
    assert sample.token_texts == ("a", "", "")
    assert sample.completion_tokens == 3


def test_a_receiver_that_fails_harms_nothing(make: Make) -> None:
    calls: list[Delta] = []

    def receive(delta: Delta) -> None:
        calls.append(delta)
        raise ValueError("no room")

    assert only(make(reciting_qwen2("abc")).generate([ask(temperature=0.0)], on_delta=receive)).text == "abc"
    assert len(calls) == 1


# Partial answers ----------------------------------------------------------------------------------------------------


def test_a_partial_answer_is_continued(make: Make) -> None:
    model = make(reciting_qwen2("x is42"))
    whole, rest, blank = model.generate(
        # The blank that ends a partial answer belongs to the next word: it is neither read nor returned.
        [ask(temperature=0.0), ask(temperature=0.0, partial="x"), ask(temperature=0.0, partial="x ")]
    )
    assert texts(whole) == ["x is42"]
    assert texts(rest) == [" is42"]
    assert texts(blank) == ["is42"]
    assert rest.prompt_tokens == blank.prompt_tokens == whole.prompt_tokens + 1


# Ending early -------------------------------------------------------------------------------------------------------


def test_cancelled_before_it_starts(make: Make) -> None:
    cancel = CancelToken()
    cancel.cancel()
    generation = make().generate([ask(n=2)], cancel=cancel)[0]
    assert [(sample.text, sample.finish) for sample in generation.samples] == [("", "cancelled")] * 2


def test_past_its_deadline_before_it_starts(make: Make) -> None:
    sample = only(make().generate([ask()], deadline=time.monotonic() - 1))
    assert (sample.text, sample.finish) == ("", "deadline")


class SlowModel:
    """Makes every forward pass of a model take a while, and counts them."""

    def __init__(self, model: Any, seconds: float = 0.01) -> None:
        self.passes = 0
        self.started = threading.Event()
        self._seconds = seconds
        model.register_forward_hook(self._after)

    def _after(self, *_: Any) -> None:
        self.passes += 1
        self.started.set()
        time.sleep(self._seconds)


def endless() -> Any:
    """A model that repeats one letter: it never ends by itself."""
    model = reciting_qwen2("a")
    with torch.no_grad():
        letter, newline = byte_tokenizer().encode("a\n", add_special_tokens=False)
        model.lm_head.weight.zero_()
        model.lm_head.weight[letter, [letter, newline]] = 4.0
    return model


def test_cancelling_keeps_what_is_there_and_leaves_others_alone(make: Make) -> None:
    raw = endless()
    slow = SlowModel(raw)
    model = make(raw)
    cancel = CancelToken()
    with ThreadPoolExecutor(2) as pool:
        victim = pool.submit(model.generate, [ask(temperature=0.0, max_tokens=LONG, n=2)], cancel=cancel)
        other = pool.submit(model.generate, [ask(temperature=0.0, max_tokens=60)])
        slow.started.wait(10)
        time.sleep(0.3)
        asked = time.monotonic()
        cancel.cancel()
        generation = victim.result(10)[0]
        assert time.monotonic() - asked < 0.5
        for sample in generation.samples:
            assert sample.finish == "cancelled"
            assert 0 < sample.completion_tokens < LONG
            assert sample.text == "a" * sample.completion_tokens
        survivor = only(other.result(20))
        assert (survivor.text, survivor.finish) == ("a" * 60, "length")


def test_at_the_deadline_the_text_so_far_is_returned(make: Make) -> None:
    raw = endless()
    SlowModel(raw)
    model = make(raw)
    start = time.monotonic()
    sample = only(model.generate([ask(temperature=0.0, max_tokens=LONG)], deadline=start + 0.5))
    assert time.monotonic() - start < 0.8
    assert sample.finish == "deadline"
    assert 0 < sample.completion_tokens < LONG


def test_what_still_waits_can_be_cancelled(make: Make) -> None:
    raw = endless()
    slow = SlowModel(raw)
    model = make(raw, max_batch=1)
    with ThreadPoolExecutor(2) as pool:
        cancel_running, cancel_waiting = CancelToken(), CancelToken()
        running = pool.submit(model.generate, [ask(temperature=0.0, max_tokens=LONG)], cancel=cancel_running)
        slow.started.wait(10)
        waiting = pool.submit(model.generate, [ask(temperature=0.0)], cancel=cancel_waiting)
        time.sleep(0.1)
        cancel_waiting.cancel()
        assert only(waiting.result(2)).finish == "cancelled"
        assert not running.done()
        cancel_running.cancel()
        assert only(running.result(2)).finish == "cancelled"


def test_cancelling_the_task_cancels_the_generation(make: Make) -> None:
    raw = endless()
    slow = SlowModel(raw)
    model = make(raw)

    async def start_and_cancel() -> None:
        task = asyncio.create_task(model.agenerate([ask(temperature=0.0, max_tokens=LONG)]))
        await asyncio.to_thread(slow.started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(start_and_cancel())
    time.sleep(0.3)
    passes = slow.passes
    time.sleep(0.2)
    assert slow.passes == passes


# Sharing, failing, closing ------------------------------------------------------------------------------------------


def test_concurrent_calls_share_batches(make: Make) -> None:
    raw = random_qwen2()
    slow = SlowModel(raw)
    model = make(raw)
    requests = [ask("question " + "!" * index, seed=index, max_tokens=12) for index in range(6)]
    alone = [texts(model.generate([request])[0]) for request in requests]
    one_by_one, slow.passes = slow.passes, 0
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(model.generate, [request]) for request in requests]
        together = [texts(call.result(20)[0]) for call in calls]
    assert together == alone
    assert slow.passes < one_by_one / 2


class Breaking:
    """Raises in the model's forward pass, as often as told."""

    def __init__(self, model: Any, error: Callable[[], Exception]) -> None:
        self.times = 0
        self._error = error
        model.register_forward_pre_hook(self._before)

    def _before(self, *_: Any) -> None:
        if self.times > 0:
            self.times -= 1
            raise self._error()


def test_an_exception_fails_its_batch_alone(make: Make) -> None:
    raw = random_qwen2()
    breaking = Breaking(raw, lambda: ValueError("a bad day\nwith details"))
    model = make(raw)
    expected = texts(model.generate([ask()])[0])
    breaking.times = 1
    broken = model.generate([ask(), ask("two")])
    for generation in broken:
        assert isinstance(generation.error, ModelError)
        assert "a bad day" in str(generation.error)
        assert "\n" not in str(generation.error)
    assert texts(model.generate([ask()])[0]) == expected


def test_out_of_memory_is_tried_again_in_a_smaller_batch(make: Make) -> None:
    raw = random_qwen2()
    breaking = Breaking(raw, lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    model = make(raw, max_batch=8)
    expected = texts(model.generate([ask(n=6)])[0])
    breaking.times = 1
    assert texts(model.generate([ask(n=6)])[0]) == expected
    assert model.max_batch == 4
    breaking.times = 100
    failed = model.generate([ask(n=2)])[0]
    assert isinstance(failed.error, ModelError)
    assert "out of memory" in str(failed.error)
    breaking.times = 0
    assert texts(model.generate([ask(n=6)])[0]) == expected


def test_broken_weights_are_named(make: Make) -> None:
    raw = random_qwen2()
    with torch.no_grad():
        raw.lm_head.weight[3] = torch.nan
    error = make(raw).generate([ask()])[0].error
    assert isinstance(error, ModelError)
    assert "not finite" in str(error)


def test_a_closed_model_refuses_and_leaves_no_thread(make: Make) -> None:
    before = set(threading.enumerate())
    raw = endless()
    slow = SlowModel(raw)
    model = make(raw)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(model.generate, [ask(temperature=0.0, max_tokens=LONG)])
        slow.started.wait(10)
        model.close()
        assert isinstance(running.result(5)[0].error, ModelError)
    model.close()
    with pytest.raises(ModelError, match="closed"):
        model.generate([ask()])
    assert set(threading.enumerate()) <= before


def test_a_process_that_closes_nothing_still_ends() -> None:
    script = (
        "import threading\n"
        "from kaelum_graph.models.base import GenerationRequest, Sampling\n"
        "from kaelum_graph.models.local import LocalPolicyModel\n"
        "from kaelum_graph.types import Message\n"
        "from tests.engine.tiny_models import byte_tokenizer, random_qwen2\n"
        "request = GenerationRequest(messages=(Message('user', 'go'),), sampling=Sampling(max_tokens=400))\n"
        "for engine in ('padded', 'continuous'):\n"
        "    model = LocalPolicyModel(random_qwen2(), byte_tokenizer(), name='tiny', engine=engine)\n"
        "    threading.Thread(target=model.generate, args=([request],), daemon=True).start()\n"
        "    model.generate([GenerationRequest(messages=request.messages, sampling=Sampling(max_tokens=2))])\n"
        "print('end')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


# Prompts ------------------------------------------------------------------------------------------------------------


def test_a_tokenizer_without_a_template_gets_plain_turns(make: Make) -> None:
    tokenizer = byte_tokenizer(template=None)
    model = make(tokenizer=tokenizer)
    messages = (Message("system", "be kind"), Message("user", "hi"))
    assert model.count_tokens(messages) == len("system: be kind\nuser: hi\nassistant:")
    assert only(model.generate([GenerationRequest(messages=messages, sampling=Sampling(max_tokens=3))])).finish


def test_a_template_that_refuses_is_named(make: Make) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    error = make(tokenizer=byte_tokenizer(template=template)).generate([ask()])[0].error
    assert isinstance(error, UsageError)
    assert "roles must alternate" in str(error)
