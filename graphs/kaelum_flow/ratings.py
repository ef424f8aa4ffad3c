"""What people say of answers: kept, changed and taken back."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

from kaelum_flow.services import Services
from kaelum_flow.state import checked_tenant, well_formed
from kaelum_graph.errors import UnknownEpisode, UsageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.ratings import CHECKED_OUTCOME, OUTCOME
from kaelum_graph.types import EpisodeId
from kaelum_graph.workers import worker as find_worker


class Ratings:
    """The part of `Kaelum` that takes ratings. It loads no model."""

    services: Services

    def feedback(
        self,
        episode_id_or_query: str,
        *,
        score: float | None = None,
        answer: str | None = None,
        worker: str | None = None,
        comment: str | None = None,
        steps: Sequence[tuple[int, float]] = (),
        feedback_id: str | None = None,
        tenant: str = "",
        source: str = "python",
        key: str = "",
    ) -> bool:
        """Keep a rating of an answer, by its id or by the query's exact text (the tenant's newest episode of it).

        `score` is in [0, 1]; `answer` is the right answer; `worker` the one that should have been asked; `steps` rates
        single steps of the answer, counted from 0. `source` and `key` say where the rating came from and what it rates.
        It is on disk when this returns. Giving the same `feedback_id` again changes nothing and returns False; ids are
        a tenant's own. A score under 0.5, or a correction, takes the answer out of the cache. Raises `UnknownEpisode`,
        also for another tenant's, and `UsageError` for an unknown worker or a score out of range.
        """
        rating = rating_of(
            episode_id_or_query,
            uuid.uuid4().hex if feedback_id is None else feedback_id,
            score=score,
            answer=answer,
            worker=worker,
            comment=comment,
            steps=steps,
            tenant=tenant,
            source=source,
            key=key,
        )
        storage, named = self.services.storage, rating.episode_id
        if not storage.has_episode(named, tenant=rating.tenant):
            newest = storage.latest_episode_id(named, tenant=rating.tenant)
            if newest is None:
                raise UnknownEpisode(f"feedback for '{named}': no such episode.")
            rating = dataclasses.replace(rating, episode_id=newest)
        added = storage.add_feedback(rating)
        self.services.tell_learner()
        return added

    def put_feedback(
        self,
        answer_id: str,
        feedback_id: str,
        *,
        score: float | None = None,
        answer: str | None = None,
        worker: str | None = None,
        comment: str | None = None,
        steps: Sequence[tuple[int, float]] = (),
        tenant: str = "",
        source: str = "python",
        key: str = "",
    ) -> bool:
        """Keep a rating of the answer of that id, which takes the place of all that `feedback_id` said before.

        True when it says something else now; it is on disk then. Fields mean, and are checked, as with `feedback`.
        """
        rating = rating_of(
            answer_id,
            feedback_id,
            score=score,
            answer=answer,
            worker=worker,
            comment=comment,
            steps=steps,
            tenant=tenant,
            source=source,
            key=key,
        )
        changed = self.services.storage.add_feedback(rating)
        if not changed:

            def replaced(before: Feedback) -> Feedback:
                nonlocal changed
                changed = before != rating
                return dataclasses.replace(rating, created_at=before.created_at)

            self.services.storage.update_feedback(rating.id, replaced, tenant=rating.tenant)
        self.services.tell_learner()
        return changed

    def update_feedback(
        self,
        feedback_id: str,
        *,
        score: float | None = None,
        answer: str | None = None,
        worker: str | None = None,
        comment: str | None = None,
        steps: Sequence[tuple[int, float]] | None = None,
        tenant: str = "",
    ) -> bool:
        """Change what a rating says; what is None stays. False when the tenant has none of that id.

        Fields mean, and are checked, as with `feedback`. It is on disk when this returns.
        """
        if worker is not None:
            find_worker(worker)
        given = {
            "score": score,
            "correction": None if answer is None else well_formed(answer),
            "worker": worker,
            "comment": None if comment is None else well_formed(comment),
            "steps": None if steps is None else tuple(steps),
        }
        said: Any = {name: value for name, value in given.items() if value is not None}
        updated = self.services.storage.update_feedback(
            well_formed(feedback_id), lambda before: dataclasses.replace(before, **said), tenant=checked_tenant(tenant)
        )
        self.services.tell_learner()
        return updated is not None

    def delete_feedback(self, feedback_id: str, *, tenant: str = "") -> bool:
        """Take a rating back; False when the tenant has none of that id. An answer taken out of the cache stays out."""
        deleted = self.services.storage.delete_feedback(well_formed(feedback_id), tenant=checked_tenant(tenant))
        self.services.tell_learner()
        return deleted

    def report_outcome(
        self,
        answer_id: str,
        score: float,
        *,
        checked: bool = False,
        comment: str | None = None,
        tenant: str = "",
    ) -> bool:
        """Keep how what was built on an answer turned out, by the answer's id: `score` from 0 (failed) to 1.

        For programs: an agent that reports its own success lets the router and the reward model learn from it. By
        default it counts as an opinion whose worth is measured, for success has many causes. `checked` says that a
        check of this very answer was executed (its tests, its proof): that counts as fully as the query's own tests.
        An answer has one outcome of either kind; reporting another score takes its place. True when that changed
        anything; it is on disk then. Raises as `feedback` does.
        """
        source = CHECKED_OUTCOME if checked else OUTCOME
        named = f"{source}-{answer_id}"
        return self.put_feedback(answer_id, named, score=float(score), comment=comment, tenant=tenant, source=source)

    async def areport_outcome(self, answer_id: str, score: float, **outcome: Any) -> bool:
        """`report_outcome` off the event loop."""
        return await asyncio.to_thread(self.report_outcome, answer_id, score, **outcome)

    async def afeedback(self, episode_id_or_query: str, **rating: Any) -> bool:
        """`feedback` off the event loop."""
        return await asyncio.to_thread(self.feedback, episode_id_or_query, **rating)


def rating_of(
    episode_id: str,
    feedback_id: str,
    *,
    score: float | None,
    answer: str | None,
    worker: str | None,
    comment: str | None,
    steps: Sequence[tuple[int, float]],
    tenant: str,
    source: str,
    key: str,
) -> Feedback:
    """A rating with texts as UTF-8 can hold them. Raises `UsageError` for one that makes no sense or says nothing."""
    if worker is not None:
        find_worker(worker)
    rating = Feedback(
        id=well_formed(feedback_id),
        episode_id=EpisodeId(well_formed(episode_id)),
        tenant=checked_tenant(tenant),
        score=score,
        correction=None if answer is None else well_formed(answer),
        worker=worker,
        comment=None if comment is None else well_formed(comment),
        steps=tuple(steps),
        source=well_formed(source),
        key=well_formed(key),
    )
    if rating.says_nothing:
        raise UsageError("feedback says nothing: give a score, an answer, a worker, steps or a comment.")
    return rating
