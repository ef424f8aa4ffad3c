"""Substitutes an answer back into the equation that a query asks to solve."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaelum_graph.algebra import algebra
from kaelum_graph.answer_values import Listing, Number, Value, Words, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples

_FUNCTION = r"sqrt|sin|cos|tan|ln|log|exp|abs"
_TOKEN = re.compile(r"[A-Za-z]+|\d[\d.]*|[-+*/^()√²³·×−,]|[ \t]+|.", re.DOTALL)
_SIDE_LENGTH = 120
_ONE_LETTER_WORDS = ("a", "A", "I")
_OTHER_QUESTION = re.compile(
    r"\b(?:sum|product|number|difference|average|mean|how many|discriminant|vertex|slope|factor|graph|greater|form)\b",
    re.IGNORECASE,
)
_SOME = re.compile(
    r"\b(?:a|one|any|positive|negative|smallest|largest|least|greatest|integer|whole|natural|between|only)\s+"
    r"(?:\w+\s+)?(?:solution|root|value|zero|number|integer|x|y|answer)?\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """left = right in one unknown, as the query writes it."""

    left: str
    right: str
    unknown: str

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
        values = _values(candidate.answer)
        if not values:
            return unscored(self, "the answer is no number")
        found = algebra().solutions(values, left=equation.left, right=equation.right, variable=equation.unknown)
        if found is None:
            return unscored(self, f"{equation} could not be evaluated")
        for value, holds in zip(values, found.holds, strict=True):
            if not holds:
                return vote(self, "fail", f"{equation.unknown} = {value} does not satisfy {equation}")
        if found.missing is not None:
            if _SOME.search(_sentence_of_request(query.text)):
                return unscored(self, f"{', '.join(values)} solves {equation}; others do too, and the query may choose")
            return vote(self, "fail", f"{equation} has a solution that is not in '{shortened(candidate.answer or '')}'")
        return vote(self, "pass", f"{equation.unknown} = {', '.join(values)} satisfies {equation}")


def asked_equation(question: str) -> Equation | None:
    """The equation a query asks to solve; None when there is none, several, or something else is asked about it."""
    text = re.sub(r'"[^"]*"|“[^”]*”', " ", without_examples(question[:2000]))
    text = text.replace("\\cdot", "*").replace("\\times", "*").replace("−", "-")
    text = re.sub(r"\\\(|\\\)|\\\[|\\\]|\$|`|\*\*(?![\w(\s-])", " ", text)
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
    return equation if _asks_for(text.replace(f"{equation}", " "), equation.unknown) else None


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


def _asks_for(question: str, unknown: str) -> bool:
    request = _sentence_of_request(question)
    if _OTHER_QUESTION.search(request):
        return False
    # "what is 2x + 1" asks for something else than x.
    named = rf"\b{unknown}\b(?!\s*[-+*/^(\d²=])"
    if re.search(rf"\b(?i:for|of|find|is|determine|calculate|compute)\s+(?:real\s+|the\s+)?{named}", request):
        return not re.search(rf"(?:\d|[-+*/^])\s*\*?\s*{unknown}\b|{unknown}\s*[-+*/^²]", request)
    return bool(re.search(r"\bsolve\b|\bsatisf|\b(?:solutions?|roots?|zeros)\b", request, re.IGNORECASE))


def _sentence_of_request(question: str) -> str:
    """The first sentences up to the first line of instructions."""
    return question.strip().split("\n\n")[0].split("please follow")[0][:400]


def _values(answer: str | None) -> list[str]:
    """The answer's values in plain notation, decimals kept as written; empty when one is no number."""
    if answer is None:
        return []
    value = read(answer)
    items = [read(item) for item in value.items] if isinstance(value, Listing) else [value]
    texts = [_text(item) for item in items]
    return [text for text in texts if text] if all(texts) else []


def _text(value: Value) -> str:
    if isinstance(value, Number):
        if value.places:
            return f"{float(value.value):.{value.places}f}"
        return str(value.value)
    if isinstance(value, Words) and value.symbolic and not re.search(r"[<>=]", value.text):
        return value.text
    return ""
