"""What a search tried, read out of its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from kaelum_flow.call_search import call_trace
from kaelum_flow.state import KaelumState, current_route, read_tree
from kaelum_graph.types import Json


def trace_of(values: Mapping[str, Any]) -> Json | None:
    """What the search of a state tried, rollout by rollout; None where nothing was, for the answer was known."""
    state = cast("KaelumState", values)
    if state.get("cached"):
        return None
    return {
        "continued_from": (state.get("earlier") or {}).get("episode_id"),
        "route": current_route(state),
        "reflections": state.get("reflections") or [],
        "calls": call_trace(state),
        "shaped": state.get("shaped"),
        "rollouts": [
            {
                "id": rollout.id,
                "wave": rollout.wave,
                "worker": rollout.simulation.worker,
                "operator": rollout.simulation.operator,
                "answer": rollout.candidate.answer,
                "error": rollout.candidate.error,
                "program": rollout.candidate.program,
                "observation": rollout.candidate.observation,
                "evidence": [
                    {"tier": vote.tier, "source": vote.source, "outcome": vote.outcome, "reason": vote.reason}
                    for vote in rollout.evidence
                ],
                "tokens": rollout.completion_tokens,
                "finish": rollout.finish,
                "text": rollout.candidate.text,
            }
            for rollout in read_tree(state).rollouts
        ],
    }
