"""Tool calls read out of what a model writes, while it writes it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from typing import Any, NoReturn, cast

from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.models.hermes import CLOSE, OPEN
from kaelum_graph.models.request_check import callable_tools, many_calls
from kaelum_graph.types import Json, ToolCall

FIRST_KEYS = frozenset({"name", "arguments", "parameters", "type", "function"})
"""Keys that a call written without its tags may begin with."""

FENCE = "```"

_DECODER = json.JSONDecoder(parse_constant=lambda name: _no_constant(name))


def new_call_id() -> str:
    """A fresh random id for a tool call."""
    return f"call_{uuid.uuid4().hex[:24]}"


def call_reader(request: GenerationRequest) -> CallReader | None:
    """What reads the calls of one sample; None where none may be made."""
    tools = callable_tools(request)
    return CallReader(frozenset(tool.name for tool in tools), parallel=many_calls(request)) if tools else None


class CallReader:
    """Takes calls of `names` out of a text that arrives in pieces; `calls` are those found so far.

    Text is held back while it may yet turn out to begin a call, and so is the white space before it, which goes with
    the call. The closing tag may be missing at the end. A whole text that is nothing but the JSON of calls, in a code
    block or not, counts as well. What is no call after all stays text, but for one that is cut short after others. A
    call made twice is one, and `repeats` then. Without `parallel` only the first call counts, and the others vanish.
    """

    def __init__(self, names: Collection[str], *, parallel: bool = True) -> None:
        self._names = names
        self._parallel = parallel
        self._held = ""
        self._gap = ""
        self._inside = False
        self._begun = False
        self._over = False
        self._tried = 0  # where to look for the next closing tag that may end the block
        self._bare = True
        self._calls: list[ToolCall] = []
        self.repeats = False

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls so far, in order."""
        return tuple(self._calls if self._parallel else self._calls[:1])

    def feed(self, text: str) -> str:
        """The text that is now certainly not part of a call."""
        self._held += text
        if self._bare:
            self._bare = not self._begun and may_be_bare(self._held)
            if self._bare:
                return ""
        out: list[str] = []
        while self._step(out):
            pass
        return "".join(out)

    def flush(self) -> str:
        """The rest of the text, when no more will come."""
        self._over = True
        if self._bare and self._take(unfenced(self._held).replace(OPEN, "").replace(CLOSE, "")):
            self._held = ""
            return ""
        self._bare = False
        out: list[str] = []
        while self._step(out):
            pass
        if self._inside:
            block = self._held[: len(self._held) - overlap(self._held, CLOSE)]
            if not self._take(block) and not self._calls:
                self._put(out, f"{OPEN}{self._held}")
        else:
            # White space around calls is theirs; a text without any stays as it was.
            self._put(out, self._held.rstrip() if self._calls else self._held)
        self._held = self._gap = ""
        return "".join(out)

    def _step(self, out: list[str]) -> bool:
        """Read up to the next tag; False where there is none yet."""
        at = self._end_of_block() if self._inside else self._held.find(OPEN)
        if self._inside:
            if at < 0:
                return False
            block, self._held = self._held[:at], self._held[at + len(CLOSE) :]
            self._inside, self._tried = False, 0
            if self._take(block):
                self._gap = ""
            else:
                self._put(out, f"{OPEN}{block}{CLOSE}")
            return True
        end = at if at >= 0 else len(self._held) - overlap(self._held, OPEN)
        text = self._held[:end].rstrip()
        self._put(out, text)
        if at < 0:
            self._held = self._held[len(text) :]
            return False
        self._gap = self._held[len(text) : at]
        self._held, self._inside = self._held[at + len(OPEN) :], True
        return True

    def _end_of_block(self) -> int:
        """Where the closing tag is; -1 where it isn't there yet. One within an argument's text closes nothing."""
        first = self._held.find(CLOSE)
        if first < 0 or not in_string(self._held[:first]):
            return first
        at = self._held.find(CLOSE, max(first, self._tried))
        while at >= 0 and not read_calls(self._held[:at], self._names):
            self._tried = at + 1
            at = self._held.find(CLOSE, self._tried)
        if at >= 0 or not self._over or read_calls(self._held, self._names):
            return at
        return first  # what never becomes a call ends at its first tag after all

    def _take(self, text: str) -> bool:
        """Add the calls that `text` spells; whether it spells any."""
        calls = read_calls(text, self._names)
        for call in calls:
            known = {(earlier.name, earlier.arguments) for earlier in self._calls}
            if (call.name, call.arguments) in known:
                self.repeats = True
            else:
                self._calls.append(call)
        return bool(calls)

    def _put(self, out: list[str], text: str) -> None:
        """Release text, and the white space held back before it."""
        if not text:
            return
        whole = self._gap + text
        if self._calls and not self._begun:
            whole = whole.lstrip()
        self._gap = ""
        self._begun = self._begun or bool(whole)
        out.append(whole)


def may_be_bare(text: str) -> bool:
    """Whether a text that begins so may be nothing but the JSON of calls."""
    start = text.lstrip()
    if start and (FENCE.startswith(start) or f"{FENCE}json".startswith(start)):
        return True
    start = start.removeprefix(f"{FENCE}json").removeprefix(FENCE).lstrip()
    if start[:1] == "[":
        start = start[1:].lstrip()
    if not start:
        return True
    if start[0] != "{":
        return False
    rest = start[1:].lstrip()
    if not rest:
        return True
    key, closed, _ = rest[1:].partition('"')
    return rest[0] == '"' and (key in FIRST_KEYS if closed else any(name.startswith(key) for name in FIRST_KEYS))


def in_string(text: str) -> bool:
    """Whether JSON that begins so is within a string at its end."""
    return text.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 1


def unfenced(text: str) -> str:
    """`text` without the marks of a code block around the whole of it."""
    bare = text.strip()
    return bare.removeprefix(f"{FENCE}json").removeprefix(FENCE).removesuffix(FENCE) if bare.startswith(FENCE) else bare


def read_calls(text: str, names: Collection[str]) -> list[ToolCall]:
    """The calls that `text` spells, one JSON object after another or in a list; none unless all of it is calls."""
    values: list[Any] = []
    rest = text.strip()
    try:
        while rest:
            value, end = _DECODER.raw_decode(rest)
            values += value if isinstance(value, list) else [value]
            rest = rest[end:].lstrip()
        calls = [_read_call(value, names) for value in values]
    except (ValueError, RecursionError):
        return []
    return [call for call in calls if call is not None] if all(calls) else []


def arguments_text(value: object) -> str | None:
    """Arguments as JSON text; None unless they are an object, or text that spells one."""
    if isinstance(value, str):
        try:
            value = _DECODER.decode(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict):
        return None
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only its escape can carry
        return json.dumps(value)
    return text


def overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that begins `tag` without completing it."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if tag.startswith(text[-size:])), 0)


def _read_call(value: object, names: Collection[str]) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    fields = cast("Json", value)
    inner = fields.get("function")
    if isinstance(inner, dict):
        fields = cast("Json", inner)
    name = fields.get("name")
    if not isinstance(name, str) or name not in names:
        return None
    arguments = arguments_text(fields.get("arguments", fields.get("parameters")))
    return None if arguments is None else ToolCall(new_call_id(), name, arguments)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
