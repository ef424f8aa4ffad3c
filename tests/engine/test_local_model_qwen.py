"""The local model on the real 0.5B Qwen."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kaelum_graph.models.base import Delta, GenerationRequest, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.types import Message

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> Generator[LocalPolicyModel]:
    with LocalPolicyModel.load(qwen_folder, name="qwen2.5-coder-0.5b") as model:
        yield model


def ask(text: str, *, n: int = 1, partial: str = "", **sampling: Any) -> GenerationRequest:
    chosen: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24} | sampling
    messages = (Message("user", text),)
    return GenerationRequest(messages=messages, n=n, partial_answer=partial, sampling=Sampling(**chosen))


def test_it_knows_a_capital_and_ends_its_turn(qwen: LocalPolicyModel) -> None:
    generation = qwen.generate([ask("What is the capital of France? Answer with one word.")])[0]
    assert generation.error is None
    sample = generation.samples[0]
    assert sample.text.strip().rstrip(".") == "Paris"
    assert sample.finish == "stop"
    assert qwen.capabilities.context_tokens == 32768


def test_a_partial_answer_is_continued_in_mid_sentence(qwen: LocalPolicyModel) -> None:
    question = "What is 7 times 6?"
    open_end, blank, code = qwen.generate(
        [
            ask(question, partial="7 times 6 equals", max_tokens=6),
            ask(question, partial="7 times 6 equals ", max_tokens=6),
            ask("Write a Python function that adds two numbers.", partial="```python\ndef add(", stop=("\n",)),
        ]
    )
    assert open_end.samples[0].text.startswith(" 42")
    assert blank.samples[0].text.startswith("42")
    assert code.samples[0].text.replace(" ", "").startswith("a,b):")
    assert "\n" not in code.samples[0].text


def test_greedy_tokens_and_log_probabilities_are_the_plain_models(qwen: LocalPolicyModel, qwen_folder: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(qwen_folder)
    plain: Any = AutoModelForCausalLM.from_pretrained(qwen_folder, dtype=qwen.model.dtype).to(qwen.model.device)
    turns = [{"role": "user", "content": "Name three colours."}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(text, return_tensors="pt").to(plain.device)
    output = plain.generate(**inputs, do_sample=False, max_new_tokens=20, repetition_penalty=1.0)
    new = output[0, inputs.input_ids.shape[1] :]
    new = new[new != 151645]
    with torch.no_grad():
        logprobs = plain(output).logits[0, inputs.input_ids.shape[1] - 1 :].float().log_softmax(-1)
    sample = qwen.generate([ask("Name three colours.", max_tokens=20)])[0].samples[0]
    assert sample.text == tokenizer.decode(new)
    assert sample.token_logprobs is not None
    expected = [logprobs[at, token].item() for at, token in enumerate(new.tolist())]
    # bfloat16: the cache is filled in another order.
    assert sample.token_logprobs == pytest.approx(expected, abs=0.15)


def test_searches_share_a_batch(qwen: LocalPolicyModel) -> None:
    deltas: list[Delta] = []
    tokens = 24

    def search(number: int) -> int:
        request = ask(f"Write a story about {number} cats.", n=4, temperature=0.8, seed=number, max_tokens=tokens)
        generation = qwen.generate([request], on_delta=deltas.append)[0]
        assert generation.error is None
        for index, sample in enumerate(generation.samples):
            pieces = [delta.text for delta in deltas if (delta.request_id, delta.index) == (request.request_id, index)]
            assert "".join(pieces) == sample.text
            assert sample.token_logprobs is not None
            assert all(math.isfinite(value) for value in sample.token_logprobs)
        assert len({sample.text for sample in generation.samples}) > 1
        return sum(sample.completion_tokens for sample in generation.samples)

    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    hook = qwen.model.register_forward_pre_hook(count)
    try:
        search(0)
        alone, steps = steps, 0
        with ThreadPoolExecutor(3) as pool:
            assert sum(pool.map(search, (1, 2, 3))) >= 3 * 4 * tokens / 2
    finally:
        hook.remove()
    # Three searches side by side take well under the model's steps of one after another. Steps, not seconds: machines
    # are noisy.
    assert 0 < steps < 2.2 * alone


def test_at_its_deadline_it_hands_over_what_it_has(qwen: LocalPolicyModel) -> None:
    start = time.monotonic()
    generation = qwen.generate([ask("Count to one thousand.", max_tokens=2000)], deadline=start + 2)[0]
    assert time.monotonic() - start < 2.5
    assert generation.samples[0].finish == "deadline"
    assert generation.samples[0].text
