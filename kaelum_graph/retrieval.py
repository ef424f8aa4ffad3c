"""Passages from outside the model: what fetches them, and how much of them a small model is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

MOST_PASSAGES = 4
MOST_CHARACTERS = 600
"""Of one passage. Four of them are about 700 tokens: what a small model still reads with care."""
LABEL = 200
"""Most characters of a source or a title."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of text that was found for a question.

    `source` is where it lies (an address, a file), `title` what it is part of; either may be empty. `trusted` is the
    caller's word that what such a passage says is so; nothing else sets it.
    """

    text: str
    source: str = ""
    title: str = ""
    trusted: bool = False

    @property
    def label(self) -> str:
        """Title and source as one would cite them; empty when there is neither."""
        if self.title and self.source and self.title != self.source:
            return f"{self.title} ({self.source})"
        return self.title or self.source


Retriever: TypeAlias = Callable[[str], Sequence[Passage]]
"""A question to the passages found for it, best first; may block and may raise anything."""


def excerpts(
    passages: Sequence[Passage], question: str, *, most: int = MOST_PASSAGES, characters: int = MOST_CHARACTERS
) -> tuple[Passage, ...]:
    """The first `most` passages that say something, each text once and cut to `characters` around the question."""
    kept: dict[str, Passage] = {}
    for passage in passages:
        text = _encodable(excerpt(passage.text, question, characters=characters))
        if text and text not in kept:
            kept[text] = replace(
                passage, text=text, source=_encodable(passage.source)[:LABEL], title=_encodable(passage.title)[:LABEL]
            )
        if len(kept) == most:
            break
    return tuple(kept.values())


def excerpt(text: str, question: str, *, characters: int = MOST_CHARACTERS) -> str:
    """At most `characters` of `text` on one line: the run of sentences that shares most words with the question."""
    text = " ".join(text.split())
    if len(text) <= characters:
        return text
    asked = {word.lower() for word in re.findall(r"\w{3,}", question)}
    starts = [0, *(match.end() for match in re.finditer(r"[.!?]\s+", text))]

    def shared(start: int) -> int:
        return len(asked & {word.lower() for word in re.findall(r"\w{3,}", text[start : start + characters])})

    start = max(starts, key=lambda start: (shared(start), -start))
    # A window that begins near the end would waste the room that it has.
    start = min(start, next((each for each in starts if len(text) - each <= characters), start))
    cut = text[start : start + characters]
    if start + characters < len(text):
        cut = cut[:-1].rsplit(" ", 1)[0] + "…"
    return cut


def _encodable(text: str) -> str:
    """`text` without halves of surrogate pairs, which have no bytes and could not be written down."""
    return text.encode(errors="replace").decode()


def numbered(passages: Sequence[Passage]) -> str:
    """The passages as a model is shown them: "[1] title: text", a blank line between."""
    blocks = (
        f"[{place}] {f'{passage.title}: ' if passage.title else ''}{passage.text}"
        for place, passage in enumerate(passages, start=1)
    )
    return "\n\n".join(blocks)
