"""The slips that small models make in programs, mended by rule: what Python says is wrong names the mend.

A mend never computes an answer: it makes the program say what it plainly meant (numbers in quotes are compared as
numbers, a name is written as it was defined), and it is only tried on a program that failed. What was done stands in
a comment above the program, so whoever reads or is shown the program sees it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

MENDED = "# Mended: "
MOST_MENDS = 3
"""Mends of one program, each after a run that failed for another reason."""

_SUM = re.compile(r"[-+*/%().\d\s]+")
_UNORDERED = re.compile(r"TypeError: '[<>]=?' not supported between instances of '(?:str|int|float)' and '\w+'")
_NOT_WHOLE = re.compile(r"ValueError: invalid literal for int\(\) with base 10: '\s*[-+]?\d*\.\d+\s*'")
_NOT_TEXT = re.compile(r"TypeError: sequence item \d+: expected str instance, (?:int|float) found")
_NO_NAME = re.compile(r"NameError: name '(?P<name>\w+)' is not defined")
_AS_NUMBER = """
def number_(value):
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
"""


@dataclass(frozen=True, slots=True)
class _Mend:
    """`fails` tells by the failure whether this mend is for it; `rewrite` returns None where there is nothing to do."""

    note: str
    fails: re.Pattern[str]
    rewrite: Callable[[ast.Module, re.Match[str]], ast.Module | None]


def mended(program: str, failure: str) -> str | None:
    """`program` without the slip that `failure` (what Python said of it) names; None where no mend is known for it."""
    if "no valid Python" in failure:
        return _with_sums_printed(program)
    for mend in _MENDS:
        found = mend.fails.search(failure)
        if found is None or f"{MENDED}{mend.note}" in program:
            continue
        try:
            tree = mend.rewrite(ast.parse(program), found)
            source = None if tree is None else ast.unparse(ast.fix_missing_locations(tree))
        except RecursionError:
            # Nested too deep to be walked; Python ran it all the same.
            return None
        if source is not None:
            notes = [line for line in program.splitlines() if line.startswith(MENDED)]
            return "\n".join([*notes, f"{MENDED}{mend.note}", source])
    return None


def _with_sums_printed(program: str) -> str | None:
    """Lines such as "12 + 30 =" or "12 + 30 = 41" are calculated; the last is printed where nothing else is."""
    lines = program.splitlines()
    sums = {at: left for at, line in enumerate(lines) if (left := _sum_in(line)) is not None}
    if not sums:
        return None
    for at, left in sums.items():
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        lines[at] = f"{indent}print({left})" if at == max(sums) and "print(" not in program else f"{indent}{left}"
    return "\n".join([f"{MENDED}sums that were written down are calculated", *lines])


def _sum_in(line: str) -> str | None:
    """What stands left of the sign in a line that states what a sum of numbers is."""
    left, sign, _ = line.partition("=")
    left = left.strip()
    if not sign or not _SUM.fullmatch(left):
        return None
    try:
        value = ast.parse(left, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return left if isinstance(value, ast.BinOp) else None


class _ByValue(ast.NodeTransformer):
    """Ordering comparisons by value: a text that spells a number counts as that number."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if all(isinstance(one, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for one in node.ops):
            node.left = _call("number_", node.left)
            node.comparators = [_call("number_", one) for one in node.comparators]
        return node


class _JoiningTexts(ast.NodeTransformer):
    """`separator.join(items)` with the items as texts."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "join" and len(node.args) == 1:
            node.args = [_call("map", ast.Name(id="str", ctx=ast.Load()), node.args[0])]
        return node


class _Renamed(ast.NodeTransformer):
    """Names in place of others, wherever they stand."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(id=self._names.get(node.id, node.id), ctx=node.ctx)


def _compare_by_value(tree: ast.Module, _: re.Match[str]) -> ast.Module:
    changed = _ByValue().visit(tree)
    changed.body[:0] = ast.parse(_AS_NUMBER).body
    return changed


def _known_names(tree: ast.Module, found: re.Match[str]) -> ast.Module | None:
    """Every name that nothing defines becomes the only defined one that differs in nothing but capitals and "_"."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    defined = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    defined |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    meant: dict[str, str] = {}
    for name in {node.id for node in names} - defined:
        like = [one for one in defined if _plain(one) == _plain(name)]
        if len(like) == 1:
            meant[name] = like[0]
    return _Renamed(meant).visit(tree) if found["name"] in meant else None


_MENDS = (
    _Mend("numbers in quotes are compared by their value", _UNORDERED, _compare_by_value),
    _Mend("int(…) of a decimal is float(…)", _NOT_WHOLE, lambda tree, _: _Renamed({"int": "float"}).visit(tree)),
    _Mend("what is joined is made text", _NOT_TEXT, lambda tree, _: _JoiningTexts().visit(tree)),
    _Mend("a name is written as it was defined", _NO_NAME, _known_names),
)


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name(id=name, ctx=ast.Load()), args=[*arguments], keywords=[])
