"""Who gets the model's places next: an expert choice among the waiting, with a first turn for each and ageing.

After Mixture-of-Depths (Raposo et al. 2024) and expert choice (Zhou et al. 2022): the number of places is fixed, and
the batch picks the queries that gain most from it, not the queries the batch. Order among the waiting:

1. whoever `patience` grants have passed by, the longest waiting first;
2. the highest of bid + top · age / patience, where `top` is the highest bid that waits and `age` counts the grants
   since the request came; equal ones in the order in which they came. Whoever has nothing yet bids 3/4 of `top`.

So nobody starves: while a request waits, at most patience + N − 1 grants go to others, N being the most requests that
ever waited at once. For it is passed by `patience` times at most before it counts among the first kind, and then only
those that came before it, N − 1 at most, are served before it. Everyone gets a first turn, whatever others bid, after
at most patience / 4 + N − 1 of them: from a lead of so many grants on, 3/4 of `top` and its age are more than any bid
that came later. Within that lead, who gains most goes on first: a search that is worth it is not put off by every
newcomer until its time is over. The scale of the bids doesn't matter.

Nothing here blocks or knows of threads or time; see `slots` for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PATIENCE = 128
"""Grants to others after which a request goes before all bids: a server's queries in flight, twice over."""
FIRST_SHARE = 0.75
"""What a query that has nothing yet bids, as a share of the highest bid. Chosen with `PATIENCE` on the tuning half of
the rollout bank (benchmarks/slots.py --tune), where neither makes much of a difference."""


@dataclass(slots=True, eq=False, kw_only=True)
class Waiting:
    """A request for up to `wanted` places, not below `minimum`. `granted` is 0 until it has its turn.

    `bid` is the expected gain per token, None for a query that has nothing yet; `came` counts the grants that had been
    given when it came, `number` the requests.
    """

    query_id: str
    wanted: int
    minimum: int
    bid: float | None
    came: int
    number: int
    granted: int = 0


class SlotQueue:
    """The places in use and the requests that wait for some. `in_use` never passes what `fill` is told there are."""

    def __init__(self, *, patience: int = PATIENCE, first_share: float = FIRST_SHARE) -> None:
        self.patience = patience
        self.first_share = first_share
        self.in_use = 0
        self.grants = 0
        self.waiting: list[Waiting] = []
        self._requests = 0

    def join(self, query_id: str, *, wanted: int, minimum: int, bid: float | None) -> Waiting:
        """Begin to wait. A bid that is no number, or is negative, counts as 0."""
        if bid is not None and not (math.isfinite(bid) and bid > 0.0):
            bid = 0.0
        request = Waiting(
            query_id=query_id, wanted=wanted, minimum=min(minimum, wanted), bid=bid, came=self.grants,
            number=self._requests,
        )  # fmt: skip
        self._requests += 1
        self.waiting.append(request)
        return request

    def leave(self, request: Waiting) -> None:
        """Stop waiting, without a grant."""
        self.waiting.remove(request)

    def give_back(self, count: int) -> None:
        """`count` places are free again."""
        self.in_use -= count

    def fill(self, slots: int) -> list[Waiting]:
        """Grant what there is to those whose turn it is, of `slots` in all; the requests that were granted some.

        Each gets its minimum first, in order; what is then left goes to the first of them, up to what they want. While
        others wait waves are thus short, and the next bid knows more. Whoever can't have its minimum holds back those
        behind it: places may stay free, but a large request is never passed by small ones for ever.
        """
        granted: list[Waiting] = []
        while self.waiting:
            first = self._first()
            minimum = min(first.minimum, max(1, slots))
            if slots - self.in_use < minimum:
                break
            self.waiting.remove(first)
            first.granted = minimum
            self.in_use += minimum
            self.grants += 1
            granted.append(first)
        for request in granted:
            more = max(0, min(request.wanted - request.granted, slots - self.in_use))
            request.granted += more
            self.in_use += more
        return granted

    def age(self, request: Waiting) -> int:
        """Grants given to others since a waiting request came."""
        return self.grants - request.came

    def _first(self) -> Waiting:
        top = max((request.bid for request in self.waiting if request.bid is not None), default=0.0)

        def order(request: Waiting) -> tuple[bool, float, bool, int]:
            age = self.age(request)
            if age >= self.patience:
                return False, 0.0, False, request.number
            offer = self.first_share * top if request.bid is None else request.bid
            return True, -(offer + top * age / self.patience), request.bid is not None, request.number

        return min(self.waiting, key=order)
