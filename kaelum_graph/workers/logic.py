"""Logic: the facts stated, then elimination in words or a small program that tries every case."""

from __future__ import annotations

from typing import ClassVar

from kaelum_graph.answers import clean, code_blocks, final_answer, last_line
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion
from kaelum_graph.workers.conversation import InstructedWorker
from kaelum_graph.workers.programs import run_program


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
    max_tokens: ClassVar[int] = 400

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """What the program printed when there is one that runs, else the answer in words."""
        ran = run_program(query, text, sandbox) if code_blocks(text) else None
        if ran is not None and ran.answer is not None:
            return ran
        found = final_answer(text) or (None if ran is not None else last_line(text))
        answer = clean(found) if found is not None else ""
        if answer:
            return Conclusion(answer=answer)
        return ran or Conclusion(answer=None, error="No final answer was given: end with a line 'Answer: …'.")
