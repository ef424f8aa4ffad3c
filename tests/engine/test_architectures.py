"""Causal language models of many kinds generate through the same class; random weights prove plumbing alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BitNetConfig,
    GemmaConfig,
    GPT2Config,
    JambaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
)

from kaelum_graph.errors import UsageError, WeightsError
from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.models.padded import can_join
from kaelum_graph.types import Message
from tests.engine.tiny_models import DEVICE, VOCABULARY, byte_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
HYBRID: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "mamba_d_state": 4,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": 4,
    "use_mamba_kernels": False,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
}

# Each with whether its cache is plain keys and values, so that sequences can join and leave a running batch.
CONFIGS: dict[str, tuple[Callable[[], Any], bool]] = {
    "qwen2": (lambda: Qwen2Config(**SIZES), True),
    "qwen3": (lambda: Qwen3Config(**SIZES, head_dim=8), True),
    "mixtral": (lambda: MixtralConfig(**SIZES, **EXPERTS), True),
    "bitnet": (lambda: BitNetConfig(**SIZES), True),
    "jamba": (lambda: JambaConfig(**SIZES, **HYBRID), False),
    "gemma": (lambda: GemmaConfig(**SIZES, head_dim=8), True),
    "gpt2": (lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256), True),
    "sliding window": (lambda: MistralConfig(**SIZES, sliding_window=16), False),
}


def build(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name][0](), dtype=torch.float32).eval().to(DEVICE)


def requests() -> list[GenerationRequest]:
    sampling = Sampling(temperature=1.0, seed=3, max_tokens=10, stop=("~~",))
    return [
        GenerationRequest(messages=(Message("user", "hello"),), n=3, sampling=sampling),
        GenerationRequest(
            messages=(Message("user", "a rather longer question"),), partial_answer="We", sampling=sampling
        ),
    ]


def token_texts(model: LocalPolicyModel, asked: list[GenerationRequest]) -> list[list[str]]:
    generations = model.generate(asked)
    assert [generation.error for generation in generations] == [None] * len(asked)
    return [[sample.text for sample in generation.samples] for generation in generations]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_generates_in_batches_as_it_does_alone(name: str) -> None:
    raw = build(name)
    assert can_join(raw) is CONFIGS[name][1]
    with LocalPolicyModel(raw, byte_tokenizer(), name=name) as model:
        assert model.capabilities.context_tokens == 256
        together = token_texts(model, requests())
        assert len(set(together[0])) == 3
        assert together == [token_texts(model, [request])[0] for request in requests()]


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "mixtral", "bitnet"])
def test_greedy_is_the_plain_models(name: str) -> None:
    raw, tokenizer = build(name), byte_tokenizer()
    request = GenerationRequest(
        messages=(Message("user", "hello"),), sampling=Sampling(temperature=0.0, max_tokens=10, stop=())
    )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, tokenize=False
    )
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)], device=raw.device)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    output = raw.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, eos_token_id=ends, pad_token_id=0
    )
    expected = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).rstrip("\ufffd")
    with LocalPolicyModel(raw, tokenizer, name=name) as model:
        assert token_texts(model, [request]) == [[expected]]


@pytest.mark.parametrize("name", ["jamba", "sliding window"])
def test_what_continuous_batching_cannot_carry_runs_padded(name: str) -> None:
    with LocalPolicyModel(build(name), byte_tokenizer(), name=name, engine="continuous") as model:
        assert model.engine_name == "padded"
        assert token_texts(model, requests())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    build("qwen2").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_saved_folder_loads_quietly(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with LocalPolicyModel.load(saved, name="saved", device=DEVICE) as model:
        assert all(token_texts(model, requests()))
        generation = model.generate(requests())[0]
    assert generation.error is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cpu_bytes", [60_000, 100])
def test_a_model_larger_than_memory_runs_from_disk(
    saved: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], cpu_bytes: int
) -> None:
    pytest.importorskip("accelerate")
    with LocalPolicyModel.load(saved, name="whole", device="cpu") as model:
        expected = token_texts(model, requests())
    with LocalPolicyModel.load(
        saved,
        name="offloaded",
        device="cpu",
        offload="disk",
        offload_folder=tmp_path / "offload",
        max_memory={"cpu": cpu_bytes},
    ) as model:
        assert "disk" in model.model.hf_device_map.values()
        assert token_texts(model, requests()) == expected
    assert capfd.readouterr() == ("", "")


def test_offload_to_cpu_loads_where_there_is_nothing_to_spill_from(saved: Path) -> None:
    pytest.importorskip("accelerate")
    with LocalPolicyModel.load(saved, name="offloaded", offload="cpu") as model:
        assert all(token_texts(model, requests()))


def test_disk_offload_needs_a_folder(saved: Path) -> None:
    with pytest.raises(UsageError, match="offload_folder"):
        LocalPolicyModel.load(saved, name="x", offload="disk")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=str(tmp_path)) as raised:
        LocalPolicyModel.load(tmp_path, name="x")
    assert "\n" not in str(raised.value)
    with contextlib.suppress(WeightsError):
        LocalPolicyModel.load(tmp_path / "missing", name="x")
