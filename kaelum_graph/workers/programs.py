"""Running the program in a rollout and reading the answer out of what it prints."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap

from kaelum_graph.answers import answer_line, clean, code_blocks, result_line
from kaelum_graph.durations import asked_form, in_asked_form
from kaelum_graph.errors import SandboxError
from kaelum_graph.sandbox.base import ProgramResult, Sandbox
from kaelum_graph.types import Query
from kaelum_graph.workers.base import Conclusion
from kaelum_graph.workers.mending import MOST_MENDS, mended

NO_PROGRAM = "No program was written: put one complete Python program in a ```python block."
NO_OUTPUT = "The program printed nothing: compute the answer from the data of the question and print it."
READS_INPUT = "The program reads input, but there is none: write the data of the question into the program itself."

_NUMBER = r"[-+−]?\d[\d,]*(?:\.\d+)?%?"
_NAMED_VALUE = re.compile(
    rf"[A-Za-z][\w \"'’()\[\],.-]{{0,120}}?\s*(?:[:=]|\b(?:is|are|was|equals|becomes))\s*"
    rf"(?P<value>{_NUMBER}|\[[^\[\]]*\]|\([^()]*\)|\"[^\"]*\"|'[^']*'|True|False|[Yy]es|[Nn]o)\s*[.!]?"
)
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|old|far)\b|\bcount\b|\bnumber of\b"
    r"|\bwhat is the (?:sum|total|product|difference|result)\b",
    re.IGNORECASE,
)
_ASKS_ONE_VALUE = re.compile(
    r"\b(?:how (?:many|much|long|old|far|often)|what(?: is| was| are|'s)|which|who|when|where|whose|is it|does|find|"
    r"calculate|compute|determine|count)\b",
    re.IGNORECASE,
)
_GIVEN_LIST = re.compile(r"\[[^\[\]]*\]")
_ASKS_COMMAS = re.compile(r"\bcomma[- ]separated\b|\bseparated by (?:a )?commas?\b", re.IGNORECASE)
_ASKS_LIST = re.compile(r"\b(?:return|give|print|write|output|answer)\b[^.?!\n]{0,40}\b(?:list|array)\b", re.IGNORECASE)
_CODE_LINE = re.compile(
    r"^(?:import |from \w+ import |def |class |for |while |if |print\(|@\w+"
    r"|[A-Za-z_][\w, ]*(?:\[[^\]]*\])?\s*[-+*/]?=[^=])"
)

_CODE_SIGN = re.compile(r"[\w\])]\(|[=\[\]{}\\]|^(?:else|try|return|pass|elif|except)\b|:$")


def run_program(query: Query, text: str, sandbox: Sandbox) -> Conclusion:
    """Run the program in `text`; the answer is what it prints, without words around it.

    A program that prints nothing is run once more, printing its last value, where it is plain which that is; one that
    fails by a small slip, without it (`mending.py`).
    """
    program = program_in(text)
    if program is None:
        return Conclusion(answer=None, error=NO_PROGRAM)
    try:
        program, result, error = _run(program, sandbox)
        if result is not None and result.ok and not result.stdout.strip():
            ending = printing(program)
            if ending is not None:
                program, result = ending, sandbox.run(ending)
                error = None if result.ok else failed(result)
    except SandboxError as refused:
        # Nothing is wrong with the program, and what the turn says in words may still count.
        return Conclusion(answer=None, error=str(refused))
    if result is None or error is not None:
        return Conclusion(answer=None, program=program, observation=(result and result.stdout) or None, error=error)
    answer = printed_answer(query.text, result.stdout)
    if not answer:
        return Conclusion(answer=None, program=program, observation=result.stdout, error=NO_OUTPUT)
    return Conclusion(answer=answer, program=program, observation=result.stdout)


def _run(program: str, sandbox: Sandbox) -> tuple[str, ProgramResult | None, str | None]:
    """The program that ran, what came of it (None: it can't be run) and what is wrong.

    One that fails by a slip that can be mended is run once more without it; where that doesn't help, the program as it
    was written and its own failure count.
    """
    first: tuple[str, ProgramResult | None, str | None] | None = None
    for _ in range(1 + MOST_MENDS):
        result = None
        if (broken := syntax_error(program)) is not None:
            error = f"The program is no valid Python: {broken}."
        elif reads_input(program):
            error = READS_INPUT
        else:
            result = sandbox.run(program)
            error = None if result.ok else failed(result)
        if error is None:
            return program, result, None
        first = first or (program, result, error)
        without = mended(program, error)
        if without is None:
            break
        program = without
    assert first is not None
    return first


def failed(result: ProgramResult) -> str:
    """Why a program did not end well, for the model that wrote it."""
    reason = (result.failure or "it did not end well").rstrip(".")
    return READS_INPUT if "EOFError" in reason else f"The program failed: {reason}."


def program_in(text: str) -> str | None:
    """The program that a turn comes to; None when it has none.

    That is the last block when it stands on its own, and all blocks joined when it uses what earlier ones define. A
    missing fence is forgiven when the lines of code can be told from the prose; a program that was cut off in a late
    line, after it has printed, loses that line.
    """
    blocks = [block for block in code_blocks(text) if block.strip()] or _unfenced(text)
    if not blocks:
        return None
    last, joined = blocks[-1], "\n\n".join(blocks)
    if len(blocks) > 1 and syntax_error(last) is None:
        # A last block that merely defines or shows something is no program either.
        alone = _stands_alone(last, blocks[:-1]) and (_calls_print(last) or not _calls_print(joined))
        return last if alone or syntax_error(joined) is not None else joined
    if syntax_error(last) is None:
        return last
    if len(blocks) > 1:
        return next((block for block in reversed(blocks) if syntax_error(block) is None), last)
    return _without_broken_end(last)


def words_instead(text: str) -> str | None:
    """What a turn says in the place of a program, in words; None when it holds code.

    A model that is made to begin with a block puts the answer itself there ("Ann"), a draft, or its reasoning in
    comments; of the latter what it names as its answer counts.
    """
    blocks = [block for block in code_blocks(text) if block.strip()]
    if len(blocks) != 1:
        return None
    lines = [line.strip() for line in blocks[0].strip().splitlines()]
    if all(line.startswith("#") for line in lines if line):
        return answer_line("\n".join(line.lstrip("# ") for line in lines))
    if any(_CODE_LINE.match(line) or _CODE_SIGN.search(line) for line in lines):
        return None
    said = "\n".join(lines)
    return (answer_line(said) or said) if re.search(r"[^\W\d_]", said) else None


def syntax_error(program: str) -> str | None:
    """What keeps `program` from being Python, in one line; None when it is."""
    try:
        # Warnings on a model's escapes and comparisons are not this process's.
        ast.parse(program)
    except SyntaxError as error:
        return f"{error.msg} in line {error.lineno}" if error.lineno else error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error) or type(error).__name__
    return None


def reads_input(program: str) -> bool:
    """Whether a valid `program` calls `input` or reads `sys.stdin`."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "input":
            return True
        if isinstance(node, ast.Attribute) and node.attr == "stdin":
            return True
    return False


def printing(program: str) -> str | None:
    """A valid `program` that prints its last value at the end; None when it is not plain which value that is.

    The last value is that of its last expression or assignment, or the result of the only function that nobody calls
    and that needs no arguments.
    """
    tree = ast.parse(program)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr) and (len(tree.body) == 1 or not _is_text(last.value)):
        value: ast.expr = tree.body.pop().value  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(last, ast.Assign) and isinstance(last.targets[0], ast.Name):
        value = ast.Name(id=last.targets[0].id)
    else:
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        idle = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name not in called and not _needs_arguments(node.args)
        ]
        if len(idle) != 1:
            return None
        value = ast.Call(func=ast.Name(id=idle[0]), args=[], keywords=[])
    ending = ast.parse("if (value_ := None) is not None:\n    print(value_)").body[0]
    assert isinstance(ending, ast.If)
    assert isinstance(ending.test, ast.Compare)
    assert isinstance(ending.test.left, ast.NamedExpr)
    ending.test.left.value = value
    tree.body.append(ending)
    return ast.unparse(ast.fix_missing_locations(tree))


def printed_answer(question: str, output: str) -> str:
    """The answer in what a program printed; "" when it printed nothing.

    A labelled value loses its label ("The answer is 42", "Count: 3"); of several lines the last counts where the
    question asks for one value, and all of them where it doesn't. Lists take the form that the question names.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines:
        return ""
    if _ASKS_COMMAS.search(question):
        return _with_commas(lines)
    if asked_form(question) is not None:
        return in_asked_form(question, _value(question, lines[-1]))
    if (listed := listed_as_given(question, lines)) is not None:
        return listed
    if len(lines) > 1 and not _ASKS_ONE_VALUE.search(question):
        return output.strip("\n").rstrip()
    return _value(question, lines[-1])


def _value(question: str, line: str) -> str:
    labelled = answer_line(line) or result_line(line)
    if labelled is not None:
        line = labelled
    named = _NAMED_VALUE.fullmatch(line)
    if named and not (line.count(":") > 1 or line.count("=") > 1):
        return clean(named["value"])
    if re.search(r"\bhow many\b", question, re.IGNORECASE):
        # Finding every one of them and printing the list is an answer to how many there are.
        found = _python_list(line)
        if found is not None:
            return str(len(found))
    if _ASKS_NUMBER.search(question):
        unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", " ", line)
        numbers = re.findall(rf"(?<![\w.]){_NUMBER}(?!\w)", unquoted)
        if len(numbers) == 1:
            return numbers[0].rstrip(",")
    return clean(line)


def _with_commas(lines: list[str]) -> str:
    """Items on one line with commas between them, from a printed Python list or from one item a line."""
    labelled = answer_line(lines[-1]) or result_line(lines[-1])
    last = re.sub(r"^[A-Za-z][\w ]{2,60}:\s*", "", labelled or lines[-1])
    items = _python_list(last)
    if items is not None:
        return ", ".join(str(item) for item in items)
    if len(lines) > 1 and "," not in last and all(len(line.split()) == 1 for line in lines):
        return ", ".join(line.strip(",") for line in lines)
    # Words split at blanks keep their commas, and joining adds more.
    return clean(re.sub(r",(?:\s*,)+", ",", last))


def listed_as_given(question: str, lines: list[str]) -> str | None:
    """The printed list with its items spelt as in the list that `question` gives; None where it is no part of that.

    A program that filters or sorts ['14', '-48.986'] must turn texts into numbers, and prints 14.0 for '14'. Items of
    equal value are taken in the order in which the question has them.
    """
    given = [found for match in _GIVEN_LIST.finditer(question) if (found := _python_list(match[0]))]
    printed = _python_list(lines[-1]) if len(lines) == 1 else None
    if printed is None and len(lines) == 1 and ("," in lines[0] or _ASKS_LIST.search(question)):
        printed = [item.strip(" '\"") for item in lines[0].split(",")]
    if len(given) != 1 or not printed:
        return None
    left, spelt = list(given[0]), list[object]()
    for item in printed:
        same = next((one for one in left if _same_item(one, item)), None)
        if same is None:
            return None
        left.remove(same)
        spelt.append(same)
    return str(spelt)


def _same_item(given: object, printed: object) -> bool:
    if given == printed or str(given) == str(printed):
        return True
    try:
        return float(str(given)) == float(str(printed))
    except ValueError:
        return False


def _python_list(text: str) -> list[object] | None:
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return [*value] if isinstance(value, (list, tuple)) else None


def _unfenced(text: str) -> list[str]:
    """Code that stands in `text` without a fence: from the first line of code to the last that still parses."""
    lines = textwrap.dedent(text).splitlines()
    first = next((at for at, line in enumerate(lines) if _CODE_LINE.match(line)), None)
    if first is None:
        return []
    for end in range(len(lines), first, -1):
        program = "\n".join(lines[first:end])
        if syntax_error(program) is None:
            return [program] if re.search(r"[(=]", program) else []
    return []


def _without_broken_end(program: str) -> str:
    lines = program.splitlines()
    for end in range(len(lines) - 1, max(0, len(lines) - 6), -1):
        shorter = "\n".join(lines[:end])
        if syntax_error(shorter) is None:
            return shorter if _calls_print(shorter) else program
    return program


def _stands_alone(block: str, earlier: list[str]) -> bool:
    tree = ast.parse(block)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    known = {node.id for node in names if isinstance(node.ctx, ast.Store)} | _defined(tree) | set(dir(builtins))
    for other in earlier:
        if syntax_error(other) is None:
            theirs = ast.parse(other)
            stored = {n.id for n in ast.walk(theirs) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            if (read - known) & (stored | _defined(theirs)):
                return False
    return True


def _defined(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def _is_text(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _calls_print(program: str) -> bool:
    return "print(" in program


def _needs_arguments(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or any(default is None for default in arguments.kw_defaults)
