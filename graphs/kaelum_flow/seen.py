"""From a finished search to what the learners see of it."""

from __future__ import annotations

import base64
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_options, current_route, current_tenant, read_tree
from kaelum_graph.clusters import cluster
from kaelum_graph.learning.episode import RolloutFeatures, SeenEpisode, SeenRollout
from kaelum_graph.learning.projection import smaller
from kaelum_graph.learning.step_features import step_scalars, step_states
from kaelum_graph.models.base import HiddenState
from kaelum_graph.posterior import without_passed_form
from kaelum_graph.tree import Rollout, SearchTree
from kaelum_graph.types import EpisodeId, Json, RolloutId
from kaelum_graph.verdict import Verdict

ENDED = ("stop", "length")
"""How a rollout ends that nothing cut off from outside."""


def packed_states(states: Sequence[HiddenState]) -> list[tuple[int, str]]:
    """Hidden states made small, as plain JSON: token position and 128 halves in base64."""
    return [(state.position, base64.b64encode(state.values.tobytes()).decode()) for state in smaller(states)]


def features_of(services: Services, rollouts: Sequence[Rollout], wave: Sequence[Json]) -> list[RolloutFeatures]:
    """What is known of the steps of a wave's rollouts, all embedded in one call."""
    embedded = services.encoder.encode([step for rollout in rollouts for step in rollout.steps]).astype(np.float16)
    made: list[RolloutFeatures] = []
    for rollout, item in zip(rollouts, wave, strict=True):
        count = len(rollout.steps)
        texts: Any = item.get("token_texts")
        states = [
            HiddenState(position, np.frombuffer(base64.b64decode(text), dtype=np.float16))
            for position, text in item.get("states") or ()
        ]
        made.append(
            RolloutFeatures(
                embeddings=embedded[:count],
                scalars=step_scalars(rollout.steps, texts, item.get("token_logprobs"), item.get("token_entropies")),
                states=step_states(rollout.steps, texts, states),
            )
        )
        embedded = embedded[count:]
    return made


def seen_rollouts(
    rollouts: Sequence[Rollout], prefixes: Sequence[Hashable], features: Mapping[RolloutId, RolloutFeatures]
) -> tuple[list[SeenRollout], list[str]]:
    """Rollouts, with what each grew from, as learners see them; and the distinct answers among them."""
    groups = cluster([rollout.candidate.answer for rollout in rollouts])
    places = {member: number for number, group in enumerate(groups) for member in group.members}
    numbers: dict[Hashable, int] = {}
    seen = [
        SeenRollout(
            worker=rollout.simulation.worker,
            operator=rollout.simulation.operator,
            blind=not rollout.simulation.sighted,
            cluster=places.get(index),
            prefix=numbers.setdefault(prefix, len(numbers)),
            evidence=rollout.evidence,
            tokens=rollout.completion_tokens,
            finish=rollout.finish,
            features=features.get(rollout.id),
        )
        for index, (rollout, prefix) in enumerate(zip(rollouts, prefixes, strict=True))
    ]
    return seen, [group.representative for group in groups]


def proposing(tree: SearchTree, first: int = 0) -> tuple[list[Rollout], list[Hashable]]:
    """A tree's rollouts from `first` on that propose an answer, and what each grew from.

    Programs that verify don't, nor do rollouts that a failed server, the deadline or the client cut off before their
    answer: that is no fault of the worker's.
    """
    told = [
        one
        for one in tree.rollouts[first:]
        if one.simulation.operator != "verify" and (one.candidate.answer is not None or one.finish in ENDED)
    ]
    prefixes = tree.prefixes()
    return told, [prefixes[one.id] for one in told]


def wants_drafts(services: Services, route: Json) -> bool:
    """Whether the worker that was asked first writes drafts. Only then does a draft's form say anything for it."""
    return any(worker.prose for name, worker in services.workers.items() if name == route.get("worker"))


def counting(rollouts: Sequence[Rollout], *, drafts: bool) -> list[Rollout]:
    """The rollouts with the evidence that counts for their answers: a passed form only where drafts are wanted."""
    return [one if drafts else replace(one, evidence=without_passed_form(one.evidence)) for one in rollouts]


def ran_to_its_end(rollouts: Sequence[Rollout], route: Json) -> bool:
    """Whether a search that was not to be stopped ended of itself. One that merely was not stopped is no fair sample of
    all searches; one that a passed check ended early belongs to it, for nothing better could have come."""
    verified = any(rollout.outcome == "pass" for rollout in rollouts)
    return bool(route.get("full_run")) and (verified or len(rollouts) >= route["rollouts"])


def seen_episode(services: Services, state: KaelumState) -> SeenEpisode | None:
    """What the learners see of the search in the state; None where there was none.

    Of a search that went on from an earlier one only the new rollouts are shown, and no choice of a worker: the earlier
    episode has told the rest.
    """
    tree, route, features = read_tree(state), current_route(state), state.get("features")
    earlier: Json = state.get("earlier") or {}
    first = earlier.get("rollouts", 0)
    if features is None or not route or len(tree.rollouts) <= first:
        return None
    episode_id = state.get("episode_id", "")
    told, prefixes = proposing(tree, first)
    if not told:
        return None
    drafts = wants_drafts(services, route)
    rollouts, answers = seen_rollouts(counting(told, drafts=drafts), prefixes, services.shelf.of(episode_id))
    # Below the root lies the worker's node, and below that the steps.
    depths = [tree.nodes[one.simulation.node_id].depth for one in told]
    rollouts = [replace(one, begun=depth - 1) for one, depth in zip(rollouts, depths, strict=True)]
    shown, chosen = None, None
    verdict = state.get("verdict")
    if verdict and (given := Verdict.from_json(verdict).rollout) is not None:
        shown = next((index for index, one in enumerate(told) if one.id == given), None)
        chosen = None if shown is None else rollouts[shown].cluster
    settings = services.settings_for(current_options(state))
    return SeenEpisode(
        id=EpisodeId(episode_id),
        tenant=current_tenant(state),
        model=services.model_name,
        features=np.asarray(features, dtype=np.float32),
        probabilities=route["probabilities"],
        propensities=route["propensities"],
        # The first allocation: a worker that joined later was chosen by what the others had come to.
        allocation={name: count for name, count in route["allocation"].items() if name != route.get("widened")},
        forced=bool(earlier) or settings.worker is not None or not settings.routing,
        answers=tuple(answers),
        chosen=chosen,
        shown=shown,
        exhausted=not earlier and ran_to_its_end(counting(tree.rollouts, drafts=drafts), route),
        budget=route["rollouts"],
        rollouts=tuple(rollouts),
    )


def seen_bytes(services: Services, state: KaelumState) -> bytes | None:
    """`seen_episode`, as the store keeps it."""
    seen = seen_episode(services, state)
    return None if seen is None else seen.to_bytes()
