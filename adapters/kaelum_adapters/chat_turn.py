"""The turn of a chat model: a search's events as LangChain's message chunks, and the whole message in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk
from langchain_core.messages.ai import OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from kaelum_adapters.openai_api.exchange import Reply, Usage
from kaelum_adapters.replies import replies_of, until, usage_of
from kaelum_adapters.reply_ids import again
from kaelum_adapters.thinking import Thinking
from kaelum_flow.messages import ABOUT_KEY, about, message_call, own_id
from kaelum_graph.answer import Answer, Choice, Event, Progress, TextDelta
from kaelum_graph.models.base import CancelToken
from kaelum_graph.types import Json, Message, Shape, Tool, ToolChoice

REASONING_KEY = "reasoning_content"
"""Where langchain-core looks for reasoning beside a text, to make the reasoning block of `content_blocks`."""


PROFILE = ModelProfile(
    name="Kaelum",
    text_inputs=True,
    text_outputs=True,
    image_inputs=False,
    audio_inputs=False,
    video_inputs=False,
    pdf_inputs=False,
    reasoning_output=True,
    reasoning_effort_levels=["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    tool_calling=True,
    tool_choice=True,
    tool_call_streaming=True,
    structured_output=True,
)
"""What LangChain's agents and middleware ask a model before they use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAsk:
    """One call of the chat model. `messages` is the conversation as LangChain gave it."""

    question: str
    history: tuple[Message, ...] = ()
    since: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    shape: Shape | None = None
    tenant: str = ""
    cancel: CancelToken | None = None
    options: Json = field(default_factory=dict[str, object])
    stop: tuple[str, ...] = ()
    model: str = "kaelum"
    messages: tuple[BaseMessage, ...] = ()

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Every turn, in order."""
        return (*self.history, Message("user", self.question), *self.since)

    @property
    def arguments(self) -> Json:
        """Keyword arguments of `Kaelum.stream` beside the question."""
        return {
            "history": self.history,
            "since": self.since,
            "tools": self.tools,
            "tool_choice": self.tool_choice,
            "shape": self.shape,
            "tenant": self.tenant,
            "cancel": self.cancel,
            **self.options,
        }


class ChatTurn:
    """One turn under way. `feed` gives the chunks of an event; `result` is the whole of it after the last.

    Every chunk bears the answer's id (`own_id`), or one of its own where the answer comes from the cache; the handle
    for feedback is the id in the story (`messages.about`). Chunks wait until it is known.
    """

    def __init__(self, ask: ChatAsk, *, prompt_tokens: int) -> None:
        self._ask, self._prompt_tokens = ask, prompt_tokens
        self._thinking = Thinking()
        self._reasoning = self._waiting = ""
        self._id: str | None = None
        self._answer: Answer | None = None

    def feed(self, event: Event) -> Iterator[ChatGenerationChunk]:
        """The chunks that tell of an event."""
        if isinstance(event, Progress):
            if self._id is None and "id" in event.data:
                self._id = own_id(event.data["id"], self._ask.messages)
                if event.stage == "cache" and event.data.get("state") == "hit":
                    # The same answer may be given in many turns, also in some that this model is not shown.
                    self._id = again(event.data["id"])
            self._waiting += self._thinking.about(event)
            if self._id is not None and self._waiting:
                self._reasoning += self._waiting
                thought = {REASONING_KEY: self._waiting}
                self._waiting = ""
                yield self._chunk(additional_kwargs=thought)
        elif isinstance(event, TextDelta):
            if not self._ask.stop:
                yield self._chunk(content=event.text)
        else:
            yield self._last(event)

    @property
    def result(self) -> ChatResult:
        """The whole message; where several answers were asked for, one generation each, the best first."""
        answer = self._answer
        assert answer is not None, "the respond node ends every run"
        replies = self._replies(answer)
        first = AIMessage(
            content=replies[0].text,
            id=self._id,
            tool_calls=[message_call(call) for call in replies[0].calls],
            additional_kwargs={REASONING_KEY: self._reasoning} if self._reasoning else {},
            usage_metadata=self._usage(answer, replies),
            response_metadata=self._metadata(answer, replies[0]),
        )
        others = [
            AIMessage(
                content=reply.text,
                response_metadata=self._metadata(answer, reply, choice),
            )
            for reply, choice in zip(replies[1:], answer.choices[1:], strict=False)
        ]
        return ChatResult(
            generations=[
                ChatGeneration(message=message, generation_info={"finish_reason": reply.finish})
                for message, reply in zip([first, *others], replies, strict=False)
            ],
            llm_output={"model_name": self._ask.model},
        )

    def _last(self, answer: Answer) -> ChatGenerationChunk:
        self._answer = answer
        if self._id is None:
            self._id = own_id(answer.id, self._ask.messages)
        replies = self._replies(answer)
        calls = [
            ToolCallChunk(name=call.name, args=call.arguments, id=call.id, index=place, type="tool_call_chunk")
            for place, call in enumerate(replies[0].calls)
        ]
        return self._chunk(
            content=until(answer.text, self._ask.stop) if self._ask.stop else "",
            tool_call_chunks=calls,
            usage_metadata=self._usage(answer, replies[:1]),
            response_metadata=self._metadata(answer, replies[0]),
            chunk_position="last",
        )

    def _replies(self, answer: Answer) -> tuple[Reply, ...]:
        shaped = self._ask.shape is not None
        return replies_of(answer, n=max(1, len(answer.choices)), stop=self._ask.stop, shaped=shaped)

    def _usage(self, answer: Answer, replies: Sequence[Reply]) -> UsageMetadata:
        return usage_metadata(usage_of(answer, replies, prompt_tokens=self._prompt_tokens))

    def _metadata(self, answer: Answer, reply: Reply, choice: Choice | None = None) -> Json:
        story = about(answer)
        if choice is not None:
            story |= {key: getattr(choice, key) for key in ("answer", "status", "confidence", "worker")}
        return {
            "model_name": self._ask.model,
            "model_provider": "kaelum",
            "finish_reason": reply.finish,
            ABOUT_KEY: story,
        }

    def _chunk(self, *, content: str = "", **fields: Any) -> ChatGenerationChunk:
        return ChatGenerationChunk(message=AIMessageChunk(content=content, id=self._id, **fields))


def usage_metadata(usage: Usage) -> UsageMetadata:
    """Tokens in LangChain's form: output tokens count all that were generated, reasoning ones those not shown."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        output_token_details=OutputTokenDetails(reasoning=usage.reasoning_tokens),
    )
