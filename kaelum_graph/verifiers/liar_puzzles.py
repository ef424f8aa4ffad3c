"""Reads a puzzle of truth-tellers and liars: the two kinds under any names, who is there, and everything said.

A sentence that adds nothing (who meets whom where, what is asked) is known by its words; any sentence that is neither
that nor read stops the reading, so that no hint is overlooked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from kaelum_graph.verifiers.liar_kinds import DEFINITION, NO_KIND, Kinds, kinds_defined, symbols
from kaelum_graph.verifiers.liar_statements import Condition, condition
from kaelum_graph.verifiers.votes import shortened

MAX_PEOPLE = 8
_LENGTH = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """`speaker` (a place among the people) says that `meaning`, in the words `text`."""

    speaker: int
    text: str
    meaning: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """A puzzle as read. `facts` are what the narrator vouches for."""

    people: tuple[str, ...]
    kinds: Kinds
    speeches: tuple[Speech, ...]
    facts: tuple[Condition, ...]


_MAY_BE = re.compile(r"\b(?:truth|truthful|truthfully|honest|lie|lies|lying|liars?|true|false)\b", re.IGNORECASE)
_FORMAT = re.compile(
    r"\((?:please )?(?:format|answer|give|write|respond|use)\b[^()]*\)"
    r"|(?:(?<=[.?!\n])|(?<=[.?!][\"')]))\s*(?:please )?(?:format (?:of )?your answer|(?:give|write|state"
    r"|present) (?:the|your) (?:final )?answer"
    r"|answer (?:in|with|like|using)|your answer should|example answer)\b[^\n]*",
    re.IGNORECASE,
)
_SAYS = (
    r"(?:says?|said|states?|stated|claims?|claimed|tells?|told|remarks?|remarked|asserts?|asserted|declares?|declared|"
    r"mentions?|mentioned|comments?|commented|notes?|noted|expresse[sd]|insists?|insisted|announce[sd]?|proclaims?|"
    r"proclaimed|exclaims?|exclaimed|swears?|swore|reports?|reported|adds?|added|repl(?:y|ies|ied)|responds?|responded|"
    r"answers?|answered|explains?|explained|argues?|argued|maintains?|maintained|affirms?|affirmed|observe[sd]?|"
    r"whispers?|whispered|shouts?|shouted|continue[sd]?|(?:was|is) heard saying|went on|goes on|utters?|uttered)"
)
_TO = r"(?: (?:to )?(?:you|us|me|everyone))?"
_WHO = r"(?P<who>[A-Z][A-Za-z-]*)"
_QUOTE = r"⟦(?P<quote>\d+)⟧"
_DIRECT = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_WHO} (?:also |then |next |finally |first )?{_SAYS}{_TO}(?: that)?\s*[:,]?\s*{_QUOTE}",
        rf"{_QUOTE}\s*,?\s*(?:{_WHO} (?:also |then )?{_SAYS}{_TO})",
        rf"{_QUOTE}\s*,?\s*{_SAYS}{_TO} {_WHO}",
        rf"{_QUOTE}\s*[-–—]+\s*{_WHO}",
        rf"(?:[Aa]ccording to) {_WHO}\s*[,:]?\s*{_QUOTE}",
        rf"[Ii]n {_WHO}'s (?:own )?words\s*[,:]?\s*{_QUOTE}",
        rf"[Ii]n the words of {_WHO}\s*[,:]?\s*{_QUOTE}",
        rf"[Aa]s {_WHO} (?:puts?|said|says|stated|claimed) it\s*[,:]?\s*{_QUOTE}",
        rf"[Ii]n a (?:statement|remark|speech|claim) by {_WHO}\s*[,:]?\s*{_QUOTE}",
        rf"(?:[Tt]he )?(?:statement|claim|words) (?:of|by|from) {_WHO}\s*(?:is|was|were|are)?\s*[,:]?\s*{_QUOTE}",
        rf"{_WHO}'s (?:statement|claim|words|remark|answer|reply)\s*(?:is|was|were|are)?\s*[,:]?\s*{_QUOTE}",
        rf"{_WHO}\s*[:–—-]\s*{_QUOTE}",
        rf"{_WHO}: (?P<said>[^⟦⟧:]+)",
    )
)
_REPORTED = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_WHO} (?:also |then |next |finally |first )?{_SAYS}{_TO} (?:that )?(?P<said>[^⟦⟧]+)",
        rf"(?:[Aa]ccording to) {_WHO}\s*[,:]\s*(?P<said>[^⟦⟧]+)",
        rf"{_WHO} (?P<denies>denies|denied|disputes|disputed) (?:that )?(?P<said>[^⟦⟧]+)",
        rf"(?P<said>[^⟦⟧]+), {_WHO} {_SAYS}",
        rf"(?P<said>[^⟦⟧]+), {_SAYS} {_WHO}",
    )
)
_INTERRUPTED = re.compile(
    rf"⟦(?P<first>\d+)⟧\s*,?\s*(?:{_SAYS} (?P<a>[A-Z][\w-]*)|(?P<b>[A-Z][\w-]*) {_SAYS})"
    r"\s*[,:]\s*⟦(?P<second>\d+)⟧"
)
_SILENT = re.compile(
    rf"{_WHO} (?:(?:says?|said) nothing|(?:is|was|remains|remained|stays|stayed|keeps|kept) (?:silent"
    rf"|quiet))(?: at all)?"
)
_APART = re.compile(
    rf"(?<=⟧)[,;]?\s+(?:(?:and|while|but|whereas|then)\s+)?(?=[A-Z][\w-]*(?:\s+(?:also |then )?{_SAYS}\b|\s*:"
    rf"|'s (?:statement|words)))"
    rf"|(?:[,;]\s*(?:and|while|but|whereas|then)?|\s+(?:while|but|whereas))\s+(?=[A-Z][\w-]*\s+(?:also |then "
    rf")?(?:{_SAYS}|denies)\b)"
)
_LEAD = re.compile(
    r"(?:then|first|next|finally|second|third|also|meanwhile|lastly|and|but|while|now|however|in turn|(?:you"
    r"|we) (?:also )?know that|"
    r"it is (?:also )?known that|in addition)\b\s*,?\s*",
    re.IGNORECASE,
)

# What a sentence without any hint is made of. Left out on purpose: words that count, compare, deny or condition.
_SCENE = frozenset(
    "a an the on in at to of by from with for you your we i it is are was were there this that these those them they "
    "their his her very special certain strange small remote famous magical fictional mythical island isle islands "
    "village land planet town city kingdom country world place forest tribe people person persons inhabitants "
    "inhabitant "
    "residents resident islanders islander villagers villager natives native citizens citizen members member group "
    "strangers stranger friends friend logicians travelers travellers traveler traveller visitor visitors tourist "
    "visiting while walking meet meets met encounter encounters encountered come comes came across upon run "
    "runs ran into "
    "see saw approach approached visit visits visited arrive arrived once go traveling travelling who which "
    "whose where "
    "inhabited populated home live lives living lived only exclusively solely just and or but each every all "
    "either two "
    "three four five six seven eight 2 3 4 5 6 7 8 types type kinds kind sorts sort everyone everybody anyone any "
    "as known called named names name consists population know known puzzle riddle logic problem solve following "
    "consider suppose imagine whereas other one make makes made say says said statements statement each speak speaks "
    "them following what here let's have has be being can talk talks talking speak stand stands standing sit "
    "sits sitting "
    "before front door road path one day three-person whether greet greets asked ask some neighbors neighbours".split()
)
_ASK = _SCENE | frozenset(
    "who whom what which can could do does determine identify find figure out work deduce tell decide classify label "
    "whether identity identities so then therefore thus please based using did their if truth truthful lying "
    "liar telling "
    "true based must be conclude infer about given information say think explain why reasoning show step steps your "
    "answer solution final justify briefly carefully brief it me us each's".split()
)


def read_puzzle(text: str) -> Puzzle | str:
    """The puzzle that `text` is; otherwise a text that says which part of it could not be read."""
    if not _MAY_BE.search(text) or len(text) > _LENGTH or "⟦" in text:
        return "the query is no puzzle of truth-tellers and liars"
    sentences, quotes = _sentences(text)
    kinds = kinds_defined(" ".join(sentences))
    if kinds is None:
        return "the query does not say which kind tells the truth and which lies"
    return _Reader(kinds, quotes).read(sentences)


_Said: TypeAlias = tuple[str, str, str, bool, bool]


class _Reader:
    """Goes through the sentences: first for the people, then for what is said."""

    def __init__(self, kinds: Kinds, quotes: list[str]) -> None:
        self.kinds = kinds
        self.quotes = quotes
        self.people: tuple[str, ...] = ()

    def read(self, sentences: list[str]) -> Puzzle | str:
        said: list[_Said] = []
        rest: list[str] = []
        named: list[str] = []
        for sentence in sentences:
            found = self._speeches(sentence)
            if found is None:
                rest.append(sentence)
                named += self._introduced(sentence)
            else:
                said += found
        if not named:
            named = [speech[0] for speech in said]
        self.people = tuple(dict.fromkeys(named))
        if not 1 <= len(self.people) <= MAX_PEOPLE or not said:
            return f"{len(self.people)} people and {len(said)} statements"
        stranger = next((speech[0] for speech in said if speech[0] not in self.people), None)
        if stranger:
            return f"'{stranger}' speaks but is not among the people introduced"
        facts: list[Condition] = []
        for sentence in rest:
            if self._adds_nothing(sentence):
                continue
            fact = condition(self._symbols(_LEAD.sub("", sentence, count=1), None, False), people=len(self.people))
            if fact is None:
                return f"'{shortened(self._whole(sentence))}' could not be read"
            facts.append(fact)
        speeches: list[Speech] = []
        for name, text, shown, quoted, denies in said:
            if not text:
                continue
            place = self.people.index(name)
            meaning = condition(self._symbols(text, place, quoted), people=len(self.people))
            if meaning is None:
                return f"'{shortened(shown)}' could not be read"
            speeches.append(Speech(speaker=place, text=shown, meaning=_denied(meaning) if denies else meaning))
        if not speeches:
            return "nobody says anything"
        counted = self._counted(rest)
        if counted is not None and counted != len(self.people):
            return f"{counted} people are announced, {len(self.people)} were found"
        return Puzzle(people=self.people, kinds=self.kinds, speeches=tuple(speeches), facts=tuple(facts))

    def _symbols(self, text: str, speaker: int | None, quoted: bool) -> str:
        return symbols(text.strip(" .,!;:"), people=self.people, kinds=self.kinds, speaker=speaker, quoted=quoted)

    def _whole(self, sentence: str) -> str:
        return re.sub(r"⟦(\d+)⟧", lambda match: f'"{self.quotes[int(match[1])]}"', sentence)

    def _speeches(self, sentence: str) -> list[_Said] | None:
        """Each speech in a sentence: speaker, words, words to show, whether quoted and denied. None: no speech."""
        read: list[_Said] = []
        for part in _APART.split(sentence):
            bare = part.strip(" .;,")
            one = self._speech(bare) or self._speech(_LEAD.sub("", bare, count=1))
            if one is None:
                return self._speech(sentence.strip(" .;,"))
            read += one
        return read

    def _speech(self, part: str) -> list[_Said] | None:
        broken = _INTERRUPTED.fullmatch(part)
        if broken:
            first, second = (self.quotes[int(broken[name])].strip(" ,") for name in ("first", "second"))
            name = broken["a"] or broken["b"]
            return [(name, f"{first} {second}", f"{first} {second}", True, False)] if self._names(name) else None
        silent = _SILENT.fullmatch(part)
        if silent and self._names(silent["who"]):
            return [(silent["who"], "", "", True, False)]
        for patterns, quoted in ((_DIRECT, True), (_REPORTED, False)):
            for pattern in patterns:
                match = pattern.fullmatch(part)
                if match is None or not self._names(match["who"]):
                    continue
                groups = match.groupdict()
                words = self.quotes[int(groups["quote"])] if groups.get("quote") else groups["said"]
                return [(match["who"], words.strip(), words.strip(" ,."), quoted, bool(groups.get("denies")))]
        return None

    def _names(self, word: str) -> bool:
        single = len(word) == 1 and word != "I"
        return single or (word.lower() not in _ASK and self.kinds.of(word) is None and word.lower() not in NO_KIND)

    def _introduced(self, sentence: str) -> list[str]:
        """The names in a sentence that does no more than set the scene."""
        text = self._without_kinds(sentence)
        found: list[str] = []
        for match in re.finditer(r"[A-Za-z0-9][\w-]*", text):
            word = match[0]
            article = word == "A" and re.match(r" (?!and\b|is\b|or\b)[a-z]", text[match.end() :])
            if word[0].isupper() and self._names(word) and not article and word not in ("I",):
                found.append(word)
            elif word.lower() not in _SCENE:
                return []
        return found

    def _adds_nothing(self, sentence: str) -> bool:
        text = self._without_kinds(sentence)
        asks = sentence.rstrip(' ")').endswith("?") or re.match(
            r"(?:so |then |now |please |can you |therefore )*(?:,? ?)(?:determine|identify|find|figure|work"
            r"|deduce|tell|decide|classify|"
            r"who|what|which|explain|show|think|justify|solve|for each|based on)\b",
            sentence,
            re.IGNORECASE,
        )
        if asks:
            text = self._without_any_kind(sentence)
        known = _ASK if asks else _SCENE
        return "⟦" not in text and all(
            word in self.people or word.lower() in known for word in re.findall(r"[A-Za-z0-9][\w'-]*", text)
        )

    def _without_kinds(self, sentence: str) -> str:
        """`sentence` without the definitions of the kinds, "knights and knaves" and "a knight or a knave"."""
        text = DEFINITION.sub(lambda match: " " if self._defines(match) else match[0], sentence)
        word = r"([A-Za-z]+(?:-[A-Za-z]+)*)"
        for pattern in (rf"\b(?:an? )?{word},? or (?:an? )?{word}", rf"\b{word},? and {word}"):
            text = re.sub(pattern, lambda match: " " if self._pair(match[1], match[2]) else match[0], text)
        text = re.sub(
            r"\b(?:island|isle|land|village|planet|city|town|country|kingdom) (?:of|called|named) [A-Z]\w+",
            "island",
            text,
        )
        return re.sub(rf"\bland of {word}\b", lambda match: match[0], text)

    def _without_any_kind(self, sentence: str) -> str:
        return re.sub(
            r"[A-Za-z]+(?:-[A-Za-z]+)*",
            lambda match: " " if self.kinds.of(match[0]) is not None else match[0],
            sentence,
        )

    def _pair(self, one: str, other: str) -> bool:
        return {self.kinds.of(one), self.kinds.of(other)} == {True, False}

    def _defines(self, match: re.Match[str]) -> bool:
        return self.kinds.of(match["kind"]) is not None

    def _counted(self, sentences: list[str]) -> int | None:
        """How many people the scene announces ("You meet 3 inhabitants"); None when it doesn't."""
        numbers = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
        noun = (
            r"(?:\w+ )?(?:inhabitants|people|persons|residents|islanders|villagers|natives|citizens|members|strangers|"
            r"friends)"
        )
        for sentence in sentences:
            found = re.search(rf"\b(two|three|four|five|six|seven|eight|[2-8]) {noun}\b", sentence, re.IGNORECASE)
            if found:
                return numbers.get(found[1].lower()) or int(found[1])
        return None


def _denied(meaning: Condition) -> Condition:
    return lambda world: not meaning(world)


def _sentences(text: str) -> tuple[list[str], list[str]]:
    """The sentences with every quotation as ⟦n⟧, and the quotations."""
    for written, plainly in (("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"), ("**", ""), ("\u00a0", " ")):
        text = text.replace(written, plainly)
    text = _FORMAT.sub(" ", text)
    text = re.sub(r"\btruth[ -]tellers?\b", lambda match: match[0].replace(" ", "-"), text, flags=re.IGNORECASE)
    quotes: list[str] = []

    def keep(match: re.Match[str]) -> str:
        content = match[1].strip()
        quotes.append(content)
        before = text_before(match)
        ends = content[-1:] in ".!?" and bool(re.search(r"\w", re.split(r"[.!?\n]\s|⟧", before)[-1]))
        return f"⟦{len(quotes) - 1}⟧" + (". " if ends else "")

    def text_before(match: re.Match[str]) -> str:
        return match.string[max(0, match.start() - 200) : match.start()]

    text = re.sub(r'"([^"\n]{1,400})"', keep, text)
    text = re.sub(r"(?<![A-Za-z0-9])'((?:[^'\n]|(?<=[A-Za-z])'(?=[a-z])){3,400})'(?![A-Za-z])", keep, text)
    text = re.sub(r"(?m)^\s*(?:\(?\d{1,2}[.)]|[-*•])\s+", "", text)
    parts = [part.strip() for part in re.split(r"(?<=[.!?;])[)]?\s+|\n+", text)]
    return [part for part in parts if re.search(r"\w", part)], quotes
