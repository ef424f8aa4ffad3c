"""Who may start work now, who waits, and who is sent away.

At most `max_running` requests are at work; `queue_size` more wait. Tenants take turns, so that one with a hundred
requests waiting holds another's first one up by a single turn. Nor can one keep the others out: in a full queue the
newest request of the tenant with the most makes room for a tenant with fewer. All of this runs on one event loop and
needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Caller
from kaelum_adapters.openai_api.request_state import current_request

MAX_RETRY_SECONDS = 60
"""OpenAI's clients don't heed a longer wait."""
_GUESSED_SECONDS = 5.0
_RECENT = 0.1
"""Weight of the newest service time in the average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What one key may do; None is without limit. `concurrent` counts its waiting requests too."""

    requests_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place at work. `waited` is in seconds; `deadline`, on the clock of `time.monotonic`, ends the request."""

    waited: float
    deadline: float

    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())


class Bucket:
    """Tokens that come back at an even rate up to a minute's worth; one pays for a request."""

    def __init__(self, per_minute: int, *, now: float) -> None:
        self.per_minute = per_minute
        self.tokens = float(per_minute)
        self._at = now

    def refill(self, now: float) -> None:
        """Add what came back since the last look."""
        self.tokens = min(float(self.per_minute), self.tokens + (now - self._at) * self.per_minute / 60)
        self._at = now

    def seconds_until(self, tokens: float) -> float:
        """How long until there are that many; 0 when there are."""
        return max(0.0, tokens - self.tokens) * 60 / self.per_minute


class Admission:
    """`async with admission.slot(caller)` around work; raises `ApiError` 429 or 503 with `retry-after`.

    `limits_of` gives a key's limits by its id; `deadline_seconds` is how long a request may take, waiting included;
    `ready` is awaited once a place is there and raises where the model isn't to be had.
    """

    def __init__(
        self,
        *,
        max_running: int,
        queue_size: int,
        deadline_seconds: float,
        limits_of: Callable[[str], KeyLimits],
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.max_running = max_running
        self.queue_size = queue_size
        self.running = 0
        self.waiting = 0
        self._deadline_seconds = deadline_seconds
        self._limits_of = limits_of
        self._ready = ready
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._buckets: dict[str, Bucket] = {}
        self._held: dict[str, int] = {}
        self._service_seconds: float | None = None

    @contextlib.asynccontextmanager
    async def slot(self, caller: Caller) -> AsyncGenerator[Slot]:
        """A place at work for this caller, after its turn in the queue.

        Leaving the queue (a cancelled task) gives the turn up at once.
        """
        request = current_request()
        asked = time.monotonic()
        deadline = request.began + self._deadline_seconds
        limits = self._limits_of(caller.key_id)
        self._check_concurrency(caller, limits)
        full = self.running >= self.max_running
        crowded = full and self.waiting >= self.queue_size
        crowding = self._who_crowds_out(caller.tenant) if crowded else None
        if crowded and crowding is None:
            raise self._overload()
        self._pay(caller, limits, request.headers, asked)
        if crowding is not None:
            self._send_newest_away(crowding)

        self._held[caller.key_id] = self._held.get(caller.key_id, 0) + 1
        try:
            if full:
                await self._queue(caller.tenant, deadline - asked)
            else:
                self.running += 1
            began = time.monotonic()
            try:
                await self._until_ready(deadline - began)
                yield Slot(waited=began - asked, deadline=deadline)
            finally:
                self._note_service(time.monotonic() - began)
                self._release()
        finally:
            self._held[caller.key_id] -= 1
            if not self._held[caller.key_id]:
                del self._held[caller.key_id]

    def retry_seconds(self) -> int:
        """When a place is likely to be free: by recent service times and the queue's length."""
        each = self._service_seconds or _GUESSED_SECONDS
        return _whole_seconds(each * (self.waiting + 1) / self.max_running)

    async def _until_ready(self, seconds: float) -> None:
        if self._ready is None:
            return
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._ready()
        except TimeoutError:
            raise self._refusal("The model is still being loaded.", "model_loading", status=503) from None

    async def _queue(self, tenant: str, seconds: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release()  # its turn came in the same moment
            else:
                self._leave(tenant, turn)
            if isinstance(error, TimeoutError):
                raise self._refusal(
                    "The request's time was over before its turn.", "queue_timeout", status=503
                ) from None
            raise

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(tenant)
        if queue is None or turn not in queue:
            return  # passed over already, as it had been cancelled, or sent away
        queue.remove(turn)
        if not queue:
            del self._queues[tenant]
        self.waiting -= 1

    def _release(self) -> None:
        """Hand the place to whoever is next; the tenant then goes to the end of the line."""
        while self._queues:
            tenant, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[tenant] = queue
            self.waiting -= 1
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1

    def _who_crowds_out(self, tenant: str) -> str | None:
        """The tenant with the most requests waiting, where these are more than `tenant` would then have."""
        longest = max(self._queues, key=lambda name: len(self._queues[name]), default=None)
        mine = len(self._queues.get(tenant, ())) + 1
        return longest if longest is not None and len(self._queues[longest]) > mine else None

    def _send_newest_away(self, tenant: str) -> None:
        """Make room in the queue."""
        turn = self._queues[tenant].pop()
        self.waiting -= 1
        if not turn.done():
            turn.set_exception(self._overload())

    def charge(self, caller: Caller) -> None:
        """Count a request that needs no place at work against its key's rate. Raises `ApiError` 429 beyond it."""
        self._pay(caller, self._limits_of(caller.key_id), current_request().headers, time.monotonic())

    def _check_concurrency(self, caller: Caller, limits: KeyLimits) -> None:
        if limits.concurrent is not None and self._held.get(caller.key_id, 0) >= limits.concurrent:
            each = self._service_seconds or _GUESSED_SECONDS
            raise ApiError(
                429,
                f"This key may have {limits.concurrent} requests at once.",
                code="concurrency_limit_exceeded",
                headers={"retry-after": str(_whole_seconds(each))},
            )

    def _pay(self, caller: Caller, limits: KeyLimits, headers: dict[str, str], now: float) -> None:
        """Take a token of the key's rate; says in `headers` how many are left."""
        rate = limits.requests_per_minute
        if rate is None:
            self._buckets.pop(caller.key_id, None)
            return
        bucket = self._buckets.get(caller.key_id)
        if bucket is None or bucket.per_minute != rate:
            bucket = self._buckets[caller.key_id] = Bucket(rate, now=now)
        bucket.refill(now)
        enough = bucket.tokens >= 1
        if enough:
            bucket.tokens -= 1
        headers["x-ratelimit-limit-requests"] = str(rate)
        headers["x-ratelimit-remaining-requests"] = str(int(bucket.tokens))
        headers["x-ratelimit-reset-requests"] = f"{bucket.seconds_until(rate):.3f}s"
        if not enough:
            raise ApiError(
                429,
                f"This key may make {rate} requests a minute.",
                code="rate_limit_exceeded",
                headers={"retry-after": str(_whole_seconds(bucket.seconds_until(1)))},
            )

    def _overload(self) -> ApiError:
        return self._refusal("The server is at its limit and the queue is full.", "server_overloaded")

    def _refusal(self, message: str, code: str, *, status: int = 429) -> ApiError:
        return ApiError(status, message, code=code, headers={"retry-after": str(self.retry_seconds())})

    def _note_service(self, seconds: float) -> None:
        before = self._service_seconds
        self._service_seconds = seconds if before is None else before + _RECENT * (seconds - before)


def _whole_seconds(seconds: float) -> int:
    return max(1, min(MAX_RETRY_SECONDS, math.ceil(seconds)))
