"""Counts what a query asks to count in a text that it quotes: letters, words, vowels, digits."""

from __future__ import annotations

import re

from kaelum_graph.answer_values import Number, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_QUOTE = "[\"'“”‘’`]"
_LETTER = rf"(?:the\s+)?(?:letters?|characters?)?\s*(?:{_QUOTE}(?P<quoted>[A-Za-z]){_QUOTE}|(?P<bare>[A-Za-z])(?:'?s)?)"
_TEXT = (
    r"(?:the\s+)?(?:following\s+)?(?:word|text|string|sentence|phrase|name)?s?\s*:?\s*"
    r"(?:\"(?P<double>[^\"]+)\"|“(?P<curly>[^”]+)”|'(?P<single>[^']+)'|`(?P<code>[^`]+)`|(?P<word>[A-Za-z]+)(?=\s*[?.]?\s*$))"
)
_LETTER_COUNT = re.compile(
    rf"(?:how many(?: times)?|count(?: the number of)?(?: times)?)\s+(?:(?:is|does|do|occurrences of)\s+)?{_LETTER}\s+"
    r"(?:letters?\s+)?(?:appears?|occurs?|are(?: there)?|is|there are|show up)?\s*(?:there\s+)?"
    rf"(?:in|within)\s+{_TEXT}",
    re.IGNORECASE,
)
_KIND_COUNT = re.compile(
    rf"(?:how many|count the(?: number of)?)\s+(?P<kind>letters|characters|words|vowels|consonants|digits)\s+"
    rf"(?:are(?: there)?|does|do|is)?\s*(?:there\s+)?(?:in|within)\s+{_TEXT}",
    re.IGNORECASE,
)
_UNIQUE = re.compile(
    r"\b(?:unique|distinct|different|ignoring|excluding|case|first|last|more than|at least)\b", re.IGNORECASE
)


@register
class CountingVerifier(Verifier):
    """Passes or fails a count; unscored where letter case would change it and the query doesn't say."""

    name = "counting"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        asked = asked_count(query.text)
        if asked is None:
            return unscored(self, "the query asks for no count in a quoted text")
        what, counts = asked
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer = read(candidate.answer)
        if not isinstance(answer, Number):
            return unscored(self, f"'{shortened(candidate.answer)}' is no number")
        if answer.value not in counts:
            return vote(self, "fail", f"there are not {shortened(candidate.answer)} {what}")
        if len(counts) > 1:
            return unscored(self, f"{shortened(candidate.answer)} {what}: right or wrong by letter case")
        return vote(self, "pass", f"{candidate.answer} {what}, counted")


def asked_count(question: str) -> tuple[str, frozenset[int]] | None:
    """What a query asks to count, and the counts it may mean (two where upper and lower case differ)."""
    text = question.strip()
    if len(text) > 3000 or _UNIQUE.search(re.sub(r'"[^"]*"', " ", text)):
        return None
    match = _LETTER_COUNT.search(text)
    if match:
        letter = match["quoted"] or match["bare"]
        counted = _quoted(match)
        counts = frozenset([counted.count(letter), counted.lower().count(letter.lower())])
        return f"'{letter}' in '{shortened(counted)}'", counts
    match = _KIND_COUNT.search(text)
    if match is None:
        return None
    counted, kind = _quoted(match), match["kind"].lower()
    letters = [character for character in counted if character.isalpha()]
    vowels = sum(letter.lower() in "aeiou" for letter in letters)
    number = {
        "letters": len(letters),
        "characters": len(counted),
        "words": len(counted.split()),
        "vowels": vowels,
        "consonants": len(letters) - vowels,
        "digits": sum(character.isdigit() for character in counted),
    }[kind]
    return f"{kind} in '{shortened(counted)}'", frozenset([number])


def _quoted(match: re.Match[str]) -> str:
    return next(match[name] for name in ("double", "curly", "single", "code", "word") if match[name])
