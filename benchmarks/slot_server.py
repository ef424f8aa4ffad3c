"""A server of recorded queries: searches that want waves, on places of one token a step. See `benchmarks.slots`."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay import BankQuery, Drawn, prior_router
from kaelum_graph.bids import Outlook, bid
from kaelum_graph.clusters import cluster
from kaelum_graph.equality import answers_equal
from kaelum_graph.posterior import representative_candidate, weigh
from kaelum_graph.slot_queue import FIRST_SHARE, PATIENCE, SlotQueue, Waiting
from kaelum_graph.slots import LEAST_PART, LEAST_WAVE
from kaelum_graph.stopping import leader_is_certain
from kaelum_graph.tree import anchored_outcome
from kaelum_graph.types import Candidate, RolloutId
from kaelum_graph.verdict import unless_form_alone

FIRST_WAVE, WAVE_SIZE = 4, 16
STEPS_BETWEEN = 5
"""Decoding steps that judging a wave takes, as long as a search has no places."""

Rule = Literal["uniform", "first", "short", "bids"]
Bid = Callable[[Outlook], float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """One query with its rollouts in the order of drawing; index k of a sequence is what holds after k of them."""

    query: BankQuery
    tokens: tuple[int, ...]  # of each rollout
    right: tuple[bool, ...]
    seen: tuple[Outlook, ...]
    ended: tuple[bool, ...]  # the evidence was clear

    @property
    def most(self) -> int:
        return len(self.tokens)


def replayed(query: BankQuery, generator: np.random.Generator, *, workers: int) -> Replayed:
    """The query with one order of its rollouts."""
    drawn: list[Drawn] = []
    for worker in list(prior_router().probabilities(query.features))[:workers]:
        rollouts = query.drawn[worker]
        drawn += [rollouts[at] for at in generator.permutation(len(rollouts))]
    equal = cache(answers_equal)
    right, seen, ended = [False], [outlook_of([], equal, left=len(drawn))], [False]
    for count in range(1, len(drawn) + 1):
        taken = drawn[:count]
        right.append(answer_is_right(taken, equal))
        now = outlook_of(taken, equal, left=len(drawn) - count)
        seen.append(now)
        ended.append(now.verified or (bool(now.leader) and leader_is_certain(now.leader, now.runner_up)))
    return Replayed(
        query=query, tokens=tuple(max(1, one.tokens) for one in drawn), right=tuple(right), seen=tuple(seen),
        ended=tuple(ended),
    )  # fmt: skip


def answer_is_right(drawn: Sequence[Drawn], equal: Callable[[str, str], bool]) -> bool:
    """Whether the answer that the product would give after these rollouts is right."""
    candidates = [
        Candidate(rollout_id=RolloutId(at), worker=one.worker, text=one.text, answer=one.answer)
        for at, one in enumerate(drawn)
    ]
    evidence = [one.evidence for one in drawn]
    standings = weigh(cluster([one.answer for one in drawn], equal=equal), candidates, evidence)
    if not standings:
        return False
    leader = unless_form_alone(standings[0])
    return drawn[representative_candidate(leader, candidates, evidence_by_candidate=evidence).rollout_id].right


def outlook_of(drawn: Sequence[Drawn], equal: Callable[[str, str], bool], *, left: int) -> Outlook:
    """What `bids.outlook` says of a tree with these rollouts."""
    outcomes = [anchored_outcome(one.evidence) for one in drawn]
    answers = [None if outcome == "fail" else one.answer for one, outcome in zip(drawn, outcomes, strict=True)]
    votes = [len(group.members) for group in cluster(answers, equal=equal)]
    return Outlook(
        leader=votes[0] if votes else 0,
        runner_up=votes[1] if len(votes) > 1 else 0,
        answers=len(votes),
        standing=sum(votes),
        unanswered=sum(one.answer is None and outcome != "fail" for one, outcome in zip(drawn, outcomes, strict=True)),
        refuted=sum(outcome == "fail" for outcome in outcomes),
        verified="pass" in outcomes,
        tokens=sum(one.tokens for one in drawn) / len(drawn) if drawn else 100.0,
        left=left,
    )


@dataclass(kw_only=True, eq=False)
class Search:
    """One query under way. `ends` are the steps at which its running rollouts end, ascending."""

    path: Replayed
    index: int
    came: float = 0.0
    drawn: int = 0
    ends: list[float] = field(default_factory=list[float])
    held: int = 0
    asked: float = 0.0
    request: Waiting | None = None
    answered: bool = False

    @property
    def finished(self) -> int:
        """Rollouts that came to an end."""
        return self.drawn - len(self.ends)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a replay came to. `generating` and `granted` are mean shares of the places while someone waited; waits are
    in steps and in grants to others, `bound` being the most that `slot_queue` promises. `starved` queries got nothing;
    `mean_time` is in steps from a query to its answer.
    """

    rollouts: NDArray[np.int64]
    right: NDArray[np.bool_]
    tokens: int
    generating: float
    granted: float
    longest_wait: float
    longest_wait_grants: int
    bound: int
    starved: int
    mean_time: float


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How queries are served on `slots` places, in steps of one token a place.

    After `budget` tokens nothing more is granted; `clients` ask one query after the other (None: all at once), and each
    has `time` steps. `rollouts` are the most of each query under "uniform". `release`: whether a rollout's place is
    free when it ends, or when its wave does.
    """

    rule: Rule
    slots: int
    budget: float = np.inf
    clients: int | None = None
    time: float = np.inf
    rollouts: int = 1000
    release: Literal["rollout", "wave"] = "rollout"
    offer: Bid = bid
    patience: int = PATIENCE
    first_share: float = FIRST_SHARE
    least: int = LEAST_WAVE


class Server:
    """A replay of `serving`."""

    def __init__(self, paths: Sequence[Replayed], serving: Serving) -> None:
        self.serving = serving
        self.queue = SlotQueue(patience=serving.patience, first_share=serving.first_share)
        self.searches = [Search(path=path, index=index) for index, path in enumerate(paths)]
        self.now = 0.0
        self.tokens = 0.0
        self.answered_after: list[float] = []
        self.longest, self.longest_grants, self.most_waiting = 0.0, 0, 0
        self.loaded = self.loaded_generating = self.loaded_granted = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[Search], None], Search]] = []
        self._owner: dict[Waiting, Search] = {}
        self._coming = iter(self.searches)
        for _ in range(serving.clients or len(paths)):
            self._come()

    def run(self) -> Outcome:
        """Serve until nothing is left to do."""
        while self._events:
            at = self._events[0][0]
            if self.queue.waiting and self.tokens < self.serving.budget:
                self.loaded += at - self.now
                self.loaded_generating += (at - self.now) * sum(len(search.ends) for search in self.searches)
                self.loaded_granted += (at - self.now) * self.queue.in_use
            self.now = at
            while self._events and self._events[0][0] == at:
                _, _, happen, search = heapq.heappop(self._events)
                happen(search)
            self.most_waiting = max(self.most_waiting, len(self.queue.waiting))
            if self.tokens < self.serving.budget:
                self._grant()
        places = self.loaded * self.serving.slots or 1.0
        done = np.array([search.finished for search in self.searches])
        return Outcome(
            rollouts=done,
            right=np.array([one.path.right[count] for one, count in zip(self.searches, done, strict=True)]),
            tokens=int(self.tokens),
            generating=self.loaded_generating / places,
            granted=self.loaded_granted / places,
            longest_wait=self.longest,
            longest_wait_grants=self.longest_grants,
            bound=self.queue.patience + self.most_waiting - 1,
            starved=int((done == 0).sum()),
            mean_time=float(np.mean(self.answered_after or [np.nan])),
        )

    def _at(self, when: float, happen: Callable[[Search], None], search: Search) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen, search))

    def _come(self) -> None:
        """The next client's query."""
        search = next(self._coming, None)
        if search is not None:
            search.came = self.now
            self._at(self.now, self._ask, search)
            if self.serving.time < np.inf:
                self._at(self.now + self.serving.time, self._late, search)

    def _answer(self, search: Search) -> None:
        search.answered = True
        self.answered_after.append(self.now - search.came)
        if self.serving.clients is not None:
            self._come()

    def _ask(self, search: Search) -> None:
        serving, drawn = self.serving, search.drawn
        left = min(search.path.most, serving.rollouts) - drawn
        ended = serving.rule != "uniform" and search.path.ended[drawn]
        if search.answered:
            return
        if left <= 0 or ended:
            self._answer(search)
            return
        wanted = min(max(FIRST_WAVE, drawn), WAVE_SIZE, left)
        cut = serving.rule in ("short", "bids")
        least = min(wanted, serving.least, serving.slots // LEAST_PART) if cut else min(wanted, serving.slots)
        offered = serving.offer(search.path.seen[drawn]) if drawn and serving.rule == "bids" else None
        search.asked = self.now
        search.request = self.queue.join("", wanted=wanted, minimum=max(1, least), bid=offered)
        self._owner[search.request] = search

    def _grant(self) -> None:
        before = self.queue.grants
        for place, request in enumerate(self.queue.fill(self.serving.slots)):
            search = self._owner.pop(request)
            search.request = None
            self.longest = max(self.longest, self.now - search.asked)
            self.longest_grants = max(self.longest_grants, before + place - request.came)
            search.held = request.granted
            for _ in range(request.granted):
                if self.tokens >= self.serving.budget:
                    break
                tokens = search.path.tokens[search.drawn]
                search.drawn += 1
                self.tokens += tokens
                search.ends.append(self.now + tokens)
                self._at(self.now + tokens, self._end, search)
            search.ends.sort()
            self._release(search, search.held - len(search.ends))

    def _end(self, search: Search) -> None:
        if search.answered:
            return
        search.ends.pop(0)
        if self.serving.release == "rollout":
            self._release(search, 1)
        if not search.ends:
            self._release(search, search.held)
            self._at(self.now + STEPS_BETWEEN, self._ask, search)

    def _late(self, search: Search) -> None:
        """The deadline: what waits is withdrawn, what runs is cut short and comes to nothing."""
        if search.answered:
            return
        if search.request is not None:
            self.queue.leave(search.request)
            del self._owner[search.request]
        self.tokens -= sum(end - self.now for end in search.ends)
        search.drawn -= len(search.ends)
        search.ends.clear()
        self._release(search, search.held)
        self._answer(search)

    def _release(self, search: Search, count: int) -> None:
        search.held -= count
        self.queue.give_back(count)
