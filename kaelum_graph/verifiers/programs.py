"""Runs a candidate's program on the tests and examples that the query itself holds."""

from __future__ import annotations

import ast
import json
import re
import secrets
import threading
import warnings
from dataclasses import dataclass
from fractions import Fraction

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.votes import shortened, unscored, vote

MAX_EXAMPLES = 20
# The warning filters are the process's: one parse at a time may change them.
_PARSING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallExample:
    """Evaluating `expression` in the program's namespace must give `expected`, a Python literal's value."""

    expression: str
    expected: object


@dataclass(frozen=True, slots=True, kw_only=True)
class InputExample:
    """Given `stdin`, the program must print `stdout`."""

    stdin: str
    stdout: str


@register
class ProgramVerifier(Verifier):
    """Tier E by the query's own examples alone: a program that runs is not thereby right. A crash is a fail in X."""

    name = "program"
    tier = Tier.EXECUTION

    def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
        if not candidate.program:
            return unscored(self, "no program")
        calls = call_examples(query.text, candidate.program)
        if calls:
            return self._run_calls(calls, candidate.program, sandbox)
        inputs = input_examples(query.text)
        if inputs:
            return self._run_inputs(inputs, candidate.program, sandbox)
        if candidate.error:
            return vote(
                self, "fail", f"the program failed: {shortened(candidate.error, limit=200)}", tier=Tier.CROSS_CHANNEL
            )
        if candidate.observation is not None and not candidate.observation.strip():
            return vote(self, "fail", "the program printed nothing", tier=Tier.CROSS_CHANNEL)
        return unscored(self, "the query holds no test or example to run")

    def _run_calls(self, examples: list[CallExample], program: str, sandbox: Sandbox) -> Evidence:
        # What is expected never enters the sandbox: a program can't report success, it has to come to the values.
        mark = secrets.token_hex(16)
        result = sandbox.run(_harness(program, [example.expression for example in examples], mark))
        line = next((line for line in reversed(result.stdout.splitlines()) if line.startswith(mark)), None)
        if line is None:
            reason = result.failure or "the program ended before its tests"
            return vote(self, "fail", f"the program failed: {shortened(reason, limit=200)}")
        outcomes: list[dict[str, str]] = json.loads(line.removeprefix(mark))
        for example, outcome in zip(examples, outcomes, strict=True):
            if "error" in outcome:
                return vote(
                    self, "fail", f"{shortened(example.expression)} raised {shortened(outcome['error'], limit=120)}"
                )
            if not _same(outcome["value"], example.expected):
                got = shortened(outcome["value"])
                return vote(
                    self, "fail", f"{shortened(example.expression)} gave {got}, not {shortened(repr(example.expected))}"
                )
        return vote(self, "pass", f"{len(examples)} of {len(examples)} of the query's examples hold")

    def _run_inputs(self, examples: list[InputExample], program: str, sandbox: Sandbox) -> Evidence:
        for example in examples:
            result = sandbox.run(program, stdin=example.stdin + "\n")
            if not result.ok:
                return vote(self, "fail", f"on the input '{shortened(example.stdin)}': {result.failure}")
            if _words(result.stdout) != _words(example.stdout):
                printed = shortened(result.stdout) or "nothing"
                return vote(
                    self,
                    "fail",
                    f"on the input '{shortened(example.stdin)}' it printed {printed}, not {shortened(example.stdout)}",
                )
        return vote(self, "pass", f"{len(examples)} of {len(examples)} of the query's examples hold")


def call_examples(question: str, program: str) -> list[CallExample]:
    """The examples in `question` that call a function or class which `program` defines.

    Forms: `assert f(2) == 4`, `f(2) = 4`, `f(2) -> 4`, "f(2) returns 4", ">>> f(2)" with 4 below, and "Input: nums =
    [2, 7], target = 9 / Output: [0, 1]" for a program of one function.
    """
    names = _defined(program)
    found: list[CallExample] = []
    for example in [
        *_assertions(question, names),
        *_stated_calls(question, names),
        *_labelled_calls(question, program),
    ]:
        if example not in found:
            found.append(example)
    return found[:MAX_EXAMPLES]


def input_examples(question: str) -> list[InputExample]:
    """Pairs of "Input:" and "Output:" in `question`, as standard input and output."""
    pattern = (
        r"(?:^|\n)[ \t*#>]{0,8}(?:sample |example )?input[^:\n]{0,20}:[ \t*`]{0,8}\n?(?P<input>.{1,1000}?)"
        r"\s[ \t*#>`]{0,8}(?:sample |example |expected )?output[^:\n]{0,20}:[ \t*`]*\n?(?P<output>.*?)"
        r"(?=\n[ \t]*\n|\n[ \t*#>]*(?:(?:sample |example )?input|explanation|example|note|constraints)\b|\Z)"
    )
    found: list[InputExample] = []
    for match in re.finditer(pattern, question, re.IGNORECASE | re.DOTALL):
        given, printed = (re.sub(r"^`+\w*\n?|\n?`+$", "", match[name].strip()).strip() for name in ("input", "output"))
        if given and printed and not re.search(r"\b(?:a list|an integer|a string|the )\b", given + printed):
            found.append(InputExample(stdin=given, stdout=printed))
    return found[:MAX_EXAMPLES]


def _defined(program: str) -> frozenset[str]:
    tree = _module(program)
    if tree is None:
        # A program that doesn't parse still has the names it meant to define: its examples then fail.
        return frozenset(re.findall(r"^(?:async def|def|class) (\w+)", program, re.MULTILINE))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))


def _assertions(question: str, names: frozenset[str]) -> list[CallExample]:
    found: list[CallExample] = []
    for match in re.finditer(r"^[ \t`>*-]*assert\s+(.+?)[`\s]*$", question, re.MULTILINE):
        tree = _module(f"assert {match[1]}")
        statement = tree.body[0] if tree else None
        if not isinstance(statement, ast.Assert) or not _names(statement.test) & names:
            continue
        test = statement.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
            literal, ok = _literal(ast.unparse(test.comparators[0]))
            if ok:
                found.append(CallExample(expression=ast.unparse(test.left), expected=literal))
                continue
        found.append(CallExample(expression=f"bool({ast.unparse(test)})", expected=True))
    return found


def _stated_calls(question: str, names: frozenset[str]) -> list[CallExample]:
    found: list[CallExample] = []
    connector = re.compile(
        r"`?\s*(?:==|=|->|→|=>|⇒|➞|#\s*(?:->|=>|returns)?|(?:should |must )?(?:returns?|gives?|be|equals?|outputs?)|is)"
        r"\s*:?\s*`?"
    )
    for name in names:
        for match in re.finditer(rf"(?<![\w.])(?:>>>\s*)?(?:print\()?({re.escape(name)}\()", question):
            end = _call_end(question, match.end(1))
            if end is None:
                continue
            call, rest = question[match.start(1) : end], question[end:]
            if "print(" in match.group():
                rest = rest.removeprefix(")")
            if match.group().startswith(">>>"):
                below = re.match(r"[ \t]*\n([^\n]+)", rest)
                expected = below.group(1) if below else ""
            else:
                joined = connector.match(rest)
                before = question[max(0, match.start() - 8) : match.start()]
                if joined is None or re.search(r"(?:assert|def)\s*$", before):
                    continue
                expected = rest[joined.end() :].split("\n", 1)[0]
            literal, ok = _leading_literal(expected)
            if ok and _expression(call) is not None:
                found.append(CallExample(expression=call, expected=literal))
    return found


def _labelled_calls(question: str, program: str) -> list[CallExample]:
    """ "Input: nums = [2, 7], target = 9" for a program that defines one public function."""
    tree = _module(program)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)] if tree else []
    public = [function for function in functions if not function.name.startswith("_") and function.name != "main"]
    if len(public) != 1:
        return []
    found: list[CallExample] = []
    for example in input_examples(question):
        expected, ok = _leading_literal(example.stdout)
        arguments = _named_literals(example.stdin)
        if ok and arguments is not None and len(arguments) == len(public[0].args.args):
            call = f"{public[0].name}({', '.join(repr(value) for _, value in arguments)})"
            found.append(CallExample(expression=call, expected=expected))
    return found


def _named_literals(text: str) -> list[tuple[str, object]] | None:
    call = _expression(f"f({text.strip()})")
    if not isinstance(call, ast.Call) or call.args or not call.keywords:
        return None
    values = [(keyword.arg or "", *_value(keyword.value)) for keyword in call.keywords]
    return [(name, value) for name, value, _ in values] if all(ok for _, _, ok in values) else None


def _leading_literal(text: str) -> tuple[object, bool]:
    """The longest Python literal that `text` begins with."""
    text = re.split(r"\s+(?:#|//|because|since|and|where|but)\b|`|\*\*", text.strip())[0].strip()
    for cut in [
        text,
        text.rstrip(".,;:!"),
        *(text[: match.start()] for match in reversed(list(re.finditer(r"[.,;\s]", text)))),
    ]:
        value, ok = _literal(cut.strip())
        if ok:
            return value, True
    return None, False


def _literal(text: str) -> tuple[object, bool]:
    """The value of a Python literal, and whether `text` is one; "true", "false" and "null" are taken too."""
    if not text or len(text) > 2000:
        return None, False
    node = _expression({"true": "True", "false": "False", "null": "None"}.get(text, text))
    return _value(node) if node is not None else (None, False)


def _value(node: ast.expr) -> tuple[object, bool]:
    try:
        return ast.literal_eval(node), True
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None, False


def _module(text: str) -> ast.Module | None:
    """The syntax tree of a program, None when it has none. Warnings about a model's program are not the user's."""
    try:
        with _PARSING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _expression(text: str) -> ast.expr | None:
    tree = _module(text.strip())
    body = tree.body if tree else []
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _call_end(text: str, start: int) -> int | None:
    """Index after the parenthesis that closes the one before `start`, quotes respected; None within 500 characters."""
    depth, quote = 1, ""
    for index in range(start, min(len(text), start + 500)):
        character = text[index]
        if quote:
            quote = "" if character == quote and text[index - 1] != "\\" else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
            if depth == 0:
                return index + 1
    return None


def _harness(program: str, expressions: list[str], mark: str) -> str:
    """A program that runs `program`, evaluates each expression in its namespace and prints the representations."""
    return (
        "import json as _json, sys as _sys\n"
        "_space = {'__name__': 'candidate'}\n"
        "_failure = None\n"
        "try:\n"
        f"    exec(compile({program!r}, 'program', 'exec'), _space)\n"
        "except BaseException as _error:\n"
        "    _failure = f'{type(_error).__name__}: {_error}'\n"
        "_outcomes = []\n"
        f"for _expression in {expressions!r}:\n"
        "    try:\n"
        "        _outcomes.append({'value': repr(eval(_expression, _space))[:2000]})\n"
        "    except BaseException as _error:\n"
        "        _outcomes.append({'error': _failure or f'{type(_error).__name__}: {_error}'})\n"
        "_sys.stdout.flush()\n"
        f"_sys.stdout.write('\\n' + {mark!r} + _json.dumps(_outcomes) + '\\n')\n"
    )


def _same(representation: str, expected: object) -> bool:
    value, ok = _literal(representation)
    if not ok:
        return representation == repr(expected)
    return _equal_values(value, expected)


def _equal_values(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        if isinstance(one, int) and isinstance(other, int):
            return one == other
        try:
            distance = abs(Fraction(one) - Fraction(other))
        except (OverflowError, ValueError):
            return one == other
        return distance <= max(abs(Fraction(one)), abs(Fraction(other)), 1) / 10**6
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal_values, one, other))
    return one == other


def _words(text: str) -> list[str]:
    return text.split()
