"""The event loop in a thread of its own: what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from concurrent.futures import CancelledError

import pytest

from kaelum_graph.models.background_loop import BackgroundLoop


def test_it_leaves_no_connection_open_that_nobody_knows() -> None:
    """A connection whose caller was cancelled as it was made is known to the loop alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        loop = BackgroundLoop("test")

        async def connect_and_forget() -> None:
            await asyncio.get_running_loop().create_connection(asyncio.Protocol, *server.getsockname())

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.submit(connect_and_forget()).result(10)
            loop.close()
            del loop
            gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_whoever_waits_when_it_closes_is_told() -> None:
    loop = BackgroundLoop("test")
    waiting = loop.submit(asyncio.sleep(60))
    loop.close()
    with pytest.raises(CancelledError):
        waiting.result(10)


def test_a_closed_loop_takes_nothing_more() -> None:
    loop = BackgroundLoop("test")
    loop.close()
    with pytest.raises(RuntimeError):
        loop.submit(asyncio.sleep(0))
