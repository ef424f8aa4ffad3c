"""The LATS subgraph: select, expand, evaluate, backpropagate, in waves until the search halts.

After Zhou et al. 2023 (Language Agent Tree Search), made batch-parallel: one turn of the loop is one wave, one call of
the policy model that generates several rollouts to their terminal answers.
"""

from __future__ import annotations

import time
from contextvars import copy_context
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import StreamWriter

from kaelum_flow.expand import expand_wave, wave_event
from kaelum_flow.judging import with_judgement
from kaelum_flow.plans import choices_for, in_arms
from kaelum_flow.rollouts import judge, proposer, simulation_json
from kaelum_flow.scoring import likelihood_weight, scored, sighted
from kaelum_flow.seen import counting, proposing, seen_rollouts, wants_drafts
from kaelum_flow.services import Services, wave_threads
from kaelum_flow.state import (
    KaelumState,
    LatsState,
    current_options,
    current_query,
    current_route,
    packed,
    packed_tree,
    read_tree,
    read_wave,
    seconds_left,
    tokens_left,
    told_of,
)
from kaelum_graph.config import Settings
from kaelum_graph.learning.service import harmless
from kaelum_graph.learning.stop_looks import look_at
from kaelum_graph.models.base import CancelToken
from kaelum_graph.sandbox import HurriedSandbox
from kaelum_graph.sandbox.process import CANCELLED as UNRUN
from kaelum_graph.stopping import evidence_halt
from kaelum_graph.tree import ROLLOUTS, SearchTree, select
from kaelum_graph.types import Json, RolloutId
from kaelum_graph.widening import widened

CANCEL_KEY = "kaelum_cancel"
LEAST_TOKENS = 16
"""What a rollout needs to come to an answer at all; fewer are not worth sharing a token budget with."""


def cancel_token(services: Services, config: RunnableConfig) -> CancelToken:
    """Set by the caller, whose token is carried in the run's configuration because it can't be checkpointed, and where
    the services are closed."""
    return CancelToken((config.get("configurable") or {}).get(CANCEL_KEY), services.closing)


def build_lats(services: Services) -> StateGraph[Any, Any, Any, Any]:
    """The search loop, uncompiled. It reads `route` and `tree`, and leaves `tree` and the reason it halted for."""

    def select_wave(state: KaelumState) -> Json:
        settings, tree = services.settings_for(current_options(state)), read_tree(state)
        route = widen(services, state, tree, settings)
        structures = choices_for(services, state, list(route["allocation"]), settings)
        wave = select(
            tree,
            slots=min(
                wave_slots(tree, settings),
                route["rollouts"] - len(tree.rollouts),
                affordable(state, settings),
            ),
            allocation=route["allocation"],
            max_depth=route["depth"],
            propose=proposer(services, state, tree, settings),
            branching=services.measurements.branching,
            sighted=sighted(state, settings),
        )
        return {
            "tree": packed_tree(tree),
            "route": route,
            "structures": structures,
            "wave": packed([{"simulation": simulation_json(item)} for item in in_arms(wave, tree, structures)]),
        }

    def expand(state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        return expand_wave(services, state, cancel=cancel_token(services, config), writer=writer)

    def evaluate(state: LatsState, config: RunnableConfig) -> Json:
        query, tree, wave = current_query(state), read_tree(state), state.get("waves", 0) + 1
        wave_items = read_wave(state)
        # A search that another process resumes here has none.
        measured = state.get("measured") or [{}] * len(wave_items)
        items = [{**item, **own} for item, own in zip(wave_items, measured, strict=True)]
        cancel = cancel_token(services, config)
        left = seconds_left(state, services.settings_for(current_options(state)).deadline)
        deadline = None if left is None else time.monotonic() + left
        hurried = HurriedSandbox(services.sandbox, deadline=deadline, cancel=cancel)
        with wave_threads() as threads:
            judging = [
                threads.submit(
                    copy_context().run,
                    partial(
                        judge,
                        services,
                        query,
                        item,
                        rollout_id=RolloutId(len(tree.rollouts) + index),
                        wave=wave,
                        prefix=tree.prefix(item["simulation"]["node_id"]),
                        prm_weight=likelihood_weight(state),
                        sandbox=hurried,
                        deadline=deadline,
                        cancel=cancel,
                    ),
                )
                for index, item in enumerate(items)
            ]
            judged = [each.result() for each in judging]
        rollouts, spent = with_judgement(services, state, judged, cancel=cancel)
        rollouts = harmless(
            "the reward model", lambda: scored(services, state, tree, rollouts, items), otherwise=rollouts
        )
        return {"wave": packed(ROLLOUTS.dump_python(rollouts, mode="json")), "measured": [], **spent}

    def backpropagate(state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        settings, tree = services.settings_for(current_options(state)), read_tree(state)
        waves = state.get("waves", 0) + 1
        for rollout in ROLLOUTS.validate_python(read_wave(state)):
            tree.complete(rollout)
        cancelled = cancel_token(services, config).cancelled
        told_of(state, writer)(wave_event(state, tree, waves))
        return {
            "tree": packed_tree(tree),
            "wave": None,
            "waves": waves,
            "halt": "cancelled" if cancelled else halt_reason(services, state, settings, tree),
        }

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(LatsState)
    graph.add_node("select", select_wave)
    graph.add_node("expand", expand)
    graph.add_node("evaluate", evaluate)
    graph.add_node("backpropagate", backpropagate)
    graph.add_edge(START, "select")
    graph.add_edge("select", "expand")
    graph.add_edge("expand", "evaluate")
    graph.add_edge("evaluate", "backpropagate")
    graph.add_conditional_edges("backpropagate", after_backpropagate, ["select", END])
    return graph


def wave_slots(tree: SearchTree, settings: Settings) -> int:
    """Rollouts of the next wave, as many as there are already: with a first one of 4, 4, 4, 8, 16, … up to the wave
    size.

    So easy queries stop soon, and hard ones fill batches.
    """
    return min(settings.wave_size, max(settings.first_wave, len(tree.rollouts)))


def affordable(state: KaelumState, settings: Settings) -> int:
    """Rollouts that the tokens left are enough for; one at least, for the search halts where none are left."""
    left = tokens_left(state, settings.token_budget)
    return settings.wave_size if left is None else max(1, left // LEAST_TOKENS)


def widen(services: Services, state: KaelumState, tree: SearchTree, settings: Settings) -> Json:
    """The route, with one more worker where those asked so far find no agreement and the caller named none.

    It happens once a query, and is noted in the route: what a learner makes of propensities is the first allocation.
    """
    route = current_route(state)
    if settings.worker is not None or not settings.routing or route.get("widened"):
        return route
    prose = [name for name, worker in services.workers.items() if worker.prose]
    allocation = widened(route["allocation"], tree, route["probabilities"], prose=prose)
    if allocation == route["allocation"]:
        return route
    newcomer = next(name for name in allocation if name not in route["allocation"])
    return {**route, "allocation": allocation, "widened": newcomer}


def after_backpropagate(state: KaelumState) -> str:
    """Another wave, or the end."""
    return END if state.get("halt") else "select"


def settled(services: Services, state: KaelumState, settings: Settings, tree: SearchTree) -> bool:
    """Whether the stop head expects nothing better of what is left; never in a search that runs on for it to learn."""
    route = current_route(state)
    # A wave that was cut for want of places is a look the head knows nothing of.
    if route.get("full_run") or len(tree.rollouts) < settings.first_wave:
        return False
    told, prefixes = proposing(tree)
    rollouts, _ = seen_rollouts(counting(told, drafts=wants_drafts(services, route)), prefixes, {})
    return services.learned.stop_head.should_stop(look_at(rollouts, budget=route["rollouts"]))


def cut_off(tree: SearchTree) -> bool:
    """Whether the last wave lacks anything that it was to give: a rollout's end, or what its program comes to."""
    last = [rollout for rollout in tree.rollouts if rollout.wave == tree.rollouts[-1].wave]
    return any(one.finish == "deadline" or one.candidate.error == UNRUN for one in last)


def halt_reason(services: Services, state: KaelumState, settings: Settings, tree: SearchTree) -> str | None:
    """Why the search stops after this wave, or None to go on: the evidence first, then what it may still spend."""
    may_reflect = len(state.get("reflections") or []) < settings.max_reflections
    drafts = wants_drafts(services, current_route(state))
    if len(tree.rollouts) >= current_route(state)["rollouts"]:
        ended = "deadline" if seconds_left(state, settings.deadline) == 0.0 and cut_off(tree) else "budget"
        return evidence_halt(tree, may_reflect=False, drafts=drafts) or ended
    # What the search in this tree has stopped for already is known to whoever wants it to go on.
    known = state.get("overruled") or (state.get("earlier") or {}).get("stop_reason")

    def settles() -> bool:
        return harmless("the stop head", lambda: settled(services, state, settings, tree), otherwise=False)

    halt = evidence_halt(tree, may_reflect=may_reflect, drafts=drafts, settled=settles)
    # Where nothing stands there is something to reflect on, which is no end of the search.
    if halt and halt != known and (settings.early_stop or halt == "refuted"):
        return halt
    if seconds_left(state, settings.deadline) == 0.0:
        return "deadline"
    if tokens_left(state, settings.token_budget) == 0:
        return "tokens"
    return None
