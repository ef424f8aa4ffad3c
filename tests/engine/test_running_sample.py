"""A sample ends once, by whoever is first, and says what it then was."""

from __future__ import annotations

import math

import pytest

from kaelum_graph.errors import ModelError
from kaelum_graph.models.base import Delta, Sampling, new_request_id
from kaelum_graph.models.detokenizer import Detokenizer
from kaelum_graph.models.prompts import ChatPrompt
from kaelum_graph.models.running_sample import Mailbox, RunningSample, Wake
from kaelum_graph.models.sampling import uniforms
from tests.engine.tiny_models import byte_tokenizer

TOKENIZER = byte_tokenizer()
END = TOKENIZER.eos_token_id


def running(*, max_tokens: int = 9, stop: tuple[str, ...] = ()) -> tuple[RunningSample, Mailbox]:
    mailbox = Mailbox(streaming=True)
    sample = RunningSample(
        request_id=new_request_id(),
        index=0,
        prompt=[1, 2],
        max_tokens=max_tokens,
        sampling=Sampling(stop=stop),
        eos_ids=frozenset([END]),
        numbers=uniforms(1, 0, max_tokens),
        detokenizer=Detokenizer(ChatPrompt(TOKENIZER).decode, context=[1, 2], stop=stop),
        mailbox=mailbox,
    )
    return sample, mailbox


def push(sample: RunningSample, text: str) -> None:
    for token in TOKENIZER.encode(text, add_special_tokens=False):
        sample.push(token, -0.5)


def letters(mailbox: Mailbox) -> list[str]:
    found: list[str] = []
    while (item := mailbox.get(0)) is not None:
        found.append(item.text if isinstance(item, Delta) else "end")
    return found


def test_what_comes_after_the_end_is_dropped() -> None:
    sample, mailbox = running()
    push(sample, "ab")
    sample.stop("cancelled")
    push(sample, "cd")
    sample.stop("deadline")
    sample.fail(ModelError("too late"))
    assert sample.error is None
    assert sample.ids[2:] == TOKENIZER.encode("ab", add_special_tokens=False)
    result = sample.sample()
    assert (result.text, result.finish, result.completion_tokens) == ("ab", "cancelled", 2)
    assert letters(mailbox) == ["a", "b", "end"]


@pytest.mark.parametrize(("stop", "text", "finish"), [((), "abc", "length"), (("c",), "ab", "stop")])
def test_it_ends_by_itself(stop: tuple[str, ...], text: str, finish: str) -> None:
    sample, mailbox = running(max_tokens=3, stop=stop)
    push(sample, "abcdef")
    assert (sample.sample().text, sample.finish) == (text, finish)
    assert sample.sample().stopped_by == (stop[0] if stop else None)
    assert letters(mailbox) == [*text, "end"]


def test_the_end_of_the_turn_is_no_token_of_it() -> None:
    sample, _ = running()
    push(sample, "a")
    sample.push(END, -0.1)
    result = sample.sample()
    assert (result.text, result.finish, result.completion_tokens, result.token_logprobs) == ("a", "stop", 1, (-0.5,))
    assert result.stopped_by == ""


def test_text_held_back_for_a_stop_string_comes_out_at_the_end() -> None:
    sample, mailbox = running(stop=("bcd",))
    push(sample, "abc")
    assert letters(mailbox) == ["a"]
    sample.stop("deadline")
    assert letters(mailbox) == ["bc", "end"]


def test_a_log_probability_that_is_no_number_is_an_error() -> None:
    sample, mailbox = running()
    sample.push(5, math.nan)
    assert isinstance(sample.error, ModelError)
    assert isinstance(mailbox.get(0), Wake)


def test_each_token_has_its_own_number() -> None:
    sample, _ = running()
    numbers: list[float] = []
    for letter in "abc":
        numbers.append(sample.number)
        push(sample, letter)
    assert numbers == uniforms(1, 0, 9)[:3].tolist()
