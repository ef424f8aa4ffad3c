"""Gates that streamed text passes on its way to the caller: an echoed draft is dropped, a stop string ends the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

SHORTEST_ECHO = 8
"""Characters. A shorter repetition of the draft's end is taken for new text: "so so" may be meant."""


class StopGate:
    """Lets text through up to the first stop string or up to `max_chars` characters.

    Text that may yet turn out to begin a stop string is held back, so that one split over two pieces is found.
    `stopped_by` is the stop string that was found.
    """

    def __init__(self, stop: Sequence[str], *, max_chars: int) -> None:
        self._stop = [text for text in stop if text]
        self._room = max_chars
        self._held = ""
        self.reason: Literal["stop", "length"] | None = None
        self.stopped_by: str | None = None

    def feed(self, text: str) -> str:
        """The text that is now certain. Empty once `reason` is set."""
        if self.reason:
            return ""
        self._held += text
        found = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            at, stop = min(found)
            released, self._held = self._held[:at], ""
            if len(released) > self._room:
                return self._within_room(released)
            self.stopped_by = stop
            return self._end("stop", released)
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        released, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return self._within_room(released)

    def flush(self) -> str:
        """The text still held back, when no more will come."""
        released, self._held = self._held, ""
        return "" if self.reason else self._within_room(released)

    def _within_room(self, text: str) -> str:
        if len(text) > self._room:
            return self._end("length", text[: self._room])
        self._room -= len(text)
        return text

    def _end(self, reason: Literal["stop", "length"], text: str) -> str:
        self.reason, self._held = reason, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)


class EchoGate:
    """Drops the draft, or its last whole lines, where a model repeats it before going on.

    For models that are given a draft as text and asked to continue it. Text is held back only while it reads like
    the draft. `dropped` counts the characters taken off the front of what was fed; `joint` is a space put there
    instead where the draft ends a sentence and the model began with a letter.
    """

    def __init__(self, draft: str) -> None:
        self._draft = draft
        body = draft.rstrip()
        lines = [0, *(at + 1 for at, character in enumerate(body) if character == "\n")]
        self._tails = [body[at:] for at in lines if at == 0 or len(body) - at >= SHORTEST_ECHO] if body else []
        self._held = ""
        self._open = bool(draft)
        self._echoed = False
        self.dropped = 0
        self.joint = ""

    def feed(self, text: str) -> str:
        """The text that is certainly not an echo."""
        if not self._open:
            return text
        self._held += text
        start = self._held.lstrip()
        if not start:
            return ""
        if not self._echoed:
            if any(len(start) < len(tail) and tail.startswith(start) for tail in self._tails):
                return ""
            self._drop_echo(start)
        return self._release()

    def flush(self) -> str:
        """The text still held back, when no more will come."""
        if not self._open:
            return ""
        if not self._echoed:
            self._drop_echo(self._held.lstrip())
        return self._release(last=True)

    def _drop_echo(self, start: str) -> None:
        echo = next((tail for tail in self._tails if start.startswith(tail)), None)
        if echo is not None:
            self._echoed = True
            size = len(self._held) - len(start) + len(echo)
            self.dropped, self._held = self.dropped + size, self._held[size:]

    def _release(self, *, last: bool = False) -> str:
        rest = self._held
        if self._echoed and self._draft[-1:].isspace():
            rest = self._held.lstrip()
            self.dropped += len(self._held) - len(rest)
            self._held = rest
        if self._echoed and not rest and not last:
            return ""
        if not self._echoed and self._draft[-1:] in ".,;:!?)" and rest[:1].isalpha():
            self.joint = " "
        self._open, self._held = False, ""
        return self.joint + rest
