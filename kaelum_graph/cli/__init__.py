"""The `kaelum` command: runs what was asked, and turns every failure into one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence

from kaelum_graph.arenas import few_arenas
from kaelum_graph.errors import KaelumError, ModelError, StorageError

INTERRUPTED = 130
READER_GONE = 141  # 128 + SIGPIPE, as a shell reports it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Raises nothing: what a user can cause, and a bug too, is one line on standard error. KAELUM_DEBUG=1 adds the
    traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What the locale cannot show becomes "?" rather than an error after minutes of search.
            stream.reconfigure(errors="replace")
    if argv is None:
        few_arenas()
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] (it is None once closed by `>&-`)
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return READER_GONE
    except KeyboardInterrupt:
        # Threads may still be at work while the interpreter shuts down: another Ctrl-C ends it there and then.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return _fail("interrupted", INTERRUPTED)
    except KaelumError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        _drop_output()
        disk_is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _fail(str(error), StorageError.exit_code if disk_is_full else KaelumError.exit_code)
    except MemoryError:
        return _fail("out of memory; try a smaller --model, a smaller --wave-size or --offload", ModelError.exit_code)
    except Exception as error:
        return _fail(f"{type(error).__name__}: {error} (KAELUM_DEBUG=1 shows where)", KaelumError.exit_code)


def _run(argv: Sequence[str]) -> int:
    from kaelum_graph.cli.parser import parse

    try:
        arguments = parse(argv)
    except SystemExit as done:  # argparse's way out of --help and --version
        return done.code if isinstance(done.code, int) else 0
    return int(arguments.run(arguments))


def _fail(message: str, code: int) -> int:
    """Print the one line, and the traceback of the exception being handled when that is wanted."""
    with contextlib.suppress(OSError, AttributeError):
        if os.environ.get("KAELUM_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        sys.stdout.flush()
        print(f"kaelum: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it again when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
