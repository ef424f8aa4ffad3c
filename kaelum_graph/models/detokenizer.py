"""Token ids to text, one token at a time, with stop strings found and characters never broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

Decode: TypeAlias = Callable[[list[int]], str]

BROKEN = "\ufffd"  # what a decoder puts where the bytes of a character are not complete
CONTEXT_TOKENS = 6
CHARACTER_TOKENS = 8


class Detokenizer:
    """The text of one growing sequence.

    `text` is what the tokens so far spell, without an incomplete last character; `token_texts` has one string per
    token and joins to `text` (a character of several tokens belongs to the token that completes it). Once a stop
    string is found, it is `stopped_by` and `text` ends before it.

    `context` are the tokens before the first one (some decoders need them to place spaces). `swallow` is white space
    that the caller already has at the end of the partial answer: as much of it as the text begins with is left out.
    Between the two texts of `unstopped`, where given, stop strings count for nothing.
    """

    def __init__(
        self,
        decode: Decode,
        *,
        context: Sequence[int],
        stop: Sequence[str] = (),
        swallow: str = "",
        unstopped: tuple[str, str] | None = None,
    ) -> None:
        self._decode = decode
        self._ids = list(context[-CONTEXT_TOKENS:])
        self._prefix = 0
        self._read = len(self._ids)
        self._stop = tuple(stop)
        self._longest_stop = max((len(text) for text in stop), default=0)
        self._swallow = swallow
        self._unstopped = unstopped
        self._emitted = 0
        self.text = ""
        self.token_texts: list[str] = []
        self.stopped_by: str | None = None

    @property
    def stopped(self) -> bool:
        """True once a stop string was found."""
        return self.stopped_by is not None

    def push(self, token: int) -> None:
        """Take the next token."""
        self._ids.append(token)
        before = self._decode(self._ids[self._prefix : self._read])
        after = self._decode(self._ids[self._prefix :])
        new = ""
        # Bytes that never complete a character must not hold the text up for ever.
        hopeless = len(self._ids) - self._read > CHARACTER_TOKENS
        if len(after) > len(before) and (hopeless or not after.endswith(BROKEN)):
            new = after[len(before) :]
            self._prefix, self._read = self._read, len(self._ids)
        self._append(new)

    def spell(self, token: int) -> str:
        """The text of one token on its own."""
        return self._decode([token])

    def take(self, *, final: bool = False) -> str:
        """Text not taken yet. Until `final`, an end that may begin a stop string is held back."""
        end = len(self.text)
        if not (final or self.stopped):
            end -= self._possible_stop()
        taken = self.text[self._emitted : end] if end > self._emitted else ""
        self._emitted = max(self._emitted, end)
        return taken

    def _append(self, new: str) -> None:
        if self._swallow and new:
            shared = _shared_prefix(new, self._swallow)
            # Only white space at the very beginning is the caller's own; after anything else it is the model's.
            self._swallow = self._swallow[shared:] if shared == len(new) else ""
            new = new[shared:]
        self.text += new
        self.token_texts.append(new)
        if new and self._stop:
            start = max(0, len(self.text) - len(new) - self._longest_stop + 1)
            found = [(at, stop) for stop in self._stop if (at := self._find(stop, start)) >= 0]
            if found:
                at, self.stopped_by = min(found)
                self._cut(at)

    def _find(self, stop: str, start: int) -> int:
        """Where the stop string first is, from `start` on; -1 where it isn't."""
        at = self.text.find(stop, start)
        while at >= 0 and self._unstopped is not None:
            opening, closing = self._unstopped
            if self.text.rfind(opening, 0, at) <= self.text.rfind(closing, 0, at):
                break
            at = self.text.find(stop, at + 1)
        return at

    def _cut(self, length: int) -> None:
        """Shorten the text, dropping the tokens that lie wholly beyond its new end."""
        self.text = self.text[:length]
        kept: list[str] = []
        room = length
        for piece in self.token_texts:
            if room == 0:
                break
            kept.append(piece[:room])
            room -= len(kept[-1])
        self.token_texts = kept

    def _possible_stop(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop string."""
        tail = self.text[-self._longest_stop + 1 :] if self._longest_stop > 1 else ""
        sizes = (size for size in range(len(tail), 0, -1) if any(s.startswith(tail[-size:]) for s in self._stop))
        return next(sizes, 0)


def _shared_prefix(left: str, right: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
