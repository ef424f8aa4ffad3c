"""Mathematics by chain of thought, checked by recomputing, substituting and differentiating."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

from kaelum_graph.answers import answer_line, boxed, clean, code_blocks, final_answer, last_number, without_code
from kaelum_graph.durations import asked_form, asked_span, in_asked_form, read_duration, subtracts
from kaelum_graph.observations import OUTPUT_FENCE, said_after, shown
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS
from kaelum_graph.verifiers.arithmetic import MENDED
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion
from kaelum_graph.workers.conversation import InstructedWorker
from kaelum_graph.workers.programs import run_program
from kaelum_graph.workers.recompute import recomputed

_ENDS_IN_VALUE = re.compile(
    r"(?P<left>[^=]+=)+\s*(?P<value>[-+−]?[$€£]?\s*\d[\d,]*(?:\.\d+)?%?(?:\s+[A-Za-z][A-Za-z ]*)?)"
)
_NUMBER_WITH_UNIT = re.compile(r"([$€£]?)\s*([-+−]?\d[\d,]*(?:\.\d+)?)(?:\s+[A-Za-z][A-Za-z .-]*)?")
_NO_UNIT = re.compile(
    r"\b(?:do not|don't|without|no) (?:include |including |any |write )*units?\b|\bhow (?:many|much)\b"
    r"|\b(?:only|just) (?:the|a) number\b",
    re.IGNORECASE,
)


@register
class Math(InstructedWorker):
    """Chain of thought that ends in a boxed value; a program in it is run."""

    name: ClassVar[WorkerName] = WorkerName("math")
    description: ClassVar[str] = (
        "Solve a mathematics problem: arithmetic, algebra, equations, integrals and derivatives, percentages, "
        "word problems about quantities and prices."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "What is 17% of 240?",
        "Solve 4x - 7 = 21 for x.",
        "A shop sells 12 pens for 9 dollars; what do 30 pens cost?",
        "Find the derivative of x^3 + 2x.",
        "What is 345 + 678 - 91?",
        "How many apples are left if Ann buys 20 and eats 3 a day for 5 days?",
    )
    verifiers: ClassVar[tuple[str, ...]] = ("arithmetic", "program", *QUERY_CHECKS)

    instructions: ClassVar[str] = (
        "Solve the problem in short lines, one calculation a line with its result. "
        "Then give only the final answer in \\boxed{}."
    )
    demonstrations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "Tom has 3 boxes of 12 pens. He gives away a quarter of the pens and buys 5 more. "
            "How many pens has he now?",
            "Pens at first: 3 * 12 = 36\nGiven away: 36 / 4 = 9\nLeft: 36 - 9 = 27\nWith the new ones: 27 + 5 = 32\n"
            "\\boxed{32}",
        ),
        ("Calculate 14 - 9 + 20 - 31.", "14 - 9 = 5\n5 + 20 = 25\n25 - 31 = -6\n\\boxed{-6}"),
    )
    observe: ClassVar[tuple[str, ...]] = (OUTPUT_FENCE,)
    max_tokens: ClassVar[int] = 400

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """The boxed value, else the labelled or concluding one, else the number that the last line ends on.

        A program in the turn is run and its output taken: models imagine what their programs print. A turn that names
        an answer after it has seen the true output has the last word.
        """
        ran = run_program(query, text, sandbox) if code_blocks(text) else None
        if ran is not None:
            seen = shown(ran.observation, ran.error)
            said = said_after(text, seen)
            named = None if said is None else boxed(said) or answer_line(said)
            answer = plain_value(query.text, clean(named)) if named else ""
            if said is not None and answer:
                slip = recomputed(query.text, without_code(said), answer)
                if slip is not None:
                    answer, seen = slip.answer, f"{seen}\n{MENDED}{'; '.join(slip.lines)}"
                # A program that failed is not what the answer comes from.
                return Conclusion(answer=answer, program=ran.program if ran.answer else None, observation=seen)
        if ran is not None and ran.answer is not None:
            return replace(ran, answer=plain_value(query.text, ran.answer))
        prose = without_code(text)
        lines = [line for line in prose.splitlines() if line.strip()]
        if asked_form(query.text) is not None:
            return _duration(query.text, lines, boxed(text) or answer_line(text))
        found = boxed(text) or final_answer(text) or (last_number(lines[-1]) if lines else None)
        answer = plain_value(query.text, clean(found)) if found is not None else ""
        slip = recomputed(query.text, prose, answer) if answer else None
        if slip is not None:
            return Conclusion(answer=slip.answer, observation=MENDED + "; ".join(slip.lines))
        if answer:
            return Conclusion(answer=answer)
        return ran or Conclusion(answer=None, error="No final answer was given: end with \\boxed{answer}.")


def _duration(question: str, lines: list[str], named: str | None) -> Conclusion:
    """The duration that a chain of thought comes to, in the form asked for: a subtraction of clocks done again."""
    said = clean(named) if named else clean(lines[-1]) if lines else ""
    form, span = asked_form(question), asked_span(question)
    length = read_duration(said, form=form)
    slips = [line for line in lines if span is not None and subtracts(line, span)]
    if slips and span is not None and form is not None:
        stated = [read_duration(line.rpartition("=")[2], form=form) for line in slips if "=" in line]
        if length is None or (length in stated and length != span.length):
            answer = form.write(span.length)
            return Conclusion(answer=answer, observation=f"{MENDED}{span.end} - {span.start} = {answer}")
    if length is None:
        return Conclusion(
            answer=said or None, error=None if said else "No final answer was given: end with \\boxed{answer}."
        )
    return Conclusion(answer=in_asked_form(question, said))


def plain_value(question: str, answer: str) -> str:
    """`answer` as the value that was asked for: without "x =", the sum it was worked out from, or an unwanted unit."""
    worked = _ENDS_IN_VALUE.fullmatch(answer)
    # "x = 3, y = 4" is two values; the equation of a line is an equation.
    several = re.search(r",\s|\band\b|\bor\b|;", answer)
    if worked and not several and not re.search(r"\bequation (?:of|for)\b|\bformula\b", question, re.IGNORECASE):
        answer = worked["value"]
    if _NO_UNIT.search(question):
        number = _NUMBER_WITH_UNIT.fullmatch(answer)
        if number:
            answer = number[2]
    # A float that Python's division made of a whole number.
    return re.sub(r"(?<=\d)\.0$", "", answer)
