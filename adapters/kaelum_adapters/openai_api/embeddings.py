"""Embeddings of many requests, made in small batches that all of them share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kaelum_graph.encoder import Encoder
from kaelum_graph.types import Array

BATCH_CHARACTERS = 8_000
"""Text of one call, but at least one input: about 2,000 tokens, a few tenths of a second on two cores. The searches
use the same encoder, and wait no longer than one call for it."""
BATCH_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Embedded:
    """One text's embedding `[384]`, unit norm, and how many tokens of it were read."""

    vector: Array
    tokens: int


@dataclass(slots=True, eq=False)
class _Order:
    """What one request waits for. `texts` are those still to be read, `count` is of all of them."""

    texts: deque[str]
    count: int
    truncate: bool
    result: asyncio.Future[None]
    made: list[Embedded] = field(default_factory=list[Embedded])


class TooLong(Exception):
    """Input `place` of an order is longer than the encoder reads."""

    def __init__(self, place: int) -> None:
        super().__init__(f"input {place} is too long")
        self.place = place


class Embedder:
    """Orders take turns, a batch at a time, in a thread beside the event loop. `encoder` is asked for at first use.

    An order that is cancelled is dropped with what is left of it.
    """

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder
        self._orders: deque[_Order] = deque()
        self._work: asyncio.Task[None] | None = None

    async def embed(self, texts: Sequence[str], *, truncate: bool = False) -> list[Embedded]:
        """The embeddings in the order of `texts`. Raises `TooLong` for a text that isn't read whole, but `truncate`."""
        order = _Order(deque(texts), len(texts), truncate, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._serve())
        await order.result
        return order.made

    async def _serve(self) -> None:
        try:
            while batch := self._next_batch():
                texts = [(text, order.truncate) for order, text in batch]
                try:
                    made = await asyncio.to_thread(_embed, self._encoder, texts)
                except Exception as error:
                    self._fail([order for order, _ in batch], error)
                else:
                    self._hand_out([order for order, _ in batch], made)
        finally:
            self._work = None

    def _next_batch(self) -> list[tuple[_Order, str]]:
        """A text of each order in turn, until the batch is full."""
        batch: list[tuple[_Order, str]] = []
        characters = 0
        while self._orders and len(batch) < BATCH_TEXTS:
            order = self._orders.popleft()
            if order.result.done():
                continue
            if batch and characters + len(order.texts[0]) > BATCH_CHARACTERS:
                self._orders.appendleft(order)
                break
            text = order.texts.popleft()
            characters += len(text)
            batch.append((order, text))
            if order.texts:
                self._orders.append(order)
        return batch

    def _hand_out(self, orders: Sequence[_Order], made: Sequence[Embedded | None]) -> None:
        for order, one in zip(orders, made, strict=True):
            if order.result.done():
                continue
            if one is None:
                order.result.set_exception(TooLong(len(order.made)))
                continue
            order.made.append(one)
            if len(order.made) == order.count:
                order.result.set_result(None)

    def _fail(self, orders: Sequence[_Order], error: Exception) -> None:
        for order in orders:
            if not order.result.done():
                order.result.set_exception(error)


def _embed(encoder: Callable[[], Encoder], texts: Sequence[tuple[str, bool]]) -> list[Embedded | None]:
    """An embedding for each text, None for one that isn't read whole and may not be cut."""
    loaded = encoder()
    lengths = loaded.tokens_read([text for text, _ in texts])
    taken = [truncate or whole for (_, truncate), (_, whole) in zip(texts, lengths, strict=True)]
    vectors = iter(loaded.encode([text for (text, _), take in zip(texts, taken, strict=True) if take]))
    return [Embedded(next(vectors), tokens) if take else None for (tokens, _), take in zip(lengths, taken, strict=True)]
