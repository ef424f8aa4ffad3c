"""The places of the model's batch, shared by all searches of a process.

The model generates a fixed number of sequences at a time. A search that wants a wave asks for places here and waits its
turn; `slot_queue` says whose turn it is.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import CancelToken
from kaelum_graph.slot_queue import PATIENCE, SlotQueue, Waiting

POLL_SECONDS = 0.05
"""How often a waiting request looks whether it was cancelled, or whether a grant was lost."""
LEAST_WAVE = 4
"""Rollouts below which no wave is cut where there are many places: each wave has its price beside its tokens."""
LEAST_PART = 8
"""A wave may be cut to one in so many of the places, so that no more than that stay free for want of a few."""

Refusal = Literal["cancelled", "deadline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """The scheduler at one moment, and since it was made.

    `longest_wait` is in seconds and `longest_wait_grants` in grants that went to others meanwhile, over the requests
    that were granted. `loaded_seconds` is the time in which someone waited, `loaded_share` the mean share of the places
    that was in use in that time (1.0 where there was none).
    """

    total: int
    used: int
    waiting: int
    grants: int
    granted_slots: int
    refused: int
    longest_wait: float
    longest_wait_grants: int
    loaded_seconds: float
    loaded_share: float


@dataclass(slots=True)
class _Held:
    """Places that a grant still has. Outlives the grant, so that a lost grant's places come back."""

    count: int


class Grant:
    """`slots` places, until they are released: all at once, at the end of a `with`, or one by one as rollouts end.

    `slots` is 0 where the request was `refused`: it was cancelled or its deadline came first.
    """

    def __init__(self, scheduler: SlotScheduler, held: _Held, *, refused: Refusal | None = None) -> None:
        self.slots = held.count
        self.refused = refused
        self._scheduler = scheduler
        self._held = held

    @property
    def held(self) -> int:
        """Places not released yet."""
        return self._held.count

    def release(self, count: int | None = None) -> None:
        """Give back `count` places, or all that are left; more than those is no error. From any thread."""
        self._scheduler._take_back(self._held, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class SlotScheduler:
    """`slots` places, a number or what gives it now (a model may halve its batch); never more are granted at once.

    Thread-safe. `patience`: see `slot_queue`. `clock` gives seconds, for what is told of waiting times.
    """

    def __init__(
        self,
        slots: int | Callable[[], int],
        *,
        patience: int = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(slots, int) and slots < 1:
            raise UsageError(f"slots is {slots}; expected at least 1.")
        self._slots = slots
        self._clock = clock
        self._queue = SlotQueue(patience=patience)
        self._lock = threading.Lock()
        self._turns: dict[Waiting, threading.Event] = {}
        # A grant may be collected anywhere, also while this thread holds the lock: its places are only noted then.
        self._lost: deque[_Held] = deque()
        self._granted_slots = self._refused = self._longest_grants = 0
        self._longest_wait = self._loaded_seconds = self._loaded_slot_share = 0.0
        self._since = clock()

    @property
    def slots(self) -> int:
        """How many places there are now, at least 1."""
        return self._slots if isinstance(self._slots, int) else max(1, self._slots())

    def least_wave(self, wanted: int) -> int:
        """The fewest places that a wave of `wanted` rollouts may be cut to."""
        return max(1, min(wanted, LEAST_WAVE, self.slots // LEAST_PART))

    def request(
        self,
        query_id: str,
        *,
        wanted: int,
        bid: float | None,
        minimum: int | None = None,
        cancel: CancelToken | None = None,
        deadline: float | None = None,
    ) -> Grant:
        """Wait for up to `wanted` places, at least `minimum` (by default `least_wave`), or all there are if fewer.

        `bid` is the expected gain in P(correct) per token, None for a query that has no rollout yet. Blocks until
        granted, cancelled or at `deadline` (a `time.monotonic()` instant). What is granted must be released, best by
        `with`; a grant that is lost (its thread died) comes back by itself.
        """
        if wanted < 1:
            raise UsageError(f"wanted is {wanted}; expected at least 1.")
        least = self.least_wave(wanted) if minimum is None else max(1, minimum)
        slots, asked, turn = self.slots, self._clock(), threading.Event()
        with self._lock:
            self._account(slots)
            request = self._queue.join(query_id, wanted=wanted, minimum=least, bid=bid)
            self._turns[request] = turn
            self._fill(slots)
        try:
            refused = None if turn.is_set() else self._wait(turn, cancel=cancel, deadline=deadline)
        except BaseException:
            self._withdraw(request)
            raise
        return self._settle(request, refused, asked)

    def use(self) -> SlotUse:
        """What is told of it: see `SlotUse`."""
        slots = self.slots
        with self._lock:
            self._account(slots)
            return SlotUse(
                total=slots,
                used=self._queue.in_use,
                waiting=len(self._queue.waiting),
                grants=self._queue.grants,
                granted_slots=self._granted_slots,
                refused=self._refused,
                longest_wait=self._longest_wait,
                longest_wait_grants=self._longest_grants,
                loaded_seconds=self._loaded_seconds,
                loaded_share=self._loaded_slot_share / self._loaded_seconds if self._loaded_seconds else 1.0,
            )

    def _wait(self, turn: threading.Event, *, cancel: CancelToken | None, deadline: float | None) -> Refusal | None:
        while True:
            if cancel is not None and cancel.cancelled:
                return "cancelled"
            left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - time.monotonic())
            if left <= 0.0:
                return "deadline"
            if turn.wait(left):
                return None
            slots = self.slots
            with self._lock:  # lost grants, or a model that takes more now
                self._account(slots)
                self._fill(slots)

    def _settle(self, request: Waiting, refused: Refusal | None, asked: float) -> Grant:
        slots = self.slots
        with self._lock:
            if not request.granted:
                self._account(slots)
                self._queue.leave(request)
                del self._turns[request]
                self._refused += 1
                self._fill(slots)  # it may have held others back
                return Grant(self, _Held(0), refused=refused)
            # A turn that came in the moment of a refusal is a turn.
            self._granted_slots += request.granted
            self._longest_wait = max(self._longest_wait, self._clock() - asked)
            held = _Held(request.granted)
        grant = Grant(self, held)
        weakref.finalize(grant, self._lost.append, held).atexit = False
        return grant

    def _withdraw(self, request: Waiting) -> None:
        slots = self.slots
        with self._lock:
            self._account(slots)
            if request.granted:
                self._queue.give_back(request.granted)
            else:
                self._queue.leave(request)
                del self._turns[request]
            self._fill(slots)

    def _take_back(self, held: _Held, count: int | None) -> None:
        slots = self.slots
        with self._lock:
            back = held.count if count is None else min(count, held.count)
            if back <= 0:
                return
            self._account(slots)
            held.count -= back
            self._queue.give_back(back)
            self._fill(slots)

    def _fill(self, slots: int) -> None:
        """Grant what can be granted. The lock is held."""
        while self._lost:
            held = self._lost.popleft()
            self._queue.give_back(held.count)
            held.count = 0
        before = self._queue.grants
        for place, request in enumerate(self._queue.fill(slots)):
            self._longest_grants = max(self._longest_grants, before + place - request.came)
            self._turns.pop(request).set()

    def _account(self, slots: int) -> None:
        """Add the time since the last change to what is known of the load. The lock is held."""
        now = self._clock()
        if self._queue.waiting:
            self._loaded_seconds += now - self._since
            self._loaded_slot_share += (now - self._since) * min(1.0, self._queue.in_use / slots)
        self._since = now
