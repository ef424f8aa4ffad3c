"""Tool calls as a server streams them: a name here, a piece of the arguments there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kaelum_graph.models.call_reader import arguments_text, new_call_id
from kaelum_graph.models.hermes import call_text
from kaelum_graph.types import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPiece:
    """What one event says about one call: `index` numbers the calls of a turn; what it does not tell is empty."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class CallCollector:
    """Puts the calls of one turn together. `names` are the tools that may be called."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._calls: list[tuple[int, ToolCall]] = []
        self.chars = 0

    def feed(self, pieces: Sequence[CallPiece]) -> None:
        """Take the pieces of one event."""
        for piece in pieces:
            self.chars += len(piece.name) + len(piece.arguments)
            at = self._position(piece)
            if at is None:
                self._calls.append((piece.index, ToolCall(piece.id, piece.name, piece.arguments)))
                continue
            call = self._calls[at][1]
            whole = ToolCall(call.id or piece.id, call.name or piece.name, call.arguments + piece.arguments)
            self._calls[at] = (piece.index, whole)

    def read(self, *, complete: bool) -> tuple[list[ToolCall], str]:
        """The calls, and as text what is none: a call that was cut short, or of a tool that was not offered.

        `complete` says that the server ended the turn, so that missing arguments mean that there are none.
        """
        calls: list[ToolCall] = []
        rest: list[str] = []
        for _, call in self._calls:
            arguments = arguments_text(call.arguments or ("{}" if complete else ""))
            if call.name in self._names and arguments is not None:
                calls.append(ToolCall(call.id or new_call_id(), call.name, arguments))
            else:
                rest.append(call_text(call))
        return calls, "\n".join(rest)

    def _position(self, piece: CallPiece) -> int | None:
        """Which call the piece belongs to; None for a new one. Some servers number every call 0 and tell only ids."""
        known = [at for at, (index, _) in enumerate(self._calls) if index == piece.index]
        if not known:
            return None
        last = self._calls[known[-1]][1]
        return None if piece.id and last.id and piece.id != last.id else known[-1]
