"""Searches that share a small batch: what is cut goes back, what ends is free, nobody is left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, unpacked
from kaelum_flow.wave_slots import cut_to
from kaelum_graph.config import Settings
from kaelum_graph.errors import ModelError
from kaelum_graph.models.base import CancelToken, Generation, GenerationRequest, OnDelta
from kaelum_graph.slots import SlotScheduler
from kaelum_graph.tree import SearchTree, select
from kaelum_graph.types import WorkerName
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Script, ScriptedModel, always

APPLES = "Ann has 3 apples and gets some more. How many apples has she?"


def boxed(value: object) -> str:
    return f"So it is\n\\boxed{{{value}}}"


class Batched(ScriptedModel):
    """Generates at most `max_batch` sequences at a time, by what it says; keeps the most that were asked of it at once.

    `ended` is called, as it goes, with each sample's end while the others are still under way.
    """

    def __init__(self, script: Script, *, batch: int, seconds: float = 0.0) -> None:
        super().__init__(script, seconds=seconds)
        self.batch = batch
        self.most = self.under_way = 0
        self.broken = False
        self._counting = threading.Lock()

    @property
    def max_batch(self) -> int:
        return self.batch

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        wanted = sum(request.n for request in requests)
        with self._counting:
            self.under_way += wanted
            self.most = max(self.most, self.under_way)
        try:
            if self.broken:
                raise ModelError("the model broke")
            return super().generate(requests, deadline=deadline, cancel=cancel, on_delta=on_delta)
        finally:
            with self._counting:
                self.under_way -= wanted


MakeBatched = Callable[..., Kaelum]


@pytest.fixture
def make_batched(make_kaelum: MakeKaelum) -> MakeBatched:
    """A Kaelum whose model generates `batch` sequences at a time."""

    def make(script: Script, *, batch: int, seconds: float = 0.0, **settings: object) -> Kaelum:
        kaelum = make_kaelum(script, **{"seed": None, "cache": False, "max_reflections": 0, **settings})
        kaelum.services._given["model"] = Batched(script, batch=batch, seconds=seconds)
        return kaelum

    return make


def slots_of(kaelum: Kaelum) -> SlotScheduler:
    assert kaelum.services.slots is not None
    return kaelum.services.slots


def model_of(kaelum: Kaelum) -> Batched:
    model = kaelum.services.model
    assert isinstance(model, Batched)
    return model


def tree_of(kaelum: Kaelum, answer: Any) -> SearchTree:
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    return SearchTree.from_json(record["tree"])


def test_a_model_that_does_not_say_has_no_scheduler_unless_one_is_set(make_kaelum: MakeKaelum) -> None:
    assert make_kaelum(always(boxed(3))).services.slots is None
    set_by_hand = make_kaelum(always(boxed(3)), slots=6).services.slots
    assert set_by_hand is not None
    assert set_by_hand.slots == 6


def test_what_is_set_never_passes_the_models_own_batch(make_batched: MakeBatched) -> None:
    assert slots_of(make_batched(always(boxed(3)), batch=4, slots=9)).slots == 4
    assert slots_of(make_batched(always(boxed(3)), batch=9, slots=4)).slots == 4


def test_alone_a_search_has_the_whole_batch(make_batched: MakeBatched) -> None:
    kaelum = make_batched(lambda request, k: boxed(k), batch=32, wave_size=16)
    answer = kaelum.ask(APPLES, worker="math", sims=32)
    sizes = [
        sum(one["wave"] == wave for one in answer.trace["rollouts"])  # type: ignore[index]
        for wave in range(1, answer.cost.waves + 1)
    ]
    assert sizes == [4, 4, 8, 16]
    assert slots_of(kaelum).use().used == 0


def test_a_wave_that_does_not_fit_is_cut_and_its_budget_spent_all_the_same(make_batched: MakeBatched) -> None:
    kaelum = make_batched(lambda request, k: boxed(k), batch=3)
    answer = kaelum.ask(APPLES, worker="math", sims=8)
    tree = tree_of(kaelum, answer)
    assert answer.cost.rollouts == 8
    assert model_of(kaelum).most == 3
    assert all(node.in_flight == 0 for node in tree.nodes)
    assert tree.nodes[0].visits == 8
    assert [rollout.id for rollout in tree.rollouts] == list(range(8))


def test_a_cut_wave_is_the_wave_of_so_many(make_batched: MakeBatched) -> None:
    """Cutting leaves the tree as a selection of that size would have."""
    allocation = {WorkerName("math"): 6, WorkerName("code"): 4}

    def selected(slots: int) -> tuple[SearchTree, list[Any]]:
        tree = SearchTree()
        wave = select(tree, slots=slots, allocation=allocation, max_depth=4)
        return tree, [
            {"simulation": {"node_id": one.node_id, "worker": one.worker, "operator": one.operator}} for one in wave
        ]

    settings = Settings()
    for slots in range(1, 8):
        tree, wave = selected(8)
        with SlotScheduler(slots).request("one", wanted=8, bid=None) as grant:
            cut = cut_to(grant, cast("KaelumState", {"wave": wave}), settings, tree)
        fewer, expected = selected(slots)
        assert unpacked(cut["wave"]) == expected
        assert unpacked(cut["tree"]) == fewer.to_json()


def test_a_seeded_search_draws_the_same_whatever_it_shares_the_batch_with(make_batched: MakeBatched) -> None:
    def seeds(kaelum: Kaelum) -> list[tuple[int | None, int]]:
        return [(one.sampling.seed, one.n) for one in model_of(kaelum).requests]

    free, narrow = (make_batched(lambda request, k: boxed(k), batch=size, seed=3) for size in (32, 3))
    for kaelum in (free, narrow):
        kaelum.ask(APPLES, worker="math", sims=16)
    assert seeds(free) == seeds(narrow)


def test_searches_side_by_side_never_pass_the_batch_and_all_end(make_batched: MakeBatched) -> None:
    kaelum = make_batched(lambda request, k: boxed(k % 3), batch=6, seconds=0.01)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: kaelum.ask(f"{APPLES} ({n})", worker="math", sims=8), range(8)))
    assert model_of(kaelum).most <= 6
    assert [(a.cost.rollouts, a.stop_reason, a.cost.waves) for a in answers if a.cost.rollouts < 4] == []
    assert sum(answer.cost.rollouts for answer in answers) >= 32
    use = slots_of(kaelum).use()
    assert (use.used, use.waiting, use.refused) == (0, 0, 0)
    assert use.longest_wait > 0.0


def test_a_broken_model_gives_the_places_back(make_batched: MakeBatched) -> None:
    kaelum = make_batched(always(boxed(3)), batch=4)
    model_of(kaelum).broken = True
    with pytest.raises(ModelError, match="broke"):
        kaelum.ask(APPLES, worker="math", sims=4)
    assert slots_of(kaelum).use().used == 0
    model_of(kaelum).broken = False
    assert kaelum.ask(APPLES, worker="math", sims=4).answer == "3"


def test_a_deadline_while_it_waits_ends_the_search_with_what_it_has(make_batched: MakeBatched) -> None:
    kaelum = make_batched(lambda request, k: boxed(k), batch=4)
    held = slots_of(kaelum).request("another", wanted=4, bid=None)
    began = time.monotonic()
    answer = kaelum.ask(APPLES, worker="math", sims=8, deadline=0.3)
    assert time.monotonic() - began < 10.0
    assert (answer.stop_reason, answer.answer, answer.cost.rollouts) == ("deadline", None, 0)
    assert slots_of(kaelum).use().refused >= 1
    held.release()
    assert kaelum.ask(APPLES, worker="math", sims=4).cost.rollouts == 4


def test_a_cancelled_search_stops_waiting(make_batched: MakeBatched) -> None:
    kaelum, token = make_batched(lambda request, k: boxed(k), batch=4), CancelToken()
    held = slots_of(kaelum).request("another", wanted=4, bid=None)
    threading.Timer(0.2, token.cancel).start()
    answer = kaelum.ask(APPLES, worker="math", sims=8, cancel=token)
    assert (answer.stop_reason, answer.cost.rollouts) == ("cancelled", 0)
    assert all(node.in_flight == 0 for node in tree_of(kaelum, answer).nodes)
    held.release()


def test_a_rollout_that_ends_makes_room_at_once(make_batched: MakeBatched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is free while the rest of the wave goes on; one that pauses for its program keeps it."""
    kaelum = make_batched(always(boxed(3)), batch=8)
    model, scheduler, left = model_of(kaelum), slots_of(kaelum), list[int]()

    def generate(requests: Sequence[GenerationRequest], **_: object) -> list[Generation]:
        for request in requests:
            assert request.on_end is not None
            for stopped_by in ("", None, "```output"):
                request.on_end(stopped_by)
                left.append(scheduler.use().used)
        return ScriptedModel.generate(model, requests)

    monkeypatch.setattr(model, "generate", generate)
    kaelum.ask(APPLES, worker="math", sims=4)
    assert left[:3] == [3, 2, 2]
    assert scheduler.use().used == 0


def test_a_continued_search_has_a_first_wave_too(make_batched: MakeBatched, monkeypatch: pytest.MonkeyPatch) -> None:
    kaelum = make_batched(lambda request, k: boxed(k % 2), batch=8)
    bids: list[float | None] = []
    request = SlotScheduler.request

    def spied(self: SlotScheduler, query_id: str, **told: Any) -> Any:
        bids.append(told["bid"])
        return request(self, query_id, **told)

    monkeypatch.setattr(SlotScheduler, "request", spied)
    first = kaelum.ask(APPLES, worker="math", sims=8)
    assert bids[0] is None
    assert all(offer is not None and offer > 0.0 for offer in bids[1:])
    bids.clear()
    kaelum.continue_search(first.id, sims=20)
    assert bids[0] is None
    assert len(bids) > 1


def test_services_make_one_scheduler(make_batched: MakeBatched) -> None:
    services: Services = make_batched(always(boxed(3)), batch=4).services
    assert services.slots is services.slots
