"""Places in the model's batch for a wave: asked for before it is generated, given back as its rollouts end."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_route, packed, packed_tree, read_wave, seconds_left
from kaelum_graph.bids import bid, outlook
from kaelum_graph.config import Settings
from kaelum_graph.models.base import CancelToken, GenerationRequest
from kaelum_graph.slots import Grant
from kaelum_graph.tree import SearchTree, Simulation
from kaelum_graph.types import Json


def slots_for(
    services: Services, state: KaelumState, tree: SearchTree, settings: Settings, *, cancel: CancelToken | None
) -> AbstractContextManager[Grant | None]:
    """Places for the state's wave, at most as many as it has simulations; None where nothing limits it.

    Blocks until it is its turn, it is cancelled or its time is over. A query's first wave has nothing to bid by. A
    seeded wave is never cut for want of places: what else is under way must not change what it draws.
    """
    wanted, scheduler = len(read_wave(state)), services.slots
    if scheduler is None or not wanted:
        return nullcontext()
    earlier = (state.get("earlier") or {}).get("rollouts", 0)
    left = current_route(state)["rollouts"] - len(tree.rollouts)
    seconds = seconds_left(state, settings.deadline)
    return scheduler.request(
        state.get("episode_id", ""),
        wanted=wanted,
        bid=bid(outlook(tree, left=left)) if len(tree.rollouts) > earlier else None,
        minimum=None if settings.seed is None else wanted,
        cancel=cancel,
        deadline=None if seconds is None else time.monotonic() + seconds,
    )


def cut_to(grant: Grant | None, state: KaelumState, settings: Settings, tree: SearchTree) -> Json:
    """The state's `wave` and `tree` with as many simulations as there are places; {} where that is all of them.

    The others are as if they had never been chosen. A wave is chosen one simulation after the other, so its first n are
    the wave of n; and the next selection knows what those came to, which a simulation kept for later would not.
    """
    wave = read_wave(state)
    whole = grant is None or grant.slots >= len(wave) or (grant.slots and settings.seed is not None)
    if grant is None or whole:
        return {}
    for item in reversed(wave[grant.slots :]):
        tree.abandon(Simulation(**item["simulation"]))
    return {"wave": packed(wave[: grant.slots]), "tree": packed_tree(tree)}


def releasing(grant: Grant | None, request: GenerationRequest, pauses: Collection[str]) -> GenerationRequest:
    """The request, each of whose rollouts gives its place back when it ends. One that pauses keeps it: it goes on."""
    if grant is None:
        return request

    def on_end(stopped_by: str | None) -> None:
        if stopped_by not in pauses:
            grant.release(1)

    return replace(request, on_end=on_end)
