"""Refusals of many servers, in their own words."""

from __future__ import annotations

import pytest

from kaelum_graph.models.feature_detection import context_overflow, refused_parameter

SENT = frozenset({
    "model", "messages", "stream", "stream_options", "n", "max_tokens", "temperature", "top_p", "top_k", "seed",
    "stop", "logprobs", "continue_final_message", "add_generation_prompt",
})  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
            "Please reduce the length of the messages.",
            (8192, 9001),
        ),
        (
            "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens (1000 in the "
            "messages, 4000 in the completion). Please reduce the length of the messages or completion.",
            (4097, 1000),
        ),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 "
            "tokens and your request has 1200 input tokens (5000 > 4096 - 1200). (parameter=max_tokens, value=5000)",
            (4096, 1200),
        ),
        ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", (4096, 5000)),
        (
            "You passed 5001 input tokens and requested 0 output tokens. However, the model's context length is only "
            "4096 tokens, resulting in a maximum input length of 4096 tokens.",
            (4096, 5001),
        ),
        ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", (4096, 5000)),
        (
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
            "5000 tokens: 4000 tokens from the input messages and 1000 tokens for the completion.",
            (4096, 4000),
        ),
        ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", (4096, 5000)),
        (
            '{"code": 400, "message": "the request exceeds the available context size", "n_prompt_tokens": 5000, '
            '"n_ctx": 4096, "type": "exceed_context_size_error"}',
            (4096, 5000),
        ),
        ("the request exceeds the available context size. try increasing the context size", (None, None)),
        ("the input length exceeds the context length", (None, None)),
        ("prompt is too long: 210000 tokens > 200000 maximum", (200000, 210000)),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            (1048576, 1200000),
        ),
        (
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
            (32768, 40000),
        ),
        (
            "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 1000 `max_new_tokens`",
            (4096, 4000),
        ),
        (
            "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            (131072, 537812),
        ),
        (
            "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with "
            "context length of only 4096 tokens, which is not enough.",
            (4096, 5000),
        ),
        (
            "This model's maximum context length is 512 tokens; the messages have 600 (context_length_exceeded).",
            (512, 600),
        ),
        ("Unsupported parameter: 'top_k'", None),
        ("Internal error", None),
    ],
)  # fmt: skip
def test_context_overflow_is_recognised_with_its_numbers(
    message: str, expected: tuple[int | None, int | None] | None
) -> None:
    assert context_overflow(message) == expected


@pytest.mark.parametrize(
    ("message", "param", "expected"),
    [
        ("Unrecognized request argument supplied: continue_final_message", None, "continue_final_message"),
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
         "max_tokens", "max_tokens"),
        ("Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is "
         "supported.", "temperature", "temperature"),
        ("temperature must be non-negative, got -1.0.", None, None),
        ("max_tokens must be at least 1, got 0.", "max_tokens", None),
        ("This model does not support logprobs.", None, "logprobs"),
        ("You are not allowed to request logprobs from this model", None, "logprobs"),
        ("Only one completion choice is allowed", None, "n"),
        ("n must be 1 when using greedy sampling", "n", "n"),
        ("Invalid value for 'n': got 4", None, "n"),
        ("an error occurred in the kitchen", None, None),
        ("body.top_k: Extra inputs are not permitted", None, "top_k"),
        ("'stop' is not supported with this model.", "stop", "stop"),
        ("Please stop sending unsupported things", None, "stop"),
        ("stream_options can only be set with stream", None, "stream_options"),
        ("Completions.create() got an unexpected keyword argument 'seed'", None, "seed"),
        ("Unknown model", None, None),
    ],
)  # fmt: skip
def test_the_refused_parameter_is_named(message: str, param: str | None, expected: str | None) -> None:
    assert refused_parameter(message, param=param, sent=SENT) == expected


def test_only_what_was_sent_can_be_refused() -> None:
    assert refused_parameter("'top_k' is not supported", param="top_k", sent=frozenset({"model"})) is None
