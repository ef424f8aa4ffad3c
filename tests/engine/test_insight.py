"""Hidden states and entropies, told in passing, beside what one forward pass over the whole sample says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kaelum_graph.learning.episode import STATE_SIZE, STEP_SCALARS
from kaelum_graph.learning.projection import projected, smaller
from kaelum_graph.learning.step_features import step_scalars, step_states
from kaelum_graph.models.base import GenerationRequest, HiddenState, Sample, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.models.state_tap import StateTap
from kaelum_graph.reward import tokens_by_step
from kaelum_graph.types import Message
from tests.engine.tiny_models import byte_tokenizer, random_qwen2

TOKENIZER = byte_tokenizer()
ASCII = tuple(
    (token, 60.0)
    for token in range(len(TOKENIZER) - 3)
    if (text := TOKENIZER.decode([token])) == "\n" or (text.isprintable() and text.isascii())
)
"""Towards bytes that spell characters, so that a sample can be encoded again."""


def drawn(raw: Any, *, n: int, insight: bool = True, max_batch: int = 3) -> list[Sample]:
    request = GenerationRequest(
        messages=(Message("user", "tell me"),),
        n=n,
        sampling=Sampling(temperature=1.0, seed=5, max_tokens=60, logit_bias=ASCII),
        insight=insight,
    )
    with LocalPolicyModel(raw, byte_tokenizer(), name="tiny", engine="padded", max_batch=max_batch) as model:
        (generation,) = model.generate([request])
    assert generation.error is None
    return list(generation.samples)


def whole_pass(raw: Any, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """The tapped layer's output `[T, H]` and the entropies `[T]` of one pass over prompt and sample."""
    tokenizer = byte_tokenizer()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "tell me"}], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    assert sample.token_texts is not None
    tokens = tokenizer.encode("".join(sample.token_texts), add_special_tokens=False)
    with torch.no_grad():
        out = raw(torch.tensor([prompt + tokens]), output_hidden_states=True)
    layers = len(raw.model.layers)
    states = out.hidden_states[max(1, round(layers * 2 / 3))][0, len(prompt) :]
    distributions = torch.distributions.Categorical(logits=out.logits[0, len(prompt) - 1 : -1].float())
    return states, distributions.entropy()


def test_states_and_entropies_are_those_of_a_whole_pass() -> None:
    # Five samples in batches of three: rows leave and join, and each must keep its own states.
    raw = random_qwen2(seed=3)
    told = 0
    for sample in drawn(raw, n=5):
        assert sample.states is not None
        assert sample.token_entropies is not None
        assert sample.token_texts is not None
        states, entropies = whole_pass(raw, sample)
        np.testing.assert_allclose(sample.token_entropies, entropies[: len(sample.token_entropies)], atol=1e-3)
        for state in sample.states:
            np.testing.assert_allclose(state.values, states[state.position].numpy(), atol=2e-2, rtol=2e-2)
            told += 1
    assert told


def test_states_are_kept_at_the_ends_of_lines_and_at_the_end() -> None:
    samples = drawn(random_qwen2(seed=3), n=8)
    assert any("\n" in sample.text for sample in samples)
    for sample in samples:
        assert sample.states
        assert sample.token_texts is not None
        positions = [state.position for state in sample.states]
        lines = [at for at, text in enumerate(sample.token_texts[:-1]) if "\n" in text]
        assert set(lines) <= set(positions)
        assert set(positions) - set(lines) <= {max(positions)}
        assert max(positions) >= len(sample.token_texts) - 2


def test_insight_is_told_to_those_who_ask_and_changes_no_text() -> None:
    raw = random_qwen2(seed=3)
    with_insight, without = drawn(raw, n=2), drawn(raw, n=2, insight=False)
    assert [sample.text for sample in with_insight] == [sample.text for sample in without]
    assert all(sample.states is None and sample.token_entropies is None for sample in without)


def test_a_model_without_layers_has_no_tap() -> None:
    assert StateTap.on(torch.nn.Linear(2, 2)) is None


def test_the_projection_keeps_directions_and_is_always_the_same() -> None:
    chance = np.random.default_rng(0)
    one, other = chance.standard_normal((2, 896)).astype(np.float16)
    near = (one + 0.1 * other).astype(np.float16)
    small = projected([one, near, other]).astype(np.float32)
    assert small.shape == (3, STATE_SIZE)

    def cosine(left: Any, right: Any) -> float:
        return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))

    assert cosine(small[0], small[1]) > 0.95
    assert abs(cosine(small[0], small[2])) < 0.35
    assert np.array_equal(projected([one, near, other]), projected([one, near, other]))
    assert projected([np.ones(16, dtype=np.float16)]).shape == (1, STATE_SIZE)


def test_tokens_belong_to_the_step_they_begin_in() -> None:
    steps = ("given ", "one\n", "two")
    assert tokens_by_step(steps, ["on", "e\n", "t", "wo"]) == [[], [0, 1], [2, 3]]


def test_step_scalars_of_known_numbers() -> None:
    table = step_scalars(("a b\n", "c"), ["a", " b", "\n", "c"], [-1.0, -3.0, -2.0, -0.5], [0.5, 1.0, 0.3, 0.1])
    first = dict(zip(STEP_SCALARS, table[0].tolist(), strict=True))
    assert first["mean_logprob"] == pytest.approx(-2.0)
    assert first["min_logprob"] == pytest.approx(-3.0)
    assert first["max_entropy"] == pytest.approx(1.0)
    assert first["place"] == pytest.approx(0.5)
    assert table[1][STEP_SCALARS.index("last")] == 1.0
    assert first["last"] == 0.0


def test_what_a_server_does_not_tell_is_unknown_not_zero() -> None:
    table = step_scalars(("a\n", "b"), None, None, None)
    assert np.isnan(table[:, :6]).all()
    assert not np.isnan(table[:, 6:]).any()
    assert step_states(("a\n", "b"), None, ()) is None


def test_a_step_without_a_state_of_its_own_has_the_one_before() -> None:
    states = [HiddenState(1, np.full(896, 0.5, np.float16)), HiddenState(3, np.linspace(0, 1, 896, dtype=np.float16))]
    small = smaller(states)
    table = step_states(("ab", "c", "d"), ["a", "b", "c", "d"], small)
    assert table is not None
    assert np.array_equal(table, np.stack([small[0].values, small[0].values, small[1].values]))
