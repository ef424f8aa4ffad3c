"""Solves a puzzle of truth-tellers and liars by trying every case, and holds an answer against the one that is left."""

from __future__ import annotations

import itertools
import re

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.liar_kinds import Kinds
from kaelum_graph.verifiers.liar_puzzles import Puzzle, read_puzzle
from kaelum_graph.verifiers.liar_statements import World
from kaelum_graph.verifiers.votes import shortened, unscored, vote


@register
class LiarVerifier(Verifier):
    """Passes the one assignment that fits everything said, stated for all; fails what contradicts it or itself."""

    name = "liars"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        puzzle = read_puzzle(query.text)
        if isinstance(puzzle, str):
            return unscored(self, puzzle)
        if candidate.answer is None:
            return unscored(self, "no answer")
        stated = read_assignment(candidate.answer, puzzle)
        if isinstance(stated, str):
            return unscored(self, stated)
        found = solutions(puzzle, narrow=False)
        if found != solutions(puzzle, narrow=True):
            return unscored(self, "'or' or 'one of' can be meant in two ways here")
        if len(found) != 1:
            return unscored(self, f"the puzzle has {len(found)} solutions")
        (solution,) = found
        twice = next((place for place, kinds in stated.items() if len(kinds) > 1), None)
        if twice is not None:
            kinds = f"{_a(puzzle.kinds.honest)} and {_a(puzzle.kinds.lying)}"
            return vote(self, "fail", f"it calls {puzzle.people[twice]} both {kinds}")
        told = {place: next(iter(kinds)) for place, kinds in stated.items()}
        if any(solution[place] != kind for place, kind in told.items()):
            return vote(self, "fail", _broken(puzzle, told))
        if len(told) < len(puzzle.people):
            missing = next(name for place, name in enumerate(puzzle.people) if place not in told)
            return unscored(self, f"it does not say what {missing} is")
        return vote(self, "pass", "every statement fits what its speaker is")


def solutions(puzzle: Puzzle, *, narrow: bool) -> list[tuple[bool, ...]]:
    """Who may be honest, by place: every assignment that fits all statements and facts."""
    return [
        honest
        for honest in itertools.product((True, False), repeat=len(puzzle.people))
        if _violated(puzzle, World(honest=honest, narrow=narrow)) is None
    ]


def _violated(puzzle: Puzzle, world: World) -> int | None:
    """The index of the first statement that does not fit its speaker; -1 for a fact; None when all is well."""
    if not all(fact(world) for fact in puzzle.facts):
        return -1
    for index, speech in enumerate(puzzle.speeches):
        if speech.meaning(world) != world.honest[speech.speaker]:
            return index
    return None


def _broken(puzzle: Puzzle, told: dict[int, bool]) -> str:
    """What does not hold in an assignment, without saying what would."""
    kinds = puzzle.kinds
    who = " and ".join(
        f"{puzzle.people[place]} {_a(kinds.honest if kind else kinds.lying)}" for place, kind in told.items()
    )
    if len(told) < len(puzzle.people):
        return f"with {who}, nothing that the others may be fits all that is said"
    broken = _violated(puzzle, World(honest=tuple(told[place] for place in range(len(puzzle.people)))))
    if broken is None or broken < 0:
        return f"{who}: that breaks what the puzzle itself says"
    speech = puzzle.speeches[broken]
    told_truth = not told[speech.speaker]
    kind, does = (kinds.lying, "lies") if told_truth else (kinds.honest, "tells the truth")
    return (
        f"{who}: then {puzzle.people[speech.speaker]}'s words '{shortened(speech.text)}' are "
        f"{'true' if told_truth else 'false'}, but {_a(kind)} always {does}"
    )


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# -- reading the answer -----------------------------------------------------------------------------------------------

_REASON = re.compile(r",?\s*\b(?:because|since|as (?=@|they|he|she|his|her|their)|due to|so that)\b[^.;\n]*")
_IDLE = re.compile(
    r"(?:so|therefore|thus|hence|then|and|but|while|whereas|in conclusion|the (?:final |correct )?(?:answer"
    r"|solution)(?: is)?(?: that)?|"
    r"answer|final answer|solution|we (?:can )?(?:conclude|find|see|have)(?: that)?|it follows that|this "
    r"means(?: that)?|yes)\b[\s,:]*"
)
_LIST = r"@\d+(?:(?:,? and |,? & |, | )@\d+)*"
_BE = r"(?:is|are|was|were|must be|has to be|have to be|being|=|:|->|→|-|–|—)"
_ASSIGNS = re.compile(
    rf"(?:both )?(?P<who>{_LIST}) ?(?:{_BE} ?)?(?P<not>not )?(?:both |all |indeed |also )?(?:an? |the )?#(?P<kind>[tf])"
)
_LISTS = re.compile(rf"(?:the )?#(?P<kind>[tf])(?: ?(?:is|are|:|=|-|->|→) ?) ?(?P<who>{_LIST}|none|nobody|no one)")
_EVERYONE = re.compile(
    r"(?:both|all|everyone|everybody|they|all of them|both of them|they both|they all|all (?P<count>\w+)(?: of them)?|"
    r"(?:both|all)(?: (?P<more>\w+))? (?:inhabitants|people|islanders))"
    r" (?:is|are) (?:both |all )?(?:an? )?#(?P<kind>[tf])"
)
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}


def read_assignment(answer: str, puzzle: Puzzle) -> dict[int, set[bool]] | str:
    """What the answer calls each inhabitant, by place; a text where any part of it could not be read."""
    unread = f"'{shortened(answer)}' is no assignment that can be read"
    if len(answer) > 1500:
        return unread
    text = _symbolic(answer, puzzle.people, puzzle.kinds)
    text = _REASON.sub("", text)
    stated: dict[int, set[bool]] = {}
    for sentence in re.split(r"[.;\n!]+", text):
        if not re.search(r"\w", sentence):
            continue
        for clause in _clauses(sentence) or [""]:
            found = _said(clause, len(puzzle.people))
            if found is None:
                return unread
            for place, kind in found:
                stated.setdefault(place, set()).add(kind)
    return stated or unread


def _clauses(sentence: str) -> list[str] | None:
    """`sentence` cut after each kind named, or before it where the kinds come first ("knights: Ann, Bob")."""
    text = sentence.strip(" ,")
    while (idle := _IDLE.match(text)) and idle.end():
        text = text[idle.end() :]
    if not text:
        return []
    if re.match(r"(?:the )?#[tf]", text):
        return [part.strip(" ,") for part in re.split(r"(?:,|\band\b)?\s*(?=(?:the )?#[tf])", text) if part.strip(" ,")]
    parts = [part.strip() for part in re.split(r"(?<=#[tf])", text)]
    cleaned = [re.sub(r"^(?:[,\s]|\b(?:and|but|while|whereas)\b)+", "", part).strip(" ,") for part in parts]
    return [part for part in cleaned if part]


def _said(clause: str, people: int) -> list[tuple[int, bool]] | None:
    if not clause:
        return []
    everyone = _EVERYONE.fullmatch(clause)
    if everyone:
        count = everyone["count"] or everyone["more"]
        number = _NUMBERS.get(count, 0) if count else people
        both = clause.startswith("both") or "both" in clause.split("#")[0]
        if number != people or (both and people != 2):
            return None
        return [(place, everyone["kind"] == "t") for place in range(people)]
    match = _ASSIGNS.fullmatch(clause) or _LISTS.fullmatch(clause)
    if match is None:
        return None
    denied = bool(match.groupdict().get("not"))
    return [(int(place), (match["kind"] == "t") != denied) for place in re.findall(r"@(\d+)", match["who"])]


def _symbolic(answer: str, people: tuple[str, ...], kinds: Kinds) -> str:
    text = answer.replace("’", "'").replace("isn't", "is not").replace("aren't", "are not")
    text = re.sub(r"\\(?:text|textbf|mathrm)\{([^{}]*)\}|[*_`\"'{}\[\]()|$\\]", lambda match: match[1] or " ", text)
    text = re.sub(r"\btruth[ -]tellers?\b", "truth-teller", text, flags=re.IGNORECASE)
    text = re.sub(r"(?m)^\s*(?:[-*•]|\d+[.)])\s+", "", text)
    for place, name in enumerate(people):
        # A one-letter name is told from the article "a" by its capital; others may be written in any case.
        flags = 0 if len(name) == 1 else re.IGNORECASE
        ending = r"(?!\w)(?! (?:#|[a-z]+ (?:and|,)))" if name == "A" else r"(?!\w)"
        text = re.sub(rf"(?<![\w@]){re.escape(name)}{ending}", f"@{place}", text, flags=flags)
    pieces: list[str] = []
    for word in re.split(r"([A-Za-z]+(?:-[A-Za-z]+)*)", text):
        kind = kinds.of(word) if word[:1].isalpha() else None
        pieces.append({True: "#t", False: "#f", None: word.lower()}[kind])
    text = "".join(pieces)
    text = re.sub(r"\b(?:telling the truth|truthful|honest|(?:always )?tells? the truth)\b", "#t", text)
    text = re.sub(r"\b(?:lying|(?:always )?lies)\b", "#f", text)
    # "a knight (truth-teller)" says it twice.
    text = re.sub(r"(#[tf])(?:\s+(?:an? |the )?\1)+", r"\1", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
