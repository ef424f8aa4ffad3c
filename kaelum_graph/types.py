"""Small values that every part speaks in. Frozen, and free of any heavy import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.retrieval import Passage

Array: TypeAlias = NDArray[np.float32]
Json: TypeAlias = dict[str, Any]

EpisodeId = NewType("EpisodeId", str)
RequestId = NewType("RequestId", str)
RolloutId = NewType("RolloutId", int)
NodeId = NewType("NodeId", int)
WorkerName = NewType("WorkerName", str)

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one of the caller's tools, for the caller to execute. `arguments` is JSON text: an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that the caller offers. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str = ""
    parameters: Json = field(default_factory=dict[str, Any])
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether tools may be called, must be, or may not; with a `name`, that one must be. `parallel`: many at once."""

    mode: Literal["auto", "required", "none"] = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The form that a text must have: any JSON object, or one that fits `schema`. `strict` is the caller's word."""

    kind: Literal["json_object", "json_schema"]
    name: str = ""
    schema: Json | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    An assistant's turn may hold `calls`; a tool's turn answers the call `call_id`.
    """

    role: Role
    content: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


def joined(parts: Iterable[str]) -> str:
    """One text out of the parts of a turn: a line's end between two that no white space keeps apart."""
    text = ""
    for part in parts:
        apart = not text or not part or text[-1].isspace() or part[0].isspace()
        text += part if apart else f"\n{part}"
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked, and the conversation it is asked in.

    `text` is the last user turn; `history` holds the turns before it, system prompts included, `since` the turns after
    it: the assistant's tool calls and what the tools gave back. `sources` are the passages that were retrieved for it,
    if any.
    """

    text: str
    history: tuple[Message, ...] = ()
    since: tuple[Message, ...] = ()
    sources: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What one terminal rollout came to.

    `text` is the whole assistant turn; `answer` the final answer read out of it, or None with `error` saying why
    there is none; `program` and `observation` are the program it wrote and what that printed.
    """

    rollout_id: RolloutId
    worker: WorkerName
    text: str
    answer: str | None
    program: str | None = None
    observation: str | None = None
    error: str | None = None


def last_user_text(messages: Sequence[Message]) -> str:
    """Content of the last user turn; empty when there is none."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")
