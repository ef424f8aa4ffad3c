"""Programs: written, run in the sandbox, and answered with what they print."""

from __future__ import annotations

import re
from typing import ClassVar

from kaelum_graph.answers import code_blocks
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion, Prompt
from kaelum_graph.workers.conversation import InstructedWorker, instructed
from kaelum_graph.workers.programs import (
    NO_PROGRAM,
    failed,
    program_in,
    reads_input,
    run_program,
    syntax_error,
    words_instead,
)

ASKS_FOR_CODE = re.compile(
    r"\b(?:write|implement|define|create|complete|fix|refactor|debug|improve|rewrite|give me|show me)\b[^.?!\n]{0,80}?"
    r"\b(?:functions?|programs?|class(?:es)?|scripts?|methods?|code|regex|regular expression|decorator|generator|"
    r"quer(?:y|ies)|one-liner|loop|algorithm)\b|^\s*def \w+\(",
    re.IGNORECASE | re.MULTILINE,
)
OTHER_LANGUAGE = re.compile(
    r"(?<!\w)(?:javascript|typescript|node\.js|java|c\+\+|c#|f#|objective-c|in c|golang|in go|rust|ruby|php|swift|"
    r"kotlin|scala|haskell|perl|lua|julia|matlab|bash|shell|powershell|sql|html|css|yaml|regex|regular expression)"
    r"(?!\w)",
    re.IGNORECASE,
)


@register
class Code(InstructedWorker):
    """A program whose output is the answer; or, when code itself is asked for, the code."""

    name: ClassVar[WorkerName] = WorkerName("code")
    description: ClassVar[str] = (
        "Write or run a Python program, function or algorithm: count letters, sort words, manipulate strings and "
        "lists, search by brute force."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "Write a Python function that reverses a string.",
        "How many times does the letter r appear in strawberry?",
        "Sort these words in alphabetical order: pear, fig, apple.",
        "Count the prime numbers between 10 and 500.",
        "What does this program print?",
        "Reverse the digits of 98213 and remove the zeros.",
    )
    verifiers: ClassVar[tuple[str, ...]] = ("program", "agreement", *QUERY_CHECKS)

    instructions: ClassVar[str] = (
        "You answer questions by writing a short Python program. Copy the data of the question into it, compute, and "
        "print only the answer, in the format that the question asks for."
    )
    demonstrations: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            'Which words in the text "the cold river runs to the sea" have more than four letters? Give them in '
            "reverse order.",
            '```python\ntext = "the cold river runs to the sea"\n'
            "words = [word for word in text.split() if len(word) > 4]\n"
            'print(", ".join(reversed(words)))\n```',
        ),
    )
    opening: ClassVar[str] = "```python\n"
    stop: ClassVar[tuple[str, ...]] = ("\n```\n",)
    """Not the bare fence: a model that cannot continue a begun turn opens the block itself."""
    writing: ClassVar[str] = (
        "You are a careful Python programmer. Write the code that is asked for, short and correct, in one ```python "
        "block. Do not read input."
    )
    other_language: ClassVar[str] = (
        "You are a careful programmer. Write the code that is asked for, short and correct, in one fenced block."
    )
    max_tokens: ClassVar[int] = 320
    writing_tokens: ClassVar[int] = 640

    def prompt(self, query: Query, *, reflection: str | None = None, structure: str | None = None) -> Prompt:
        """Asks for a program that answers; when code itself is asked for, for that code."""
        if not ASKS_FOR_CODE.search(query.text):
            return super().prompt(query, reflection=reflection, structure=structure)
        instructions = self.other_language if OTHER_LANGUAGE.search(query.text) else self.writing
        messages = instructed(query, instructions, reflection=reflection, structure=structure)
        return Prompt(messages=messages, max_tokens=self.writing_tokens)

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """What the program printed; when code itself is asked for, the code, run once to see that it loads."""
        if not ASKS_FOR_CODE.search(query.text):
            ran = run_program(query, text, sandbox)
            said = words_instead(text) if ran.answer is None else None
            return ran if said is None else Conclusion(answer=said)
        if OTHER_LANGUAGE.search(query.text):
            return _foreign_code(text)
        code = program_in(text)
        if code is None:
            return Conclusion(answer=None, error=NO_PROGRAM)
        broken = syntax_error(code)
        if broken is not None:
            return Conclusion(answer=None, program=code, error=f"The code is no valid Python: {broken}.")
        if reads_input(code):
            # A program that is asked for may well read input; there is none here to run it on.
            return Conclusion(answer=code, program=code)
        result = sandbox.run(code)
        return Conclusion(
            answer=code,
            program=code,
            observation=result.stdout or None,
            error=None if result.ok else failed(result),
        )

    def split_steps(self, text: str) -> tuple[str, ...]:
        """A program is one step: half of one can't be judged."""
        return (text,) if text else ()


def _foreign_code(text: str) -> Conclusion:
    labels = frozenset(
        label.lower() for label in re.findall(r"^[ \t]*(?:```|~~~)[ \t]*([\w+#.-]+)", text, re.MULTILINE)
    )
    blocks = code_blocks(text, languages=labels)
    if not blocks:
        return Conclusion(answer=None, error="No code was written: put it in one fenced block.")
    return Conclusion(answer="\n\n".join(blocks))
