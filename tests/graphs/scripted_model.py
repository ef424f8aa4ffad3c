"""A policy model that says what a test tells it to, for what the graph does around a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kaelum_graph.models.base import (
    CancelToken,
    Capabilities,
    Delta,
    Generation,
    GenerationRequest,
    OnDelta,
    PolicyModel,
    Sample,
)
from kaelum_graph.types import Message, ToolCall

Said = str | tuple[str, tuple[ToolCall, ...]]
Script = Callable[[GenerationRequest, int], Said]


class ScriptedModel(PolicyModel):
    """`script(request, k)` gives the text of the k-th sample that was ever drawn, which ends at a stop string.

    It may also give the text and the tool calls beside it. Every request is kept; `calls` holds how many shared each
    call. `tools` and `shapes` are what the model says it can do.
    """

    name = "scripted"

    def __init__(self, script: Script, *, seconds: float = 0.0) -> None:
        self.script = script
        self.seconds = seconds
        self.requests: list[GenerationRequest] = []
        self.calls: list[int] = []
        self.drawn = 0
        self.tools = self.shapes = True

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            context_tokens=4096,
            multiple_samples=True,
            logprobs=True,
            continuation=True,
            seed=True,
            tools=self.tools,
            shapes=self.shapes,
        )

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        deadline: float | None = None,
        cancel: CancelToken | None = None,
        on_delta: OnDelta | None = None,
    ) -> list[Generation]:
        time.sleep(self.seconds)
        self.calls.append(len(requests))
        return [self._answer(request, on_delta) for request in requests]

    def _answer(self, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        self.requests.append(request)
        samples: list[Sample] = []
        for index in range(request.n):
            said = self.script(request, self.drawn)
            text, calls = (said, ()) if isinstance(said, str) else said
            text, stopped_by = until_stop(text, request.sampling.stop)
            self.drawn += 1
            words = tuple(text.split(" "))
            tokens = tuple(word + " " for word in words[:-1]) + words[-1:]
            if on_delta is not None:
                on_delta(Delta(request_id=request.request_id, index=index, text=text))
            samples.append(
                Sample(
                    text=text,
                    finish="stop",
                    completion_tokens=len(tokens),
                    token_texts=tokens,
                    token_logprobs=(-0.5,) * len(tokens),
                    stopped_by=stopped_by,
                    calls=calls,
                )
            )
        return Generation(request_id=request.request_id, samples=tuple(samples), prompt_tokens=10)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) for message in messages)


def until_stop(text: str, stop: Sequence[str]) -> tuple[str, str]:
    """`text` up to the first stop string, and that; the whole of it and "" where there is none."""
    found = [(text.index(string), string) for string in stop if string in text]
    at, string = min(found, default=(len(text), ""))
    return text[:at], string


def always(text: str) -> Script:
    """A script that says the same every time."""
    return lambda request, k: text


def cycle(*texts: Said) -> Script:
    """A script that goes round these texts."""
    return lambda request, k: texts[k % len(texts)]
