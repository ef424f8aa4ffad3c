"""Stop strings and echoes are found wherever the stream is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest

from kaelum_graph.models.text_gates import EchoGate, StopGate


def splits(text: str) -> Iterator[list[str]]:
    """Every way to cut a text into one, two or three pieces."""
    for count in range(3):
        for cuts in combinations(range(1, len(text)), count):
            edges = [0, *cuts, len(text)]
            yield [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("text", "stop", "kept", "reason"),
    [
        ("abcEND def", ("END",), "abc", "stop"),
        ("aaab rest", ("aab",), "a", "stop"),
        ("one\n\ntwo", ("\n\n",), "one", "stop"),
        ("abEcEND", ("END", "cEN"), "abE", "stop"),
        ("ends on EN", ("END",), "ends on EN", None),
        ("no stop here", (), "no stop here", None),
        ("a" * 30, ("END",), "a" * 20, "length"),
        ("a" * 19 + "END", ("END",), "a" * 19, "stop"),
        ("a" * 25 + "END", ("END",), "a" * 20, "length"),
    ],
)
def test_a_stop_string_ends_the_text(text: str, stop: tuple[str, ...], kept: str, reason: str | None) -> None:
    for pieces in splits(text):
        gate = StopGate(stop, max_chars=20)
        assert "".join([*map(gate.feed, pieces), gate.flush()]) == kept, pieces
        assert gate.reason == reason, pieces


def test_certain_text_is_not_held_back() -> None:
    gate = StopGate(("\n\n",), max_chars=100)
    assert [gate.feed(piece) for piece in ("one", "\n", "two", "\n", "\n", "x")] == ["one", "", "\ntwo", "", "", ""]


@pytest.mark.parametrize(
    ("draft", "text", "kept"),
    [
        ("First line.\nSecond", "First line.\nSecond half.", " half."),
        ("First line.\nThe second", "The second half.", " half."),
        ("First line.\nSecond", "Third thing.", "Third thing."),
        ("Step 1: add.\n", "Step 1: add.\nStep 2: divide.", "Step 2: divide."),
        ("Step 1: add.\n", "\n Step 1: add.\n\nStep 2.", "Step 2."),
        ("so so", "so far so good", "so far so good"),
        ("The sum is 12.", "Then we halve it.", " Then we halve it."),
        ("The sum is 12.", " Then we halve it.", " Then we halve it."),
        ("The sum is 3.", "14", "14"),
        ("The whole answer", "The whole answer", ""),
        ("", "Anything", "Anything"),
    ],
)
def test_an_echo_of_the_draft_is_dropped(draft: str, text: str, kept: str) -> None:
    for pieces in splits(text):
        gate = EchoGate(draft)
        assert "".join([*map(gate.feed, pieces), gate.flush()]) == kept, pieces
        assert gate.joint + text[gate.dropped :] == kept or not kept, pieces
