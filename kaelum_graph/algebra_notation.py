"""Reads mathematical text as SymPy objects, in the algebra's child process alone.

Two grammars: plain notation by recursive descent, and LaTeX by Math-Verify. Neither evaluates Python out of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse

MAX_DEPTH = 40
MAX_POWER = 2000

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "asin": sympy.asin, "acos": sympy.acos, "atan": sympy.atan, "arcsin": sympy.asin, "arccos": sympy.acos,
    "arctan": sympy.atan, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "ln": sympy.log,
    "log": sympy.log, "exp": sympy.exp, "sqrt": sympy.sqrt, "abs": sympy.Abs, "cbrt": sympy.cbrt,
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"pi": sympy.pi, "e": sympy.E, "oo": sympy.oo, "infinity": sympy.oo}
_GREEK = frozenset(["alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "sigma", "phi", "omega", "rho", "tau"])
_ASCII = (
    ("**", "^"), ("×", "*"), ("·", "*"), ("⋅", "*"), ("÷", "/"), ("−", "-"), ("–", "-"), ("π", " pi "), ("∞", " oo "),
    ("√", " sqrt "), ("²", "^2"), ("³", "^3"), ("⁴", "^4"), ("⁵", "^5"), ("θ", " theta "), ("½", "(1/2)"),
)  # fmt: skip
_TOWER = re.compile(r"\^\s*\{?\s*\d+\s*\^")
_TOKEN = re.compile(r"\s*(?:(\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|([A-Za-z]+)|([-+*/^()|!]))")


class Unreadable(ValueError):
    """The text is not in the grammar."""


class Reader:
    """Recursive descent over plain notation: "2x^2 + sin(3x)/4", implicit products and function arguments included."""

    def __init__(self, text: str, variable: str = "") -> None:
        self.variable = variable
        for written, ascii_form in _ASCII:
            text = text.replace(written, ascii_form)
        self.tokens: list[str] = []
        position = 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise Unreadable(text[position:])
            position = match.end()
            if match.group(2):
                self.tokens.extend(_names(match.group(2)))
            else:
                self.tokens.append(match.group().strip())
        self.at = 0
        self.depth = 0

    def read(self) -> Any:
        value = self.sum()
        if self.at != len(self.tokens):
            raise Unreadable("trailing text")
        return value

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def sum(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        self.depth -= 1
        return value

    def product(self) -> Any:
        value = self.signed()
        while True:
            token = self.peek()
            if token == "*":
                self.take()
                value = value * self.signed()
            elif token == "/":
                self.take()
                value = value / self.signed()
            elif token and (token == "(" or token[0].isalnum() or token[0] == "."):
                # Two numbers side by side ("1 1/2", "5 6") are not a product in anybody's notation.
                if token[0].isdigit() and self.tokens[self.at - 1][0].isdigit():
                    raise Unreadable("two numbers in a row")
                value = value * self.power()
            else:
                return value

    def signed(self) -> Any:
        if self.peek() in ("+", "-"):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise Unreadable("too deep")
            sign = -1 if self.take() == "-" else 1
            value = sign * self.signed()
            self.depth -= 1
            return value
        return self.power()

    def power(self) -> Any:
        base = self.atom()
        while self.peek() == "!":
            self.take()
            if not (base.is_Integer and 0 <= base <= 200):
                raise Unreadable("factorial")
            base = sympy.factorial(base)
        if self.peek() == "^":
            self.take()
            exponent = self.signed()
            if base.is_number and exponent.is_number and abs(exponent) > MAX_POWER:
                raise Unreadable("too large a power")
            return base**exponent
        return base

    def atom(self) -> Any:
        token = self.take()
        if not token:
            raise Unreadable("ends early")
        if token[0].isdigit() or token[0] == ".":
            return sympy.Rational(token.replace(",", ""))
        if token == "(":
            return self._closed(")")
        if token == "|":
            return sympy.Abs(self._closed("|"))
        name = token.lower()
        if token == self.variable:
            return sympy.Symbol(token, real=True)
        if name in _FUNCTIONS:
            return self._call(_FUNCTIONS[name])
        if name in _CONSTANTS and (name != "e" or token == "e"):
            return _CONSTANTS[name]
        if len(token) == 1 or name in _GREEK:
            return sympy.Symbol(token, real=True)
        raise Unreadable(token)

    def _closed(self, bracket: str) -> Any:
        value = self.sum()
        if self.take() != bracket:
            raise Unreadable("unbalanced")
        return value

    def _call(self, function: Callable[..., Any]) -> Any:
        exponent = None
        if self.peek() == "^":
            self.take()
            exponent = self.atom()
        if self.peek() == "(":
            self.take()
            argument = self._closed(")")
        else:  # "sin 3x" and "ln x"
            argument = self.power()
            while self.peek() and self.peek()[0].isalpha() and self.peek().lower() not in _FUNCTIONS:
                argument = argument * self.power()
        value = function(argument)
        return value if exponent is None else value**exponent


def _names(word: str) -> list[str]:
    """A run of letters as names: "sin", "pi", "xy" → x, y, "sinx" → sin, x. Raises `Unreadable` for a word."""
    lower = word.lower()
    if lower in _FUNCTIONS or lower in _CONSTANTS or lower in _GREEK or len(word) == 1:
        return [word]
    for name in sorted(_FUNCTIONS, key=len, reverse=True):
        if lower.startswith(name) and len(word) - len(name) == 1:
            return [word[: len(name)], *_names(word[len(name) :])]
    if len(word) > 3:
        raise Unreadable(word)
    return list(word)


def read(text: str, variable: str = "") -> Any:
    """`text` as a SymPy object: plain notation first, else LaTeX. `variable` is a symbol even when it is "e".

    Raises `Unreadable`.
    """
    if "\\" not in text:
        try:
            return Reader(text, variable).read()
        except (Unreadable, ZeroDivisionError):
            if not re.search(r"[\[({<>=^_|]|[≤≥≠∪∩]", text):
                raise
    value = read_latex(text)
    return value.xreplace({sympy.E: sympy.Symbol("e", real=True)}) if variable == "e" else value


def read_latex(text: str) -> Any:
    body = text.replace("$", "").replace("\n", " ").replace("≤", r"\le ").replace("≥", r"\ge ").replace("∪", r"\cup ")
    body = body.replace("∞", r"\infty ").replace("π", r"\pi ").replace("−", "-").replace("×", r"\times ")
    if _TOWER.search(body):
        raise Unreadable("a tower of powers")
    body = re.sub(r"\\log(?![a-z_])(?!\s*_)", r"\\ln", body)  # natural, as in the plain grammar and in programs
    found = parse(
        f"${body}$",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,  # type: ignore[arg-type]  # its signals are replaced by this process's own end
        raise_on_error=True,
    )
    for item in found:
        if isinstance(item, sympy.Basic | sympy.MatrixBase):
            # The LaTeX reader makes its symbols real, the plain one doesn't: the same name is the same symbol.
            return item.xreplace({symbol: sympy.Symbol(str(symbol), real=True) for symbol in item.free_symbols})
    raise Unreadable(text)


def read_expression(text: str, variable: str = "") -> Any:
    """`text` as an expression; of an equation its right side. Raises `Unreadable`."""
    value = read(text, variable)
    if isinstance(value, sympy.Eq):
        value = value.rhs
    if not isinstance(value, sympy.Expr):
        raise Unreadable(text)
    return value
