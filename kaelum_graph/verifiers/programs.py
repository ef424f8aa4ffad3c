"""Runs a candidate's program on the tests and examples that the query itself holds."""

from __future__ import annotations

import json
import re
import secrets
from fractions import Fraction

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import register
from kaelum_graph.verifiers.base import Verifier
from kaelum_graph.verifiers.program_examples import (
    CallExample,
    InputExample,
    as_literal,
    call_examples,
    input_examples,
    unread_tests,
)
from kaelum_graph.verifiers.votes import shortened, unscored, vote

_READS_INPUT = re.compile(r"\binput\s*\(|\bstdin\b|\bfileinput\b|\bopen\(\s*0\b")


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
            found = self._run_calls(calls, candidate.program, sandbox)
            if found.outcome == "pass" and unread_tests(query.text, candidate.program):
                return unscored(self, "some of the query's tests can't be run by themselves")
            return found
        inputs = input_examples(query.text)
        if inputs and not _READS_INPUT.search(candidate.program):
            return unscored(self, "the query's examples are inputs, and the program reads none")
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
        unclear = ""
        for example, outcome in zip(examples, outcomes, strict=True):
            if "error" in outcome:
                return vote(
                    self, "fail", f"{shortened(example.expression)} raised {shortened(outcome['error'], limit=120)}"
                )
            if not _same(outcome["value"], example.expected):
                got = shortened(outcome["value"])
                if _may_be_meant(outcome["value"], example):
                    unclear = (
                        f"{shortened(example.expression)} gave {got}, as {shortened(repr(example.expected))} may mean"
                    )
                    continue
                return vote(
                    self, "fail", f"{shortened(example.expression)} gave {got}, not {shortened(repr(example.expected))}"
                )
        if unclear:
            return unscored(self, unclear)
        return vote(self, "pass", f"{len(examples)} of {len(examples)} of the query's examples hold")

    def _run_inputs(self, examples: list[InputExample], program: str, sandbox: Sandbox) -> Evidence:
        for example in examples:
            result = sandbox.run(program, stdin=example.stdin + "\n")
            if not result.ok:
                return vote(self, "fail", f"on the input '{shortened(example.stdin)}': {result.failure}")
            if not _prints_the_same(result.stdout, example.stdout):
                printed = shortened(result.stdout) or "nothing"
                if _ends_with(result.stdout, example.stdout):
                    return unscored(self, f"it printed {printed}: more words than {shortened(example.stdout)}")
                return vote(
                    self,
                    "fail",
                    f"on the input '{shortened(example.stdin)}' it printed {printed}, not {shortened(example.stdout)}",
                )
        return vote(self, "pass", f"{len(examples)} of {len(examples)} of the query's examples hold")


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
    value, ok = as_literal(representation)
    if not ok:
        return representation == repr(expected)
    return _equal_values(value, expected)


def _may_be_meant(representation: str, example: CallExample) -> bool:
    """Whether an example that was no test may stand for a value that it does not equal: rounded, or printed."""
    value, ok = as_literal(representation)
    expected = example.expected
    if not ok or example.kind == "exact":
        return False
    if isinstance(value, float) and isinstance(expected, float):
        decimals = len(str(expected).partition(".")[2])
        return abs(value - expected) <= 0.5 * 10**-decimals
    return example.kind == "printed" and (value is None or (isinstance(value, str) and _same(value, expected)))


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


def _prints_the_same(printed: str, expected: str) -> bool:
    one, other = printed.split(), expected.split()
    return len(one) == len(other) and all(map(_same_word, one, other))


def _same_word(one: str, other: str) -> bool:
    if one == other:
        return True
    (first, numeric), (second, also) = as_literal(one), as_literal(other)
    return numeric and also and isinstance(first, int | float) and _equal_values(first, second)


def _ends_with(printed: str, expected: str) -> bool:
    """Whether a program printed what it must after words of its own: a prompt, "The sum is"."""
    words, wanted = printed.split(), expected.split()
    own, end = words[: -len(wanted)], words[-len(wanted) :]
    return all(map(_same_word, end, wanted)) and len(end) == len(wanted) and not re.search(r"\d", " ".join(own))
