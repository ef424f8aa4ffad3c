"""Reads an answer in the base that a query asks for and compares its value with the number it was converted from."""

from __future__ import annotations

import re

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples
from kaelum_graph.verifiers.wording import unread, without_form

_NAMES = {"binary": 2, "ternary": 3, "octal": 8, "decimal": 10, "hexadecimal": 16, "hex": 16}
_BASE = rf"(?:base[- ]?(?:\d{{1,2}})|{'|'.join(_NAMES)})"
_CONVERT = re.compile(
    rf"\b(?:convert|change|write|express|translate|represent)\s+(?:the\s+)?"
    rf"(?:(?P<before>{_BASE})\s+)?(?:number\s+|value\s+|numeral\s+)?(?P<digits>(?:0[xbo])?[0-9a-z]{{1,64}})"
    rf"(?:\s+(?:\(?(?:in|from)\s+)?(?P<after>{_BASE})\)?)?\s+(?:in)?to\s+(?P<target>{_BASE})\b",
    re.IGNORECASE,
)
_PREFIXES = {2: "0b", 8: "0o", 16: "0x"}
_LETTERS = re.compile(
    r"if the target base is (?:>|greater than|above) 10, use (?:lower|upper)case letters a-z for digits above 9",
    re.IGNORECASE,
)
_KNOWN = frozenset("number numeral between two different bases base digits lowercase uppercase use letters".split())


@register
class BaseVerifier(Verifier):
    """Passes when both numerals have the same value."""

    name = "base"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        text = _LETTERS.sub(" ", without_form(without_examples(query.text)))
        asked = list(_CONVERT.finditer(text))
        if len(asked) != 1:
            return unscored(self, "the query asks for no conversion between bases")
        (match,) = asked
        rest = re.sub(r"\bYour task is to convert\b", " ", f"{text[: match.start()]} {text[match.end() :]}")
        if (word := unread(rest, _KNOWN)) is not None:
            return unscored(self, f"'{shortened(word)}' may ask for more than the conversion")
        if not (match["before"] or match["after"]) and base_of(match["target"]) == 10:
            return unscored(self, "the base to convert from is not said")
        source, target = base_of(match["before"] or match["after"] or "decimal"), base_of(match["target"])
        value = read_numeral(match["digits"], source)
        if value is None or not 2 <= target <= 36:
            return unscored(self, f"'{match['digits']}' is no number in base {source}")
        answer = (candidate.answer or "").strip(" .`'\"")
        if said := re.search(r"\bis:?\s+(?P<numeral>\S+)$", answer):
            answer = said["numeral"]
        if not re.fullmatch(r"(?:0[xbo])?[0-9A-Za-z]{1,200}", answer):
            return unscored(self, "the answer is no numeral")
        stated = read_numeral(answer, target)
        if stated is None and len(answer) > 2 and answer.isalpha():
            return unscored(self, "the answer is a word")
        if stated is None:
            return vote(self, "fail", f"'{shortened(answer)}' has digits that base {target} has not")
        # The model that wrote the answer is to mend it: most programs take the digits for a decimal number.
        given = f"{match['digits']} in base {source} is {value}, int('{match['digits']}', {source})"
        if stated == value:
            return vote(self, "pass", f"{given}, and so is {answer} in base {target}")
        return vote(self, "fail", f"{given}, but {shortened(answer)} in base {target} is {stated}")


def base_of(name: str) -> int:
    """The base that "base-7", "base 7" or "octal" names."""
    digits = re.search(r"\d+", name)
    return int(digits[0]) if digits else _NAMES[name.lower()]


def read_numeral(text: str, base: int) -> int | None:
    """The value of a numeral, with or without the prefix of its base; None when it is none in that base."""
    prefix = _PREFIXES.get(base)
    digits = text.lower()
    if prefix and digits.startswith(prefix):
        digits = digits[2:]
    if not 2 <= base <= 36 or not re.fullmatch(r"[0-9a-z]+", digits):
        return None
    try:
        return int(digits, base)
    except ValueError:
        return None
