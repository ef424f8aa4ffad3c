"""Streams of `/v1/chat/completions`: the chunks as they are on the wire, and as OpenAI's own client adds them up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from kaelum_adapters.openai_api import responses_flow
from kaelum_adapters.openai_api.exchange import Finished, Piece, Reply, Started, TokenLogprob
from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import ContextOverflow, ModelError, StorageError
from kaelum_graph.types import Json, ToolCall
from tests.adapters.responses_client import USAGE, Play, Player, fitting, openai_of, says, server_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

CHUNK: TypeAdapter[ChatCompletionChunk] = TypeAdapter(ChatCompletionChunk)
SAID: Any = [{"role": "user", "content": "hi"}]
WEATHER: Any = {"type": "function", "function": {"name": "weather"}}
LONG = json.dumps({"city": "x" * 200})
CALLS = (ToolCall("call_1", "weather", LONG), ToolCall("call_2", "weather", "{}"))


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("4"))


async def lines_of(kaelum: Kaelum, play: Play, **body: Any) -> list[str]:
    """What is on the wire, without the empty lines."""
    async with openai_of(server_app(kaelum, Player(play))) as client:
        return await wire(client, **body)


async def wire(client: AsyncOpenAI, **body: Any) -> list[str]:
    asked: Any = {"model": "kaelum", "messages": SAID, "stream": True, **body}
    async with client.chat.completions.with_streaming_response.create(**asked) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-cache", "no")
        return [line async for line in reply.iter_lines() if line]


def chunks_of(lines: list[str]) -> list[Json]:
    """The chunks of a stream that ends well, each checked against OpenAI's type."""
    assert lines[-1] == "data: [DONE]"
    chunks: list[Json] = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    for chunk in chunks:
        fitting(CHUNK, chunk)
        for choice in chunk["choices"]:
            assert {"index", "delta", "finish_reason", "logprobs"} == set(choice)
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    return chunks


def deltas(chunks: list[Json]) -> list[Json]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


async def test_the_chunks_of_a_search(kaelum: Kaelum) -> None:
    play = says("It is ", "4.", thoughts=["Routed.\n"])
    chunks = chunks_of(await lines_of(kaelum, play, stream_options={"include_usage": True}))
    assert chunks[0]["id"] == "chatcmpl-ep1"
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert deltas(chunks) == [
        {"role": "assistant", "content": None},
        {"reasoning_content": "Routed.\n"},
        {"content": "It is "},
        {"content": "4."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, None, "stop"]
    assert [chunk.get("kaelum") for chunk in chunks[-2:]] == [{"id": "ep1", "confidence": 0.9}, None]
    assert [chunk["usage"] is None for chunk in chunks] == [True] * 5 + [False]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 50


async def test_usage_comes_only_where_it_is_asked_for(kaelum: Kaelum) -> None:
    chunks = chunks_of(await lines_of(kaelum, says("4")))
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


async def test_obfuscation_makes_chunks_equally_long(kaelum: Kaelum) -> None:
    play = says("a", "a rather longer piece", "é" * 30)
    lines = await lines_of(kaelum, play, stream_options={"include_obfuscation": True})
    spoken = [chunk for chunk in chunks_of(lines) if chunk["choices"][0]["delta"].get("content")]
    assert len({len(json.dumps(chunk, ensure_ascii=False)) for chunk in spoken}) == 1
    assert all("obfuscation" not in chunk for chunk in chunks_of(await lines_of(kaelum, play)))


async def test_an_empty_answer_is_an_empty_text(kaelum: Kaelum) -> None:
    assert {"content": ""} in deltas(chunks_of(await lines_of(kaelum, says())))


async def test_calls_come_in_pieces_that_clients_add_up(kaelum: Kaelum) -> None:
    play = says(calls=CALLS, finish="tool_calls", thoughts=["Voting.\n"])
    lines = await lines_of(kaelum, play, tools=[WEATHER])
    told = [delta["tool_calls"][0] for delta in deltas(chunks_of(lines)) if "tool_calls" in delta]
    assert told[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": ""},
    }
    assert [one["index"] for one in told if "id" in one] == [0, 1]
    assert sum(one["index"] == 0 for one in told) > 3
    async with (
        openai_of(server_app(kaelum, Player(play))) as client,
        client.chat.completions.stream(model="kaelum", messages=SAID, tools=[WEATHER]) as stream,
    ):
        seen = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert seen.count("tool_calls.function.arguments.done") == 2
    (choice,) = final.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    calls = choice.message.tool_calls or ()
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        (call.id, call.name, call.arguments) for call in CALLS
    ]


async def test_choices_are_told_apart(kaelum: Kaelum) -> None:
    def play(ask: Any, episode: str) -> Any:
        started = says()(ask, episode)[0]
        replies = tuple(Reply(index=index, text=f"{index}!", finish="stop") for index in range(3))
        pieces = [Piece(text=text, index=index) for text in ("{}", "!") for index in range(3)]
        pieces = [Piece(text=piece.text.format(piece.index), index=piece.index) for piece in pieces]
        return [started, *pieces, Finished(id=episode, replies=replies, usage=USAGE, story={"id": "x"})]

    chunks = chunks_of(await lines_of(kaelum, play, n=3))
    texts, roles, ends = ["", "", ""], [0, 0, 0], [0, 0, 0]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
            roles[choice["index"]] += "role" in choice["delta"]
            ends[choice["index"]] += choice["finish_reason"] == "stop"
    assert (texts, roles, ends) == (["0!", "1!", "2!"], [1, 1, 1], [1, 1, 1])
    assert ["kaelum" in chunk for chunk in chunks].count(True) == 1


async def test_logprobs_come_with_the_end_of_a_choice(kaelum: Kaelum) -> None:
    tokens = (TokenLogprob(token="4", logprob=-0.5), TokenLogprob(token=".", logprob=-0.1))
    async with (
        openai_of(server_app(kaelum, Player(says("4", ".", logprobs=tokens)))) as client,
        client.chat.completions.stream(model="kaelum-direct", messages=SAID, logprobs=True) as stream,
    ):
        final = await stream.get_final_completion()
    told = final.choices[0].logprobs
    assert told is not None
    assert [one.token for one in told.content or ()] == ["4", "."]


async def test_an_error_on_the_way_ends_the_stream(kaelum: Kaelum) -> None:
    overflow = ContextOverflow(limit_tokens=10, prompt_tokens=20)

    def play(ask: Any, episode: str) -> Any:
        return [*says("half")(ask, episode)[:2], overflow]

    lines = await lines_of(kaelum, play)
    assert "data: [DONE]" not in lines
    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert (error["code"], error["type"], error["param"]) == (
        "context_length_exceeded",
        "invalid_request_error",
        "messages",
    )
    async with openai_of(server_app(kaelum, Player(play))) as client:
        stream = await client.chat.completions.create(model="kaelum", messages=SAID, stream=True)
        with pytest.raises(APIError, match="maximum context length"):
            _ = [chunk async for chunk in stream]


async def test_a_secret_of_ours_stays_out_of_the_stream(kaelum: Kaelum, caplog: pytest.LogCaptureFixture) -> None:
    def play(ask: Any, episode: str) -> Any:
        return [says()(ask, episode)[0], ValueError("/a/secret/path")]

    lines = await lines_of(kaelum, play)
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["message"] == "internal error"
    assert "secret" not in "".join(lines)
    assert "/a/secret/path" in caplog.text


async def test_what_an_error_quotes_is_told_and_not_logged(kaelum: Kaelum, caplog: pytest.LogCaptureFixture) -> None:
    error = ModelError("not in form: 'Ann Smith' is no integer.").quoting("'Ann Smith' is no integer")
    lines = await lines_of(kaelum, lambda ask, episode: [says()(ask, episode)[0], error])
    assert "Ann Smith" in lines[-1]
    assert "ModelError: not in form: …." in caplog.text
    assert "Ann Smith" not in caplog.text


async def test_a_run_without_an_end_is_an_error(kaelum: Kaelum) -> None:
    lines = await lines_of(kaelum, lambda ask, episode: [says()(ask, episode)[0]])
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "internal_error"


async def test_chunks_come_while_nothing_happens(kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_flow, "QUIET_SECONDS", 0.02)

    def play(ask: Any, episode: str) -> Any:
        started, *rest = says("4")(ask, episode)
        return [started, 0.3, *rest]

    chunks = chunks_of(await lines_of(kaelum, play))
    assert deltas(chunks)[1:-2].count({}) > 3
    assert deltas(chunks)[-2:] == [{"content": "4"}, {}]


async def test_a_client_that_leaves_ends_the_run_and_frees_its_place(kaelum: Kaelum) -> None:
    player = Player(lambda ask, episode: [*says("a")(ask, episode)[:2], 60.0])
    app = server_app(kaelum, player, max_running=1)
    async with openai_of(app) as client:
        reading = asyncio.create_task(wire(client))
        await asyncio.wait_for(player.began.wait(), 10)
        assert app.state.server.admission.running == 1
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(5):
            while not player.closed or app.state.server.admission.running:
                await asyncio.sleep(0.01)


class Shelf:
    """A store of completions that can be full."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Json, Json]] = []
        self.full = False

    def save(self, caller: Any, body: Json, reply: Json) -> None:
        if self.full:
            raise StorageError("the disk is full")
        self.kept.append((caller.tenant, body, reply))

    def close(self) -> None: ...


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_to_be_stored_is_stored_whole(
    kaelum: Kaelum, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    app = server_app(kaelum, Player(says("It is ", "4.", thoughts=["Routed.\n"])))
    shelf = Shelf()
    object.__setattr__(app.state.server, "completions", shelf)
    body: Any = {"model": "kaelum", "messages": SAID, "metadata": {"run": "7"}, "temperature": 0.5, "stream": stream}
    async with openai_of(app) as client:
        post = client._client.post
        await post("/v1/chat/completions", json={**body, "metadata": None})
        await post("/v1/chat/completions", json={**body, "metadata": None, "store": False})
        assert not shelf.kept
        whole = await post("/v1/chat/completions", json={**body, "store": True})
        shelf.full = True
        unkept = await post("/v1/chat/completions", json={**body, "store": True})
    ((tenant, asked, reply),) = shelf.kept
    assert (tenant, asked) == ("", {**body, "store": True})
    message = reply["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("It is 4.", "Routed.\n")
    assert reply["object"] == "chat.completion"
    if not stream:
        assert whole.json() == reply
        assert unkept.json()["kaelum"]["notices"] == ["the completion is not stored: the disk is full"]
    else:
        assert "the completion is not stored: the disk is full" in unkept.text
        assert unkept.text.rstrip().endswith("data: [DONE]")


async def test_the_first_chunk_does_not_wait_for_the_second(kaelum: Kaelum) -> None:
    started = Started(id="ep", created=1, model="kaelum", system_fingerprint="s")
    player = Player(lambda ask, episode: [started, 60.0])
    app = server_app(kaelum, player)
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    given = asyncio.Queue[Any]()
    body = json.dumps({"model": "kaelum", "messages": SAID, "stream": True}).encode()
    given.put_nowait({"type": "http.request", "body": body})
    scope: Any = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    serving = asyncio.create_task(app(scope, given.get, send))
    async with asyncio.timeout(10):
        while not any(b'"role":"assistant"' in body for body in sent):
            await asyncio.sleep(0.01)
    given.put_nowait({"type": "http.disconnect"})
    async with asyncio.timeout(10):
        await asyncio.gather(serving, return_exceptions=True)
    assert player.closed == 1
