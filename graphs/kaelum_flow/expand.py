"""One wave at the policy model: its simulations generated side by side, their programs run where they pause to look."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import cast

from langgraph.types import StreamWriter

from kaelum_flow.rollouts import measures_json, request_for, sample_json, simulation_json
from kaelum_flow.services import Services, wave_threads
from kaelum_flow.state import (
    KaelumState,
    current_options,
    current_query,
    current_route,
    packed,
    read_tree,
    read_wave,
    seconds_left,
    told_of,
)
from kaelum_flow.wave_slots import cut_to, releasing, slots_for
from kaelum_graph.acting import Acted, act
from kaelum_graph.models.base import CancelToken, Delta, OnDelta
from kaelum_graph.slots import Grant
from kaelum_graph.stopping import standing_answers
from kaelum_graph.tree import SearchTree, Simulation
from kaelum_graph.types import Json

PROGRESS_SECONDS = 0.25


def expand_wave(services: Services, state: KaelumState, *, cancel: CancelToken | None, writer: StreamWriter) -> Json:
    """Generate the state's wave; the state's new `wave`, one item a rollout, and what it has cost so far.

    It waits for places in the model's batch; simulations that get none go back, and `tree` is then new too. Those that
    start alike share a request, and all requests a call. Raises the first error of a search that has nothing to go on.
    """
    settings, tree = services.settings_for(current_options(state)), read_tree(state)
    with slots_for(services, state, tree, settings, cancel=cancel) as grant:
        cut = cut_to(grant, state, settings, tree)
        waved = cast("KaelumState", {**state, **cut})
        return {**cut, **generate_wave(services, waved, grant, cancel=cancel, writer=writer)}


def generate_wave(
    services: Services, state: KaelumState, grant: Grant | None, *, cancel: CancelToken | None, writer: StreamWriter
) -> Json:
    """What `expand_wave` gives, for a wave that has its places; each is given back when its rollout ends."""
    settings, tree = services.settings_for(current_options(state)), read_tree(state)
    plans = list(Counter(Simulation(**item["simulation"]) for item in read_wave(state)).items())
    if not plans:
        return {"measured": []}
    left = seconds_left(state, settings.deadline)
    pauses = [pauses_of(services, state, simulation) for simulation, _ in plans]
    requests = [request_for(services, state, tree, settings, simulation, count) for simulation, count in plans]
    with wave_threads() as threads:
        acted = act(
            services.model,
            [releasing(grant, request, observe) for request, observe in zip(requests, pauses, strict=True)],
            pauses,
            sandbox=services.sandbox,
            pool=threads,
            deadline=None if left is None else time.monotonic() + left,
            cancel=cancel,
            on_delta=wave_progress(state, tree, writer),
        )
    raise_if_all_failed(acted, earlier=len(tree.rollouts) > (state.get("earlier") or {}).get("rollouts", 0))
    wave: list[Json] = []
    measured: list[Json] = []
    for (simulation, count), outcome in zip(plans, acted, strict=True):
        start = {"simulation": simulation_json(simulation)}
        failure = str(outcome.error) if outcome.error else "the model gave fewer samples than asked for"
        missing = count - len(outcome.turns)
        wave += [{**start, **sample_json(turn)} for turn in outcome.turns] + [{**start, "failure": failure}] * missing
        measured += [measures_json(turn) for turn in outcome.turns] + [{}] * missing
    used = sum(turn.completion_tokens for outcome in acted for turn in outcome.turns)
    return {
        "wave": packed(wave),
        "measured": measured,
        "prompt_tokens": state.get("prompt_tokens", 0) + sum(outcome.prompt_tokens for outcome in acted),
        "completion_tokens": state.get("completion_tokens", 0) + used,
    }


def pauses_of(services: Services, state: KaelumState, simulation: Simulation) -> tuple[str, ...]:
    """The strings at which a simulation's turns pause for an observation.

    A program that verifies an attempt is the whole turn: what it prints is for the search, not for the model.
    """
    if simulation.operator == "verify":
        return ()
    return services.workers[simulation.worker].prompt(current_query(state)).observe


def raise_if_all_failed(acted: Sequence[Acted], *, earlier: bool) -> None:
    """A run that has nothing to go on raises its first error; one that drew rollouts `earlier` goes on with those."""
    errors = [outcome.error for outcome in acted if outcome.error is not None]
    if errors and len(errors) == len(acted) and not earlier:
        raise errors[0]


def wave_event(state: KaelumState, tree: SearchTree, wave: int) -> Json:
    """The progress event of a wave: how far it is and who leads."""
    standing = standing_answers(tree)
    answered = sum(count for _, count in standing)
    return {
        "stage": "wave",
        "wave": wave,
        "rollouts": len(tree.rollouts),
        "budget": current_route(state)["rollouts"],
        "leader": standing[0][0] if standing else None,
        "share": standing[0][1] / answered if answered else 0.0,
        "tokens": state.get("completion_tokens", 0),
    }


def wave_progress(state: KaelumState, tree: SearchTree, writer: StreamWriter) -> OnDelta:
    """A callback for the model that reports the tokens of the wave under way, a few times a second."""
    event = wave_event(state, tree, state.get("waves", 0) + 1)
    pieces, last = 0, time.monotonic()

    def on_delta(delta: Delta) -> None:
        nonlocal pieces, last
        pieces += 1
        if time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            told_of(state, writer)({**event, "tokens": event["tokens"] + pieces})

    return on_delta
