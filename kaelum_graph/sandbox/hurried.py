"""A sandbox for one search: its programs end when the search does."""

from __future__ import annotations

import time
from dataclasses import replace

from kaelum_graph.models.base import CancelToken
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox

GRACE_SECONDS = 0.25
"""What programs and verifiers get also of a search that is over its deadline or cancelled: quick ones still bring their
answers and have their say about the last candidates."""


class HurriedSandbox(Sandbox):
    """Passes programs on; those that wait or run when the search is over, and a moment has passed, have no result.

    That is no fault of theirs, so it is told by a `SandboxError` and not by a failed result.
    """

    def __init__(self, sandbox: Sandbox, *, deadline: float | None, cancel: CancelToken | None) -> None:
        """`deadline` is a `time.monotonic()` instant; the moment is counted from here on, so that all share it."""
        self._sandbox = sandbox
        self._deadline = deadline
        self._cancel = cancel
        self._least = time.monotonic() + GRACE_SECONDS

    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        """See `Sandbox.run`."""
        return self._sandbox.run(program, stdin=stdin, limits=replace(limits or Limits(), cancelled=self._over))

    def _over(self) -> bool:
        now = time.monotonic()
        late = self._deadline is not None and now >= self._deadline
        return now >= self._least and (late or (self._cancel is not None and self._cancel.cancelled))
