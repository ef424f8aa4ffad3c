"""Ids of replies. An answer that the cache gives again is of the same episode, under an id of its own."""

from __future__ import annotations

import re
from uuid import uuid4

_DIGITS = 16
_AGAIN = re.compile(rf"(.+)-([0-9a-f]{{{_DIGITS}}})", re.DOTALL)
AGAIN_CHARACTERS = 1 + _DIGITS
"""How much longer an id made by `again` is than the episode's."""


def again(episode_id: str) -> str:
    """A new id for one more reply with the answer of that episode."""
    return f"{episode_id}-{uuid4().hex[:_DIGITS]}"


def read_again(name: str) -> tuple[str, str]:
    """The episode of an id made by `again`, and what is its own in it; any other name as it is, and ""."""
    found = _AGAIN.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")
