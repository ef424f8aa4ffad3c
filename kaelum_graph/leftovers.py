"""What a question says beside the part that was read: a mere request, or something that may change what is asked.

A check that reads a part of a question and overlooks the rest answers an easier question. So a reader hands over what
its pattern left, and goes on only where every word of it is known to change nothing.
"""

from __future__ import annotations

import re

LONGEST = 3000
"""Characters of leftover text that are looked at; more is taken for something unread."""

_EXAMPLE = re.compile(
    r"\((?:for\s+)?(?:example|e\.g\.|format)[^()]*(?:\([^()]*\)[^()]*)*\)"
    r"|(?:\bfor example\b|\be\.g\.|\bexamples?:)[^\n]*?(?:[.!?](?=\s|$)|$)",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBERING = re.compile(r"^[#*\s]*\d{1,2}[.)]\s", re.MULTILINE)
_KNOWN = re.compile(
    r"\b(?:do not|don['’]t) (?:explain|show your work)(?: (?:your|the) (?:answer|reasoning))?\b"
    r"|\b(?:(?:with|give) no|without|do not (?:give|include)|don['’]t (?:give|include))(?: any)?(?: other| extra)? "
    r"(?:explanations?|reasoning|working|words|text|comments?|commentary|formatting)\b(?: or formatting\b)?"
    r"|\bnothing else\b|\bstep[ -]by[ -]step\b"
    r"|\b(?:in|with|as) (?:just |only )?(?:one|a single) (?:word|number|integer)\b"
    r"|\bcomma[- ]separated\b|\bseparated by (?:a )?(?:single )?(?:commas?|spaces?)(?: and (?:a )?spaces?)?\b"
    r"|\\boxed\{[^{}]*\}",
    re.IGNORECASE,
)
# No negation, no number, no "each", "if", "but", "first": those are known only inside whole phrases.
REQUEST_WORDS = frozenset(
    "a an the this it its i you your my me we us to in as of with and now then so just only simply please kindly hi "
    "hello hey thanks thank can could would will should be is are do let's let want need like know have wonder "
    "wondering curious tell say show give provide return write print output respond reply answer state report put "
    "express work out think carefully briefly explain explanation reasoning working quick question problem task "
    "following below follow instruction instructions what what's final inside box here".split()
)
"""Words none of which, in whatever order, sets a condition or asks for something else, in a question of any kind."""
_IDLE = REQUEST_WORDS | frozenset(
    "was which find calculate compute determine solve exactly result results solution value number numeral integer "
    "digits format form plain text".split()
)
_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[^\s.,;:?!()\[\]\"'“”‘’`*#–—-]")


def only_requests(rest: str, *, known: re.Pattern[str] | None = None, words: frozenset[str] = frozenset[str]()) -> bool:
    """Whether `rest` merely asks, politely or for a form of the answer, so that leaving it out changes nothing.

    `known` are phrases and `words` (lower case) single words that change nothing for the caller's kind of question.
    Examples, in parentheses or after "for example", are no part of what is asked.
    """
    if len(rest) > LONGEST:
        return False
    for pattern in (_EXAMPLE, _NUMBERING, _KNOWN, known):
        rest = pattern.sub(" ", rest) if pattern is not None else rest
    return all(token in _IDLE or token in words for token in _TOKEN.findall(rest.lower().replace("’", "'")))


def without_examples(text: str) -> str:
    """`text` without its illustrations: in parentheses, or from "for example" to the end of the sentence."""
    return _EXAMPLE.sub(" ", text)


def around(match: re.Match[str]) -> str:
    """What `match` left over of its text: before and behind it."""
    return f"{match.string[: match.start()]} \n {match.string[match.end() :]}"
