"""What a check of mathematics has left unread of a question: it reads the whole question, or it casts no vote.

A word that a check does not know may be the one that changes what is asked ("for x > 2", "at 3", "and give 2x"). So a
check cuts out what it has read and hands the rest to `unread`, with the words that mean nothing more to it. Unlike in
other questions (`leftovers.py`) every sign counts here, and so do words such as "integer".
"""

from __future__ import annotations

import re
from collections.abc import Collection

from kaelum_graph.leftovers import REQUEST_WORDS

_HARMLESS = REQUEST_WORDS | frozenset("answers by exercise for step steps whats".split())
_TOKEN = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?|\d[\d.,]*|\S")
_PUNCTUATION = frozenset(",.:;?\"“”'‘’`()$")
_FORM_ONLY = re.compile(
    r"\b(?:without|with no|no|do not|don't)\s+(?:any\s+|an\s+|give\s+|add\s+|write\s+|include\s+|show\s+)*"
    r"(?:explanations?|explain|reasoning|steps|units|words|work)\b"
    r"|\b(?:only|just)\s+(?:the|a)\s+(?:final\s+)?(?:numbers?|values?|results?)\b(?!\s+(?:of|for|that|which)\b)"
    r"|(?:\bwhen performing calculations,\s*)?\buse\s+\S{1,3}\s+for\s+(?:powers|exponents|multiplication)\b",
    re.IGNORECASE,
)
_GUIDELINES = re.compile(
    r"(?:^|\n)[^\n]*\bplease follow these (?:instructions|guidelines):\s*\n(?P<lines>.*)", re.IGNORECASE | re.DOTALL
)
_GUIDELINE = re.compile(
    r"(?:\d{1,2}[.)]|[-*•])?\s*(?:use\b.*\b(?:instead of|symbols?|function)\b|always (?:include|use) the\b.*\bsymbol\b"
    r"|provide all answers\b|format your answer\b|round all decimal values\b"
    r"|for (?:\d|solutions)\b.*\b(?:decimal|form|number)|if there are no\b.*\breport\b)",
    re.IGNORECASE,
)

_YES_OR_NO = re.compile(r"\s*(?:is|are|does|do|was|were|has|have)\b", re.IGNORECASE)
_UNCLEAR = re.compile(
    r"/\s*[\d.]+\s*(?:[a-zA-Z]|\()|(?:\^|\*\*)\s*-?[\d.]+\s*[a-zA-Z]|(?:sin|cos|tan)\s*(?:\^|\*\*)\s*[({]?\s*-",
    re.IGNORECASE,
)


def asks_yes_or_no(question: str) -> bool:
    """Whether `question` begins as one to be answered with yes or no: "Is 3 * 4 = 12?"."""
    return _YES_OR_NO.match(question) is not None


def is_unclear(formula: str) -> bool:
    """Whether people read `formula` in two ways: 1/2x, 6/2(1 + 2), e^2x, sin^-1(x)."""
    return _UNCLEAR.search(formula) is not None


def without_form(question: str) -> str:
    """`question` without the marks of LaTeX and bold type, and without requests on notation and form alone."""
    text = re.sub(r"\\[()\[\]]|\$|`|\*\*(?![\w(\s-])|(?<![\w)\s])\*\*", " ", _FORM_ONLY.sub(" ", question))
    found = _GUIDELINES.search(text)
    if found and all(_GUIDELINE.match(line.strip()) for line in found["lines"].splitlines() if line.strip()):
        text = text[: found.start()]
    return text.strip()


def unread(rest: str, known: Collection[str] = ()) -> str | None:
    """The first word, number or sign of `rest` that is neither harmless nor `known` (in lower case); None without."""
    for token in _TOKEN.findall(rest):
        if token.lower() not in _HARMLESS and token not in _PUNCTUATION and token.lower() not in known:
            return token
    return None
