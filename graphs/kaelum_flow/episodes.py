"""Stored searches, as a further one takes them up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kaelum_flow.services import PER_QUERY
from kaelum_graph.config import Settings
from kaelum_graph.errors import UsageError
from kaelum_graph.router import share_out
from kaelum_graph.storage import Storage
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import EpisodeId, Json, WorkerName
from kaelum_graph.workers import worker as find_worker

MOST_ROLLOUTS = 256
"""Most rollouts that one run may add, as `sims` allows."""
NO_FULL_RUN: Json = {"full_run": False, "full_share": 0.0, "beyond_share": 0.0}
"""In the route of a search that goes on: whether to run to the budget was drawn for the search that it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierSearch:
    """A stored episode that has a tree. `options` are the per-query settings in force, `waves` those it took,
    `answer` has the answer's value, text and confidence."""

    episode_id: EpisodeId
    query: str
    history: list[Json]
    since: list[Json]
    shape: Json | None
    options: Json
    route: Json
    tree: SearchTree
    waves: int
    reflections: list[str]
    stop_reason: str
    model: str
    answer: Json

    def request(self, overrides: Mapping[str, object]) -> Json:
        """The request of the run that goes on: its own query, its options unless overridden.

        `sims` is how many rollouts are added: without an override as many as there are.
        """
        sims = min(MOST_ROLLOUTS, len(self.tree.rollouts))
        options = {**self.options, "sims": sims, **{key: value for key, value in overrides.items() if key != "sims"}}
        if overrides.get("sims") is not None:
            options["sims"] = overrides["sims"]
        around = {"history": self.history, "since": self.since, "shape": self.shape}
        return {"text": self.query, **around, "options": options}

    def summary(self) -> Json:
        """What the run that goes on has to know of it, for the state."""
        return {
            "episode_id": self.episode_id,
            "rollouts": len(self.tree.rollouts),
            "waves": self.waves,
            "stop_reason": self.stop_reason,
            "model": self.model,
            "answer": self.answer,
        }


def read_earlier(storage: Storage, name: str, *, tenant: str = "") -> EarlierSearch:
    """The tenant's stored search that `name` means (an id, or the beginning of one).

    Raises `UsageError` for an unknown or ambiguous name, and for an episode without a tree that can be gone on with.
    """
    episode_id = storage.find_episode_id(name, tenant=tenant)
    record = storage.episode(episode_id, tenant=tenant) or {}
    answer: Any = record.get("answer")
    if not record.get("tree") or not record.get("route") or not isinstance(answer, dict):
        raise UsageError(f"episode '{episode_id}' has no search tree to continue.")
    try:
        tree = SearchTree.from_json(record["tree"])
    except (ValidationError, KeyError, TypeError) as error:
        raise UsageError(f"episode '{episode_id}': its search tree was written in another form.") from error
    if not tree.rollouts:
        raise UsageError(f"episode '{episode_id}' has an empty search tree: ask again instead.")
    kept: Json = record.get("settings") or record.get("options") or {}
    return EarlierSearch(
        episode_id=episode_id,
        query=answer["query"],
        history=list(record.get("history") or []),
        since=list(record.get("since") or []),
        shape=record.get("shape"),
        options={key: value for key, value in kept.items() if key in PER_QUERY},
        route=record["route"],
        tree=tree,
        waves=max(rollout.wave for rollout in tree.rollouts),
        reflections=list(record.get("reflections") or []),
        stop_reason=answer["stop_reason"],
        model=answer["model"],
        answer={key: answer[key] for key in ("answer", "text", "confidence")},
    )


def per_query(settings: Settings) -> Json:
    """The settings in force that a single query may choose, as plain JSON: what its record keeps."""
    return {key: getattr(settings, key) for key in sorted(PER_QUERY)}


def further_route(route: Json, tree: SearchTree, *, settings: Settings) -> Json:
    """The route of a search that goes on: `settings.sims` rollouts more than the tree has.

    They are shared by the workers that the earlier route shared them among, in the same proportion; a worker that
    `settings` names gets them all. Raises `UsageError` for a worker that is not registered any more.
    """
    more = settings.sims or len(tree.rollouts)
    shares: dict[WorkerName, int] = route["allocation"]
    if settings.worker is not None:
        shares = {WorkerName(settings.worker): 1}
    allocation = {find_worker(name).name: tree.launched(name) + n for name, n in share_out(more, shares).items()}
    return {
        **route,
        "worker": settings.worker or route["worker"],
        "allocation": allocation,
        "rollouts": len(tree.rollouts) + more,
        "depth": settings.depth or route["depth"],
        "sharing": len(allocation) > 1,
    }
