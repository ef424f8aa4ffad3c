"""Reading plans out of what small models write: numbered lines, half of a JSON object, the same line again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

FEWEST_LINES = 2
MOST_LINES = 6
SHORTEST_LINE = 8
LONGEST_LINE = 160

_MARK = re.compile(
    r"^(?:[\s>#*_`\"'\[\]{}(,-]|[•–—])*"  # bullets, quotes, brackets
    r"(?:(?:step|line|part)[\s_-]*(?:\d+|one|two|three|four|five|six)\s*[:.)\-–—\"']*|\(?\d+(?:\.\d+)*\s*[:.)\]\-–—]+|[a-h][.)]\s)?"
    r"(?:[\s*_`\"':-]|[–—])*",
    re.IGNORECASE,
)
_END = " \t*_`\"',;[]{}"
_TAKES_OVER = re.compile(r"boxed|answer\s*(?:is\b|:)|```|<\||\|>|^\s*(?:user|assistant|system)\s*:", re.IGNORECASE)
"""What would end, answer or reframe the turn that the line comes to stand in."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
_CAPITALISED = re.compile(r"\b[A-Z][^\W\d_]+")
_NAME = re.compile(r"(?<=[^\s.?!:\"'(]\s)[A-Z][^\W\d_]+")


def chosen(text: str, names: Sequence[str], *, most: int) -> tuple[int, ...]:
    """Places in `names` that a text picks, in its own order, at most `most`: by number from 1 on, else by name."""
    numbers = (int(digits) - 1 for digits in re.findall(r"\d{1,3}", text))
    places = [place for place in numbers if 0 <= place < len(names)]
    if not places:
        lower = text.lower()
        found = [(lower.find(name.lower()), place) for place, name in enumerate(names) if name.lower() in lower]
        places = [place for _, place in sorted(found)]
    return tuple(dict.fromkeys(places))[:most]


def plan_lines(text: str, *, cut: bool = False, most: int = MOST_LINES) -> tuple[str, ...]:
    """The plain lines of a list, without its numbers, bullets and quotes; at most `most`, none twice.

    Left out are headings, lines too short or too long to be a step, and lines that would end or answer a turn. With
    `cut` the text ended at a token limit: its last line is half of one.
    """
    lines: list[str] = []
    raw = list(_raw_lines(text))
    if cut and len(raw) > 1:
        raw.pop()
    for one in raw:
        line = _plain(one)
        if line is not None and not any(_same(line, other) for other in lines):
            lines.append(line)
        if len(lines) == most:
            break
    return tuple(lines)


def general(lines: Sequence[str], questions: Sequence[str]) -> tuple[str, ...]:
    """The lines that hold for a kind of question, not for one of `questions`.

    A line with a number or a name that is not common to all of them is about one alone (or already its answer): in
    another question's prompt it misleads, and what somebody asked does not belong there.
    """
    numbers = [set(_NUMBER.findall(question)) for question in questions]
    shared = set[str]().union(*numbers).intersection(*numbers) if numbers else set[str]()
    names = [set(_names(question)) for question in questions]
    words = [set(_CAPITALISED.findall(question)) for question in questions]
    common = set[str]().union(*words).intersection(*words) if words else set[str]()
    named, capitalised = set[str]().union(*names) - common, set[str]().union(*words) - common

    def fits(line: str) -> bool:
        # What begins a question is a name only if a line says it in its middle: "Find" is none, "Mary" is one.
        own = named.intersection(_WORD.findall(line)) or capitalised.intersection(_names(line))
        return not own and shared.issuperset(_NUMBER.findall(line))

    return tuple(line for line in lines if fits(line))


def _raw_lines(text: str) -> Iterator[str]:
    """The items of a JSON list or object if that is what the text holds, else its lines."""
    start = min((place for place in (text.find("["), text.find("{")) if place >= 0), default=-1)
    if start >= 0:
        try:
            made, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            made = None
            text = re.sub(r"\",\s*\"", '"\n"', text)
        items = list(_items(made))
        if len(items) >= FEWEST_LINES:
            yield from items
            return
    yield from (line for line in text.splitlines() if line.strip(" \t`[]{},"))


def _items(made: object) -> Iterator[str]:
    """The texts in a JSON value; a key goes before its text where it says more than a number would."""
    if isinstance(made, str):
        yield made
    elif isinstance(made, list):
        for item in made:
            yield from _items(item)
    elif isinstance(made, dict):
        for key, value in made.items():
            name = _MARK.sub("", str(key)).strip(_END + ":")
            if isinstance(value, str) and value.strip():
                yield f"{name}: {value}" if name else value
            elif isinstance(value, list | dict) and value:
                yield from _items(value)
            elif name:
                yield name


def _plain(line: str) -> str | None:
    line = "".join(character for character in line if character.isprintable() or character == "\t")
    line = re.sub(r"\s+", " ", line.replace("**", "")).strip()
    if _TAKES_OVER.search(line):
        return None
    line = _MARK.sub("", line, count=1).rstrip(_END)
    # '"verb": "what"' of a broken JSON object.
    line = re.sub(r"[\"']\s*:\s*[\"']?", ": ", line)
    if line.endswith(":") or not SHORTEST_LINE <= len(line) <= LONGEST_LINE or len(_WORD.findall(line)) < 2:
        return None
    return line


def _same(left: str, right: str) -> bool:
    """Whether two lines say the same in the same words, or in all but one in five."""
    first, second = set(_WORD.findall(left.lower())), set(_WORD.findall(right.lower()))
    return len(first & second) >= 0.8 * len(first | second)


def _names(text: str) -> list[str]:
    """Words with a capital inside a sentence."""
    return _NAME.findall(text)
