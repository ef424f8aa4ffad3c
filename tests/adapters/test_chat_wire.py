"""`/v1/chat/completions` as OpenAI's own client asks it: whole completions, and what is honoured or refused."""

from __future__ import annotations

from typing import Any, cast

import pytest
from openai import BadRequestError, NotFoundError
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, TypeAdapter

from kaelum_adapters.openai_api.exchange import Ask, TokenLogprob
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import ContextOverflow, UpstreamError
from kaelum_graph.types import Json, Message, Shape, Tool, ToolCall, ToolChoice
from tests.adapters.responses_client import Player, fitting, key_of, last_said, openai_of, says, server_app
from tests.adapters.tiny_server import client_of
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

COMPLETION: TypeAdapter[ChatCompletion] = TypeAdapter(ChatCompletion)
SCHEMA: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "Today's weather", "parameters": SCHEMA, "strict": True},
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
TOOL = Tool(name="weather", description="Today's weather", parameters=SCHEMA, strict=True)
CLOCK_TOOL = Tool(name="clock", parameters={"type": "object", "properties": {}})
CALL = ToolCall("call_1", "weather", '{"city": "Rome"}')
SAID: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


async def asked(server: Kaelum, **body: Any) -> Ask:
    """What reaches the runner of this body."""
    player = Player(last_said)
    async with client_of(server_app(server, player)) as client:
        reply = await client.post("/v1/chat/completions", json={"model": "kaelum", "messages": SAID, **body})
    assert reply.status_code == 200, reply.text
    return player.asks[0]


async def refused(server: Kaelum, **body: Any) -> tuple[int, Json]:
    """The status and the error of a body that must not reach a runner."""
    player = Player(last_said)
    async with client_of(server_app(server, player)) as client:
        reply = await client.post("/v1/chat/completions", json={"model": "kaelum", "messages": SAID, **body})
    assert not player.asks, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return reply.status_code, error


async def test_a_completion_is_whole_and_fits_openais_types(kaelum: Kaelum) -> None:
    said = says("It is ", "4.", thoughts=["Routed.\n", "Wave 1.\n"])
    async with openai_of(server_app(kaelum, Player(said))) as client:
        raw = await client.chat.completions.with_raw_response.create(model="kaelum-math", messages=SAID)
    data = raw.http_response.json()
    fitting(COMPLETION, data)
    assert raw.http_response.headers["x-request-id"]
    assert data == {
        "id": "chatcmpl-ep1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "kaelum-math",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "It is 4.",
                    "refusal": None,
                    "annotations": [],
                    "reasoning_content": "Routed.\nWave 1.\n",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 60,
            "total_tokens": 160,
            "prompt_tokens_details": {"cached_tokens": 32, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 50,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "state-1",
        "kaelum": {"id": "ep1", "confidence": 0.9},
    }


async def test_calls_and_logprobs_come_in_openais_form(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says(calls=(CALL,), finish="tool_calls")))) as client:
        completion = await client.chat.completions.create(model="kaelum", messages=SAID, tools=[WEATHER])
    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert [call.to_dict() for call in choice.message.tool_calls or ()] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    ]
    tokens = (TokenLogprob(token="é", logprob=-0.5, top=(("é", -0.5), ("e", -1.5))),)
    async with openai_of(server_app(kaelum, Player(says("é", logprobs=tokens)))) as client:
        completion = await client.chat.completions.create(
            model="kaelum-direct", messages=SAID, logprobs=True, top_logprobs=2
        )
    told = completion.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert told.content[0].to_dict() == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "e", "logprob": -1.5, "bytes": [101]},
        ],
    }


async def test_the_older_functions_are_tools(kaelum: Kaelum) -> None:
    ask = await asked(kaelum, functions=[WEATHER["function"]], function_call={"name": "weather"})
    assert ask.tools == (TOOL,)
    assert ask.tool_choice == ToolChoice(mode="required", name="weather", parallel=False)
    player = Player(says(calls=(CALL,), finish="tool_calls"))
    async with openai_of(server_app(kaelum, player)) as client:
        completion = await client.chat.completions.create(
            model="kaelum", messages=SAID, functions=[WEATHER["function"]]
        )
    (choice,) = completion.choices
    assert choice.finish_reason == "function_call"
    assert choice.message.tool_calls is None
    assert choice.message.function_call is not None
    assert choice.message.function_call.name == "weather"
    assert player.asks[0].tool_choice == ToolChoice(parallel=False)


HONOURED: list[tuple[Json, Json]] = [
    ({"model": "kaelum-direct"}, {"model": "kaelum-direct"}),
    ({"n": 3}, {"n": 3}),
    ({"temperature": 0, "top_p": 1}, {"temperature": 0.0, "top_p": 1.0}),
    ({"max_completion_tokens": 7}, {"max_tokens": 7}),
    ({"max_tokens": 7}, {"max_tokens": 7}),
    ({"stop": "END"}, {"stop": ("END",)}),
    ({"stop": ["a", "b"]}, {"stop": ("a", "b")}),
    ({"seed": 5}, {"seed": 5}),
    ({"seed": -1}, {"seed": 2**63 - 1}),
    ({"logprobs": True, "top_logprobs": 4}, {"logprobs": True, "top_logprobs": 4}),
    ({"frequency_penalty": 0.5, "presence_penalty": -2}, {"frequency_penalty": 0.5, "presence_penalty": -2.0}),
    ({"logit_bias": {"7": -100, "3": 1.5}}, {"logit_bias": ((3, 1.5), (7, -100.0))}),
    ({"top_k": 40}, {"top_k": 40}),
    ({"top_k": -1, "top_p": 0}, {"top_k": None, "top_p": 1e-6}),
    ({"reasoning_effort": "xhigh"}, {"effort": "xhigh"}),
    ({"verbosity": "low"}, {"messages": (Message("system", "Answer as briefly as you can."), Message("user", "hi"))}),
    ({"verbosity": "medium"}, {"messages": (Message("user", "hi"),)}),
    ({"response_format": {"type": "text"}}, {"shape": None}),
    ({"response_format": {"type": "json_object"}}, {"shape": Shape(kind="json_object")}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}}},
        {"shape": Shape(kind="json_schema", name="x", schema=SCHEMA, strict=True)},
    ),
    ({"tools": [WEATHER]}, {"tools": (TOOL,), "tool_choice": ToolChoice()}),
    (
        {"tools": [CLOCK], "tool_choice": "required"},
        {"tools": (CLOCK_TOOL,), "tool_choice": ToolChoice(mode="required")},
    ),
    ({"tools": [WEATHER], "tool_choice": "none"}, {"tools": (TOOL,), "tool_choice": ToolChoice(mode="none")}),
    ({"tools": [WEATHER], "parallel_tool_calls": False}, {"tool_choice": ToolChoice(parallel=False)}),
    (
        {"tools": [WEATHER, CLOCK], "tool_choice": {"type": "function", "function": {"name": "clock"}}},
        {"tools": (TOOL, CLOCK_TOOL), "tool_choice": ToolChoice(mode="required", name="clock")},
    ),
    (
        {
            "tools": [WEATHER, CLOCK],
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "clock"}}],
                },
            },
        },
        {"tools": (CLOCK_TOOL,), "tool_choice": ToolChoice(mode="required")},
    ),
    ({"tools": [], "tool_choice": "auto"}, {"tools": (), "tool_choice": ToolChoice()}),
    ({"tools": None, "functions": None, "stop": None, "n": None, "stream": None}, {"n": 1, "tools": ()}),
    ({"modalities": ["text"], "service_tier": "auto", "user": "u", "safety_identifier": "s"}, {}),
    ({"prompt_cache_key": "k", "prompt_cache_retention": "24h", "service_tier": "default"}, {}),
    ({"store": False, "metadata": None}, {}),
    ({"kaelum": {"worker": "math", "sims": 2, "deadline_ms": 1500}}, {}),
]


@pytest.mark.parametrize(("body", "expected"), HONOURED, ids=[", ".join(body) for body, _ in HONOURED])
async def test_what_is_honoured_reaches_the_run(kaelum: Kaelum, body: Json, expected: Json) -> None:
    ask = await asked(kaelum, **body)
    assert {name: getattr(ask, name) for name in expected} == expected


async def test_the_options_of_a_search_reach_the_run(kaelum: Kaelum) -> None:
    given = {"worker": "math", "sims": 2, "depth": 3, "deadline_ms": 1500, "min_confidence": 0.5, "cache": False}
    ask = await asked(kaelum, kaelum={**given, "token_budget": 900, "seed": None})
    assert ask.options == {
        "worker": "math", "sims": 2, "depth": 3, "deadline": 1.5, "min_confidence": 0.5, "cache": False,
        "token_budget": 900,
    }  # fmt: skip


SCHEMALESS = {"type": "json_schema", "json_schema": {"name": "x"}}
REFUSED: list[tuple[Json, str, str]] = [
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 17}, "n", "invalid_value"),
    ({"n": "1"}, "n", "invalid_type"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"n": True}, "n", "invalid_type"),
    ({"temperature": 2.5}, "temperature", "invalid_value"),
    ({"temperature": "0.5"}, "temperature", "invalid_type"),
    ({"top_p": 1.5}, "top_p", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stop": 3}, "stop", "invalid_value"),
    ({"stop": ["a", 3]}, "stop", "invalid_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"frequency_penalty": 3}, "frequency_penalty", "invalid_value"),
    ({"logit_bias": {"the": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"7": 101}}, "logit_bias.7", "invalid_value"),
    ({"reasoning_effort": "lots"}, "reasoning_effort", "invalid_value"),
    ({"verbosity": 3}, "verbosity", "invalid_value"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    ({"response_format": SCHEMALESS}, "response_format.json_schema.schema", "missing_required_parameter"),
    (
        {"response_format": {"type": "json_object", "json_schema": {"name": "x", "schema": {}}}},
        "response_format.json_schema",
        "invalid_value",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools.0.function", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", "invalid_value"),
    ({"tools": [WEATHER, WEATHER]}, "tools.1.function.name", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "clock"}}},
        "tool_choice.name",
        "invalid_value",
    ),
    ({"tools": [WEATHER], "functions": [WEATHER["function"]]}, "functions", "invalid_value"),
    ({"function_call": "auto"}, "function_call", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other", "unknown_parameter"),
    ({"metadata": {"a": "b"}}, "metadata", "invalid_value"),
    ({"store": True, "metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"store": True, "metadata": {"a" * 65: "b"}}, "metadata", "invalid_value"),
    ({"store": True, "metadata": {str(key): "b" for key in range(17)}}, "metadata", "invalid_value"),
    ({"service_tier": "priority"}, "service_tier", "invalid_value"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_modality"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "unsupported_parameter"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    ({"thinking": {"type": "enabled"}}, "thinking", "unknown_parameter"),
    ({"min_p": 0.1}, "min_p", "unknown_parameter"),
    ({"kaelum": {"wroker": "math"}}, "kaelum.wroker", "unknown_parameter"),
    ({"kaelum": {"worker": "chef"}}, "kaelum.worker", "invalid_value"),
    ({"kaelum": {"sims": "4"}}, "kaelum.sims", "invalid_value"),
    ({"kaelum": {"deadline_ms": 0}}, "kaelum.deadline_ms", "invalid_value"),
    ({"kaelum": {"answers": 2}}, "kaelum.answers", "unknown_parameter"),
    ({"kaelum": 3}, "kaelum", "invalid_type"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hi"}, "messages", "invalid_type"),
]


@pytest.mark.parametrize(
    ("body", "param", "code"), REFUSED, ids=[f"{param} {place}" for place, (_, param, _) in enumerate(REFUSED)]
)
async def test_what_is_not_honoured_is_refused_by_name(kaelum: Kaelum, body: Json, param: str, code: str) -> None:
    status, error = await refused(kaelum, **body)
    assert (status, error["param"], error["code"]) == (400, param, code), error["message"]
    assert error["message"].startswith(f"{param}")
    assert error["type"] == "invalid_request_error"


def turn(**fields: Any) -> Any:
    return {"messages": [fields]}


TEXT = {"type": "text", "text": "see"}
SOUND: Json = {"type": "input_audio", "input_audio": {}}
FILE: Json = {"type": "file", "file": {}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
MESSAGES_REFUSED: list[tuple[Json, str, str]] = [
    (turn(role="robot", content="hi"), "messages.0", "invalid_value"),
    (turn(content="hi"), "messages.0", "invalid_value"),
    (turn(role="user"), "messages.0.content", "missing_required_parameter"),
    (turn(role="user", content=None), "messages.0.content", "invalid_value"),
    (turn(role="user", content=3), "messages.0.content", "invalid_value"),
    (turn(role="user", content=["hi"]), "messages.0.content", "invalid_value"),
    (turn(role="user", content="hi", mood="good"), "messages.0.mood", "unknown_parameter"),
    (turn(role="user", content=[TEXT, IMAGE]), "messages.0.content.1.type", "unsupported_modality"),
    (turn(role="user", content=[SOUND]), "messages.0.content.0.type", "unsupported_modality"),
    (turn(role="user", content=[FILE]), "messages.0.content.0.type", "unsupported_modality"),
    (turn(role="user", content=[{"type": "text"}]), "messages.0.content.0", "invalid_value"),
    (turn(role="assistant", content=None), "messages.0.content", "invalid_value"),
    (turn(role="assistant", content="", audio={"id": "a"}), "messages.0.audio", "unsupported_modality"),
    ({"messages": [*SAID, RESULT]}, "messages.1.tool_call_id", "invalid_value"),
    ({"messages": [*SAID, {"role": "tool", "content": "x"}]}, "messages.1.tool_call_id", "missing_required_parameter"),
    ({"messages": [*SAID, {"role": "function", "name": "x", "content": "x"}]}, "messages.1.name", "invalid_value"),
]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    MESSAGES_REFUSED,
    ids=[f"{param} {place}" for place, (_, param, _) in enumerate(MESSAGES_REFUSED)],
)
async def test_turns_that_make_no_sense_are_refused_by_place(kaelum: Kaelum, body: Json, param: str, code: str) -> None:
    status, error = await refused(kaelum, **body)
    assert (status, error["param"], error["code"]) == (400, param, code), error["message"]


async def test_a_whole_conversation_is_read(kaelum: Kaelum) -> None:
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    ask = await asked(
        kaelum,
        messages=[
            {"role": "developer", "content": "Be kind."},
            {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "assistant", "content": "hello", "reasoning_content": "…", "refusal": None, "annotations": []},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "I won't."}]},
            {"role": "assistant", "refusal": "No."},
            {"role": "user", "content": [{"type": "text", "text": "And Rome?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
            {"role": "assistant", "function_call": function},
            {"role": "function", "name": "weather", "content": "still sunny"},
        ],
    )
    assert ask.messages == (
        Message("system", "Be kind."),
        Message("system", "Be brief."),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("assistant", "I won't."),
        Message("assistant", "No."),
        Message("user", "And Rome?"),
        Message("assistant", "", calls=(ToolCall("c1", "weather", '{"city": "Rome"}'),)),
        Message("tool", "sunny", call_id="c1"),
        Message("assistant", "", calls=(ToolCall("call_9", "weather", '{"city": "Rome"}'),)),
        Message("tool", "still sunny", call_id="call_9"),
    )


class City(BaseModel):
    city: str


async def test_what_the_client_parsed_may_be_sent_back(kaelum: Kaelum) -> None:
    player = Player(says('{"city": "Rome"}'))
    async with openai_of(server_app(kaelum, player)) as client:
        parsed = await client.chat.completions.parse(model="kaelum", messages=SAID, response_format=City)
        assert parsed.choices[0].message.parsed == City(city="Rome")
        message = parsed.choices[0].message.model_dump(exclude_unset=True, warnings=False)
        player.play = says(calls=(CALL,), finish="tool_calls")
        called = await client.chat.completions.parse(
            model="kaelum", messages=[*SAID, cast("Any", message), *SAID], tools=[WEATHER]
        )
        assert [call.function.parsed_arguments for call in called.choices[0].message.tool_calls or ()] == [
            {"city": "Rome"}
        ]
        player.play = says("Sunny.")
        turns = [
            *SAID,
            cast("Any", called.choices[0].message.model_dump(exclude_unset=True, warnings=False)),
            cast("Any", RESULT),
        ]
        await client.chat.completions.create(model="kaelum", messages=turns, tools=[WEATHER])
    shape = player.asks[0].shape
    assert shape is not None
    assert shape.strict
    assert shape.name == "City"
    assert shape.schema is not None
    assert player.asks[1].messages[1] == Message("assistant", '{"city": "Rome"}')
    call, result = player.asks[2].messages[1:]
    assert call == Message("assistant", "", calls=(CALL,))
    assert result == Message("tool", "sunny", call_id="call_1")


async def test_a_message_that_is_too_much_is_refused(kaelum: Kaelum) -> None:
    app = server_app(kaelum, Player(last_said), max_messages=2, max_n=2)
    async with openai_of(app) as client:
        with pytest.raises(BadRequestError, match="messages: 3 given, at most 2"):
            await client.chat.completions.create(model="kaelum", messages=[*SAID, *SAID, *SAID])
        with pytest.raises(BadRequestError, match="n: 3 given, at most 2"):
            await client.chat.completions.create(model="kaelum", messages=SAID, n=3)


async def test_an_unknown_model_is_not_found(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(last_said))) as client:
        with pytest.raises(NotFoundError) as caught:
            await client.chat.completions.create(model="gpt-4o", messages=SAID)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_before_the_first_event_is_a_plain_error(kaelum: Kaelum, stream: bool) -> None:
    overflow = ContextOverflow(limit_tokens=10, prompt_tokens=20)
    async with openai_of(server_app(kaelum, Player(lambda ask, episode: [overflow]))) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(model="kaelum", messages=SAID, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert "This model's maximum context length is 10 tokens" in caught.value.message


async def test_what_fails_later_is_an_error_of_the_whole_reply(kaelum: Kaelum) -> None:
    broken = UpstreamError("the model server hung up")
    play = says("half")
    async with client_of(server_app(kaelum, Player(lambda ask, episode: [*play(ask, episode)[:2], broken]))) as client:
        reply = await client.post("/v1/chat/completions", json={"model": "kaelum", "messages": SAID})
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_error")


async def test_a_retry_is_marked_and_has_the_same_fingerprint(kaelum: Kaelum) -> None:
    key, other = key_of(kaelum, "a"), key_of(kaelum, "b")
    player = Player(last_said)
    app = server_app(kaelum, player)

    async def post(key: str, said: str = "hi", **headers: str) -> Ask:
        async with client_of(app, authorization=f"Bearer {key}", **headers) as client:
            body = {"model": "kaelum", "messages": [{"role": "user", "content": said}]}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        return player.asks[-1]

    first = await post(key)
    # The same request again, as a retry: it joins the run that was, so none is started for it.
    count = len(player.asks)
    assert await post(key, **{"x-stainless-retry-count": "1"}) is first
    assert len(player.asks) == count
    elsewhere, otherwise = await post(other), await post(key, "ho")
    keyed = await post(key, **{"idempotency-key": "one"})
    assert await post(key, **{"idempotency-key": "one"}) is keyed
    again = await post(key, **{"idempotency-key": "two"})
    assert not first.retry
    assert keyed.retry
    assert (elsewhere.caller.tenant, first.caller.tenant) == ("b", "a")
    prints = {ask.fingerprint for ask in (first, elsewhere, otherwise, keyed, again)}
    assert len(prints) == 5
    assert all(len(one) == 64 for one in prints)


async def test_models_can_be_listed(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(last_said))) as client:
        listed = [model async for model in client.models.list()]
        names = [model.id for model in listed]
        assert names[0] == "kaelum"
        assert {"kaelum-direct", "kaelum-math", "kaelum-code"} <= set(names)
        assert {model.owned_by for model in listed} == {"kaelum"}
        assert await client.models.retrieve("kaelum-math") in listed
        for unknown in ("gpt-4o", "org/model"):
            with pytest.raises(NotFoundError) as caught:
                await client.models.retrieve(unknown)
            assert caught.value.code == "model_not_found"
