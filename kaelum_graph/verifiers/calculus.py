"""Differentiates an answer where an integral is asked for, and the query's function where a derivative is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kaelum_graph.algebra import algebra
from kaelum_graph.answers import clean
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_INTEGRAL_NAME = r"(?:the\s+)?(?:indefinite\s+|definite\s+)?(?:integral|antiderivative|anti-derivative|primitive)"
_INTEGRAL = re.compile(rf"\b{_INTEGRAL_NAME}(?:\s+of\b|\s*:)|\bintegrate\b:?|∫|\\int(?![a-z])", re.IGNORECASE)
_DERIVATIVE = re.compile(
    r"\b(?:(?P<order>first|second|third)\s+)?derivative\s+(?:of|for)\b|\bdifferentiate\b:?|(?:\\frac\{d\}\{d[a-z]\}|\bd/d[a-z])",
    re.IGNORECASE,
)
_END = re.compile(
    r"\bwith respect to\b|\bw\.r\.t\b|\bon the interval\b"
    r"|\b(?:from|between|over|evaluated|for|where|using)\b|\bat\b|\band\b|\bwhen\b|\\?,?\s*\bd\s?[a-z]\b(?!\s*[/^])|[?;\n]|,\s|\.\s|\.$|\.?$"
)
_FUNCTIONS = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "arcsin", "arccos", "arctan", "sinh", "cosh",
     "tanh", "ln", "log", "exp", "sqrt", "abs", "pi", "e", "frac", "cdot", "left", "right"]
)  # fmt: skip


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
        answer = _right_side(candidate.answer)
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
        return vote(self, "pass" if holds else "fail", claim)


def asked_calculus(question: str) -> Task | None:
    """The integral or derivative that a query asks for, where it can be read without guessing."""
    text = question.strip()[:600]
    integrals, derivatives = list(_INTEGRAL.finditer(text)), list(_DERIVATIVE.finditer(text))
    if bool(integrals) == bool(derivatives):
        return None
    if re.search(
        r"\b(?:how many|area|volume|sum|product|converge|maximum|minimum|partial|double integral)\b",
        text,
        re.IGNORECASE,
    ):
        return None
    return _integral(text, integrals) if integrals else _derivative(text, derivatives[-1])


def _integral(text: str, matches: list[re.Match[str]]) -> Task | None:
    # "Find the integral: ∫ x dx" names it twice; two ∫ signs are two integrals.
    if sum(match.group() in ("∫", "\\int") for match in matches) > 1:
        return None
    match = matches[-1]
    rest = text[match.end() :]
    bounds: tuple[str, str] | None = None
    limits = re.match(r"\s*_\s*(\{[^{}]*\}|\\?\w+)\s*\^\s*(\{[^{}]*\}|\\?\w+)", rest)
    if limits:
        bounds = limits.group(1).strip("{}"), limits.group(2).strip("{}")
        rest = rest[limits.end() :]
    function = _function(rest)
    tail = re.search(
        r"\b(?:from|between)\s+(?:x\s*=\s*)?(\S+?)\s+(?:to|and)\s+(?:x\s*=\s*)?(\S+?)[?.,;]?(?:\s|$)", rest
    )
    if tail and bounds is None:
        bounds = tail.group(1), tail.group(2)
    elif re.search(r"\b(?:from|between|over|on the interval)\b", rest) and bounds is None:
        return None
    variable = _variable(text, function)
    if not function or variable is None:
        return None
    return Task(kind="integral", function=function, variable=variable, bounds=bounds)


def _derivative(text: str, match: re.Match[str]) -> Task | None:
    function = _function(text[match.end() :])
    if re.search(r"\b(?:at|when)\s+(?:the point\s+)?[a-z]\s*=", text):
        return None  # a value at a point is asked for
    variable = _variable(text, function)
    if not function or variable is None:
        return None
    order = {"first": 1, "second": 2, "third": 3}.get((match["order"] or "first").lower(), 1)
    return Task(kind="derivative", function=function, variable=variable, order=order)


def _function(rest: str) -> str:
    rest = re.sub(r"^\s*(?:the\s+)?(?:function|expression)?\s*:?\s*", "", rest)
    rest = re.sub(r"\\\(|\\\)|\\\[|\\\]|\$|`", " ", rest)
    end = _END.search(rest)
    text = (rest[: end.start()] if end else rest).strip(" .,:")
    text = re.sub(r"^(?:[a-z]\s*\([a-z]\)|y)\s*=\s*", "", text)
    text = clean(text).removesuffix("\\").strip()
    plain_words = [
        word for word in re.findall(r"[A-Za-z]{2,}", text) if word.lower() not in _FUNCTIONS and len(word) > 3
    ]
    return "" if plain_words or not re.search(r"[\w]", text) else text


def _variable(text: str, function: str) -> str | None:
    named = re.search(r"(?:with respect to|w\.r\.t\.?)\s+\$?\\?\(?\s*([a-zA-Z])\b", text)
    named = named or re.search(r"(?<![A-Za-z])d\s?([a-zA-Z])\b(?!\s*/)", text[text.find(function) + len(function) :])
    named = named or re.search(r"d/d([a-zA-Z])|\{d([a-zA-Z])\}", text)
    if named:
        return next(group for group in named.groups() if group)
    letters = set(re.findall(r"(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])", function)) - {"e", "E", "i"}
    for run in re.findall(r"[a-zA-Z]{2,}", function):
        if run.lower() not in _FUNCTIONS:
            letters |= {letter for letter in run if letter in "xyzt"}
    if len(letters) == 1:
        return letters.pop()
    return "x" if "x" in letters or not letters else None


def _right_side(answer: str) -> str:
    """The answer without "F(x) =" or "∫ x^2 dx =" before it, and without its own constant's explanation."""
    text = clean(answer)
    text = re.sub(r",?\s*\(?where\s+C\b.*$", "", text, flags=re.IGNORECASE | re.DOTALL)
    return clean(text.rpartition("=")[2]) if "=" in text else text
