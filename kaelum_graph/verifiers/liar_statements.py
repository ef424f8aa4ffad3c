"""What an inhabitant of a truth-teller puzzle says of the others: read into a condition, or not at all.

Works on text in which people and kinds are already symbols: `@0` the first inhabitant, `#t` the kind that tells the
truth, `#f` the one that lies.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who tells the truth, by place; `narrow` takes "either … or" and "one of us" for one only."""

    honest: tuple[bool, ...]
    narrow: bool = False


Condition: TypeAlias = Callable[[World], bool]

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}
_COUNT = r"(?:one|two|three|four|five|six|[1-5])"
_ONE = r"@\d+"
_KIND = r"(?:(?:an?|the) )?#(?P<kind>[tf])"
_BE = r"(?:is|am|are)"
_SAME = r"(?:(?:of )?(?:exactly )?the same(?: (?:kind|type|sort|as each other|class))?|alike)"
_OTHER = r"(?:(?:of )?(?:two )?(?:different|opposite)(?: (?:kinds?|types?|sorts?))?)"
_AND = r"(?:,? and |, )"
_GROUP = rf"{_ONE}(?:{_AND}{_ONE})+"
_US = rf"(?:us(?: (?:all|{_COUNT}))?|the {_COUNT} of us|we|them(?: {_COUNT})?|the {_COUNT} of them)"
_WHO = rf"(?P<who>{_US}|{_GROUP})"
_WHERE = r"(?: here| among us| among them)?"

_IS = re.compile(rf"(?P<who>{_ONE}) {_BE} (?P<not>not )?{_KIND}")
_ALL = re.compile(
    rf"(?:both |all )?{_WHO} (?:{_BE} )?(?P<not>not )?(?P<both>both |all )?(?:{_BE} )?(?:both |all )?{_KIND}"
)
_NOT_BOTH = re.compile(rf"not (?:both|all)(?: of)? {_WHO} are {_KIND}")
_OR = re.compile(rf"(?P<either>either )?(?P<who>{_ONE}(?:,? or {_ONE}|, {_ONE},? or {_ONE})) {_BE} {_KIND}")
_NEITHER = re.compile(rf"neither (?P<who>{_ONE}(?:,? nor {_ONE})+) {_BE} {_KIND}")
_COUNTED = re.compile(
    rf"(?P<how>at least |exactly |at most |only |just |precisely )?(?P<count>{_COUNT}|both|neither|none|all"
    rf"|each|every one|"
    rf"not all|not both|no more than one)(?: of| among)? {_WHO} {_BE} (?P<not>not )?{_KIND}"
)
_THERE = re.compile(
    rf"there {_BE} (?P<how>at least |exactly |at most |only |just |precisely )?(?P<count>{_COUNT}|no) #(?P<kind>[tf])"
    rf"(?: among (?:us|them)| here| of us)?"
)
_ALIKE = re.compile(
    rf"(?:both )?{_WHO} (?:are|is) (?P<not>not )?(?:both |all )?(?:(?P<same>{_SAME})|(?P<other>{_OTHER}))"
)
_ALIKE_AS = re.compile(
    rf"(?P<one>{_ONE}) {_BE} (?P<not>not )?(?:(?P<same>(?:of )?the same(?: (?:kind|type|sort))? as)|"
    rf"(?P<other>(?:of )?(?:an? )?(?:different|opposite)(?: (?:kind|type|sort))? (?:from|than|to))) (?P<two>{_ONE})"
)
_THE_ONLY = re.compile(rf"(?P<who>{_ONE}) {_BE} the only #(?P<kind>[tf]){_WHERE}")
_WOULD_SAY = re.compile(
    rf"(?P<who>{_ONE}) (?:would|could|will|can) (?:always )?(?:say|claim|tell (?:you|us|me)|state)(?: that)? "
    rf"(?P<rest>.+)"
)
_DENIED = re.compile(
    r"(?:it is|it's) (?:not (?:the case|true)|false|untrue)(?: that)? |(?:it isn't) (?:the case|true)(?: "
    r"that)? |not (?=\()"
)
_JOIN = re.compile(r",? (?P<word>and|but|or)(?: that)? |(?P<comma>, )")
_IFF = re.compile(r",? (?:if and only if|iff|exactly when|exactly if|precisely when) ")
_LENGTH = 300


def condition(text: str, *, people: int) -> Condition | None:
    """The condition that the whole of `text` states; None when it states none, or could mean two different ones."""
    text = " ".join(text.replace("(", " ( ").replace(")", " ) ").split()).replace("( ", "(").replace(" )", ")")
    if len(text) > _LENGTH or text.count("(") > 8 or text.count("(") != text.count(")"):
        return None
    return _Reader(people).read(text)


class _Reader:
    def __init__(self, people: int) -> None:
        self.people = people

    def read(self, text: str) -> Condition | None:
        """A whole statement: an "if", an "if and only if", or what `_chain` reads."""
        text = text.strip(" ,.")
        if _enclosed(text):
            return self.read(text[1:-1])
        outside = _outside(text)
        equal = list(_IFF.finditer(outside))
        if equal:
            sides = (text[: equal[0].start()], text[equal[0].end() :])
            if len(equal) > 1 or _reaches_on(sides[0]):
                return None
            left, right = self._unit(sides[0]), self._unit(sides[1])
            return None if left is None or right is None else lambda world: left(world) == right(world)
        if re.match(r"if\b", outside):
            return self._conditional(text, outside)
        only = outside.split(" only if ")
        if len(only) == 2:
            left = text[: len(only[0])]
            return self._implied(left, text[len(left) + len(" only if ") :], written=left)
        after = re.split(r",? if ", outside)
        if len(after) == 2:
            left = text[: len(after[0])]
            return self._implied(text[-len(after[1]) :], left, written=left)
        return self._chain(text)

    def _conditional(self, text: str, outside: str) -> Condition | None:
        if len(re.findall(r"\bif\b", outside)) > 1:
            return None
        then = re.search(r",? then ", outside)
        if then:
            return self._implies(text[2 : then.start()], text[then.end() :])
        read: list[Condition] = []
        for comma in re.finditer(r", ", outside):
            found = self._implies(text[2 : comma.start()], text[comma.end() :])
            if found is not None:
                read.append(found)
        return read[0] if len(read) == 1 else None

    def _implies(self, first: str, second: str) -> Condition | None:
        left, right = self._chain(first), self._chain(second)
        return None if left is None or right is None else lambda world: not left(world) or right(world)

    def _implied(self, first: str, second: str, *, written: str) -> Condition | None:
        """`first` implies `second`, with the one `written` on the left not reaching over the other."""
        return None if _reaches_on(written) else self._implies(first, second)

    def _chain(self, text: str) -> Condition | None:
        """Units all joined by "and", or all by "or"; None where a mixture or a second division is possible."""
        text = text.strip(" ,.")
        whole = self._unit(text)
        if whole is not None:
            return whole
        outside = _outside(text)
        exclusive = re.search(r",? but not both$", outside)
        if exclusive:
            outside, text = outside[: exclusive.start()], text[: exclusive.start()]
        either = re.match(r"either ", outside)
        if either:
            outside, text = outside[either.end() :], text[either.end() :]
        joins = list(_JOIN.finditer(outside))
        words = {("and" if join["word"] == "but" else join["word"]) for join in joins if join["word"]}
        if len(words) != 1 or len(joins) > 12 or ((either or exclusive) and words != {"or"}):
            return None
        word = words.pop()
        divisions: list[list[Condition]] = []
        for cuts in itertools.chain.from_iterable(
            itertools.combinations(joins, count) for count in range(1, min(len(joins), 4) + 1)
        ):
            pieces = _cut(text, cuts)
            units = [self._unit(piece) for piece in pieces]
            read = [unit for unit in units if unit is not None]
            # A list's last member is joined by the word itself; "it is not true that A and B" may deny both.
            if len(read) == len(pieces) and cuts[-1]["word"] and not any(_reaches_on(piece) for piece in pieces[:-1]):
                divisions.append(read)
        if len(divisions) != 1:
            return None
        parts = divisions[0]
        if word == "and":
            return lambda world: all(part(world) for part in parts)
        if exclusive or either:
            return lambda world: (
                sum(part(world) for part in parts) == 1
                if exclusive or world.narrow
                else any(part(world) for part in parts)
            )
        return lambda world: any(part(world) for part in parts)

    def _unit(self, text: str) -> Condition | None:
        """One claim, one in parentheses, one denied, or what another would say."""
        text = text.strip(" ,.")
        if _enclosed(text):
            return self.read(text[1:-1])
        denied = _DENIED.match(text)
        if denied:
            inner = self._unit(text[denied.end() :])
            return None if inner is None else lambda world: not inner(world)
        would = _WOULD_SAY.fullmatch(text)
        if would:
            said = self._unit(would["rest"])
            who = self._place(would["who"])
            return None if said is None or who is None else lambda world: world.honest[who] == said(world)
        return self._claim(text)

    def _claim(self, text: str) -> Condition | None:
        for pattern, build in (
            (_IS, self._is), (_THE_ONLY, self._the_only), (_NEITHER, self._neither), (_OR, self._or),
            (_NOT_BOTH, self._not_both), (_COUNTED, self._counted), (_THERE, self._counted),
            (_ALIKE_AS, self._alike_as), (_ALIKE, self._alike), (_ALL, self._all),
        ):  # fmt: skip
            match = pattern.fullmatch(text)
            if match:
                return build(match)
        return None

    def _is(self, match: re.Match[str]) -> Condition | None:
        who, kind = self._place(match["who"]), _wanted(match)
        return None if who is None else lambda world: world.honest[who] == kind

    def _the_only(self, match: re.Match[str]) -> Condition | None:
        who, kind = self._place(match["who"]), match["kind"] == "t"
        if who is None:
            return None
        return lambda world: [place for place, honest in enumerate(world.honest) if honest == kind] == [who]

    def _neither(self, match: re.Match[str]) -> Condition | None:
        who, kind = self._members(match["who"]), match["kind"] == "t"
        return None if who is None else lambda world: all(world.honest[place] != kind for place in who)

    def _or(self, match: re.Match[str]) -> Condition | None:
        who, kind = self._members(match["who"]), match["kind"] == "t"
        either = bool(match["either"])
        if who is None:
            return None

        def holds(world: World) -> bool:
            count = sum(world.honest[place] == kind for place in who)
            return count == 1 if either and world.narrow else count >= 1

        return holds

    def _not_both(self, match: re.Match[str]) -> Condition | None:
        who, kind = self._members(match["who"]), match["kind"] == "t"
        return None if who is None else lambda world: not all(world.honest[place] == kind for place in who)

    def _all(self, match: re.Match[str]) -> Condition | None:
        who, kind = self._members(match["who"]), match["kind"] == "t"
        if who is None or len(who) < 2 or ("both" in match[0] and len(who) != 2):
            return None
        # "We" may be fewer than all, where there are more than two and it is not said.
        if not match["who"].startswith("@") and len(who) > 2 and not re.search(r"\ball\b|@|\bthe\b", match[0]):
            return None
        if match["not"]:
            # "We are not knights" may deny it of each or of both together.
            return self._not_both(match) if match["both"] else None
        return lambda world: all(world.honest[place] == kind for place in who)

    def _counted(self, match: re.Match[str]) -> Condition | None:
        groups = match.groupdict()
        named = groups.get("who")
        who = self._members(named) if named else list(range(self.people))
        if who is None:
            return None
        how, word, kind = (match["how"] or "").strip(), match["count"], match["kind"] == "t"
        if groups.get("not"):
            kind = not kind
            if word in ("both", "all", "each", "every one"):
                return None if word != "each" else lambda world: all(world.honest[place] == kind for place in who)
        if word in ("both", "neither", "not both") and len(who) != 2:
            return None
        if word in _NUMBERS:
            low = 0 if how == "at most" else _NUMBERS[word]
            high = len(who) if how == "at least" else _NUMBERS[word]
        elif how:
            return None
        else:
            low, high = {
                "both": (2, 2), "all": (len(who), len(who)), "each": (len(who), len(who)), "no": (0, 0), "none": (0, 0),
                "neither": (0, 0), "every one": (len(who), len(who)), "not all": (0, len(who) - 1),
                "not both": (0, 1), "no more than one": (0, 1),
            }[word]  # fmt: skip
        loose = word in _NUMBERS and not how

        def holds(world: World) -> bool:
            count = sum(world.honest[place] == kind for place in who)
            return low <= count <= (len(who) if loose and not world.narrow else high)

        return holds

    def _alike(self, match: re.Match[str]) -> Condition | None:
        who = self._members(match["who"])
        same = bool(match["same"]) != bool(match["not"])
        if who is None or len(who) < 2 or (len(who) > 2 and match["other"]):
            return None
        return lambda world: (len({world.honest[place] for place in who}) == 1) == same

    def _alike_as(self, match: re.Match[str]) -> Condition | None:
        one, two = self._place(match["one"]), self._place(match["two"])
        same = bool(match["same"]) != bool(match["not"])
        return None if one is None or two is None else lambda world: (world.honest[one] == world.honest[two]) == same

    def _place(self, symbol: str) -> int | None:
        place = int(symbol[1:])
        return place if place < self.people else None

    def _members(self, who: str) -> list[int] | None:
        """The places of "us", "the two of us", "@0 and @1"; None where the number said is not that of the people."""
        places = [int(digits) for digits in re.findall(r"@(\d+)", who)]
        if places:
            return places if len(set(places)) == len(places) and max(places) < self.people else None
        said = re.search(rf"\b({_COUNT})\b", who)
        if said and _NUMBERS[said[1]] != self.people:
            return None
        return list(range(self.people))


def _wanted(match: re.Match[str]) -> bool:
    return (match["kind"] == "t") != bool(match["not"])


def _reaches_on(text: str) -> bool:
    """Whether `text` opens with a denial, or with what someone would say, that what follows it may belong to."""
    text = text.strip(" ,.")
    opened = _DENIED.match(text)
    would = _WOULD_SAY.fullmatch(text)
    rest = text[opened.end() :] if opened else would["rest"] if would else None
    return rest is not None and not _enclosed(rest.strip(" ,."))


def _enclosed(text: str) -> bool:
    """Whether `text` is one pair of parentheses from end to end."""
    if not (text.startswith("(") and text.endswith(")")):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position == len(text) - 1
    return False


def _outside(text: str) -> str:
    """`text` with everything inside parentheses blanked, position for position."""
    depth, kept = 0, ""
    for character in text:
        depth -= character == ")"
        kept += character if depth == 0 else "_"
        depth += character == "("
    return kept


def _cut(text: str, cuts: Sequence[re.Match[str]]) -> list[str]:
    ends = [cut.start() for cut in cuts] + [len(text)]
    starts = [0] + [cut.end() for cut in cuts]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]
