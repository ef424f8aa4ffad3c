"""Log-probabilities belong to exactly the sample's text, and a server's claims are checked."""

from __future__ import annotations

import pytest

from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.models.remote_sample import (
    RemoteSample,
    TokenLogprob,
    estimate_prompt_tokens,
    plausible_prompt_tokens,
)
from kaelum_graph.types import Message


def collect(*words: str, draft: str = "", stop: tuple[str, ...] = (), max_tokens: int = 50) -> RemoteSample:
    """A sample fed one word at a time, each with its token."""
    request = GenerationRequest(
        messages=(Message("user", "Hello"),), sampling=Sampling(max_tokens=max_tokens, stop=stop)
    )
    sample = RemoteSample(request, draft=draft)
    for at, word in enumerate(words):
        sample.feed(word, tokens=(TokenLogprob(word.encode(), -0.1 * (at + 1)),))
    return sample


def test_tokens_of_the_text_alone_are_kept() -> None:
    sample = collect("one", " two", " thr", "ee!", " four", stop=("ree",))
    result = sample.sample()
    assert result.text == "one two th"
    assert result.finish == "stop"
    assert result.stopped_by == "ree"
    assert result.token_texts == ("one", " two", " th")
    assert result.token_logprobs == pytest.approx((-0.1, -0.2, -0.3))


def test_tokens_of_an_echo_are_left_out_and_the_joint_belongs_to_the_first() -> None:
    echoed = collect("The sum", " is 12.", " So", " halve", draft="The sum is 12.")
    echoed.end("stop")
    assert echoed.sample().stopped_by is None, "the server may have cut a stop string"
    assert echoed.sample().token_texts == (" So", " halve")
    joined = collect("So", " halve", draft="The sum is 12.")
    joined.end("stop")
    assert joined.sample().token_texts == (" So", " halve")
    assert joined.sample().text == " So halve"


def test_the_end_of_sequence_token_is_left_out() -> None:
    sample = collect("one")
    sample.feed("", tokens=(TokenLogprob(b"<|im_end|>", -0.5),))
    sample.end("stop")
    assert sample.sample().token_texts == ("one",)


def test_tokens_of_the_reasoning_are_left_out() -> None:
    sample = collect()
    sample.feed("", reasoning="Hmm so", tokens=(TokenLogprob(b"Hmm", -1.0), TokenLogprob(b" so", -1.0)))
    sample.feed("so", tokens=(TokenLogprob(b"so", -0.5),))
    sample.end("stop")
    assert sample.sample().token_texts == ("so",)
    assert sample.sample().token_logprobs == (-0.5,)


def test_a_character_split_over_tokens_is_put_together() -> None:
    sample = collect()
    first, second = "é".encode()[:1], "é".encode()[1:]
    sample.feed("caf", tokens=(TokenLogprob(b"caf", -0.1), TokenLogprob(first, -0.2)))
    sample.feed("é!", tokens=(TokenLogprob(second, -0.3), TokenLogprob(b"!", -0.4)))
    sample.end("stop")
    assert sample.sample().token_texts == ("caf", "", "é", "!")


@pytest.mark.parametrize("value", [0.5, float("nan"), float("-inf")])
def test_what_is_no_log_probability_is_not_passed_on(value: float) -> None:
    sample = collect("one")
    sample.feed(" two", tokens=(TokenLogprob(b" two", value),))
    sample.end("stop")
    assert sample.sample().text == "one two"
    assert sample.sample().token_logprobs is None


def test_tokens_that_do_not_spell_the_text_are_not_passed_on() -> None:
    sample = collect()
    sample.feed("one two", tokens=(TokenLogprob(b"something else", -0.1),))
    sample.end("stop")
    assert sample.sample().token_texts is None


def test_tokens_beyond_the_limit_are_cut() -> None:
    sample = collect("a", "b", "c", "d", max_tokens=3)
    assert sample.done
    result = sample.sample()
    assert (result.text, result.finish, result.completion_tokens) == ("abc", "length", 3)


@pytest.mark.parametrize(("claimed", "expected"), [(7, 7), (-3, 6), (0, 6), (10**9, 6), (None, 6)])
def test_a_token_count_is_believed_where_it_can_be_true(claimed: int | None, expected: int) -> None:
    request = GenerationRequest(messages=(Message("user", "Hello"),), sampling=Sampling(max_tokens=50))
    sample = RemoteSample(request)
    sample.feed("x" * 21)
    sample.claimed_tokens = claimed
    sample.end("stop")
    assert sample.sample().completion_tokens == expected


@pytest.mark.parametrize(("claimed", "expected"), [(30, 30), (-3, 33), (10**9, 33), (None, 33), ("12", 33), (0, 33)])
def test_a_prompt_count_is_believed_where_it_can_be_true(claimed: object, expected: int) -> None:
    assert plausible_prompt_tokens(claimed, estimate_prompt_tokens([Message("user", "x" * 100)])) == expected
