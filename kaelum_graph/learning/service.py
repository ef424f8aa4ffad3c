"""Everything that learns, put together: what a process searches with, and the learner beside it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kaelum_graph.errors import StorageError
from kaelum_graph.learning.deltas import RewardDeltas
from kaelum_graph.learning.learner import STATE_FOLDER, Learner
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.router_learner import RouterLearner
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.learning.stop_head import StopHead
from kaelum_graph.learning.versions import Versions
from kaelum_graph.router import Router
from kaelum_graph.storage import Storage
from kaelum_graph.types import Array, WorkerName

LOG = logging.getLogger(__name__)
KEPT_VERSIONS = 5
"""Of each sort: checkpoints, serving versions, and those in which a component proved itself. One is up to 15 MB."""

T = TypeVar("T")


def harmless(what: str, work: Callable[[], T], *, otherwise: T) -> T:
    """What `work` gives; `otherwise`, and a line in the log, where it fails: a fault in learning costs no answer."""
    try:
        return work()
    except Exception:
        LOG.exception("%s failed; the query goes on without", what)
        return otherwise


MakeRewardModel = Callable[..., RewardModel]
"""`RewardModel`, or something that takes its arguments and gives one that a measurement puts in its place."""


def new_state(
    router: Router, *, first: int = 4, most: int = 16, reward_model: MakeRewardModel = RewardModel
) -> LearnedState:
    """A state that has learned nothing, for this router's workers and searches whose first wave has `first` rollouts
    and none more than `most`.

    A component may read those that stand before it.
    """
    noise = NoiseModel()
    return LearnedState(
        [
            noise,
            RewardDeltas(),
            RouterLearner.of(router, noise),
            reward_model(noise=noise, workers=router.workers, prototypes=router.prototypes),
            StopHead(first=first, most=most),
        ]
    )


class Learning:
    """What was learned, as a search reads it, and a thread that keeps it up to date. Thread-safe.

    Where `learning` is on, the thread learns more, or follows the process that does; where it is off, it only follows.
    `router` is the untrained one; the learned network is put into it whenever another version serves.
    """

    def __init__(
        self,
        storage: Storage,
        data_dir: Path,
        *,
        router: Router,
        learning: bool,
        first: int = 4,
        most: int = 16,
        reward_model: MakeRewardModel = RewardModel,
    ) -> None:
        """`first` and `most`: rollouts of a search's first and largest wave.

        Where the folder can't be used (a full disk), searches go on with nothing learned, and the log says so.
        """
        self._learner: Learner | None = None
        self._fresh: LearnedState | None = None
        self._router = router
        self._installed: LearnedState | None = None
        self._lock = threading.Lock()

        def make_state() -> LearnedState:
            return new_state(router, first=first, most=most, reward_model=reward_model)

        try:
            self._learner = Learner(storage, versions_of(data_dir), make_state, keep=KEPT_VERSIONS)
        except StorageError as error:
            LOG.warning("nothing is learned, and what was learned is not used: %s", error)
            self._fresh = make_state()
        if self._learner is not None:
            (self._learner.start if learning else self._learner.follow)()

    @property
    def learner(self) -> Learner:
        """The learner. Raises `StorageError` where its folder can't be used."""
        if self._learner is None:
            raise StorageError("the folder of learned state can't be used; the log says why.")
        return self._learner

    @property
    def status(self) -> str:
        """`Learner.status`; "stopped" where there is none."""
        return "stopped: its folder can't be used" if self._learner is None else self._learner.status

    @property
    def version(self) -> str:
        """Names the learned version in use, "" for none."""
        return "" if self._learner is None else self._learner.serving_version

    @property
    def state(self) -> LearnedState:
        """What serves now. Nothing changes it: a newer one takes its place."""
        if self._learner is not None:
            return self._learner.serving
        assert self._fresh is not None, "without a learner there is a fresh state"
        return self._fresh

    @property
    def router(self) -> Router:
        """The router with what the serving version has learned."""
        state = self.state
        with self._lock:
            if state is not self._installed:
                state.component(RouterLearner).install(self._router)
                self._installed = state
        return self._router

    @property
    def reward_model(self) -> RewardModel:
        """The serving reward model; it has no weight before it has shown skill."""
        return self.state.component(RewardModel)

    @property
    def stop_head(self) -> StopHead:
        """The serving stop head."""
        return self.state.component(StopHead)

    def deltas(self, features: Array) -> dict[WorkerName, float]:
        """What people's ratings of similar queries add to each worker's reward."""
        return self.state.component(RewardDeltas).worker_deltas(features)

    def notify(self) -> None:
        """Tell that there is something new to learn."""
        if self._learner is not None:
            self._learner.notify()

    def close(self) -> None:
        """Keep what is learned and end the thread. Idempotent."""
        if self._learner is not None:
            self._learner.stop()


def versions_of(data_dir: Path) -> Versions:
    """The versions in a data folder."""
    return Versions(data_dir / STATE_FOLDER)
