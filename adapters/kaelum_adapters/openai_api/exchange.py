"""What a request asks for and what happens while it is answered, apart from any wire format.

`/v1/chat/completions` and `/v1/responses` read their bodies into an `Ask`, hand it to a `Runner` and write its events
in their own words. A runner may wrap another one: to observe it, or to let a client's retry join a run under way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from kaelum_graph.answer import Answer
from kaelum_graph.types import Json, Message, Shape, Tool, ToolCall, ToolChoice

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. `tenant` keeps cache, episodes and feedback apart; `key_id` names the key in logs, never shows it."""

    tenant: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. None means "not given": the product's default holds.

    `model` is the name the client wrote, already checked: "kaelum", "kaelum-<worker>" or "kaelum-direct". `messages` is
    the whole conversation. `options` are per-query settings of the search (the `kaelum` object of the body).
    `fingerprint` is a digest of the caller and the body; `retry` is true when the client says that it asks again;
    `patience` is after how many seconds without a reply it gives up, where that is known and the reply comes whole.
    """

    model: str
    messages: tuple[Message, ...]
    caller: Caller = field(default_factory=Caller)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    shape: Shape | None = None
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    effort: str | None = None
    options: Json = field(default_factory=dict[str, object])
    fingerprint: str = ""
    retry: bool = False
    patience: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens. `completion_tokens` counts all that were generated; those of them not shown are `reasoning_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One generated token, its log-probability, and the likeliest tokens in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One finished choice. With `calls` the text is what the model said beside them, mostly nothing."""

    index: int
    text: str
    finish: FinishReason
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first event. `id` is the episode's, the handle for feedback ("" until known: then `Finished` has it).

    `reply_id` is the reply's, where that is another: no two replies have the same, but the cache gives one episode's
    answer in many.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str
    reply_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """What the search is doing, in words: `reasoning_content` on the wire."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """New text of choice `index`."""

    text: str
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """The tool calls of choice `index`, all at once."""

    calls: tuple[ToolCall, ...]
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last event: all choices, what they cost, and the search's whole `answer` (None for "kaelum-direct").

    `story` is the `kaelum` object of a reply: id, route, cache, confidence, status, cost, stop_reason.
    """

    id: str
    replies: tuple[Reply, ...]
    usage: Usage
    story: Json
    answer: Answer | None = None


RunEvent: TypeAlias = Started | Thought | Piece | Called | Finished


@runtime_checkable
class Runner(Protocol):
    """Answers requests."""

    def run(self, ask: Ask) -> AsyncIterator[RunEvent]:
        """`Started`, then thoughts, pieces and calls as they come, then `Finished`.

        Closing the iterator (`aclose`) cancels the work at once. Raises `KaelumError` where the ask can't be answered:
        before `Started` when that is known then, else in place of `Finished`.
        """
        ...
