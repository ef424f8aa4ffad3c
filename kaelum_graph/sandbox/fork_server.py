"""The parent's end of the fork server: start it, hear what it can isolate, hand it programs, end it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaelum_graph.errors import SandboxError
from kaelum_graph.sandbox.isolation import LAYERS, Isolation

_START_SECONDS = 60.0
_END_SECONDS = 5.0

SLOW_MODULES = ("numpy", "sympy", "z3")
"""Packages that take tenths of a second to import, and that the server keeps once a program has used them."""

# Nothing of the caller's: a fixed hash seed, so that a program that prints a set prints the same in every run, and one
# thread for linear algebra, so that the server can fork after preloading it.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

# -s and -P instead of -I: isolated as well, but the fixed hash seed is read.
_OPTIONS = ("-s", "-P", "-X", "utf8")


class ForkServer:
    """A running fork server. `isolation` is what it found; not thread-safe, requests are sent one at a time."""

    def __init__(self, *, parallel: int) -> None:
        """Start one; raises `SandboxError` when it cannot be."""
        if sys.platform != "linux":
            missing = dict.fromkeys(LAYERS, f"needs Linux, this is {sys.platform}")
            raise SandboxError(Isolation(layers=(), missing=missing).lacks(frozenset({"landlock", "seccomp"})))
        folder = str(Path(__file__).parent)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = (
            f"import sys; sys.path.insert(0, {folder!r}); from child.server import main; del sys.path[0]; "
            f"main({theirs.fileno()}, {parallel})"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_OPTIONS, "-c", code],
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            self._control.close()
            raise SandboxError(f"The sandbox's fork server did not start: {error}.") from error
        finally:
            theirs.close()
        self.isolation = self._hear()

    def _hear(self) -> Isolation:
        self._control.settimeout(_START_SECONDS)
        try:
            said: dict[str, Any] = json.loads(self._control.recv(65536) or b'{"error": ""}')
        except (OSError, ValueError) as error:
            said = {"error": str(error)}
        if "error" in said:
            self._control.close()
            _, complaint = self._process.communicate()
            lines = complaint.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
            raise SandboxError(f"The sandbox's fork server did not start: {said['error'] or lines[-1]}.")
        if self._process.stderr is not None:
            self._process.stderr.close()
        return Isolation(layers=tuple(said["layers"]), missing=said["missing"])

    def submit(self, descriptors: Sequence[int], *, imports: Sequence[str] = ()) -> None:
        """Hand over a program's channel and its three standard streams. Raises `OSError` when the server is gone.

        `imports` are slow modules that the program imports; the server then keeps them in memory for later ones.
        """
        socket.send_fds(self._control, [" ".join(["program", *imports]).encode()], list(descriptors))

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End it and every program it started. Idempotent."""
        self._control.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
