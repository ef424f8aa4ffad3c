"""What a sandbox is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ceilings for one program; `seconds` is wall-clock time, and CPU time is held to it too.

    `cancelled` is asked a few times a second while the program waits for its turn or runs; once it says True nobody
    wants the result any more.
    """

    seconds: float = 5.0
    memory_bytes: int = 512 * 1024 * 1024
    output_bytes: int = 64 * 1024
    disk_bytes: int = 16 * 1024 * 1024
    cancelled: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """What a program did.

    `ok` is exit code 0 within all limits. `failure` is a short reason when not ok, fit for showing to the model that
    wrote the program (for a Python exception its last traceback line, with the line number). `isolation` names the
    layers that were in force.
    """

    ok: bool
    stdout: str
    stderr: str
    exit_code: int | None
    seconds: float
    failure: str | None = None
    isolation: tuple[str, ...] = ()


class Sandbox(ABC):
    """Runs untrusted Python programs. Thread-safe."""

    @abstractmethod
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        """Run `program` to its end or its limit.

        Raises `SandboxError` when the isolation that is required is not available on this machine: the caller then
        has no result, never an unprotected one. Also when it was `limits.cancelled`.
        """

    def close(self) -> None:
        """End helper processes. Idempotent."""
        return
