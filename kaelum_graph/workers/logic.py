"""Logic: the facts stated, then elimination in words or a small program that tries every case."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

from kaelum_graph.answers import answer_line, boxed, clean, code_blocks, final_answer, last_line
from kaelum_graph.observations import OUTPUT_FENCE, said_after, shown
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion, Prompt
from kaelum_graph.workers.conversation import InstructedWorker
from kaelum_graph.workers.programs import run_program

_ASKS_YES_OR_NO = re.compile(r"\byes\b\W{1,3}(?:or|/)\W{0,3}no\b|\byes/no\b", re.IGNORECASE)
_DECIDED = re.compile(
    r"\b(?P<said>yes|no)\b(?=\s*(?:[.,;:!*)\"'\n]|$))"
    r"|\b(?P<not>(?:does|do|did)\s?n[o']t\s(?:\w+ )?(?:follow|hold)|is (?:false|invalid|not (?:true|valid)))\b"
    r"|\b(?P<is>(?:it|this|that|conclusion|statement) (?:\w+ )?(?:follows|holds)|is (?:true|valid))\b",
    re.IGNORECASE,
)
_ALTERNATIVES = re.compile(r"\b[A-Za-z]+/[A-Za-z]+\b")
_TO_CHOOSE = re.compile(r"\b(?!(?:and|he|his|him|s|w)/)([A-Za-z]+)/([A-Za-z]+)\b(?!/)")


@register
class Logic(InstructedWorker):
    """Elimination step by step; a program in the reply is run and its output taken."""

    name: ClassVar[WorkerName] = WorkerName("logic")
    description: ClassVar[str] = (
        "Solve a logic puzzle or deduce what follows from premises: knights and knaves, syllogisms, true or false, "
        "who is telling the truth, seating orders, if-then statements."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "A says that B is a liar. B says that they are both knights. Who is a knight?",
        "All cats are animals. Some animals are black. Does it follow that some cats are black?",
        "If it rains, the street is wet. The street is dry. Did it rain?",
        "Three friends sit in a row; Ann is not next to Bob. Who sits in the middle?",
        "Is (P and Q) implies P a tautology?",
    )
    verifiers: ClassVar[tuple[str, ...]] = ("program", "agreement", *QUERY_CHECKS)

    instructions: ClassVar[str] = (
        "You solve logic puzzles. List the given facts, then reason from them one step a line, ruling out what "
        "contradicts a fact. End with a line 'Answer: ' followed by only the answer, in exactly the format that the "
        "question asks for."
    )
    observe: ClassVar[tuple[str, ...]] = (OUTPUT_FENCE,)
    max_tokens: ClassVar[int] = 400

    def prompt(self, query: Query, *, reflection: str | None = None, structure: str | None = None) -> Prompt:
        """The alternatives of a format ("Ann is a knight/knave") are set apart: small models copy them undecided."""
        shown_query = replace(query, text=_TO_CHOOSE.sub(r"[\1 or \2]", query.text))
        return super().prompt(shown_query, reflection=reflection, structure=structure)

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """What the program printed when there is one that runs, else the answer in words.

        A turn that names an answer after it has seen the true output has the last word.
        """
        ran = run_program(query, text, sandbox) if code_blocks(text) else None
        if ran is not None:
            seen = shown(ran.observation, ran.error)
            named = _named(query, said_after(text, seen) or "")
            if named:
                # A program that failed is not what the answer comes from.
                return Conclusion(answer=named, program=ran.program if ran.answer else None, observation=seen)
        if ran is not None and ran.answer is not None:
            return ran
        if _ASKS_YES_OR_NO.search(query.text):
            decided = yes_or_no(text)
            if decided is not None:
                return Conclusion(answer=decided)
        found = final_answer(text) or (None if ran is not None else last_line(text))
        answer = clean(found) if found is not None else ""
        undecided = _left_open(query, answer)
        if undecided:
            return Conclusion(answer=None, error=f"'{undecided}' decides nothing: choose one of them for each.")
        if answer:
            return Conclusion(answer=answer)
        return ran or Conclusion(answer=None, error="No final answer was given: end with a line 'Answer: …'.")


def _named(query: Query, text: str) -> str | None:
    """The answer that `text` names as such; None where it names none, or leaves it undecided."""
    if _ASKS_YES_OR_NO.search(query.text):
        return yes_or_no(text)
    found = boxed(text) or answer_line(text)
    answer = clean(found) if found else None
    return None if answer is None or _left_open(query, answer) else answer


def _left_open(query: Query, answer: str) -> str | None:
    """The alternatives of the question between which `answer` does not decide."""
    undecided = _ALTERNATIVES.search(answer)
    return undecided[0] if undecided and undecided[0] in query.text else None


def yes_or_no(text: str) -> str | None:
    """Yes or No, as the turn decides last: in a labelled answer, else in its words; None when it decides nothing."""
    labelled = answer_line(text)
    for part in (labelled, text):
        found = list(_DECIDED.finditer(part)) if part else []
        if found:
            last = found[-1]
            said = (last["said"] or "").lower()
            return "Yes" if said == "yes" or last["is"] else "No"
    return None
