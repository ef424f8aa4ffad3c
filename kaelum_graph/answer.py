"""What a caller gets: the answer with its story, and the events on the way to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from kaelum_graph.evidence import Evidence
from kaelum_graph.types import EpisodeId, Json, RolloutId, ToolCall, WorkerName

Status = Literal["verified", "unverified", "unsure"]
CacheState = Literal["hit", "miss", "off"]
StopReason = Literal["verified", "margin", "budget", "tokens", "deadline", "cancelled", "cache"]
Stage = Literal["call", "cache", "route", "sources", "wave", "verify", "reflect", "shape"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an answer took. A cache hit costs no rollouts and no tokens, but for the choice whether to call tools.

    `rollouts` and `waves` count the turns sampled for that choice too. `seconds` is without the time in which a process
    loads its model.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    rollouts: int = 0
    waves: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One cluster of equal answers: its share of the rollouts that gave an answer, and P(correct).

    `rollouts` are the ids of the rollouts that gave it, as in the trace and in the stored tree.
    """

    answer: str
    share: float
    confidence: float
    rollouts: tuple[RolloutId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of the n best distinct answers, with its whole text. The fields mean what they mean on `Answer`.

    `share` is that of its cluster. `text` is the attempt itself also where `status` is "unsure".
    """

    text: str
    answer: str | None
    confidence: float
    share: float
    worker: WorkerName
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage that was found for the query. `supports`: whether it says that the answer given is the answer."""

    text: str
    source: str = ""
    title: str = ""
    supports: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The reply to one query.

    `text` is what to show; `answer` the final value in it (None for prose and when nothing could be read out).
    `status` is "verified" when anchored evidence passed, "unverified" when only agreement speaks for it, "unsure" when
    nothing does. `confidence` is P(correct) as far as the evidence goes. `id` is the handle for feedback: that of the
    episode that found the answer, also where the cache serves it. `recorded` is False, with the reason among the
    `notices`, when the episode could not be written and feedback will find nothing.
    `choices` are the best distinct answers, this one first, where more than one was asked for (`answers=n`); at most n.
    `sources` are what a retriever found for the query, in the order in which the model saw them as [1], [2], ….
    `calls` are the tool calls that this turn makes, in place of an answer: the caller makes them and asks again with
    what came of them. Their arguments fit the tools' schemas; `text` is what was said beside them, mostly nothing.
    `state_version` names the learned state that was in force when the query was asked.
    """

    id: EpisodeId
    query: str
    text: str
    answer: str | None
    status: Status
    confidence: float
    worker: WorkerName
    route: dict[str, float]
    cache: CacheState
    stop_reason: StopReason
    model: str
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    choices: tuple[Choice, ...] = ()
    cost: Cost = field(default_factory=Cost)
    sources: tuple[Source, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    trace: Json | None = None
    recorded: bool = True
    notices: tuple[str, ...] = ()
    state_version: str = ""

    def to_json(self) -> Json:
        """A plain dictionary for `json.dumps` and `from_json`."""
        return _ANSWER.dump_python(self, mode="json")

    @classmethod
    def from_json(cls, data: Json) -> Answer:
        """The answer that `to_json` wrote. Raises `pydantic.ValidationError` for anything else."""
        return _ANSWER.validate_python(data)


_ANSWER = TypeAdapter(Answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the graph is doing now.

    `data` by stage; each also has `id`, that of the answer.
    call: wave, candidates (so far), budget, leader, share, tokens. cache: state, similarity.
    route: worker, probabilities, rollouts, depth. sources: state (asked or found), passages.
    wave: wave, rollouts (done so far), budget, leader, share, tokens. verify: status, confidence, reason.
    reflect: reason. shape: answers (that were to be put in form), samples, valid, share, tokens.
    """

    stage: Stage
    data: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of the winning answer's text, in order; joined, they are `Answer.text`."""

    text: str


Event: TypeAlias = Progress | TextDelta | Answer
