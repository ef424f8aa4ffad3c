"""Reasoning structures in the search: dealt out to samples, learned from finished queries, discovered in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from inspect import Parameter, signature

import numpy as np
from pydantic import TypeAdapter

from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState, current_query, current_tenant
from kaelum_graph.config import Settings
from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.errors import KaelumError
from kaelum_graph.structures import Choice, RolloutOutcome
from kaelum_graph.structures.book import DueDiscovery, StructureBook
from kaelum_graph.tree import ROOT, SearchTree, Simulation
from kaelum_graph.types import EpisodeId, Json, WorkerName
from kaelum_graph.workers import Worker

CHOICES: TypeAdapter[Choice | None] = TypeAdapter(Choice | None)


def choices_for(services: Services, state: KaelumState, workers: Sequence[WorkerName], settings: Settings) -> Json:
    """The state's choices, with one drawn for each of `workers` that has none yet; None where there is no structure."""
    known: Json = dict(state.get("structures") or {})
    book, features = services.structures, state.get("features")
    if book is None or features is None or state.get("earlier"):
        return known
    for worker in workers:
        if worker not in known and takes_structures(services.workers[worker]):
            seed = None if settings.seed is None else [settings.seed, len(known)]
            choice = book.choose(worker, features[:EMBEDDING_SIZE], np.random.default_rng(seed))
            known[worker] = CHOICES.dump_python(choice, mode="json")
    return known


def takes_structures(worker: Worker) -> bool:
    """Whether a worker's prompt has a place for a structure: someone else's may not."""
    parameters = signature(worker.prompt).parameters.values()
    return any(one.name == "structure" or one.kind is Parameter.VAR_KEYWORD for one in parameters)


def choice_of(choices: Json, worker: WorkerName) -> Choice | None:
    """A worker's choice, as `choices_for` put it."""
    return CHOICES.validate_python(choices.get(worker))


def in_arms(wave: Sequence[Simulation], tree: SearchTree, choices: Json) -> list[Simulation]:
    """The wave with each fresh sample in its arm; a branch stays in the arm of the rollout that it goes on from."""
    drawn: dict[WorkerName, int] = {}
    for rollout in tree.rollouts:
        if rollout.simulation.operator == "sample":
            drawn[rollout.simulation.worker] = drawn.get(rollout.simulation.worker, 0) + 1
    placed: list[Simulation] = []
    for simulation in wave:
        choice = choice_of(choices, simulation.worker)
        if choice is None:
            placed.append(simulation)
        elif simulation.operator == "sample":
            count = drawn.get(simulation.worker, 0)
            drawn[simulation.worker] = count + 1
            placed.append(dataclasses.replace(simulation, planned=choice.arm(count) == "with"))
        elif simulation.operator == "branch":
            placed.append(dataclasses.replace(simulation, planned=_planned_at(tree, simulation)))
        else:
            placed.append(simulation)
    return placed


def _planned_at(tree: SearchTree, simulation: Simulation) -> bool:
    """Whether the rollout that made the simulation's node had the structure before it."""
    inside = {node.id for node in tree.path(simulation.node_id)} - {ROOT}
    prefix = tree.prefix(simulation.node_id)
    for rollout in tree.rollouts:
        same = rollout.simulation.worker == simulation.worker and rollout.simulation.operator in ("sample", "branch")
        if same and inside and rollout.candidate.text.startswith(prefix):
            return rollout.simulation.planned
    return False


def learn_structures(services: Services, state: KaelumState, tree: SearchTree, episode_id: EpisodeId) -> None:
    """Hand a finished query's samples to the book; what is due is discovered in the background.

    A query inside a conversation may make no sense alone, and is left out. Raises `StorageError`.
    """
    book, features, query = services.structures, state.get("features"), current_query(state)
    if book is None or features is None or query.history or query.since:
        return
    choices: Json = state.get("structures") or {}
    for worker in choices:
        outcomes = [
            RolloutOutcome(
                arm="with" if rollout.simulation.planned else "without",
                evidence=rollout.evidence,
                tokens=rollout.completion_tokens,
            )
            for rollout in tree.rollouts
            if rollout.simulation.worker == worker and rollout.simulation.operator == "sample"
        ]
        due = book.learn(
            WorkerName(worker),
            features[:EMBEDDING_SIZE],
            outcomes,
            choice=choice_of(choices, WorkerName(worker)),
            # What one tenant asks must not reach another through a structure.
            question=None if current_tenant(state) else query.text,
            episode_id=episode_id,
        )
        if due is not None:
            services.in_background(lambda due=due: _discover(services, book, due))


def _discover(services: Services, book: StructureBook, due: DueDiscovery) -> None:
    try:
        book.discover(due, services.model, services.workers[due.worker], cancel=services.closing)
    except KaelumError as error:
        services.notify(f"no structure for {due.worker}: {error}")
