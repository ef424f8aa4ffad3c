"""Differentiates an answer where an integral is asked for, and the query's function where a derivative is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.algebra import algebra
from kaelum_graph.answers import clean
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.equations import is_coarse
from kaelum_graph.verifiers.votes import shortened, unscored, vote, without_examples
from kaelum_graph.verifiers.wording import asks_yes_or_no, is_unclear, unread, without_form

_INTEGRAL = re.compile(
    r"(?:\b(?P<kind>indefinite\s+|definite\s+)?(?:integral|anti-?derivative|primitive)\b(?:\s+of\b|\s*:)?|\bintegrate\b:?)"
    r"\s*(?P<sign>∫|\\int(?![a-z]))?|(?P<bare>∫|\\int(?![a-z]))",
    re.IGNORECASE,
)
_ORDERS = {
    name: order
    for order, names in enumerate(
        ("first 1st", "second 2nd", "third 3rd", "fourth 4th", "fifth 5th", "sixth 6th"), start=1
    )
    for name in names.split()
}
_D_DX = r"(?:\\d?frac\{d\}\{d[a-z]\}|\bd\s?/\s?d[a-z](?![a-z]))"
_DERIVATIVE = re.compile(
    rf"(?:(?:\b(?:(?P<order>{'|'.join(_ORDERS)})[\s-]+(?:order\s+)?)?derivative\b(?:\s+(?:of|for)\b|\s*:)?"
    rf"|\bdifferentiate\b:?)\s*|(?={_D_DX}))(?P<sign>{_D_DX}(?:\s+of\b)?)?",
    re.IGNORECASE,
)
_CALCULUS = re.compile(
    r"derivative|differentia|integra|primitive|∫|\\int|\bd\^?\d?[a-z]?\s?/\s?d[a-z]|\\d?frac\{d", re.IGNORECASE
)
# The longer names first, so that "sinhx" is sinh x.
_NAMES = "|".join(
    "arcsin arccos arctan sinh cosh tanh asin acos atan sqrt sin cos tan cot sec csc log exp abs ln pi theta".split()
)
_TOKEN = re.compile(r"\\[a-zA-Z]+|[A-Za-z]+|\d+(?:\.\d+)?|\*\*|[-+*/^()|{}√²³⁴⁵·×π]|[ \t]+")
_LATEX = frozenset(f"\\{name}" for name in [*_NAMES.split("|"), "frac", "dfrac", "cdot", "times", "left", "right"])
_LEAD = re.compile(
    r"\s*(?:the\s+)?(?:following\s+)?(?:function|expression)?\s*:?\s*(?:[a-zA-Z]\s*\([a-z]\)\s*=|y\s*=)?"
)
_RESPECT = re.compile(r",?\s*(?:with respect to|w\.?r\.?t\.?)\s+(?P<name>[a-zA-Z])\b", re.IGNORECASE)
_BOUND = r"(?:[a-z]\s*=\s*)?(?P<{0}>[-+]?[\w./^*()\\√π∞]*[\w)π∞])"
_BOUNDS = re.compile(rf",?\s*(?:from\s+{_BOUND.format('a')}\s+to\s+{_BOUND.format('b')}|between\s+"
                     rf"{_BOUND.format('c')}\s+and\s+{_BOUND.format('d')})(?=[\s?,;.]|$)", re.IGNORECASE)  # fmt: skip
_LIMITS = re.compile(r"\s*_\s*(\{[^{}]*\}|\\?\w+)\s*\^\s*(\{[^{}]*\}|\\?\w+)")
_KNOWN = frozenset("find calculate compute determine evaluate function expression".split())
_UNDONE = re.compile(r"\bd\s?/\s?d[a-z]|∫|\\int|integral|derivative|\\d?frac\{d", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked about `function` of `variable`; `bounds` for a definite integral, `order` for a derivative."""

    kind: str
    function: str
    variable: str
    bounds: tuple[str, str] | None = None
    order: int = 1


@register
class CalculusVerifier(Verifier):
    """Passes or fails an answer to "What is the integral of x^2?" or "Differentiate sin(x)*x"."""

    name = "calculus"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        task = asked_calculus(query.text)
        if task is None:
            return unscored(self, "the query asks for no integral or derivative that can be read")
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer = _euler(_right_side(candidate.answer))
        if _UNDONE.search(answer) or not answer or _formula(answer) != len(answer):
            return unscored(self, f"'{shortened(candidate.answer)}' is no formula")
        # The algebra takes two decimals for a rounding; where they are one digit, only the exact value will do.
        coarse = is_coarse(answer)
        answer = str(Fraction(answer)) if coarse else answer
        shown, of = shortened(answer), f"{shortened(task.function)}"
        if task.kind == "derivative":
            holds = algebra().is_derivative(answer, function=task.function, variable=task.variable, order=task.order)
            claim = f"{shown} is {'' if holds else 'not '}the derivative of {of}"
        elif task.bounds is not None:
            lower, upper = task.bounds
            holds = algebra().is_integral(
                answer, integrand=task.function, lower=lower, upper=upper, variable=task.variable
            )
            claim = f"{shown} is {'' if holds else 'not '}the integral of {of} from {lower} to {upper}"
        else:
            holds = algebra().is_antiderivative(answer, integrand=task.function, variable=task.variable)
            claim = f"the derivative of {shown} is {'' if holds else 'not '}{of}"
        if holds is None:
            return unscored(self, f"'{shown}' or {of} could not be read")
        if coarse and not holds:
            return unscored(self, f"'{shown}' may be rounded")
        return vote(self, "pass" if holds else "fail", claim)


def asked_calculus(question: str) -> Task | None:
    """The integral or derivative that a query asks for; None where it asks for more or can't be read whole."""
    text = without_form(without_examples(question))
    if len(text) > 400 or asks_yes_or_no(text):
        return None
    integrals, derivatives = list(_INTEGRAL.finditer(text)), list(_DERIVATIVE.finditer(text))
    # "Antiderivative" holds no derivative of its own: its word begins before.
    if len(integrals) + len(derivatives) != 1:
        return None
    (match,) = integrals or derivatives
    before, rest = text[: match.start()], text[match.end() :]
    bounds: tuple[str, str] | None = None
    if integrals and (limits := _LIMITS.match(rest)):
        bounds = limits[1].strip("{}"), limits[2].strip("{}")
        rest = rest[limits.end() :]
    lead = _LEAD.match(rest)
    rest = rest[lead.end() :] if lead else rest
    end = _formula(rest)
    function, rest = _euler(rest[:end].strip()), rest[end:]
    variable: str | None = None
    if integrals and (differential := re.match(r"\s*(?:\\[,;!]|\\ )?\s*d\s?([a-zA-Z])(?![a-zA-Z])", rest)):
        variable, rest = differential[1], rest[differential.end() :]
    if respect := _RESPECT.search(rest):
        if variable not in (None, respect["name"]):
            return None
        variable, rest = respect["name"], f"{rest[: respect.start()]} {rest[respect.end() :]}"
    if integrals and bounds is None and (found := _BOUNDS.search(rest)):
        lower, upper = (group for group in found.groups() if group)
        bounds, rest = (lower, upper), f"{rest[: found.start()]} {rest[found.end() :]}"
    if (
        not function
        or unread(f"{before} {rest}", _KNOWN) is not None
        or _CALCULUS.search(f"{before} {function} {rest}")
    ):
        return None
    if derivatives and match["sign"] and variable is None:
        variable = re.findall(r"d([a-z])", match["sign"])[-1]
    variable = variable or _variable(function)
    if is_unclear(function) or any(not _is_number(bound) for bound in bounds or ()):
        return None
    # To a program's notation "log" is the natural one; elsewhere it may be to the base 10.
    if variable is None or (re.search(r"log", function) and "**" not in question):
        return None
    if derivatives:
        order = _ORDERS[(match["order"] or "first").lower()]
        return Task(kind="derivative", function=function, variable=variable, order=order)
    if ((match["kind"] or "").lower().strip() == "definite") != (bounds is not None) and match["kind"]:
        return None
    return Task(kind="integral", function=function, variable=variable, bounds=bounds)


def _formula(text: str) -> int:
    """How many characters at the beginning of `text` are a formula: up to the first word, sign or differential."""
    at = 0
    while found := _TOKEN.match(text, at):
        token = found.group()
        if token[0] == "\\":
            if token not in _LATEX:
                break
        elif token[0].isalpha() and not _is_names(token):
            break
        at = found.end()
    return at


def _is_names(run: str) -> bool:
    """Whether letters in a row are functions and variables, "x", "sinx" or "xe"; no word, and no differential "dx"."""
    if len(run) == 1 or re.fullmatch(rf"(?:{_NAMES})[a-z]?", run, re.IGNORECASE):
        return True
    return len(run) <= 3 and set(run) <= set("xyztabcnkeC") and bool(set(run) & set("xyz")) and run not in ("by", "any")


def _is_number(bound: str) -> bool:
    return all(word in ("pi", "e", "oo", "infty", "infinity", "sqrt", "ln") for word in re.findall(r"[a-zA-Z]+", bound))


def _euler(text: str) -> str:
    """`text` with the capital E that SymPy gives Euler's number as the e of everybody else."""
    return re.sub(r"(?<![a-zA-Z])E(?![a-zA-Z])", "e", text)


def _variable(function: str) -> str | None:
    """The one letter of `function` that can be its variable: with several, x among constants by their usual letters."""
    bare = re.sub(rf"\\[a-z]+|{_NAMES}", " ", function)
    letters = set(re.findall(r"[a-zA-Z]", bare)) - {"e"}
    if len(letters - set("abck")) == 1:
        return (letters - set("abck")).pop()
    return None if letters else "x"


def _right_side(answer: str) -> str:
    """The answer without "F(x) =" or "∫ x^2 dx =" before it, and without its own constant's explanation."""
    text = clean(answer)
    text = re.sub(r",?\s*\(?where\s+C\b.*$", "", text, flags=re.IGNORECASE | re.DOTALL)
    return clean(text.rpartition("=")[2]) if "=" in text else text
