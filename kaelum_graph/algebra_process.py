"""The child process that does symbolic mathematics on untrusted text.

Run as a module by `kaelum_graph.algebra`, never imported by the engine: it reads one JSON job a line from standard
input and writes one JSON result a line. An audit hook holds the readers to evaluating no Python: no source is compiled
but SymPy's own for reading one number, no process is started, no file written, no socket opened. A job that takes too
long is ended by the parent, or by the kernel's alarm should the parent be gone.
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
from math_verify import verify

from kaelum_graph.algebra_notation import Unreadable, read, read_expression

MEMORY_BYTES = 2 * 1024**3


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
    function = _with_variable(read_expression(integrand, variable), x)
    found = _with_variable(read_expression(answer, variable), x)
    return is_zero(sympy.diff(found, x) - function)


def derivative(function: str, answer: str, variable: str, order: int) -> bool | None:
    x = sympy.Symbol(variable, real=True)
    expected = sympy.diff(_with_variable(read_expression(function, variable), x), x, order)
    return is_zero(expected - _with_variable(read_expression(answer, variable), x))


def definite_integral(integrand: str, lower: str, upper: str, answer: str, variable: str) -> bool:
    x = sympy.Symbol(variable, real=True)
    function = _with_variable(read_expression(integrand, variable), x)
    value = sympy.Integral(function, (x, read_expression(lower), read_expression(upper))).evalf(20)
    found = read_expression(answer)
    return not found.free_symbols and _close(value, found, answer)


def solutions(left: str, right: str, variable: str, answers: list[str]) -> dict[str, Any]:
    """Which `answers` solve left = right, and a real solution that none of them is, where one is known."""
    x = sympy.Symbol(variable, real=True)
    difference = _with_variable(read_expression(left, variable) - read_expression(right, variable), x)
    if difference.free_symbols != {x}:
        raise Unreadable("not one unknown")
    values = [read_expression(answer) for answer in answers]
    if any(value.free_symbols for value in values):
        raise Unreadable("an answer is not a number")
    slope = sympy.diff(difference, x)
    holds = [_solves(difference, slope, x, value, text) for value, text in zip(values, answers, strict=True)]
    missing = None
    together = sympy.fraction(sympy.together(difference))[0]
    if together.is_polynomial(x) and sympy.Poly(together, x).degree() <= 8:
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
