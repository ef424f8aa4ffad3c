"""From a planned simulation to a request for the policy model, and from its sample to a judged rollout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from kaelum_flow.plans import choice_of
from kaelum_flow.seen import packed_states
from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_query, read_wave, tokens_left, well_formed
from kaelum_graph.acting import Turn
from kaelum_graph.attempts import Attempt, asked_again, verification
from kaelum_graph.config import Settings
from kaelum_graph.errors import KaelumError
from kaelum_graph.evidence import Evidence
from kaelum_graph.models.base import CancelToken, GenerationRequest, Sampling
from kaelum_graph.operators import fault, possible_operators
from kaelum_graph.reward import path_score, step_scores
from kaelum_graph.sandbox import Sandbox
from kaelum_graph.tree import Operator, Propose, Rollout, SearchTree, Simulation, rollout_value
from kaelum_graph.types import Candidate, Json, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import Verifier, added, check_safely, verifier
from kaelum_graph.workers.base import Worker

OPERATORS = get_args(Operator)
CUT_OFF = {
    "deadline": "The time was up before there was an answer.",
    "cancelled": "The search was cancelled before there was an answer.",
}
"""What is said of a text that was not written to its end, by its finish: what it lacks is no fault of its own."""
DETACHED = ("refine", "critique", "verify")
"""Operators whose rollouts do not continue the question's own prompt."""


def simulation_json(simulation: Simulation) -> Json:
    """A simulation as plain JSON."""
    return {
        "node_id": simulation.node_id,
        "worker": simulation.worker,
        "operator": simulation.operator,
        "target": simulation.target,
        "planned": simulation.planned,
        "sighted": simulation.sighted,
    }


def proposer(services: Services, state: KaelumState, tree: SearchTree, settings: Settings) -> Propose:
    """The operator policy of one wave: what is possible now, chosen by what it has been worth to the worker."""
    seed = None if settings.seed is None else [settings.seed, state.get("waves", 0)]
    generator, reflecting = np.random.default_rng(seed), bool(state.get("reflections"))

    def propose(worker: WorkerName, wave: Sequence[Simulation]) -> tuple[Operator, RolloutId | None]:
        possible = possible_operators(tree, worker, wave=wave, reflecting=reflecting)
        if len(possible) == 1:
            return "sample", None
        operator = services.measurements.choose(worker, list(possible), generator)
        return operator, possible[operator]

    return propose


def sample_json(turn: Turn) -> Json:
    """A generated turn as plain JSON; `text` is the whole of it, the given beginning included."""
    return {
        "text": well_formed(turn.text),
        "finish": turn.finish,
        "completion_tokens": turn.completion_tokens,
    }


def measures_json(turn: Turn) -> Json:
    """What the model measured of a turn's tokens, as plain JSON."""
    return {
        "token_texts": None if turn.token_texts is None else list(turn.token_texts),
        "token_logprobs": None if turn.token_logprobs is None else list(turn.token_logprobs),
        "token_entropies": None if turn.token_entropies is None else list(turn.token_entropies),
        "states": packed_states(turn.states),
    }


def request_for(
    services: Services, state: KaelumState, tree: SearchTree, settings: Settings, simulation: Simulation, count: int
) -> GenerationRequest:
    """One request for the `count` simulations of a wave that start at the same node in the same way.

    A branch continues the steps down to its node; the other operators but `sample` have an attempt, or what failed so
    far, in their prompt.
    """
    query, worker = current_query(state), services.workers[simulation.worker]
    reflections = state.get("reflections") or []
    attempt = None if simulation.target is None else attempt_of(tree, simulation.target)
    if attempt is None:
        refining = simulation.operator == "refine" and reflections
        structure = choice_of(state.get("structures") or {}, simulation.worker) if simulation.planned else None
        # A worker of someone else's may not know of structures.
        plan = {} if structure is None else {"structure": structure.structure.text}
        prompt = worker.prompt(query, reflection="\n".join(reflections) if refining else None, **plan)
    elif simulation.operator == "refine":
        # A small model that is shown its own words says them again; it is told what was wrong and starts anew.
        prompt = worker.prompt(query, reflection=attempt.fault)
    else:
        prompt = asked_again(worker.prompt(query), attempt, simulation.operator)
    max_tokens = settings.max_tokens or prompt.max_tokens
    if (left := tokens_left(state, settings.token_budget)) is not None:
        max_tokens = max(1, min(max_tokens, left // max(1, len(read_wave(state)))))
    # Nodes and rollouts are numbered in order, so no two requests of one wave share a seed.
    place = simulation.node_id if simulation.target is None else 5_000 + simulation.target
    place += (
        2_500 * simulation.planned + 1_000_000 * simulation.sighted + 100_000 * OPERATORS.index(simulation.operator)
    )
    seed = None if settings.seed is None else settings.seed + 10_000 * state.get("waves", 0) + place
    return GenerationRequest(
        messages=prompt.messages,
        partial_answer=tree.prefix(simulation.node_id) if simulation.operator == "branch" else prompt.partial_answer,
        n=count,
        sampling=Sampling(
            temperature=settings.temperature, top_p=settings.top_p, max_tokens=max_tokens, stop=prompt.stop, seed=seed
        ),
        # Features that the reward model was taught with must be there where it scores, too.
        insight=settings.learning or services.reward_model is not None,
    )


def attempt_of(tree: SearchTree, rollout_id: RolloutId) -> Attempt:
    """An earlier rollout as an attempt to be looked at again."""
    rollout = tree.rollouts[rollout_id]
    made = rollout.candidate
    return Attempt(text=made.text, answer=made.answer, program=made.program, fault=fault(rollout))


def judge(
    services: Services,
    query: Query,
    item: Json,
    *,
    rollout_id: RolloutId,
    wave: int,
    sandbox: Sandbox,
    prefix: str = "",
    prm_weight: float = 0.0,
    deadline: float | None = None,
    cancel: CancelToken | None = None,
) -> Rollout:
    """Conclude one sample and gather its evidence: run its program, read its answer, ask the verifiers.

    `prefix` is the text of the steps down to the node that a branch started from; only what follows is cut into steps.
    `prm_weight` is what the likelihood of its steps counts in its value. `sandbox` is the search's own. No added
    verifier is waited for past `deadline` (a `time.monotonic()` instant) or once `cancel` is set, but for a moment.
    """
    simulation = Simulation(**item["simulation"])
    worker = services.workers[simulation.worker]
    text = item.get("text", "")
    if simulation.operator == "verify":
        candidate = Candidate(rollout_id=rollout_id, worker=worker.name, text=text, answer=None)
    else:
        candidate = conclude(worker, query, item, rollout_id, sandbox)
    evidence: tuple[Evidence, ...] = ()
    if simulation.operator == "verify":
        evidence = (verification(text, sandbox),)
    elif candidate.answer is not None or candidate.program is not None:
        evidence = tuple(
            check_safely(one, query, candidate, sandbox, deadline=deadline, cancel=cancel)
            for one in asked_about(worker)
        )
    steps = worker.split_steps(text.removeprefix(prefix))
    if simulation.operator in DETACHED:
        # Its steps answer another prompt than the question's: no branch may begin inside it.
        steps = ("".join(steps),) if steps else ()
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
        finish=item.get("finish", "error"),
        completion_tokens=item.get("completion_tokens", 0),
        value=rollout_value(evidence, score.value if score else None, prm_weight=prm_weight),
    )


def asked_about(worker: Worker) -> list[Verifier]:
    """Who is asked about a worker's candidates: the verifiers it names, in its order, then those that were added."""
    named = [verifier(name) for name in worker.verifiers]
    return [*named, *(one for one in added(worker.name) if one.name not in worker.verifiers)]


def conclude(worker: Worker, query: Query, item: Json, rollout_id: RolloutId, sandbox: Sandbox) -> Candidate:
    """What a sample came to; a request that failed, or a sandbox that is missing, leaves its reason as the error."""
    text, failure = item.get("text", ""), item.get("failure")
    if failure is None:
        try:
            conclusion = worker.conclude(query, text, sandbox)
            cut_off = None if conclusion.answer is not None else CUT_OFF.get(item.get("finish", ""))
            return Candidate(
                rollout_id=rollout_id,
                worker=worker.name,
                text=text,
                answer=conclusion.answer,
                program=conclusion.program,
                observation=conclusion.observation,
                error=cut_off or conclusion.error,
            )
        except KaelumError as error:
            failure = str(error)
    return Candidate(rollout_id=rollout_id, worker=worker.name, text=text, answer=None, error=failure)
