"""Reward deltas: what people's ratings change about routing, at once and for queries like the rated one.

Each rating moves the workers by small rewards, for queries near the rated one in MiniLM's space:

    wrong worker      −0.03   the one that answered, when another is suggested
    suggested worker  +0.05
    wrong answer      −0.05   the one that answered: a score of at most 0.3, or a right answer that is another
    praised answer    +0.02   the one that answered: a score of at least 0.8, four or five stars

    delta(worker, query) = Σ over ratings  near(query, rated query) · 0.5^(age / HALF_LIFE) · moved(rating, worker)

with near = 0 below a cosine of 0.3, 1 from 0.6 on, linear between: a query type without borders, so that what is rated
reaches queries that are alike by as much as they are alike. The age is the number of queries answered since, not time:
by then the router has learned from the ratings as evidence. There is no running sum. The deltas are a function of the
ratings that hold now, so that a changed or deleted one is undone exactly, and told twice counts once. One that moves
something else than before is as new as one just given; where only its comment changed, say, it keeps its age.

Who is suggested is a comparison; a wrong answer is none: on questions that are hard for all, the best worker is blamed
most, being asked most. So the moves of answers count against a baseline, the mean move of the other rated answers near
the query with BASELINE ratings of 0 added. One blame counts fully; the tenth on the same kind of question hardly.

A delta is a person's instruction and no fit, so it holds for episodes kept for audit too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.equality import answers_equal
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.component import Tensors
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.ratings import FAILING_SCORE, from_person, right_score
from kaelum_graph.router import FAR, NEAR
from kaelum_graph.types import Array, Json, WorkerName

WRONG_WORKER = -0.03
SUGGESTED_WORKER = 0.05
WRONG_ANSWER = -0.05
PRAISED_ANSWER = 0.02
PRAISING_SCORE = 0.8

BASELINE = 2.0
"""Strength of the prior mean 0 of answers' moves, in ratings. As large a multiple of a wrong answer's move is the most
that blame alone can come to."""
HALF_LIFE = 500
"""Answered queries after which a rating moves half as much."""
MOST_OF_AN_EPISODE = 0.05
"""What all ratings of one episode together say of who should answer moves no worker by more than a single one can."""
MOST = 0.3
"""No worker's delta is larger, whatever was rated: the router can still learn against it."""
MOST_RATINGS = 4096
"""Ratings that count; the oldest make room. 384 half-precision floats for each rated episode: 3 MB at most."""

FORMAT = 2
"""Of what is kept. In the first, a changed rating acted at its old age."""

RatingKey = tuple[str, str]  # tenant, id


@dataclass(frozen=True, slots=True)
class Moves:
    """What a rating adds to rewards: by what it says of who should answer (`routes`), and of the answer that
    `answerer` gave."""

    routes: Mapping[WorkerName, float]
    answerer: WorkerName | None = None
    answer: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.routes or self.answer)


@dataclass(frozen=True, slots=True)
class _Rating:
    """What one rating moves. `since` is how many queries had been answered when it came to say that."""

    episode: str
    since: int
    moves: Moves


@dataclass(frozen=True, slots=True)
class _Table:
    """R ratings of E episodes as arrays, never changed: a query may be routed while a rating is taken in."""

    workers: tuple[WorkerName, ...]
    embeddings: Array  # [E, 384]
    rated: NDArray[np.int64]  # [R] which episode
    since: NDArray[np.int64]  # [R]
    routes: Array  # [R, W]
    answers: Array  # [R] moves of the answer
    answerers: Array  # [R, W] 1 for the worker whose answer moved


class RewardDeltas:
    """What ratings add to each worker's reward near the rated queries. A component of the learned state."""

    name = "deltas"

    def __init__(self) -> None:
        self._ratings: dict[RatingKey, _Rating] = {}
        self._embeddings: dict[str, NDArray[np.float16]] = {}  # by episode
        self._answered = 0
        self._table: _Table | None = None

    def worker_deltas(self, features: Array) -> dict[WorkerName, float]:
        """Reward to add to each worker for a query's features `[398]`, in [−0.3, 0.3]; workers at 0 are left out.

        May be called while another thread learns.
        """
        table, answered = self._current(), self._answered
        if not len(table.since):
            return {}
        held = np.exp2((table.since - answered) / HALF_LIFE).astype(np.float32)
        nearness = np.clip((table.embeddings @ features[:EMBEDDING_SIZE] - FAR) / (NEAR - FAR), 0.0, 1.0)
        routes = np.zeros((len(table.embeddings), len(table.workers)), dtype=np.float32)
        np.add.at(routes, table.rated, held[:, None] * table.routes)
        weights = nearness[table.rated] * held * table.answerers.sum(axis=1)
        total, mass = weights @ table.answers, weights.sum()
        baselines = (total - weights * table.answers) / (mass - weights + BASELINE)
        values = nearness @ routes.clip(-MOST_OF_AN_EPISODE, MOST_OF_AN_EPISODE)
        values += (weights * (table.answers - baselines)) @ table.answerers
        found = values.clip(-MOST, MOST).tolist()
        return {worker: value for worker, value in zip(table.workers, found, strict=True) if value}

    def learn_episode(self, episode: SeenEpisode) -> None:
        """One more query was answered: what was rated before is older by one."""
        # Ages are differences. Counting only while there are any leaves a state without ratings as it was.
        self._answered += bool(self._ratings)

    def learn_feedback(self, change: FeedbackChange, episode: SeenEpisode | None) -> None:
        """Put what the rating says now in place of what it said. Without its episode it can only be undone."""
        rating = change.after or change.before
        assert rating is not None
        key = (rating.tenant, rating.id)
        earlier = self._take_back(key)
        moves = moves_of(change.after, episode) if change.after is not None and episode is not None else None
        if moves and episode is not None:
            since = earlier.since if earlier is not None and earlier.moves == moves else self._answered
            self._ratings[key] = _Rating(episode.id, since, moves)
            self._embeddings.setdefault(episode.id, np.array(episode.features[:EMBEDDING_SIZE], dtype=np.float16))
            while len(self._ratings) > MOST_RATINGS:
                self._take_back(min(self._ratings, key=lambda one: (self._ratings[one].since, one)))
        self._answered = self._answered if self._ratings else 0
        self._table = None

    def tensors(self) -> Tensors:
        """`embeddings` `[E, 384]` of the rated episodes, in the order of their ids."""
        embeddings = [self._embeddings[name] for name in sorted(self._embeddings)]
        return {"embeddings": np.stack(embeddings) if embeddings else np.zeros((0, EMBEDDING_SIZE), np.float16)}

    def meta(self) -> Json:
        """Queries answered since ratings are held, the ids of the rated ones, what each rating moves since when."""
        ratings = [
            [*key, one.episode, one.since, dict(one.moves.routes), one.moves.answerer, one.moves.answer]
            for key, one in sorted(self._ratings.items(), key=lambda item: item[0])
        ]
        return {
            "format": FORMAT,
            "answered": self._answered,
            "episodes": sorted(self._embeddings),
            "ratings": ratings,
        }

    def load(self, tensors: Tensors, meta: Json) -> None:
        """Take over what `tensors` and `meta` gave. Raises `ValueError` for anything else."""
        if meta.get("format") != FORMAT:
            raise ValueError(f"not the reward deltas' state: format {meta.get('format')}, expected {FORMAT}")
        try:
            answered, episodes = int(meta["answered"]), [str(name) for name in meta["episodes"]]
            ratings = {
                (str(tenant), str(name)): _Rating(
                    str(episode),
                    int(since),
                    Moves(
                        {WorkerName(worker): float(move) for worker, move in routes.items()},
                        None if answerer is None else WorkerName(answerer),
                        float(answer),
                    ),
                )
                for tenant, name, episode, since, routes, answerer, answer in meta["ratings"]
            }
            embeddings = np.asarray(tensors["embeddings"], dtype=np.float16)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not the reward deltas' state: {error!r}") from error
        if embeddings.shape != (len(episodes), EMBEDDING_SIZE) or {one.episode for one in ratings.values()} != set(
            episodes
        ):
            raise ValueError(f"not the reward deltas' state: {len(episodes)} episodes, embeddings {embeddings.shape}")
        self._ratings, self._answered, self._table = ratings, answered, None
        self._embeddings = {name: row.copy() for name, row in zip(episodes, embeddings, strict=True)}

    def _take_back(self, key: RatingKey) -> _Rating | None:
        """Undo a rating, and forget its episode with the last of its ratings; what it was, None where it was not."""
        taken = self._ratings.pop(key, None)
        if taken is not None and all(one.episode != taken.episode for one in self._ratings.values()):
            del self._embeddings[taken.episode]
        return taken

    def _current(self) -> _Table:
        table = self._table
        if table is None:
            ratings = [self._ratings[key] for key in sorted(self._ratings)]
            named = {worker for one in ratings for worker in one.moves.routes}
            named |= {one.moves.answerer for one in ratings if one.moves.answerer is not None}
            workers = tuple(sorted(named))
            places = {name: place for place, name in enumerate(sorted(self._embeddings))}
            routes = [[one.moves.routes.get(worker, 0.0) for worker in workers] for one in ratings]
            answerers = [[float(one.moves.answerer == worker) for worker in workers] for one in ratings]
            table = _Table(
                workers=workers,
                embeddings=self.tensors()["embeddings"].astype(np.float32),
                rated=np.array([places[one.episode] for one in ratings], dtype=np.int64),
                since=np.array([one.since for one in ratings], dtype=np.int64),
                routes=np.array(routes, dtype=np.float32).reshape(len(ratings), len(workers)),
                answers=np.array([one.moves.answer for one in ratings], dtype=np.float32),
                answerers=np.array(answerers, dtype=np.float32).reshape(len(ratings), len(workers)),
            )
            self._table = table
        return table


def moves_of(rating: Feedback, episode: SeenEpisode) -> Moves:
    """What one rating adds to the reward of the workers it is about. Nothing where a model gave it."""
    if not from_person(rating):
        return Moves({})
    answerer, routes = answering_worker(episode), dict[WorkerName, float]()
    if rating.worker is not None:
        if answerer is not None and rating.worker != answerer:
            routes[answerer] = WRONG_WORKER
        routes[WorkerName(rating.worker)] = SUGGESTED_WORKER
    score = right_score(rating)
    if rating.correction is not None:
        given = None if episode.chosen is None else episode.answers[episode.chosen]
        wrong = given is None or not answers_equal(given, rating.correction)
    else:
        wrong = score is not None and score <= FAILING_SCORE
    praised = not wrong and score is not None and score >= PRAISING_SCORE
    answer = WRONG_ANSWER if wrong else PRAISED_ANSWER if praised else 0.0
    return Moves(routes, answerer, answer) if answerer is not None and answer else Moves(routes)


def answering_worker(episode: SeenEpisode) -> WorkerName | None:
    """Whose answer was shown; where none was, who had most of the rollouts, None where nobody had any."""
    if episode.shown is not None:
        return episode.rollouts[episode.shown].worker
    allocation: Mapping[WorkerName, int] = episode.allocation
    return max(allocation, key=lambda name: allocation[name], default=None)
