"""How sampling settings reach a LangChain chat model: as its own fields where it has them, else as call arguments."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel

from kaelum_graph.models.base import Sampling
from kaelum_graph.models.openai_request import MAX_STOP_STRINGS, sample_seed

FIELD_NAMES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_output_tokens", "max_completion_tokens", "num_predict", "max_new_tokens"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "seed": ("seed", "random_seed"),
    "logprobs": ("logprobs",),
}
"""What integrations call each setting."""


@dataclass(frozen=True, slots=True)
class BoundModel:
    """A model made ready for one sample. `sent` names the settings it was given, by their own names and ours."""

    model: BaseChatModel
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

    def bind(self, sampling: Sampling, index: int) -> BoundModel:
        """The model and the call's arguments for sample `index`."""
        greedy = sampling.temperature == 0
        wanted: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
        if not greedy and sampling.top_p < 1:
            wanted["top_p"] = sampling.top_p
        if not greedy and sampling.top_k > 0:
            wanted["top_k"] = sampling.top_k
        if sampling.seed is not None:
            wanted["seed"] = sample_seed(sampling.seed, index)
        if sampling.logprobs:
            wanted["logprobs"] = True
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
        stop = list(sampling.stop[:MAX_STOP_STRINGS]) if sampling.stop and self.accepts("stop") else None
        if stop:
            sent.add("stop")
        return BoundModel(self._model.model_copy(update=fields), stop, arguments, frozenset(sent))
