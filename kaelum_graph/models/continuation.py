"""How a partial answer reaches a model that may not be able to continue one, and how to find out whether it is."""

from __future__ import annotations

from collections.abc import Sequence

from kaelum_graph.types import Message

PROBE_MESSAGES = (
    Message("user", "Repeat exactly: alpha bravo charlie delta echo foxtrot"),
    Message("assistant", "alpha bravo char"),
)
"""Cut inside a word: only a model that truly continues its own turn goes on with the rest of the word."""

PROBE_MAX_TOKENS = 12


def probe_continues(text: str) -> bool:
    """Whether the answer to `PROBE_MESSAGES` goes on with its last word rather than starting afresh."""
    return text.lstrip().startswith("lie")


def with_draft(messages: Sequence[Message], draft: str) -> tuple[Message, ...]:
    """The messages with `draft` put into the last user turn as text, for models that start every turn afresh."""
    request = (
        "Your answer was begun. Here is the draft so far, between the marks:\n"
        f"<draft>\n{draft}\n</draft>\n"
        "Continue exactly from where this draft ends. Write only what comes next: do not repeat the draft, "
        "do not start again and do not comment on it."
    )
    last = messages[-1] if messages else None
    if last is not None and last.role == "user":
        return (*messages[:-1], Message("user", f"{last.content}\n\n{request}"))
    return (*messages, Message("user", request))
