"""`/v1/responses` as OpenAI's own client asks it: whole responses, conversations, what is kept and what is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_item import ResponseItem
from pydantic import BaseModel, TypeAdapter

from kaelum_adapters.openai_api import responses_conversation
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Ask, TokenLogprob
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import ContextOverflow, StorageError
from kaelum_graph.types import Message, Shape, Tool, ToolCall, ToolChoice
from tests.adapters.responses_client import (
    RESPONSE,
    Player,
    fitting,
    key_of,
    last_said,
    openai_of,
    says,
    server_app,
)
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

CALL = ToolCall("call_1", "weather", '{"city": "Rome"}')
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Today's weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
ITEM: TypeAdapter[ResponseItem] = TypeAdapter(ResponseItem)


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


async def asked(kaelum: Kaelum, **body: Any) -> Ask:
    """What reaches the runner of this body."""
    player = Player(last_said)
    async with openai_of(server_app(kaelum, player)) as client:
        await client.responses.create(**cast("Any", {"model": "kaelum", "input": "hi", **body}))
    return player.asks[0]


async def test_a_response_is_whole_and_fits_openais_types(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says("It is ", "4.")))) as client:
        raw = await client.responses.with_raw_response.create(
            model="kaelum", input="2+2?", instructions="Be brief.", metadata={"who": "me"}, tools=[WEATHER], user="u"
        )
    data = raw.http_response.json()
    response = fitting(RESPONSE, data)
    assert (response.id, response.status, response.output_text) == ("resp_ep1", "completed", "It is 4.")
    assert (response.instructions, response.metadata, response.user) == ("Be brief.", {"who": "me"}, "u")
    assert response.tools[0].to_dict() == WEATHER
    assert response.usage.to_dict() == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 0},
        "output_tokens": 60,
        "output_tokens_details": {"reasoning_tokens": 50},
        "total_tokens": 160,
    }
    assert (data["temperature"], data["top_p"]) == (0.7, 0.95)
    assert data["kaelum"] == {"id": "ep1", "confidence": 0.9, "system_fingerprint": "state-1"}
    assert [item["type"] for item in data["output"]] == ["message"]
    assert data["output"][0]["content"][0]["annotations"] == []


async def test_everything_that_is_honoured_reaches_the_run(kaelum: Kaelum) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    ask = await asked(
        kaelum,
        model="kaelum-math",
        instructions="Be kind.",
        input=[
            {"role": "developer", "content": "Speak Latin."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        ],
        temperature=0,
        top_p=0.5,
        max_output_tokens=7,
        top_logprobs=3,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning={"effort": "high"},
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        extra_body={"kaelum": {"sims": 3}, "frequency_penalty": 0.5, "presence_penalty": -0.5},
    )
    assert ask.model == "kaelum-math"
    assert ask.messages == (
        Message("system", "Be kind.\n\nAnswer as briefly as you can."),
        Message("system", "Speak Latin."),
        Message("user", "a\nb"),
    )
    assert (ask.temperature, ask.top_p, ask.max_tokens, ask.effort) == (0, 0.5, 7, "high")
    assert (ask.logprobs, ask.top_logprobs) == (True, 3)
    assert (ask.frequency_penalty, ask.presence_penalty) == (0.5, -0.5)
    parameters = WEATHER["parameters"]
    assert ask.tools == (Tool(name="weather", description="Today's weather", parameters=parameters, strict=True),)
    assert ask.tool_choice == ToolChoice(mode="required", parallel=False)
    assert ask.shape == Shape(kind="json_schema", name="n", schema=schema, strict=True)
    assert ask.options["sims"] == 3


async def test_nothing_given_means_nothing_asked(kaelum: Kaelum) -> None:
    ask = await asked(kaelum)
    messages = (Message("user", "hi"),)
    # openai's client waits ten minutes, and says so.
    plain = Ask(model="kaelum", messages=messages, fingerprint=ask.fingerprint, options=ask.options, patience=600.0)
    assert ask == plain
    assert set(ask.options) == {"deadline"}  # what is left of the request's time
    assert len(ask.fingerprint) == 64


async def test_asking_again_gives_the_same_response_and_runs_nothing(kaelum: Kaelum) -> None:
    player = Player(last_said)
    again, keyed = {"x-stainless-retry-count": "1"}, {"idempotency-key": "k"}
    async with openai_of(server_app(kaelum, player)) as client:
        first = await client.responses.create(model="kaelum", input="hi")
        assert (await client.responses.create(model="kaelum", input="hi", extra_headers=again)).id == first.id
        assert (await client.responses.create(model="kaelum", input="hi")).id != first.id
        assert (await client.responses.create(model="kaelum", input="ho", extra_headers=again)).id != first.id
        second = await client.responses.create(model="kaelum", input="hi", extra_headers=keyed)
        assert second.id != first.id
        assert (await client.responses.create(model="kaelum", input="hi", extra_headers=keyed)).id == second.id
        assert (await client.responses.retrieve(first.id)).output == first.output
    assert len(player.asks) == 4
    assert len({ask.fingerprint for ask in player.asks}) == 3


@pytest.mark.parametrize(
    ("choice", "mode", "name"),
    [
        ("auto", "auto", None),
        ("none", "none", None),
        ("required", "required", None),
        ({"type": "function", "name": "weather"}, "required", "weather"),
    ],
)
async def test_a_tool_choice_is_passed_on(kaelum: Kaelum, choice: Any, mode: Any, name: str | None) -> None:
    ask = await asked(kaelum, tools=[WEATHER, {**WEATHER, "name": "time"}], tool_choice=choice)
    assert ask.tool_choice == ToolChoice(mode=mode, name=name)
    assert [tool.name for tool in ask.tools] == ["weather", "time"]


async def test_allowed_tools_leave_the_others_out(kaelum: Kaelum) -> None:
    allowed: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]}
    ask = await asked(kaelum, tools=[WEATHER, {**WEATHER, "name": "time"}], tool_choice=allowed)
    assert ask.tool_choice.mode == "required"
    assert [tool.name for tool in ask.tools] == ["time"]


MISSING = "missing_required_parameter"
UNANSWERED = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
BAD_ITEM = {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"background": True}, "background", "unsupported_parameter"),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    ({"service_tier": "priority"}, "service_tier", "unsupported_parameter"),
    ({"moderation": {"model": "omni"}}, "moderation", "unsupported_parameter"),
    ({"context_management": [{"type": "compaction"}]}, "context_management", "unsupported_parameter"),
    ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options", "unsupported_parameter"),
    ({"access_programs": {"cyber": "standard"}}, "access_programs", "unsupported_parameter"),
    ({"image": {"context_compression": "auto"}}, "image", "unsupported_parameter"),
    ({"include": ["file_search_call.results"]}, "include.0", "unsupported_parameter"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode", "invalid_value"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context", "invalid_value"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "invalid_value"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"temperature": "1"}, "temperature", "invalid_type"),
    ({"top_p": -0.1}, "top_p", "invalid_value"),
    ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    ({"metadata": {"k": "v" * 513}}, "metadata", "invalid_value"),
    ({"n": 2}, "n", "unknown_parameter"),
    ({"stop": ["x"]}, "stop", "unknown_parameter"),
    ({"messages": []}, "messages", "unknown_parameter"),
    ({"input": None}, "input", MISSING),
    ({"input": []}, "input", MISSING),
    ({"input": 5}, "input", "invalid_value"),
    ({"input": ["x"]}, "input", "invalid_value"),
    ({"input": [{"role": "user", "content": 5}]}, "input.0.content", "invalid_value"),
    ({"tool_choice": 5}, "tool_choice", "invalid_value"),
    ({"text": {"format": {"type": "text", "schema": {}}}}, "text.format.schema", "invalid_value"),
    ({"input": [BAD_ITEM]}, "input.0.content.0.type", "unsupported_modality"),
    ({"input": [{"role": "user", "content": "x", "name": "y"}]}, "input.0.name", "unknown_parameter"),
    ({"input": [{"role": "critic", "content": "x"}]}, "input.0.role", "invalid_value"),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, "input.0.type", "unsupported_parameter"),
    ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "input.0.content.0.text", MISSING),
    ({"input": [{"type": "item_reference", "id": "msg_no"}]}, "input.0.id", "item_not_found"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input", "invalid_value"),
    ({"input": [UNANSWERED]}, "input", "invalid_value"),
    ({"previous_response_id": "resp_no"}, "previous_response_id", "previous_response_not_found"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type", "unsupported_parameter"),
    ({"tools": [{"type": "custom", "name": "c"}]}, "tools.0.type", "unsupported_parameter"),
    ({"tools": [WEATHER, WEATHER]}, "tools.1.name", "invalid_value"),
    ({"tools": [{**WEATHER, "name": "no spaces"}]}, "tools.0.name", "invalid_value"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools.0.defer_loading", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": "often"}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "invalid_value"),
    ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice.type", "unsupported_parameter"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", MISSING),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "invalid_value"),
    ({"kaelum": {"simms": 3}}, "kaelum.simms", "unknown_parameter"),
    ({"kaelum": {"sims": 0}}, "kaelum.sims", "invalid_value"),
    ({"model": "gpt-5"}, "model", "model_not_found"),
]


async def test_what_cannot_be_honoured_is_refused_by_name(kaelum: Kaelum) -> None:
    player = Player(last_said)
    met: list[tuple[dict[str, Any], str | None, str | None]] = []
    async with openai_of(server_app(kaelum, player)) as client:
        for body, _, code in REFUSED:
            with pytest.raises(APIStatusError) as caught:
                await client.post("/responses", body={"model": "kaelum", "input": "hi", **body}, cast_to=object)
            met.append((body, caught.value.param, caught.value.code))
            assert caught.value.status_code == (404 if code in ("item_not_found", "model_not_found") else 400), body
    assert met == REFUSED
    assert player.asks == []


async def test_a_refusal_of_a_hosted_tool_names_it(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(last_said))) as client:
        with pytest.raises(BadRequestError, match="'web_search' tools are not run here"):
            await client.responses.create(model="kaelum", input="hi", tools=[{"type": "web_search"}])


async def test_too_many_items_are_refused(kaelum: Kaelum) -> None:
    player = Player(last_said)
    async with openai_of(server_app(kaelum, player, max_messages=3)) as client:
        turn: Any = {"role": "user", "content": "x"}
        first = await client.responses.create(model="kaelum", input=[turn] * 2)
        with pytest.raises(BadRequestError, match="more items"):
            await client.responses.create(model="kaelum", input=[turn] * 4)
        with pytest.raises(BadRequestError, match="more items"):
            await client.responses.create(model="kaelum", input="x", previous_response_id=first.id)


async def test_a_conversation_goes_on_from_kept_responses(kaelum: Kaelum) -> None:
    player = Player(last_said)
    async with openai_of(server_app(kaelum, player)) as client:
        first = await client.responses.create(model="kaelum", input="one", instructions="Be first.")
        second = await client.responses.create(model="kaelum", input="two", previous_response_id=first.id)
        third = await client.responses.create(
            model="kaelum", input="three", instructions="Be third.", previous_response_id=second.id
        )
    assert third.previous_response_id == second.id
    assert player.asks[2].messages == (
        Message("system", "Be third."),
        Message("user", "one"),
        Message("assistant", "2: one"),
        Message("user", "two"),
        Message("assistant", "3: two"),
        Message("user", "three"),
    )


async def test_tools_are_called_and_their_outputs_taken(kaelum: Kaelum) -> None:
    other = ToolCall("call_2", "weather", '{"city": "Oslo"}')
    player = Player(
        lambda ask, episode: (says(calls=(CALL, other), finish="tool_calls") if len(player.asks) == 1 else last_said)(
            ask, episode
        )
    )
    async with openai_of(server_app(kaelum, player)) as client:
        first = await client.responses.create(model="kaelum", input="Where is it warm?", tools=[WEATHER])
        calls = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
        assert [(call.call_id, call.name, call.arguments) for call in calls] == [
            (call.id, call.name, call.arguments) for call in (CALL, other)
        ]
        assert (first.status, first.output_text) == ("completed", "")
        outputs: Any = [
            {"type": "function_call_output", "call_id": "call_1", "output": "30°"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "3°"}]},
        ]
        await client.responses.create(model="kaelum", input=outputs, tools=[WEATHER], previous_response_id=first.id)
        # The same without anything kept: the client sends the items back, as the agents' loops do.
        history: Any = [{"role": "user", "content": "Where is it warm?"}, *first.output, *outputs]
        await client.responses.create(model="kaelum", input=history, tools=[WEATHER], store=False)
    expected = (
        Message("user", "Where is it warm?"),
        Message("assistant", "", calls=(CALL, other)),
        Message("tool", "30°", call_id="call_1"),
        Message("tool", "3°", call_id="call_2"),
    )
    assert [ask.messages for ask in player.asks[1:]] == [expected, expected]


async def test_a_small_request_cannot_bring_back_more_than_there_is_room_for(
    kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses_conversation, "MOST_CHARACTERS", 5000)
    player = Player(last_said)
    long: Any = [
        {"type": "reasoning", "id": "rs_long", "summary": [], "encrypted_content": "x" * 2000},
        {"role": "user", "content": "one"},
    ]
    refers: Any = [*[{"type": "item_reference", "id": "rs_long"}] * 3, {"role": "user", "content": "two"}]
    async with openai_of(server_app(kaelum, player)) as client:
        first = await client.responses.create(model="kaelum", input=long)
        second = await client.responses.create(model="kaelum", input=refers[1:])
        for param, body in (
            ("input", {"input": refers}),
            ("previous_response_id", {"input": refers[2:], "previous_response_id": second.id}),
        ):
            with pytest.raises(BadRequestError) as raised:
                await client.responses.create(model="kaelum", **cast("Any", body))
            assert (raised.value.param, raised.value.code) == (param, "string_above_max_length")
        await client.responses.create(model="kaelum", input=refers[2:], previous_response_id=first.id)


async def test_the_models_own_output_is_taken_back(kaelum: Kaelum) -> None:
    player = Player(says("Four.", thoughts=["route: math\n"]))
    async with openai_of(server_app(kaelum, player)) as client:
        first = await client.responses.create(
            model="kaelum", input="2+2?", include=["reasoning.encrypted_content"], reasoning={"summary": "auto"}
        )
        reasoning = first.output[0]
        assert isinstance(reasoning, ResponseReasoningItem)
        assert reasoning.summary[0].text == "route: math\n"
        assert reasoning.encrypted_content
        again: Any = [{"role": "user", "content": "2+2?"}, *first.output, {"role": "user", "content": "And 3+3?"}]
        await client.responses.create(model="kaelum", input=again)
        refers: Any = [{"type": "item_reference", "id": first.output[1].id}, {"role": "user", "content": "Sure?"}]
        await client.responses.create(model="kaelum", input=refers)
    assert player.asks[1].messages == (
        Message("user", "2+2?"),
        Message("assistant", "Four."),
        Message("user", "And 3+3?"),
    )
    assert player.asks[2].messages == (Message("assistant", "Four."), Message("user", "Sure?"))


async def test_reasoning_without_a_summary_has_an_empty_one(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says("4", thoughts=["a", "b"])))) as client:
        response = await client.responses.create(model="kaelum", input="2+2?")
    reasoning = response.output[0]
    assert isinstance(reasoning, ResponseReasoningItem)
    assert (reasoning.summary, reasoning.content, reasoning.encrypted_content) == ([], None, None)


async def test_a_cut_answer_is_incomplete(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says("It is", finish="length")))) as client:
        response = await client.responses.create(model="kaelum", input="2+2?", max_output_tokens=2)
    assert (response.status, response.output_text, response.completed_at) == ("incomplete", "It is", None)
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"  # pyright: ignore[reportAttributeAccessIssue]


async def test_logprobs_come_where_they_are_asked_for(kaelum: Kaelum) -> None:
    token = TokenLogprob(token="é", logprob=-0.1, top=(("é", -0.1), ("e", -2.0)))
    player = Player(says("é", logprobs=(token,)))
    async with openai_of(server_app(kaelum, player)) as client:
        response = await client.responses.create(
            model="kaelum", input="x", include=["message.output_text.logprobs"], top_logprobs=2
        )
    text: Any = response.output[0]
    [entry] = text.content[0].logprobs
    assert (entry.token, entry.logprob, entry.bytes) == ("é", -0.1, [0xC3, 0xA9])
    assert [top.token for top in entry.top_logprobs] == ["é", "e"]


class City(BaseModel):
    name: str
    people: int


async def test_a_structured_answer_is_parsed(kaelum: Kaelum) -> None:
    player = Player(says('{"name": "Rome", ', '"people": 3}'))
    async with openai_of(server_app(kaelum, player)) as client:
        response = await client.responses.parse(model="kaelum", input="A city?", text_format=City)
    assert response.output_parsed == City(name="Rome", people=3)
    shape = player.asks[0].shape
    assert shape is not None
    assert (shape.kind, shape.name, shape.strict) == ("json_schema", "City", True)


async def test_a_kept_response_is_read_listed_and_forgotten(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(last_said))) as client:
        items: Any = [{"role": "user", "content": text} for text in ("a", "b", "c")]
        made = await client.responses.create(model="kaelum", input=items)
        kept = await client.responses.retrieve(made.id)
        assert kept.to_dict() == made.to_dict()

        listed = [item async for item in client.responses.input_items.list(made.id, order="asc", limit=2)]
        assert [item.content[0].text for item in listed] == ["a", "b", "c"]  # pyright: ignore
        newest = await client.responses.input_items.list(made.id, limit=2)
        assert [item.content[0].text for item in newest.data] == ["c", "b"]  # pyright: ignore
        for item in listed:
            fitting(ITEM, item.to_dict())

        with pytest.raises(BadRequestError, match="background"):
            await client.responses.cancel(made.id)
        with pytest.raises(BadRequestError, match="background"):
            await client.responses.retrieve(made.id, stream=True)
        await client.responses.delete(made.id)
        for gone in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
            with pytest.raises(NotFoundError):
                await gone(made.id)
        with pytest.raises(BadRequestError):
            await client.responses.create(model="kaelum", input="d", previous_response_id=made.id)


async def test_what_is_not_to_be_kept_is_not(kaelum: Kaelum) -> None:
    app = server_app(kaelum, Player(last_said))
    async with openai_of(app) as client:
        made = await client.responses.create(model="kaelum", input="x", store=False)
        assert made.to_dict()["store"] is False
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(made.id)
    assert app.state.server.responses.episode_id("", made.id) is None


async def test_another_tenants_responses_are_not_there(kaelum: Kaelum) -> None:
    keys = [key_of(kaelum, tenant) for tenant in ("ann", "bob")]
    app = server_app(kaelum, Player(last_said))
    async with openai_of(app, key=keys[0]) as ann, openai_of(app, key=keys[1]) as bob:
        made = await ann.responses.create(model="kaelum", input="secret")
        await refused_to(bob, made.id, made.output[0].id or "")
        assert (await ann.responses.retrieve(made.id)).id == made.id


async def refused_to(client: AsyncOpenAI, response_id: str, item_id: str) -> None:
    for asked_for in (
        client.responses.retrieve,
        client.responses.delete,
        client.responses.cancel,
        client.responses.input_items.list,
    ):
        with pytest.raises(NotFoundError):
            await asked_for(response_id)
    with pytest.raises(BadRequestError):
        await client.responses.create(model="kaelum", input="x", previous_response_id=response_id)
    refers: Any = [{"type": "item_reference", "id": item_id}]
    with pytest.raises(NotFoundError):
        await client.responses.create(model="kaelum", input=refers)


async def test_an_episode_known_only_at_the_end_is_found_by_the_response(kaelum: Kaelum) -> None:
    app = server_app(kaelum, Player(says("4", known=False)))
    async with openai_of(app) as client:
        kept = await client.responses.create(model="kaelum", input="x")
        loose = await client.responses.create(model="kaelum", input="y", store=False)
        assert (await client.responses.retrieve(kept.id)).output_text == "4"
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(loose.id)
    store = app.state.server.responses
    assert kept.id != "resp_ep1"
    assert [store.episode_id("", made.id) for made in (kept, loose)] == ["ep1", "ep2"]


async def test_an_error_of_the_run_is_a_plain_error_response(kaelum: Kaelum) -> None:
    overflow = ContextOverflow(limit_tokens=10, prompt_tokens=20)
    late = Player(lambda ask, episode: [*says("4")(ask, episode)[:1], overflow])
    for player in (Player(lambda ask, episode: [overflow]), late):
        async with openai_of(server_app(kaelum, player)) as client:
            with pytest.raises(BadRequestError) as caught:
                await client.responses.create(model="kaelum", input="x")
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
        assert player.closed == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("messages.3.content: empty.", "input: empty."),
        ("reasoning_effort: no.", "reasoning.effort: no."),
        ("kaelum.worker: no.", "kaelum.worker: no."),
    ],
)
async def test_a_refusal_of_the_run_names_the_field_as_it_is_called_here(
    kaelum: Kaelum, theirs: str, ours: str
) -> None:
    refused = ApiError(400, theirs, param=theirs.partition(":")[0], code="invalid_value")
    async with openai_of(server_app(kaelum, Player(lambda ask, episode: [refused]))) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.responses.create(model="kaelum", input="x")
    assert caught.value.param == ours.partition(":")[0]
    assert caught.value.body["message"] == ours  # pyright: ignore[reportOptionalSubscript, reportIndexIssue]


async def test_a_run_without_an_end_is_an_error(kaelum: Kaelum) -> None:
    for length in (0, 1, 2):
        player = Player(lambda ask, episode, length=length: says("4")(ask, episode)[:length])
        async with openai_of(server_app(kaelum, player)) as client:
            with pytest.raises(APIStatusError, match="ended"):
                await client.responses.create(model="kaelum", input="x")


async def test_an_answer_is_given_also_where_it_cannot_be_kept(kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    app = server_app(kaelum, Player(says("4")))

    def full(*_: object) -> None:
        raise StorageError("kaelum.sqlite: cannot write: disk is full")

    monkeypatch.setattr(app.state.server.responses, "put", full)
    async with openai_of(app) as client:
        made = (await client.responses.create(model="kaelum", input="x")).to_dict()
    assert made["store"] is False
    assert made["status"] == "completed"
    story: Any = made["kaelum"]
    assert "disk is full" in story["notices"][0]


async def test_tokens_are_counted(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(last_said))) as client:
        counted: InputTokenCountResponse = await client.responses.input_tokens.count(
            model="kaelum", input="one two three", instructions="four five"
        )
        with_tools = await client.responses.input_tokens.count(model="kaelum", input="one two three", tools=[WEATHER])
        with pytest.raises(BadRequestError):
            await client.responses.input_tokens.count(model="kaelum", input="x", personality="friendly")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 5)
    assert with_tools.input_tokens > 13
