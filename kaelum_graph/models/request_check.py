"""What a request must look like before a remote backend is asked."""

from __future__ import annotations

import math

from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import GenerationRequest


def check_request(request: GenerationRequest) -> None:
    """Raise `UsageError` naming the first field that has a value it must not have."""
    sampling, last = request.sampling, request.messages[-1] if request.messages else None
    if last is None:
        raise UsageError("messages is empty; it must hold at least one message")
    if last.role == "assistant":
        raise UsageError("the last message is the assistant's; give what it began as partial_answer")
    if not last.content.strip():
        raise UsageError("the last message is empty")
    if request.n < 1:
        raise UsageError(f"n is {request.n}; it must be at least 1")
    if not math.isfinite(sampling.temperature) or sampling.temperature < 0:
        raise UsageError(f"temperature is {sampling.temperature}; it must be a number of at least 0")
    if not 0 < sampling.top_p <= 1:
        raise UsageError(f"top_p is {sampling.top_p}; it must be above 0 and at most 1")
    if sampling.top_k < 0:
        raise UsageError(f"top_k is {sampling.top_k}; it must be at least 0 (0 is off)")
    if sampling.max_tokens < 1:
        raise UsageError(f"max_tokens is {sampling.max_tokens}; it must be at least 1")
    if isinstance(sampling.stop, str) or not all(isinstance(text, str) and text for text in sampling.stop):
        raise UsageError(f"stop is {sampling.stop!r}; it must be a tuple of non-empty strings")
