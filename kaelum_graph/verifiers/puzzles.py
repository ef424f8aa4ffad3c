"""Checks constructions that are easy to check and hard to find: target numbers, factorizations, palindromes."""

from __future__ import annotations

import re
from collections import Counter
from math import prod

from kaelum_graph.answers import clean
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.exact import evaluate, plain
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_TARGET = re.compile(
    r"(?:calculate|make|reach|obtain|get|find (?:a way to|an expression)[^.\n]*?)\s+(?:the\s+(?:number|target)\s+)?"
    r"(?P<target>-?\d+)\s+(?:by\s+)?(?:using|from|with)\s+(?P<all>all(?: of)?\s+)?(?:of\s+)?(?:these|the|this)?\s*"
    r"(?:following\s+)?(?:set of\s+)?numbers?\s*:?\s*"
    r"(?P<numbers>\d+(?:\s*(?:,|and|, and)\s*\d+)+)",
    re.IGNORECASE,
)
_FACTORS = re.compile(r"prime factori[sz]ation of\s+(?P<number>\d{1,12})\b", re.IGNORECASE)
_PALINDROME = re.compile(r"palindrome\b[^\n]*?letters?:\s*(?P<letters>[a-z](?:\s*,\s*[a-z])+)", re.IGNORECASE)


@register
class PuzzleVerifier(Verifier):
    """Passes a construction that meets every condition of its puzzle, fails one that breaks a named one."""

    name = "puzzle"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer = clean(candidate.answer)
        for pattern, broken in ((_TARGET, _misses_target), (_FACTORS, _misses_factors), (_PALINDROME, _misses_letters)):
            match = pattern.search(query.text)
            if match:
                reason = broken(match, answer)
                return vote(self, "fail", reason) if reason else vote(self, "pass", "every condition is met")
        return unscored(self, "the query is no puzzle that can be checked")


def _misses_target(match: re.Match[str], answer: str) -> str | None:
    target = int(match["target"])
    left, _, right = answer.partition("=")
    expression = left if re.search(r"[-+*/×÷]", left) else right
    value = evaluate(expression)
    if value is None:
        return f"'{shortened(answer)}' is no arithmetic expression"
    given = Counter(re.findall(r"\d+", match["numbers"]))
    used = Counter(re.findall(r"\d+", plain(expression)))
    if used - given:
        return f"{next(iter(used - given))} is used more often than it is given"
    if match["all"] and given - used:
        return f"{next(iter(given - used))} is not used"
    return None if value == target else f"{shortened(expression)} is {value}, not {target}"


def _misses_factors(match: re.Match[str], answer: str) -> str | None:
    text = plain(answer.rpartition("=")[2])
    factors: list[int] = []
    for part in re.split(r"\s*[*,]\s*", text.strip(" ()")):
        power = re.fullmatch(r"(\d{1,12})(?:\^\(?(\d{1,2})\)?)?", part.strip())
        if power is None:
            return f"'{shortened(answer)}' is no product of primes"
        factors.extend([int(power[1])] * int(power[2] or 1))
    if prod(factors) != int(match["number"]):
        return f"the product of {shortened(answer)} is {prod(factors)}, not {match['number']}"
    composite = next((factor for factor in factors if not _is_prime(factor)), None)
    return f"{composite} is not prime" if composite is not None else None


def _misses_letters(match: re.Match[str], answer: str) -> str | None:
    given = Counter(re.findall(r"[a-z]", match["letters"].lower()))
    word = re.sub(r"[^a-z]", "", answer.lower())
    if Counter(word) != given:
        return f"'{shortened(answer)}' does not use the given letters, each once"
    return None if word == word[::-1] else f"'{shortened(answer)}' reads differently backwards"


def _is_prime(number: int) -> bool:
    if number < 2:
        return False
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True
