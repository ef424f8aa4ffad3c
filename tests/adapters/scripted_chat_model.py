"""A chat model for the agents around Kaelum, that says and calls what a test tells it to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

Turn = AIMessage | Callable[[list[BaseMessage]], AIMessage]
_numbers = itertools.count(1)


def calling(*calls: tuple[str, dict[str, Any]]) -> AIMessage:
    """A turn that calls tools, each by its name and arguments, under ids of its own."""
    return AIMessage(
        "", tool_calls=[ToolCall(name=name, args=args, id=f"call_{next(_numbers)}") for name, args in calls]
    )


class ScriptedChatModel(BaseChatModel):
    """Gives its turns one after another; a turn may be a function of the messages. Copies share what was seen."""

    turns: list[Any]  # of `Turn`: pydantic would read a function as a message
    seen: list[list[BaseMessage]] = Field(default_factory=list[list[BaseMessage]])
    bound: list[str] = Field(default_factory=list[str])

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        self.bound.extend(convert_to_openai_tool(tool)["function"]["name"] for tool in tools)
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        turn = self.turns[len(self.seen)]
        self.seen.append(list(messages))
        message = turn if isinstance(turn, AIMessage) else turn(messages)
        return ChatResult(generations=[ChatGeneration(message=message.model_copy())])


def scripted(*turns: Turn) -> ScriptedChatModel:
    """A model that gives these turns."""
    return ScriptedChatModel(turns=list(turns))


def contents(messages: Iterable[BaseMessage]) -> list[str]:
    """What the messages say."""
    return [str(message.content) for message in messages]
