"""Counts what a query asks to count in a text that it quotes: letters, words, vowels, digits."""

from __future__ import annotations

import re
import unicodedata

from kaelum_graph.answer_values import Number, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.leftovers import around, only_requests
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_QUOTE = "[\"'“”‘’`]"
_LETTER = (
    rf"(?:the\s+)?(?P<named>(?:letters?|characters?)\s+)?"
    rf"(?:{_QUOTE}(?P<quoted>[A-Za-z]){_QUOTE}|(?P<bare>[A-Za-z])(?P<plural>['’]?s)?\b)"
)
_TEXT = (
    r"(?P<article>(?:the|this|that)\s+)?(?:following\s+)?"
    r"(?:(?P<noun>word|text|string|sentence|phrase|name|line)\b\s*:?\s*)?"
    r"(?:\"(?P<double>[^\"]+)\"|“(?P<curly>[^”]+)”|'(?P<single>[^']+)'|`(?P<code>[^`]+)`"
    r"|(?P<word>[A-Za-z]+)(?=\s*(?:[?.!]|$)))"
)
_LETTER_COUNT = re.compile(
    rf"(?:how many(?: times)?|count(?: the number of)?(?: times)?)\s+(?:(?:is|does|do|occurrences of)\s+)?{_LETTER}\s+"
    r"(?:letters?\s+)?(?:appears?|occurs?|are(?: there)?|is|there are|show up|used)?\s*(?:there\s+)?"
    rf"(?:in|within)\s+{_TEXT}",
    re.IGNORECASE,
)
_KIND_COUNT = re.compile(
    rf"(?:how many|count the(?: number of)?)\s+(?P<kind>letters|characters|words|vowels|consonants|digits)\s+"
    rf"(?:are(?: there)?|does|do|is)?\s*(?:there\s+)?(?:in|within)\s+{_TEXT}",
    re.IGNORECASE,
)
_WORDS = frozenset("total altogether overall count times there".split())
_NO_TEXT = frozenset("it this that there these those them total all each both one english".split())


@register
class CountingVerifier(Verifier):
    """Passes or fails a count; unscored where letter case or another reading of the query would change it."""

    name = "counting"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        asked = asked_count(query.text)
        if asked is None:
            return unscored(self, "the query asks for no count in a quoted text, or for more than that")
        what, counts = asked
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer = read(candidate.answer)
        if not isinstance(answer, Number):
            return unscored(self, f"'{shortened(candidate.answer)}' is no number")
        if answer.value not in counts:
            return vote(self, "fail", f"there are not {shortened(candidate.answer)} {what}")
        if len(counts) > 1:
            return unscored(self, f"{shortened(candidate.answer)} {what}: right or wrong by letter case or reading")
        return vote(self, "pass", f"{candidate.answer} {what}, counted")


def asked_count(question: str) -> tuple[str, frozenset[int]] | None:
    """What a query asks to count, and the counts it may mean (more than one where it leaves open which).

    None where it asks for no such count, or says anything else that may change it.
    """
    text = question.strip()
    match = _LETTER_COUNT.search(text) or _KIND_COUNT.search(text) if len(text) <= 3000 else None
    if match is None or not only_requests(around(match), words=_WORDS):
        return None
    counts = _letter_counts(match) if match.re is _LETTER_COUNT else _kind_counts(match)
    if counts is None:
        return None
    what = f"'{_letter(match)}'" if match.re is _LETTER_COUNT else match["kind"].lower()
    return f"{what} in '{shortened(_quoted(match))}'", counts


def _letter_counts(match: re.Match[str]) -> frozenset[int] | None:
    letter, counted = _letter(match), _quoted(match)
    # "A letter", "is" and "as" are words; "how many e's are in the house?" is about no word.
    certain = match["quoted"] or match["named"] or (match["plural"] or "s") != "s" or letter.lower() not in "aiu"
    about_word = not match["word"] or match["noun"] or not (match["article"] or counted.lower() in _NO_TEXT)
    if not (certain and about_word):
        return None
    counts = {counted.count(letter), counted.lower().count(letter.lower()), _folded(counted).count(letter.lower())}
    alone = len(re.findall(rf"\b{letter}\b", counted, re.IGNORECASE))
    # 'How many times does "a" appear in "a cat ate a banana"?' may ask for the word.
    return frozenset(counts | ({alone} if alone and not match["named"] else set[int]()))


def _kind_counts(match: re.Match[str]) -> frozenset[int] | None:
    counted, kind = _quoted(match), match["kind"].lower()
    if not match["noun"] and (match["word"] or (kind in ("words", "characters") and counted[:1].isupper())):
        # "How many letters are in Hebrew?", 'How many characters are in "Hamlet"?': about what the name names.
        return None
    letters = [character for character in _folded(counted) if character.isalpha()]
    vowels, ys = sum(letter in "aeiou" for letter in letters), letters.count("y")
    if kind == "letters":
        return frozenset([sum(character.isalpha() for character in counted)])
    if kind == "characters":
        return frozenset([len(counted), sum(not character.isspace() for character in counted)])
    if kind == "words":
        return frozenset([len(counted.split()), len(re.findall(r"\w+(?:['’.]\w+)*", counted))])
    if kind == "digits":
        return frozenset([sum(character.isdigit() for character in counted)])
    # Y is both, and other alphabets have their own.
    if any(not "a" <= letter <= "z" for letter in letters):
        return None
    count = vowels if kind == "vowels" else len(letters) - vowels
    return frozenset([count, count + ys if kind == "vowels" else count - ys])


def _letter(match: re.Match[str]) -> str:
    # "Rs" are written so for the plural's sake.
    return match["quoted"] or (match["bare"].lower() if match["plural"] else match["bare"])


def _folded(text: str) -> str:
    """`text` in lower case, accents dropped."""
    parts = unicodedata.normalize("NFKD", text.lower())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _quoted(match: re.Match[str]) -> str:
    return next(match[name] for name in ("double", "curly", "single", "code", "word") if match[name])
