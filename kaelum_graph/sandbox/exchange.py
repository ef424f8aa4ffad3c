"""What passes between the parent and one program while it runs: its job, its streams, and its watcher's report."""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from kaelum_graph.errors import SandboxError

POLL_SECONDS = 0.05
"""How often it is asked whether the program is still wanted."""
_CHUNK_BYTES = 65536
_DRAIN_SECONDS = 1.0


@dataclass(slots=True)
class Output:
    """What was read so far, at most `most_bytes` of both streams together; `cut` says that there was more."""

    most_bytes: int
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    cut: bool = False

    def add(self, stream: bytearray, chunk: bytes) -> None:
        room = self.most_bytes - len(self.stdout) - len(self.stderr)
        self.cut = self.cut or len(chunk) > room
        stream += chunk[: max(0, room)]


class Exchange:
    """The parent's ends. `handed_over` are the other ends, in the order that the fork server expects."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._theirs = ExitStack()
        self._channel, channel = socket.socketpair()
        self._open.callback(self._channel.close)
        self._theirs.callback(channel.close)
        stdin, self._stdin = self._pipe(theirs_reads=True)
        self._stdout, stdout = self._pipe(theirs_reads=False)
        self._stderr, stderr = self._pipe(theirs_reads=False)
        self.handed_over = [channel.fileno(), stdin, stdout, stderr]

    def _pipe(self, *, theirs_reads: bool) -> tuple[int, int]:
        ends = os.pipe()
        reading, writing = ends
        theirs, ours = ends if theirs_reads else (writing, reading)
        self._theirs.callback(os.close, theirs)
        if not theirs_reads:
            self._open.callback(os.close, ours)
        os.set_blocking(ours, False)
        return ends

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget_theirs()
        self._close_stdin()
        self._open.close()

    def forget_theirs(self) -> None:
        """Close this process's copies of the other ends, so that the program's end is seen as the streams' end."""
        self._theirs.close()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def send_job(self, job: dict[str, object], *, seconds: float) -> None:
        """Tell the watcher what to run. Raises `OSError` when it is not there within `seconds`."""
        self._channel.settimeout(seconds)
        self._channel.sendall(json.dumps(job).encode() + b"\n")
        self._channel.setblocking(False)

    def follow(
        self, stdin: bytes, output: Output, *, seconds: float, cancelled: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Feed `stdin` and fill `output` until the watcher reports; returns its report.

        A program that writes more than `output` takes is killed, and so is one that is `cancelled`. Raises
        `SandboxError` when there is no report within `seconds`, or the watcher died.
        """
        deadline = time.monotonic() + seconds
        streams = {self._stdout: output.stdout, self._stderr: output.stderr}
        waiting = memoryview(stdin)
        said = bytearray()
        report: dict[str, Any] | None = None
        killing = False
        with selectors.DefaultSelector() as selector:
            for descriptor in (*streams, self._channel):
                selector.register(descriptor, selectors.EVENT_READ)
            if waiting:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            else:
                self._close_stdin()
            while streams or report is None:
                left = max(0.0, deadline - time.monotonic())
                ready = selector.select(left if cancelled is None else min(left, POLL_SECONDS))
                if not ready and time.monotonic() >= deadline:
                    break
                for key, _ in ready:
                    if key.fileobj is self._channel:
                        chunk = self._channel.recv(_CHUNK_BYTES)
                        said += chunk
                        if not chunk or said.endswith(b"\n"):
                            selector.unregister(self._channel)
                            report = _read_report(said)
                            # The program is dead, so what is left to read is there already.
                            deadline = min(deadline, time.monotonic() + _DRAIN_SECONDS)
                    elif key.fd == self._stdin:
                        waiting = self._feed(waiting)
                        if not waiting:
                            selector.unregister(key.fd)
                            self._close_stdin()
                    else:
                        chunk = os.read(key.fd, _CHUNK_BYTES)
                        output.add(streams[key.fd], chunk)
                        if not chunk:
                            selector.unregister(key.fd)
                            del streams[key.fd]
                unwanted = output.cut or (cancelled is not None and cancelled())
                if unwanted and not killing and report is None:
                    killing = True
                    with suppress(OSError):
                        self._channel.shutdown(socket.SHUT_WR)
        if report is None:
            raise SandboxError("The sandbox's watcher fell silent; the program's result is unknown.")
        return report

    def _feed(self, waiting: memoryview) -> memoryview:
        try:
            return waiting[os.write(self._stdin, waiting[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return waiting
        except BrokenPipeError:
            # The program does not read, which is its right.
            return waiting[:0]


def _read_report(said: bytearray) -> dict[str, Any]:
    try:
        return json.loads(said)
    except ValueError as error:
        raise SandboxError("The sandbox's watcher died; the program's result is unknown.") from error
