"""Events as they come, and word of every silence between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from kaelum_adapters.openai_api.errors import ApiError

T = TypeVar("T")


async def with_silences(
    events: AsyncIterator[T], *, seconds: float, what: str, ahead: int = 0
) -> AsyncGenerator[T | None]:
    """The events, and None after each so many seconds without one; `what` they are of is named in an error.

    They live in one task of their own, so that what they keep between their steps is where they left it; it may be
    `ahead` events before whoever reads, 0: any number. Closing this cancels that task and closes the events before it
    returns.
    """
    queue: asyncio.Queue[T | BaseException | None] = asyncio.Queue(ahead)

    async def pump() -> None:
        end: BaseException | None = None
        try:
            async for event in events:
                await queue.put(event)
        except Exception as error:
            end = error
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()
        await queue.put(end)

    task = asyncio.create_task(pump())
    try:
        while True:
            try:
                async with asyncio.timeout(seconds):
                    event = await queue.get()
            except TimeoutError:
                if task.done() and queue.empty():  # cancelled from within
                    raise ApiError(500, f"The {what} ended without an answer.", code="internal_error") from None
                yield None
                continue
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
