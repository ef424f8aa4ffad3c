"""The LATS subgraph: select, expand, evaluate, backpropagate, in waves until the search halts.

After Zhou et al. 2023 (Language Agent Tree Search), made batch-parallel: one turn of the loop is one wave, one call of
the policy model that generates several rollouts to their terminal answers.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import StreamWriter

from kaelum_flow.rollouts import judge, request_for, sample_json, simulation_json
from kaelum_flow.services import Services
from kaelum_flow.state import (
    KaelumState,
    current_options,
    current_query,
    current_route,
    read_tree,
    seconds_left,
)
from kaelum_graph.config import Settings
from kaelum_graph.models.base import CancelToken, Delta, Generation, OnDelta
from kaelum_graph.stopping import evidence_halt, standing_answers
from kaelum_graph.tree import ROLLOUTS, SearchTree, Simulation, select
from kaelum_graph.types import Json, RolloutId

PROGRESS_SECONDS = 0.25
CANCEL_KEY = "kaelum_cancel"


def cancel_token(config: RunnableConfig) -> CancelToken | None:
    """The caller's cancel token, carried in the run's configuration because it can't be checkpointed."""
    return (config.get("configurable") or {}).get(CANCEL_KEY)


def build_lats(services: Services) -> StateGraph[Any, Any, Any, Any]:
    """The search loop, uncompiled. It reads `route` and `tree`, and leaves `tree` and the reason it halted for."""

    def select_wave(state: KaelumState) -> Json:
        settings, tree = services.settings_for(current_options(state)), read_tree(state)
        route = current_route(state)
        wave = select(
            tree,
            slots=min(settings.wave_size, route["rollouts"] - len(tree.rollouts)),
            allocation=route["allocation"],
            max_depth=route["depth"],
            refine=bool(state.get("reflections")),
        )
        return {"tree": tree.to_json(), "wave": [{"simulation": simulation_json(item)} for item in wave]}

    def expand(state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        settings, tree = services.settings_for(current_options(state)), read_tree(state)
        plans = list(Counter(Simulation(**item["simulation"]) for item in state.get("wave") or []).items())
        requests = [request_for(services, state, tree, settings, simulation, count) for simulation, count in plans]
        left = seconds_left(state, settings.deadline)
        generations = services.model.generate(
            requests,
            deadline=None if left is None else time.monotonic() + left,
            cancel=cancel_token(config),
            on_delta=wave_progress(state, tree, writer),
        )
        raise_if_all_failed(generations, tree)
        wave: list[Json] = []
        for (simulation, count), request, generation in zip(plans, requests, generations, strict=True):
            start = {"simulation": simulation_json(simulation)}
            samples = [{**start, **sample_json(request.partial_answer, sample)} for sample in generation.samples]
            failure = str(generation.error) if generation.error else "the model gave fewer samples than asked for"
            wave += samples + [{**start, "failure": failure}] * (count - len(samples))
        used = sum(sample.completion_tokens for generation in generations for sample in generation.samples)
        return {
            "wave": wave,
            "prompt_tokens": state.get("prompt_tokens", 0) + sum(item.prompt_tokens for item in generations),
            "completion_tokens": state.get("completion_tokens", 0) + used,
        }

    def evaluate(state: KaelumState) -> Json:
        query, first, wave = current_query(state), len(read_tree(state).rollouts), state.get("waves", 0) + 1
        judging = [
            services.pool.submit(judge, services, query, item, rollout_id=RolloutId(first + index), wave=wave)
            for index, item in enumerate(state.get("wave") or [])
        ]
        return {"wave": ROLLOUTS.dump_python([judged.result() for judged in judging], mode="json")}

    def backpropagate(state: KaelumState, config: RunnableConfig, writer: StreamWriter) -> Json:
        settings, tree = services.settings_for(current_options(state)), read_tree(state)
        waves = state.get("waves", 0) + 1
        for rollout in ROLLOUTS.validate_python(state.get("wave") or []):
            tree.complete(rollout)
        token = cancel_token(config)
        cancelled = token is not None and token.cancelled
        writer(wave_event(state, tree, waves))
        return {
            "tree": tree.to_json(),
            "wave": [],
            "waves": waves,
            "halt": "cancelled" if cancelled else halt_reason(state, settings, tree),
        }

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(KaelumState)
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


def after_backpropagate(state: KaelumState) -> str:
    """Another wave, or the end."""
    return END if state.get("halt") else "select"


def raise_if_all_failed(generations: list[Generation], tree: SearchTree) -> None:
    """A search that has nothing to go on raises its first error; one that has something goes on with that."""
    errors = [generation.error for generation in generations if generation.error is not None]
    if errors and len(errors) == len(generations) and not tree.rollouts:
        raise errors[0]


def halt_reason(state: KaelumState, settings: Settings, tree: SearchTree) -> str | None:
    """Why the search stops after this wave, or None to go on: the evidence first, then what it may still spend."""
    may_reflect = len(state.get("reflections") or []) < settings.max_reflections
    if len(tree.rollouts) >= current_route(state)["rollouts"]:
        return evidence_halt(tree, may_reflect=False) or "budget"
    if halt := evidence_halt(tree, may_reflect=may_reflect):
        return halt
    if seconds_left(state, settings.deadline) == 0.0:
        return "deadline"
    if settings.token_budget is not None and state.get("completion_tokens", 0) >= settings.token_budget:
        return "tokens"
    return None


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
            writer({**event, "tokens": event["tokens"] + pieces})

    return on_delta
