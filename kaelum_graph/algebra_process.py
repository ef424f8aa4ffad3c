"""The child process that does symbolic mathematics on untrusted text.

Run as a script by `kaelum_graph.algebra`, never imported by the engine: it reads one JSON job a line from standard
input and writes one JSON result a line. Text is parsed by Math-Verify's LaTeX grammar and by the small grammar below;
neither evaluates Python out of it, and an audit hook holds them to that: no source is compiled but SymPy's own for
reading one number, no process is started, no file written, no socket opened. A job that takes too long is ended by the
parent, or by the kernel's alarm should the parent be gone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

MEMORY_BYTES = 2 * 1024**3
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
_TOKEN = re.compile(r"\s*(?:(\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|([A-Za-z]+)|([-+*/^()|!]))")


class Unreadable(ValueError):
    """The text is not in the grammar."""


class Reader:
    """Recursive descent over plain notation: "2x^2 + sin(3x)/4", implicit products and function arguments included."""

    def __init__(self, text: str) -> None:
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


def read(text: str) -> Any:
    """`text` as a SymPy object: plain notation first, else LaTeX. Raises `Unreadable`."""
    if "\\" not in text:
        try:
            return Reader(text).read()
        except (Unreadable, ZeroDivisionError):
            if not re.search(r"[\[({<>=^_|]|[≤≥≠∪∩]", text):
                raise
    return read_latex(text)


def read_latex(text: str) -> Any:
    body = text.replace("$", "").replace("\n", " ").replace("≤", r"\le ").replace("≥", r"\ge ").replace("∪", r"\cup ")
    body = body.replace("∞", r"\infty ").replace("π", r"\pi ").replace("−", "-").replace("×", r"\times ")
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
            return item.xreplace({symbol: sympy.Symbol(symbol.name, real=True) for symbol in item.free_symbols})
    raise Unreadable(text)


def read_expression(text: str) -> Any:
    value = read(text)
    if isinstance(value, sympy.Eq):
        value = value.rhs
    if not isinstance(value, sympy.Expr):
        raise Unreadable(text)
    return value


def is_zero(expression: Any) -> bool | None:
    """Whether an expression vanishes identically, by precise values at generic points; None when none is defined."""
    symbols = sorted(expression.free_symbols, key=str)
    defined = 0
    for shift in range(8):
        point = {symbol: sympy.Rational(617 + 211 * shift + 97 * index, 509) for index, symbol in enumerate(symbols)}
        at = expression.subs(point)
        value = sympy.N(at, 30, maxn=400)
        if value.has(sympy.nan, sympy.zoo, sympy.oo) or not value.is_number:
            continue
        scale = max([abs(sympy.N(term, 15)) for term in sympy.Add.make_args(at)] + [sympy.Integer(1)])
        if abs(value) > scale * sympy.Rational(1, 10**18):
            return False
        defined += 1
        if defined == 4 or (not symbols and defined):
            return True
    return True if defined else None


def equal(a: str, b: str) -> bool:
    one, other = read(a), read(b)
    if isinstance(one, sympy.Expr) and isinstance(other, sympy.Expr):
        try:
            if one.has(sympy.Float) or other.has(sympy.Float):
                one, other = sympy.nsimplify(one, rational=True), sympy.nsimplify(other, rational=True)
            same = is_zero(one - other)
        except (TypeError, ValueError, AttributeError):
            same = None
        if same or (same is False and (one.free_symbols or other.free_symbols)):
            return same
    return bool(verify(one, other, timeout_seconds=None) or verify(other, one, timeout_seconds=None))


def equal_up_to_constant(a: str, b: str) -> bool:
    difference = read_expression(a) - read_expression(b)
    return all(is_zero(sympy.diff(difference, symbol)) is True for symbol in difference.free_symbols)


def antiderivative(integrand: str, answer: str, variable: str) -> bool | None:
    x = sympy.Symbol(variable, real=True)
    function = _with_variable(read_expression(integrand), x)
    found = _with_variable(read_expression(answer), x)
    return is_zero(sympy.diff(found, x) - function)


def derivative(function: str, answer: str, variable: str, order: int) -> bool | None:
    x = sympy.Symbol(variable, real=True)
    expected = sympy.diff(_with_variable(read_expression(function), x), x, order)
    return is_zero(expected - _with_variable(read_expression(answer), x))


def definite_integral(integrand: str, lower: str, upper: str, answer: str, variable: str) -> bool:
    x = sympy.Symbol(variable, real=True)
    function = _with_variable(read_expression(integrand), x)
    value = sympy.Integral(function, (x, read_expression(lower), read_expression(upper))).evalf(20)
    return _close(value, read_expression(answer), answer)


def solutions(left: str, right: str, variable: str, answers: list[str]) -> dict[str, Any]:
    """Which `answers` solve left = right, and a real solution that none of them is, where one is known."""
    x = sympy.Symbol(variable, real=True)
    difference = _with_variable(read_expression(left) - read_expression(right), x)
    if difference.free_symbols != {x}:
        raise Unreadable("not one unknown")
    values = [read_expression(answer) for answer in answers]
    if any(value.free_symbols for value in values):
        raise Unreadable("an answer is not a number")
    slope = sympy.diff(difference, x)
    holds = [_solves(difference, slope, x, value, text) for value, text in zip(values, answers, strict=True)]
    missing = None
    together = sympy.fraction(sympy.together(difference))[0]
    if together.is_polynomial(x) and sympy.degree(together, x) <= 8:
        roots = [root for root in set(sympy.Poly(together, x).nroots(n=20)) if abs(sympy.im(root)) < 1e-9]
        for root in roots:
            near = [value for value, text in zip(values, answers, strict=True) if _close(sympy.re(root), value, text)]
            if not near:
                missing = sympy.sstr(sympy.nsimplify(sympy.re(root), rational=True, tolerance=1e-9).evalf(6))
    return {"holds": holds, "missing": missing}


def _solves(difference: Any, slope: Any, x: Any, value: Any, text: str) -> bool:
    residual = sympy.N(difference.subs(x, value), 30, maxn=400)
    if residual.has(sympy.nan, sympy.zoo, sympy.oo):
        return False
    if abs(residual) < sympy.Rational(1, 10**15):
        return True
    places = _places(text)
    if places < 2:
        return False
    # A rounded solution: the exact one lies within the rounding, by Newton's step.
    steepness = abs(sympy.N(slope.subs(x, value), 15))
    return bool(steepness > 0 and abs(residual) / steepness <= sympy.Rational(6, 10 ** (places + 1)))


def _close(exact: Any, value: Any, text: str) -> bool:
    distance = abs(sympy.N(exact - value, 20))
    if distance <= sympy.Rational(1, 10**9) * max(sympy.Integer(1), abs(sympy.N(exact, 15))):
        return True
    places = _places(text)
    return bool(places >= 2 and distance <= sympy.Rational(6, 10 ** (places + 1)))


def _places(text: str) -> int:
    """Decimal places as written; 0 when the text is no plain decimal."""
    match = re.fullmatch(r"\s*[-+−]?\d*\.(\d+)\s*", text)
    return len(match.group(1)) if match else 0


def _with_variable(expression: Any, x: Any) -> Any:
    """`expression` with its symbol of x's name as x; of x's letter in the other case where x itself is absent."""
    names = {symbol.name for symbol in expression.free_symbols}
    renamed: dict[Any, Any] = {}
    for symbol in expression.free_symbols:
        same = symbol.name == x.name or (symbol.name.lower() == x.name.lower() and x.name not in names)
        renamed[symbol] = x if same else symbol
    return expression.subs(renamed)


OPERATIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (equal, equal_up_to_constant, antiderivative, derivative, definite_integral, solutions)
}

_NUMBER_SOURCE = re.compile(r"\s*(?:Integer|Float|Rational) \('?[\d.eE+-]+'? ?\)\s*")
_DENIED = frozenset(
    ["compile", "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
     "socket.__new__", "socket.connect", "socket.bind", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod",
     "os.link", "os.symlink", "shutil.rmtree", "ctypes.dlopen", "os.truncate", "code.__new__"]
)  # fmt: skip


def _number_source(source: bytes | str) -> bool:
    """Whether source is what SymPy itself compiles to read one number: its import line, or "Integer (3 )"."""
    text = source.decode("utf-8", "replace") if isinstance(source, bytes) else source
    return text == "from sympy import *" or _NUMBER_SOURCE.fullmatch(text) is not None


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no source is compiled (an imported file's aside), nothing is started, written or connected."""
    if event not in _DENIED and event != "open":
        return
    if event == "compile":
        source, name = arguments
        imported = isinstance(name, str) and not name.startswith("<")
        if imported or (isinstance(source, bytes | str) and _number_source(source)):
            return
    if event == "open" and not (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
        return
    raise PermissionError(f"{event} is refused here")


def limit_resources() -> None:
    try:
        import resource
    except ImportError:  # Windows has none of these limits; the parent's deadline holds there too.
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def warm_up() -> None:
    """Runs one job of each kind, so that every lazy import is done before the hook stands."""
    equal(r"\frac{1}{2}\sin(x)", "sin(x)/2")
    equal(r"\{1, 2\}", r"\{2, 1\}")
    equal("[0, 1)", r"[0, 1) \cup \{2\}")
    equal("x < 3", "3 > x")
    equal("sqrt(2)/2", "1/sqrt(2)")
    antiderivative("x^2", "x^3/3 + C", "x")
    definite_integral("x", "0", "1", "1/2", "x")
    solutions("x^2", "4", "x", ["2", "-2"])


def main() -> None:
    """Serve jobs until standard input closes."""
    logging.disable(logging.CRITICAL)
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.close(quiet)
    sys.setrecursionlimit(3000)
    limit_resources()
    warm_up()
    sys.addaudithook(refuse)
    results.write("ready\n")
    results.flush()
    for line in sys.stdin:
        job = json.loads(line)
        if hasattr(signal, "alarm"):
            signal.alarm(int(job["seconds"]) + 2)
        try:
            answer = {"result": OPERATIONS[job["operation"]](**job["arguments"])}
        except Exception as error:
            answer = {"result": None, "error": f"{type(error).__name__}: {error}"[:200]}
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        results.write(json.dumps(answer) + "\n")
        results.flush()


if __name__ == "__main__":
    main()
