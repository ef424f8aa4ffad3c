"""The local policy model: any causal language model of transformers, on CPU or GPU, shared by concurrent searches."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
import warnings
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from kaelum_graph.errors import ContextOverflow, KaelumError, ModelError, UsageError, WeightsError
from kaelum_graph.models.base import (
    CancelToken,
    Capabilities,
    Delta,
    Finish,
    Generation,
    GenerationRequest,
    OnDelta,
    PolicyModel,
    Sampling,
)
from kaelum_graph.models.call_reader import call_reader
from kaelum_graph.models.continuous import ContinuousEngine, prefers_continuous
from kaelum_graph.models.detokenizer import Detokenizer
from kaelum_graph.models.engine import Engine
from kaelum_graph.models.grammars import Grammars
from kaelum_graph.models.hermes import CLOSE, OPEN
from kaelum_graph.models.logit_shaping import shaper_for
from kaelum_graph.models.packed_linear import pack_linear_layers
from kaelum_graph.models.padded import PaddedEngine
from kaelum_graph.models.prompts import ChatPrompt, trailing_blanks
from kaelum_graph.models.request_check import callable_tools, check_decoding, must_call
from kaelum_graph.models.running_sample import Mailbox, RunningSample
from kaelum_graph.models.sampling import check_sampling, uniforms
from kaelum_graph.types import Message

EngineName = Literal["auto", "padded", "continuous"]
Offload = Literal["none", "cpu", "disk"]

POLL_SECONDS = 0.01
log = logging.getLogger(__name__)


class LocalPolicyModel(PolicyModel):
    """A model in this process. Concurrent calls share its batches, first come first served."""

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, engine: EngineName = "auto", max_batch: int = 32
    ) -> None:
        """Serve an already built `model` with its `tokenizer`.

        The model's own sampling defaults (temperature, repetition penalty and so on) are set aside: a request's
        `Sampling` says it all. `engine="auto"` takes the one that is the faster on this device.
        """
        if max_batch < 1:
            raise UsageError(f"max_batch is {max_batch}; it must be at least 1")
        self.name = name
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._prompt = ChatPrompt(tokenizer)
        text_config = model.config.get_text_config()
        self._eos_ids = self._prompt.eos_ids(model.generation_config, text_config)
        self._context: int | None = getattr(text_config, "max_position_embeddings", None)
        model.generation_config = GenerationConfig(pad_token_id=0)
        self._vocabulary: int = getattr(text_config, "vocab_size", len(tokenizer))
        self._grammars = Grammars(tokenizer, vocabulary=self._vocabulary, eos_ids=self._eos_ids)
        self._closed = False
        self._engine = _make_engine(model, engine, max_batch=max_batch, context=self._context)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str,
        device: str | None = None,
        offload: Offload = "none",
        engine: EngineName = "auto",
        max_batch: int = 32,
        offload_folder: Path | None = None,
        max_memory: dict[int | str, int | str] | None = None,
    ) -> Self:
        """Load a `save_pretrained` folder onto `device` (the GPU when there is one, the CPU otherwise).

        `offload` lets a model that is larger than the device spill to "cpu" memory or to "disk" (`offload_folder`
        must then be given); `max_memory` says how much each may hold, as in accelerate: `{0: "8GiB", "cpu": "16GiB"}`.
        Raises `WeightsError` where the folder cannot be loaded.
        """
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        options: dict[str, Any] = {"dtype": preferred_dtype(chosen), "local_files_only": True}
        if offload != "none":
            if offload == "disk" and offload_folder is None:
                raise UsageError("offload='disk' needs an offload_folder to write to")
            options |= {"device_map": "auto", "max_memory": max_memory, "offload_folder": offload_folder}
        elif chosen.type != "cpu" and importlib.util.find_spec("accelerate") is not None:
            # Straight onto the device, without a whole copy in memory first.
            options["device_map"] = {"": str(chosen)}
        try:
            with quiet_loading():
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
        except KaelumError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"Cannot load a model from {folder}: {reason}") from error
        if offload == "none" and chosen.type == "cpu":
            pack_linear_layers(model)
        elif offload == "none":
            model.to(chosen)
        return cls(model, tokenizer, name=name, engine=engine, max_batch=max_batch)

    @property
    def engine_name(self) -> str:
        """ "padded" or "continuous"."""
        return self._engine.name

    @property
    def max_batch(self) -> int:
        """Sequences at a time; less than asked for once memory ran out."""
        return self._engine.max_batch

    @property
    def capabilities(self) -> Capabilities:
        """Everything, natively; calls and shapes are forced where the tokenizer is one of the library `tokenizers`."""
        return Capabilities(
            context_tokens=self._context,
            multiple_samples=True,
            logprobs=True,
            continuation=True,
            seed=True,
            tools=True,
            shapes=self._grammars.available,
            exact_counts=True,
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Prompt tokens of `messages` with the chat template. Raises `UsageError` on messages that make no sense."""
        return len(self._prompt.encode(messages))

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        """See `PolicyModel.generate`. Deltas arrive on the calling thread.

        A completed sample's `completion_tokens` counts the tokens of a stop string, not the end-of-sequence token.
        """
        if self._closed:
            raise ModelError(f"The model {self.name} is closed.")
        mailbox = Mailbox(streaming=on_delta is not None)
        batch = [self._prepare(request, mailbox) for request in requests]
        samples = [sample for prepared in batch if not isinstance(prepared, Generation) for sample in prepared]
        if samples:
            if cancel is not None and cancel.cancelled:
                _stop_all(samples, "cancelled")
            elif deadline is not None and time.monotonic() >= deadline:
                _stop_all(samples, "deadline")
            else:
                self._engine.submit(samples)
            _wait(samples, mailbox, deadline=deadline, cancel=cancel, on_delta=on_delta)
        return [
            prepared if isinstance(prepared, Generation) else _generation(request, prepared)
            for request, prepared in zip(requests, batch, strict=True)
        ]

    def close(self) -> None:
        """Fail what is running, end the engine's threads. Idempotent."""
        self._closed = True
        self._engine.close()

    def _prepare(self, request: GenerationRequest, mailbox: Mailbox) -> Generation | list[RunningSample]:
        """The samples of a request, ready to run; or the error that befell it."""
        try:
            if request.n < 1:
                raise UsageError(f"n is {request.n}; it must be at least 1")
            check_sampling(request.sampling)
            check_decoding(request)
            self._check_bias(request.sampling)
            tools = request.tools if callable_tools(request) else ()
            prompt = self._prompt.encode(request.messages, request.partial_answer, tools)
            if len(prompt) < 2:
                raise UsageError("the prompt is shorter than two tokens")
            room = request.sampling.max_tokens
            if self._context is not None:
                room = min(room, self._context - len(prompt))
                if room < 1:
                    raise ContextOverflow(limit_tokens=self._context, prompt_tokens=len(prompt))
            constraints = self._grammars.constraints(request) or [None] * request.n
        except KaelumError as error:
            return Generation(request_id=request.request_id, error=error)
        except RecursionError:
            error = UsageError("the tools, the shape or a call's arguments are nested too deeply")
            return Generation(request_id=request.request_id, error=error)
        return [
            RunningSample(
                request_id=request.request_id,
                index=index,
                prompt=prompt,
                max_tokens=room,
                sampling=request.sampling,
                eos_ids=self._eos_ids,
                numbers=uniforms(request.sampling.seed, index, room),
                detokenizer=Detokenizer(
                    self._prompt.decode,
                    context=prompt,
                    # A stop string inside a forced call would leave half a call.
                    stop=() if must_call(request) else request.sampling.stop,
                    swallow=trailing_blanks(request.partial_answer),
                    unstopped=(OPEN, CLOSE) if tools else None,
                ),
                mailbox=mailbox,
                shaper=shaper_for(request.sampling, constraints[index]),
                reader=partial(call_reader, request),
                insight=request.insight,
                on_end=request.on_end,
            )
            for index in range(request.n)
        ]

    def _check_bias(self, sampling: Sampling) -> None:
        """Raise `UsageError` for a bias on a token that the model does not have."""
        for token, _ in sampling.logit_bias:
            if token >= self._vocabulary:
                raise UsageError(f"logit_bias has token {token}; the model's tokens are 0 to {self._vocabulary - 1}")


@contextlib.contextmanager
def quiet_loading() -> Generator[None]:
    """transformers and accelerate without progress bars and warnings, for as long as it lasts."""
    accelerate_log = logging.getLogger("accelerate")
    accelerate_level = accelerate_log.level
    accelerate_log.setLevel(logging.ERROR)
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        accelerate_log.setLevel(accelerate_level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _make_engine(model: Any, wanted: EngineName, *, max_batch: int, context: int | None) -> Engine:
    if wanted == "continuous" or (wanted == "auto" and prefers_continuous(model)):
        try:
            return ContinuousEngine(model, max_batch=max_batch, context=context)
        except ModelError as error:
            log.info("%s The padded engine takes its place.", error)
    return PaddedEngine(model, max_batch=max_batch)


def preferred_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, the next best elsewhere."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu":
        fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.float16


def _stop_all(samples: Sequence[RunningSample], finish: Finish) -> None:
    for sample in samples:
        sample.stop(finish)


def _wait(
    samples: Sequence[RunningSample],
    mailbox: Mailbox,
    *,
    deadline: float | None,
    cancel: CancelToken | None,
    on_delta: OnDelta | None,
) -> None:
    """Return when every sample has ended, ending them all at the deadline or the cancellation."""
    waiting = len(samples)
    while waiting:
        patience = 1.0 if cancel is None else POLL_SECONDS
        if deadline is not None:
            patience = min(patience, deadline - time.monotonic())
        item = mailbox.get(patience)
        if isinstance(item, Delta):
            on_delta = _deliver(item, on_delta)
        elif item is not None:
            waiting -= 1
        if cancel is not None and cancel.cancelled:
            _stop_all(samples, "cancelled")
        elif deadline is not None and time.monotonic() >= deadline:
            _stop_all(samples, "deadline")


def _deliver(delta: Delta, on_delta: OnDelta | None) -> OnDelta | None:
    """Hand a delta over; a receiver that raises gets no more."""
    if on_delta is not None:
        try:
            on_delta(delta)
        except Exception:
            log.warning("A receiver of deltas failed; it gets no more of them.", exc_info=True)
            return None
    return on_delta


def _generation(request: GenerationRequest, samples: Sequence[RunningSample]) -> Generation:
    error = next((sample.error for sample in samples if sample.error is not None), None)
    return Generation(
        request_id=request.request_id,
        samples=() if error else tuple(sample.sample() for sample in samples),
        prompt_tokens=len(samples[0].prompt),
        error=error,
    )
