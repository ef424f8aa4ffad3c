"""Why a program failed, in one line fit for the model that wrote it."""

from __future__ import annotations

import re
import signal

from kaelum_graph.sandbox.base import Limits
from kaelum_graph.sandbox.child.program import FILE_NAME

_FRAME = re.compile(rf'^\s*(?:\|\s*)*File "{re.escape(FILE_NAME)}", line (\d+)', re.MULTILINE)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):")
_BARE = re.compile(r"[A-Za-z_.]*(?:Error|Interrupt)\b")
_LONGEST = 300


def too_slow(limits: Limits) -> str:
    return f"no result within {limits.seconds:g} s"


def too_much_memory(limits: Limits) -> str:
    return f"more memory than {_size(limits.memory_bytes)}"


def too_much_output(limits: Limits) -> str:
    return f"more output than {_size(limits.output_bytes)}"


def too_much_disk(limits: Limits) -> str:
    return f"more than {_size(limits.disk_bytes)} or 512 files on disk"


def from_signal(number: int, stderr: str, limits: Limits) -> str:
    """Why signal `number` ended the program."""
    if "std::bad_alloc" in stderr:
        return too_much_memory(limits)
    if number == signal.SIGXCPU:
        return too_slow(limits)
    if number == signal.SIGSYS:
        return "killed for a system call that programs may not make"
    if number == signal.SIGKILL:
        return "killed by the system, for its memory or CPU time"
    return f"killed by {signal.Signals(number).name}"


def from_exit(code: int, stderr: str, *, stdin: str, limits: Limits) -> str:
    """Why a program left with exit code `code`, read from what it wrote to `stderr`."""
    error = _last_exception(stderr)
    if error is None:
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        return _shortened(f"exit code {code}: {last}" if last else f"exit code {code}")
    line, text = error
    if text.startswith("MemoryError"):
        return too_much_memory(limits) + (f" (line {line})" if line else "")
    if text.startswith("EOFError") and not stdin:
        text = "EOFError: the program asked for input, and it gets none"
    return _shortened(f"line {line}: {text}" if line else text)


def _last_exception(stderr: str) -> tuple[str | None, str] | None:
    """Line number in the program and first line of the message of the last traceback in `stderr`."""
    starts = [match.end() for match in _TRACEBACK.finditer(stderr)]
    block = stderr[starts[-1] :] if starts else stderr
    frames = list(_FRAME.finditer(block))
    if not frames and not starts:
        # Before the first line ran, or with too little memory left for a traceback.
        last = stderr.strip().rpartition("\n")[2]
        return (None, last) if _BARE.match(last) else None
    after = block[frames[-1].end() :] if frames else block
    for line in after.splitlines()[1:]:
        # What belongs to a frame is indented; the exception itself is not.
        if line and not line[0].isspace():
            return (frames[-1][1] if frames else None), line.strip()
    return None


def _size(count: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= factor and count % factor == 0:
            return f"{count // factor} {unit}"
    return f"{count} bytes"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
