"""Decides propositional questions by truth table: tautology, satisfiability, entailment, equivalence, a truth value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from kaelum_graph.answer_values import Truth, read
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote
from kaelum_graph.verifiers.wording import unread, without_form

MAX_VARIABLES = 12
Formula: TypeAlias = Callable[[Mapping[str, bool]], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<iff><->|<=>|↔|⇔|\biff\b|\\leftrightarrow|\\iff)"
    r"|(?P<implies>->|=>|→|⇒|\bimplies\b|\\rightarrow|\\to\b|\\implies)"
    r"|(?P<xor>⊕|\bxor\b|\\oplus)|(?P<or>\|\|?|∨|\bor\b|\\lor|\\vee)|(?P<and>&&?|∧|\band\b|\\land|\\wedge)"
    r"|(?P<not>¬|~|!|\bnot\b|\\lnot|\\neg)|(?P<open>\()|(?P<close>\))|(?P<constant>\b(?:true|false)\b)"
    r"|(?P<name>[A-Za-z]\d?\b))",
    re.IGNORECASE,
)
_NAMED = r"(?:the\s+)?(?:formula|statement|expression|proposition)?"
_FORMULA = r"(?P<{0}>[^?.\n]+?)"
_KINDS = (
    ("tautology", r"is\s+{named}\s*{a}\s+(?:a tautology|always true|valid)"),
    ("contradiction", r"is\s+{named}\s*{a}\s+(?:a contradiction|always false|unsatisfiable)"),
    ("satisfiable", r"is\s+{named}\s*{a}\s+satisfiable"),
    ("equivalent", r"(?:is|are)\s+{a}\s+(?:logically\s+)?equivalent\s+to\s+{b}[?.]"),
    ("equivalent", r"are\s+{a}\s+and\s+{b}\s+(?:logically\s+)?equivalent"),
    ("entails", r"does\s+{a}\s+(?:logically\s+)?(?:entail|imply)\s+{b}[?.]"),
    ("value", r"if\s+(?P<assignment>[^.?\n]+?),\s*(?:then\s+)?(?:what is|is)\s+(?:the\s+(?:truth\s+)?value of\s+)?"
     r"{a}(?:\s+true)?\s*\?"),
)  # fmt: skip
_KNOWN = frozenset("determine decide logically using truth table".split())
_YES_OR_NO = re.compile(r"\b(?:yes or no|true or false|yes/no)\b", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z]\d?)\s*(?:=|is)\s*(?P<value>true|false|t|f)", re.IGNORECASE)


@register
class LogicVerifier(Verifier):
    """Passes or fails a yes or no to a propositional question of at most 12 variables."""

    name = "logic"
    tier = Tier.CONSTRAINT

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        decided = decide(query.text)
        if decided is None:
            return unscored(self, "the query is no propositional question that can be read")
        if candidate.answer is None:
            return unscored(self, "no answer")
        answer = read(candidate.answer)
        if not isinstance(answer, Truth):
            return unscored(self, f"'{shortened(candidate.answer)}' is no yes or no")
        right = answer.value == decided
        return vote(
            self, "pass" if right else "fail", f"the truth table says {'yes' if right == answer.value else 'no'}"
        )


def decide(question: str) -> bool | None:
    """The answer to a propositional question; None when it can't be read as one."""
    text = re.sub(r"[$`\"“”]", "", " ".join(without_form(question).split()))
    if len(text) > 400:
        return None
    for kind, pattern in _KINDS:
        regex = (
            pattern.replace("{named}", _NAMED).replace("{a}", _FORMULA.format("a")).replace("{b}", _FORMULA.format("b"))
        )
        match = re.search(rf"(?:^|[\s,.:]){regex}", text, re.IGNORECASE)
        if match is None:
            continue
        if unread(_YES_OR_NO.sub(" ", f"{text[: match.start()]} {text[match.end() :]}"), _KNOWN) is not None:
            continue  # "Is p or q always true if p is true?" is another question than its beginning
        groups = match.groupdict()
        if any(_is_unclear(groups[name]) for name in ("a", "b") if name in groups):
            continue
        first = parse(groups["a"])
        second = parse(groups["b"]) if "b" in groups else None
        if first is None or ("b" in groups and second is None):
            continue
        answer = _answer(kind, first, second, groups.get("assignment"))
        if answer is not None:
            return answer
    return None


def _is_unclear(formula: str) -> bool:
    """Whether "and" and "or" stand beside one another as words: which binds first is anybody's guess there."""
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", formula)}
    return len(words & {"and", "or", "xor"}) > 1 and "(" not in formula


def _world(assignment: str) -> dict[str, bool] | None:
    """The truth values of "P is true, Q = F and R is false"; None when it says anything else, or one of them twice."""
    world: dict[str, bool] = {}
    for piece in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", assignment.strip()):
        found = _ASSIGNED.fullmatch(piece.strip())
        if found is None or found["name"] in world:
            return None
        world[found["name"]] = found["value"].lower() in ("true", "t")
    return world


def parse(text: str) -> tuple[Formula, frozenset[str]] | None:
    """A formula and its variables' names; None when it is none. ¬ binds first, then ∧, ⊕, ∨, → (to the right), ↔."""
    tokens: list[tuple[str, str]] = []
    position, text = 0, text.strip().rstrip(".,?")
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            return None
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    parser = _Parser(tokens)
    formula = parser.binary(0)
    names = frozenset(word for kind, word in tokens if kind == "name")
    return (formula, names) if formula is not None and parser.at == len(tokens) and names else None


class _Parser:
    levels = ("iff", "implies", "or", "xor", "and")

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def binary(self, level: int) -> Formula | None:
        if level == len(self.levels):
            return self.unary()
        left = self.binary(level + 1)
        name = self.levels[level]
        while left is not None and self.kind() == name:
            self.at += 1
            right = self.binary(level if name == "implies" else level + 1)
            left = _joined(name, left, right) if right is not None else None
        return left

    def unary(self) -> Formula | None:
        kind = self.kind()
        word = self.tokens[self.at][1] if kind else ""
        self.at += 1
        if kind == "not":
            inner = self.unary()
            return None if inner is None else lambda world: not inner(world)
        if kind == "open":
            inner = self.binary(0)
            self.at += 1
            closed = self.tokens[self.at - 1 : self.at] and self.tokens[self.at - 1][0] == "close"
            return inner if closed else None
        if kind == "constant":
            return lambda world: word.lower() == "true"
        return (lambda world: world[word]) if kind == "name" else None


def _joined(name: str, left: Formula, right: Formula) -> Formula:
    rules: dict[str, Callable[[bool, bool], bool]] = {
        "iff": lambda a, b: a == b,
        "implies": lambda a, b: not a or b,
        "or": lambda a, b: a or b,
        "xor": lambda a, b: a != b,
        "and": lambda a, b: a and b,
    }
    rule = rules[name]
    return lambda world: rule(left(world), right(world))


def _answer(
    kind: str,
    first: tuple[Formula, frozenset[str]],
    second: tuple[Formula, frozenset[str]] | None,
    assignment: str | None,
) -> bool | None:
    formula, names = first
    other, other_names = second or (formula, names)
    if kind == "value":
        world = _world(assignment or "")
        return formula(world) if world is not None and names <= set(world) else None
    variables = sorted(names | other_names)
    if len(variables) > MAX_VARIABLES:
        return None
    worlds = [
        dict(zip(variables, values, strict=True)) for values in itertools.product((False, True), repeat=len(variables))
    ]
    if kind == "tautology":
        return all(formula(world) for world in worlds)
    if kind == "contradiction":
        return not any(formula(world) for world in worlds)
    if kind == "satisfiable":
        return any(formula(world) for world in worlds)
    if kind == "equivalent":
        return all(formula(world) == other(world) for world in worlds)
    return all(other(world) for world in worlds if formula(world))
