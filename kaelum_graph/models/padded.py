"""The padded engine: the library's `generate` over one left-padded batch that sequences join and leave as it runs.

`generate` runs in segments. A segment ends when new sequences can join, when half of its rows have ended, or when all
have. Between segments the key-value cache is edited: rows that ended are dropped, and the cache of newcomers, whose
prompts are read once each however many samples share them, is padded on the left and put beside the others.

Architectures whose cache is more than keys and values (recurrent states, sliding windows) run whole waves instead: the
next wave starts when the running one has ended.
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from kaelum_graph.errors import ModelError
from kaelum_graph.models.engine import can_join, close_at_exit, draw_rows, first_line, is_out_of_memory
from kaelum_graph.models.prefix_cache import PrefixCache
from kaelum_graph.models.running_sample import RunningSample, unfinished
from kaelum_graph.models.state_tap import StateTap

PREFILL_TOKENS = {"cpu": 512, "cuda": 16384}
"""Tokens of one prefill batch, padding included. A CPU gains nothing from more, and can stop between batches."""

COMPACT_FROM_ROWS = 2


class PaddedEngine:
    """One thread that serves a first-in first-out queue with at most `max_batch` sequences at a time."""

    name = "padded"

    def __init__(self, model: Any, *, max_batch: int) -> None:
        self._model = model
        self._max_batch = max_batch
        # The first layers of an offloaded model may be nowhere; its hooks then move what comes from the CPU.
        self._device: torch.device = model.device if model.device.type != "meta" else torch.device("cpu")
        self._joinable = can_join(model)
        self._tap = StateTap.on(model)
        # A CPU is slow at reading prompts; a GPU reads many at once faster than it copies what is kept of one.
        self._prefixes = PrefixCache(model.config) if self._joinable and model.device.type == "cpu" else None
        self._queue: deque[RunningSample] = deque()
        self._running: list[RunningSample] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def max_batch(self) -> int:
        """Sequences at a time; halved when memory ran out."""
        return self._max_batch

    def submit(self, samples: Sequence[RunningSample]) -> None:
        """Queue samples behind those already there."""
        with self._changed:
            if self._closed:
                raise ModelError("This model is closed.")
            self._queue.extend(samples)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="kaelum-padded-engine", daemon=True)
                self._thread.start()
                close_at_exit(self)
            self._changed.notify_all()

    def close(self) -> None:
        """Fail what is unfinished; the thread ends after the step it is in."""
        with self._changed:
            self._closed = True
            left = [*self._queue, *self._running]
            self._queue.clear()
            self._changed.notify_all()
            thread = self._thread
        for sample in left:
            sample.fail(ModelError("This model was closed while it was generating."))
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
            try:
                self._serve_joining() if self._joinable else self._serve_wave()
            except Exception as error:
                self._recover(error)
            self._running = []

    def _take(self) -> list[RunningSample]:
        """The next samples that there is room for, into `_running`."""
        with self._changed:
            taken: list[RunningSample] = []
            while self._queue and len(self._running) + len(taken) < self._max_batch:
                sample = self._queue.popleft()
                if not sample.done:
                    taken.append(sample)
            self._running = [*self._running, *taken]
            return taken

    def _recover(self, error: Exception) -> None:
        """Fail the samples that were running; those that ran out of memory get a second try in a smaller batch."""
        samples = unfinished(self._running)
        failure = ModelError(f"Generation failed: {type(error).__name__}: {first_line(error)}")
        failure.__cause__ = error
        if not is_out_of_memory(error):
            for sample in samples:
                sample.fail(failure)
            return
        error.__traceback__ = None  # its frames hold the tensors that filled the memory
        if self._prefixes is not None:
            self._prefixes.clear()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        again: list[RunningSample] = []
        for sample in samples:
            sample.out_of_memory += 1
            if sample.out_of_memory > 1:
                sample.fail(failure)
            else:
                again.append(sample)
        with self._changed:
            self._max_batch = max(1, self._max_batch // 2)
            self._queue.extendleft(reversed(again))

    # Whole waves ---------------------------------------------------------------------------------------------------

    def _serve_wave(self) -> None:
        samples = self._take()
        if samples:
            ids, mask = left_pad([sample.ids for sample in samples], self._device)
            self._generate(samples, ids, mask, cache=None, pause=lambda _: False)

    # Joining and leaving -------------------------------------------------------------------------------------------

    def _serve_joining(self) -> None:
        rows = Rows(self._device)
        while True:
            rows.keep([row for row, sample in enumerate(rows.samples) if not sample.done])
            self._running = list(rows.samples)
            newcomers = self._take()
            for batch in self._prefill_batches(newcomers):
                self._prefill(rows, batch)
            if not rows.samples:
                return
            output = self._generate(rows.samples, rows.ids, rows.mask, cache=rows.cache, pause=self._pause)
            rows.advance(output.sequences, output.past_key_values)

    def _prefill_batches(self, newcomers: Sequence[RunningSample]) -> list[list[list[RunningSample]]]:
        """Prompts to be read together; one that begins as a kept prompt does is read on from there, alone."""
        kept = self._prefixes
        known = [sample for sample in newcomers if kept is not None and kept.begins(sample.ids[:-1])]
        new = [sample for sample in newcomers if sample not in known]
        # A budget of no tokens: every prompt makes a batch of its own.
        return prefill_batches(known, 0) + prefill_batches(new, PREFILL_TOKENS.get(self._device.type, 512))

    def _pause(self, live: int) -> bool:
        """Whether to end a segment in which `live` rows are unfinished."""
        rows = len(self._running)
        return (bool(self._queue) and live < self._max_batch) or (rows >= COMPACT_FROM_ROWS and live <= rows // 2)

    def _prefill(self, rows: Rows, groups: list[list[RunningSample]]) -> None:
        """Read each group's common prompt once, all but its last token, and add a row for each of its samples."""
        groups = [live for group in groups if (live := unfinished(group))]
        if not groups or self._closed:
            return
        cache = DynamicCache(config=self._model.config)
        if self._prefixes is not None and len(groups) == 1:
            cache, _ = self._prefixes.longest(groups[0][0].ids[:-1])
        ids, mask = left_pad([group[0].ids for group in groups], self._device)
        output = self._model.generate(
            ids[:, :-1], attention_mask=mask[:, :-1], past_key_values=cache, generation_config=_greedy(1)
        )
        if self._prefixes is not None:
            for row, group in enumerate(groups):
                self._prefixes.keep(group[0].ids[:-1], output.past_key_values, row=row)
        source = torch.tensor([at for at, group in enumerate(groups) for _ in group], device=self._device)
        cache = output.past_key_values
        if len(source) > len(groups):
            cache.batch_select_indices(source)
        rows.join([sample for group in groups for sample in group], ids[source], mask[source], cache)

    def _generate(
        self,
        samples: Sequence[RunningSample],
        ids: Tensor,
        mask: Tensor,
        *,
        cache: DynamicCache | None,
        pause: Callable[[int], bool],
    ) -> Any:
        step = BatchStep(samples, pause=lambda live: self._closed or pause(live), tap=self._tap)
        longest = max(sample.max_tokens - len(sample.tokens) for sample in samples)
        return self._model.generate(
            ids,
            attention_mask=mask,
            **({} if cache is None else {"past_key_values": cache}),
            generation_config=_greedy(longest),
            logits_processor=LogitsProcessorList([step]),
            stopping_criteria=StoppingCriteriaList([BatchStop(step)]),
        )


class BatchStep(LogitsProcessor):
    """Draws each row's next token by the row's own settings and hands it to its sample.

    `generate` runs greedily over what this returns: scores in which the drawn token is the highest.
    """

    def __init__(
        self, samples: Sequence[RunningSample], *, pause: Callable[[int], bool], tap: StateTap | None = None
    ) -> None:
        self.samples = list(samples)
        self.pause = pause
        self._tap = tap

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """`scores` `[B, V]` float32, ours to write to."""
        drawn = draw_rows(self.samples, scores, self._tap.latest(len(self.samples)) if self._tap else None)
        return scores.scatter_(1, drawn[:, None], torch.inf)


class BatchStop(StoppingCriteria):
    """Which rows have ended, by stop string, length, cancellation, deadline or error; all of them to end a segment."""

    # By this attribute `generate` knows to feed padding to rows that have ended.
    eos_token_id = None

    def __init__(self, step: BatchStep) -> None:
        self._step = step

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """`[B]` bool."""
        done = [sample.done for sample in self._step.samples]
        if self._step.pause(done.count(False)):
            done = [True] * len(done)
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)


class Rows:
    """The running batch: `[B, L]` token ids, their mask, and a cache of the first L - 1 positions."""

    def __init__(self, device: torch.device) -> None:
        self.samples: list[RunningSample] = []
        self.ids = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.cache: DynamicCache | None = None

    def advance(self, ids: Tensor, cache: DynamicCache) -> None:
        """Take over what a segment of `generate` returned."""
        grown = ids.shape[1] - self.ids.shape[1]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.samples), grown)], dim=1)
        self.ids, self.cache = ids, cache

    def keep(self, kept: list[int]) -> None:
        """Drop every other row, and the padding that all that stay have in common."""
        if len(kept) == len(self.samples):
            return
        self.samples = [self.samples[row] for row in kept]
        if not kept or self.cache is None:
            self.samples, self.cache = [], None
            self.ids, self.mask = self.ids[:0, :0], self.mask[:0, :0]
            return
        index = torch.tensor(kept, device=self.ids.device)
        self.ids, self.mask = self.ids[index], self.mask[index]
        padding = int(self.mask.argmax(dim=1).min())
        self.ids, self.mask = self.ids[:, padding:], self.mask[:, padding:]
        for layer in _layers(self.cache):
            layer.keys = layer.keys[index, :, padding:]
            layer.values = layer.values[index, :, padding:]

    def join(self, samples: list[RunningSample], ids: Tensor, mask: Tensor, cache: DynamicCache) -> None:
        """Add rows, padding the shorter side on the left."""
        if self.cache is None:
            self.samples, self.ids, self.mask, self.cache = samples, ids, mask, cache
            return
        self.samples = [*self.samples, *samples]
        self.ids = _stack_right_aligned(self.ids, ids, dim=1)
        self.mask = _stack_right_aligned(self.mask, mask, dim=1)
        for mine, theirs in zip(_layers(self.cache), _layers(cache), strict=True):
            mine.keys = _stack_right_aligned(mine.keys, theirs.keys, dim=2)
            mine.values = _stack_right_aligned(mine.values, theirs.values, dim=2)


def prefill_batches(samples: Sequence[RunningSample], tokens: int) -> list[list[list[RunningSample]]]:
    """Samples grouped by common ids, the groups in batches of at most `tokens` (one group may be more).

    Prompts of like length go together, for padding takes as long to read as words.
    """
    by_prompt: dict[tuple[int, ...], list[RunningSample]] = {}
    for sample in samples:
        by_prompt.setdefault(tuple(sample.ids), []).append(sample)
    batches: list[list[list[RunningSample]]] = []
    longest = 0
    for ids, group in sorted(by_prompt.items(), key=lambda item: len(item[0])):
        longest = max(longest, len(ids))
        if batches and (len(batches[-1]) + 1) * longest <= tokens:
            batches[-1].append(group)
        else:
            batches.append([group])
            longest = len(ids)
    return batches


def left_pad(sequences: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """`[B, L]` ids and their mask, each sequence at the right edge."""
    longest = max(len(ids) for ids in sequences)
    ids = [[0] * (longest - len(sequence)) + list(sequence) for sequence in sequences]
    mask = [[0] * (longest - len(sequence)) + [1] * len(sequence) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _greedy(max_new_tokens: int) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0, use_cache=True, return_dict_in_generate=True
    )


def _layers(cache: Any) -> list[Any]:
    return cache.layers


def _stack_right_aligned(left: Tensor, right: Tensor, *, dim: int) -> Tensor:
    """Both, stacked along dimension 0; the shorter along `dim` is padded with zeros at its start."""
    length = max(left.shape[dim], right.shape[dim])
    return torch.cat([_pad_start(left, length, dim), _pad_start(right, length, dim)])


def _pad_start(tensor: Tensor, length: int, dim: int) -> Tensor:
    missing = length - tensor.shape[dim]
    if missing == 0:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)
