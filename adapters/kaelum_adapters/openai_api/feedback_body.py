"""What people say of answers, in the words of `POST /v1/feedback` and of a completion's `metadata`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.feedback_records import Rating
from kaelum_graph.errors import UsageError
from kaelum_graph.feedback import MOST_STARS, score_of_stars
from kaelum_graph.workers import worker as find_worker

THUMBS = {"up": 1.0, "down": 0.0}
RATING_KEYS = ("rating", "correction", "worker", "comment")
"""The keys of a completion's metadata that are feedback."""

FEEDBACK_ID = r"^[A-Za-z0-9._:~-]{1,128}$"
FeedbackId = Annotated[str, Field(pattern=FEEDBACK_ID)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class StepScore(BaseModel):
    """What one step of the answer is worth; steps are counted from 0."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    step: Annotated[int, Field(ge=0, le=100_000)]
    score: Score


class FeedbackBody(BaseModel):
    """`POST /v1/feedback`. The answer is named by one of `id`, `completion_id`, `response_id` and `episode_id`.

    How good it is comes as one of `score` (0 to 1), `rating` (1 to 5 stars) and `thumbs`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str | None = None
    completion_id: str | None = None
    response_id: str | None = None
    episode_id: str | None = None
    score: Score | None = None
    rating: Annotated[float, Field(ge=1, le=MOST_STARS, allow_inf_nan=False)] | None = None
    thumbs: Literal["up", "down"] | None = None
    answer: Text | None = Field(default=None, description="the right answer")
    worker: str | None = Field(default=None, description="the worker that should have been asked")
    steps: Annotated[list[StepScore], Field(max_length=1000)] | None = None
    comment: Text | None = None
    feedback_id: FeedbackId | None = Field(default=None, description="giving it again changes nothing")

    def name(self) -> str:
        """The answer that is meant. Raises `ApiError` 400 unless just one is named."""
        given = [one for one in (self.id, self.completion_id, self.response_id, self.episode_id) if one]
        if len(given) != 1:
            message = "id: name the answer by one of id, completion_id, response_id and episode_id."
            raise ApiError(400, message, param="id", code="missing_required_parameter")
        return given[0]

    def read(self) -> Rating:
        """What is said of it. Raises `ApiError` 400 for nothing, or for the same thing twice."""
        if sum(one is not None for one in (self.score, self.rating, self.thumbs)) > 1:
            raise ApiError(400, "score: give one of score, rating and thumbs.", param="score", code="invalid_value")
        score = self.score
        if self.rating is not None:
            score = score_of_stars(self.rating)
        elif self.thumbs is not None:
            score = THUMBS[self.thumbs]
        steps = tuple((one.step, one.score) for one in self.steps or ())
        if len({step for step, _ in steps}) < len(steps):
            raise ApiError(400, "steps: a step is scored twice.", param="steps", code="invalid_value")
        rating = Rating(
            score=score,
            answer=self.answer,
            worker=known_worker(self.worker, "worker"),
            comment=self.comment,
            steps=steps,
        )
        if rating.says_nothing:
            message = "score: say something: a score, rating, thumbs, answer, worker, steps or comment."
            raise ApiError(400, message, param="score", code="missing_required_parameter")
        return rating


def known_worker(name: str | None, param: str) -> str | None:
    """`name`. Raises `ApiError` 400 where there is no such worker."""
    if name is None:
        return None
    try:
        find_worker(name)
    except UsageError as error:
        raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from None
    return name


def read_metadata(metadata: Mapping[str, str]) -> Rating | None:
    """The feedback in a completion's metadata; None where there is none.

    `rating` is 1 to 5 stars as a whole number, or a score written with a point ("0.0" to "1.0"), or "up" or "down".
    Raises `ApiError` 400 for any other.
    """
    if not any(metadata.get(key) for key in RATING_KEYS):
        return None
    rating = metadata.get("rating")
    return Rating(
        score=_rating_text(rating) if rating else None,
        answer=metadata.get("correction") or None,
        worker=known_worker(metadata.get("worker") or None, "metadata.worker"),
        comment=metadata.get("comment") or None,
        source="openai",
    )


def _rating_text(text: str) -> float:
    said = text.strip().lower()
    if said in THUMBS:
        return THUMBS[said]
    if re.fullmatch(rf"[1-{MOST_STARS}]", said):
        return score_of_stars(int(said))
    if re.fullmatch(r"0?\.[0-9]{1,9}|1\.0{1,9}", said):
        return float(said)
    message = (
        "metadata.rating: expected a whole number from 1 (worst) to 5 (best), a score from 0.0 to 1.0 written with a "
        "point, 'up' or 'down'."
    )
    raise ApiError(400, message, param="metadata.rating", code="invalid_value")
