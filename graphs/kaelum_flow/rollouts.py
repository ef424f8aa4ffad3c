"""From a planned simulation to a request for the policy model, and from its sample to a judged rollout."""

from __future__ import annotations

from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_query
from kaelum_graph.config import Settings
from kaelum_graph.errors import KaelumError
from kaelum_graph.evidence import Evidence
from kaelum_graph.models.base import GenerationRequest, Sample, Sampling
from kaelum_graph.reward import path_score, step_scores
from kaelum_graph.tree import Rollout, SearchTree, Simulation, rollout_value
from kaelum_graph.types import Candidate, Json, Query, RolloutId
from kaelum_graph.verifiers import check_safely, verifier
from kaelum_graph.workers.base import Worker

PRM_WEIGHT = 0.0
"""λ of the search: the reward model's measured within-query skill. Nothing has been measured yet, so it has no say."""


def simulation_json(simulation: Simulation) -> Json:
    """A simulation as plain JSON."""
    return {"node_id": simulation.node_id, "worker": simulation.worker, "operator": simulation.operator}


def sample_json(partial_answer: str, sample: Sample) -> Json:
    """A generated sample as plain JSON; `text` is the whole assistant turn, the given beginning included."""
    return {
        "text": partial_answer + sample.text,
        "finish": sample.finish,
        "completion_tokens": sample.completion_tokens,
        "token_texts": None if sample.token_texts is None else list(sample.token_texts),
        "token_logprobs": None if sample.token_logprobs is None else list(sample.token_logprobs),
    }


def request_for(
    services: Services, state: KaelumState, tree: SearchTree, settings: Settings, simulation: Simulation, count: int
) -> GenerationRequest:
    """One request for the `count` simulations of a wave that start at the same node in the same way.

    A refinement has what failed so far in its prompt; a branch continues the steps down to its node.
    """
    reflections = state.get("reflections") or []
    reflection = "\n".join(reflections) if simulation.operator == "refine" and reflections else None
    prompt = services.workers[simulation.worker].prompt(current_query(state), reflection=reflection)
    max_tokens = settings.max_tokens or prompt.max_tokens
    if settings.token_budget is not None:
        left = settings.token_budget - state.get("completion_tokens", 0)
        max_tokens = max(1, min(max_tokens, left // max(1, len(state.get("wave") or []))))
    # Nodes are numbered in order, so no two requests of one query share a seed.
    seed = None if settings.seed is None else settings.seed + 10_000 * state.get("waves", 0) + simulation.node_id
    return GenerationRequest(
        messages=prompt.messages,
        partial_answer=tree.prefix(simulation.node_id) if simulation.operator == "branch" else prompt.partial_answer,
        n=count,
        sampling=Sampling(
            temperature=settings.temperature, top_p=settings.top_p, max_tokens=max_tokens, stop=prompt.stop, seed=seed
        ),
    )


def judge(services: Services, query: Query, item: Json, *, rollout_id: RolloutId, wave: int) -> Rollout:
    """Conclude one sample and gather its evidence: run its program, read its answer, ask the worker's verifiers."""
    simulation = Simulation(**item["simulation"])
    worker = services.workers[simulation.worker]
    text = item.get("text", "")
    candidate = conclude(services, worker, query, item, rollout_id)
    evidence: tuple[Evidence, ...] = ()
    if candidate.answer is not None or candidate.program is not None:
        evidence = tuple(check_safely(verifier(name), query, candidate, services.sandbox) for name in worker.verifiers)
    steps = worker.split_steps(text)
    scores = step_scores(steps, item.get("token_texts"), item.get("token_logprobs"))
    score = path_score(scores)
    return Rollout(
        id=rollout_id,
        wave=wave,
        simulation=simulation,
        candidate=candidate,
        evidence=evidence,
        steps=steps,
        step_scores=tuple(scores),
        finish=item.get("finish", "stop"),
        completion_tokens=item.get("completion_tokens", 0),
        value=rollout_value(evidence, score.value if score else None, prm_weight=PRM_WEIGHT),
    )


def conclude(services: Services, worker: Worker, query: Query, item: Json, rollout_id: RolloutId) -> Candidate:
    """What a sample came to; a request that failed, or a sandbox that is missing, leaves its reason as the error."""
    text, failure = item.get("text", ""), item.get("failure")
    if failure is None:
        try:
            conclusion = worker.conclude(query, text, services.sandbox)
            return Candidate(
                rollout_id=rollout_id,
                worker=worker.name,
                text=text,
                answer=conclusion.answer,
                program=conclusion.program,
                observation=conclusion.observation,
                error=conclusion.error,
            )
        except KaelumError as error:
            failure = str(error)
    return Candidate(rollout_id=rollout_id, worker=worker.name, text=text, answer=None, error=failure)
