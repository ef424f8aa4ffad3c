"""The search as an answer to a request: its progress in words, its text when the winner is certain."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from kaelum_adapters.openai_api.drain import Drain
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import (
    Ask,
    Called,
    Finished,
    FinishReason,
    Piece,
    Reply,
    RunEvent,
    Started,
    Thought,
    Usage,
)
from kaelum_adapters.openai_api.model_names import worker_of
from kaelum_adapters.openai_api.pacing import with_silences
from kaelum_adapters.thinking import Thinking
from kaelum_flow.facade import Kaelum
from kaelum_graph.answer import Answer, Progress, TextDelta
from kaelum_graph.errors import ContextOverflow
from kaelum_graph.models.base import CancelToken, PolicyModel
from kaelum_graph.types import Json, Message

QUIET_SECONDS = 8.0
"""After so long without a word from the search, a thought says that it is still at work: clients time out on less."""

CHARACTERS_PER_TOKEN = 4
ESTIMATES_OFF_BY = 2
"""So many times too long may a model that can't count tokens take a conversation for."""


class SearchRunner:
    """A `Runner` over `Kaelum.astream`. When `drain` hurries, a search ends with the best answer it has."""

    def __init__(self, kaelum: Kaelum, *, drain: Drain | None = None) -> None:
        self._kaelum = kaelum
        self._drain = drain

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """`Started` comes when the episode's id is known: once the cache has been looked into."""
        refuse_sampling(ask)
        history, question, since = split(ask.messages)
        kaelum = self._kaelum
        options = search_options(ask)
        kaelum.services.settings_for(options)
        token = CancelToken()
        hurry = contextlib.nullcontext() if self._drain is None else self._drain.on_hurry(token.cancel)
        created, fingerprint = int(time.time()), kaelum.state_version
        prompt_tokens = await asyncio.to_thread(prompt_length, kaelum.services.model, ask.messages)
        events = kaelum.astream(
            question,
            history=history,
            since=since,
            tools=ask.tools,
            tool_choice=ask.tool_choice,
            shape=ask.shape,
            tenant=ask.caller.tenant,
            cancel=token,
            **options,
        )
        thinking, text = Thinking(), ""
        started: Started | None = None
        before: list[Thought] = []
        async with contextlib.AsyncExitStack() as held:
            held.enter_context(hurry)
            steps = await held.enter_async_context(
                contextlib.aclosing(with_silences(events, seconds=QUIET_SECONDS, what="search"))
            )
            async for event in steps:
                if isinstance(event, Progress) and started is None and "id" in event.data:
                    started = Started(
                        id=event.data["id"], created=created, model=ask.model, system_fingerprint=fingerprint
                    )
                    yield started
                    for thought in before:
                        yield thought
                if isinstance(event, TextDelta):
                    text += event.text
                    if not ask.stop:
                        yield Piece(text=event.text)
                elif isinstance(event, Answer):
                    assert started is not None, "the cache node tells the id before there is an answer"
                    replies = replies_of(event, ask)
                    if ask.stop and replies[0].text:
                        yield Piece(text=replies[0].text)
                    for reply in replies:
                        if reply.index and reply.text:
                            yield Piece(text=reply.text, index=reply.index)
                        if reply.calls:
                            yield Called(calls=reply.calls, index=reply.index)
                    yield Finished(
                        id=event.id,
                        replies=replies,
                        usage=usage_of(event, replies, prompt_tokens=prompt_tokens),
                        story=story_of(event),
                        answer=event,
                    )
                elif thought := thinking.about(event):
                    if started is None:
                        before.append(Thought(text=thought))
                    else:
                        yield Thought(text=thought)


def split(messages: Sequence[Message]) -> tuple[tuple[Message, ...], str, tuple[Message, ...]]:
    """The turns before the question, the question (the last user turn), and the turns after it.

    Where no user says anything, a system prompt that ends the conversation is the question. A system prompt after the
    question counts as said before it. Raises `ApiError` 400 where nobody asks anything.
    """
    at = max((place for place, turn in enumerate(messages) if turn.role == "user"), default=None)
    if at is None and messages and messages[-1].role == "system":
        at = len(messages) - 1
    if at is None:
        raise ApiError(400, "messages: there is no user turn to answer.", param="messages", code="invalid_value")
    if not messages[at].content.strip():
        raise ApiError(400, f"messages.{at}.content: empty.", param=f"messages.{at}.content", code="invalid_value")
    late = tuple(turn for turn in messages[at + 1 :] if turn.role == "system")
    since = tuple(turn for turn in messages[at + 1 :] if turn.role != "system")
    if since and since[-1].role != "tool":
        message = "messages: the last turn is the assistant's; it must be a user's, or a tool's result."
        raise ApiError(400, message, param="messages", code="invalid_value")
    return (*messages[:at], *late), messages[at].content, since


def search_options(ask: Ask) -> Json:
    """The settings of this one search."""
    options: Json = dict(ask.options)
    forced = worker_of(ask.model)
    if forced is not None:
        if options.get("worker") not in (None, forced):
            message = f"kaelum.worker: the model {ask.model} is worker {forced}."
            raise ApiError(400, message, param="kaelum.worker", code="invalid_value")
        options["worker"] = forced
    given: Json = {
        "effort": ask.effort,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "max_tokens": ask.max_tokens,
        "seed": ask.seed,
        "answers": ask.n if ask.n > 1 else None,
    }
    options.update({key: value for key, value in given.items() if value is not None})
    if ask.tools and ask.tool_choice.mode != "none":
        if ask.options.get("cache"):
            message = "kaelum.cache: an answer beside tools that may be called is never taken from the cache."
            raise ApiError(400, message, param="kaelum.cache", code="unsupported_parameter")
        # What an agent is told depends on what its tools say by then; and the id is known from the start.
        options["cache"] = False
    return options


def refuse_sampling(ask: Ask) -> None:
    """Raise `ApiError` 400 for what shapes single samples, of which a search draws many and shows one."""
    for param, given in (
        ("top_k", ask.top_k),
        ("logprobs", ask.logprobs),
        ("top_logprobs", ask.top_logprobs),
        ("frequency_penalty", ask.frequency_penalty),
        ("presence_penalty", ask.presence_penalty),
        ("logit_bias", ask.logit_bias),
    ):
        if given:
            message = f"{param}: {ask.model} draws many samples and shows the best; kaelum-direct takes this."
            raise ApiError(400, message, param=param, code="unsupported_parameter")


@dataclass(frozen=True, slots=True)
class _Rollout:
    tokens: int
    finish: str


@dataclass(slots=True)
class _Rollouts:
    """The rollouts of an answer, found by their text."""

    by_text: dict[str, _Rollout] = field(default_factory=dict[str, _Rollout])
    texts: dict[int, str] = field(default_factory=dict[int, str])

    @classmethod
    def of(cls, answer: Answer) -> _Rollouts:
        tried = (answer.trace or {}).get("rollouts") or ()
        return cls(
            {one["text"]: _Rollout(one["tokens"], one["finish"]) for one in tried},
            {one["id"]: one["text"] for one in tried},
        )

    def leading(self, answer: Answer) -> list[str]:
        """Distinct texts of the rollouts that gave an answer, those of the best answer first."""
        ids = [rollout for cluster in answer.alternatives for rollout in cluster.rollouts]
        return list(dict.fromkeys(self.texts[one] for one in ids if self.texts.get(one)))

    def tokens(self, text: str) -> int:
        found = self.by_text.get(text)
        return found.tokens if found else -(-len(text) // CHARACTERS_PER_TOKEN)

    def cut(self, text: str) -> bool:
        found = self.by_text.get(text)
        return found is not None and found.finish == "length"


def replies_of(answer: Answer, ask: Ask) -> tuple[Reply, ...]:
    """The choices: the answer, then the other best distinct ones.

    Clients count on `n` choices. Where there are fewer answers, other rollouts that came to them follow, those of the
    best first, and at last the answer again. `kaelum.alternatives` says how many answers there really are.
    """
    if answer.calls:
        return tuple(
            Reply(index=index, text=answer.text, finish="tool_calls", calls=answer.calls) for index in range(ask.n)
        )
    rollouts = _Rollouts.of(answer)
    texts = [answer.text, *(choice.text for choice in answer.choices[1:])]
    if len(texts) < ask.n and ask.shape is None:
        texts += [text for text in rollouts.leading(answer) if text not in texts]
    texts += [answer.text] * (ask.n - len(texts))
    return tuple(_reply(index, text, ask, rollouts) for index, text in enumerate(texts[: ask.n]))


def _reply(index: int, text: str, ask: Ask, rollouts: _Rollouts) -> Reply:
    finish: FinishReason = "length" if rollouts.cut(text) else "stop"
    return Reply(index=index, text=until(text, ask.stop), finish=finish)


def until(text: str, stop: Sequence[str]) -> str:
    """`text` before the first of the stop strings."""
    ends = [at for at in (text.find(one) for one in stop) if at >= 0]
    return text[: min(ends)] if ends else text


def prompt_length(model: PolicyModel, messages: Sequence[Message]) -> int:
    """Tokens of the conversation as the client sent it: clients keep their context by this number. Blocks.

    What the search read in all is in the story's `cost`. Raises `ContextOverflow` where it is certain that the
    conversation doesn't fit.
    """
    count, limit = model.count_tokens(messages), model.capabilities.context_tokens
    if limit is not None and count > (limit if model.capabilities.exact_counts else ESTIMATES_OFF_BY * limit):
        raise ContextOverflow(limit_tokens=limit, prompt_tokens=count)
    return count


def usage_of(answer: Answer, replies: Sequence[Reply], *, prompt_tokens: int) -> Usage:
    """All generated tokens; those of them that are not shown were thought with."""
    rollouts = _Rollouts.of(answer)
    shown = sum(
        sum(rollouts.tokens(call.arguments) for call in reply.calls) if reply.calls else rollouts.tokens(reply.text)
        for reply in replies
    )
    completion = max(answer.cost.completion_tokens, shown)
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion, reasoning_tokens=completion - shown)


def story_of(answer: Answer) -> Json:
    """The `kaelum` object of a reply: where the answer comes from, and what speaks for it."""
    told = answer.to_json()
    story = {key: told[key] for key in ("id", "status", "confidence", "answer", "worker", "route", "cache")}
    story |= {key: told[key] for key in ("stop_reason", "cost", "alternatives", "evidence", "recorded", "notices")}
    if told["sources"]:
        story["sources"] = told["sources"]
    return {**story, "policy_model": answer.model}
