"""Which episodes are one conversation: an answer, all that it went on from, and all that went on from it.

What went on from an earlier one on another way is another conversation. Its beginning may be somebody else's too: an
answer of the cache is the same episode for whoever asked first and for whoever asked it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Link(Protocol):
    """Knows what went on from what. May raise `StorageError`."""

    def __call__(self, episode_ids: Sequence[str], *, earlier: bool) -> Iterable[str]:
        """What these went on from (`earlier`), or else what went on from these: one step or more, in any order."""
        ...


def conversation(episode_id: str, links: Sequence[Link]) -> list[str]:
    """The conversation of an episode, by all links together; it comes first. Raises what a link raises."""
    found = {episode_id: None}
    for earlier in (True, False):
        seen, waiting = {episode_id}, [episode_id]
        while waiting:
            near = {one for link in links for one in link(waiting, earlier=earlier)}
            waiting = sorted(near - seen)
            seen |= near
        found |= dict.fromkeys(sorted(seen))
    return list(found)


def link_of(continued_from: Mapping[str, str]) -> Link:
    """The link of episodes with the one that each went on from."""
    later: dict[str, list[str]] = {}
    for one, other in continued_from.items():
        later.setdefault(other, []).append(one)

    def near(episode_ids: Sequence[str], *, earlier: bool) -> list[str]:
        if earlier:
            return [continued_from[one] for one in episode_ids if one in continued_from]
        return [name for one in episode_ids for name in later.get(one, ())]

    return near
