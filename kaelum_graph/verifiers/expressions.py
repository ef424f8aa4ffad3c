"""Evaluates the arithmetic that a query asks for and compares."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from kaelum_graph.answer_values import Number, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.exact import evaluate, plain
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.arithmetic import in_decimals
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

# A query of these words and one expression asks for the expression's value; any other word may change what is asked.
_REQUEST_WORDS = """
    what is whats what's the value result answer of to for following arithmetic problem expression calculation sum
    product difference quotient compute calculate evaluate find solve work out simplify state give your final only as a
    number please and show me tell how much does equal equals multiplication addition subtraction division exactly
    exact can you do this math question it return with just no units reply step by think
"""
_REQUEST = frozenset(_REQUEST_WORDS.split())
_SPAN = re.compile(r"(?<![\w.])[-+(]*\s*(?:\d|\.\d)[-+*/^().,%\d\s]*[\d)%!]|(?<![\w.])\d")

_UNDONE = re.compile(r"[\d)]\s*[-+*]\s*[\d(]|\d\s*/\s*\d+\s*/|\)\s*/|/\s*\(")
"""A calculation that is left to the reader; a fraction or a power may be a result."""
_PLAIN_FRACTION = re.compile(r"\(\((-?\d+)\)/\((-?\d+)\)\)")


@register
class ExpressionVerifier(Verifier):
    """Passes or fails an answer to "What is 12*(3+4)?", "17 × 23 = ?", "15% of 80", a gcd or an lcm."""

    name = "expression"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        asked = asked_value(query.text)
        if asked is None:
            return unscored(self, "the query is no plain calculation")
        expression, value = asked
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer = read(candidate.answer)
        if _UNDONE.search(_PLAIN_FRACTION.sub(r"\1/\2", plain(answer.text))):
            # An echo of the question has its value, too.
            return vote(self, "fail", f"'{shortened(candidate.answer)}' is to be worked out, not written down")
        if not isinstance(answer, Number):
            return vote(self, "fail", f"'{shortened(candidate.answer)}' is no number; {expression} is asked for")
        if answer.value == value:
            return vote(self, "pass", f"{expression} = {in_decimals(value)}")
        distance = abs(answer.value - value)
        noise = distance * 10**9 <= abs(value) and answer.places > 0
        if noise or (answer.places >= 2 and distance < Fraction(1, 10**answer.places)):
            return vote(self, "pass", f"{expression} = {in_decimals(value)}, rounded")
        # The message doesn't give the value away: a model that is told the result has not reasoned.
        return vote(self, "fail", f"{expression} is not {shortened(candidate.answer)}")


def asked_value(question: str) -> tuple[str, Fraction] | None:
    """The one expression a query asks to evaluate, and its value; None when it asks for anything more or else."""
    if len(question) > 600:
        return None
    named = _common_measure(question)
    if named is not None:
        return named
    text = re.sub(r"%\s+of\s+(?=[\d(])", "% * ", plain(question))
    text = re.sub(r"=\s*(?:\?|_+|x)?\s*$|=\s*\?", " ", text.strip().rstrip(".!"))
    if "=" in text:
        return None
    text = re.sub(r"(?<=[\d)])\s+(?:times|multiplied by)\s+(?=[\d(-])", " * ", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[\d)])\s+(?:divided by|over)\s+(?=[\d(-])", " / ", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[\d)])\s+plus\s+(?=[\d(-])", " + ", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[\d)])\s+minus\s+(?=[\d(-])", " - ", text, flags=re.IGNORECASE)
    spans = [match.group().strip() for match in _SPAN.finditer(text)]
    if len(spans) != 1 or not re.search(r"[\d)%]\s*[-+*/^(]", spans[0]):
        return None
    rest = text.replace(spans[0], " ")
    words = re.findall(r"[\w']+", rest.lower())
    if any(word not in _REQUEST for word in words) or re.search(r"[^\w\s.,:;?!'\"`$*\\()-]", rest):
        return None
    value = evaluate(spans[0])
    return None if value is None else (shortened(spans[0]), value)


def _common_measure(question: str) -> tuple[str, Fraction] | None:
    """The greatest common divisor or least common multiple that a query asks for."""
    divisor = re.search(
        r"greatest common (?:divisor|factor)|highest common factor|\bgcd\b|\bgcf\b|\bhcf\b", question, re.I
    )
    multiple = re.search(r"(?:least|lowest|smallest) common multiple|\blcm\b", question, re.I)
    if bool(divisor) == bool(multiple) or re.search(r"\b(?:if|given that|when|sum|product)\b", question, re.I):
        return None
    numbers = [int(number) for number in re.findall(r"(?<![\w.,])\d{1,18}(?![\w.]\d)", question)]
    listed = re.search(r"\d+(?:\s*(?:,|and|, and)\s*\d+)+", question)
    if listed is None or len(re.findall(r"\d+", listed.group())) != len(numbers):
        return None
    name, value = ("gcd", math.gcd(*numbers)) if divisor else ("lcm", math.lcm(*numbers))
    return f"{name}({', '.join(map(str, numbers))})", Fraction(value)
