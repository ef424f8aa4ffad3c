"""Models small enough to build in a test, and a byte tokenizer with a chat template. Random weights prove plumbing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONTEXT = 512
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(*, template: str | None = TEMPLATE) -> Any:
    """One token a byte, and three special ones. Characters beyond ASCII take several tokens."""
    vocabulary = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    backend.add_special_tokens(list(SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = template
    return tokenizer


VOCABULARY = len(byte_tokenizer())


def random_qwen2(*, seed: int = 0, context: int = CONTEXT) -> Any:
    """A Qwen2 with random weights in float32, two layers. Its texts are random bytes that seldom end."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.4,
    )
    model: Any = Qwen2ForCausalLM(config).eval()
    return model.to(DEVICE)


def reciting_qwen2(text: str, *, context: int = CONTEXT, weight: float = 4.0) -> Any:
    """A Qwen2 that answers `text` and then ends its turn, whatever it is asked; no byte may occur twice in `text`.

    Its layers add nothing, its embedding is the identity, and its output layer maps each byte to the next one.
    """
    tokenizer = byte_tokenizer()
    chain = [*tokenizer.encode(f"\n{text}", add_special_tokens=False), tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=264,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
    )
    model: Any = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(VOCABULARY, 264))
        model.lm_head.weight.zero_()
        for this, following in pairwise(chain):
            model.lm_head.weight[following, this] = weight
    return model.to(DEVICE)
