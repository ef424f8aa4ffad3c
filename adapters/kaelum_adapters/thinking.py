"""What a search is doing, in words for whoever waits: reasoning of a chat model, `reasoning_content` on the wire."""

from __future__ import annotations

import time

from kaelum_graph.answer import Event, Progress
from kaelum_graph.types import Json

WAVE_SECONDS = 4.0
"""How often a wave under way is told of."""
LONGEST_ANSWER = 80


class Thinking:
    """Turns the events of one search into lines, few enough to read."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self._done: tuple[str, int] = ("", 0)

    def about(self, event: Event | None) -> str:
        """A line about an event, "" where it says nothing new; None stands for a long silence."""
        line = self._still() if event is None else self._line(event) if isinstance(event, Progress) else ""
        if line:
            self._last = time.monotonic()
        return f"{line}\n" if line else ""

    def _still(self) -> str:
        return f"Still at work after {time.monotonic() - self._began:.0f} s."

    def _line(self, event: Progress) -> str:
        data = event.data
        match event.stage:
            case "cache":
                return "The answer to this question is known." if data.get("state") == "hit" else ""
            case "route":
                sure = data["probabilities"].get(data["worker"], 0.0)
                return f"Routed to {data['worker']} ({sure:.0%}) with up to {data['rollouts']} rollouts."
            case "sources":
                return (
                    f"Looked it up: {data['passages']} passages." if data.get("state") == "found" else "Looking it up."
                )
            case "call":
                return self._wave("Turn", data, done=data["candidates"])
            case "wave":
                return self._wave("Rollout", data, done=data["rollouts"])
            case "verify":
                reason = f": {data['reason']}" if data.get("reason") else ""
                return f"Judged {data['status']} (P = {data['confidence']:.2f}){reason}."
            case "reflect":
                return f"Trying again: {data['reason']}"
            case "shape":
                return f"Putting it in form: {data['valid']} of {data['samples']} fit."

    def _wave(self, name: str, data: Json, *, done: int) -> str:
        if (name, done) == self._done:
            if time.monotonic() - self._last < WAVE_SECONDS:
                return ""
            return f"Generating: {data['tokens']} tokens so far."
        self._done = (name, done)
        if not done:
            return ""
        lead = f"{name}s {done} of {data['budget']}"
        if data.get("leader") is None:
            return f"{lead}: no answer yet."
        leader = " ".join(str(data["leader"]).split())
        short = leader if len(leader) <= LONGEST_ANSWER else f"{leader[:LONGEST_ANSWER]}…"
        return f"{lead}; leading with {data['share']:.0%}: {short}"
