"""Tools on a LangChain chat model: bound where it can, refused where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from kaelum_flow.chat_model_policy import ChatModelPolicy, chat_messages
from kaelum_graph.errors import KaelumError, UsageError
from kaelum_graph.models.base import GenerationRequest, Sampling
from kaelum_graph.types import Message, Shape, Tool, ToolCall, ToolChoice
from tests.graphs.parrot_chat_model import ParrotChatModel

WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
REQUIRED = ToolChoice(mode="required")


class CallingChatModel(BaseChatModel):
    """Calls `weather`, in one message or in chunks; `seen` is what it was given."""

    streams: bool = False
    frequency_penalty: float | None = None
    seen: list[dict[str, Any]]

    @property
    def _llm_type(self) -> str:
        return "calling"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=tools, tool_choice=tool_choice)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.seen.append({"messages": messages, "penalty": self.frequency_penalty, "stop": stop, **kwargs})
        calls = [{"name": "weather", "args": {"city": "Rome"}, "id": "a", "type": "tool_call"}]
        message = AIMessage(content="", tool_calls=calls if kwargs.get("tools") else [])
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        if not self.streams:
            yield self._whole(messages, stop, **kwargs)
            return
        for piece in (
            tool_call_chunk(name="weather", args='{"city":', id="a", index=0),
            tool_call_chunk(args=' "Rome"}', index=0),
        ):
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[piece]))

    def _whole(self, messages: list[BaseMessage], stop: Any, **kwargs: Any) -> ChatGenerationChunk:
        message = self._generate(messages, stop, **kwargs).generations[0].message
        return ChatGenerationChunk(message=AIMessageChunk(content=message.content, tool_calls=message.tool_calls))


def ask(*, sampling: Sampling | None = None, **fields: Any) -> GenerationRequest:
    return GenerationRequest(messages=(Message("user", "Weather?"),), sampling=sampling or Sampling(), **fields)


def error_of(policy: ChatModelPolicy, request: GenerationRequest) -> KaelumError:
    (generation,) = policy.generate([request])
    assert generation.error is not None
    return generation.error


@pytest.mark.parametrize("streams", [False, True])
def test_tools_are_bound_and_calls_come_back(streams: bool) -> None:
    with ChatModelPolicy(CallingChatModel(seen=[], streams=streams)) as policy:
        assert policy.capabilities.tools
        (generation,) = policy.generate([ask(tools=(WEATHER,), n=2)])
    assert generation.error is None
    for sample in generation.samples:
        assert [(call.id, call.name, call.arguments) for call in sample.calls] == [("a", "weather", '{"city": "Rome"}')]
        assert (sample.text, sample.finish) == ("", "stop")


def test_choices_and_penalties_reach_the_model() -> None:
    model = CallingChatModel(seen=[])
    other = Tool(name="other", strict=True)
    with ChatModelPolicy(model) as policy:
        sampling = Sampling(frequency_penalty=0.5, stop=("x",))
        policy.generate([ask(tools=(WEATHER, other), tool_choice=REQUIRED, sampling=sampling)])
        policy.generate([ask(tools=(WEATHER, other), tool_choice=ToolChoice(name="weather"))])
    required, named = model.seen
    assert (required["tool_choice"], required["penalty"], required["stop"]) == ("any", 0.5, None)
    assert [tool["function"]["name"] for tool in required["tools"]] == ["weather", "other"]
    assert required["tools"][1]["function"]["strict"]
    assert (named["tool_choice"], named["penalty"]) == ("weather", None)


def test_what_a_model_cannot_do_is_refused() -> None:
    with ChatModelPolicy(ParrotChatModel()) as policy:
        assert not policy.capabilities.tools
        assert not policy.capabilities.shapes
        beyond: list[dict[str, Any]] = [
            {"tools": (WEATHER,)},
            {"shape": Shape(kind="json_object")},
            {"sampling": Sampling(presence_penalty=1.0)},
            {"sampling": Sampling(logit_bias=((1, 1.0),))},
        ]
        for fields in beyond:
            assert isinstance(error_of(policy, ask(**fields)), UsageError)
        assert policy.generate([ask(tools=(WEATHER,), tool_choice=ToolChoice(mode="none"))])[0].samples


def test_calls_and_results_are_messages_of_their_own() -> None:
    turns = chat_messages(
        [
            Message("user", "Weather?"),
            Message("assistant", "", (ToolCall("a", "weather", '{"city": "Rome"}'),)),
            Message("tool", "sunny", call_id="a"),
        ]
    )
    called, result = turns[1:]
    assert isinstance(called, AIMessage)
    assert [(call["id"], call["name"], call["args"]) for call in called.tool_calls] == [
        ("a", "weather", {"city": "Rome"})
    ]
    assert isinstance(result, ToolMessage)
    assert (result.content, result.tool_call_id) == ("sunny", "a")
