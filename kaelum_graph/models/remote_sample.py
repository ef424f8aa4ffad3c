"""One sample as it arrives from a remote model, whose word is not taken for what can be checked here."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from kaelum_graph.models.base import Finish, GenerationRequest, Sample
from kaelum_graph.models.call_reader import call_reader
from kaelum_graph.models.hermes import call_text, tool_json
from kaelum_graph.models.remote_calls import CallCollector, CallPiece
from kaelum_graph.models.request_check import callable_tools, many_calls, must_call
from kaelum_graph.models.text_gates import EchoGate, StopGate
from kaelum_graph.types import Message, ToolCall

CHARS_PER_TOKEN = 3.5
MAX_CHARS_PER_TOKEN = 16
TOKENS_PER_MESSAGE = 4


def estimate_tokens(text: str) -> int:
    """Tokens of `text`, guessed at 3.5 characters each; at least 1 unless it is empty."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def estimate_prompt_tokens(messages: Sequence[Message]) -> int:
    """Tokens of a conversation, guessed: 3.5 characters each, and 4 for each message's frame."""
    return sum(estimate_tokens(_whole_text(message)) + TOKENS_PER_MESSAGE for message in messages)


def estimate_request_tokens(request: GenerationRequest) -> int:
    """Tokens of a request's prompt, guessed: its messages, its tools and what the answer begins with."""
    tools = "".join(json.dumps(tool_json(tool)) for tool in callable_tools(request) and request.tools)
    return estimate_prompt_tokens(request.messages) + estimate_tokens(request.partial_answer) + estimate_tokens(tools)


def _whole_text(message: Message) -> str:
    return message.content + "".join(map(call_text, message.calls))


def plausible_prompt_tokens(claimed: object, estimate: int) -> int:
    """The server's count if it can be true for a prompt of about `estimate` tokens, else the estimate."""
    # A server's template may add much of its own, a tokenizer made for the language may need little.
    if isinstance(claimed, int) and estimate / 8 <= claimed <= estimate * 8 + 2000:
        return int(claimed)
    return estimate


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token as the server names it: its bytes, its natural log-probability, and the likeliest tokens with theirs."""

    data: bytes
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class RemoteSample:
    """Collects one sample: feed it what the server sends, pass on what it returns, then `finish` it.

    `draft` is the partial answer where the model was given it as text and may repeat it. Tool calls are taken as the
    server tells them, and out of the text where it passes on what the model wrote.
    """

    def __init__(self, request: GenerationRequest, *, draft: str = "") -> None:
        sampling = request.sampling
        self._request = request
        self._max_tokens = sampling.max_tokens
        self._room = sampling.max_tokens * MAX_CHARS_PER_TOKEN
        self._echo = EchoGate(draft)
        # An echo is not the model's answer, so it does not use up the answer's room.
        self._stop = StopGate(() if must_call(request) else sampling.stop, max_chars=self._room)
        self._reader = call_reader(request)
        self._collector = CallCollector(frozenset(tool.name for tool in callable_tools(request)))
        self._calls: tuple[ToolCall, ...] = ()
        self._raw: list[str] = []
        self._raw_chars = 0
        self._text: list[str] = []
        self._shown: list[str] = []
        self._tokens: list[TokenLogprob] = []
        self._reasoning_chars = 0
        self._raw_room = self._room + 2 * len(draft)
        self._upstream_finish: Finish | None = None
        self.begun = False
        self.claimed_tokens: float | None = None

    @property
    def done(self) -> bool:
        """True when nothing that could still arrive would change the sample."""
        return self._stop.reason is not None or self._upstream_finish is not None

    @property
    def delivered(self) -> bool:
        """True once any text arrived."""
        return self._raw_chars > 0

    @property
    def listed_tokens(self) -> int:
        """Tokens that the server listed with their log-probabilities."""
        return len(self._tokens)

    @property
    def raw_chars(self) -> int:
        """Characters that the server sent for this sample, reasoning and calls included."""
        return self._raw_chars + self._reasoning_chars + self._collector.chars

    @property
    def problem(self) -> str:
        """What the server failed to do though it ended the sample by itself; empty where it did all."""
        if self._upstream_finish != "stop" or self._calls:
            return ""
        if must_call(self._request):
            return "it was told to call a tool and called none"
        shape = self._request.shape
        if shape is not None and not is_json("".join(self._shown), object_only=shape.kind == "json_object"):
            return "it was told to answer in JSON and did not"
        return ""

    def feed(
        self,
        text: str,
        *,
        reasoning: str = "",
        tokens: Sequence[TokenLogprob] = (),
        calls: Sequence[CallPiece] = (),
    ) -> str:
        """The new text of the sample that is now certain; empty once it is done."""
        self.begun = True
        if self.done:
            return ""
        text, over = self._within_tokens(text, tokens)
        self._reasoning_chars += len(reasoning)
        self._raw.append(text)
        self._raw_chars += len(text)
        self._tokens.extend(tokens)
        self._collector.feed(calls)
        fresh = self._show(self._stop.feed(self._echo.feed(text)))
        if self._stop.reason is not None:
            return fresh + self._settle()
        most = max(self._reasoning_chars, self._collector.chars)
        if over or most > self._room or self._raw_chars > self._raw_room:
            fresh += self.halt("length")
        return fresh

    def _within_tokens(self, text: str, tokens: Sequence[TokenLogprob]) -> tuple[str, bool]:
        """`text` up to `max_tokens` tokens, and whether it went past them. An end mark lists a token but no text."""
        room = self._max_tokens - len(self._tokens)
        if not text or len(tokens) <= max(room, 0):
            return text, False
        allowed = b"".join(token.data for token in tokens[:room]).decode(errors="ignore")
        return (allowed, True) if text.startswith(allowed) else (text, False)

    def end(self, finish: Finish | None) -> str:
        """The last text, released when the server says that this sample ended. `finish` None: it did not say why."""
        self.begun = True
        if self.done:
            return ""
        if finish is None:
            finish = "length" if len(self._tokens) >= self._max_tokens else "stop"
        self._upstream_finish = finish
        return self._flush()

    def halt(self, reason: Finish) -> str:
        """The last text, when the generation is cut short from outside. A sample that is done stays as it is."""
        if self.done:
            return ""
        self._upstream_finish = reason
        return self._flush()

    def _flush(self) -> str:
        held = self._echo.flush()
        return self._show(self._stop.feed(held) + self._stop.flush()) + self._settle()

    def _show(self, text: str) -> str:
        """What of new text is certainly no call."""
        self._text.append(text)
        shown = text if self._reader is None else self._reader.feed(text)
        self._shown.append(shown)
        return shown

    def _settle(self) -> str:
        """Read the calls, now that the sample has ended; the text of what is none."""
        rest = "" if self._reader is None else self._reader.flush()
        written = () if self._reader is None else self._reader.calls
        told, spelled = self._collector.read(complete=self._upstream_finish == "stop")
        calls = (*written, *told)
        self._calls = calls if many_calls(self._request) else calls[:1]
        self._shown.append(rest + spelled)
        return rest + spelled

    def sample(self) -> Sample:
        """The finished sample. Log-probabilities are left out unless they spell its text, written calls included."""
        sampling = self._request.sampling
        text = "".join(self._text)
        aligned = self._aligned(text) if sampling.logprobs or sampling.top_logprobs else None
        listed = aligned if sampling.logprobs else None
        return Sample(
            text="".join(self._shown),
            finish=self._stop.reason or self._upstream_finish or "stop",
            completion_tokens=self._completion_tokens(text),
            token_logprobs=None if listed is None else tuple(min(token.logprob, 0.0) for _, token in listed),
            token_texts=None if listed is None else tuple(piece for piece, _ in listed),
            # A server that cuts stop strings itself does not tell them from an end of its own.
            stopped_by=self._stop.stopped_by,
            calls=self._calls,
            alternatives=self._alternatives(aligned),
        )

    def _alternatives(
        self, aligned: Sequence[tuple[str, TokenLogprob]] | None
    ) -> tuple[tuple[tuple[str, float], ...], ...] | None:
        """The likeliest tokens at each position, as many as were asked for; None where the server tells none."""
        count = self._request.sampling.top_logprobs
        if not count or aligned is None or not any(token.top for _, token in aligned):
            return None
        return tuple(token.top[:count] for _, token in aligned)

    def _completion_tokens(self, text: str) -> int:
        """The server's count where it can be true, else the tokens it listed, else an estimate."""
        chars = self.raw_chars
        claimed, least = self.claimed_tokens, max(chars / MAX_CHARS_PER_TOKEN, len(self._tokens) - 1)
        if claimed is not None and least <= claimed <= self._max_tokens + 8:
            return max(round(claimed), 1 if text else 0)
        if self._tokens and self.raw_chars == self._raw_chars:
            return min(len(self._tokens), self._max_tokens)
        return min(math.ceil(chars / CHARS_PER_TOKEN), self._max_tokens)

    def _aligned(self, text: str) -> list[tuple[str, TokenLogprob]] | None:
        """The tokens that spell `text`, the joint included; None where they don't, or a value is no log-probability."""
        if not self._tokens or any(not math.isfinite(token.logprob) or token.logprob > 1e-3 for token in self._tokens):
            return None
        spelled = spell(self._tokens)
        raw = "".join(self._raw)
        begin = _start_of(spelled, raw)
        if begin is None:
            return None
        joint = self._echo.joint
        lower, upper = self._echo.dropped, self._echo.dropped + len(text) - len(joint)
        kept: list[tuple[str, TokenLogprob]] = []
        at = 0
        for (piece, _), token in zip(spelled[begin:], self._tokens[begin:], strict=True):
            # A token of no characters is the first half of one; it goes with what follows it.
            if at >= upper:
                break
            inside = piece[max(lower - at, 0) : max(upper - at, 0)]
            if inside or (not piece and at >= lower):
                kept.append((inside, token))
            at += len(piece)
        if kept and joint:
            kept[0] = (joint + kept[0][0], kept[0][1])
        return kept if "".join(piece for piece, _ in kept) == text else None


def is_json(text: str, *, object_only: bool) -> bool:
    """Whether `text` is JSON, of an object where only that will do."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) or not object_only


def spell(tokens: Sequence[TokenLogprob]) -> list[tuple[str, float]]:
    """Each token's text. A character split over tokens belongs to the one that completes it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [(decoder.decode(token.data), token.logprob) for token in tokens]


def _start_of(spelled: Sequence[tuple[str, float]], raw: str) -> int | None:
    """The token at which `raw` begins; tokens before it are reasoning, those after `raw` end-of-sequence marks."""
    joined = "".join(piece for piece, _ in spelled)
    if joined.startswith(raw):
        return 0
    at = joined.rfind(raw)
    if at < 0:
        return None
    position = 0
    for index, (piece, _) in enumerate(spelled):
        if position == at:
            return index
        position += len(piece)
    return None
