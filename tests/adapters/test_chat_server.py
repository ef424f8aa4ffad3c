"""The chat model over a server on loopback: what `ChatOpenAI` would have dropped, and what it must not send."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.load import dumpd
from langchain_core.messages import AIMessageChunk, HumanMessage, trim_messages
from langchain_core.tools import tool
from pydantic import BaseModel, SecretStr

import kaelum_graph
from kaelum_adapters.openai_api.app import create_app
from kaelum_flow.facade import Kaelum
from kaelum_graph import ChatKaelumServer
from kaelum_graph.errors import UsageError
from tests.adapters.obliging_model import obliging
from tests.adapters.rated_server import on_loopback
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."


@contextmanager
def served(behind: Kaelum, **fields: Any) -> Generator[ChatKaelumServer]:
    with on_loopback(create_app(behind)) as url:
        yield ChatKaelumServer(base_url=f"{url}/v1", **fields)


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


@pytest.mark.parametrize("streaming", [True, False])
def test_reasoning_usage_id_and_story_are_kept(make_kaelum: MakeKaelum, streaming: bool) -> None:
    kaelum = make_kaelum(always(BOXED), sims=4, learning=False)
    with served(kaelum, model="kaelum-math", streaming=streaming) as model:
        message = model.invoke(QUESTION)
    assert message.content == BOXED
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]
    usage, metadata = message.usage_metadata, message.response_metadata
    assert usage is not None
    assert usage["input_tokens"] == len(QUESTION.split())
    assert usage.get("output_token_details", {}).get("reasoning", 0) > 0
    assert (metadata["model_name"], metadata["finish_reason"]) == ("kaelum-math", "stop")
    assert (metadata["model_provider"], metadata["kaelum"]["status"]) == ("kaelum", "verified")
    assert message.id == metadata["kaelum"]["id"]
    assert kaelum.feedback(str(message.id), score=1.0)


async def test_chunks_add_up_under_one_id(make_kaelum: MakeKaelum) -> None:
    with served(make_kaelum(always(BOXED), sims=4, learning=False), model="kaelum-math") as model:
        streamed = whole([chunk async for chunk in model.astream(QUESTION)])
        chunks = list(model.stream(QUESTION))
    assert streamed.content == BOXED
    assert len({chunk.id for chunk in chunks}) == 1
    assert streamed.response_metadata["kaelum"]["answer"] == "5"
    assert "Rollouts" in streamed.additional_kwargs["reasoning_content"]
    assert streamed.usage_metadata is not None


class Weather(BaseModel):
    """What the weather is like."""

    sky: str
    degrees: int


@pytest.mark.parametrize("streaming", [True, False])
def test_forms_and_calls(make_kaelum: MakeKaelum, streaming: bool) -> None:
    @tool
    def look_up(city: str) -> str:
        """The weather in a city."""
        return city

    with served(make_kaelum(obliging, sims=2, learning=False), streaming=streaming) as model:
        shaped: Any = model.with_structured_output(Weather, include_raw=True).invoke("In 'Lima' at 7?")
        turn = model.bind_tools([look_up]).invoke("How is it in 'Lima'?")
        called: Any = model.with_structured_output(Weather, method="function_calling").invoke("In 'Lima' at 7?")
    assert shaped["parsed"] == called == Weather(sky="Lima", degrees=7)
    said = shaped["raw"].additional_kwargs["reasoning_content"]
    assert said.count("Routed to") == 1, "the openai client's helper for forms would give everything twice"
    assert [(call["name"], call["args"]) for call in turn.tool_calls] == [("look_up", {"city": "Lima"})]
    assert turn.response_metadata["finish_reason"] == "tool_calls"


def test_settings_of_the_search_reach_the_server(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), learning=False)
    with served(kaelum, kaelum={"sims": 3, "worker": "math"}, reasoning_effort="low") as model:
        message = model.invoke(QUESTION)
        assert message.response_metadata["kaelum"]["cost"]["rollouts"] <= 3
        model.invoke(QUESTION, extra_body={"kaelum": {"sims": 2, "cache": False}})
    drawn: Any = kaelum.services.model
    assert drawn.drawn <= 5


def test_the_same_question_again_in_a_conversation_is_another_message(make_kaelum: MakeKaelum) -> None:
    with served(make_kaelum(always(BOXED), sims=4, learning=False), model="kaelum-math") as model:
        first = model.invoke([HumanMessage(QUESTION)])
        again = model.invoke([HumanMessage(QUESTION, id=first.id)])
    assert again.response_metadata["kaelum"]["id"] == first.id
    assert again.id != first.id


def test_several_answers_come_whole(make_kaelum: MakeKaelum) -> None:
    with served(make_kaelum(always(BOXED), sims=4, learning=False), n=2) as model:
        result = model.generate([[HumanMessage(QUESTION)]])
    assert len(result.generations[0]) == 2


def test_langchains_cache_keeps_tenants_apart() -> None:
    def named(**fields: Any) -> str:
        return ChatKaelumServer(**fields)._get_llm_string()  # pyright: ignore

    assert named(api_key="ann") == named(api_key="ann")
    others = [
        {"api_key": "ann"},
        {"api_key": "bob"},
        {"api_key": lambda: "ann"},
        {"api_key": lambda: "bob"},
        {"default_headers": {"authorization": "Bearer cem"}},
        {"organization": "ours"},
        {},
    ]
    assert len({named(**fields) for fields in others}) == len(others)
    assert "ann" not in named(api_key="ann")
    assert "ann" not in str(ChatKaelumServer(api_key=SecretStr("ann"))._identifying_params)  # pyright: ignore


def test_tokens_are_estimated_without_a_network() -> None:
    model = ChatKaelumServer()
    assert model.get_num_tokens("word " * 8) == 10
    said: list[Any] = [HumanMessage("word " * 40), HumanMessage("word " * 40)]
    assert 100 <= model.get_num_tokens_from_messages(said) <= 120
    assert trim_messages(said, token_counter=model, max_tokens=60, strategy="last") == said[-1:]
    with pytest.raises(UsageError, match="get_num_tokens"):
        model.get_token_ids("word")
    counting = ChatKaelumServer(custom_get_token_ids=lambda text: [1] * len(text.split()))
    assert counting.get_num_tokens("one two") == len(counting.get_token_ids("one two")) == 2
    assert counting.get_num_tokens_from_messages([HumanMessage("one two")]) == 3, "with the role"


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_unknown_arguments_of_structured_output_are_refused(method: Any) -> None:
    with pytest.raises(UsageError, match="unknown argument 'tolerance'"):
        ChatKaelumServer().with_structured_output(Weather, method=method, tolerance=3)


def test_all_public_names_come_without_langchain_openai() -> None:
    assert "ChatKaelumServer" not in kaelum_graph.__all__
    assert kaelum_graph.ChatKaelumServer is ChatKaelumServer


def test_nothing_of_openais_is_sent_or_read(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-yours")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    model = ChatKaelumServer()
    assert str(model.root_client.base_url) == "http://127.0.0.1:8000/v1/"
    assert model.root_client.api_key == "anonymous"
    assert "sk-" not in str(dumpd(ChatKaelumServer(api_key=SecretStr("sk-mine"))))


def test_silence_and_retries_are_what_the_server_counts_on() -> None:
    model = ChatKaelumServer()
    assert model.streaming
    assert model.stream_chunk_timeout is None
    assert model.stream_usage
    assert model.root_client.max_retries == 2, "the server lets a retry join the run that it asks for again"
    assert model._get_ls_params()["ls_provider"] == "kaelum"  # pyright: ignore
    assert not ChatKaelumServer(n=3).streaming


def test_without_langchain_openai_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("langchain_openai"):
            raise ImportError(f"No module named '{name}'")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "kaelum_adapters.chat_server", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'kaelum-graph\[client\]'"):
        importlib.import_module("kaelum_adapters.chat_server")
