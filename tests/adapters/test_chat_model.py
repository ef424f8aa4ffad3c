"""Kaelum as a chat model, over a scripted model: what its messages hold, and what it refuses."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any, cast

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from kaelum_adapters.chat_model import ARGUMENTS, FIELD_OF
from kaelum_adapters.chat_request import response_format, shape_of, tools_of, wire_tools
from kaelum_flow.facade import Kaelum
from kaelum_flow.services import PER_QUERY
from kaelum_graph import ChatKaelum
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import ConfigError, ContextOverflow, ModelError, UsageError
from kaelum_graph.models.base import CancelToken, GenerationRequest
from kaelum_graph.types import Tool, ToolCall, ToolChoice
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Said, always, cycle

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "Solve 3x + 5 = 20 for x."


@tool
def look_up(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Weather(BaseModel):
    """What the weather is like."""

    sky: str = Field(description="one word")
    degrees: int


def asks_then_tells(request: GenerationRequest, k: int) -> Said:
    """Calls the tool once, and tells what came of it; gives JSON where a form is asked for."""
    if request.shape is not None:
        return json.dumps({"sky": "clear", "degrees": 21})
    if request.tools and not any(turn.role == "tool" for turn in request.messages):
        return "", (ToolCall(f"call_{k}", "look_up", '{"city": "Lima"}'),)
    return "It is sunny in Lima."


def chat(make_kaelum: MakeKaelum, script: Any = None, **fields: Any) -> ChatKaelum:
    given: dict[str, Any] = {"sims": 4, "learning": False, **fields}
    return ChatKaelum(kaelum=make_kaelum(script or always(BOXED)), **given)


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def test_a_message_has_the_answer_its_reasoning_its_cost_and_its_story(make_kaelum: MakeKaelum) -> None:
    message = chat(make_kaelum, worker="math").invoke(QUESTION)
    assert message.content == message.text == BOXED
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]
    assert "Rollouts 4 of 4" in message.content_blocks[0]["reasoning"]  # pyright: ignore
    usage, metadata = message.usage_metadata, message.response_metadata
    assert usage is not None
    assert usage["input_tokens"] == len(QUESTION.split())
    assert 0 < usage.get("output_token_details", {})["reasoning"] < usage["output_tokens"]  # pyright: ignore
    assert (metadata["model_name"], metadata["finish_reason"]) == ("kaelum", "stop")
    assert (metadata["kaelum"]["answer"], metadata["kaelum"]["status"]) == ("5", "verified")
    assert message.id == metadata["kaelum"]["id"]


def test_the_message_id_takes_feedback(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum)
    message = model.invoke(QUESTION)
    assert model.kaelum.feedback(str(message.id), score=1.0)
    assert model.kaelum.services.storage.has_episode(str(message.id), tenant="")


def test_chunks_add_up_to_the_message_under_one_id(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, worker="math", answer_cache=False)
    chunks = list(model.stream(QUESTION))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].additional_kwargs["reasoning_content"], "it is told what is going on before there is an answer"
    assert [chunk.content for chunk in chunks if chunk.content] == BOXED.splitlines(keepends=True)
    assert [chunk.chunk_position for chunk in chunks][-1] == "last"
    streamed, asked = whole(chunks), model.invoke(QUESTION)
    assert streamed.content == asked.content
    assert streamed.usage_metadata == asked.usage_metadata
    assert streamed.response_metadata["kaelum"]["answer"] == "5"
    assert streamed.id == streamed.response_metadata["kaelum"]["id"]


async def test_async_is_the_same(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, worker="math", answer_cache=False)
    chunks = [chunk async for chunk in model.astream(QUESTION)]
    message = await model.ainvoke(QUESTION)
    assert whole(chunks).content == message.content == BOXED
    assert whole(chunks).usage_metadata == message.usage_metadata
    assert len({chunk.id for chunk in chunks}) == 1


def test_blocks_in_the_content_where_they_are_asked_for(make_kaelum: MakeKaelum) -> None:
    message = chat(make_kaelum, output_version="v1").invoke(QUESTION)
    assert [block["type"] for block in cast("list[Any]", message.content)] == ["reasoning", "text"]
    assert message.text == BOXED


def test_every_option_of_a_query_is_a_field_and_reaches_the_search(make_kaelum: MakeKaelum) -> None:
    assert set(FIELD_OF) == set(PER_QUERY)
    assert set(FIELD_OF.values()) <= set(ChatKaelum.model_fields)
    assert not ARGUMENTS & set(FIELD_OF.values())
    kaelum = make_kaelum(always(BOXED))
    ChatKaelum(kaelum=kaelum, sims=2, worker="math", temperature=0.3, stop=["I sub"]).invoke(QUESTION, sims=3)
    model: Any = kaelum.services.model
    assert model.drawn == 3
    assert model.requests[0].sampling.temperature == pytest.approx(0.3)


def test_a_model_name_may_name_the_worker(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, answer_cache=False)
    message = model.invoke(QUESTION, model="kaelum-logic")
    assert message.response_metadata["model_name"] == "kaelum-logic"
    assert message.response_metadata["kaelum"]["worker"] == "logic"
    with pytest.raises(UsageError, match="worker logic, not math"):
        model.invoke(QUESTION, model="kaelum-logic", worker="math")
    with pytest.raises(UsageError, match="'kaelum-direct' does not search"):
        ChatKaelum(model="kaelum-direct")


def test_stop_strings_end_the_text(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, answer_cache=False)
    assert model.invoke(QUESTION, stop=["The answer"]).content == "First I subtract.\n"
    streamed = whole(list(model.stream(QUESTION, stop=["The answer"])))
    assert streamed.content == "First I subtract.\n"


@pytest.mark.parametrize(
    ("fields", "said", "kind"),
    [
        ({"sims": 0}, "sims", ConfigError),
        ({"worker": "plumber"}, "plumber", UsageError),
        ({"temperature": 9.0}, "temperature", ConfigError),
        ({"tenant": "\ud800"}, "no valid Unicode", UsageError),
        ({"simms": 3}, "simms", ValidationError),
        ({"sims": "lots"}, "sims", ValidationError),
    ],
)
def test_a_bad_option_is_refused_at_once(fields: dict[str, Any], said: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=said):
        ChatKaelum(**fields)


def test_a_call_with_an_unknown_option_is_refused(make_kaelum: MakeKaelum) -> None:
    with pytest.raises(UsageError, match="did you mean 'sims'"):
        chat(make_kaelum).invoke(QUESTION, simms=3)


def test_more_than_text_is_refused(make_kaelum: MakeKaelum) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(UsageError, match="reads text only; 'image_url'"):
        chat(make_kaelum).invoke([HumanMessage([{"type": "text", "text": "What is this?"}, image])])


def test_an_image_in_an_assistants_turn_is_refused_and_its_reasoning_is_not(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum)
    thought = AIMessage([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Hello."}])
    assert model.invoke([HumanMessage("Hi"), thought, HumanMessage(QUESTION)]).text == BOXED
    image = AIMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    with pytest.raises(UsageError, match=r"messages\.1\.content: .* 'image_url'"):
        model.invoke([HumanMessage("Hi"), image, HumanMessage(QUESTION)])


def test_tokens_are_the_policy_models(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum)
    said: list[Any] = [HumanMessage("word " * 50), AIMessage("word " * 50), HumanMessage("word " * 50)]
    assert model.get_num_tokens("one two three") == 3
    assert model.get_num_tokens_from_messages(said) == 150
    assert model.get_num_tokens_from_messages([]) == 0
    assert model.get_num_tokens_from_messages(said, tools=[look_up]) > 150
    assert trim_messages(said, token_counter=model, max_tokens=60, strategy="last") == said[-1:]
    with pytest.raises(UsageError, match="get_num_tokens"):
        model.get_token_ids("one")


def test_a_conversation_without_a_question_is_refused(make_kaelum: MakeKaelum) -> None:
    with pytest.raises(UsageError, match="empty"):
        chat(make_kaelum).invoke([AIMessage("hello")])


def test_too_long_a_conversation_is_told_so(make_kaelum: MakeKaelum) -> None:
    with pytest.raises(ContextOverflow):
        chat(make_kaelum).invoke("word " * 10_000)


def test_tools_are_called_and_their_results_are_read(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, asks_then_tells).bind_tools([look_up])
    asked = [HumanMessage("Is it sunny in Lima?")]
    turn = model.invoke(asked)
    assert [(call["name"], call["args"]) for call in turn.tool_calls] == [("look_up", {"city": "Lima"})]
    assert turn.response_metadata["finish_reason"] == "tool_calls"
    told = model.invoke([*asked, turn, ToolMessage("sunny", tool_call_id=turn.tool_calls[0]["id"] or "")])
    assert not told.tool_calls
    assert "sunny" in told.text


def test_a_call_that_was_no_json_may_be_answered(make_kaelum: MakeKaelum) -> None:
    broken: Any = {"name": "look_up", "args": "{", "id": "c1", "error": "no JSON", "type": "invalid_tool_call"}
    turns = [AIMessage("", invalid_tool_calls=[broken]), ToolMessage("'{' is no JSON", tool_call_id="c1")]
    kaelum = make_kaelum(always(BOXED), sims=2, learning=False)
    assert ChatKaelum(kaelum=kaelum).invoke([HumanMessage(QUESTION), *turns]).text == BOXED
    asked: Any = kaelum.services.model
    assert any("'{' is no JSON" in turn.content for turn in asked.requests[0].messages)


def test_streamed_calls_add_up(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, asks_then_tells).bind_tools([look_up])
    streamed = whole(cast("list[AIMessageChunk]", list(model.stream("Is it sunny in Lima?"))))
    assert [(call["name"], call["args"]) for call in streamed.tool_calls] == [("look_up", {"city": "Lima"})]


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("any", ToolChoice(mode="required")),
        ("required", ToolChoice(mode="required")),
        (True, ToolChoice(mode="required")),
        ("none", ToolChoice(mode="none")),
        (False, ToolChoice(mode="none")),
        ("look_up", ToolChoice(mode="required", name="look_up")),
        ({"type": "function", "function": {"name": "look_up"}}, ToolChoice(mode="required", name="look_up")),
        ({"type": "tool", "name": "look_up"}, ToolChoice(mode="required", name="look_up")),
        ({"type": "any"}, ToolChoice(mode="required")),
    ],
)
def test_choices_of_tools(make_kaelum: MakeKaelum, choice: Any, read: ToolChoice) -> None:
    bound: Any = chat(make_kaelum).bind_tools([look_up], tool_choice=choice, parallel_tool_calls=False)
    ask = bound.bound._ask([HumanMessage(QUESTION)], None, dict(bound.kwargs))
    assert ask.tool_choice == ToolChoice(mode=read.mode, name=read.name, parallel=False)


@pytest.mark.parametrize("given", ["nobody", {"type": "function", "function": {"name": "nobody"}}])
def test_a_choice_of_no_tool_is_refused(make_kaelum: MakeKaelum, given: Any) -> None:
    with pytest.raises(UsageError, match="no tool 'nobody'; there are look_up"):
        chat(make_kaelum).bind_tools([look_up], tool_choice=given)


def test_all_that_langchain_takes_for_a_tool(make_kaelum: MakeKaelum) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    class Multiply(BaseModel):
        """Multiply two numbers."""

        a: int
        b: int

    schema = {"title": "negate", "description": "Negate.", "type": "object", "properties": {"a": {"type": "integer"}}}
    own = Tool(name="mine", description="Mine.", parameters={"type": "object", "properties": {}})
    bound: Any = chat(make_kaelum).bind_tools(cast("Any", [look_up, add, Multiply, schema, own]))
    ask = bound.bound._ask([HumanMessage(QUESTION)], None, dict(bound.kwargs))
    assert [one.name for one in ask.tools] == ["look_up", "add", "Multiply", "negate", "mine"]
    assert all(one.parameters["type"] == "object" for one in ask.tools)
    flat = {"type": "function", "name": "flat", "description": "Flat.", "parameters": {"type": "object"}}
    assert tools_of([flat]) == (Tool(name="flat", description="Flat.", parameters={"type": "object"}),)
    with pytest.raises(UsageError, match="add"):
        chat(make_kaelum).bind_tools([add, add]).invoke(QUESTION)
    with pytest.raises(UsageError, match="can't be offered"):
        chat(make_kaelum).bind_tools(cast("Any", [7]))


class Untold(TypedDict):
    x: int


class WeatherDict(TypedDict):
    """What the weather is like."""

    sky: str
    degrees: int


@pytest.mark.parametrize("schema", [Weather, WeatherDict, Weather.model_json_schema()])
def test_answers_in_a_form(make_kaelum: MakeKaelum, schema: Any) -> None:
    told: Any = chat(make_kaelum, asks_then_tells).with_structured_output(schema).invoke("Is it sunny in Lima?")
    assert told == (Weather(sky="clear", degrees=21) if schema is Weather else {"sky": "clear", "degrees": 21})


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_what_stands_inside_openais_format_is_kept_to(make_kaelum: MakeKaelum, method: Any) -> None:
    form = {"name": "Weather", "strict": True, "schema": Weather.model_json_schema()}

    def script(request: GenerationRequest, k: int) -> Said:
        if request.tools:
            return "", (ToolCall(f"call_{k}", "Weather", '{"sky": "clear", "degrees": 21}'),)
        return json.dumps({"sky": "clear", "degrees": 21}) if request.shape is not None else "It is clear."

    model = chat(make_kaelum, script).with_structured_output(form, method=method)
    assert model.invoke("Is it sunny in Lima?") == {"sky": "clear", "degrees": 21}
    shape = shape_of(response_format(form))
    assert shape is not None
    assert (shape.name, shape.strict, shape.schema) == ("Weather", True, form["schema"])
    broken = chat(make_kaelum, lambda request, k: '{"whatever": [1]}').with_structured_output(form)
    with pytest.raises(ModelError):
        broken.invoke("Is it sunny in Rome?")


@pytest.mark.parametrize("form", [Weather, WeatherDict])
def test_a_class_may_be_bound_as_the_form(make_kaelum: MakeKaelum, form: Any) -> None:
    model = chat(make_kaelum, asks_then_tells).bind(response_format=form)
    assert json.loads(model.invoke("Is it sunny in Lima?").text) == {"sky": "clear", "degrees": 21}
    with pytest.raises(UsageError, match="no schema"):
        chat(make_kaelum).invoke(QUESTION, response_format=int)


class Bare(TypedDict):
    weather: WeatherDict
    more: Untold


def test_a_class_without_a_docstring_has_no_description() -> None:
    assert "new empty dictionary" not in json.dumps([response_format(Bare), wire_tools([Bare])])
    assert "What the weather is like." in json.dumps(response_format(Bare))


def test_a_form_by_way_of_a_call(make_kaelum: MakeKaelum) -> None:
    def calls(request: GenerationRequest, k: int) -> Said:
        return "", (ToolCall(f"call_{k}", request.tools[0].name, '{"sky": "grey", "degrees": 12}'),)

    model = chat(make_kaelum, calls)
    told = model.with_structured_output(Weather, method="function_calling").invoke("Is it sunny in Lima?")
    assert told == Weather(sky="grey", degrees=12)
    strictly = model.with_structured_output(WeatherDict, method="function_calling", strict=True, include_raw=True)
    told = cast("dict[str, Any]", strictly.invoke("Is it sunny in Lima?"))
    assert (told["parsed"], told["parsing_error"]) == ({"sky": "grey", "degrees": 12}, None)
    asked: Any = model.kaelum.services.model
    assert [request.tools[0].strict for request in asked.requests if request.tools][-1]


def test_any_json_object(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, asks_then_tells)
    told = model.with_structured_output(None, method="json_mode").invoke("Is it sunny in Lima? Answer in JSON.")
    assert told == {"sky": "clear", "degrees": 21}


def test_the_raw_message_beside_the_value(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, asks_then_tells)
    told = cast("dict[str, Any]", model.with_structured_output(Weather, include_raw=True).invoke("In Lima?"))
    assert told["parsed"] == Weather(sky="clear", degrees=21)
    assert told["raw"].response_metadata["kaelum"]["id"]
    assert told["parsing_error"] is None


def test_structured_output_of_nothing_is_refused(make_kaelum: MakeKaelum) -> None:
    with pytest.raises(UsageError, match="needs a schema"):
        chat(make_kaelum).with_structured_output(None)
    with pytest.raises(UsageError, match="unknown argument 'tolerance'"):
        chat(make_kaelum).with_structured_output(Weather, tolerance=3)


def test_the_agent_of_langchain_runs_on_it(make_kaelum: MakeKaelum) -> None:
    agent: Any = create_agent(chat(make_kaelum, asks_then_tells), [look_up], response_format=Weather)
    ended = agent.invoke({"messages": [HumanMessage("Is it sunny in Lima?")]})
    assert [message.type for message in ended["messages"]] == ["human", "ai", "tool", "ai"]
    assert ended["structured_response"] == Weather(sky="clear", degrees=21)


def test_several_answers_are_several_generations(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum, cycle("It is \\boxed{5}", "It is \\boxed{5}", "It is \\boxed{6}"), sims=6, answers=3)
    result = model.generate([[HumanMessage("Which number do I think of?")]])
    messages = [cast("Any", generation).message for generation in result.generations[0]]
    assert [message.response_metadata["kaelum"]["answer"] for message in messages] == ["5", "6"]
    assert messages[0].id != messages[1].id
    assert len({message.response_metadata["kaelum"]["id"] for message in messages}) == 1


def test_tenants_are_kept_apart(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED))
    message = ChatKaelum(kaelum=kaelum, tenant="ann", sims=2).invoke(QUESTION)
    assert kaelum.services.storage.has_episode(str(message.id), tenant="ann")
    assert not kaelum.services.storage.has_episode(str(message.id), tenant="")


def test_leaving_the_stream_cancels_the_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), seconds=0.05)
    stream = ChatKaelum(kaelum=kaelum, sims=64, wave_size=1, early_stop=False).stream(QUESTION)
    next(stream)
    cast("Any", stream).close()
    model: Any = kaelum.services.model
    assert model.drawn < 16


async def draws_no_more(kaelum: Kaelum) -> bool:
    """Whether a search of 64 slow rollouts ends before its time, once the loop has closed what was abandoned."""
    model: Any = kaelum.services.model
    await asyncio.sleep(0.5)
    drawn = model.drawn
    await asyncio.sleep(0.5)
    return model.drawn == drawn < 64


async def test_leaving_the_async_stream_cancels_the_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), seconds=0.05)
    model = ChatKaelum(kaelum=kaelum, sims=64, wave_size=1, early_stop=False)
    async for _ in model.astream(QUESTION):
        break
    assert await draws_no_more(kaelum)


async def test_a_cancelled_task_cancels_the_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), seconds=0.1)
    task = asyncio.create_task(ChatKaelum(kaelum=kaelum, sims=64, wave_size=1, early_stop=False).ainvoke(QUESTION))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await draws_no_more(kaelum)


def test_a_cancel_token_ends_the_search(make_kaelum: MakeKaelum) -> None:
    token = CancelToken()
    token.cancel()
    message = chat(make_kaelum, sims=64, wave_size=1, early_stop=False, worker="creative").invoke(
        QUESTION, cancel=token
    )
    assert message.response_metadata["kaelum"]["stop_reason"] == "cancelled"


def test_the_same_question_again_in_a_conversation_is_another_message(make_kaelum: MakeKaelum) -> None:
    """A graph's state takes a message with a known id for that message changed: the answer would vanish upwards."""
    model = chat(make_kaelum, worker="math")
    first = model.invoke([HumanMessage(QUESTION)])
    again = model.invoke([first, HumanMessage(QUESTION)])
    served = model.invoke([SystemMessage("", id=first.id), HumanMessage(QUESTION)])
    cached = model.invoke([HumanMessage(QUESTION)])
    assert len({first.id, again.id, served.id, cached.id}) == 4
    assert cached.response_metadata["kaelum"]["id"] == first.id, "the handle for feedback"


def test_langchains_cache_serves_it_and_knows_settings_apart(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), cache=False)
    model: Any = kaelum.services.model
    set_llm_cache(InMemoryCache())
    try:
        first = ChatKaelum(kaelum=kaelum, sims=2).invoke(QUESTION)
        drawn = model.drawn
        assert ChatKaelum(kaelum=kaelum, sims=2).invoke(QUESTION).id == first.id
        assert model.drawn == drawn
        assert ChatKaelum(kaelum=kaelum, sims=3).invoke(QUESTION).id != first.id
        assert ChatKaelum(kaelum=kaelum, sims=2, tenant="ann").invoke(QUESTION).id != first.id
        assert ChatKaelum(kaelum=kaelum, sims=2, cache=False).invoke(QUESTION).id != first.id
        other = make_kaelum(always("It is \\boxed{6}"), cache=False, top_p=0.5)
        assert "6" in ChatKaelum(kaelum=other, sims=2).invoke(QUESTION).text
    finally:
        set_llm_cache(None)


def test_langchains_cache_knows_sources_apart(make_kaelum: MakeKaelum, encoder: Encoder, tmp_path: Path) -> None:
    kaelum = make_kaelum(always(BOXED))

    def named(**sources: Any) -> str:
        settings = {"retriever": sources.pop("retriever", None), **sources}
        model: Any = ChatKaelum(
            kaelum=Kaelum(kaelum.settings, model=kaelum.services.model, encoder=encoder, **settings)
        )
        return model._get_llm_string()

    assert named() == named()
    found: list[Any] = [lambda question: ["x"], lambda question: ["y"]]  # pyright: ignore
    assert len({named(), *(named(retriever=retriever) for retriever in found)}) == 3
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "a.txt").write_text("Lima is sunny.")
    before = named(documents=folder)
    assert before == named(documents=folder)
    (folder / "a.txt").write_text("Lima is grey, and has been for weeks.")
    assert before != named(documents=folder)


def test_what_is_serialised_holds_no_kaelum_and_no_secret(make_kaelum: MakeKaelum) -> None:
    told = json.dumps(dumpd(ChatKaelum(kaelum=make_kaelum(always(BOXED), api_key="s3cret"), worker="math", sims=3)))
    assert "s3cret" not in told
    assert json.loads(told)["kwargs"] == {"model": "kaelum", "worker": "math", "sims": 3}


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_it_is_loaded_again_from_what_was_serialised() -> None:
    model = ChatKaelum(worker="math", sims=3, stop=["END"])
    again = load(dumpd(model), allowed_objects=[ChatKaelum], valid_namespaces=["kaelum_adapters"])
    assert again.asdict() == model.asdict()


def test_the_kaelum_it_makes_is_shared_by_copies_and_closed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Kaelum] = []
    monkeypatch.setattr(Kaelum, "close", lambda self: closed.append(self))
    model = ChatKaelum()
    adjustable: Any = model.configurable_fields(sims=ConfigurableField(id="sims"))
    chosen, _ = adjustable.prepare({"configurable": {"sims": 3}})
    assert chosen.sims == 3
    assert chosen.kaelum is model.model_copy().kaelum is model.kaelum
    deep = copy.deepcopy(model)
    assert deep.kaelum is model.kaelum
    for one in (chosen, model.model_copy(update={"sims": 3}), model.model_copy(deep=True), copy.copy(model), deep):
        one.close()
    assert not closed, "it is not theirs"
    model.close()
    assert closed == [model.kaelum]


def test_one_that_it_was_given_stays_open(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum)
    model.close()
    assert model.invoke(QUESTION).text == BOXED


def test_it_is_a_chat_model(make_kaelum: MakeKaelum) -> None:
    model = chat(make_kaelum)
    assert isinstance(model, BaseChatModel)
    assert (model.profile or {})["reasoning_output"]  # pyright: ignore
    assert model._get_ls_params()["ls_provider"] == "kaelum"  # pyright: ignore
