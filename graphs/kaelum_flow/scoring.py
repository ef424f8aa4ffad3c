"""What the reward model says of a wave: scores of steps, for selection and for the answer's gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from kaelum_flow.seen import features_of, proposing, seen_rollouts
from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_options, current_route
from kaelum_graph.config import Settings
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.reward import path_score
from kaelum_graph.tree import Rollout, SearchTree, rollout_value
from kaelum_graph.types import Json

PRM = "prm"
"""Names the learned reward model where scores are told apart."""

BLIND_SHARE = 0.25
"""Simulations that the reward model has no part in choosing, while it has a weight: on those its skill is measured."""


def prm_weight(state: KaelumState) -> float:
    """λ of this query, in [0, 1]: the measured skill of whatever scores steps, when the query was routed."""
    return current_route(state).get("prm_weight", 0.0)


def likelihood_weight(state: KaelumState) -> float:
    """What the likelihood of steps counts: nothing in a query in which the reward model was to score them."""
    return 0.0 if current_route(state).get("scored_by") == PRM else prm_weight(state)


def reward_model_of(services: Services, state: KaelumState) -> RewardModel | None:
    """The reward model, where the query was routed with its weight and it still serves."""
    return services.reward_model if current_route(state).get("scored_by") == PRM else None


def sighted(state: KaelumState, settings: Settings) -> Callable[[], bool] | None:
    """Asks of each simulation whether the reward model may lead it; None while it has no weight anyway."""
    if not prm_weight(state):
        return None
    seed = None if settings.seed is None else [settings.seed, state.get("waves", 0), 2]
    generator = np.random.default_rng(seed)
    return lambda: generator.random() >= BLIND_SHARE


def scored(
    services: Services, state: KaelumState, tree: SearchTree, rollouts: Sequence[Rollout], wave: Sequence[Json]
) -> list[Rollout]:
    """A wave's rollouts with the reward model's scores, once that is worth more than the likelihood they came with.

    Their features are put on the shelf for the learners, and for the siblings to come.
    """
    settings = services.settings_for(current_options(state))
    model = reward_model_of(services, state)
    if not settings.learning and model is None:
        return list(rollouts)
    episode_id, features = state.get("episode_id", ""), state.get("features")
    made = features_of(services, rollouts, wave)
    services.shelf.keep(episode_id, {rollout.id: one for rollout, one in zip(rollouts, made, strict=True)})
    if model is None or features is None:
        return list(rollouts)
    earlier, prefixes = proposing(tree)
    fresh = [one for one in rollouts if one.simulation.operator != "verify"]
    everything = [*prefixes, *(("fresh", one.id) for one in fresh)]
    seen, _ = seen_rollouts([*earlier, *fresh], everything, services.shelf.of(episode_id))
    scores = dict(zip((one.id for one in fresh), model.score(features, seen)[len(earlier) :], strict=True))
    weight = prm_weight(state)
    return [with_scores(one, scores[one.id], weight=weight) if one.id in scores else one for one in rollouts]


def with_scores(rollout: Rollout, scores: Sequence[float], *, weight: float) -> Rollout:
    """The rollout as the reward model scores its steps."""
    score = path_score(scores, source=PRM)
    value = rollout_value(rollout.evidence, score.value if score else None, prm_weight=weight)
    return replace(rollout, step_scores=tuple(scores), scored_by=PRM, value=value)


def rescored(services: Services, state: KaelumState, tree: SearchTree) -> SearchTree:
    """The tree with every answer scored beside all its siblings, as the reward model was taught and measured.

    Those of an early wave were scored beside the few that there were. It is the tree as it was where there is no reward
    model in use, or another process made some of the rollouts and their features with them.
    """
    model, features = reward_model_of(services, state), state.get("features")
    told, prefixes = proposing(tree)
    kept = services.shelf.of(state.get("episode_id", ""))
    if model is None or features is None or not all(one.id in kept for one in told):
        return tree
    scores = model.score(features, seen_rollouts(told, prefixes, kept)[0])
    made = SearchTree()
    made.nodes, made.rollouts = tree.nodes, list(tree.rollouts)
    for one, own in zip(told, scores, strict=True):
        made.rollouts[one.id] = replace(one, step_scores=tuple(own), scored_by=PRM)
    return made
