"""The events of a streamed response, in the order that OpenAI's clients insist on.

A response is created and in progress; each output item is added, filled and done before the next one; then the
response is completed, incomplete or failed. A response that isn't streamed goes the same way, its events unheard.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Called, Finished, Piece, Reply, RunEvent, Started, Thought
from kaelum_adapters.openai_api.responses_reply import (
    Draft,
    Status,
    call_item,
    logprobs_json,
    message_item,
    reasoning_item,
    text_part,
)
from kaelum_graph.types import Json, ToolCall

PROGRESS_SECONDS = 5.0
"""How often a word on the search may come where no summary of it was asked for: each comes with the whole response."""
OBFUSCATED_BYTES = 64
"""With obfuscation a delta and its padding together have a multiple of this many characters."""


class ResponseEvents:
    """Turns what a run does into the events of one response.

    `summarized` tells what the search does as a summary of its reasoning. Where none was asked for, none of OpenAI's
    events may tell it; then `response.in_progress` comes again with a word on it in `kaelum`, so that no client takes
    minutes of search for a dead stream. `encrypted` puts an opaque handle on the reasoning item, as `include` may ask.
    `now` tells the time in seconds since 1970.
    """

    def __init__(
        self,
        draft: Draft,
        *,
        summarized: bool = False,
        encrypted: bool = False,
        obfuscated: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.draft = draft
        self._summarized, self._encrypted, self._obfuscated = summarized, encrypted, obfuscated
        self._told_at = float("-inf")
        self._now = now
        self._sequence = 0
        self._thoughts: list[str] | None = None  # None: no reasoning item is open
        self._text: list[str] | None = None  # None: no message is open
        self._called: list[ToolCall] = []

    @property
    def _owner(self) -> str:
        return self.draft.id.removeprefix("resp_")

    def begin(self) -> Iterator[Json]:
        """The response is there, and at work."""
        yield self._event("response.created", response=self.draft.snapshot())
        yield self._event("response.in_progress", response=self.draft.snapshot())

    def feed(self, event: RunEvent) -> Iterator[Json]:
        """The events that `event` brings, but the last one of the response: for that see `end`."""
        match event:
            case Thought(text=text):
                yield from self._think(text)
            case Piece(text=text, index=0) if text:
                yield from self._say(text)
            case Called(calls=calls, index=0):
                yield from self._close_message(None, None, "completed")
                yield from self._call(calls)
            case Finished(replies=replies) if replies:
                yield from self._finish(replies[0], event)
            case Started() | Piece() | Called() | Finished():
                pass

    def end(self) -> Json:
        """The last event: the whole response, as it is kept."""
        return self._event(f"response.{self.draft.status}", response=self.draft.snapshot())

    def fail(self, error: ApiError) -> Iterator[Json]:
        """The run broke. What was said so far stays, marked incomplete; `end` has the failed response.

        The `error` event is written in both of its known forms: clients that know only one of them fail loudly too.
        """
        yield from self._close_reasoning("incomplete")
        yield from self._close_message(None, None, "incomplete")
        self.draft.status, self.draft.error = "failed", error
        told: Json = {"message": error.message, "code": error.code, "param": error.param}
        yield self._event("error", **told, error={**told, "type": error.type})

    def _think(self, text: str) -> Iterator[Json]:
        if self._text is not None or self._called or not text:
            return  # the answer is being said already: what the search adds now is no news
        item_id, place = self._item_id("rs"), len(self.draft.output)
        at: Json = {"item_id": item_id, "output_index": place, "summary_index": 0}
        if self._thoughts is None:
            self._thoughts = []
            item = reasoning_item(item_id, "", status="in_progress", encrypted=None)
            yield self._event("response.output_item.added", output_index=place, item=item)
            if self._summarized:
                part = {"type": "summary_text", "text": ""}
                yield self._event("response.reasoning_summary_part.added", **at, part=part)
        self._thoughts.append(text)
        if self._summarized:
            yield self._delta("response.reasoning_summary_text.delta", text, **at)
        elif self._now() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = self._now()
            now = {**self.draft.snapshot(), "kaelum": {"progress": text}}
            yield self._event("response.in_progress", response=now)

    def _close_reasoning(self, status: Status) -> Iterator[Json]:
        if self._thoughts is None:
            return
        text = "".join(self._thoughts) if self._summarized else ""
        self._thoughts = None
        item_id = self._item_id("rs")
        at: Json = {"item_id": item_id, "output_index": len(self.draft.output), "summary_index": 0}
        if self._summarized:
            part = {"type": "summary_text", "text": text}
            yield self._event("response.reasoning_summary_text.done", **at, text=text)
            yield self._event("response.reasoning_summary_part.done", **at, part=part)
        encrypted = self._owner if self._encrypted else None
        yield from self._done(reasoning_item(item_id, text, status=status, encrypted=encrypted))

    def _say(self, text: str) -> Iterator[Json]:
        yield from self._close_reasoning("completed")
        yield from self._open_message()
        assert self._text is not None
        self._text.append(text)
        place: Json = {"item_id": self._item_id("msg"), "output_index": len(self.draft.output), "content_index": 0}
        yield self._delta("response.output_text.delta", text, **place, logprobs=[])

    def _open_message(self) -> Iterator[Json]:
        if self._text is not None:
            return
        self._text = []
        place: Json = {"item_id": self._item_id("msg"), "output_index": len(self.draft.output)}
        item = message_item(place["item_id"], (), status="in_progress")
        yield self._event("response.output_item.added", output_index=place["output_index"], item=item)
        yield self._event("response.content_part.added", **place, content_index=0, part=text_part("", None))

    def _close_message(self, text: str | None, reply: Reply | None, status: Status) -> Iterator[Json]:
        if self._text is None:
            return
        text = "".join(self._text) if text is None else text
        logprobs = None if reply is None else reply.logprobs
        self._text = None
        place: Json = {"item_id": self._item_id("msg"), "output_index": len(self.draft.output), "content_index": 0}
        part = text_part(text, logprobs)
        yield self._event("response.output_text.done", **place, text=text, logprobs=logprobs_json(logprobs))
        yield self._event("response.content_part.done", **place, part=part)
        yield from self._done(message_item(place["item_id"], (part,), status=status))

    def _call(self, calls: Sequence[ToolCall]) -> Iterator[Json]:
        yield from self._close_reasoning("completed")
        for call in calls:
            self._called.append(call)
            place: Json = {"item_id": self._item_id("fc"), "output_index": len(self.draft.output)}
            begun = call_item(place["item_id"], call, arguments="", status="in_progress")
            yield self._event("response.output_item.added", output_index=place["output_index"], item=begun)
            yield self._delta("response.function_call_arguments.delta", call.arguments, **place)
            yield self._event("response.function_call_arguments.done", **place, arguments=call.arguments)
            yield from self._done(call_item(place["item_id"], call, arguments=call.arguments, status="completed"))

    def _finish(self, reply: Reply, finished: Finished) -> Iterator[Json]:
        cut = reply.finish == "length"
        yield from self._close_reasoning("completed")
        said = any(item["type"] == "message" for item in self.draft.output)
        if not said and (reply.text or not (reply.calls or self._called)):
            streamed = "".join(self._text or ())
            if reply.text.startswith(streamed) and (rest := reply.text[len(streamed) :]):
                yield from self._say(rest)
            yield from self._open_message()
            yield from self._close_message(reply.text, reply, "incomplete" if cut else "completed")
        known = {call.id for call in self._called}
        yield from self._call([call for call in reply.calls if call.id not in known])
        self.draft.usage, self.draft.story = finished.usage, dict(finished.story)
        if cut:
            self.draft.status, self.draft.incomplete_reason = "incomplete", "max_output_tokens"
        else:
            self.draft.status, self.draft.completed = "completed", int(self._now())

    def _done(self, item: Json) -> Iterator[Json]:
        yield self._event("response.output_item.done", output_index=len(self.draft.output), item=item)
        self.draft.output.append(item)

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._owner}_{len(self.draft.output)}"

    def _delta(self, kind: str, text: str, **fields: object) -> Json:
        event = self._event(kind, **fields, delta=text)
        if self._obfuscated:
            event["obfuscation"] = secrets.token_hex(OBFUSCATED_BYTES)[: -len(text) % OBFUSCATED_BYTES]
        return event

    def _event(self, kind: str, **fields: object) -> Json:
        event: Json = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event
