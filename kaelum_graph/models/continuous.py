"""The continuous engine: transformers' own continuous batching (paged cache), with this package's sampling inside it.

The library's manager gives every request the same seed and draws its own tokens, knows no stop strings, and one
greedy request ends its thread. So it runs greedily over scores in which the token drawn here is the highest, and a
request that has ended for a reason of ours is cancelled before the next step.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from kaelum_graph.errors import ModelError
from kaelum_graph.models.engine import can_join, close_at_exit, draw_rows, is_out_of_memory
from kaelum_graph.models.running_sample import RunningSample

PAGE_TOKENS = 32
"""Prefixes are shared in whole pages, so the library's 256 would share none of a short prompt."""

STEP_TOKENS = 1024
LENGTH_ON_CPU = 2048
"""Tokens of cache a sequence on a CPU, where the library would take most of the machine's memory. They are a common
pool, which holds at least one sequence of the whole context."""

CUDA_MEMORY_SHARE = 0.6


class ContinuousEngine:
    """Feeds samples to a manager, and starts a new one when the old one died. Raises `ModelError` where it cannot."""

    name = "continuous"

    def __init__(self, model: Any, *, max_batch: int, context: int | None) -> None:
        if not can_join(model):
            raise ModelError(f"Continuous batching does not carry {type(model).__name__}.")
        if getattr(model, "hf_device_map", None) and len(set(model.hf_device_map.values())) > 1:
            raise ModelError("Continuous batching does not carry a model that is spread over devices.")
        # Whatever it reports comes back as a request's error; its own log would write over the caller's terminal.
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
        self._model = model
        self._max_batch = max_batch
        self._context = context or LENGTH_ON_CPU
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._live: dict[str, RunningSample] = {}
        self._closed = False
        self._manager: Any = None
        self._watcher: threading.Thread | None = None
        with self._lock:
            self._start()
        close_at_exit(self)

    @property
    def max_batch(self) -> int:
        """Sequences at a time; halved when memory ran out."""
        return self._max_batch

    def submit(self, samples: Sequence[RunningSample]) -> None:
        """Hand samples to the manager's queue, in order."""
        with self._lock:
            if self._closed:
                raise ModelError("This model is closed.")
            if self._manager is None or not self._manager.is_running():
                self._start()
            for sample in samples:
                self._add(sample)

    def close(self) -> None:
        """Fail what is unfinished; the manager's thread ends after the step it is in."""
        with self._lock:
            self._closed = True
            manager, self._manager = self._manager, None
            left = list(self._live.values())
            self._live.clear()
        for sample in left:
            sample.fail(ModelError("This model was closed while it was generating."))
        if manager is not None:
            _stop(manager)
        watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join()

    def step(self, keys: Sequence[str], scores: Tensor) -> Tensor:
        """Draw from `scores` `[R, V]` for the requests `keys` (the manager's names), which are its first rows."""
        with self._lock:
            rows = [self._live.get(key) for key in keys]
        picked = [(row, sample) for row, sample in enumerate(rows) if sample is not None]
        tokens = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
        if picked:
            at = [row for row, _ in picked]
            whole = len(at) == len(scores)
            tokens[at] = draw_rows([sample for _, sample in picked], scores if whole else scores[at])
        for key, sample in zip(keys, rows, strict=True):
            if sample is None or sample.done:
                self._forget(key)
        return scores.scatter(1, tokens[:, None], torch.inf)

    def _forget(self, key: str) -> None:
        with self._lock:
            self._live.pop(key, None)
            manager = self._manager
        if manager is not None:
            manager.cancel_request(key)

    def _add(self, sample: RunningSample) -> None:
        key = f"kaelum-{next(self._numbers)}"
        self._live[key] = sample
        # One more than is wanted: the sample itself ends at its length, and the manager's own end would come first.
        room = sample.max_tokens - len(sample.tokens) + 1
        if self._manager.add_request(sample.ids, request_id=key, max_new_tokens=room, eos_token_id=-1) is None:
            del self._live[key]
            sample.fail(ModelError("Continuous batching refused the request."))

    def _start(self) -> None:
        """A new manager with its watcher; the lock is held."""
        on_cpu = self._model.device.type == "cpu"
        pool = max(self._max_batch * min(self._context, LENGTH_ON_CPU), self._context)
        settings: dict[str, Any] = (
            {"num_blocks": -(-pool // PAGE_TOKENS) + 1, "max_batch_tokens": STEP_TOKENS}
            if on_cpu
            else {"max_memory_percent": CUDA_MEMORY_SHARE}
        )
        config = ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            max_requests_per_batch=self._max_batch,
            # Drawing waits for the device, which neither a captured graph nor a step ahead of the host allows.
            use_cuda_graph=False,
            use_async_batching=False,
            **settings,
        )
        try:
            manager = self._model.init_continuous_batching(
                generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
                continuous_batching_config=config,
            )
            install(manager, RowProcessor(self))
            manager.start()
        except Exception as error:
            raise ModelError(f"Continuous batching does not start: {type(error).__name__}: {error}") from error
        self._manager = manager
        self._watcher = threading.Thread(target=self._watch, args=(manager,), name="kaelum-cb-watch", daemon=True)
        self._watcher.start()

    def _watch(self, manager: Any) -> None:
        """Take in what the manager reports: errors are passed on, finished outputs (already ours) are dropped."""
        while True:
            output = manager.get_result(timeout=0.1)
            if output is not None and output.error is not None:
                with self._lock:
                    sample = self._live.pop(output.request_id, None)
                if sample is not None and not self._closed:
                    self._retry_or_fail(sample, output.error)
            if output is None and not manager.is_running():
                break
            self._drop_ended()
        error = manager.background_thread_status.fatal_error
        with self._lock:
            left = list(self._live.values()) if self._manager is manager else []
            if self._manager is manager:
                self._live.clear()
        for sample in left:
            self._retry_or_fail(sample, str(error or "its thread ended"))

    def _drop_ended(self) -> None:
        """Cancel requests whose caller gave up while they were still waiting for their first step."""
        with self._lock:
            ended = [key for key, sample in self._live.items() if sample.done]
        for key in ended:
            self._forget(key)

    def _retry_or_fail(self, sample: RunningSample, reason: str) -> None:
        if is_out_of_memory(RuntimeError(reason)) or "out of memory" in reason:
            sample.out_of_memory += 1
            if sample.out_of_memory == 1:
                with contextlib.suppress(ModelError):
                    self._restart_smaller()
                    self.submit([sample])
                    return
        sample.fail(ModelError(f"Generation failed: {reason.splitlines()[0] if reason else 'no reason given'}"))

    def _restart_smaller(self) -> None:
        with self._lock:
            if self._manager is not None and not self._manager.is_running():
                self._max_batch = max(1, self._max_batch // 2)
                self._manager = None


class RowProcessor(ContinuousBatchingLogitsProcessor):
    """Stands where the manager keeps its own processors, and knows which request each row belongs to."""

    supported_kwargs: dict[str, type] = {}  # noqa: RUF012
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, engine: ContinuousEngine) -> None:
        self._engine = engine
        self._keys: list[str] = []

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        """Nothing is kept in the manager's tensors."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Tensor:
        """Note the requests of the step that comes next, in row order."""
        self._keys = [request.state.request_id for request in requests_with_new_token]
        return torch.zeros(len(self._keys), dtype=torch.int32)

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """`scores` `[R, V]`; rows past the noted requests belong to none."""
        return self._engine.step(self._keys, scores)


def install(manager: Any, processor: RowProcessor) -> None:
    """Make `processor` the manager's only one. Before `start`."""
    processors = manager.logit_processor
    processors.logits_processor = LogitsProcessorList([processor])
    processors.tensors_required = 1
    processors.supported_keys, processors.ignored_keys = {}, set()
    processors.do_processing = True


def prefers_continuous(model: Any) -> bool:
    """True on a GPU with flash attention. Without it the paged cache needs a mask over the whole batch's tokens."""
    if model.device.type != "cuda" or not can_join(model):
        return False
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    return is_flash_attn_2_available() or is_flash_attn_3_available()


def _stop(manager: Any) -> None:
    with contextlib.suppress(RuntimeError):
        manager._wake_up_loop.set()
        manager.stop(block=True, hard_stop=True)
        manager.destroy()
