"""How sampling settings reach a LangChain chat model: as its own fields where it has them, else as call arguments."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.models.openai_request import MAX_STOP_STRINGS, sample_seed, wire_tool
from kaelum_graph.models.request_check import callable_tools, must_call

FIELD_NAMES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_output_tokens", "max_completion_tokens", "num_predict", "max_new_tokens"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "seed": ("seed", "random_seed"),
    "logprobs": ("logprobs",),
    "top_logprobs": ("top_logprobs",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "logit_bias": ("logit_bias",),
}
"""What integrations call each setting."""

PROMISED = ("frequency_penalty", "presence_penalty", "logit_bias")
"""Settings without which the answer would be another one: a model that does not declare one refuses the request."""


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model made ready for one sample. `sent` names the settings it was given, by their own names and ours."""

    model: Runnable[LanguageModelInput, AIMessage]
    stop: list[str] | None
    arguments: dict[str, Any]
    sent: frozenset[str]


class ChatModelSettings:
    """Binds settings to one chat model, and remembers which it refuses. Thread-safe.

    The model's answers are never taken from LangChain's cache: n samples of one prompt would be one sample.
    """

    def __init__(self, chat_model: BaseChatModel) -> None:
        self._model = chat_model.model_copy(update={"cache": False})
        self._fields = {
            ours: next((name for name in names if name in type(chat_model).model_fields), None)
            for ours, names in FIELD_NAMES.items()
        }
        self._lock = threading.Lock()
        self._refused: set[str] = set()

    def has_field(self, setting: str) -> bool:
        """Whether the model declares this setting and has not refused it."""
        return self._fields.get(setting) is not None and self.accepts(setting)

    def accepts(self, setting: str) -> bool:
        """False once the model refused this setting."""
        with self._lock:
            return setting not in self._refused

    def refuse(self, name: str) -> None:
        """Remember a refusal, under our name for the setting."""
        ours = next((ours for ours, field in self._fields.items() if name in (ours, field)), name)
        with self._lock:
            self._refused.add(ours)

    def bind(self, request: GenerationRequest, index: int) -> BoundModel:
        """The model and the call's arguments for sample `index`. Raises `UsageError` for what the model cannot do."""
        sampling = request.sampling
        greedy = sampling.temperature == 0
        wanted: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if not greedy and sampling.top_p < 1:
            wanted["top_p"] = sampling.top_p
        if not greedy and sampling.top_k > 0:
            wanted["top_k"] = sampling.top_k
        if sampling.seed is not None:
            wanted["seed"] = sample_seed(sampling.seed, index)
        if sampling.logprobs or sampling.top_logprobs:
            wanted["logprobs"] = True
        if sampling.top_logprobs and self.has_field("top_logprobs"):
            wanted["top_logprobs"] = sampling.top_logprobs
        wanted |= self._promised(sampling)
        fields: dict[str, Any] = {}
        arguments: dict[str, Any] = {}
        sent: set[str] = set()
        for setting, value in wanted.items():
            if not self.accepts(setting):
                continue
            field = self._fields[setting]
            if field is None:
                arguments[setting] = value
            else:
                fields[field] = value
            sent |= {setting, field or setting}
        # A stop string inside a forced call would leave half a call.
        stops = sampling.stop[:MAX_STOP_STRINGS] if self.accepts("stop") and not must_call(request) else ()
        stop = list(stops) or None
        if stop:
            sent.add("stop")
        model = self._with_tools(self._model.model_copy(update=fields), request)
        return BoundModel(model, stop, arguments, frozenset(sent))

    def _promised(self, sampling: Sampling) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(sampling, name) for name in PROMISED if getattr(sampling, name)}
        for name in values:
            if not self.has_field(name):
                raise UsageError(f"{type(self._model).__name__} has no {name}.")
        if sampling.logit_bias:
            values["logit_bias"] = dict(sampling.logit_bias)
        return values

    def _with_tools(self, model: BaseChatModel, request: GenerationRequest) -> Runnable[LanguageModelInput, AIMessage]:
        if request.shape is not None:
            raise UsageError(f"{type(model).__name__} is a LangChain model, which cannot be held to a shape.")
        if not callable_tools(request):
            return model
        choice = request.tool_choice
        options: dict[str, Any] = {"tool_choice": choice.name or "any"} if must_call(request) else {}
        try:
            return model.bind_tools([wire_tool(tool) for tool in request.tools], **options)
        except NotImplementedError:
            raise UsageError(f"{type(model).__name__} is a LangChain model without tools.") from None
