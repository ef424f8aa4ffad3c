"""Run a program as `__main__` in this process, as `python program.py` would, and leave with its exit code."""

from __future__ import annotations

import atexit
import builtins
import io
import linecache
import os
import sys
import threading
import traceback
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

FILE_NAME = "program.py"
"""The name under which tracebacks show the program."""


def run(source: str) -> NoReturn:
    """Run `source` to its end; standard input, output and error are descriptors 0, 1 and 2."""
    _open_streams()
    sys.argv = [FILE_NAME]
    linecache.cache[FILE_NAME] = (len(source), None, source.splitlines(keepends=True), FILE_NAME)
    main = ModuleType("__main__")
    main.__file__ = FILE_NAME
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    os._exit(_finished(_guarded(source, main)))


def _open_streams() -> None:
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding="utf-8", errors="replace"
    )
    # Lines leave at once, so that what a killed program printed before is not lost.
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8", line_buffering=True
    )
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def _guarded(source: str, main: ModuleType) -> int:
    try:
        code: CodeType = compile(source, FILE_NAME, "exec", dont_inherit=True)
        exec(code, main.__dict__)
    except SystemExit as leaving:
        return _exit_code(leaving.code)
    except BaseException as error:
        _report(error)
        return 1
    return 0


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _report(error: BaseException) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != FILE_NAME:
        trace = trace.tb_next
    try:
        _print_exception(error, trace)
    except BaseException as second:
        # Memory may be too short to word a traceback; one line still says what happened.
        os.write(2, f"{type(error).__name__} ({type(second).__name__} while reporting it)\n".encode())


def _print_exception(error: BaseException, trace: TracebackType | None) -> None:
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, trace)
    else:
        traceback.print_exception(type(error), error, trace)


def _finished(code: int) -> int:
    """What the interpreter does at exit: wait for threads, run exit handlers, flush."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        _report(error)
        return code or 1
    return code
