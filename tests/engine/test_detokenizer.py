"""Text comes out whole: no broken characters, nothing of a stop string, and one string for each token."""

from __future__ import annotations

import pytest

from kaelum_graph.models.detokenizer import Detokenizer
from kaelum_graph.models.prompts import ChatPrompt
from tests.engine.tiny_models import byte_tokenizer

TOKENIZER = byte_tokenizer()
DECODE = ChatPrompt(TOKENIZER).decode


def feed(text: str, **options: object) -> tuple[Detokenizer, list[str]]:
    """A detokenizer that was fed `text` byte by byte until it stopped, and what could be taken after each."""
    detokenizer = Detokenizer(DECODE, context=TOKENIZER.encode("user\n"), **options)  # type: ignore[arg-type]
    taken: list[str] = []
    for token in TOKENIZER.encode(text, add_special_tokens=False):
        detokenizer.push(token)
        taken.append(detokenizer.take())
        if detokenizer.stopped:
            break
    taken.append(detokenizer.take(final=True))
    return detokenizer, taken


def test_text_of_many_byte_characters() -> None:
    detokenizer, taken = feed("aé✓😀b")
    assert detokenizer.text == "aé✓😀b"
    assert "".join(detokenizer.token_texts) == "aé✓😀b"
    assert len(detokenizer.token_texts) == len("aé✓😀b".encode())
    assert taken == ["a", "", "é", "", "", "✓", "", "", "", "😀", "b", ""]


def test_an_incomplete_last_character_is_left_out() -> None:
    detokenizer = Detokenizer(DECODE, context=[])
    for token in TOKENIZER.encode("a😀", add_special_tokens=False)[:-1]:
        detokenizer.push(token)
    assert detokenizer.text == "a"
    assert detokenizer.token_texts == ["a", "", "", ""]
    assert detokenizer.take(final=True) == "a"


def test_bytes_that_are_no_text_do_not_hold_it_up() -> None:
    detokenizer = Detokenizer(DECODE, context=[])
    continuation = TOKENIZER.encode("é", add_special_tokens=False)[1]
    for _ in range(12):
        detokenizer.push(continuation)
    assert detokenizer.text.startswith("\ufffd")


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ("two",), "one "),
        ("one two three", ("three", "wo t"), "one t"),
        ("one two", ("one",), ""),
        ("aab", ("ab",), "a"),
        ("abababc", ("ababc",), "ab"),
        ("x✓y", ("✓",), "x"),
        ("nothing here", ("zzz",), "nothing here"),
        ("line\n\nnext", ("\n\n",), "line"),
    ],
)
def test_stop_strings(text: str, stop: tuple[str, ...], expected: str) -> None:
    detokenizer, taken = feed(text, stop=stop)
    assert detokenizer.text == expected
    assert detokenizer.stopped is (expected != text)
    assert "".join(taken) == expected
    assert "".join(detokenizer.token_texts) == expected


def test_stop_strings_count_for_nothing_between_two_texts() -> None:
    text = "<c>\na\nb</c> c\nd"
    detokenizer, taken = feed(text, stop=("\n", "c"), unstopped=("<c>", "</c>"))
    assert (detokenizer.text, detokenizer.stopped_by) == ("<", "c")  # a stop string in the mark itself is one
    detokenizer, taken = feed(text, stop=("\n",), unstopped=("<c>", "</c>"))
    assert detokenizer.text == "".join(taken) == "<c>\na\nb</c> c"
    assert feed("<c>\na", stop=("\n",), unstopped=("<c>", "</c>"))[0].text == "<c>\na"
    assert feed("</c>\na", stop=("\n",), unstopped=("<c>", "</c>"))[0].text == "</c>"


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    _, taken = feed("a<end b", stop=("<end>",))
    assert taken == ["a", "", "", "", "", "<end ", "b", ""]


def test_tokens_wholly_within_the_stop_string_are_dropped() -> None:
    detokenizer, _ = feed("abSTOPcd", stop=("STOP",))
    assert detokenizer.token_texts == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "swallow", "expected"),
    [(" 42", " ", "42"), ("42", " ", "42"), ("  42", " ", " 42"), (" 42", "  ", "42"), ("a b", " ", "a b")],
)
def test_blanks_that_the_caller_already_has_are_left_out(text: str, swallow: str, expected: str) -> None:
    detokenizer, taken = feed(text, swallow=swallow)
    assert detokenizer.text == expected == "".join(taken) == "".join(detokenizer.token_texts)
    assert len(detokenizer.token_texts) == len(text)
