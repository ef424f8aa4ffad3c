"""A client that asks again gets the answer that is being made for it, or was just made, and no second search."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import cast

from kaelum_adapters.openai_api.exchange import Ask, Called, Finished, Piece, RunEvent, Runner, Thought

EVENT_CHARACTERS = 100
"""What an event takes beside its text, roughly."""


class SharedRunner:
    """Runs of another runner that a retry may join.

    An ask with `retry` set, of the same tenant and fingerprint as a run that is under way or ended well within
    `keep_seconds`, gets all of that run's events from the first on. Any other ask starts a run of its own. A run is
    cancelled as soon as the last one who listens to it leaves: a plain disconnect keeps nothing busy. A failed run is
    not given again, nor is one whose episode was forgotten since: `kept` says of a tenant and the id of a recorded
    episode whether it is still there, and may block. At most `capacity` runs can be joined, the newest, with at most
    `max_characters` of text in all.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        keep_seconds: float = 120.0,
        capacity: int = 256,
        max_characters: int = 32_000_000,
        kept: Callable[[str, str], bool] = lambda tenant, episode_id: True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._keep_seconds = keep_seconds
        self._capacity = capacity
        self._max_characters = max_characters
        self._kept = kept
        self._now = now
        self._runs: OrderedDict[tuple[str, str], _SharedRun] = OrderedDict()
        self._characters = 0  # of all these runs together

    async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
        """The events of a run for `ask`: its own, or the one that it asks for again. Raises as that one does."""
        self._forget_old()
        key = (ask.caller.tenant, ask.fingerprint)
        shared = self._runs.get(key) if ask.retry and ask.fingerprint else None
        if shared is not None and shared.episode_id:
            if not await asyncio.to_thread(self._kept, ask.caller.tenant, shared.episode_id):
                self._drop(shared)
            shared = self._runs.get(key)  # meanwhile it may have gone, and another begun
        if shared is None:
            shared = _SharedRun(key, on_event=self._make_room, on_end=self._settle)
            if ask.fingerprint:
                self._keep(shared)
            else:
                shared.stop_keeping()
            shared.start(self._runner.run(ask))
        async with aclosing(shared.events()) as events:
            async for event in events:
                yield event

    def _keep(self, shared: _SharedRun) -> None:
        if former := self._runs.get(shared.key):
            self._drop(former)
        self._runs[shared.key] = shared
        self._make_room(0)

    def _make_room(self, characters: int) -> None:
        """Let go of the oldest runs where there are too many or too long ones; whoever listens still gets the rest."""
        self._characters += characters
        while self._runs and (len(self._runs) > self._capacity or self._characters > self._max_characters):
            self._drop(next(iter(self._runs.values())))

    def _settle(self, shared: _SharedRun) -> None:
        """A run has ended: well, and it is kept for a while, or not, and it can't be joined any more."""
        if not shared.ended_well:
            self._drop(shared)
            return
        shared.ended_at = self._now()
        if self._runs.get(shared.key) is shared:
            # On a quiet server nobody else would come by to let it go.
            shared.timer = asyncio.get_running_loop().call_later(self._keep_seconds, self._drop, shared)

    def _drop(self, shared: _SharedRun) -> None:
        if self._runs.get(shared.key) is shared:
            del self._runs[shared.key]
            self._characters -= shared.characters
            shared.stop_keeping()
        if shared.timer is not None:
            shared.timer.cancel()

    def _forget_old(self) -> None:
        limit = self._now() - self._keep_seconds
        for shared in [run for run in self._runs.values() if run.ended_at is not None and run.ended_at <= limit]:
            self._drop(shared)


class _SharedRun:
    """One run in a task of its own, and who listens to it.

    Its events stay for those who come later until `stop_keeping`; then only what its slowest listener still needs.
    """

    def __init__(
        self,
        key: tuple[str, str],
        *,
        on_event: Callable[[int], None],
        on_end: Callable[[_SharedRun], None],
    ) -> None:
        self.key = key
        self.characters = 0
        self.ended_at: float | None = None
        self.ended_well = False
        self.episode_id = ""  # of what is on record, once it is
        self.timer: asyncio.TimerHandle | None = None
        self._on_event, self._on_end = on_event, on_end
        self._buffer: deque[RunEvent] = deque()
        self._first = 0  # the place of the buffer's first event in the whole run
        self._kept = True
        self._listeners: dict[object, int] = {}  # the place that each is to read next
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, run: AsyncIterator[RunEvent]) -> None:
        """Begin. The request isn't kept here: it may be megabytes, and the run outlives its use."""
        self._task = asyncio.get_running_loop().create_task(self._work(run))

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Everything from the first event on. Raises what the run failed with. The last to leave cancels the run."""
        me, place = object(), 0
        self._listeners[me] = place
        try:
            while True:
                while place < self._first + len(self._buffer):
                    event = self._buffer[place - self._first]
                    place += 1
                    self._listeners[me] = place
                    self._trim()
                    yield event
                if self._failure is not None:
                    raise self._failure
                if self.ended_well:
                    return
                await self._news.wait()
        finally:
            del self._listeners[me]
            self._trim()
            if not self._listeners:
                await self._cancel()

    def stop_keeping(self) -> None:
        """From here on nobody can join."""
        self._kept = False
        self._trim()

    async def _work(self, run: AsyncIterator[RunEvent]) -> None:
        try:
            async with aclosing(cast("AsyncGenerator[RunEvent]", run)) as events:
                async for event in events:
                    if isinstance(event, Finished) and event.answer is not None and event.answer.recorded:
                        self.episode_id = event.id
                    self._buffer.append(event)
                    if self._kept:
                        characters = EVENT_CHARACTERS + _characters(event)
                        self.characters += characters
                        self._on_event(characters)
                    self._tell()
            self.ended_well = True
        except BaseException as error:
            self._failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._on_end(self)
            self._tell()

    async def _cancel(self) -> None:
        """End the work, and come back once it has ended, as closing the inner run would."""
        task = self._task
        if task is None or task.done():
            return
        self._failure = asyncio.CancelledError()
        self._on_end(self)
        task.cancel()
        await asyncio.wait({task})

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _trim(self) -> None:
        """Let go of what nobody needs any more."""
        if self._kept:
            return
        needed = min(self._listeners.values(), default=self._first + len(self._buffer))
        while self._first < needed:
            self._buffer.popleft()
            self._first += 1


def _characters(event: RunEvent) -> int:
    match event:
        case Thought() | Piece():
            return len(event.text)
        case Called():
            return sum(len(call.arguments) for call in event.calls)
        case Finished():
            told = sum(len(reply.text) + EVENT_CHARACTERS * len(reply.logprobs or ()) for reply in event.replies)
            return told + (_characters_within(event.answer.trace) if event.answer else 0)
        case _:
            return 0


def _characters_within(value: object) -> int:
    """How much text there is in a JSON value: the trace of a search is the largest thing in a run."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(len(key) + _characters_within(item) for key, item in value.items())
        case list() | tuple():
            return sum(_characters_within(item) for item in value)
        case _:
            return 8
