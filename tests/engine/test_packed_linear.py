"""Packed layers compute what plain ones do, bit by bit, and hold their weight once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from kaelum_graph.models.file_pages import FilePages
from kaelum_graph.models.packed_linear import PackedLinear, can_pack, pack_linear_layers
from tests.engine.tiny_models import random_qwen2

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize("dtype", [torch.float32, *([torch.bfloat16] if BF16 else [])])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_plain_one(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 160, bias=bias, dtype=dtype)
    packed = PackedLinear(linear)
    with torch.no_grad():
        for rows in (1, 3, 32, 200):
            given = torch.randn(rows, 2, 96, dtype=dtype)
            torch.testing.assert_close(packed(given), linear(given), rtol=0, atol=1e-5 if dtype == torch.float32 else 0)


def test_a_packed_model_is_the_plain_one() -> None:
    plain, packed = random_qwen2().cpu(), random_qwen2().cpu()
    assert pack_linear_layers(packed) == 2 * 7 + 1
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(packed(ids).logits, plain(ids).logits, rtol=0, atol=1e-5)


def test_a_shared_output_layer_is_left_alone() -> None:
    model: Any = random_qwen2().cpu()
    model.lm_head.weight = model.model.embed_tokens.weight
    assert pack_linear_layers(model) == 2 * 7
    assert type(model.lm_head) is nn.Linear


def test_only_plain_layers_are_packed() -> None:
    class Mine(nn.Linear):
        pass

    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(print)
    assert not can_pack(Mine(4, 4))
    assert not can_pack(hooked)
    assert not can_pack(nn.Linear(4, 4, dtype=torch.float64))
    assert can_pack(nn.Linear(4, 4))


def test_pages_of_a_weights_file_are_let_go_and_nothing_is_lost(tmp_path: Path) -> None:
    random_qwen2().save_pretrained(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    pages = FilePages()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for tensor in (*model.state_dict().values(), torch.ones(100_000)):
        copy = tensor.clone()
        pages.release(tensor)
        assert torch.equal(tensor, copy)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
