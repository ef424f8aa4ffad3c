"""An event loop in a thread of its own, for blocking callers of asynchronous clients."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundLoop:
    """Runs coroutines for any thread until it is closed. The thread ends with the process or with this object."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name=name, daemon=True)
        self._thread.start()
        self._futures: set[Future[Any]] = set()
        self._finalizer = weakref.finalize(self, _stop, self._loop)

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine; cancelling its future cancels it. Raises RuntimeError on a closed loop."""
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def close(self, last: Coroutine[Any, Any, object] | None = None, *, patience_seconds: float = 5.0) -> None:
        """Cancel what runs, run `last`, and end the thread. Whoever still waits for a future gets `CancelledError`."""
        for future in list(self._futures):
            future.cancel()
        if last is not None:
            with suppress(Exception):
                self.submit(last).result(patience_seconds)
        self._finalizer()
        if threading.current_thread() is not self._thread:
            self._thread.join(patience_seconds)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.wait(pending, timeout=2))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(_close_transports(loop))
    finally:
        loop.close()


async def _close_transports(loop: asyncio.AbstractEventLoop) -> None:
    """Close the connections that no client knows: those whose caller was cancelled just as they were made."""
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()
    # A transport lets go of its socket one turn of the loop after it was told to.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
