"""Asks the rubric's judge about the drafts of a wave, in one call of the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_options, current_query, seconds_left, tokens_left
from kaelum_graph.errors import ModelError
from kaelum_graph.models.base import CancelToken
from kaelum_graph.rubric import judged, judging_request, may_judge
from kaelum_graph.tree import Rollout
from kaelum_graph.types import Json


def with_judgement(
    services: Services, state: KaelumState, rollouts: Sequence[Rollout], *, cancel: CancelToken | None
) -> tuple[list[Rollout], Json]:
    """The rollouts, those of judged workers with the judge's vote; and the state's token counts with what that cost.

    A judge that fails or runs out of time has no vote: the search goes on without it. It is asked about no more drafts
    than the tokens that are left are enough for.
    """
    settings = services.settings_for(current_options(state))
    chosen = [
        rollout
        for rollout in rollouts
        if services.workers[rollout.simulation.worker].judged and rollout.candidate.answer is not None
    ]
    if not chosen or not may_judge(settings.judge, services.model_name):
        return list(rollouts), {}
    query = current_query(state)
    requests = [judging_request(query, rollout.candidate.text, seed=settings.seed) for rollout in chosen]
    if (tokens := tokens_left(state, settings.token_budget)) is not None:
        requests = requests[: tokens // requests[0].sampling.max_tokens]
        chosen = chosen[: len(requests)]
    if not requests:
        return list(rollouts), {}
    left = seconds_left(state, settings.deadline)
    try:
        generations = services.model.generate(
            requests, deadline=None if left is None else time.monotonic() + left, cancel=cancel
        )
    except ModelError as error:
        services.notify(f"the rubric's judge was not heard: {error}")
        return list(rollouts), {}
    votes = {
        rollout.id: judged(generation.samples[0].text)
        for rollout, generation in zip(chosen, generations, strict=True)
        if generation.samples
    }
    spent = {
        "prompt_tokens": state.get("prompt_tokens", 0) + sum(one.prompt_tokens for one in generations),
        "completion_tokens": state.get("completion_tokens", 0)
        + sum(sample.completion_tokens for one in generations for sample in one.samples),
    }
    with_votes = [
        replace(rollout, evidence=(*rollout.evidence, votes[rollout.id])) if rollout.id in votes else rollout
        for rollout in rollouts
    ]
    return with_votes, spent
