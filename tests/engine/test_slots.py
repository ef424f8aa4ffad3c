"""The slot scheduler: never too many places, a first turn for all, nobody starved, nothing lost."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import CancelToken, GenerationRequest, Sampling
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.slot_queue import SlotQueue, Waiting
from kaelum_graph.slots import Grant, SlotScheduler
from kaelum_graph.types import Message
from tests.engine.tiny_models import byte_tokenizer, random_qwen2, reciting_qwen2


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


class Asking:
    """A request on a thread of its own, and what came of it."""

    def __init__(self, scheduler: SlotScheduler, name: str, **request: object) -> None:
        self.grant: Grant | None = None
        waiting = scheduler.use().waiting
        self._thread = threading.Thread(target=self._ask, args=(scheduler, name, request), daemon=True)
        self._thread.start()
        until(lambda: self.grant is not None or scheduler.use().waiting > waiting)

    def _ask(self, scheduler: SlotScheduler, name: str, request: dict[str, object]) -> None:
        self.grant = scheduler.request(name, **{"wanted": 1, "bid": 0.0, **request})  # type: ignore[arg-type]

    def result(self) -> Grant:
        self._thread.join(10.0)
        assert self.grant is not None
        return self.grant


def granted_order(queue: SlotQueue, slots: int) -> list[str]:
    """Serve one after the other, each place given back at once."""
    order: list[str] = []
    while queue.waiting:
        for request in queue.fill(slots):
            order.append(request.query_id)
            queue.give_back(request.granted)
    return order


def test_a_single_query_gets_all_it_wants_at_once() -> None:
    scheduler = SlotScheduler(32)
    seconds: list[float] = []
    for _ in range(200):
        began = time.perf_counter()
        with scheduler.request("only", wanted=16, bid=None) as grant:
            assert grant.slots == 16
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[len(seconds) // 2] < 500e-6
    assert scheduler.use().used == 0


def test_more_than_there_is_is_never_granted() -> None:
    """Threads that ask, cancel, time out, raise and release in part, for as long as the seed lasts."""
    scheduler, slots = SlotScheduler(7), 7
    lock, in_use, most, served = threading.Lock(), 0, 0, 0

    def count(change: int) -> None:
        nonlocal in_use, most
        with lock:
            in_use += change
            most = max(most, in_use)

    def search(seed: int) -> None:
        nonlocal served
        chance = random.Random(seed)
        for turn in range(40):
            token = CancelToken()
            if chance.random() < 0.1:
                token.cancel()
            deadline = time.monotonic() + 0.001 if chance.random() < 0.1 else None
            wanted, minimum = chance.randint(1, 9), chance.choice([None, 1, 3, 20])
            offer = None if turn == 0 else chance.random()
            try:
                with scheduler.request(
                    str(seed), wanted=wanted, bid=offer, minimum=minimum, cancel=token, deadline=deadline
                ) as grant:
                    assert 0 <= grant.slots <= min(wanted, slots)
                    left = grant.slots
                    count(left)
                    try:
                        if left and chance.random() < 0.5:
                            count(-1)
                            left -= 1
                            grant.release(1)
                        if chance.random() < 0.2:
                            raise RuntimeError("the search broke")
                    finally:
                        count(-left)
                        served += bool(grant.slots)
            except RuntimeError:
                pass

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(search, range(12)))
    use = scheduler.use()
    assert most <= slots
    assert served > 100
    assert (use.used, use.waiting) == (0, 0)
    assert use.granted_slots >= served


def test_the_highest_bids_win_whoever_came_first() -> None:
    scheduler = SlotScheduler(4)
    first = scheduler.request("first", wanted=4, bid=None)
    low = Asking(scheduler, "low", wanted=4, minimum=4, bid=0.1)
    high = Asking(scheduler, "high", wanted=4, minimum=4, bid=0.9)
    first.release()
    assert high.result().slots == 4
    assert low.grant is None
    high.result().release()
    assert low.result().slots == 4


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_first_turn_comes_soon_whatever_others_bid(scale: float) -> None:
    """Bids without end, all newer than the query that has nothing: a quarter of patience and the queue's length."""
    chance, patience, at_once = random.Random(7), 40, 6
    queue, waits = SlotQueue(patience=patience, first_share=0.75), list[int]()
    for turn in range(1500):
        while len(queue.waiting) < at_once:
            queue.join("bids", wanted=1, minimum=1, bid=scale * chance.random())
        if turn % 20 == 0:
            queue.join("has nothing", wanted=1, minimum=1, bid=None)
        for request in queue.fill(1):
            queue.give_back(request.granted)
            if request.bid is None:
                waits.append(queue.grants - 1 - request.came)
    assert len(waits) > 50
    assert 0 < max(waits) <= patience / 4 + at_once + 1 - 1


def test_where_nobody_gains_anything_those_without_anything_go_first() -> None:
    queue = SlotQueue()
    for name, offer in (("settled", 0.0), ("has nothing", None), ("later", None)):
        queue.join(name, wanted=4, minimum=4, bid=offer)
    assert granted_order(queue, 4) == ["has nothing", "later", "settled"]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("newcomers", ["bids", "first waves"])
def test_nobody_waits_longer_than_the_bound(scale: float, newcomers: str) -> None:
    """An endless stream of better requests, N waiting at a time: at most patience + N - 1 grants go to others."""
    chance, patience, at_once = random.Random(5), 20, 9
    queue, poor, waits = SlotQueue(patience=patience), set[Waiting](), list[int]()

    def refill() -> None:
        while len(queue.waiting) < at_once:
            if chance.random() < 0.1:
                poor.add(queue.join("poor", wanted=2, minimum=2, bid=0.0))
            else:
                offer = None if newcomers == "first waves" else scale * (1 + chance.random())
                queue.join("rich", wanted=2, minimum=1, bid=offer)

    refill()
    for _ in range(2000):
        before = queue.grants
        for place, request in enumerate(queue.fill(4)):
            waits.append(before + place - request.came)
            poor.discard(request)
            queue.give_back(request.granted)
        refill()
    assert max(waits) <= patience + at_once - 1
    assert max(waits) > patience, "the stream was no strain"
    assert all(queue.age(request) <= patience + at_once for request in poor)


def test_a_bid_grows_with_waiting_before_patience_ends() -> None:
    def grants_until_served(offer: float) -> int:
        queue = SlotQueue(patience=100)
        request = queue.join("waits", wanted=1, minimum=1, bid=offer)
        while not request.granted:
            queue.join("new", wanted=1, minimum=1, bid=1.0)
            for granted in queue.fill(1):
                queue.give_back(granted.granted)
        return queue.grants - 1

    assert 0 < grants_until_served(0.9) < grants_until_served(0.5) < grants_until_served(0.1) <= 100


def test_each_gets_its_minimum_before_anyone_gets_more() -> None:
    queue = SlotQueue()
    for name, offer in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
        queue.join(name, wanted=16, minimum=4, bid=offer)
    assert {request.query_id: request.granted for request in queue.fill(10)} == {"b": 6, "c": 4}
    assert queue.in_use == 10


def test_small_requests_do_not_pass_a_large_one_for_ever() -> None:
    queue = SlotQueue()
    queue.join("large", wanted=8, minimum=8, bid=5.0)
    queue.join("small", wanted=1, minimum=1, bid=1.0)
    queue.in_use = 3
    assert queue.fill(8) == []
    queue.give_back(3)
    assert [request.query_id for request in queue.fill(8)] == ["large"]


@pytest.mark.parametrize("offer", [float("nan"), float("inf"), -1.0])
def test_a_bid_that_is_none_counts_as_nothing(offer: float) -> None:
    queue = SlotQueue()
    queue.join("odd", wanted=1, minimum=1, bid=offer)
    queue.join("fair", wanted=1, minimum=1, bid=0.1)
    assert granted_order(queue, 1) == ["fair", "odd"]


def test_a_cancelled_request_leaves_and_lets_others_through() -> None:
    scheduler, token = SlotScheduler(4), CancelToken()
    first = scheduler.request("first", wanted=3, bid=None)
    large = Asking(scheduler, "large", wanted=4, minimum=4, bid=9.0, cancel=token)
    small = Asking(scheduler, "small", wanted=1, minimum=1, bid=0.0)
    assert small.grant is None
    token.cancel()
    refused = large.result()
    assert (refused.slots, refused.refused) == (0, "cancelled")
    assert small.result().slots == 1
    first.release()
    small.result().release()
    assert scheduler.use().refused == 1


def test_a_request_ends_at_its_deadline() -> None:
    scheduler = SlotScheduler(1)
    first = scheduler.request("first", wanted=1, bid=None)
    began = time.monotonic()
    late = scheduler.request("late", wanted=1, bid=None, deadline=began + 0.1)
    assert (late.slots, late.refused) == (0, "deadline")
    assert 0.1 <= time.monotonic() - began < 5.0
    late.release()
    first.release()
    assert scheduler.use().used == 0


def test_an_exception_gives_the_places_back() -> None:
    scheduler = SlotScheduler(4)
    with pytest.raises(KeyError), scheduler.request("breaks", wanted=4, bid=None):
        raise KeyError("a search broke")
    assert scheduler.use().used == 0


def test_an_interrupted_wait_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = SlotScheduler(4)
    first = scheduler.request("first", wanted=4, bid=None)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scheduler.request("interrupted", wanted=2, bid=None)
    assert scheduler.use().waiting == 0
    first.release()
    assert scheduler.use().used == 0


def test_the_places_of_a_lost_grant_come_back() -> None:
    scheduler = SlotScheduler(2)

    def dies() -> None:
        scheduler.request("dies", wanted=2, bid=None)

    thread = threading.Thread(target=dies)
    thread.start()
    thread.join()
    gc.collect()
    with scheduler.request("next", wanted=2, bid=None, deadline=time.monotonic() + 5.0) as grant:
        assert grant.slots == 2


def test_places_may_come_back_one_by_one_and_only_once() -> None:
    scheduler = SlotScheduler(4)
    grant = scheduler.request("one", wanted=4, bid=None)
    grant.release(1)
    assert (grant.slots, grant.held, scheduler.use().used) == (4, 3, 3)
    grant.release(5)
    grant.release()
    assert scheduler.use().used == 0


def test_a_model_that_halves_its_batch_is_followed() -> None:
    batch = [8]
    scheduler = SlotScheduler(lambda: batch[0])
    first = scheduler.request("first", wanted=8, bid=None)
    batch[0] = 4
    waiting = Asking(scheduler, "next", wanted=8, minimum=8, bid=None)
    first.release(5)
    assert waiting.grant is None, "3 of 4 are in use"
    first.release()
    assert waiting.result().slots == 4, "as many as there are stand for the minimum"


def test_how_far_a_wave_may_be_cut_depends_on_the_places() -> None:
    assert [SlotScheduler(slots).least_wave(16) for slots in (1, 8, 16, 32, 128)] == [1, 1, 2, 4, 4]
    assert SlotScheduler(32).least_wave(2) == 2


def test_it_tells_how_full_it_is_and_how_long_one_waits() -> None:
    clock = [0.0]
    scheduler = SlotScheduler(4, clock=lambda: clock[0])
    first = scheduler.request("first", wanted=3, bid=None)
    waiting = Asking(scheduler, "waits", wanted=4, minimum=4, bid=None)
    clock[0] = 2.0
    use = scheduler.use()
    assert (use.total, use.used, use.waiting, use.grants, use.granted_slots) == (4, 3, 1, 1, 3)
    assert (use.loaded_seconds, use.loaded_share) == (2.0, 0.75)
    first.release()
    waiting.result().release()
    use = scheduler.use()
    assert (use.longest_wait, use.longest_wait_grants, use.grants, use.used) == (2.0, 0, 2, 0)


def test_no_places_and_nothing_wanted_are_mistakes() -> None:
    with pytest.raises(UsageError, match="slots is 0"):
        SlotScheduler(0)
    with pytest.raises(UsageError, match="wanted is 0"):
        SlotScheduler(1).request("none", wanted=0, bid=None)


def test_a_local_model_tells_of_each_rollout_when_it_ends() -> None:
    ends: list[str | None] = []
    model = LocalPolicyModel(reciting_qwen2("abc|"), byte_tokenizer(), name="tiny", engine="padded", max_batch=2)
    with model:
        for stop, most in (("c",), 9), ((), 9), ((), 2):
            request = GenerationRequest(
                messages=(Message("user", "?"),), n=3, sampling=Sampling(stop=stop, max_tokens=most), on_end=ends.append
            )
            model.generate([request])
    assert ends == ["c"] * 3 + [""] * 3 + [None] * 3


def test_searches_on_a_local_model_keep_to_its_batch_and_free_places_one_by_one() -> None:
    with LocalPolicyModel(random_qwen2(), byte_tokenizer(), name="tiny", engine="padded", max_batch=4) as model:
        scheduler = SlotScheduler(lambda: model.max_batch)
        freed: list[int] = []

        def search(number: int) -> int:
            drawn = 0
            while drawn < 8:
                with scheduler.request(str(number), wanted=4, bid=None if not drawn else 1.0 / drawn) as grant:

                    def on_end(_: str | None, grant: Grant = grant) -> None:
                        grant.release(1)
                        freed.append(scheduler.use().used)

                    sampling = Sampling(max_tokens=4 + 5 * number, seed=number)
                    asked = GenerationRequest(
                        messages=(Message("user", "?"),), n=grant.slots, sampling=sampling, on_end=on_end
                    )
                    drawn += len(model.generate([asked])[0].samples)
            return drawn

        with ThreadPoolExecutor(5) as pool:
            drawn = list(pool.map(search, range(5)))
    assert min(drawn) >= 8
    assert len(freed) == sum(drawn)
    assert max(freed) <= 4
    use = scheduler.use()
    assert use.used == 0
    assert use.loaded_share > 0.9
