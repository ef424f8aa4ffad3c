"""Tool calls are taken out of a text however it is cut into pieces, and nothing else is."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from kaelum_graph.models.call_reader import CallReader

NAMES = frozenset({"weather", "add"})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TAGGED = "a</tool_call>b </tool_call>"
TWO = [("add", dict[str, object]()), ("weather", dict[str, object]())]
SECOND = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def read(text: str, *, size: int = 10_000, parallel: bool = True) -> tuple[str, list[tuple[str, object]]]:
    reader = CallReader(NAMES, parallel=parallel)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    seen = "".join(map(reader.feed, pieces)) + reader.flush()
    assert all(call.id.startswith("call_") for call in reader.calls)
    assert len({call.id for call in reader.calls}) == len(reader.calls)
    return seen, [(call.name, json.loads(call.arguments)) for call in reader.calls]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize(
    ("text", "left", "calls"),
    [
        (CALL, "", [("weather", {"city": "Paris"})]),
        (f"Let me look.\n{CALL}", "Let me look.", [("weather", {"city": "Paris"})]),
        (f"{CALL}\n{SECOND}\n", "", [("weather", {"city": "Paris"}), ("add", {"a": 1})]),
        (f"{CALL}\nDone.", "Done.", [("weather", {"city": "Paris"})]),
        (f"a {CALL} b", "a b", [("weather", {"city": "Paris"})]),
        (f"{CALL.replace('Paris', TAGGED)} b", "b", [("weather", {"city": TAGGED})]),
        (f"{CALL.replace('Paris', TAGGED)}{SECOND}", "", [("weather", {"city": TAGGED}), ("add", {"a": 1})]),
        (CALL.replace("Paris", TAGGED).removesuffix("</tool_call>"), "", [("weather", {"city": TAGGED})]),
        (f'<tool_call>{{"a": "b</tool_call> {SECOND}', '<tool_call>{"a": "b</tool_call>', [("add", {"a": 1})]),
        (CALL.removesuffix("</tool_call>"), "", [("weather", {"city": "Paris"})]),
        (CALL.removesuffix("_call>"), "", [("weather", {"city": "Paris"})]),
        ('{"name": "add", "arguments": {"a": 1}}', "", [("add", {"a": 1})]),
        (' {"name": "add", "parameters": "{\\"a\\": 1}"}\n</tool_call>', "", [("add", {"a": 1})]),
        (
            '[{"name": "add", "arguments": {}}, {"name": "weather", "arguments": {}}]',
            "",
            [("add", {}), ("weather", {})],
        ),
        ('```json\n{"name": "add", "arguments": {}}\n{"name": "weather", "arguments": {}}\n```', "", TWO),
        (f'{CALL}\n<tool_call>\n{{"name": "add", "argu', "", [("weather", {"city": "Paris"})]),
        ('{"type": "function", "function": {"name": "add", "arguments": {}}}', "", [("add", {})]),
    ],
)
def test_calls_are_taken_out(text: str, left: str, calls: list[tuple[str, object]], size: int) -> None:
    assert read(text, size=size) == (left, calls)


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "  plain words \n",
        "a < b and <tool_ is no tag",
        "ends in <tool_cal",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Par',
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call> ',
        "<tool_call>no json</tool_call>\n\n",
        '<tool_call>{"name": "add"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {}} and more</tool_call>',
        '{"name": "Anna", "age": 3}',
        '{"name": "add", "arguments": {}} is how to call it',
        "[a link](to nowhere)",
        '```python\nprint("add")\n```',
        '```json\n{"name": "Anna"}\n```\n',
        "``",
        "<tool_call>" + "[" * 100_000,
    ],
)
def test_what_is_no_call_stays_as_it_was(text: str, size: int) -> None:
    if len(text) < 1000 or size > 1000:
        assert read(text, size=size) == (text, [])


def test_only_the_first_call_counts_where_one_is_allowed() -> None:
    assert read(f"{CALL}\n{SECOND}", parallel=False) == ("", [("weather", {"city": "Paris"})])


def test_a_call_made_twice_is_one() -> None:
    reader = CallReader(NAMES)
    reader.feed(f"{CALL}\n{SECOND}\n")
    assert not reader.repeats
    assert reader.feed(f"{CALL}\n") == ""
    assert reader.repeats
    assert [call.name for call in reader.calls] == ["weather", "add"]


def test_plain_text_is_not_held_back() -> None:
    reader = CallReader(NAMES)
    assert reader.feed("Hello the") == "Hello the"
    assert reader.feed("re. <tool") == "re."
    assert reader.feed("box>") == " <toolbox>"
    assert CallReader(NAMES).feed('{"answer": 4') == '{"answer": 4'


def test_half_a_surrogate_pair_can_still_be_encoded() -> None:
    _, [(_, arguments)] = read('{"name": "add", "arguments": {"a": "\\ud800", "b": "é"}}')
    assert arguments == {"a": "\ud800", "b": "é"}
    reader = CallReader(NAMES)
    reader.feed('{"name": "add", "arguments": {"a": "\\ud800"}}')
    reader.flush()
    assert reader.calls[0].arguments.encode()


def test_pieces_are_told_as_soon_as_they_are_certain() -> None:
    reader = CallReader(NAMES)
    text = f"One two.\n{CALL}\nThree."
    lengths = [0]
    seen = ""
    for character in text:
        seen += reader.feed(character)
        lengths.append(len(seen))
    assert "tool_call" not in seen
    assert max(b - a for a, b in pairwise(lengths)) <= 2
