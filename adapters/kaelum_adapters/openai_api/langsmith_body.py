"""Feedback in LangSmith's words: what its SDK sends, and what it reads back."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.feedback_records import Rating
from kaelum_graph.feedback import MOST_STARS, Feedback, score_of_stars
from kaelum_graph.types import Json

FROM_PEOPLE = "langsmith"
FROM_MODELS = "langsmith:model"
"""`source` of feedback that a model gave: it shares the faults of models, and isn't a person's word."""
SOURCES = {"model": (FROM_MODELS,), "api": (FROM_PEOPLE, "api", "openai", "cli", "python"), "app": ()}
"""LangSmith's kinds of sources in ours. There is no web page to give feedback on."""

ANSWER_KEYS = ("answer", "output", "outputs", "correct", "expected", "text", "content", "value")
"""Where a correction that is an object holds the right answer; one with a single key may call it anything."""

Number = bool | int | float


class Source(BaseModel):
    """Who gave it. Who that is in LangSmith (`metadata`, `user_id`) is not kept."""

    type: str = "api"


class FeedbackConfig(BaseModel):
    """How to read the score: within which bounds it lies."""

    type: Literal["continuous", "categorical", "freeform"] = "continuous"
    min: float | None = None
    max: float | None = None


class Said(BaseModel):
    """What creating and updating have in common."""

    model_config = ConfigDict(strict=True, frozen=True)

    score: Number | None = None
    value: Number | str | Json | None = None
    correction: str | Json | None = None
    comment: str | None = Field(default=None, max_length=100_000)

    def rating(self, config: FeedbackConfig | None = None, *, key: str = "", source: str = FROM_PEOPLE) -> Rating:
        """What is said. A `value` counts as the score where it is a number and stands alone, else as a comment."""
        value = self.value
        score = as_score(self.score, config, "score")
        if score is None and isinstance(value, Number):
            score, value = as_score(value, config, "value"), None
        comment = self.comment
        if value is not None and value != self.score:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            comment = text if comment is None else f"{text}: {comment}"
        return Rating(score=score, answer=gold(self.correction), comment=comment or None, key=key, source=source)


class FeedbackCreate(Said):
    """`POST /feedback`. What says where LangSmith is to file it (sessions, times, retention) has no meaning here."""

    id: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    key: Annotated[str, Field(min_length=1, max_length=180)]
    feedback_source: Source | None = None
    feedback_config: FeedbackConfig | None = None
    comparative_experiment_id: str | None = None
    feedback_group_id: str | None = None
    extra: Json | None = None

    def run(self) -> str:
        """The run that is rated. Raises `ApiError` 400 where none is, or where more is asked than is kept."""
        for name in ("comparative_experiment_id", "feedback_group_id", "extra"):
            if getattr(self, name):
                message = f"{name}: not kept here; say it in the comment, or leave it out."
                raise ApiError(400, message, param=name, code="unsupported_parameter")
        # Every run of a trace here is one answer: its search has no runs of its own.
        run = self.run_id or self.trace_id
        if run is None:
            message = "run_id: needed, as only runs are rated here, by the id of their answer."
            raise ApiError(400, message, param="run_id", code="missing_required_parameter")
        return run

    def read(self) -> tuple[str | None, Rating]:
        """The id that it is to have, and what it says. Raises `ApiError` 400."""
        source = FROM_MODELS if self.feedback_source and self.feedback_source.type == "model" else FROM_PEOPLE
        rating = self.rating(self.feedback_config, key=self.key, source=source)
        return None if self.id is None else as_uuid(self.id, "id"), rating


def as_score(score: Number | None, config: FeedbackConfig | None, param: str) -> float | None:
    """A score in [0, 1]: as it is, or by the bounds that are given with it, of which 1 and 5 mean stars.

    Raises `ApiError` 400 for any other.
    """
    if score is None:
        return None
    low, high = 0.0, 1.0
    if config is not None and config.min is not None and config.max is not None and config.min < config.max:
        low, high = config.min, config.max
    if not low <= score <= high:
        message = (
            f"{param}: {score:g} is not between {low:g} (wrong) and {high:g} (right). For another range say so: "
            "feedback_config={'type': 'continuous', 'min': …, 'max': …}."
        )
        raise ApiError(400, message, param=param, code="invalid_value")
    return score_of_stars(score) if (low, high) == (1, MOST_STARS) else (score - low) / (high - low)


def sources_of(kind: str) -> tuple[str, ...]:
    """Our sources of one of LangSmith's kinds, which its SDK writes as "FeedbackSourceType.MODEL". `ApiError` 400."""
    name = kind.rpartition(".")[2].lower()
    if name not in SOURCES:
        message = f"source: '{kind[:64]}' is none of {', '.join(SOURCES)}."
        raise ApiError(400, message, param="source", code="invalid_value")
    return SOURCES[name]


def gold(correction: str | Json | None) -> str | None:
    """The right answer in a correction. Raises `ApiError` 400 for an object in which it can't be told."""
    if not correction:
        return None
    found: Any = correction
    if isinstance(correction, dict):
        key = next((key for key in ANSWER_KEYS if key in correction), None)
        found = (
            correction[key] if key is not None else next(iter(correction.values())) if len(correction) == 1 else None
        )
    if isinstance(found, bool | int | float):
        found = json.dumps(found)
    if not isinstance(found, str) or not found:
        message = 'correction: give the right answer as a text, or as an object {"answer": "…"}.'
        raise ApiError(400, message, param="correction", code="invalid_value")
    return found


def as_uuid(name: str, param: str) -> str:
    """`name` with dashes. Raises `ApiError` 400 for what is no UUID."""
    try:
        return str(uuid.UUID(name))
    except ValueError:
        raise ApiError(400, f"{param}: '{name[:64]}' is not a UUID.", param=param, code="invalid_value") from None


def as_feedback(feedback: Feedback) -> Json:
    """The object that LangSmith's SDK reads. Feedback whose own id is no UUID has one made of that, for show."""
    at = datetime.fromtimestamp(feedback.created_at or 0.0, UTC).isoformat()
    run = _shown_uuid(feedback.episode_id)
    return {
        "id": _shown_uuid(feedback.id),
        "created_at": at,
        "modified_at": at,
        "run_id": run,
        "trace_id": run,
        "key": feedback.key or "feedback",
        "score": feedback.score,
        "value": None,
        "comment": feedback.comment,
        "correction": feedback.correction,
        "feedback_source": {"type": "model" if feedback.source == FROM_MODELS else "api", "metadata": {}},
    }


def _shown_uuid(name: str) -> str:
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"kaelum:{name}"))
