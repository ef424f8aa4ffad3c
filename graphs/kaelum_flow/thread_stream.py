"""Blocking calls in threads that nobody ever has to wait for: one that hangs delays neither a deadline nor the exit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")


async def iterate_in_thread(start: Callable[[], Iterable[Item]]) -> AsyncGenerator[Item]:
    """The items of a blocking iterable. Once this generator is closed, the iterable is closed at its next item."""
    loop, abandoned = asyncio.get_running_loop(), threading.Event()
    items: asyncio.Queue[tuple[Item | None, BaseException | None, bool]] = asyncio.Queue()

    def post(item: Item | None = None, error: BaseException | None = None, *, more: bool = False) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody listens any more
            loop.call_soon_threadsafe(items.put_nowait, (item, error, more))

    def run() -> None:
        iterable: Any = None
        try:
            iterable = start()
            for item in iterable:
                if abandoned.is_set():
                    break
                post(item, more=True)
        except BaseException as error:
            post(error=error)
        else:
            post()
        finally:
            with suppress(Exception):
                getattr(iterable, "close", lambda: None)()

    threading.Thread(target=run, name="kaelum-chat-model", daemon=True).start()
    try:
        while True:
            item, error, more = await items.get()
            if error is not None:
                raise error
            if not more:
                return
            yield item  # pyright: ignore[reportReturnType]
    finally:
        abandoned.set()


def call_within(seconds: float, function: Callable[[], Item]) -> Item:
    """The function's result. Raises `TimeoutError` after `seconds`; the function is then left to itself."""
    future: Future[Item] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="kaelum-bounded-call", daemon=True).start()
    return future.result(seconds)
