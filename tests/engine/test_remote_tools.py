"""Tools, shapes and penalties on an OpenAI-compatible server: what is sent, what is read, what is never dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kaelum_graph.errors import KaelumError, UpstreamError, UsageError
from kaelum_graph.models.base import Delta, GenerationRequest, Sample, Sampling
from kaelum_graph.models.openai_server import OpenAIPolicyModel
from kaelum_graph.models.upstream_errors import RefusedRequest
from kaelum_graph.types import Json, Message, Shape, Tool, ToolCall, ToolChoice
from tests.engine.fake_openai_server import MODEL, FakeServer

WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}}, strict=True)
PING = Tool(name="ping")
REQUIRED = ToolChoice(mode="required")


@pytest.fixture(scope="module")
def running_server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(running_server: FakeServer) -> FakeServer:
    running_server.behave()
    return running_server


@pytest.fixture
def model(server: FakeServer) -> Iterator[OpenAIPolicyModel]:
    """A model on the server, with little patience."""
    with OpenAIPolicyModel(
        server.url, model=MODEL, timeout_seconds=3.0, stall_seconds=1.0, backoff_seconds=0.01
    ) as made:
        yield made


def ask(*, sampling: Json | None = None, **fields: Any) -> GenerationRequest:
    fields = {"messages": (Message("user", "Please say 5"),)} | fields
    return GenerationRequest(sampling=Sampling(**(sampling or {})), **fields)


def chunk(finish: str | None = None, *, index: int = 0, **delta: Any) -> Json:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def call_chunk(index: int | None, *, id: str | None = None, name: str | None = None, arguments: str = "") -> Json:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    call: Json = {"type": "function", "function": function} | ({"id": id} if id else {})
    return call if index is None else call | {"index": index}


def streams(server: FakeServer, *events: Json, done: bool = True) -> None:
    lines = [f"data: {json.dumps({'model': MODEL, **event})}\n\n" for event in events]
    content = "".join(lines) + ("data: [DONE]\n\n" if done else "")
    server.behave(answer=("text/event-stream", content.encode()))


def only(model: OpenAIPolicyModel, request: GenerationRequest) -> Sample:
    (generation,) = model.generate([request])
    assert generation.error is None
    (sample,) = generation.samples
    return sample


def error_of(model: OpenAIPolicyModel, request: GenerationRequest) -> KaelumError:
    (generation,) = model.generate([request])
    assert generation.error is not None
    assert "\n" not in str(generation.error)
    return generation.error


def made(sample: Sample) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in sample.calls]


# What is sent -------------------------------------------------------------------------------------------------------


def test_everything_is_sent_in_the_apis_own_form(model: OpenAIPolicyModel, server: FakeServer) -> None:
    only(
        model,
        ask(
            tools=(WEATHER, PING),
            tool_choice=ToolChoice(parallel=False),
            sampling={
                "frequency_penalty": 0.5,
                "presence_penalty": -0.5,
                "logit_bias": ((7, -100.0),),
                "top_logprobs": 3,
                "logprobs": False,
            },
        ),
    )
    body = server.seen.bodies[-1]
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather", "ping"]
    assert body["tools"][0]["function"]["parameters"] == WEATHER.parameters
    assert [tool["function"].get("strict") for tool in body["tools"]] == [True, None]
    assert body["parallel_tool_calls"] is False
    assert "tool_choice" not in body
    assert (body["frequency_penalty"], body["presence_penalty"], body["logit_bias"]) == (0.5, -0.5, {"7": -100.0})
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


def test_choices_and_shapes_are_sent(model: OpenAIPolicyModel, server: FakeServer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    requests = [
        ask(tools=(PING,), tool_choice=REQUIRED, sampling={"stop": ("x",)}),
        ask(tools=(PING, WEATHER), tool_choice=ToolChoice(name="weather")),
        ask(tools=(PING,), tool_choice=ToolChoice(mode="none")),
        ask(shape=Shape(kind="json_object")),
        ask(shape=Shape(kind="json_schema", name="thing", schema=schema, strict=True)),
    ]
    for request in requests:
        model.generate([request])
    required, named, none, anything, exact = server.seen.bodies[-5:]
    assert required["tool_choice"] == "required"
    assert "stop" not in required
    assert named["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert {"tools", "tool_choice", "response_format"}.isdisjoint(none)
    assert anything["response_format"] == {"type": "json_object"}
    assert exact["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "thing", "schema": schema, "strict": True},
    }


def test_calls_and_results_are_messages_of_their_own(model: OpenAIPolicyModel, server: FakeServer) -> None:
    messages = (
        Message("user", "Weather?"),
        Message("assistant", "", (ToolCall("c1", "weather", '{"city": "Rome"}'),)),
        Message("tool", "", call_id="c1"),
        Message("tool", "nobody asked", call_id="c9"),
    )
    only(model, ask(messages=messages, tools=(WEATHER,)))
    _, called, result, stray = server.seen.bodies[-1]["messages"]
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert called["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": ""}
    assert stray == {"role": "user", "content": "Tool result:\nnobody asked"}


# What is read -------------------------------------------------------------------------------------------------------


def test_streamed_calls_are_put_together(model: OpenAIPolicyModel, server: FakeServer) -> None:
    streams(
        server,
        chunk(role="assistant", content="Let me see."),
        chunk(tool_calls=[call_chunk(0, id="a", name="weather", arguments='{"ci')]),
        chunk(tool_calls=[call_chunk(0, arguments='ty": "Rome"}')]),
        chunk(tool_calls=[call_chunk(1, id="b", name="ping")]),
        chunk("tool_calls"),
    )
    deltas: list[Delta] = []
    (generation,) = model.generate([ask(tools=(WEATHER, PING))], on_delta=deltas.append)
    (sample,) = generation.samples
    assert [(call.id, call.name, call.arguments) for call in sample.calls] == [
        ("a", "weather", '{"city": "Rome"}'),
        ("b", "ping", "{}"),
    ]
    assert (sample.text, sample.finish) == ("Let me see.", "stop")
    assert "".join(delta.text for delta in deltas) == "Let me see."
    assert made(only(model, ask(tools=(WEATHER, PING), tool_choice=ToolChoice(parallel=False)))) == made(sample)[:1]


def test_calls_that_are_all_numbered_nought_are_told_apart_by_id(model: OpenAIPolicyModel, server: FakeServer) -> None:
    calls = [call_chunk(0, id=name, name="ping", arguments="{}") for name in "ab"]
    streams(server, chunk(tool_calls=calls[:1]), chunk(tool_calls=calls[1:]), chunk("stop"))
    assert [call.id for call in only(model, ask(tools=(PING,))).calls] == ["a", "b"]


def test_a_server_that_does_not_stream_is_read_too(model: OpenAIPolicyModel, server: FakeServer) -> None:
    calls = [
        call_chunk(None, id="a", name="ping"),
        {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body = {"model": MODEL, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    server.behave(answer=("application/json", json.dumps(body).encode()))
    sample = only(model, ask(tools=(PING, WEATHER)))
    assert made(sample) == [("ping", "{}"), ("weather", '{"city": "Rome"}')]
    assert sample.calls[1].id.startswith("call_")


def test_calls_that_a_server_passes_on_as_text_are_read(model: OpenAIPolicyModel, server: FakeServer) -> None:
    streams(
        server,
        chunk(content="Yes.\n<tool_"),
        chunk(content='call>\n{"name": "ping", "arguments": {}}'),
        chunk(content="\n</tool_call>"),
        chunk("stop"),
    )
    deltas: list[Delta] = []
    (generation,) = model.generate([ask(tools=(PING,))], on_delta=deltas.append)
    assert made(generation.samples[0]) == [("ping", "{}")]
    assert generation.samples[0].text == "".join(delta.text for delta in deltas) == "Yes."


@pytest.mark.parametrize(
    "call",
    [call_chunk(0, name="unknown", arguments="{}"), call_chunk(0, name="ping", arguments='{"a')],
    ids=["unknown", "cut"],
)
def test_what_is_no_call_is_shown_as_text(model: OpenAIPolicyModel, server: FakeServer, call: Json) -> None:
    streams(server, chunk(tool_calls=[call]), chunk("length"))
    sample = only(model, ask(tools=(PING,)))
    assert (sample.calls, sample.finish) == ((), "length")
    assert sample.text.startswith("<tool_call>")


def test_alternatives_are_read(model: OpenAIPolicyModel, server: FakeServer) -> None:
    top = [{"token": "no", "logprob": -2.0}, {"token": "hi", "logprob": -0.5}, {"token": "x", "logprob": -9.0}]
    event = chunk(content="hi")
    event["choices"][0]["logprobs"] = {"content": [{"token": "hi", "logprob": -0.5, "top_logprobs": top}]}
    streams(server, event, chunk("stop"))
    sample = only(model, ask(sampling={"top_logprobs": 2, "logprobs": False}))
    assert sample.alternatives == ((("hi", -0.5), ("no", -2.0)),)
    assert sample.token_logprobs is None
    assert only(model, ask()).alternatives is None


def test_a_stream_cut_inside_a_call_is_asked_for_again(model: OpenAIPolicyModel, server: FakeServer) -> None:
    streams(server, chunk(tool_calls=[call_chunk(0, name="ping", arguments="{")]), done=False)
    assert isinstance(error_of(model, ask(tools=(PING,))), UpstreamError)
    assert len(server.seen.bodies) == 2


def test_an_error_in_the_stream_is_still_an_error(model: OpenAIPolicyModel, server: FakeServer) -> None:
    streams(server, chunk(tool_calls=[call_chunk(0, name="ping")]), {"error": {"message": "out of memory"}})
    assert "out of memory" in str(error_of(model, ask(tools=(PING,))))


# What is never dropped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tools", {"tools": (PING,)}),
        ("tool_choice", {"tools": (PING,), "tool_choice": REQUIRED}),
        ("response_format", {"shape": Shape(kind="json_object")}),
        ("frequency_penalty", {"sampling": {"frequency_penalty": 1.0}}),
        ("presence_penalty", {"sampling": {"presence_penalty": 1.0}}),
        ("logit_bias", {"sampling": {"logit_bias": ((1, 1.0),)}}),
    ],
)
def test_a_refusal_of_what_matters_is_an_error(
    model: OpenAIPolicyModel, server: FakeServer, name: str, fields: Json
) -> None:
    server.behave(refuses=frozenset({name}))
    error = error_of(model, ask(**fields))
    assert isinstance(error, RefusedRequest)
    assert f"does not accept {name}" in str(error)
    assert name in server.seen.bodies[-1]
    assert len(server.seen.bodies) == 1
    error_of(model, ask(**fields))
    assert name in server.seen.bodies[-1]
    assert only(model, ask()).text
    assert model.capabilities.tools is (name != "tools")
    assert model.capabilities.shapes is (name != "response_format")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("parallel_tool_calls", {"tools": (PING,), "tool_choice": ToolChoice(parallel=False)}),
        ("top_logprobs", {"sampling": {"top_logprobs": 2}}),
    ],
)
def test_what_can_be_done_without_is_left_out(
    model: OpenAIPolicyModel, server: FakeServer, name: str, fields: Json
) -> None:
    server.behave(refuses=frozenset({name}))
    assert only(model, ask(**fields)).text
    assert name not in server.seen.bodies[-1]


def test_a_vague_refusal_keeps_its_words(model: OpenAIPolicyModel, server: FakeServer) -> None:
    message = '"auto" tool choice requires --enable-auto-tool-choice to be set'
    server.behave(failures=[(400, {}, {"error": {"message": message}})])
    assert message in str(error_of(model, ask(tools=(PING,))))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": (PING,), "tool_choice": REQUIRED}, "called none"),
        ({"shape": Shape(kind="json_object")}, "answer in JSON"),
    ],
)
def test_a_server_that_ignores_a_promise_is_found_out(
    model: OpenAIPolicyModel, server: FakeServer, fields: Json, reason: str
) -> None:
    assert reason in str(error_of(model, ask(**fields)))
    streams(server, chunk(content='{"a": 1}'), chunk("stop"))
    if "shape" in fields:
        assert json.loads(only(model, ask(**fields)).text) == {"a": 1}


def test_what_makes_no_sense_is_not_even_sent(model: OpenAIPolicyModel, server: FakeServer) -> None:
    senseless: list[Json] = [{"tool_choice": REQUIRED}, {"shape": Shape(kind="json_schema")}, {"tools": (PING, PING)}]
    for fields in senseless:
        assert isinstance(error_of(model, ask(**fields)), UsageError)
    assert server.seen.bodies == []
