"""Facts: a short direct answer, voted on."""

from __future__ import annotations

import re
from typing import ClassVar

from kaelum_graph.answers import clean, final_answer, last_bold, last_line
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion
from kaelum_graph.workers.conversation import InstructedWorker

_STATEMENT = re.compile(r"^[A-Z][^.!?]*?\s(?:is|are|was|were)\s(?:called |named )?(?P<value>[^.!?]{1,60})[.!]?$")


@register
class Factual(InstructedWorker):
    """One sentence and a short answer."""

    name: ClassVar[WorkerName] = WorkerName("factual")
    description: ClassVar[str] = (
        "Answer a question of fact about the world: who, when, where, capitals, countries, history, science, people, "
        "definitions."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "What is the capital of Australia?",
        "Who wrote War and Peace?",
        "When did the Berlin Wall fall?",
        "Which element has the symbol Fe?",
        "What currency is used in Japan?",
        "How high is Mount Everest?",
    )
    verifiers: ClassVar[tuple[str, ...]] = QUERY_CHECKS

    instructions: ClassVar[str] = (
        "You answer factual questions briefly. Give one sentence with the fact that decides the question. "
        "Then end with a line 'Answer: ' followed by only the answer, as few words as possible."
    )
    max_tokens: ClassVar[int] = 160

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """The labelled answer, else the last bold words, else the last line, without the sentence around it."""
        found = final_answer(text) or last_bold(text) or last_line(text)
        answer = short_fact(clean(found)) if found is not None else ""
        if not answer:
            return Conclusion(answer=None, error="No answer was given: end with a line 'Answer: …'.")
        return Conclusion(answer=answer)


def short_fact(answer: str) -> str:
    """`answer` without the sentence that holds it: "The capital of Peru is Lima." says "Lima"; "" for a bare label."""
    answer = re.sub(r"\A\*+|\*+\Z", "", answer)
    if re.fullmatch(r"(?:final )?answer:?", answer, re.IGNORECASE):
        return ""
    statement = _STATEMENT.match(answer)
    return clean(statement["value"]) if statement else answer
