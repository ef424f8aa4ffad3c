"""Symbolic mathematics on untrusted text, done in a warm child process that can be killed.

Math-Verify bounds its time with signals, which work in no thread but the main one, and SymPy can take hours over twenty
characters. So one child does the work; a job past its time costs the child its life and the caller only a None.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_LENGTH = 600
START_SECONDS = 60.0
_MODULE = "kaelum_graph.algebra_process"
_ROOT = Path(__file__).resolve().parent.parent
# What Python needs to find itself and its packages; secrets in the environment stay out of the child.
_ENVIRONMENT = ("PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "SYSTEMROOT", "LANG", "LC_ALL", "TEMP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Solutions:
    """Which of the given values solve an equation; `missing` is a real solution that is not among them, if known."""

    holds: tuple[bool, ...]
    missing: str | None


class Algebra:
    """One child process, started at the first job. Thread-safe: jobs wait for one another.

    Every method returns None when the text could not be read or the job took longer than `seconds`.
    """

    def __init__(self, *, seconds: float = 2.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._owner = 0

    def equal(self, a: str, b: str) -> bool | None:
        """Whether two expressions, equations, sets, intervals or matrices are equal."""
        return self._ask("equal", a=a, b=b)

    def equal_up_to_constant(self, a: str, b: str) -> bool | None:
        """Whether two expressions differ by a number at most."""
        return self._ask("equal_up_to_constant", a=a, b=b)

    def is_antiderivative(self, answer: str, *, integrand: str, variable: str) -> bool | None:
        """Whether the derivative of `answer` is `integrand`."""
        return self._ask("antiderivative", integrand=integrand, answer=answer, variable=variable)

    def is_derivative(self, answer: str, *, function: str, variable: str, order: int = 1) -> bool | None:
        """Whether `answer` is the derivative of `function`."""
        return self._ask("derivative", function=function, answer=answer, variable=variable, order=order)

    def is_integral(self, answer: str, *, integrand: str, lower: str, upper: str, variable: str) -> bool | None:
        """Whether `answer` is the definite integral, to 9 digits or to its own rounding of two places or more."""
        return self._ask(
            "definite_integral", integrand=integrand, lower=lower, upper=upper, answer=answer, variable=variable
        )

    def solutions(self, answers: Sequence[str], *, left: str, right: str, variable: str) -> Solutions | None:
        """Substitutes each of `answers` for `variable` in left = right; None when another unknown is left."""
        found = self._ask("solutions", left=left, right=right, variable=variable, answers=list(answers))
        return None if found is None else Solutions(holds=tuple(found["holds"]), missing=found["missing"])

    def close(self) -> None:
        """End the child. Idempotent; a later job starts a new one."""
        with self._lock:
            self._stop()

    def _ask(self, operation: str, **arguments: Any) -> Any:
        texts = [text for value in arguments.values() for text in (value if isinstance(value, list) else [value])]
        if any(isinstance(text, str) and len(text) > MAX_LENGTH for text in texts):
            return None
        with self._lock:
            process = self._running()
            if process is None or process.stdin is None:
                return None
            job = {"operation": operation, "arguments": arguments, "seconds": self._seconds}
            try:
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
                line = self._lines.get(timeout=self._seconds)
            except (OSError, queue.Empty):
                line = ""
            if not line:
                self._stop()
                return None
            return json.loads(line)["result"]

    def _running(self) -> subprocess.Popen[str] | None:
        if self._process is not None and self._owner != os.getpid():
            self._process = None  # The parent's child: after a fork it is not ours to speak to.
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        process = subprocess.Popen(
            # -P: neither the working folder nor any other but the package's own comes before the standard library.
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._process, self._lines, self._owner = process, lines, os.getpid()
        threading.Thread(target=_forward, args=(process, lines), daemon=True, name="kaelum-algebra").start()
        try:
            ready = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            ready = ""
        if not ready:
            self._stop()
            return None
        return process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # The package may be on this process's path alone (a source tree under test), so its root goes along.
    paths = [path for path in (str(_ROOT), kept.get("PYTHONPATH")) if path]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _forward(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Puts the child's lines on a queue; an empty one at its end."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")


_shared: Algebra | None = None
_shared_lock = threading.Lock()


def algebra() -> Algebra:
    """The process-wide instance, closed at exit."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Algebra()
            atexit.register(_shared.close)
        return _shared
