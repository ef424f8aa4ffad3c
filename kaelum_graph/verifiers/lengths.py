"""Reads how long a query wants its answer, and measures texts: words, sentences, lines, paragraphs, characters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaelum_graph.verifiers.asked import MAKING, TEXT, VERB, after_request, sentence_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """At least and at most so many of `unit`; None where there is no such bound."""

    unit: str
    least: int | None
    most: int | None

    def broken(self, answer: str) -> str | None:
        """How `answer` breaks it, None when it holds."""
        have = count(answer, self.unit)
        if self.least is not None and self.most == self.least and have != self.least:
            return f"{have} {self.unit}s, exactly {self.least} are asked for"
        if self.least is not None and have < self.least:
            return f"{have} {self.unit}s, at least {self.least} are asked for"
        if self.most is not None and have > self.most:
            return f"{have} {self.unit}s, at most {self.most} are asked for"
        return None


_COUNT_WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
]  # fmt: skip
_COUNTS = {word: number for number, word in enumerate(_COUNT_WORDS)}
_NUMBER = rf"(?:\d{{1,5}}|{'|'.join(_COUNTS)})"
_AT_MOST = (
    r"at most|no more than|not more than|up to|a maximum of|maximum|max\.?|fewer than|less than|under|within|"
    r"not exceed(?:ing)?|below"
)
_AT_LEAST = r"at least|no fewer than|no less than|not less than|a minimum of|minimum|more than|over"
_LENGTH = re.compile(
    rf"(?:\b(?P<how>exactly|precisely|{_AT_MOST}|{_AT_LEAST})\s+)?"
    rf"\b(?:between\s+(?P<low>{_NUMBER})\s+and\s+(?P<high>{_NUMBER})|(?P<from>{_NUMBER})\s*(?:-|–|to)\s*(?P<to>{_NUMBER})"
    rf"|(?P<number>{_NUMBER}))(?:\s+|-)(?:(?:short|long|rhyming|simple|complete|full|single)\s+)?"
    r"(?P<unit>word|sentence|line|paragraph|character|bullet point|bullet|stanza)s?\b"
    r"(?:\s+(?:(?P<less>or less|or fewer|max(?:imum)?|at most)|(?P<more>or more|min(?:imum)?|at least))\b)?",
    re.IGNORECASE,
)
_ADJECTIVE = re.compile(
    rf"\b(?:an?|one)\s+(?P<number>{_NUMBER})[- ](?P<unit>word|sentence|line|paragraph|stanza)\s+(?:[\w-]+\s+)?{TEXT}\b"
    r"(?!['’-])",
    re.IGNORECASE,
)
_PERSONS = 20
"""Fewer "characters" are the persons of a story."""
_ROUND = 20
""""In 50 words" is no exact count unless it says so, from that many words or characters on."""

_ROUGHLY = re.compile(
    r"\b(?:(?:about|around|approximately|roughly|some|first|last|next|these|those|following)\s+|"
    r"(?:each|per|every)\b[^.\n]{0,20})$",
    re.IGNORECASE,
)
# What may stand right before a length so that it is the answer's: "it", "in", "a poem of", "and" after another length.
_ATTACHED = re.compile(
    rf"(?:^|[,(]|\b(?:in|within|me|us|it|this|be|have|contain|{TEXT})"
    rf"|(?:^|,|\b{TEXT})\s*(?:of|with|using|having|containing|consisting of|that has|which has|that is)"
    r"|\b(?:words?|sentences?|lines?|paragraphs?),? and)\s*$",
    re.IGNORECASE,
)
_SHORTENING = re.compile(r"(?:keep|limit|restrict|shorten|cut|condense)\b", re.IGNORECASE)
# After a length that stands within a phrase: it is then a length of something else, or of each of several.
_OF_OTHERS = re.compile(
    r",?\s*(?:of (?!prose\b|text\b|verse\b)|(?:from|per|each|every|apiece|by|ago|are|is|were|was|have|has)\b|"
    r"in (?:each|every|the|a|an)\b|['’])",
    re.IGNORECASE,
)
# After a length that is the request's own object: "write three words about", not "list three words that begin with".
_OBJECT_ENDS = re.compile(
    r"\s*(?:$|[.,;:!?)\n]|(?:about|on|describing|explaining|long|and|or|in|without|using|with)\b)", re.IGNORECASE
)
_ALONE = re.compile(
    rf"\s*(?:$|[.;)!\n]|(?:long|in total|in length)\b|[,:]\s*(?:please\s+)?(?:{VERB}|what|why|how|who|where|when)\b)",
    re.IGNORECASE,
)
# Several texts, or a text and a part of it: what a length is of is then anybody's guess.
_SEVERAL = re.compile(
    rf"\b(?:(?!sentence|paragraph){TEXT}s|stories|summaries|bios)\b"
    rf"|(?:\b(?:and|then|plus|followed by)|,)\s+(?:an?|one|two|three|another|\d+)\s+(?:[\w-]+\s+){{0,2}}?"
    rf"(?:{TEXT}|title|heading|conclusion|introduction|question)s?\b"
    r"|\band\s+(?:one|two|three|another|\d+)\s+(?:about|on|for|of|more)\b",
    re.IGNORECASE,
)
_OF_A_PART = re.compile(r"(?:start|begin|end|finish|conclude|add|include|mention|put|avoid|do not|don't|never)\b", re.I)


def lengths(text: str) -> list[Length]:
    """The lengths that `text` asks of its answer. Of two that contradict each other neither: they are of parts."""
    if _SEVERAL.search(text):
        return []
    found: list[Length] = []
    for match in _LENGTH.finditer(text):
        length = _read(match)
        if length is not None and not _ROUGHLY.search(text[: match.start()]) and _is_asked(text, match):
            found.append(length)
    for match in _ADJECTIVE.finditer(text):
        number = _number(match["number"])
        request = after_request(text, match.start())
        if request is None or (match["unit"].lower() == "word" and number >= _ROUND):
            continue
        verb, between = request
        if (MAKING.match(verb) and between.strip().lower() in ("", "me", "us")) or re.search(
            r"\b(?:as|in)\s*$", between
        ):
            found.append(Length(unit=match["unit"].lower(), least=number, most=number))
    distinct = list(dict.fromkeys(found))
    return [one for one in distinct if not any(_contradict(one, other) for other in distinct)]


def count(text: str, unit: str) -> int:
    """How many of `unit` (words, sentences, lines, paragraphs, characters, bullets) `text` has."""
    unit = unit.lower().rstrip("s")
    lines = [line for line in text.splitlines() if line.strip()]
    if unit == "word":
        return len(re.findall(r"[\w][\w'’-]*", re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", text, flags=re.MULTILINE)))
    if unit == "sentence":
        return len(_sentences(text))
    if unit == "line":
        return len(lines)
    if unit in ("paragraph", "stanza"):
        return len([part for part in re.split(r"\n\s*\n", text) if part.strip()])
    if unit == "character":
        return len(text.strip())
    return len([line for line in lines if re.match(r"\s*(?:[-*•]|\d+[.)])\s+", line)])


def _sentences(text: str) -> list[str]:
    plain = re.sub(r"\b(?:Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e|etc|No)\.", lambda match: match.group().replace(".", ""), text)
    plain = re.sub(r"(?<=\d)\.(?=\d)", "", plain)
    return [part for part in re.split(r"(?<=[.!?…])[\"”')\]]*(?:\s+|$)", plain) if re.search(r"\w", part)]


def _number(text: str) -> int:
    return int(text) if text.isdigit() else _COUNTS[text.lower()]


def _read(match: re.Match[str]) -> Length | None:
    unit, how = match["unit"].lower(), (match["how"] or "").lower()
    if match["number"] is None:
        low, high = _number(match["low"] or match["from"]), _number(match["high"] or match["to"])
        return None if how else Length(unit=unit, least=low, most=high)
    number = _number(match["number"])
    if unit == "character" and number < _PERSONS:
        return None
    if match["less"] or re.fullmatch(_AT_MOST, how):
        return Length(unit=unit, least=None, most=number - (how in ("fewer than", "less than", "under", "below")))
    if match["more"] or re.fullmatch(_AT_LEAST, how):
        return Length(unit=unit, least=number + (how in ("more than", "over")), most=None)
    if not how and number >= _ROUND and unit in ("word", "character"):
        return None
    return Length(unit=unit, least=number, most=number)


def _is_asked(text: str, match: re.Match[str]) -> bool:
    before, after = sentence_before(text, match.start()), text[match.end() :]
    if before is None or _OF_OTHERS.match(after):
        return False
    if re.fullmatch(r"\W*(?:(?:please|in|within|with|use|using|length|limit)\b\W*)?", before, re.IGNORECASE):
        return _ALONE.match(after) is not None
    request = after_request(text, match.start())
    if request is None or _OF_A_PART.match(request[0]):
        return False
    verb, between = request
    if not between.strip():
        return _OBJECT_ENDS.match(after) is not None
    if _SHORTENING.match(verb) and re.search(rf"\b(?:it|this|{TEXT})\s+to\s*$", between, re.IGNORECASE):
        return True
    return _ATTACHED.search(between) is not None


def _contradict(one: Length, other: Length) -> bool:
    if one is other or one.unit != other.unit:
        return False
    least = max(one.least or 0, other.least or 0)
    return any(most is not None and most < least for most in (one.most, other.most))
