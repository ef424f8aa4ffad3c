"""Checks constructions that are easy to check and hard to find: target numbers, factorizations, palindromes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from kaelum_graph.answers import clean
from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.exact import evaluate, plain
from kaelum_graph.leftovers import around, only_requests
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_NUMBERS = r"(?P<numbers>\d+(?:\s*(?:,\s*and|,|and)\s*\d+)+)(?![\d.,]*\d)"
_TARGET = re.compile(
    r"(?:(?:find )?(?:a way to |an expression to )?(?:calculate|make|reach|obtain|get)"
    r"|find an expression (?:for|equal to))"
    r"\s+(?:the\s+)?(?:number\s+|target\s+)*(?P<target>-?\d+)\s+(?:by\s+)?(?:using|from|with)\s+"
    r"(?P<all>all(?: of)?\s+)?(?:of\s+)?(?:these|the|this)?\s*(?:following\s+)?(?:set of\s+)?numbers?\s*:?\s*"
    rf"{_NUMBERS}",
    re.IGNORECASE,
)
_TARGET_LAST = re.compile(
    rf"using\s+(?P<all>all(?: of)?\s+)?(?:the|these)\s+numbers\s*:?\s*{_NUMBERS}\s*,?\s*(?:create|write|find|make) an "
    r"expression (?:that equals|equal to|for)\s+(?P<target>-?\d+)(?![\d.,]*\d)",
    re.IGNORECASE,
)
_EACH = r"(?:each|every)(?: (?:number|one|of them))?"
_AT_MOST_ONCE = re.compile(
    rf"\b{_EACH} (?:may|can|must|should) (?:only )?be used (?:at most|no more than|only) once\b"
    rf"|\b{_EACH} can only be used once\b|\byou (?:can|may) only use {_EACH} once\b"
    rf"|\b(?:you may )?us(?:e|ing) {_EACH} (?:at most|no more than) once\b|\b{_EACH} at most once\b",
    re.IGNORECASE,
)
_EXACTLY_ONCE = re.compile(
    rf"\b(?:(?:you must )?us(?:e|ing) )?{_EACH} exactly once\b|\b(?:you must )?us(?:e|ing) {_EACH} once\b"
    rf"|\b{_EACH} (?:must|should|has to) be used(?: exactly)? once\b|\beach once\b"
    r"|\byou must use (?:them all|all (?:the |of the )?numbers)\b|\ball (?:the |of the )?numbers must be used\b",
    re.IGNORECASE,
)
_KNOWN_OF_TARGET = re.compile(
    r"\buse '\*' for multiplication\b|\buse '/' for division\b|\bno '=' sign"
    r"|\bdo not include the target number in the expression\b",
    re.IGNORECASE,
)
_TARGET_WORDS = frozenset("arithmetic expression".split())
_FACTORS = re.compile(
    r"prime factori[sz]ation of\s+(?:the number\s+)?(?P<number>\d{1,12})(?![\d,.]*\d|\s*[-+*/^!×÷%])", re.IGNORECASE
)
_FACTOR_WORDS = frozenset("factors prime primes product × separated by exponents exponential notation using".split())
_PALINDROME = re.compile(
    r"palindrome\s+(?:using|from|with|out of)\s+(?:all\s+)?(?:of\s+)?(?:the|these)?\s*(?:following\s+)?letters?:\s*"
    r"(?P<letters>[a-z](?:\s*,\s*[a-z])+)(?![\s,]*[a-z]\b)",
    re.IGNORECASE,
)
_NO_SPACES = re.compile(r"\b(?:with )?no spaces(?: or punctuation)?\b", re.IGNORECASE)
_KNOWN_OF_PALINDROME = re.compile(
    r"\byour task is, given a list of letters, to form a valid palindrome\b"
    r"|\ba palindrome is a (?:word|phrase|text|string) that reads the same forwards? and backwards?\b"
    r"|\bif there are multiple possible answers, only respond with one of them\b"
    rf"|\byou must use all (?:of )?the letters(?: provided)?\b|\bsingle string\b|{_NO_SPACES.pattern}",
    re.IGNORECASE,
)
_PALINDROME_WORDS = frozenset("form make create build valid output".split())


@register
class PuzzleVerifier(Verifier):
    """Passes a construction that meets every condition of its puzzle, fails one that breaks a named one."""

    name = "puzzle"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        if candidate.answer is None:
            return unscored(self, "no answer")
        judge = _judge(query.text)
        if judge is None:
            return unscored(self, "the query is no puzzle that can be checked, or says more than can be read")
        outcome, reason = judge(clean(candidate.answer))
        return vote(self, outcome, reason)


_Judged = tuple[Outcome, str]
_MET: _Judged = ("pass", "every condition is met")


def _judge(question: str) -> Callable[[str], _Judged] | None:
    """What judges answers to the puzzle that `question` is, where it is nothing else."""
    target = _TARGET.search(question) or _TARGET_LAST.search(question)
    if target is not None:
        rest = around(target)
        at_most = bool(_AT_MOST_ONCE.search(rest))
        rest, exactly = _EXACTLY_ONCE.subn(" ", _AT_MOST_ONCE.sub(" ", rest))
        if not only_requests(rest, known=_KNOWN_OF_TARGET, words=_TARGET_WORDS):
            return None
        bare = "no '=' sign" in question.lower()
        rule = _Numbers(
            target=int(target["target"]),
            given=Counter(re.findall(r"\d+", target["numbers"])),
            all_used=True if target["all"] or exactly else (False if at_most else None),
            once=at_most or bool(exactly),
            bare=bare,
        )
        return lambda answer: _reaches(rule, answer)
    factors = _FACTORS.search(question)
    if factors is not None and int(factors["number"]) > 1 and only_requests(around(factors), words=_FACTOR_WORDS):
        number = int(factors["number"])
        return lambda answer: _factored(number, answer)
    letters = _PALINDROME.search(question)
    if letters is not None and only_requests(around(letters), known=_KNOWN_OF_PALINDROME, words=_PALINDROME_WORDS):
        given = Counter(re.findall(r"[a-z]", letters["letters"].lower()))
        unspaced = bool(_NO_SPACES.search(question))
        return lambda answer: _turned(given, answer, unspaced=unspaced)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """A target number and what it is to be made of. `all_used` is None where the puzzle leaves that open."""

    target: int
    given: Counter[str]
    all_used: bool | None
    once: bool
    bare: bool


def _reaches(rule: _Numbers, answer: str) -> _Judged:
    left, _, right = answer.partition("=")
    expression = left if re.search(r"[-+*/×÷·−]", left) else right or left
    written = plain(expression)
    if re.search(r"[A-Za-z^!%]|\*\*", written):
        return "unscored", f"'{shortened(answer)}' is more than an expression of the four operations"
    value = evaluate(expression)
    if value is None:
        return "fail", f"'{shortened(answer)}' is no arithmetic expression"
    used = Counter(re.findall(r"\d+(?:\.\d+)?", written))
    if value != rule.target:
        return "fail", f"{shortened(expression)} is {value}, not {rule.target}"
    foreign = [number for number in used if number not in rule.given]
    if foreign:
        return "fail", f"{foreign[0]} is not one of the numbers"
    if used - rule.given:
        outcome: Outcome = "fail" if rule.once or rule.all_used else "unscored"
        return outcome, f"{next(iter(used - rule.given))} is used more often than it is given"
    if rule.given - used and rule.all_used is not False:
        return "fail" if rule.all_used else "unscored", f"{next(iter(rule.given - used))} is not used"
    if "=" in answer and rule.bare:
        return "unscored", "the expression is right, but no '=' sign was asked for"
    return _MET


def _factored(number: int, answer: str) -> _Judged:
    text = plain(answer.rpartition("=")[2])
    if re.search(r"[A-Za-z]", text):
        return "unscored", f"'{shortened(answer)}' is more than a product"
    factors: list[int] = []
    for part in re.split(r"\s*[*,]\s*", text.strip(" ().")):
        power = re.fullmatch(r"(\d{1,12})(?:\^\(?(\d{1,2})\)?)?", part.strip())
        if power is None:
            return "fail", f"'{shortened(answer)}' is no product of primes"
        factors.extend([int(power[1])] * int(power[2] or 1))
    if prod(factors) != number:
        return "fail", f"the product of {shortened(answer)} is {prod(factors)}, not {number}"
    composite = next((factor for factor in factors if not _is_prime(factor)), None)
    return ("fail", f"{composite} is not prime") if composite is not None else _MET


def _turned(given: Counter[str], answer: str, *, unspaced: bool) -> _Judged:
    word = re.sub(r"[^a-z0-9]", "", answer.lower())
    if Counter(word) != given:
        return "fail", f"'{shortened(answer)}' does not use the given letters, each once"
    if word != word[::-1]:
        return "fail", f"'{shortened(answer)}' reads differently backwards"
    if unspaced and not answer.strip("'\"").isalpha():
        return "unscored", "the letters are right, but spaces or punctuation stand between them"
    return _MET


def _is_prime(number: int) -> bool:
    if number < 2:
        return False
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True
