"""One record of feedback behind three fronts. Each belongs to one tenant and to one of its episodes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.server import Server
from kaelum_adapters.reply_ids import read_again
from kaelum_graph.feedback import Feedback
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId, Json

COMPLETION_PREFIX = "chatcmpl-"
RESPONSE_PREFIX = "resp_"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What is said of an answer. `score` and those of `steps` (number, score) are in [0, 1]; `answer` is the right one.

    `key` names what was rated, where a front has such names; `source` says which front it came through.
    """

    score: float | None = None
    answer: str | None = None
    worker: str | None = None
    comment: str | None = None
    steps: tuple[tuple[int, float], ...] = ()
    key: str = ""
    source: str = "api"

    @property
    def says_nothing(self) -> bool:
        """Whether there is nothing in it to keep."""
        return not self.steps and all(one is None for one in (self.score, self.answer, self.worker, self.comment))

    def of_reply(self, name: str) -> Rating:
        """This, said of the reply of that id: one of many with a cached answer has a voice of its own in learning."""
        return replace(self, key=self.key or read_again(name)[1])

    def over(self, record: Feedback) -> Feedback:
        """`record` with what this says in the place of what it said; what this leaves open stays."""
        return replace(
            record,
            score=record.score if self.score is None else self.score,
            correction=record.correction if self.answer is None else self.answer,
            worker=record.worker if self.worker is None else self.worker,
            comment=record.comment if self.comment is None else self.comment,
            steps=self.steps or record.steps,
        )


class FeedbackRecords:
    """The feedback of one caller. What a method acknowledges by returning is on disk.

    What calls an answer wrong, by a score under 0.5 or by giving the right one, takes it out of the cache at once.
    """

    def __init__(self, server: Server, who: Caller) -> None:
        self._server, self._tenant = server, who.tenant

    async def episode_id(self, name: str) -> EpisodeId:
        """The episode behind a completion's, a response's or an episode's id. Raises `ApiError` 404."""
        return await asyncio.to_thread(self._episode_id, name)

    async def give(
        self, episode_id: EpisodeId, rating: Rating, feedback_id: str | None = None
    ) -> tuple[Feedback, bool]:
        """The record, and whether it is new: the same `feedback_id` again changes nothing.

        Raises `ApiError` 409 where that id belongs to feedback for another episode.
        """
        feedback_id = feedback_id or str(uuid.uuid4())
        new = await self._server.kaelum.afeedback(
            episode_id,
            score=rating.score,
            answer=rating.answer,
            worker=rating.worker,
            comment=rating.comment,
            steps=rating.steps,
            feedback_id=feedback_id,
            tenant=self._tenant,
            source=rating.source,
            key=rating.key,
        )
        kept = await self.get(feedback_id)
        if kept.episode_id != episode_id:
            message = f"feedback_id: '{feedback_id}' is feedback for another answer."
            raise ApiError(409, message, param="feedback_id", code="conflict", retry=False)
        if new and self._server.telemetry is not None:
            self._server.telemetry.rated(rating.source)
        return kept, new

    async def put(self, episode_id: EpisodeId, rating: Rating, feedback_id: str) -> Feedback:
        """The record of that id, which says what `rating` says and nothing else, whatever it said before."""
        kept, new = await self.give(episode_id, rating, feedback_id)
        if new:
            return kept
        plain = Feedback(id=kept.id, episode_id=episode_id, source=rating.source, key=rating.key)
        return await self._update(feedback_id, lambda _: rating.over(plain))

    async def change(self, feedback_id: str, rating: Rating) -> Feedback:
        """The record of that id, with what `rating` says in the place of what it said. Raises `ApiError` 404."""
        return await self._update(feedback_id, rating.over)

    async def get(self, feedback_id: str) -> Feedback:
        """The record of that id, however its UUID is written. Raises `ApiError` 404."""
        return await self._first(feedback_id, lambda name: self._storage.feedback(name, tenant=self._tenant))

    async def delete(self, feedback_id: str) -> None:
        """Take it back. Raises `ApiError` 404."""
        await self._first(feedback_id, lambda name: self._storage.delete_feedback(name, tenant=self._tenant) or None)

    async def list(
        self,
        *,
        episode_ids: Sequence[str] = (),
        keys: Sequence[str] = (),
        sources: Sequence[str] = (),
        limit: int,
        offset: int = 0,
    ) -> Sequence[Feedback]:
        """Records, oldest first, from number `offset` on; of these episodes, keys and sources where any are given."""
        return await asyncio.to_thread(
            self._storage.list_feedback,
            tenant=self._tenant,
            episode_ids=episode_ids,
            keys=keys,
            sources=sources,
            limit=limit,
            offset=offset,
        )

    @property
    def _storage(self) -> Storage:
        return self._server.kaelum.services.storage

    async def _update(self, feedback_id: str, change: Callable[[Feedback], Feedback]) -> Feedback:
        return await self._first(
            feedback_id, lambda name: self._storage.update_feedback(name, change, tenant=self._tenant)
        )

    async def _first(self, feedback_id: str, found: Callable[[str], T | None]) -> T:
        """What `found` gives for the first spelling of an id that it knows."""
        for name in spellings(feedback_id):
            if (one := await asyncio.to_thread(found, name)) is not None:
                return one
        raise ApiError(404, f"There is no feedback '{feedback_id}'.", code="not_found")

    def _episode_id(self, name: str) -> EpisodeId:
        bare = name.removeprefix(COMPLETION_PREFIX).removeprefix(RESPONSE_PREFIX)
        candidates: list[object] = [bare, read_again(bare)[0]]
        if name.startswith(RESPONSE_PREFIX) and self._server.responses is not None:
            candidates.append(self._server.responses.episode_id(self._tenant, name))
        if name.startswith(COMPLETION_PREFIX) and self._server.completions is not None:
            kept: Json = self._server.completions.get(Caller(tenant=self._tenant), name) or {}
            candidates.append((kept.get("kaelum") or {}).get("id"))
        for candidate in candidates:
            for spelling in spellings(candidate) if isinstance(candidate, str) else ():
                if self._storage.has_episode(spelling, tenant=self._tenant):
                    return EpisodeId(spelling)
        raise ApiError(404, f"There is no answer '{name}' to give feedback for.", code="not_found")


def spellings(name: str) -> list[str]:
    """An id, and the other way to write it where it is a UUID: with dashes, or without."""
    try:
        given = uuid.UUID(name)
    except ValueError:
        return [name]
    return list(dict.fromkeys([name, str(given), given.hex]))
