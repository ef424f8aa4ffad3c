"""Structured breakdowns that end in a conclusion."""

from __future__ import annotations

from typing import ClassVar

from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion
from kaelum_graph.workers.conversation import InstructedWorker


@register
class Analysis(InstructedWorker):
    """The breakdown is the answer."""

    name: ClassVar[WorkerName] = WorkerName("analysis")
    description: ClassVar[str] = (
        "Analyse, compare, explain or evaluate: causes and effects, advantages and drawbacks, arguments, a text or a "
        "situation, a recommendation."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "Compare the advantages of trains and cars.",
        "Why did the Roman Empire fall?",
        "Explain how inflation affects savings.",
        "Should a small company let its staff work from home? Weigh the arguments.",
        "Summarise the main point of this text and assess its argument.",
    )
    verifiers: ClassVar[tuple[str, ...]] = ("structure", "constraints")
    prose: ClassVar[bool] = True
    judged: ClassVar[bool] = True

    instructions: ClassVar[str] = (
        "You are an analyst. Break the question down into its main points, treat each in a sentence or two with the "
        "reason for it, weigh them, and end with a line that begins with 'Conclusion:'."
    )
    max_tokens: ClassVar[int] = 512

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """The whole breakdown."""
        breakdown = text.strip()
        if not breakdown:
            return Conclusion(answer=None, error="Nothing was written: break the question down and conclude.")
        return Conclusion(answer=breakdown)
