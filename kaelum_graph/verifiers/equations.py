"""Substitutes an answer back into the equation that a query asks to solve."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from kaelum_graph.algebra import algebra
from kaelum_graph.answer_values import Listing, Number, Value, Words, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples
from kaelum_graph.verifiers.wording import asks_yes_or_no, is_unclear, unread, without_form

_FUNCTION = r"sqrt|sin|cos|tan|ln|log|exp|abs"
_TOKEN = re.compile(r"[A-Za-z]+|\d[\d.]*|[-+*/^()√²³·×−,]|[ \t]+|.", re.DOTALL)
_SIDE_LENGTH = 120
_ONE_LETTER_WORDS = ("a", "A", "I")
_REQUEST = re.compile(
    r"\b(?:solve|find|what|what's|determine|calculate|compute|satisf\w+|solutions?|roots?|zeros)\b", re.IGNORECASE
)
_KNOWN = frozenset(
    "solve find determine calculate compute value values satisfies satisfy satisfying that which makes true equation "
    "polynomial linear quadratic cubic real variable unknown solution solutions root roots zeros all every each both "
    "if then when given where".split()
)
"""Words around an equation that leave it the question for its unknown. What is left besides may narrow it."""
_SOME = frozenset(
    "one any some positive negative nonnegative smallest largest least greatest smaller larger integer whole natural "
    "rational non-negative".split()
)
"""Words that choose among the solutions: a value that is none is wrong all the same."""
_ONE_OF = re.compile(r"\ban?\s+(?:\w+\s+)?(?:solution|root|value|zero)\b", re.IGNORECASE)
_ALL = re.compile(r"\b(?:solve|solutions|roots|zeros|values|all|every|each|both)\b", re.IGNORECASE)
_MAX_DEGREE = 8
"""Up to this degree all real solutions of a polynomial are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """left = right in one unknown, as the query writes it.

    `chosen`: the query wants some of the solutions alone; `all_wanted`: it says that it wants all there are.
    """

    left: str
    right: str
    unknown: str
    chosen: bool = False
    all_wanted: bool = True

    def __str__(self) -> str:
        return f"{self.left} = {self.right}"


@register
class EquationVerifier(Verifier):
    """Passes when every value solves the equation and no real solution is missing."""

    name = "equation"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        equation = asked_equation(query.text)
        if equation is None:
            return unscored(self, "the query asks to solve no single equation in one unknown")
        values = _values(candidate.answer, equation.unknown)
        if not values:
            return unscored(self, "the answer is no number")
        # The algebra takes two decimals for a rounding; where they are one digit, only the exact value will do.
        exact = [str(Fraction(value)) if is_coarse(value) else value for value in values]
        found = algebra().solutions(exact, left=equation.left, right=equation.right, variable=equation.unknown)
        if found is None:
            return unscored(self, f"{equation} could not be evaluated")
        for value, holds in zip(values, found.holds, strict=True):
            if not holds and is_coarse(value):
                return unscored(self, f"{equation.unknown} = {value} may be rounded")
            if not holds:
                return vote(self, "fail", f"{equation.unknown} = {value} does not satisfy {equation}")
        if equation.chosen:
            return unscored(self, f"{', '.join(values)} solves {equation}; the query may choose among its solutions")
        if not _all_known(equation) or (found.missing is not None and not equation.all_wanted):
            return unscored(self, f"{', '.join(values)} solves {equation}; whether others do, and are wanted, is open")
        if found.missing is not None:
            return vote(self, "fail", f"{equation} has a solution that is not in '{shortened(candidate.answer or '')}'")
        return vote(self, "pass", f"{equation.unknown} = {', '.join(values)} satisfies {equation}")


def asked_equation(question: str) -> Equation | None:
    """The equation a query asks to solve; None when there is none, several, or anything else is said about it."""
    text = re.sub(r'"[^"]*"|“[^”]*”', " ", without_examples(without_form(question[:2000])))
    text = text.replace("\\cdot", "*").replace("\\times", "*").replace("−", "-")
    found: dict[tuple[str, str], Equation] = {}
    for sign in re.finditer(r"(?<![=<>!:+*/-])=(?!=)", text):
        left = _side(_TOKEN.findall(text[max(0, sign.start() - _SIDE_LENGTH) : sign.start()])[::-1])
        right = _side(_TOKEN.findall(text[sign.end() : sign.end() + _SIDE_LENGTH]))
        equation = _equation("".join(left[::-1]), "".join(right))
        if equation is not None:
            found[(equation.left, equation.right)] = equation
    if len(found) != 1:
        return None
    equation = next(iter(found.values()))
    # "log" is to the base 10 or e, an angle is in degrees or radians: nobody knows.
    if asks_yes_or_no(text) or is_unclear(f"{equation}") or re.search(r"sin|cos|tan|log", f"{equation}".lower()):
        return None
    rest = re.sub(r"\s*".join(map(re.escape, f"{equation}".split())), " ", text).replace("(s)", "s")
    # The unknown stands in its own letter case: "solve for X: x + 1 = 3" may name two.
    known = _KNOWN | _SOME | {equation.unknown.lower()}
    if not _REQUEST.search(rest) or unread(rest, known) is not None:
        return None
    if re.search(rf"\b{equation.unknown.swapcase()}\b", rest) and equation.unknown not in _ONE_LETTER_WORDS:
        return None
    chosen = set(re.findall(r"[a-z-]+", rest.lower())) & _SOME or _ONE_OF.search(rest)
    return replace(equation, chosen=bool(chosen), all_wanted=_ALL.search(rest) is not None)


def _all_known(equation: Equation) -> bool:
    """Whether the algebra is sure to know every real solution: of a polynomial, or of one √, ln or 2^x."""
    sides = f"{equation}".replace("**", "^").replace("²", "^2").replace("³", "^3")
    unknown = rf"(?<![a-zA-Z]){equation.unknown}(?![a-zA-Z])"
    # |x| has two sides, and a fraction's denominator may rule out a root of its numerator.
    if re.search(rf"\||abs|/\s*(?:[\d.]*\s*\*?\s*{unknown}|\([^()]*{unknown})", sides, re.IGNORECASE):
        return False
    whole_powers = not re.search(r"\^(?!\s*(?:\d+(?![\d.]*[.a-zA-Z(])|\(\s*\d+\s*\)))", sides)
    if whole_powers and not re.search(r"sqrt|√|ln|exp", sides, re.IGNORECASE):
        return _degree(sides, unknown) <= _MAX_DEGREE
    return len(re.findall(unknown, sides)) == 1 and not re.search(rf"(?:{unknown}|\))\s*\^", sides)


def _degree(sides: str, unknown: str) -> int:
    """An upper bound of a polynomial's degree."""

    def summed(text: str) -> int:
        return sum(int(power or 1) for power in re.findall(rf"{unknown}\s*(?:\^\s*\(?\s*(\d{{1,4}}))?", text))

    if not re.search(rf"\([^()]*{unknown}", sides):
        return max(summed(term) for term in re.split(r"[-+=]", sides))
    return summed(sides) * math.prod(int(power) for power in re.findall(r"\)\s*\^\s*\(?\s*(\d{1,4})", sides))


def _side(tokens: list[str]) -> list[str]:
    """The leading `tokens` that may stand in an equation: numbers, operators, functions, single letters."""
    for index, token in enumerate(tokens):
        word = token[0].isalpha() and len(token) > 1 and re.fullmatch(_FUNCTION, token.lower()) is None
        if word or not re.match(r"[A-Za-z\d()√²³·×−+*/^ \t-]", token):
            return tokens[:index]
    return tokens


def _equation(left: str, right: str) -> Equation | None:
    # A word of one letter before the equation ("for a 3x + 5 = 20") or after it is no part of it.
    lefts, rights = left.strip(" ,.").split(), right.strip(" ,.").split()
    for skipped in range(2 if lefts and lefts[0] in _ONE_LETTER_WORDS else 1):
        for cut in range(2 if rights and rights[-1] in _ONE_LETTER_WORDS else 1):
            left_text, right_text = " ".join(lefts[skipped:]), " ".join(rights[: len(rights) - cut])
            unknowns = _unknowns(f"{left_text} {right_text}")
            whole = re.match(r"[-+\w(√.]", left_text) and re.search(r"[\w)²³]$", right_text)
            balanced = left_text.count("(") == left_text.count(")") and right_text.count("(") == right_text.count(")")
            if whole and balanced and len(unknowns) == 1:
                unknown = unknowns.pop()
                trivial = left_text == unknown and not re.search(unknown, right_text)
                return None if trivial else Equation(left=left_text, right=right_text, unknown=unknown)
    return None


def _unknowns(text: str) -> set[str]:
    return set(re.findall(r"(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])", re.sub(rf"(?:{_FUNCTION})(?![a-z])", " ", text))) - {
        "e"
    } or set(re.findall(r"(?<![a-zA-Z])e(?![a-zA-Z])", text))


def _values(answer: str | None, unknown: str) -> list[str]:
    """The answer's values in plain notation, decimals kept as written; empty when one is no number of the unknown."""
    if answer is None:
        return []
    value = read(answer)
    if isinstance(value, Listing) and any(name.lower() != unknown.lower() for name in value.names):
        return []
    items = [read(item) for item in value.items] if isinstance(value, Listing) else [value]
    texts = [_text(item) for item in items]
    return [text for text in texts if text] if all(texts) else []


def is_coarse(value: str) -> bool:
    """Whether `value` is a decimal of one place or one digit, too few to tell a rounding from a wrong value."""
    decimal = re.fullmatch(r"-?(\d+)\.(\d*[1-9]\d*)", value)
    return decimal is not None and (len(decimal[2]) < 2 or len((decimal[1] + decimal[2]).lstrip("0")) < 2)


def _text(value: Value) -> str:
    if isinstance(value, Number):
        if value.unit:
            return ""
        if value.places and "e" not in value.text.lower():
            return f"{float(value.value):.{value.places}f}"
        return str(value.value)
    if isinstance(value, Words) and value.symbolic and not re.search(r"[<>=]", value.text):
        return value.text
    return ""
