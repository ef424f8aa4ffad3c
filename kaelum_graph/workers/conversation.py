"""How a worker's instructions join the caller's own conversation."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from kaelum_graph.types import Message, Query
from kaelum_graph.workers.base import Prompt, Worker

GO_ON = "With what was found out above, answer the question."
"""Said after turns that followed the question, where the model would not see that it is its turn."""


def instructed(
    query: Query,
    instructions: str,
    *,
    demonstrations: Sequence[tuple[str, str]] = (),
    request: str = "{query}",
    reflection: str | None = None,
    structure: str | None = None,
) -> tuple[Message, ...]:
    """The conversation with a worker's `instructions` in one system message, after the caller's own.

    `demonstrations` show the form of a good answer: as turns of a user and an assistant, which small models heed best;
    inside a conversation as examples in the system message, so that no model takes them for something that was said.
    `request` frames the last user turn; `reflection` is appended to it, since small models heed what stands last.
    `structure` is a plan, and follows the instructions. What came after the question (calls of tools and their results)
    follows it, and then the reflection has a turn of its own.
    """
    # Many chat templates take one system message only, and that first.
    system = [turn.content for turn in query.history if turn.role == "system"]
    turns = [turn for turn in query.history if turn.role != "system"]
    if structure:
        instructions = with_structure(instructions, structure)
    if turns or query.since:
        instructions += "".join(f"\n\nExample\n{asked}\n{answered}" for asked, answered in demonstrations)
        demonstrations = ()
    shown: list[Message] = []
    for asked, answered in demonstrations:
        shown += [Message("user", request.replace("{query}", asked)), Message("assistant", answered)]
    last = request.replace("{query}", query.text)
    failed = f"Earlier attempts failed: {reflection.strip()}\nAvoid this mistake." if reflection else ""
    if failed and not query.since:
        last += f"\n\n{failed}"
    given = (*shown, *turns, Message("user", last), *query.since)
    if query.since and (failed or query.since[-1].role == "assistant"):
        given = (*given, Message("user", f"{GO_ON}\n\n{failed}" if failed else f"{GO_ON}\n{last}"))
    return (Message("system", "\n\n".join([*system, instructions])), *given)


def plain_conversation(query: Query) -> tuple[Message, ...]:
    """The caller's own conversation, nothing added but what makes it one that a model can go on with."""
    # Many chat templates take one system message only, and that first.
    system = [turn.content for turn in query.history if turn.role == "system"]
    turns = [turn for turn in query.history if turn.role != "system"]
    first = [Message("system", "\n\n".join(system))] if system else []
    given = (*first, *turns, Message("user", query.text), *query.since)
    if query.since and query.since[-1].role == "assistant":
        return (*given, Message("user", f"{GO_ON}\n{query.text}"))
    return given


def with_structure(instructions: str, structure: str) -> str:
    """The instructions and the plan after them."""
    return f"{instructions}\n\nFollow this plan:\n{structure.strip()}"


class InstructedWorker(Worker, ABC):
    """A worker that asks with fixed texts around the query."""

    instructions: ClassVar[str]
    demonstrations: ClassVar[tuple[tuple[str, str], ...]] = ()
    request: ClassVar[str] = "{query}"
    """The last user turn; "{query}" stands for the query."""
    opening: ClassVar[str] = ""
    """The beginning of the model's turn."""
    stop: ClassVar[tuple[str, ...]] = ()
    observe: ClassVar[tuple[str, ...]] = ()
    """Where the turn pauses for what its program comes to."""
    max_tokens: ClassVar[int] = 512

    def prompt(self, query: Query, *, reflection: str | None = None, structure: str | None = None) -> Prompt:
        """The caller's conversation, framed by this worker's texts."""
        return Prompt(
            messages=instructed(
                query,
                self.instructions,
                demonstrations=self.demonstrations,
                request=self.request,
                reflection=reflection,
                structure=structure,
            ),
            partial_answer=self.opening,
            stop=self.stop,
            observe=self.observe,
            max_tokens=self.max_tokens,
        )
