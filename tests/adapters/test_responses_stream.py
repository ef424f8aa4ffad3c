"""Streamed responses: the order of events, what OpenAI's strict client makes of them, failures, and leaving early."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import FastAPI
from openai import APIError, RateLimitError, pydantic_function_tool
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

from kaelum_adapters.openai_api import responses_flow
from kaelum_adapters.openai_api.errors import ApiError
from kaelum_adapters.openai_api.exchange import Ask, Piece, RunEvent, Started, Thought, TokenLogprob
from kaelum_adapters.openai_api.responses_events import ResponseEvents
from kaelum_adapters.openai_api.responses_reply import Draft
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import UpstreamError
from kaelum_graph.types import Json, ToolCall
from tests.adapters.responses_client import Player, last_said, openai_of, raw_events, says, server_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

CALL = ToolCall("call_1", "Weather", '{"city": "Rome"}')


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


class Weather(BaseModel):
    """Today's weather."""

    city: str


def kinds(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


async def test_an_answer_streams_in_the_order_of_openais_events(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says("It is ", "4.", thoughts=["a", "b"])))) as client:
        events = await raw_events(client, model="kaelum", input="2+2?")
        kept = await client.responses.retrieve("resp_ep1")
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "in_progress",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    responses = [event["response"] for event in events if "response" in event]
    assert {response["id"] for response in responses} == {"resp_ep1"}
    assert [response["status"] for response in responses] == ["in_progress"] * 3 + ["completed"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert responses[-1]["output"] == done
    assert done[0]["summary"] == []
    assert responses[2]["kaelum"] == {"progress": "a"}
    assert [event["output_index"] for event in events if "output_index" in event] == [0] * 2 + [1] * 7
    assert responses[-1]["usage"]["total_tokens"] == 160
    assert responses[-1] == kept.to_dict()


async def test_a_summary_that_was_asked_for_streams(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says("4", thoughts=["a", "b"])))) as client:
        events = await raw_events(client, model="kaelum", input="x", reasoning={"summary": "detailed"})
    assert kinds(events)[2:9] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert events[6]["text"] == "ab"
    assert events[8]["item"]["summary"] == [{"type": "summary_text", "text": "ab"}]


def test_a_search_without_a_summary_says_now_and_then_that_it_is_at_work() -> None:
    clock = [0.0]
    draft = Draft(id="resp_1", created=0, model="kaelum", echo={})
    events = ResponseEvents(draft, now=lambda: clock[0])
    told: list[str] = []
    for text, clock[0] in (("a", 10.0), ("b", 14.9), ("c", 15.0), ("d", 19.0)):
        told += [
            event["response"]["kaelum"]["progress"]
            for event in events.feed(Thought(text=text))
            if event["type"] == "response.in_progress"
        ]
    assert told == ["a", "c"]


async def test_openais_strict_client_accepts_text(kaelum: Kaelum) -> None:
    player = Player(says("It is ", "4.", thoughts=["a"]))
    async with (
        openai_of(server_app(kaelum, player)) as client,
        client.responses.stream(model="kaelum", input="2+2?") as stream,
    ):
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        response = await stream.get_final_response()
    assert snapshots == ["It is ", "It is 4."]
    assert (response.status, response.output_text) == ("completed", "It is 4.")


async def test_openais_strict_client_parses_a_structured_answer(kaelum: Kaelum) -> None:
    player = Player(says('{"city": ', '"Rome"}'))
    async with (
        openai_of(server_app(kaelum, player)) as client,
        client.responses.stream(model="kaelum", input="Where?", text_format=Weather) as stream,
    ):
        response = await stream.get_final_response()
    assert response.output_parsed == Weather(city="Rome")


async def test_openais_strict_client_parses_tool_calls(kaelum: Kaelum) -> None:
    other = ToolCall("call_2", "Weather", '{"city": "Oslo"}')
    player = Player(says(calls=(CALL, other), finish="tool_calls", thoughts=["a"]))
    tool: Any = {"type": "function", **pydantic_function_tool(Weather)["function"]}
    async with (
        openai_of(server_app(kaelum, player)) as client,
        client.responses.stream(model="kaelum", input="Warm?", tools=[tool]) as stream,
    ):
        events = [event async for event in stream]
        response = await stream.get_final_response()
    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    assert [event.snapshot for event in deltas] == [CALL.arguments, other.arguments]
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    assert [call.call_id for call in calls] == ["call_1", "call_2"]
    assert len({call.id for call in calls}) == 2
    assert [item.type for item in response.output] == ["reasoning", "function_call", "function_call"]


async def test_text_beside_calls_is_a_message_before_them(kaelum: Kaelum) -> None:
    player = Player(says("Let me look.", calls=(CALL,), finish="tool_calls"))
    async with openai_of(server_app(kaelum, player)) as client:
        events = await raw_events(client, model="kaelum", input="x")
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call"]
    assert output[0]["content"][0]["text"] == "Let me look."


async def test_an_answer_that_came_without_pieces_streams_too(kaelum: Kaelum) -> None:
    def play(ask: Any, episode: str) -> list[Any]:
        return [step for step in says("4", calls=())(ask, episode) if not isinstance(step, Piece)]

    async with openai_of(server_app(kaelum, Player(play))) as client:
        events = await raw_events(client, model="kaelum", input="x")
    assert [event["delta"] for event in events if event["type"] == "response.output_text.delta"] == ["4"]


async def test_an_empty_answer_is_an_empty_message(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says()))) as client:
        events = await raw_events(client, model="kaelum", input="x")
    assert kinds(events)[-1] == "completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


async def test_logprobs_come_with_the_whole_text(kaelum: Kaelum) -> None:
    player = Player(says("4", logprobs=(TokenLogprob(token="4", logprob=-0.1),)))
    async with openai_of(server_app(kaelum, player)) as client:
        events = await raw_events(client, model="kaelum", input="x", include=["message.output_text.logprobs"])
    done = next(event for event in events if event["type"] == "response.output_text.done")
    assert [entry["token"] for entry in done["logprobs"]] == ["4"]


async def test_a_cut_answer_ends_incomplete(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, Player(says("It is", finish="length")))) as client:
        events = await raw_events(client, model="kaelum", input="x")
    assert kinds(events)[-1] == "incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_obfuscation_evens_out_the_sizes(kaelum: Kaelum) -> None:
    player = Player(says("a", "a much longer piece of text"))
    async with openai_of(server_app(kaelum, player)) as client:
        events = await raw_events(client, model="kaelum", input="x", stream_options={"include_obfuscation": True})
        plain = await raw_events(client, model="kaelum", input="x")
    padded = [event for event in events if "obfuscation" in event]
    assert [event["type"] for event in padded] == ["response.output_text.delta"] * 2
    assert {len(event["delta"] + event["obfuscation"]) for event in padded} == {64}
    assert not any("obfuscation" in event for event in plain)


def broken(error: Exception) -> Player:
    """A run that breaks after half an answer."""
    return Player(
        lambda ask, episode: [
            Started(id=episode, created=1, model=ask.model, system_fingerprint="s"),
            Thought(text="a"),
            Piece(text="It"),
            error,
        ]
    )


async def test_a_failure_on_the_way_ends_the_stream_as_failed(kaelum: Kaelum) -> None:
    app = server_app(kaelum, broken(UpstreamError("the model server is gone")))
    async with openai_of(app) as client:
        events = await raw_events(client, model="kaelum", input="x")
        kept = await client.responses.retrieve("resp_ep1")
        with pytest.raises(APIError, match="failed, so there is nothing"):
            await client.responses.create(model="kaelum", input="y", previous_response_id="resp_ep1")
    assert kinds(events)[-3:] == ["output_item.done", "error", "failed"]
    error, failed = events[-2], events[-1]["response"]
    assert error["message"] == error["error"]["message"] == "the model server is gone"
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert [item["status"] for item in failed["output"]] == ["completed", "incomplete"]
    assert failed["output"][1]["content"][0]["text"] == "It"
    assert kept.to_dict() == failed
    assert app.state.server.admission.running == 0


async def test_openais_client_raises_what_failed_on_the_way(kaelum: Kaelum) -> None:
    async with openai_of(server_app(kaelum, broken(UpstreamError("the model server is gone")))) as client:
        with pytest.raises(APIError, match="the model server is gone"):
            async with client.responses.stream(model="kaelum", input="x") as stream:
                await stream.get_final_response()


async def test_the_reason_of_a_bug_stays_in_the_log(kaelum: Kaelum, caplog: pytest.LogCaptureFixture) -> None:
    async with openai_of(server_app(kaelum, broken(ValueError("a secret path")))) as client:
        events = await raw_events(client, model="kaelum", input="x")
    assert "secret" not in json.dumps(events)
    assert "a secret path" in caplog.text


async def test_a_failure_before_the_run_begins_is_a_plain_error_response(kaelum: Kaelum) -> None:
    app = server_app(kaelum, Player(lambda ask, episode: [ApiError(429, "later")]))
    async with openai_of(app) as client:
        with pytest.raises(RateLimitError, match="later"):
            await client.responses.create(model="kaelum", input="x", stream=True)
    assert app.state.server.admission.running == 0


async def test_a_long_silence_is_filled(kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    def play(ask: Any, episode: str) -> list[Any]:
        started, *rest = says("4")(ask, episode)
        return [started, 0.2, *rest]

    monkeypatch.setattr(responses_flow, "QUIET_SECONDS", 0.05)
    async with openai_of(server_app(kaelum, Player(play))) as client:
        async with client.responses.with_streaming_response.create(model="kaelum", input="x", stream=True) as reply:
            body = await reply.text()
        stream = await client.responses.create(model="kaelum", input="x", stream=True)
        events = [event.type async for event in stream]
    assert body.count(": still at work\n\n") >= 2
    assert events[-1] == "response.completed"


async def left_after(app: FastAPI, player: Player, *, stream: bool) -> list[Json]:
    """The messages that the application sends to a client that leaves while the run is at work."""
    body = json.dumps({"model": "kaelum", "input": "x", "stream": stream}).encode()
    sent: list[Any] = []
    asked = False

    async def receive() -> Any:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}
        await player.began.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/responses",
        "raw_path": b"/v1/responses",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_ends_the_run_at_once(kaelum: Kaelum, stream: bool) -> None:
    player = Player(lambda ask, episode: [*says("4", thoughts=["a"])(ask, episode)[:2], 60.0])
    app = server_app(kaelum, player)
    async with asyncio.timeout(5):
        sent = await left_after(app, player, stream=stream)
    assert player.closed == 1
    assert app.state.server.admission.running == 0
    assert any(b"response.created" in message.get("body", b"") for message in sent) is stream
    async with openai_of(app) as client:
        player.play = last_said
        assert (await client.responses.create(model="kaelum", input="next")).output_text == "1: next"


async def test_a_run_cancelled_from_within_is_a_failure_not_a_hang(
    kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cancelled(Player):
        async def run(self, ask: Ask) -> AsyncGenerator[RunEvent]:
            async for event in super().run(ask):
                yield event
                if isinstance(event, Started):
                    raise asyncio.CancelledError

    monkeypatch.setattr(responses_flow, "QUIET_SECONDS", 0.05)
    async with openai_of(server_app(kaelum, Cancelled(last_said))) as client:
        async with asyncio.timeout(5):
            events = await raw_events(client, model="kaelum", input="x")
    assert kinds(events)[-2:] == ["error", "failed"]
