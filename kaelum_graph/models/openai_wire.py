"""The chat-completions wire format as servers really speak it, read without trust."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

from kaelum_graph.errors import ConfigError, UpstreamError
from kaelum_graph.models.base import Finish
from kaelum_graph.models.remote_calls import CallPiece
from kaelum_graph.models.remote_sample import TokenLogprob
from kaelum_graph.types import Json, Message

MAX_EVENT_BYTES = 8_000_000
FINISHES: Mapping[str, Finish] = {"stop": "stop", "tool_calls": "stop", "length": "length"}


class WrongShape(UpstreamError):
    """The server answered, but not in the format of its own protocol."""


class ReportedError(UpstreamError):
    """The server reported an error inside an answer that began as a success. `body` is what it reported."""

    def __init__(self, body: object) -> None:
        self.body = body
        super().__init__("the server reported an error in its answer")


def normalize_base_url(text: str) -> str:
    """The API's base address without a slash at its end: `/v1` is added where no path is given.

    Raises `ConfigError` for a missing scheme or host, a query or a fragment.
    """
    parts = urlsplit(text.strip())
    shown = display_url(text)
    if parts.scheme not in ("http", "https"):
        # "localhost:8000" parses as the scheme "localhost".
        hint = f"http://{shown}" if "://" not in shown else "an address that starts with http:// or https://"
        raise ConfigError(f"base_url {shown!r} has no http or https scheme; expected {hint}.")
    try:
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"base_url {shown!r} is no address: {error}.") from None
    if not host:
        raise ConfigError(f"base_url {shown!r} names no host; expected something like http://localhost:8000/v1.")
    if parts.query or parts.fragment:
        raise ConfigError(f"base_url {shown!r} has a query or a fragment; expected the bare address of the API.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit(SplitResult(parts.scheme, parts.netloc, path or "/v1", "", ""))


def display_url(url: str) -> str:
    """The address without a user name and a password."""
    head, separator, rest = url.strip().partition("://")
    if not separator:
        return head.rpartition("@")[2]
    host, slash, path = rest.partition("/")
    return head + separator + host.rpartition("@")[2] + slash + path


def server_root(base_url: str) -> str:
    """The address under which servers offer what is not part of OpenAI's API, such as /tokenize."""
    return base_url.removesuffix("/v1")


def wire_messages(messages: Sequence[Message]) -> list[Json]:
    """Messages as the wire has them. A tool's result that answers no call of theirs goes as a user turn."""
    called = {call.id for message in messages for call in message.calls}
    return [_wire_message(message, called) for message in messages]


def _wire_message(message: Message, called: set[str]) -> Json:
    if message.role == "tool":
        if message.call_id in called:
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.content}
        return {"role": "user", "content": f"Tool result:\n{message.content}"}
    turn: Json = {"role": message.role, "content": message.content}
    if message.calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in message.calls
        ]
    return turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one event says about one choice. `finish` is None while the choice goes on."""

    index: int
    text: str = ""
    reasoning: str = ""
    tokens: tuple[TokenLogprob, ...] = ()
    calls: tuple[CallPiece, ...] = ()
    ended: bool = False
    finish: Finish | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of an answer: pieces of its choices, its usage so far, the model that speaks; `done` is the last."""

    pieces: tuple[Piece, ...] = ()
    usage: Json = field(default_factory=dict[str, Any])
    model: str = ""
    done: bool = False


class Usage:
    """Token counts of one answer, as the server claims them."""

    def __init__(self) -> None:
        self.prompt_tokens: object = None
        self.completion_tokens: object = None
        self._summed = False

    def take(self, event: Event) -> None:
        """Read an event's counts. Beside text they grow; on their own, llama.cpp sends one for each choice."""
        if not event.usage:
            return
        told, alone = event.usage.get("completion_tokens"), not event.pieces
        self.prompt_tokens = event.usage.get("prompt_tokens", self.prompt_tokens)
        if alone and self._summed and isinstance(told, int) and isinstance(self.completion_tokens, int):
            told += self.completion_tokens
        self.completion_tokens, self._summed = told, alone


async def read_answer(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
    """The events of a streamed answer, or the one event of a server that does not stream.

    Raises `WrongShape` for anything else, and `ReportedError` for an error told in the answer.
    """
    buffer = bytearray()
    streams: bool | None = None
    async for chunk in chunks:
        buffer += chunk
        if streams is None and (start := bytes(buffer[:64]).lstrip(b"\xef\xbb\xbf \r\n\t")):
            streams = _is_stream(start)
        if streams and b"\n" in chunk:
            *lines, rest = bytes(buffer).replace(b"\r\n", b"\n").split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                if event := _read_line(line):
                    yield event
        if len(buffer) > MAX_EVENT_BYTES:
            raise WrongShape("the server sent an event of more than 8 MB")
    if streams is None:
        raise WrongShape("the server sent an empty answer")
    if streams and (event := _read_line(bytes(buffer).strip())):
        yield event
    if not streams:
        yield read_event(_json_object(bytes(buffer)), streamed=False)
        yield Event(done=True)


def _is_stream(start: bytes) -> bool:
    if start[:1] in b"{[":
        return False
    if start[:1] == b"<":
        raise WrongShape("the server answered with an HTML page instead of JSON")
    return True


def _read_line(line: bytes) -> Event | None:
    """One line of server-sent events; chat completions put each event in one `data` line."""
    name, _, data = line.partition(b":")
    if name.strip() not in (b"data", b"") and not line.startswith((b"event", b"id", b"retry")):
        raise WrongShape(f"the server sent {line[:60].decode(errors='replace')!r} instead of an event")
    if name != b"data" or not data.strip():
        return None
    if data.strip() == b"[DONE]":
        return Event(done=True)
    return read_event(_json_object(data), streamed=True)


def _json_object(data: bytes) -> Json:
    try:
        value: object = json.loads(data)
    except ValueError:
        raise WrongShape(f"the server sent malformed JSON: {data.strip()[:60].decode(errors='replace')!r}") from None
    if not isinstance(value, dict):
        raise WrongShape(f"the server sent {type(value).__name__} where an object was due")
    return cast("Json", value)


def read_event(payload: Mapping[str, Any], *, streamed: bool) -> Event:
    """One chunk of a stream, or one whole completion.

    Raises `WrongShape` where that has no choices, `ReportedError` where it is an error.
    """
    if payload.get("error"):
        raise ReportedError(payload["error"])
    choices, usage = payload.get("choices"), payload.get("usage")
    if not isinstance(choices, list):
        if isinstance(usage, dict):
            choices = []
        else:
            raise WrongShape("the server answered without choices")
    model = payload.get("model")
    return Event(
        pieces=tuple(_read_choice(choice, streamed=streamed) for choice in cast("list[object]", choices)),
        usage=cast("Json", usage) if isinstance(usage, dict) else {},
        model=model if isinstance(model, str) else "",
    )


def _read_choice(choice: object, *, streamed: bool) -> Piece:
    if not isinstance(choice, dict):
        raise WrongShape("the server sent a choice that is no object")
    fields = cast("Json", choice)
    index, turn = fields.get("index"), fields.get("delta", fields.get("message"))
    if not isinstance(turn, dict) and not streamed:
        raise WrongShape("the server sent a choice without a message")
    turn = cast("Json", turn) if isinstance(turn, dict) else {}
    content, finish = turn.get("content"), fields.get("finish_reason")
    calls = _read_calls(turn.get("tool_calls"))
    reasoning = turn.get("reasoning_content") or turn.get("reasoning")
    if content is None:
        content = turn.get("refusal")
    if content is None and not streamed and not reasoning and not calls and finish != "length":
        raise WrongShape("the server answered without content")
    return Piece(
        index=index if isinstance(index, int) else 0,
        text=text_of(content),
        reasoning=text_of(reasoning),
        tokens=_read_tokens(fields.get("logprobs")),
        calls=calls,
        ended=finish is not None,
        finish=FINISHES.get(finish) if isinstance(finish, str) else None,
    )


def _read_calls(calls: object) -> tuple[CallPiece, ...]:
    """The pieces of a `tool_calls` list; in a whole answer their position numbers them."""
    if not isinstance(calls, list):
        return ()
    pieces: list[CallPiece] = []
    for position, call in enumerate(cast("list[object]", calls)):
        fields = cast("Json", call) if isinstance(call, dict) else {}
        function: object = fields.get("function")
        told = cast("Json", function) if isinstance(function, dict) else {}
        index, name, arguments = fields.get("index"), told.get("name"), told.get("arguments")
        identity = fields.get("id")
        pieces.append(
            CallPiece(
                index=index if isinstance(index, int) else position,
                id=identity if isinstance(identity, str) else "",
                name=name if isinstance(name, str) else "",
                arguments=json.dumps(arguments) if isinstance(arguments, dict) else text_of(arguments),
            )
        )
    return tuple(pieces)


def text_of(content: object) -> str:
    """The text of a content field: a string, or the text blocks of a list. Reasoning blocks are left out."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts: list[str] = []
    for block in cast("list[object]", content):
        if isinstance(block, str):
            texts.append(block)
        elif isinstance(block, dict):
            fields = cast("Json", block)
            text = fields.get("text")
            if fields.get("type", "text") in ("text", "output_text") and isinstance(text, str):
                texts.append(text)
    return "".join(texts)


def _read_tokens(logprobs: object) -> tuple[TokenLogprob, ...]:
    entries = cast("Json", logprobs).get("content") if isinstance(logprobs, dict) else None
    return read_token_logprobs(entries)


def read_token_logprobs(entries: object) -> tuple[TokenLogprob, ...]:
    """Tokens of a `logprobs.content` list; an entry without a number counts as not a number."""
    if not isinstance(entries, list):
        return ()
    tokens: list[TokenLogprob] = []
    for entry in cast("list[object]", entries):
        fields = cast("Json", entry) if isinstance(entry, dict) else {}
        token, data, logprob = fields.get("token"), fields.get("bytes"), fields.get("logprob")
        try:
            raw = bytes(cast("list[int]", data)) if isinstance(data, list) else None
        except (TypeError, ValueError):
            raw = None
        if raw is None:
            raw = token.encode(errors="replace") if isinstance(token, str) else b""
        value = float(logprob) if isinstance(logprob, int | float) else float("nan")
        tokens.append(TokenLogprob(raw, value, _read_alternatives(fields.get("top_logprobs"))))
    return tuple(tokens)


def _read_alternatives(entries: object) -> tuple[tuple[str, float], ...]:
    """Tokens with their log-probabilities, likeliest first."""
    if not isinstance(entries, list):
        return ()
    told: list[tuple[str, float]] = []
    for entry in cast("list[object]", entries):
        fields = cast("Json", entry) if isinstance(entry, dict) else {}
        token, logprob = fields.get("token"), fields.get("logprob")
        if isinstance(token, str) and isinstance(logprob, int | float):
            told.append((token, float(logprob)))
    return tuple(sorted(told, key=lambda item: -item[1]))
