"""The parts a graph runs on, made at first need and shared by every query of a process.

Nodes get them by closure, not through the host's context: inside a bigger graph the host's context arrives instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from kaelum_flow.feature_shelf import FeatureShelf
from kaelum_flow.retriever import AdaptedRetriever, AnyRetriever
from kaelum_graph.cache import AnswerCache
from kaelum_graph.config import Settings, with_overrides
from kaelum_graph.documents import Documents, check_folder
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import ConfigError, StorageError, UsageError
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.service import Learning, MakeRewardModel, versions_of
from kaelum_graph.measurements import Measurements
from kaelum_graph.models.base import CancelToken, PolicyModel
from kaelum_graph.models.progress import Report, silent
from kaelum_graph.retrieval import Retriever
from kaelum_graph.router import Router
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.slots import SlotScheduler, SlotUse
from kaelum_graph.state_version import StateVersion
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.structures.book import StructureBook
from kaelum_graph.types import WorkerName
from kaelum_graph.workers import all_workers, worker
from kaelum_graph.workers.base import Worker

T = TypeVar("T")

CLOSED = "this Kaelum is closed; make a new one."
CLOSING_SECONDS = 2.0
"""How long `close` waits for the queries under way, which it has cancelled, to give what they have."""
UNMADE = object()


def unheard(notice: str) -> None:
    """A notice that nobody reads."""


PER_QUERY = frozenset(
    {
        "answers", "cache", "deadline", "depth", "early_stop", "effort", "first_wave", "judge", "learning",
        "max_reflections", "max_tokens", "min_confidence", "prm_threshold", "routing", "seed", "sims", "temperature",
        "token_budget", "top_p", "wave_size", "worker",
    }
)  # fmt: skip
"""Settings that a single query may override; the others belong to the process."""


@contextmanager
def wave_threads() -> Generator[ThreadPoolExecutor]:
    """Threads for the programs and the verifiers of one wave. Its own: in a queue that searches share, neither the
    deadline nor the cancellation of one would be looked at before the others' programs have run."""
    threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="kaelum-evaluate")
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def close_part(part: object) -> None:
    """Close a part, whatever it is; nothing where there is nothing to close."""
    if isinstance(part, ThreadPoolExecutor):
        part.shutdown(wait=True, cancel_futures=True)
    elif isinstance(part, (Learning, PolicyModel, Sandbox, Storage, StructureBook)):
        part.close()


class Services:
    """Everything the nodes need. A part that is passed in is used as it is and not closed."""

    def __init__(
        self,
        settings: Settings,
        *,
        model: PolicyModel | None = None,
        encoder: Encoder | None = None,
        sandbox: Sandbox | None = None,
        notify: Callable[[str], None] | None = None,
        retriever: AnyRetriever | None = None,
    ) -> None:
        self.settings = settings
        self.notify = notify or unheard
        self._given: dict[str, object] = {"model": model, "encoder": encoder, "sandbox": sandbox}
        if retriever is not None:
            self._given["retriever"] = AdaptedRetriever(retriever, seconds=settings.retriever_timeout)
        elif settings.documents is not None:
            check_folder(settings.documents)
        self._made: dict[str, object] = {}
        self._making: dict[str, threading.Lock] = {}
        self._closed = False
        self._under_way: list[int] = []  # the threads that wait for a query's events
        self._changed = threading.Condition()
        self.closing = CancelToken()
        self.make_reward_model: MakeRewardModel = RewardModel

    def settings_for(self, options: Mapping[str, object]) -> Settings:
        """The settings with one query's own options. Raises `UsageError` or `ConfigError` for a bad one."""
        unknown = sorted(set(options) - PER_QUERY)
        if unknown:
            raise UsageError(f"unknown option '{unknown[0]}' for a query; known: {', '.join(sorted(PER_QUERY))}.")
        settings = with_overrides(self.settings, options)
        if settings.worker is not None:
            worker(settings.worker)
        return settings

    @cached_property
    def workers(self) -> dict[WorkerName, Worker]:
        """All registered workers by name."""
        return all_workers()

    @property
    def model(self) -> PolicyModel:
        """The policy model; fetched and loaded at first need, which can take minutes on a new machine."""
        return self._part("model", self._load_model)

    @property
    def model_name(self) -> str:
        """The policy model's name, known without loading it; a server that is to choose one is asked for it."""
        given = self._given["model"]
        if isinstance(given, PolicyModel):
            return given.name
        if self.settings.base_url is not None:
            return f"{self.settings.model or self.model.name} at {self.settings.base_url}"
        return self._chosen_model[0]

    @property
    def known_model_name(self) -> str | None:
        """`model_name` where no hub and no server has to be asked for it any more, else None."""
        settings = self.settings
        named = settings.base_url is not None and settings.model is not None
        known = named or self._given["model"] is not None or "model" in self._made or "_chosen_model" in vars(self)
        return self.model_name if known else None

    @cached_property
    def _chosen_model(self) -> tuple[str, str]:
        if self.settings.model is not None:
            return self.settings.model, ""
        from kaelum_graph.models.weights import default_model

        return default_model(cache_dir=self.settings.cache_dir, hub=self.settings.hub, device=self.settings.device)

    @property
    def encoder(self) -> Encoder:
        """MiniLM."""
        return self._part("encoder", lambda: Encoder(self._encoder_folder(silent)))

    @property
    def router(self) -> Router:
        """The policy network over the registered workers."""
        return self._part(
            "router",
            lambda: Router(
                workers={name: (one.description, *one.examples) for name, one in self.workers.items()},
                encoder=self.encoder,
            ),
        )

    @cached_property
    def shelf(self) -> FeatureShelf:
        """Features of the rollouts of searches under way."""
        return FeatureShelf()

    @property
    def slots(self) -> SlotScheduler | None:
        """Shares the model's batch out between the searches under way; None where nobody knows its size."""
        return self._part("slots", self._make_slots)

    @property
    def storage(self) -> Storage:
        """The episode store in the data folder."""
        return self._part("storage", lambda: Storage(self.settings.data_dir / STORE_FILE))

    @property
    def structures(self) -> StructureBook | None:
        """The reasoning structures on trial and adopted; None where the settings leave them out."""
        if not self.settings.structures:
            return None
        return self._part("structures", lambda: StructureBook(self.settings.data_dir, model=self.model_name))

    def in_background(self, work: Callable[[], None]) -> None:
        """Do `work` after what was handed in earlier, beside the queries; whatever is left at `close` is dropped."""
        self._part("background", lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="kaelum-between")).submit(
            work
        )

    @property
    def measurements(self) -> Measurements:
        """What the episodes' anchored checks have measured: the operators' worth, the reward model's skill."""
        return self._part("measurements", lambda: Measurements(self.storage, model=self.model_name))

    @property
    def learned(self) -> Learning:
        """What was learned from earlier queries, and the thread that learns more unless the settings say no."""
        return self._part("learned", self._make_learning)

    @property
    def slot_use(self) -> SlotUse | None:
        """How the model's batch is shared out; None before the first search, and where nothing limits it.

        Loads nothing.
        """
        scheduler = self._made.get("slots")
        return scheduler.use() if isinstance(scheduler, SlotScheduler) else None

    @property
    def learner_status(self) -> str | None:
        """See `Learner.status`; None before the first search. Loads nothing."""
        learned = self._made.get("learned")
        return learned.status if isinstance(learned, Learning) else None

    def tell_learner(self) -> None:
        """There is something new to learn. Starts nothing: a process that only takes ratings leaves that to others."""
        if isinstance(learned := self._made.get("learned"), Learning):
            learned.notify()

    @property
    def reward_model(self) -> RewardModel | None:
        """The learned reward model, once it has shown more skill than the likelihood of what it scores; else None."""
        model = self.learned.reward_model
        return model if model.skill(self.model_name).weight > self.measurements.prm_weight() else None

    def prm_weight(self) -> float:
        """λ of the search, in [0, 1]: the measured skill of the learned reward model, or of the likelihood."""
        return max(self.learned.reward_model.skill(self.model_name).weight, self.measurements.prm_weight())

    @property
    def state_version(self) -> str:
        """Names what has been learned up to now. Loads no model."""
        return self._part(
            "state_version",
            lambda: StateVersion(
                self.storage, self.structures, model=self.model_name, learned=lambda: self._served_version
            ),
        ).current()

    @property
    def _served_version(self) -> str:
        """The learned version in use, "" for none; where nothing is loaded yet, the one that would be."""
        if isinstance(learned := self._made.get("learned"), Learning):
            return learned.version
        try:
            versions = versions_of(self.settings.data_dir)
            return versions.pinned() or versions.promoted() or ""
        except StorageError:  # then nothing learned is used either
            return ""

    @property
    def cache(self) -> AnswerCache:
        """The answer cache over the episode store."""
        return self._part("cache", lambda: AnswerCache(self.storage, min_similarity=self.settings.cache_similarity))

    @property
    def sandbox(self) -> Sandbox:
        """Where programs run."""
        return self._part("sandbox", ProcessSandbox)

    @property
    def retriever(self) -> Retriever | None:
        """What the caller gave, else the folder of documents; None without either."""
        given, folder = self._given.get("retriever"), self.settings.documents
        if given is not None or folder is None:
            return given  # pyright: ignore[reportReturnType]
        return self._part("documents", lambda: self._documents(folder))

    def sources_key(self) -> str | None:
        """What answers depend on beside the query: the documents' content, or that there is a retriever, and whether
        what it finds is taken for true."""
        if (retriever := self.retriever) is None:
            return None
        try:
            key = retriever.key if isinstance(retriever, Documents) else "retriever"
        except ConfigError:  # the folder is gone; the retrieve node says so
            key = "unreadable"
        return f"{key}, trusted" if self.settings.trust_sources else key

    def generator(self, settings: Settings) -> np.random.Generator:
        """A fresh random generator: seeded by the settings, else by the system."""
        return np.random.default_rng(settings.seed)

    @contextmanager
    def query_under_way(self) -> Generator[None]:
        """One query, from its first node to its last, for `close` to end. Raises `UsageError` on a closed Kaelum."""
        thread = threading.get_ident()
        with self._changed:
            if self.closing.cancelled:
                raise UsageError(CLOSED)
            self._under_way.append(thread)
        try:
            yield
        finally:
            with self._changed:
                self._under_way.remove(thread)
                self._changed.notify_all()

    def load(self) -> float:
        """Make what every search runs on, for that to be no part of a query's time; the seconds that it took."""
        began = time.monotonic()
        _ = self.model, self.learned.router, self.measurements
        return time.monotonic() - began

    def close(self) -> None:
        """End the queries under way, and close what was made here; nothing is made any more. Idempotent."""
        own = threading.get_ident()
        with self._changed:
            self.closing.cancel()
            # A query whose events this very thread reads cannot go on before this returns.
            self._changed.wait_for(lambda: all(thread == own for thread in self._under_way), CLOSING_SECONDS)
            self._closed = True
            made, self._made = self._made, {}
        for name in ("learned", "background", "model", "sandbox", "structures", "storage"):
            close_part(made.get(name))

    def _part(self, name: str, make: Callable[[], T]) -> T:
        given = self._given.get(name)
        if given is not None:
            return given  # pyright: ignore[reportReturnType]
        if (made := self._made.get(name, UNMADE)) is not UNMADE:
            return made  # pyright: ignore[reportReturnType]
        # A lock for each part: loading the model holds up nobody who wants another. Parts make other parts, but never
        # one that needs them, so that no two threads can wait for each other.
        with self._changed:
            making = self._making.setdefault(name, threading.Lock())
        with making:
            if (made := self._made.get(name, UNMADE)) is not UNMADE:
                return made  # pyright: ignore[reportReturnType]
            if self._closed:
                raise UsageError(CLOSED)
            part = make()
            with self._changed:
                if not self._closed:
                    self._made[name] = part
                    return part
        close_part(part)
        raise UsageError(CLOSED)

    def fetch(self, report: Report) -> None:
        """Get the files of encoder and model onto this machine, where they are not, and load neither.

        `report` is told how far that is. Raises `WeightsError` when they can't be had.
        """
        if self._given["encoder"] is None:
            self._encoder_folder(report)
        if self._given["model"] is None and self.settings.base_url is None:
            self._model_folder(report)

    def _documents(self, folder: Path) -> Documents:
        return Documents(folder, encoder=lambda: self.encoder, cache_dir=self.settings.cache_dir, notify=self.notify)

    def _encoder_folder(self, report: Report) -> Path:
        from kaelum_graph.models.weights import resolve_encoder

        return resolve_encoder(cache_dir=self.settings.cache_dir, hub=self.settings.hub, report=report)

    def _model_folder(self, report: Report) -> Path:
        from kaelum_graph.models.weights import resolve_model

        name, _ = self._chosen_model
        return resolve_model(name, cache_dir=self.settings.cache_dir, hub=self.settings.hub, report=report)

    def _make_learning(self) -> Learning:
        return Learning(
            self.storage,
            self.settings.data_dir,
            router=self.router,
            learning=self.settings.learning,
            first=self.settings.first_wave,
            most=self.settings.wave_size,
            reward_model=self.make_reward_model,
        )

    def _make_slots(self) -> SlotScheduler | None:
        model, most = self.model, self.settings.slots

        def slots() -> int:
            return min(count for count in (most, model.max_batch) if count is not None)

        return None if most is None and model.max_batch is None else SlotScheduler(slots)

    def _load_model(self) -> PolicyModel:
        settings = self.settings
        if settings.base_url is not None:
            from kaelum_graph.models.openai_server import OpenAIPolicyModel

            key = settings.api_key.get_secret_value() if settings.api_key else None
            remote = OpenAIPolicyModel(settings.base_url, model=settings.model, api_key=key)
            self.notify(f"model: {remote.name} at {settings.base_url}")
            return remote

        from kaelum_graph.models.local import LocalPolicyModel

        name, reason = self._chosen_model
        if reason:
            self.notify(f"model: {name} ({reason})")
        device = None if settings.device == "auto" else settings.device
        return LocalPolicyModel.load(
            self._model_folder(silent),
            name=name,
            device=device,
            offload=settings.offload,
            engine=settings.engine,
            offload_folder=settings.cache_dir / "offload",
        )
