"""Reads out of a query the tests and examples that a program must hold.

An example that can't be read to its end is none: "gives 5 instead of 4", "cube(10) = 1,000", "is_prime(n) returns True
if …". In a report of a fault what a program gives is what is wrong with it: there only tests count, and what it
"should" give.
"""

from __future__ import annotations

import ast
import builtins
import re
import threading
import warnings
from dataclasses import dataclass
from typing import Literal

MAX_EXAMPLES = 20
# The warning filters are the process's: one parse at a time may change them.
_PARSING = threading.Lock()

Kind = Literal["exact", "stated", "printed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallExample:
    """Evaluating `expression` in the program's namespace must give `expected`, a Python literal's value.

    `kind` says how it was given: as a test or session ("exact"), in words, where a float may be rounded ("stated"), or
    as output, which a text or a function that prints may give as well ("printed").
    """

    expression: str
    expected: object
    kind: Kind = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputExample:
    """Given `stdin`, the program must print `stdout`."""

    stdin: str
    stdout: str


_COMPLAINT = re.compile(
    r"\b(?:bugs?|buggy|fix(?:es|ing)?|broken|wrong(?:ly)?|incorrect(?:ly)?|instead of|currently|debug\w*|"
    r"unexpected(?:ly)?|mistakes?|but (?:it|i|we)|(?:i|we|i'm|i am|keeps?) (?:get|got|getting)|doesn't|"
    r"does not work|not working|isn't|fails|failing|why|actual(?:ly)?|so far|right now|at the moment)\b",
    re.IGNORECASE,
)
_ASKS_FOR_PROGRAM = re.compile(
    r"\b(?:functions?|programs?|methods?|scripts?|class(?:es)?|code|python|def|implement\w*|lambda|algorithm|write)\b",
    re.I,
)
_ASKS_FOR_VALUE = re.compile(
    r"\?|\b(?:what|find|compute|calculate|determine|evaluate|solve|how|suppose|let|if|given)\b", re.IGNORECASE
)
_CONNECTOR = re.compile(
    r"`?[ \t]*(?P<how>==|=|->|→|=>|⇒|➞|#[ \t]*(?:->|=>|returns)?|"
    r"(?:should |must |has to |needs to )?(?:returns?|gives?|be|equals?|outputs?|prints?)|is)[ \t]*:?[ \t]*`?",
    re.IGNORECASE,
)
_NEXT = r"(?:[,;.]?\s*(?:and|or|while|then|also)?[ \t]*(?=[`*(]*(?:{names})\())"


def call_examples(question: str, program: str) -> list[CallExample]:
    """The examples in `question` that call a function or class which `program` defines.

    Forms: `assert f(2) == 4`, `f(2) = 4`, `f(2) -> 4`, "f(2) returns 4", ">>> f(2)" with 4 below, and "Input: nums =
    [2, 7], target = 9 / Output: [0, 1]" for a program of one function.
    """
    names = _defined(program)
    found: dict[tuple[str, str], CallExample] = {}
    for example in [
        *_assertions(question, names),
        *_stated_calls(question, names),
        *_labelled_calls(question, program),
    ]:
        found.setdefault((example.expression, repr(example.expected)), example)
    return list(found.values())[:MAX_EXAMPLES]


def unread_tests(question: str, program: str) -> bool:
    """Whether `question` has asserts on what `program` defines that can't be run by themselves."""
    names = _defined(program)
    tests: list[str] = re.findall(r"^[ \t`>*-]*assert\b.*$", question, re.MULTILINE)
    about = [test for test in tests if any(re.search(rf"\b{re.escape(name)}\(", test) for name in names)]
    return len(_assertions(question, names)) < len(about)


def input_examples(question: str) -> list[InputExample]:
    """Pairs of "Input:" and "Output:" in `question`, as standard input and output."""
    output = r"(?:sample |example )?(?P<wanted>expected )?output"
    pattern = (
        r"(?:^|\n)[ \t*#>]{0,8}(?:sample |example )?input[^:\n]{0,20}:[ \t*`]{0,8}\n?(?P<input>.{1,1000}?)"
        rf"(?:\n|[,;/|→])[ \t*#>`]{{0,8}}{output}[^:\n]{{0,20}}:[ \t*`]*\n?(?P<output>.*?)"
        r"(?=\n[ \t]*\n|\n[ \t*#>]*"
        r"(?:(?:sample |example )?input|explanation|example|note|constraints|actual|expected)\b|\Z)"
    )
    complaint = _COMPLAINT.search(question) is not None
    found: list[InputExample] = []
    for match in re.finditer(pattern, question, re.IGNORECASE | re.DOTALL):
        given, printed = (re.sub(r"^`+\w*\n?|\n?`+$", "", match[name].strip()).strip() for name in ("input", "output"))
        if complaint and not match["wanted"]:
            continue
        if given and printed and not re.search(r"\b(?:a list|an integer|a string|the )\b|\.\.\.|…", given + printed):
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
        if not _stands_alone(test, names):
            continue
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
            literal, ok = as_literal(ast.unparse(test.comparators[0]))
            if ok:
                found.append(CallExample(expression=ast.unparse(test.left), expected=literal))
                continue
        found.append(CallExample(expression=f"bool({ast.unparse(test)})", expected=True))
    return found


def _stated_calls(question: str, names: frozenset[str]) -> list[CallExample]:
    if not names or (_ASKS_FOR_VALUE.search(question) and not _ASKS_FOR_PROGRAM.search(question)):
        return []  # "If f(1) = 2 and f(2) = 5, what is f(3)?": f is the question's, not the program's
    either = "|".join(re.escape(name) for name in sorted(names))
    if re.search(
        rf"\b(?:what(?:'s| is| does)|find|compute|calculate|evaluate|value of)\s+`?(?:{either})\(", question, re.I
    ):
        return []
    complaint = _COMPLAINT.search(question) is not None
    found: list[CallExample] = []
    for match in re.finditer(rf"(?<![\w.])(?:>>>\s*)?(?P<print>print\()?(?P<call>(?:{either})\()", question):
        end = _call_end(question, match.end())
        if end is None or not _begins_afresh(question, match.start()):
            continue
        call, rest = question[match.start("call") : end], question[end:]
        if match["print"]:
            if not rest.startswith(")"):
                continue
            rest = rest[1:]
        kind: Kind = "printed" if match["print"] else "stated"
        wanted = False
        if match.group().startswith(">>>"):
            below = re.match(r"[ \t]*\n([^\n]+)", rest)
            literal, ok = as_literal(below[1].strip().strip("`").strip()) if below else (None, False)
            kind = "printed" if match["print"] else "exact"
        else:
            joined = _CONNECTOR.match(rest)
            if joined is None:
                continue
            how = joined["how"].lower()
            wanted = how.startswith(("should", "must", "has", "needs"))
            if re.search(r"output|print", how):
                kind = "printed"
            following = re.split(_NEXT.format(names=either), rest[joined.end() :].split("\n", 1)[0], maxsplit=1)[0]
            literal, ok = _literal_to_the_end(following, wanted=wanted)
        expression = _expression(call)
        if ok and expression is not None and _stands_alone(expression, names) and (wanted or not complaint):
            found.append(CallExample(expression=call, expected=literal, kind=kind))
    return found


def _begins_afresh(question: str, place: int) -> bool:
    """Whether the call at `place` is no operand of a longer expression, nor a definition or an assert."""
    before = question[:place].rpartition("\n")[2]
    if re.search(r"(?:\bassert|\bdef|\bnot|\bclass|\breturn|[+*/%=<>^&|~]|\w\s*-)\s*$", before):
        return re.fullmatch(r"\s*[*>]+\s*", before) is not None  # a list's or a quotation's mark
    return not re.search(r"\w\($", before)


def _literal_to_the_end(text: str, *, wanted: bool) -> tuple[object, bool]:
    """The Python literal that `text` begins with, if nothing that follows it can take anything back."""
    after = (
        r"(?:\s+(?:#|//|because|since|as)\b.*|[,;]?\s*(?:but|not|instead|rather)\b.*|\.\s+.*)?$"
        if wanted
        else (r"(?:\s+(?:because|since|as)\b.*|\s+(?:#|//)\s*(?!true|false|none|-?\d).*|[.;]\s+.*)?$")
    )
    for match in re.finditer(r"$|(?=[\s.,;:!)`*])", text):
        head, tail = text[: match.start()].strip(), text[match.start() :]
        value, ok = as_literal(head)
        # "f(2) = 1, 2" may be a pair or two values, "1,000" is neither.
        if not ok or (isinstance(value, tuple) and not head.startswith("(")):
            continue
        if re.match(rf"[`*)]*(?:[.,;:!](?=\s|$)|[.!]?)[`*)]*{after}", tail, re.IGNORECASE):
            return value, True
    return None, False


def _labelled_calls(question: str, program: str) -> list[CallExample]:
    """ "Input: nums = [2, 7], target = 9" for a program that defines one public function."""
    tree = _module(program)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)] if tree else []
    public = [function for function in functions if not function.name.startswith("_") and function.name != "main"]
    if len(public) != 1:
        return []
    parameters = [argument.arg for argument in public[0].args.args]
    found: list[CallExample] = []
    for example in input_examples(question):
        expected, ok = as_literal(example.stdout.strip("`* ."))
        arguments = _named_literals(example.stdin)
        if not ok or arguments is None or len(arguments) != len(parameters):
            continue
        by_name = {name for name, _ in arguments} == set(parameters)
        given = ", ".join(f"{name}={value!r}" if by_name else repr(value) for name, value in arguments)
        found.append(CallExample(expression=f"{public[0].name}({given})", expected=expected, kind="printed"))
    return found


def _named_literals(text: str) -> list[tuple[str, object]] | None:
    call = _expression(f"f({text.strip()})")
    if not isinstance(call, ast.Call) or call.args or not call.keywords:
        return None
    values = [(keyword.arg or "", *_value(keyword.value)) for keyword in call.keywords]
    return [(name, value) for name, value, _ in values] if all(ok for _, _, ok in values) else None


def as_literal(text: str) -> tuple[object, bool]:
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


def _stands_alone(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether all that an expression refers to is there: the program's names, and built-in functions that it calls."""
    called = {id(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)}
    bound = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    bound |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return all(
        each.id in names or each.id in bound or (id(each) in called and hasattr(builtins, each.id))
        for each in ast.walk(node)
        if isinstance(each, ast.Name)
    )


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
