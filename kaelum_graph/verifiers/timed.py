"""Asking a verifier that was added for a limited time: one that hangs holds up no search, and no exit.

A thread cannot be ended from outside. One whose check doesn't come back is left to itself, as a daemon that the process
needn't wait for, and how many of them a verifier can leave behind is limited.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context

from kaelum_graph.errors import SandboxError, VerifierError
from kaelum_graph.evidence import Evidence
from kaelum_graph.models.base import CancelToken
from kaelum_graph.sandbox.hurried import GRACE_SECONDS
from kaelum_graph.sandbox.process import CANCELLED
from kaelum_graph.verifiers.base import Verifier

LOG = logging.getLogger(__name__)

AT_ONCE = 4
"""Questions to one verifier that may be open at once, those that nobody waits for any more among them."""
HANGING = 2
"""Open questions that are past the verifier's time at which it isn't asked again until one of them ends."""
POLL_SECONDS = 0.05
"""How often who waits looks whether the search was cancelled."""
BUSY = "still busy with an earlier question"
_TOO_LONG = "took longer than"
_CANCELLED = "the search was cancelled before"


class NoAnswer(VerifierError):
    """A verifier gave no answer in time; its vote is unscored, for the reason that this says."""


class Desk:
    """Where one verifier is asked. Thread-safe."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self._changed = threading.Condition()
        self._open: set[_Question] = set()
        self._warned = False

    def ask(self, check: Callable[[], object], *, deadline: float | None, cancel: CancelToken | None) -> object:
        """What `check` returns, run in a thread of its own in the caller's context; raises what that raises.

        Raises `NoAnswer` after the verifier's `seconds`, at `deadline` (a `time.monotonic()` instant) or once `cancel`
        is set, whichever comes first, and where the verifier has too many questions open to be asked another.
        """
        seconds, asked = self.verifier.seconds, time.monotonic()
        with self._changed:
            left_behind = any(question.abandoned for question in self._open)
            # A verifier with an earlier question that nobody waits for any more gets no moment beyond the deadline.
            patience = _Patience(asked if left_behind else asked + GRACE_SECONDS, deadline=deadline, cancel=cancel)
            self._wait(lambda: self._hangs() or len(self._open) < AT_ONCE, patience, until=asked + seconds)
            if self._hangs() or len(self._open) >= AT_ONCE or (left_behind and patience.ends() <= time.monotonic()):
                raise NoAnswer(BUSY)
            question = _Question(check, began=time.monotonic())
            self._begin(question)
            if not self._wait(lambda: question.ended, patience, until=question.began + seconds):
                question.abandoned = True
                raise NoAnswer(self._late(time.monotonic() - question.began, cancel=cancel))
        if question.error is not None:
            raise question.error
        return question.answer

    def _wait(self, ready: Callable[[], bool], patience: _Patience, *, until: float) -> bool:
        """Whether `ready` came true before `until` and the end of the search's patience; the lock is held."""
        while not ready():
            if not threading.main_thread().is_alive():
                return False  # the process ends, and waits for the threads of the search's pool
            left = min(until, patience.ends()) - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(POLL_SECONDS, left))
        return True

    def _hangs(self) -> bool:
        late = time.monotonic() - self.verifier.seconds
        return sum(question.began <= late for question in self._open) >= HANGING

    def _begin(self, question: _Question) -> None:
        context = copy_context()

        def run() -> None:
            context.run(question.settle)
            with self._changed:
                question.ended = True
                self._open.discard(question)
                self._changed.notify_all()

        # A daemon of its own: the threads of an executor are joined at exit.
        threading.Thread(target=run, name=f"kaelum-verifier-{self.verifier.name}", daemon=True).start()
        self._open.add(question)

    def _late(self, seconds: float, *, cancel: CancelToken | None) -> str:
        """The reason of a question that was given up after `seconds`; the first that is too slow is logged."""
        name, limit = self.verifier.name, self.verifier.seconds
        if seconds < limit and cancel is not None and cancel.cancelled:
            return f"{_CANCELLED} {name} answered"
        told = f"{limit:g} s" if seconds >= limit else f"{seconds:.2g} s, all that the search's deadline left"
        if not self._warned:
            self._warned = True
            LOG.warning("Verifier '%s' %s %s: its vote is left out. This is told once.", name, _TOO_LONG, told)
        return f"{name} {_TOO_LONG} {told}"


class _Question:
    """One check under way, and what came of it."""

    def __init__(self, check: Callable[[], object], *, began: float) -> None:
        self.began = began  # time.monotonic()
        self.ended = self.abandoned = False
        self.answer: object = None
        self.error: BaseException | None = None
        self._check = check

    def settle(self) -> None:
        """Run the check and keep what it returns or raises."""
        try:
            self.answer = self._check()
        except BaseException as error:
            self.error = error


class _Patience:
    """How long a search waits: until its deadline or until it is cancelled, though never less than the grace."""

    def __init__(self, grace: float, *, deadline: float | None, cancel: CancelToken | None) -> None:
        self._grace, self._deadline, self._cancel = grace, deadline, cancel

    def ends(self) -> float:
        """The instant, as of now; infinity without a deadline."""
        if self._cancel is not None and self._cancel.cancelled:
            return self._grace
        return float("inf") if self._deadline is None else max(self._deadline, self._grace)


_desks: dict[str, Desk] = {}
_desks_lock = threading.Lock()


def desk_of(verifier: Verifier) -> Desk:
    """Where `verifier` is asked. One that replaces another of its name starts anew: it may be the mended one."""
    with _desks_lock:
        desk = _desks.get(verifier.name)
        if desk is None or desk.verifier is not verifier:
            desk = _desks[verifier.name] = Desk(verifier)
        return desk


def unanswered(vote: Evidence) -> bool:
    """True of the vote of a verifier that gave no answer in time, of whom nobody knows what it would have said."""
    unrun = f"{SandboxError.__name__}: {CANCELLED}"  # its program was ended with the search
    reasons = BUSY, f"{vote.source} {_TOO_LONG} ", f"{_CANCELLED} {vote.source} ", unrun
    return vote.outcome == "unscored" and vote.reason.startswith(reasons)
