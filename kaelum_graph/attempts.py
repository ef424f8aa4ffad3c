"""Asking again about an attempt: to mend it, to check it, or to check it by a program."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kaelum_graph.errors import KaelumError
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.tree import Operator
from kaelum_graph.types import Message
from kaelum_graph.workers.base import Prompt
from kaelum_graph.workers.programs import program_in, syntax_error

MOST_SHOWN = 1500
"""Characters of an attempt and of its fault that are shown again; an attempt's end tells more than its beginning."""

VERIFICATION = "verification"
VERIFY_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An earlier rollout: its whole turn, the answer in it, and what is objectively wrong with it, if known."""

    text: str
    answer: str | None
    fault: str | None
    program: str | None = None


def asked_again(prompt: Prompt, attempt: Attempt, operator: Operator) -> Prompt:
    """The worker's `prompt`, gone on with the attempt as the model's own turn and what is now wanted of it."""
    shown = attempt.text.strip()
    shown = shown if len(shown) <= MOST_SHOWN else "…" + shown[-MOST_SHOWN:]
    if operator == "verify":
        wanted = (
            f"Is {attempt.answer} the right answer? Check it by a short Python program: work it out anew from the data "
            "of the question, compare, and print only True or False."
        )
    elif operator == "critique":
        wanted = (
            "Check this against the question, one step at a time. If something is wrong, solve it anew and right; "
            "if all is right, give it again. Keep to the same format."
        )
    else:
        fault = (attempt.fault or "it does not hold")[:MOST_SHOWN]
        wanted = f"This is not right: {fault}\nMend it. Keep to the same format."
    messages = (*prompt.messages, Message("assistant", shown), Message("user", wanted))
    if operator == "verify":
        return Prompt(messages=messages, partial_answer="```python\n", stop=("\n```\n",), max_tokens=VERIFY_TOKENS)
    return replace(prompt, messages=messages)


def verification(text: str, sandbox: Sandbox) -> Evidence:
    """What a verifying program says of the attempt it was written for: a cross-channel vote, never an anchor.

    The model wrote the check, so it shares the model's mistakes. Unscored when the program decides nothing.
    """
    program = program_in(text)
    if program is None or syntax_error(program) is not None:
        return _vote("unscored", "no program to run")
    try:
        result = sandbox.run(program)
    except KaelumError as error:
        return _vote("unscored", str(error))
    said = re.findall(r"\b(?:True|False)\b", result.stdout)
    if not result.ok or not said:
        return _vote("unscored", "the program decided nothing")
    return _vote("pass" if said[-1] == "True" else "fail", f"a program that checks the answer printed {said[-1]}")


def _vote(outcome: str, reason: str) -> Evidence:
    return Evidence(tier=Tier.CROSS_CHANNEL, source=VERIFICATION, outcome=outcome, reason=reason)  # pyright: ignore[reportArgumentType]
