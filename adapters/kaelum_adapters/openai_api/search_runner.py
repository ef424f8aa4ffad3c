"""The search as an answer to a request: its progress in words, its text when the winner is certain."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Sequence

from kaelum_adapters.openai_api.drain import Drain
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import (
    Ask,
    Called,
    Finished,
    Piece,
    RunEvent,
    Started,
    Thought,
)
from kaelum_adapters.openai_api.model_names import worker_of
from kaelum_adapters.openai_api.pacing import with_silences
from kaelum_adapters.replies import prompt_length, replies_of, usage_of
from kaelum_adapters.reply_ids import again
from kaelum_adapters.thinking import Thinking
from kaelum_flow.facade import Kaelum
from kaelum_graph.answer import Answer, Progress, TextDelta
from kaelum_graph.models.base import CancelToken
from kaelum_graph.types import Json, Message

QUIET_SECONDS = 8.0
"""After so long without a word from the search, a thought says that it is still at work: clients time out on less."""


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
        created, fingerprint = int(time.time()), await asyncio.to_thread(lambda: kaelum.state_version)
        model = kaelum.services.model
        prompt_tokens = await asyncio.to_thread(prompt_length, model, ask.messages, ask.tools, ask.tool_choice)
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
                    episode = event.data["id"]
                    hit = event.stage == "cache" and event.data.get("state") == "hit"
                    started = Started(
                        id=episode,
                        created=created,
                        model=ask.model,
                        system_fingerprint=fingerprint,
                        reply_id=again(episode) if hit else "",
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
                    # Clients count on n choices; `kaelum.alternatives` says how many answers there really are.
                    replies = replies_of(event, n=ask.n, stop=ask.stop, shaped=ask.shape is not None)
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
    for key, value in given.items():
        if value is not None and options.get(key, value) != value:
            param = f"kaelum.{key}"
            message = (
                f"{param}: {options[key]} contradicts {value}, which the request says elsewhere; give one of them."
            )
            raise ApiError(400, message, param=param, code="invalid_value")
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


def story_of(answer: Answer) -> Json:
    """The `kaelum` object of a reply: where the answer comes from, and what speaks for it."""
    told = answer.to_json()
    story = {key: told[key] for key in ("id", "status", "confidence", "answer", "worker", "route", "cache")}
    story |= {key: told[key] for key in ("stop_reason", "cost", "alternatives", "evidence", "recorded", "notices")}
    if told["sources"]:
        story["sources"] = told["sources"]
    return {**story, "policy_model": answer.model}
