"""The learner: one thread beside serving that takes in the log, keeps what it learns, and promotes what proves itself.

Exactly once: a checkpoint holds the weights and the number of the last event in them, and appears whole by one rename.
Whenever the process is killed, the next one goes on from the newest checkpoint, and the log has everything since.

Of the processes that share a data folder one learns, by a lock that goes with its process; the others load what it
promotes and wait to take its place.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

from filelock import FileLock, Timeout

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.learning.challenges import Challenges
from kaelum_graph.learning.faults import PassedOver
from kaelum_graph.learning.guarded import Guarded
from kaelum_graph.learning.log import LearningEvent
from kaelum_graph.learning.promotion import PromotionRule
from kaelum_graph.learning.replay import BATCH, replay
from kaelum_graph.learning.serving import Serving
from kaelum_graph.learning.state import LearnedState, Parts, digest_of
from kaelum_graph.learning.versions import Version, Versions
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId, Json

LOG = logging.getLogger(__name__)
STATE_FOLDER = "state"
"""The folder of the versions in the data folder."""

LOCK_FILE = ".learner.lock"
REBUILD_PAUSE = 4
"""Where single answers are deleted, erasing what they taught waits for that many times as long as it took last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The state was made again from `events` answered queries and ratings. `same`: bit for bit as it was before."""

    events: int
    same: bool
    seconds: float


class Learner:
    """Learns in the background what `storage` logs. `serving` is what to search with: read it anew for each query."""

    def __init__(
        self,
        storage: Storage,
        versions: Versions,
        make_state: Callable[[], LearnedState],
        *,
        save_every: int = 20,
        save_seconds: float = 30.0,
        poll_seconds: float = 1.0,
        keep: int = 10,
        rule: PromotionRule | None = None,
    ) -> None:
        """`make_state` gives a state that has learned nothing. `save_every` events or `save_seconds` after the first of
        them a checkpoint is kept, after a rating at once; of checkpoints and of promoted versions, `keep` each.

        Raises `StorageError`.
        """
        self.storage = storage
        self.versions = versions
        self._make_state = make_state
        self._save_every, self._save_seconds, self._poll_seconds = save_every, save_seconds, poll_seconds
        self._keep = keep
        self._serving = Serving(versions, make_state)
        self._wake, self._stop, self._changed = threading.Event(), threading.Event(), threading.Condition()
        self._requests: queue.SimpleQueue[Future[Rebuilt]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._status = "off"
        self._saved = -1  # position of the newest checkpoint
        self._flush = False
        # What only the thread touches while it learns:
        self._guarded = Guarded(make_state)
        self._challenges = Challenges(storage, versions, self._serving, make_state, rule=rule or PromotionRule())
        self._erased = 0
        self._to_erase = False
        self._unsaved = 0
        self._unsaved_since = self._may_erase = 0.0

    @property
    def serving(self) -> LearnedState:
        """The promoted state. Nothing changes it: a newer one takes its place."""
        return self._serving.now.state

    @property
    def serving_version(self) -> str:
        """The version that serves, "" before the first. Costs nothing."""
        return self._serving.now.id or ""

    @property
    def status(self) -> str:
        """ "off" (it may `follow`), "learning", "following" (another process learns), "waiting: why", "stopped: why".

        "learning, without NAME: why" where a component failed on so many events in a row that it is set aside.
        """
        without = "; ".join(f"{name}: {one.error}" for name, one in self.passed_over.items() if one.set_aside)
        return f"{self._status}, without {without}" if without and self._status == "learning" else self._status

    @property
    def passed_over(self) -> Mapping[str, PassedOver]:
        """What this process learned without, by component: none for most."""
        return self._state.passed_over

    @property
    def running(self) -> dict[str, Json]:
        """How the comparisons that are under way stand, by component."""
        return self._challenges.summary()

    def start(self) -> None:
        """Begin to learn, or to follow the process that does. Idempotent."""
        self._begin(self._run, status="starting")

    def follow(self) -> None:
        """Begin to load what others promote or pin, and no more: writes nothing, takes no lock. Idempotent."""
        self._begin(self._run_following, status="off")

    def stop(self) -> None:
        """Keep what is learned and end the thread. Idempotent."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def notify(self) -> None:
        """Tell that something was added to the log. Costs nothing; without it, it is found within `poll_seconds`."""
        self._wake.set()

    def drain(self, timeout: float = 60.0) -> bool:
        """Wait until everything that is in the log now is learned and on disk; False where that took too long."""
        target, deadline = self.storage.last_learning_event(), time.monotonic() + timeout
        while not self._has_kept(target):
            left = deadline - time.monotonic()
            if left <= 0 or self._status == "off" or self._status.startswith("stopped"):
                return False
            self._flush = True
            self._wake.set()
            with self._changed:
                self._changed.wait(min(left, 0.1))
        return True

    def rebuild(self, timeout: float = 3600.0) -> Rebuilt:
        """Make the whole state again from the log. Raises `StorageError` where another process learns.

        What serves is made again as of the events that it had learned, so nothing is served that was not promoted.
        """
        if self._status == "following":
            raise StorageError(f"{self.versions.folder}: another process learns on this folder: stop it first.")
        if self._thread is None or not self._thread.is_alive():
            raise StorageError(f"{self.versions.folder}: the learner is {self._status}")
        future: Future[Rebuilt] = Future()
        self._requests.put(future)
        self._wake.set()
        try:
            return future.result(timeout)
        except FutureTimeout:
            raise StorageError(f"{self.versions.folder}: not rebuilt within {timeout:g} s") from None

    def forget(
        self,
        episode_ids: Sequence[str] = (),
        *,
        tenant: str | None = None,
        conversation: str | None = None,
        timeout: float = 3600.0,
    ) -> list[EpisodeId]:
        """Delete episodes, as `Storage.forget_episodes`, and whatever they taught; which there were.

        Returns when no version is left that learned from them. What was deleted stays so where that fails, and the rest
        is done as soon as a process learns again. Raises `StorageError`.
        """
        gone = self.storage.forget_episodes(episode_ids, tenant=tenant, conversation=conversation)
        deadline = time.monotonic() + timeout
        while self._learned_of_the_forgotten():
            left = deadline - time.monotonic()
            if left <= 0 or self._status == "off" or self._status.startswith("stopped"):
                raise StorageError(
                    f"the episodes are deleted; what they taught is not yet: the learner is {self._status}"
                )
            if self._status == "learning":
                self.rebuild(left)
            else:
                time.sleep(min(self._poll_seconds, 0.2))
        return gone

    @property
    def _state(self) -> LearnedState:
        return self._guarded.state

    def _has_kept(self, position: int) -> bool:
        if self._status == "following":
            kept = max((one.position for one in self.versions.list() if not one.promoted), default=0)
            return kept >= position
        return self._saved >= position

    def _learned_of_the_forgotten(self) -> bool:
        forgotten, versions = self.storage.forgotten(), self.versions.list()
        in_use = self._serving.now.id
        removed = in_use is not None and in_use not in {version.id for version in versions}
        return removed or any(version.knows(forgotten) for version in versions)

    def _begin(self, work: Callable[[], None], *, status: str) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._status = status
            self._thread = threading.Thread(target=work, name="kaelum-learner", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        lock = FileLock(self.versions.folder / LOCK_FILE, timeout=0, thread_local=False)
        while not self._stop.is_set():
            try:
                with lock:
                    self._learn()
            except Timeout:
                self._status = "following"
                self._follow()
            except (StorageError, OSError) as error:  # a full disk and the like: go on from the last checkpoint
                if not self._stop.is_set():
                    self._status = f"waiting: {error}"
                    LOG.warning("learning waits: %s", error)
                    self._pause(self._poll_seconds)
            except Exception as error:
                self._status = f"stopped: {type(error).__name__} after event {self._state.position}: {error}"
                LOG.exception("learning stopped after event %s; serving goes on", self._state.position)
                break
        else:
            self._status = "off"
        self._refuse_requests()
        with self._changed:
            self._changed.notify_all()

    def _run_following(self) -> None:
        while not self._stop.is_set():
            self._follow()
        self._refuse_requests()

    def _follow(self) -> None:
        try:
            self._serving.refresh()
        except StorageError as error:
            LOG.warning("%s", error)
        except Exception:  # what serves now serves on, and the next look may succeed
            LOG.exception("what another process promoted can't be loaded")
        self._refuse_requests()
        self._pause(self._poll_seconds)

    def _learn(self) -> None:
        self.versions.clean()
        self._serving.refresh()
        self._restore()
        self._status = "learning"
        while not self._stop.is_set():
            if self._serving.refresh() and self._serving.pinned is None:
                self._challenges.drop_outdated()
            events = self.storage.learning_events(after=self._state.position, limit=BATCH)
            for event in events:
                if self._stop.is_set():
                    break
                self._take(event)
                if self._unsaved >= self._save_every:
                    self._save()
            if any(event.kind == "feedback" for event in events) or (self._flush and not events) or self._is_late():
                self._save()
            self._answer_requests()
            if self._to_erase and time.monotonic() >= self._may_erase:
                self._rebuild()
            if not events:
                self._pause(min(self._poll_seconds, self._save_seconds))
        self._save()

    def _restore(self) -> None:
        """Go on from the newest checkpoint that this program can read, or from the beginning."""
        versions, last = self.versions.list(), self.storage.last_learning_event()
        state, self._unsaved = self._make_state(), 0
        self._challenges.clear()
        self._erased = max((number for number, _ in self.storage.forgotten()), default=0)
        found: Version | None = None
        for version in reversed(versions):
            if version.promoted:
                continue
            try:
                if version.position > last:
                    raise ValueError(f"it has learned up to event {version.position}, the log ends at {last}")
                if set(version.positions) != set(state.names):
                    raise ValueError(f"it has the components {', '.join(version.positions)}")
                self.versions.load(version.id, state)
            except (StorageError, UsageError, ValueError, KeyError) as error:
                LOG.warning("learned state %s can't be gone on from: %s", version.id, error)
                state = self._make_state()
            else:
                found = version
                break
        parts = state.parts()
        self._guarded.begin(state, parts)
        forgotten = self.storage.forgotten()
        self._to_erase = any(version.knows(forgotten) for version in versions)
        self._erased = min((one.erased for one in versions if one.knows(forgotten)), default=self._erased)
        if found is not None:
            self._challenges.resume(found)
            self._offer(found.id, parts)
        self._tell_saved(self._state.position)

    def _take(self, event: LearningEvent) -> None:
        if event.kind == "forgotten" and event.sequence > self._erased:
            self._to_erase |= event.first <= self._state.position
            self._erased = self._erased if self._to_erase else event.sequence
        self._challenges.score(event, erased=self._erased, counts=self._state.counts)
        if not self._unsaved:
            self._unsaved_since = time.monotonic()
        self._guarded.take(event)
        self._unsaved += 1

    def _is_late(self) -> bool:
        return self._unsaved > 0 and time.monotonic() >= self._unsaved_since + self._save_seconds

    def _save(self) -> None:
        """Keep a checkpoint if there is anything new in it."""
        self._flush = False
        if self._unsaved:
            state, parts, running = self._state, self._state.parts(), self._challenges.to_json()
            kept = self.versions.save(
                parts, erased=self._erased, counts=state.counts, running=running, passed_over=state.passed_over
            )
            self._guarded.keep(parts)
            self._unsaved = 0
            self._offer(kept, parts)
        self._tell_saved(self._state.position)

    def _offer(self, checkpoint: str, parts: Parts) -> None:
        """Serve what needs no proof of a checkpoint, and let the rest challenge what serves."""
        erased, counts = self._erased, self._state.counts
        self._serving.publish(self._without_proof(parts), erased=erased, counts=counts, metrics={})
        self._challenges.begin(checkpoint, parts, position=self._state.position, erased=erased, counts=counts)
        self.versions.prune(keep=self._keep, needed=self._challenges.versions())

    def _without_proof(self, parts: Parts) -> Parts:
        """Those that serve without proof. Where they are being learned again, what serves has come further: it serves
        on until they have come as far, unless it learned what must be forgotten, or from another log."""
        unscored = {name: part for name, part in parts.items() if name not in self._challenges.names}
        now = self._serving.now
        current = {name: part for name, part in unscored.items() if part.position >= now.parts[name].position}
        return unscored if len(current) < len(unscored) and not self._may_serve_on(now.id) else current

    def _may_serve_on(self, version_id: str | None) -> bool:
        version = next((one for one in self.versions.list() if one.id == version_id), None)
        if version is None or version.position > self.storage.last_learning_event():
            return False
        return not version.knows(self.storage.forgotten())

    def _rebuild(self) -> Rebuilt | None:
        """Make every state anew from the log; None when told to stop meanwhile."""
        began, before, position = time.monotonic(), digest_of(self._state.parts()), self._state.position
        versions = {version.id: version for version in self.versions.list()}
        promoted, pinned = self.versions.promoted(), self.versions.pinned()
        served = [versions[one] for one in dict.fromkeys((promoted, pinned)) if one in versions]
        wanted = {position, *(at for version in served for at in version.positions.values())}
        made = replay(self.storage, self._make_state, wanted=wanted, stopped=self._stop.is_set)
        if made is None:
            return None
        parts = made.state.parts()
        heeded = [one for one in self.storage.forgotten() if one[0] <= made.erased]
        anew: dict[str | None, str] = {}
        for version in served:
            then = {name: made.at[version.positions.get(name, 0)][name] for name in parts}
            if version.knows(heeded) or digest_of(then) != version.digest:
                anew[version.id] = self.versions.save(
                    then, kind="serving", erased=made.erased, counts=version.counts, metrics=version.metrics
                )
        kept = self.versions.save(made.state, erased=made.erased)
        if anew:
            self.versions.point(anew.get(promoted, promoted), pinned=anew.get(pinned, pinned))
        gone = [version.id for version in self.versions.list() if version.knows(heeded)]
        self.versions.remove(gone)
        self._guarded.begin(made.state, parts)
        self._erased, self._to_erase, self._unsaved = made.erased, made.missed, 0
        self._challenges.clear()
        self._serving.refresh()
        self._offer(kept, parts)
        self._tell_saved(self._state.position)
        seconds = time.monotonic() - began
        self._may_erase = time.monotonic() + REBUILD_PAUSE * seconds
        same = digest_of(made.at[position]) == before
        return Rebuilt(events=sum(made.state.counts.values()), same=same, seconds=seconds)

    def _answer_requests(self) -> None:
        waiting: list[Future[Rebuilt]] = []
        while not self._requests.empty():
            waiting.append(self._requests.get())
        if not waiting:
            return
        try:
            rebuilt = self._rebuild()
        except BaseException as error:
            for future in waiting:
                future.set_exception(StorageError(f"not rebuilt: {type(error).__name__}: {error}"))
            raise
        for future in waiting:
            if rebuilt is None:
                future.set_exception(StorageError("not rebuilt: the learner was stopped"))
            else:
                future.set_result(rebuilt)

    def _refuse_requests(self) -> None:
        while not self._requests.empty():
            self._requests.get().set_exception(StorageError(f"not rebuilt: the learner is {self._status}"))

    def _tell_saved(self, position: int) -> None:
        with self._changed:
            self._saved = position
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()
