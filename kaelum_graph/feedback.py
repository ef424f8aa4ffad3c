"""What people say of answers: a rating, and a change of one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from kaelum_graph.errors import UsageError
from kaelum_graph.types import EpisodeId

EVICTING_SCORE = 0.5
"""A rating below this takes the rated answer out of the cache: a wrong hit must be evictable."""
STAR_SCORES = (0.0, 0.2, 0.5, 0.8, 1.0)
"""What one to five stars mean as a score. Four and five are praise, one and two say that the answer is wrong, three is
neither (`PASSING_SCORE`, `FAILING_SCORE` and `PRAISING_SCORE` of learning)."""
MOST_STARS = len(STAR_SCORES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a person said of an episode. `id` is the tenant's own: two tenants may use the same one.

    `score` in [0, 1]; `correction` is a gold answer; `worker` a better route; `steps` rates single steps of the answer:
    (which, counted from 0, score in [0, 1]). `source` is the front it came through ("api", "langsmith", "openai",
    "cli", "python"), `key` what is rated, in LangSmith's sense ("user_score"). `created_at` is seconds since 1970, None
    until it is kept. Raises `UsageError` for a score out of range or a step rated twice.
    """

    id: str
    episode_id: EpisodeId
    tenant: str = ""
    score: float | None = None
    correction: str | None = None
    worker: str | None = None
    comment: str | None = None
    steps: tuple[tuple[int, float], ...] = ()
    source: str = ""
    key: str = ""
    created_at: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise UsageError(f"feedback score is {self.score}: must be between 0 and 1.")
        for step, score in self.steps:
            if step < 0:
                raise UsageError(f"feedback rates step {step}: steps count from 0.")
            if not 0.0 <= score <= 1.0:
                raise UsageError(f"feedback score of step {step} is {score}: must be between 0 and 1.")
        if len({step for step, _ in self.steps}) < len(self.steps):
            raise UsageError("feedback rates a step more than once.")

    @property
    def says_nothing(self) -> bool:
        """Whether there is nothing in it to learn or to read."""
        return self.score is None and not self.steps and (self.correction, self.worker, self.comment) == (None,) * 3

    @property
    def refutes(self) -> bool:
        """Whether it calls the answer wrong, so that it must not be served again."""
        return (self.score is not None and self.score < EVICTING_SCORE) or self.correction is not None

    def content(self, *, comment: bool = True) -> str:
        """What it says, as JSON text for a column; the log leaves the comment out."""
        said: dict[str, object] = {
            "score": self.score,
            "correction": self.correction,
            "worker": self.worker,
            "steps": [list(pair) for pair in self.steps],
            "source": self.source,
            "key": self.key,
        }
        return json.dumps({**said, "comment": self.comment} if comment else said, ensure_ascii=False)

    @classmethod
    def from_content(cls, tenant: str, id: str, episode_id: str, created_at: float, content: str) -> Feedback:
        """The rating of a stored row. Keys that a row of an earlier version lacks have their defaults."""
        said: dict[str, Any] = json.loads(content)
        return cls(
            id=id,
            episode_id=EpisodeId(episode_id),
            tenant=tenant,
            score=said.get("score"),
            correction=said.get("correction"),
            worker=said.get("worker"),
            comment=said.get("comment"),
            steps=tuple((step, score) for step, score in said.get("steps") or ()),
            source=said.get("source") or "",
            key=said.get("key") or "",
            created_at=created_at,
        )


def score_of_stars(stars: float) -> float:
    """The score in [0, 1] of 1 to 5 stars, linear between whole ones: what every front makes of them."""
    whole = min(int(stars), MOST_STARS - 1)
    below, above = STAR_SCORES[whole - 1 : whole + 1]
    return above if stars == MOST_STARS else below + (stars - whole) * (above - below)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackChange:
    """One line of the log: a rating was added, changed or taken back.

    Whoever learns from ratings keeps the last `sequence` taken in and asks for what comes after: each change once. What
    `before` had taught is undone, what `after` says is learned; None: no rating. Comments are not in the log. Where
    the episode was deleted, neither are corrections, keys and sources.
    """

    sequence: int
    at: float  # seconds since 1970
    before: Feedback | None
    after: Feedback | None

    @property
    def action(self) -> Literal["added", "updated", "deleted"]:
        """What was done."""
        return "added" if self.before is None else "deleted" if self.after is None else "updated"
