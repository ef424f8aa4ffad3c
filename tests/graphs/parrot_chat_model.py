"""A LangChain chat model whose answers follow a rule, and that misbehaves as a test asks it to."""

from __future__ import annotations

import itertools
import re
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, SecretStr


class Notes:
    """What a model saw, shared by its copies."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.running = 0
        self.most_running = 0
        self.abandoned = 0
        self.lock = threading.Lock()
        self.numbers = itertools.count()


class ParrotChatModel(BaseChatModel):
    """Answers with words `w…` by a rule of the messages, the seed, and without one of the number of the call.

    `refuses` are arguments and fields that it raises for; `continues` makes it go on with a last assistant message.
    """

    model: str = "parrot"
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    logprobs: bool | None = None
    api_key: SecretStr | None = None

    refuses: frozenset[str] = frozenset()
    continues: bool = False
    honours_stop: bool = True
    shows_logprobs: bool = True
    blocks: bool = False
    word_seconds: float = 0.0
    hangs_after: int | None = None
    hang_seconds: float = 20.0
    fails_with: list[Exception] = Field(default_factory=list[Exception])
    poison: str = "POISON"
    echoes_draft: bool = False
    finish_reason: str | None = None
    notes: Notes = Field(default_factory=Notes)
    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def words(
        self, messages: list[BaseMessage], stop: list[str] | None, given: dict[str, Any]
    ) -> tuple[list[str], str]:
        """The words of the answer and why it ends."""
        settings: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "logprobs": self.logprobs,
            **({"stop": stop} if stop else {}),
            **given,
        }
        self.notes.calls.append({"messages": messages, **settings})
        for name in sorted(self.refuses):
            if settings.get(name) is not None:
                raise TypeError(f"Completions.create() got an unexpected keyword argument '{name}'")
        if self.fails_with:
            raise self.fails_with.pop(0)
        if any(self.poison in str(message.content) for message in messages):
            raise ValueError("This prompt cannot be served.")
        greedy, seed = settings["temperature"] == 0, settings["seed"]
        salt: object = "greedy" if greedy else next(self.notes.numbers) if seed is None else ("seed", seed)
        user = next(str(message.content) for message in reversed(messages) if message.type == "human")
        length = int(match.group(1)) if (match := re.search(r"\bsay (\d+)", user)) else 24
        turns = [str(message.content) for message in messages if message.type != "ai"]
        base = zlib.crc32(repr((turns, salt)).encode())
        words = [f"{' ' if at else ''}w{(base + at * 7919) % 1000:03d}" for at in range(length)]
        if match := re.match(r"Repeat exactly: (.*)", user):
            words = re.findall(r"\s*\S+", match.group(1))
        last = messages[-1]
        if self.continues and last.type == "ai":
            begun = str(last.content)
            text = "".join(words)
            words = re.findall(r"\s*\S+", text[len(begun) :] if text.startswith(begun) else text)
        draft = re.search(r"<draft>\n(.*)\n</draft>", user, re.DOTALL)
        if self.echoes_draft and draft:
            words = [draft.group(1), *words]
        limit = settings["max_tokens"] or len(words)
        finish = "length" if len(words) > limit else "stop"
        words = words[:limit]
        if self.honours_stop and stop:
            text = "".join(words)
            cuts = [at for item in stop if (at := text.find(item)) >= 0]
            if cuts:
                words, finish = re.findall(r"\s*\S+|\s+", text[: min(cuts)]), "stop"
        return words, self.finish_reason or finish

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        words, finish = self.words(messages, stop, kwargs)
        message = AIMessage("".join(words), response_metadata={"finish_reason": finish})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        words, finish = self.words(messages, stop, kwargs)
        complete = False
        with self.notes.lock:
            self.notes.running += 1
            self.notes.most_running = max(self.notes.most_running, self.notes.running)
        try:
            if self.blocks:
                yield self._chunk([{"type": "reasoning", "reasoning": "Let me think.", "index": 0}])
            for at, word in enumerate(words):
                if self.hangs_after is not None and at >= self.hangs_after:
                    time.sleep(self.hang_seconds)
                time.sleep(self.word_seconds)
                shown = {"content": [{"token": word, "logprob": -0.25, "bytes": list(word.encode())}]}
                told = {"logprobs": shown} if self.logprobs and self.shows_logprobs else None
                content = [{"type": "text", "text": word, "index": 1}] if self.blocks else word
                yield self._chunk(content, told)
            asked = sum(len(str(message.content).split()) for message in messages) + 3
            usage = UsageMetadata(input_tokens=asked, output_tokens=len(words), total_tokens=asked + len(words))
            last = AIMessageChunk(content="", usage_metadata=usage)
            yield ChatGenerationChunk(message=last, generation_info={"finish_reason": finish})
            complete = True
        finally:
            with self.notes.lock:
                self.notes.running -= 1
                self.notes.abandoned += not complete

    def _chunk(self, content: Any, info: dict[str, Any] | None = None) -> ChatGenerationChunk:
        return ChatGenerationChunk(message=AIMessageChunk(content=content), generation_info=info)
