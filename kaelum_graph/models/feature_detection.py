"""What a server turned out to support, and how its refusals are read."""

from __future__ import annotations

import re
import threading
from collections.abc import Container
from typing import Literal

ContinuationMode = Literal["flag", "plain", "text"]
"""A partial answer goes as a last assistant message with vLLM's flag, as a plain one, or as text in the prompt."""

TokenizeForm = Literal["messages", "prompt", "content", "none"]
"""The body that the server's /tokenize takes: vLLM's, SGLang's, llama.cpp's; or there is none."""

NATIVE_CONTINUATION = frozenset({"vllm", "sglang", "llamacpp"})
"""`owned_by` of servers that continue a partial answer, believed until the first one shows the truth."""


class ServerFeatures:
    """What one server is known to support. Learned while running, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self._continuation: ContinuationMode | None = None
        self._tokenize: TokenizeForm | None = None
        self._context_tokens: int | None = None
        self.owner = ""

    def accepts(self, name: str) -> bool:
        """False once the server refused or ignored this parameter."""
        with self._lock:
            return name not in self._refused

    def refuse(self, name: str) -> None:
        """Remember that the server refused or ignored this parameter."""
        with self._lock:
            self._refused.add(name)

    @property
    def continuation(self) -> ContinuationMode | None:
        """How a partial answer is passed on; None as long as nobody tried."""
        with self._lock:
            return self._continuation

    @continuation.setter
    def continuation(self, mode: ContinuationMode) -> None:
        with self._lock:
            self._continuation = mode

    @property
    def continues(self) -> bool:
        """Whether a partial answer is truly continued, as far as it is known."""
        mode = self.continuation
        return self.owner in NATIVE_CONTINUATION if mode is None else mode != "text"

    @property
    def tokenize(self) -> TokenizeForm | None:
        """The form of the server's /tokenize; None as long as nobody asked."""
        with self._lock:
            return self._tokenize

    @tokenize.setter
    def tokenize(self, form: TokenizeForm) -> None:
        with self._lock:
            self._tokenize = form

    @property
    def context_tokens(self) -> int | None:
        """Length of the context window in tokens, where the server says."""
        with self._lock:
            return self._context_tokens

    @context_tokens.setter
    def context_tokens(self, tokens: int) -> None:
        with self._lock:
            self._context_tokens = tokens


EXTRAS = (
    "logprobs",
    "top_logprobs",
    "stream_options",
    "top_k",
    "seed",
    "n",
    "parallel_tool_calls",
    "continue_final_message",
    "add_generation_prompt",
)
"""Parameters that can be made up for, or carry nothing the answer needs: any complaint that names one drops it."""

SETTINGS = ("max_completion_tokens", "max_tokens", "temperature", "top_p", "stop", "stream")
"""Parameters that carry the caller's values: dropped when unsupported, kept when only the value is wrong."""

PROMISES = ("tools", "tool_choice", "response_format", "frequency_penalty", "presence_penalty", "logit_bias")
"""Parameters without which the answer would be another one: a server that lacks one cannot serve the request."""

UNSUPPORTED = re.compile(
    r"unsupported|not supported|n't support|not support|unrecogni[sz]ed|unknown|not permitted|not allowed|unexpected"
    r"|not available|unavailable|not implemented|extra (?:inputs|fields)|only the default|deprecated|not enabled",
    re.IGNORECASE,
)
ONE_CHOICE = re.compile(
    r"only (?:one|1|a single) (?:completion )?choice|multiple (?:completions|choices)", re.IGNORECASE
)


def refused_parameter(message: str, *, param: str | None, sent: Container[str]) -> str | None:
    """The parameter, among those sent, that a server's refusal is about; None where it is about something else.

    `message` is the whole refusal; `param` is the field of the same name in OpenAI's error object.
    """
    if ONE_CHOICE.search(message) and "n" in sent:
        return "n"
    unsupported = UNSUPPORTED.search(message) is not None
    if unsupported and param in PROMISES and param in sent:
        return param
    for name in (*EXTRAS, *SETTINGS, *PROMISES):
        if name in sent and (name in EXTRAS or unsupported) and (param == name or _names(message, name)):
            return name
    return None


def _names(message: str, name: str) -> bool:
    """Whether a message speaks of the parameter. One-letter names count in quotes only, words as words."""
    quoted = rf"['\"`]{name}['\"`]"
    return re.search(quoted if len(name) == 1 else rf"(?<!\w){name}(?!\w)", message) is not None


OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|string_above_max_length"
    r"|maximum (?:context|model|prompt) length|context (?:length|size|window)"
    r"|prompt is too long|too many (?:input )?tokens|reduce the length of the (?:messages|prompt|input)"
    r"|maximum number of tokens allowed|max_new_tokens` must be <=",
    re.IGNORECASE,
)
LIMITS = (
    r"maximum (?:context|model|prompt) length (?:is|of)\D{0,20}(\d+)",
    r"(\d+) maximum context length",
    r"context (?:length|size|window)(?: is| of)?(?: only)?\s*\(?(\d+)",
    r"tokens allowed \((\d+)\)",
    r">\s*(\d+) maximum",
    r"must be <= (\d+)",
    r"cannot exceed (\d+)",
    r"\"?n_ctx\"?'?:\s*(\d+)",
)
PROMPTS = (
    r"(\d+) in the messages",
    r"(\d+) (?:tokens )?(?:from|in) the (?:input|prompt|messages)",
    r"(\d+)`? `?input`?s?`? tokens",
    r"messages (?:resulted in|have) (\d+)",
    r"input \((\d+) tokens",
    r"request \((\d+) tokens",
    r"prompt \(length (\d+)\)",
    r"too long: (\d+)",
    r"token count \((\d+)\)",
    r"contains (\d+) tokens",
    r"first (\d+) tokens",
    r"request contains (\d+)",
    r"received (\d+)",
    r"(\d+) `inputs` tokens",
    r"\"?n_prompt_tokens\"?'?:\s*(\d+)",
)


def context_overflow(message: str) -> tuple[int | None, int | None] | None:
    """(window, prompt) in tokens, each None where no number is given; None where the message is about another thing."""
    if not OVERFLOW.search(message):
        return None
    return _first_number(LIMITS, message), _first_number(PROMPTS, message)


def _first_number(patterns: tuple[str, ...], message: str) -> int | None:
    found = (re.search(pattern, message, re.IGNORECASE) for pattern in patterns)
    return next((int(match.group(1)) for match in found if match), None)
