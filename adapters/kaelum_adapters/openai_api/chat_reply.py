"""Completions on the wire: the whole object, and the chunks that add up to it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence

from kaelum_adapters.openai_api.exchange import (
    Called,
    Finished,
    Piece,
    Reply,
    RunEvent,
    Started,
    Thought,
    TokenLogprob,
    Usage,
)
from kaelum_graph.types import Json, ToolCall

ARGUMENTS_PIECE = 64
"""Characters of a call's arguments in one chunk."""
OBFUSCATED_CHARACTERS = 64
"""With obfuscation a delta and its padding together have a multiple of this many characters."""


class ChatReply:
    """One completion under way. `feed` gives the chunks of an event; at the end `completion` is the whole object.

    The completion's id is "chatcmpl-" and the reply's, from which the episode is known (`reply_ids`), so that whoever
    has it can rate the answer.
    """

    def __init__(
        self, started: Started, *, include_usage: bool = False, obfuscated: bool = False, legacy_functions: bool = False
    ) -> None:
        self.id = f"chatcmpl-{started.reply_id or started.id}"
        self._started = started
        self._include_usage, self._obfuscated = include_usage, obfuscated
        self._legacy = legacy_functions
        self._begun: set[int] = set()
        self._spoke: set[int] = set()
        self._reasoning = ""
        self._logprobs = False
        self.finished: Finished | None = None

    @property
    def completion(self) -> Json:
        """The `chat.completion` object of a finished run."""
        assert self.finished is not None
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(reply) for reply in self.finished.replies],
            "usage": usage_json(self.finished.usage),
            "service_tier": "default",
            "kaelum": self.finished.story,
        }

    def begin(self) -> Json:
        """The first chunk: who speaks."""
        self._begun.add(0)
        return self._chunk([_delta_choice(0, {"role": "assistant", "content": None})])

    def quiet(self) -> Json:
        """A chunk that says nothing. Clients that wait for chunks don't count comments."""
        return self._chunk([_delta_choice(0, {})])

    def feed(self, event: RunEvent) -> Iterator[Json]:
        """The `chat.completion.chunk` objects that tell of an event."""
        match event:
            case Started():
                return
            case Thought():
                self._reasoning += event.text
                yield from self._delta(0, {"reasoning_content": event.text})
            case Piece():
                self._spoke.add(event.index)
                yield from self._delta(event.index, {"content": event.text})
            case Called():
                for place, call in enumerate(event.calls):
                    yield from self._call(event.index, place, call)
            case Finished():
                self.finished = event
                yield from self._end(event)

    def _call(self, index: int, place: int, call: ToolCall) -> Iterator[Json]:
        if self._legacy:
            yield from self._delta(index, {"function_call": {"name": call.name, "arguments": call.arguments}})
            return
        first = {"index": place, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield from self._delta(index, {"tool_calls": [first]})
        for at in range(0, len(call.arguments), ARGUMENTS_PIECE):
            piece = {"index": place, "function": {"arguments": call.arguments[at : at + ARGUMENTS_PIECE]}}
            yield from self._delta(index, {"tool_calls": [piece]})

    def _end(self, finished: Finished) -> Iterator[Json]:
        for reply in finished.replies:
            if reply.index not in self._spoke and not reply.calls:
                yield from self._delta(reply.index, {"content": ""})
            choice: Json = {"index": reply.index, "delta": {}, "finish_reason": self._finish(reply), "logprobs": None}
            if reply.logprobs is not None:
                choice["logprobs"] = logprobs_json(reply.logprobs)
            # The story goes with the last choice: whoever has that has the whole answer.
            more = {"kaelum": finished.story} if reply is finished.replies[-1] else {}
            yield {**self._chunk([choice]), **more}
        if self._include_usage:
            yield {**self._chunk([]), "usage": usage_json(finished.usage)}

    def _delta(self, index: int, delta: Json) -> Iterator[Json]:
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", "content": None, **delta}
        chunk = self._chunk([_delta_choice(index, delta)])
        if self._obfuscated:
            length = len(json.dumps(delta, ensure_ascii=False))
            chunk["obfuscation"] = secrets.token_hex(OBFUSCATED_CHARACTERS)[: -length % OBFUSCATED_CHARACTERS]
        yield chunk

    def _chunk(self, choices: list[Json]) -> Json:
        chunk = {**self._head("chat.completion.chunk"), "choices": choices}
        return {**chunk, "usage": None} if self._include_usage else chunk

    def _head(self, kind: str) -> Json:
        started = self._started
        return {
            "id": self.id,
            "object": kind,
            "created": started.created,
            "model": started.model,
            "system_fingerprint": started.system_fingerprint,
        }

    def _choice(self, reply: Reply) -> Json:
        message: Json = {
            "role": "assistant",
            "content": reply.text or None if reply.calls else reply.text,
            "refusal": None,
            "annotations": [],
        }
        if reply.index == 0 and self._reasoning:
            message["reasoning_content"] = self._reasoning
        if reply.calls and self._legacy:
            call = reply.calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments}
        elif reply.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in reply.calls
            ]
        return {
            "index": reply.index,
            "message": message,
            "logprobs": None if reply.logprobs is None else logprobs_json(reply.logprobs),
            "finish_reason": self._finish(reply),
        }

    def _finish(self, reply: Reply) -> str:
        return "function_call" if self._legacy and reply.finish == "tool_calls" else reply.finish


def _delta_choice(index: int, delta: Json) -> Json:
    return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}


def usage_json(usage: Usage) -> Json:
    """Tokens in OpenAI's form."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs_json(tokens: Sequence[TokenLogprob]) -> Json:
    """Log-probabilities of a choice in OpenAI's form."""

    def one(token: str, logprob: float) -> Json:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode(errors="replace"))}

    return {
        "content": [
            {**one(item.token, item.logprob), "top_logprobs": [one(token, logprob) for token, logprob in item.top]}
            for item in tokens
        ],
        "refusal": None,
    }
