"""Searches that ran to their budget, at every moment at which a rule might have stopped them.

From the rollout bank, and from recorded live searches. `right` is the benchmark's scorer's word: it is counted, and
nothing learns from it.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.replay import BankQuery, Drawn, prior_router
from benchmarks.suites import FAMILIES, PROSE
from benchmarks.tasks import Task, tasks
from kaelum_flow.seen import proposing, seen_rollouts
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.stop_looks import Look, look_at, look_times, regret_after, standings_of
from kaelum_graph.posterior import representative_candidate
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import Candidate, EpisodeId, RolloutId, WorkerName

FIRST_WAVES = (4, 2)
LARGEST_WAVE = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """A search after some of its rollouts. `right`: the answer that stands is, by the scorer. `regret`: by evidence."""

    look: Look
    tokens: int
    right: bool
    regret: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A search that ran to its budget, and what it was after each number of rollouts that a rule may look at."""

    query: str
    sort: str
    family: str
    index: int
    episode: SeenEpisode
    moments: dict[int, Moment]

    @cached_property
    def end(self) -> Moment:
        """At the full budget."""
        return self.moments[len(self.episode.rollouts)]


def drawn(query: BankQuery, budget: int, generator: np.random.Generator) -> tuple[list[Drawn], dict[WorkerName, int]]:
    """The rollouts of a search of the bank in its order of drawing, and the allocation."""
    route = prior_router().route(query.features, generator=generator, rollouts=budget)
    pools = {
        name: [query.drawn[name][place] for place in generator.permutation(len(query.drawn[name]))]
        for name in route.probabilities
    }
    launched = dict.fromkeys(route.allocation, 0)
    picked: list[Drawn] = []
    for _ in range(budget):
        # As `tree.select` spreads a wave: in proportion to what each worker has left.
        left = {name: count - launched[name] for name, count in route.allocation.items()}
        worker = max(left, key=lambda name: left[name] / route.allocation[name])
        launched[worker] += 1
        giver = worker if pools[worker] else next((name for name in pools if pools[name]), None)
        if giver is not None:
            picked.append(pools[giver].pop(0))
    return picked, route.allocation


def moments_of(
    episode: SeenEpisode, candidates: Sequence[Candidate], right: Callable[[int], bool], counts: Sequence[int]
) -> dict[int, Moment]:
    """What the search was after each of `counts` rollouts, and at its end."""
    made: dict[int, Moment] = {}
    budget = len(episode.rollouts)
    evidence = [one.evidence for one in episode.rollouts]
    known: dict[int, bool] = {}
    for count in sorted({*(count for count in counts if count < budget), budget}):
        standings = standings_of(episode.rollouts[:count])
        correct = False
        if standings:
            shown = representative_candidate(standings[0][1], candidates, evidence_by_candidate=evidence).rollout_id
            if shown not in known:
                known[shown] = right(shown)
            correct = known[shown]
        made[count] = Moment(
            look=look_at(episode.rollouts[:count], budget=budget),
            tokens=sum(one.tokens for one in episode.rollouts[:count]),
            right=correct,
            regret=regret_after(episode, count),
        )
    return made


def bank_search(query: BankQuery, budget: int, repeat: int) -> Search:
    """One search of a bank query."""
    picked, allocation = drawn(query, budget, np.random.default_rng([repeat, budget, *query.name.encode()]))
    name = f"{query.name} {repeat}"
    episode = query.episode_of(picked, allocation, probabilities={}, propensities={}, id=name)
    candidates = [
        Candidate(rollout_id=RolloutId(index), worker=one.worker, text=one.text, answer=one.answer)
        for index, one in enumerate(picked)
    ]
    moments = moments_of(episode, candidates, lambda index: picked[index].right, looked_at(budget))
    return Search(
        query=query.name, sort=query.sort, family=query.family, index=int(query.name.split("/")[2]),
        episode=episode, moments=moments,
    )  # fmt: skip


def looked_at(budget: int) -> list[int]:
    """All counts that any rule here looks at."""
    return sorted({count for first in FIRST_WAVES for count in look_times(budget, first=first, most=LARGEST_WAVE)})


def live_searches(folder: Path) -> list[Search]:
    """The recorded live searches that ran to their budget, from the newest record of them under `folder`."""
    store = max(folder.glob("episodes/*/search-no-early-stopping/kaelum.sqlite"))
    connection = sqlite3.connect(f"file:{store}?mode=ro&immutable=1", uri=True)
    rows = connection.execute("SELECT id, query, record FROM episodes ORDER BY sequence").fetchall()
    connection.close()
    seed = int(store.parts[-3].split("seed")[1].split("-")[0])
    by_question = {
        task.question: task
        for families in FAMILIES.values()
        for family in families
        for task in tasks(family, seed=seed, size=20)
    }
    found: list[Search] = []
    for name, question, record in rows:
        task = by_question.get(question)
        if task is None:
            continue
        told = json.loads(record)
        rollouts, prefixes = proposing(SearchTree.from_json(told["tree"]))
        seen, answers = seen_rollouts(rollouts, prefixes, {})
        episode = SeenEpisode(
            id=EpisodeId(name), features=np.zeros(398, dtype=np.float32), probabilities={}, propensities={},
            allocation=told["route"]["allocation"], answers=tuple(answers), exhausted=True, rollouts=tuple(seen),
        )  # fmt: skip
        candidates = [
            Candidate(rollout_id=RolloutId(place), worker=one.candidate.worker, text=one.candidate.text,
                      answer=one.candidate.answer)
            for place, one in enumerate(rollouts)
        ]  # fmt: skip

        def right(place: int, candidates: Sequence[Candidate] = candidates, task: Task = task) -> bool:
            one = candidates[place]
            told = one.text if task.family in PROSE else one.answer
            return bool(told) and bool(task.right(told or ""))

        found.append(
            Search(
                query=name, sort="live", family=task.family, index=task.index, episode=episode,
                moments=moments_of(episode, candidates, right, looked_at(len(rollouts))),
            )
        )  # fmt: skip
    return found
