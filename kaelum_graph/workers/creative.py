"""Drafts under constraints, checked against those that the question states."""

from __future__ import annotations

import re
from typing import ClassVar

from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Query, WorkerName
from kaelum_graph.workers import register
from kaelum_graph.workers.base import Conclusion
from kaelum_graph.workers.conversation import InstructedWorker

_PREAMBLE = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|absolutely|okay|ok|great)\b[^\n]{0,120}[:!.]\s*\n+"
    r"|(?:here(?:'s| is| are)|below is|this is)\b[^\n]{0,160}:\s*\n+)+",
    re.IGNORECASE,
)
_AFTERWORD = re.compile(
    r"\n\s*\n\s*(?:[-*_]{3,}\s*\n\s*)?[(\[*_]*(?:(?:note|word count|words|total words|explanation)\s*[*_]*:|i hope|"
    r"let me know|feel free|"
    r"this (?:poem|passage|story|text|draft|piece|haiku|limerick) "
    r"(?:has|contains|meets|uses|is|follows|captures|consists))"
    r"[^\n]*(?:\n[^\n]+)*\s*\Z",
    re.IGNORECASE,
)
_WRAPPED = re.compile(r"\A\s*(```)\w*\n(?P<inside>.*?)\n?\s*```\s*\Z", re.DOTALL)


@register
class Creative(InstructedWorker):
    """The draft is the answer."""

    name: ClassVar[WorkerName] = WorkerName("creative")
    description: ClassVar[str] = (
        "Write a creative text: a poem, a story, a slogan, a letter, a song, a description with a given tone, "
        "length or words."
    )
    examples: ClassVar[tuple[str, ...]] = (
        "Write a haiku about the sea.",
        "Write a short story about a lonely robot.",
        "Give me a slogan for a bakery.",
        "Compose a birthday message for my sister in exactly 20 words.",
        "Write a limerick about a cat.",
    )
    verifiers: ClassVar[tuple[str, ...]] = ("constraints",)
    prose: ClassVar[bool] = True

    instructions: ClassVar[str] = (
        "You are a writer. Write exactly what is asked for and keep to every constraint: counts, words that must "
        "appear, form, tone. Reply with the text alone, without a title, an introduction or comments."
    )
    max_tokens: ClassVar[int] = 512

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        """The draft, without what the model says about it."""
        draft = draft_in(text)
        if not draft:
            return Conclusion(answer=None, error="Nothing was written: reply with the text that is asked for.")
        return Conclusion(answer=draft)


def draft_in(text: str) -> str:
    """The draft in a turn: no "Sure, here is a poem:", no note after it, no fence or quotes around the whole."""
    draft = _PREAMBLE.sub("", text).strip()
    wrapped = _WRAPPED.match(draft)
    if wrapped:
        draft = wrapped["inside"]
    shorter = _AFTERWORD.sub("", draft).strip()
    draft = (shorter or draft).strip()
    inner = draft[1:-1]
    if len(draft) > 2 and (draft[0], draft[-1]) in (('"', '"'), ("“", "”")) and not re.search(r"[\"“”]", inner):
        draft = inner.strip()
    return draft
