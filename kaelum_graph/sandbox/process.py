"""Run programs in processes that are confined before their first instruction."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Generator
from typing import Any

from kaelum_graph.errors import SandboxError, UsageError
from kaelum_graph.sandbox import failure
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.sandbox.exchange import POLL_SECONDS, Exchange, Output
from kaelum_graph.sandbox.fork_server import SLOW_MODULES, ForkServer
from kaelum_graph.sandbox.isolation import FLOOR, LAYERS, REQUIRED, Isolation

_GRACE_SECONDS = 25.0
"""How long beyond its limit a program's watcher may stay silent before the fork server is given up."""

CANCELLED = "The search was over before the program was."
_MOST_PARALLEL = 64
_LEAST_MEMORY_BYTES = 4 * 1024 * 1024


def probe() -> Isolation:
    """Which layers this machine has. Raises `SandboxError` where not even the fork server can run."""
    server = ForkServer(parallel=1)
    server.close()
    return server.isolation


class ProcessSandbox(Sandbox):
    """Runs each program in a process forked from a warm server, behind every layer that the machine has.

    A program gets the standard library and the installed packages, its own empty folder as home and working directory,
    `stdin`, and nothing else: no environment, no network, no other process, no file of the caller's.
    """

    def __init__(self, *, required: frozenset[str] = REQUIRED, parallel: int = 2) -> None:
        """`required`: layers without which nothing is run; `parallel`: programs at once, 1 to 64, others wait."""
        unknown = required - set(LAYERS)
        if unknown:
            raise UsageError(f"Unknown isolation layers: {', '.join(sorted(unknown))}. Known: {', '.join(LAYERS)}.")
        if not required >= FLOOR or not required & {"landlock", "namespaces"}:
            raise UsageError(
                f"A sandbox needs at least {', '.join(sorted(FLOOR))}, and landlock or namespaces; "
                f"got {', '.join(sorted(required)) or 'none'}."
            )
        if not 1 <= parallel <= _MOST_PARALLEL:
            raise UsageError(f"parallel is {parallel}; expected 1 to {_MOST_PARALLEL}.")
        self._required = required
        self._parallel = parallel
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(parallel):
            self._slots.put(slot)
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._closed = False

    @property
    def isolation(self) -> Isolation:
        """The layers in force. Raises `SandboxError` when a required one is missing."""
        with self._lock:
            return self._running_server().isolation

    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        limits = limits or Limits()
        _check(limits)
        output = Output(limits.output_bytes)
        slot = self._slot(limits)
        try:
            report = self._report(program, stdin, limits, output, slot)
        finally:
            self._slots.put(slot)
        return _result(report, output, stdin=stdin, limits=limits)

    def _slot(self, limits: Limits) -> int:
        """A free place; programs wait for one no longer than they are wanted."""
        while limits.cancelled is not None:
            if limits.cancelled():
                raise SandboxError(CANCELLED)
            with contextlib.suppress(queue.Empty):
                return self._slots.get(timeout=POLL_SECONDS)
        return self._slots.get()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._server is not None:
                self._discard(self._server)

    def _report(self, program: str, stdin: str, limits: Limits, output: Output, slot: int) -> dict[str, Any]:
        """Run `program` on uid `slot`; fills `output` and returns the watcher's report."""
        with Exchange() as exchange:
            server = self._submit(exchange.handed_over, _slow_imports(program))
            exchange.forget_theirs()
            with _folder(needed="namespaces" not in server.isolation.layers) as work:
                job: dict[str, object] = {
                    "source": program,
                    "seconds": limits.seconds,
                    "memory_bytes": limits.memory_bytes,
                    "disk_bytes": limits.disk_bytes,
                    "slot": slot,
                    "work": work,
                }
                try:
                    exchange.send_job(job, seconds=_GRACE_SECONDS)
                    report = exchange.follow(
                        stdin.encode("utf-8", "replace"),
                        output,
                        seconds=limits.seconds + _GRACE_SECONDS,
                        cancelled=limits.cancelled,
                    )
                except (OSError, SandboxError) as error:
                    with self._lock:
                        self._discard(server)
                    if isinstance(error, SandboxError):
                        raise
                    raise SandboxError(f"The sandbox did not take the program: {error}.") from error
        if "error" in report:
            raise SandboxError(f"The program could not be isolated: {report['error']}.")
        return report

    def _submit(self, descriptors: list[int], imports: list[str]) -> ForkServer:
        """Start a watcher on `descriptors`, on a new fork server when the last one has died."""
        with self._lock:
            server = self._running_server()
            try:
                server.submit(descriptors, imports=imports)
            except OSError:
                self._discard(server)
                server = self._running_server()
                server.submit(descriptors, imports=imports)
            return server

    def _running_server(self) -> ForkServer:
        if self._closed:
            raise SandboxError("The sandbox is closed.")
        if self._server is not None and not self._server.running:
            self._discard(self._server)
        if self._server is None:
            server = ForkServer(parallel=self._parallel)
            refusal = server.isolation.lacks(self._required)
            if refusal is not None:
                server.close()
                raise SandboxError(refusal)
            weakref.finalize(self, server.close)
            self._server = server
        return self._server

    def _discard(self, server: ForkServer) -> None:
        if self._server is server:
            self._server = None
        server.close()


def _check(limits: Limits) -> None:
    for name, least in (
        ("seconds", 0.01),
        ("memory_bytes", _LEAST_MEMORY_BYTES),
        ("output_bytes", 0),
        ("disk_bytes", 0),
    ):
        value = getattr(limits, name)
        if not value >= least:
            raise UsageError(f"Limit {name} is {value}; expected at least {least}.")


def _slow_imports(program: str) -> list[str]:
    return [name for name in SLOW_MODULES if re.search(rf"\b(?:import|from)\s+{name}\b", program)]


@contextlib.contextmanager
def _folder(*, needed: bool) -> Generator[str | None]:
    """A temporary folder that is gone afterwards, whatever a program made of it; None where none is needed."""
    if not needed:
        yield None
        return
    path = tempfile.mkdtemp(prefix="kaelum-program-")
    try:
        yield path
    finally:
        # Does not follow links, and the program that could race with it is dead.
        shutil.rmtree(path, ignore_errors=True)


def _result(report: dict[str, Any], output: Output, *, stdin: str, limits: Limits) -> ProgramResult:
    stdout = output.stdout.decode("utf-8", "replace")
    stderr = output.stderr.decode("utf-8", "replace")
    code, reason = _ending(report, cut=output.cut, stderr=stderr, stdin=stdin, limits=limits)
    return ProgramResult(
        ok=reason is None,
        stdout=stdout,
        stderr=stderr,
        exit_code=code,
        seconds=report["seconds"],
        failure=reason,
        isolation=tuple(report["layers"]),
    )


def _ending(
    report: dict[str, Any], *, cut: bool, stderr: str, stdin: str, limits: Limits
) -> tuple[int | None, str | None]:
    """Exit code, if it left by itself, and why it failed, if it did."""
    if cut:
        return None, failure.too_much_output(limits)
    killed = {"time": failure.too_slow, "disk": failure.too_much_disk}.get(report["cause"])
    if killed is not None:
        return None, killed(limits)
    if report["cause"] is not None:
        over = limits.cancelled is not None and limits.cancelled()
        raise SandboxError(CANCELLED if over else "The program was killed before its end; its result is unknown.")
    status: int = report["status"]
    if os.WIFSIGNALED(status):
        return None, failure.from_signal(os.WTERMSIG(status), stderr, limits)
    code = os.WEXITSTATUS(status)
    return code, failure.from_exit(code, stderr, stdin=stdin, limits=limits) if code else None
