"""A `Runner` that plays given events: what the server's observers are tried on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from kaelum_adapters.openai_api.exchange import Ask, Finished, Piece, Reply, RunEvent, Started, Thought, Usage
from kaelum_graph.answer import Answer, Cost
from kaelum_graph.types import EpisodeId, Json, Message, ToolCall, WorkerName

QUESTION = "What is 2 + 2? (a secret question)"


class ScriptedRunner:
    """Gives `events` one after the other; an exception among them is raised, a number is seconds to wait."""

    def __init__(self, events: Sequence[RunEvent | BaseException | float]) -> None:
        self.events = events
        self.closed = False

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The script, whatever is asked."""
        try:
            for event in self.events:
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, (int, float)):
                    await asyncio.sleep(event)
                else:
                    yield event
        finally:
            self.closed = True


def ask(model: str = "kaelum", **fields: object) -> Ask:
    """An ask of one question."""
    return Ask(model=model, messages=(Message("user", QUESTION),), **fields)  # pyright: ignore[reportArgumentType]


def started() -> Started:
    return Started(id="ep-1", created=1, model="kaelum", system_fingerprint="state-1")


def rollout(operator: str, outcome: str = "pass", tier: str = "V") -> Json:
    """A rollout as the trace of an answer has it, as far as it is counted."""
    return {"operator": operator, "evidence": [{"tier": tier, "source": "s", "outcome": outcome, "reason": ""}]}


def answer(**fields: object) -> Answer:
    """A verified answer after two waves of six rollouts."""
    return Answer(
        **{  # pyright: ignore[reportArgumentType]
            "id": EpisodeId("ep-1"),
            "query": QUESTION,
            "text": "4",
            "answer": "4",
            "status": "verified",
            "confidence": 0.93,
            "worker": WorkerName("code"),
            "route": {"math": 0.7, "code": 0.3},
            "cache": "miss",
            "stop_reason": "verified",
            "model": "tiny",
            "cost": Cost(prompt_tokens=100, completion_tokens=60, rollouts=6, waves=2, seconds=0.1),
            "trace": {
                "rollouts": [*[rollout("sample")] * 4, rollout("refine", "fail"), rollout("branch", "unscored", "X")]
            },
            **fields,
        }
    )


def finished(made: Answer | None, *, calls: tuple[ToolCall, ...] = (), n: int = 1) -> Finished:
    replies = tuple(
        Reply(index=index, text="4", finish="tool_calls" if calls else "stop", calls=calls) for index in range(n)
    )
    usage = Usage(prompt_tokens=100, completion_tokens=60, reasoning_tokens=50, cached_tokens=32)
    return Finished(id="ep-1", replies=replies, usage=usage, story={}, answer=made)


def whole_run(made: Answer | None = None, *, calls: tuple[ToolCall, ...] = ()) -> list[RunEvent]:
    """The events of a run that ends well."""
    return [started(), Thought(text="routing"), Piece(text="4"), finished(made, calls=calls)]
