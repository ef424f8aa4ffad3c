"""`/v1/chat/completions` as the openai client sees it, over a search with a scripted model."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from kaelum_adapters.openai_api.app import create_app
from kaelum_adapters.openai_api.options import ServerOptions
from kaelum_flow.facade import Kaelum
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import ToolCall
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Said

QUESTION = "What is 2 + 2?"
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Sum(BaseModel):
    """A structured answer."""

    result: int


def script(request: GenerationRequest, k: int) -> Said:
    if request.shape is not None:
        return '{"result": 4}'
    if request.tools and request.tool_choice.mode != "none" and request.messages[-1].role != "tool":
        call = ToolCall(f"call_{k}", "get_weather", '{"city": "Oslo"}')
        return "", (call,)
    return "2 + 2 = 4\n\\boxed{4}"


Connect = Callable[..., Any]


@pytest.fixture
def connect(make_kaelum: MakeKaelum) -> Connect:
    @asynccontextmanager
    async def connected(
        answers: Any = script, *, options: ServerOptions | None = None, **settings: Any
    ) -> AsyncGenerator[tuple[openai.AsyncOpenAI, Kaelum]]:
        kaelum = make_kaelum(answers, **settings)
        app = create_app(kaelum, options)
        async with app.router.lifespan_context(app):
            http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), timeout=60)
            async with openai.AsyncOpenAI(
                base_url="http://test/v1", api_key="unused", http_client=http, max_retries=0
            ) as client:
                yield client, kaelum

    return connected


async def test_a_completion_tells_its_story_and_its_id_is_the_handle_for_feedback(connect: Connect) -> None:
    async with connect() as (client, kaelum):
        version = kaelum.state_version
        reply = await client.chat.completions.create(model="kaelum", messages=ASKED)
        assert reply.choices[0].message.content == "2 + 2 = 4\n\\boxed{4}"
        assert reply.choices[0].finish_reason == "stop"
        assert reply.choices[0].message.refusal is None
        story = reply.model_extra["kaelum"]
        assert story["answer"] == "4"
        assert story["status"] == "verified"
        assert story["cache"] == "miss"
        assert story["stop_reason"] == "verified"
        assert reply.id == f"chatcmpl-{story['id']}"
        assert reply.system_fingerprint == version
        assert "Routed to" in reply.choices[0].message.model_extra["reasoning_content"]
        usage = reply.usage
        assert usage.completion_tokens == story["cost"]["completion_tokens"]
        assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert kaelum.feedback(story["id"], score=1.0)


async def test_an_answer_from_the_cache_is_a_completion_of_its_own(connect: Connect) -> None:
    async with connect() as (client, _):
        first = await client.chat.completions.create(model="kaelum", messages=ASKED)
        second = await client.chat.completions.create(model="kaelum", messages=ASKED)
        assert second.id != first.id
        assert second.model_extra["kaelum"]["id"] == first.model_extra["kaelum"]["id"]
        assert second.model_extra["kaelum"]["cache"] == "hit"
        assert second.choices[0].message.content == first.choices[0].message.content


async def test_parts_of_a_turn_are_not_glued(connect: Connect) -> None:
    texts = [{"type": "text", "text": text} for text in ("Let x = 1", "2 + x?", "Be brief.\n", "Please.")]
    seen: list[str] = []

    def plain(request: GenerationRequest, _: int) -> str:
        seen.append(request.messages[-1].content)
        return "Fifteen."

    async with connect(plain) as (client, _):
        turns: Any = [{"role": "user", "content": texts}]
        await client.chat.completions.create(model="kaelum-direct", messages=turns)
        parts: Any = [{"type": "input_text", "text": part["text"]} for part in texts]
        await client.responses.create(model="kaelum-direct", input=[{"role": "user", "content": parts}])
    expected = "Let x = 1\n2 + x?\nBe brief.\nPlease."
    assert seen == [expected, expected]


async def test_a_stream_thinks_first_then_speaks_then_counts(connect: Connect) -> None:
    async with connect() as (client, _):
        stream = await client.chat.completions.create(
            model="kaelum", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert len({chunk.id for chunk in chunks}) == 1
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert deltas[0].role == "assistant"
        assert all(delta.role is None for delta in deltas[1:])
        thoughts = [delta.model_extra.get("reasoning_content") for delta in deltas]
        spoken = [delta.content for delta in deltas]
        assert "".join(text or "" for text in spoken) == "2 + 2 = 4\n\\boxed{4}"
        assert max(at for at, text in enumerate(thoughts) if text) < min(at for at, text in enumerate(spoken) if text)
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens > 0
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
        assert chunks[-2].model_extra["kaelum"]["answer"] == "4"


async def test_a_structured_answer_parses(connect: Connect) -> None:
    async with connect() as (client, _):
        reply = await client.chat.completions.parse(model="kaelum", messages=ASKED, response_format=Sum)
        assert reply.choices[0].message.parsed == Sum(result=4)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["kaelum", "kaelum-direct"])
async def test_a_tool_loop(connect: Connect, model: str, streamed: bool) -> None:
    async with connect() as (client, _):
        asked: Any = {"model": model, "messages": [*ASKED], "tools": [WEATHER]}
        if streamed:
            async with client.chat.completions.stream(**asked) as events:
                first = await events.get_final_completion()
        else:
            first = await client.chat.completions.create(**asked)
        (choice,) = first.choices
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Oslo"}
        assert not choice.message.content
        answer = choice.message.model_dump(exclude_none=True)
        answer.pop("parsed", None)
        for each in answer["tool_calls"]:
            each["function"].pop("parsed_arguments", None)
        asked["messages"] += [answer, {"role": "tool", "tool_call_id": call.id, "content": "snow"}]
        second = await client.chat.completions.create(**asked)
        assert second.choices[0].finish_reason == "stop"
        assert "4" in second.choices[0].message.content


async def test_n_choices_are_n(connect: Connect) -> None:
    def many(request: GenerationRequest, k: int) -> str:
        return f"\\boxed{{{30 + k % 3}}}"

    async with connect(many, cache=False) as (client, _):
        reply = await client.chat.completions.create(
            model="kaelum-math", messages=[{"role": "user", "content": "Pick a number."}], n=4
        )
        assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
        assert len({choice.message.content for choice in reply.choices}) == 3
        stream = await client.chat.completions.create(
            model="kaelum-math", messages=[{"role": "user", "content": "Pick a number."}], n=4, stream=True
        )
        texts: dict[int, str] = {}
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        assert sorted(texts) == [0, 1, 2, 3]
        assert all(re.fullmatch(r"\\boxed\{3[012]\}", text) for text in texts.values())


async def test_no_two_choices_have_calls_of_the_same_id(connect: Connect) -> None:
    async with connect() as (client, _):
        reply = await client.chat.completions.create(model="kaelum", messages=ASKED, tools=[WEATHER], n=3)
        calls = [choice.message.tool_calls[0] for choice in reply.choices]
        assert len({call.id for call in calls}) == 3
        assert {call.function.arguments for call in calls} == {'{"city": "Oslo"}'}


async def test_stop_strings_cut_the_answer_in_both_forms(connect: Connect) -> None:
    async with connect() as (client, _):
        reply = await client.chat.completions.create(model="kaelum", messages=ASKED, stop=["= 4"])
        assert reply.choices[0].message.content == "2 + 2 "
        stream = await client.chat.completions.create(model="kaelum", messages=ASKED, stop="= 4", stream=True)
        spoken = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(spoken) == "2 + 2 "


async def test_the_plain_model_gets_the_conversation_as_it_is(connect: Connect) -> None:
    seen: list[GenerationRequest] = []

    def plain(request: GenerationRequest, k: int) -> str:
        seen.append(request)
        return "Four."

    async with connect(plain) as (client, _):
        reply = await client.chat.completions.create(
            model="kaelum-direct",
            messages=[{"role": "developer", "content": "Be short."}, *ASKED],
            temperature=0.25,
            top_p=0.5,
            seed=7,
            max_completion_tokens=11,
            stop=["\n"],
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            logit_bias={"42": 1.5},
            logprobs=True,
            top_logprobs=2,
        )
        (request,) = seen
        assert [(turn.role, turn.content) for turn in request.messages] == [("system", "Be short."), ("user", QUESTION)]
        sampling = request.sampling
        assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_tokens) == (0.25, 0.5, 7, 11)
        assert (sampling.stop, sampling.top_logprobs) == (("\n",), 2)
        assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, -0.5)
        assert sampling.logit_bias == ((42, 1.5),)
        assert reply.choices[0].message.content == "Four."
        assert reply.choices[0].logprobs.content[0].token == "Four."
        assert reply.usage.completion_tokens_details.reasoning_tokens == 0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "gpt-4o"}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages.0"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages.0.content.0.type"),
    ({"messages": [*ASKED, {"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages.1.tool_call_id"),
    ({"messages": [*ASKED, {"role": "assistant", "content": "y"}]}, "messages"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"n": 99}, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"presence_penalty": 1.0}, "presence_penalty"),
    ({"logit_bias": {"1": 2}}, "logit_bias"),
    ({"logit_bias": {"the": 2}}, "logit_bias"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [WEATHER, WEATHER]}, "tools.1.function.name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice.name"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"metadata": {"a": "b"}}, "metadata"),
    ({"top_k": 3}, "top_k"),
    ({"kaelum": {"simz": 3}}, "kaelum.simz"),
    ({"kaelum": {"sims": 0}}, "kaelum.sims"),
    ({"kaelum": {"deadline_ms": "soon"}}, "kaelum.deadline_ms"),
    ({"model": "kaelum-math", "kaelum": {"worker": "code"}}, "kaelum.worker"),
    ({"model": "kaelum-direct", "reasoning_effort": "high"}, "reasoning_effort"),
    ({"model": "kaelum-direct", "kaelum": {"sims": 4}}, "kaelum.sims"),
]  # fmt: skip


async def test_what_cannot_be_honoured_is_refused_by_name(connect: Connect) -> None:
    async with connect() as (client, _):
        for wrong, param in REFUSED:
            await check_refusal(client, wrong, param)


async def check_refusal(client: openai.AsyncOpenAI, wrong: dict[str, Any], param: str) -> None:
    body = {"model": "kaelum", "messages": ASKED, **wrong}
    reply = await client._client.post("http://test/v1/chat/completions", json=body)
    assert reply.status_code == (404 if "gpt" in str(wrong) else 400), reply.text
    error = reply.json()["error"]
    assert (error["param"] or "").startswith(param), error
    assert error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert reply.headers["x-should-retry"] == "false"


async def test_effort_and_options_reach_the_search(connect: Connect) -> None:
    async with connect(cache=False) as (client, kaelum):
        for more, rollouts in (({"reasoning_effort": "none"}, 1), ({"extra_body": {"kaelum": {"sims": 3}}}, 3)):
            reply = await client.chat.completions.create(
                model="kaelum-creative", messages=[{"role": "user", "content": "Write a line."}], **more
            )
            story = reply.model_extra["kaelum"]
            assert story["worker"] == "creative"
            assert story["cost"]["rollouts"] <= rollouts
        record = kaelum.services.storage.episode(story["id"])
        assert record["options"]["sims"] == 3


async def test_a_client_that_leaves_stops_the_search(make_kaelum: MakeKaelum) -> None:
    waves = 0

    def slow(request: GenerationRequest, k: int) -> str:
        nonlocal waves
        waves += 1
        return f"\\boxed{{{k}}}"

    kaelum = make_kaelum(slow, cache=False, seconds=0.3)
    app = create_app(kaelum)
    async with app.router.lifespan_context(app):
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), timeout=60)
        async with openai.AsyncOpenAI(base_url="http://test/v1", api_key="x", http_client=http) as client:
            asking = asyncio.create_task(
                client.chat.completions.create(
                    model="kaelum-math",
                    messages=[{"role": "user", "content": "Pick a number."}],
                    extra_body={"kaelum": {"sims": 200, "wave_size": 4, "early_stop": False}},
                )
            )
            while app.state.server.admission.running == 0 or waves == 0:
                await asyncio.sleep(0.02)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.sleep(0.8)
            drawn = waves
            await asyncio.sleep(0.8)
            assert waves == drawn
            assert app.state.server.admission.running == 0


async def test_the_models_are_listed(connect: Connect) -> None:
    async with connect() as (client, _):
        names = [model.id async for model in client.models.list()]
        assert names[:2] == ["kaelum", "kaelum-direct"]
        assert {"kaelum-math", "kaelum-code", "all-MiniLM-L6-v2"} <= set(names)
        assert (await client.models.retrieve("kaelum")).owned_by == "kaelum"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-4o")
