"""Clients that know nothing of Kaelum, against `kaelum serve` with the real 0.5B in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam
from pydantic import BaseModel

from tests.conftest import MODEL

pytestmark = pytest.mark.model

SECONDS_TO_COME_UP = 180
WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "the city's name"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Sum(BaseModel):
    """What a structured answer looks like."""

    explanation: str
    result: int


@pytest.fixture(scope="module")
def url(qwen_folder: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A running server's address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "kaelum_graph", "serve", "--port", str(port), "--model", MODEL]
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data)], stderr=log, env={**os.environ, "KAELUM_CONFIG": ""}
        )
        try:
            limit = time.monotonic() + SECONDS_TO_COME_UP
            while not is_ready(port):
                assert process.poll() is None, (data / "log").read_text()
                assert time.monotonic() < limit, (data / "log").read_text()
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            assert process.wait(60) == 0, (data / "log").read_text()


def is_ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/ready", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="unused", max_retries=0)


def test_a_chat_is_answered_with_its_story_and_can_be_rated(client: openai.OpenAI, url: str) -> None:
    reply = client.chat.completions.create(
        model="kaelum", messages=[{"role": "user", "content": "What is 17 + 25?"}], extra_body={"kaelum": {"sims": 4}}
    )
    assert "42" in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0
    assert reply.system_fingerprint
    story = (reply.model_extra or {})["kaelum"]
    assert story["status"] == "verified"
    rated = httpx2.post(f"{url}/feedback", json={"id": reply.id, "score": 1.0, "feedback_id": "f-1"}, timeout=30)
    assert rated.status_code == 200, rated.text


def test_a_stream_thinks_aloud_and_then_answers(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="kaelum-math",
        messages=[{"role": "user", "content": "What is 23 + 19?"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"kaelum": {"sims": 4, "cache": False}},
    )
    thoughts, text, finish, usage = "", "", None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            thought = (choice.delta.model_extra or {}).get("reasoning_content")
            assert not (thought and text), "a thought came after the answer had begun"
            thoughts += thought or ""
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert "math" in thoughts
    assert "42" in text
    assert finish == "stop"
    assert usage is not None


def test_the_plain_model_streams_token_by_token(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="kaelum-direct", messages=[{"role": "user", "content": "Count from 1 to 10."}], stream=True, max_tokens=40
    )
    pieces = [choice.delta.content for chunk in stream for choice in chunk.choices if choice.delta.content]
    assert len(pieces) >= 5


def test_a_structured_answer_parses(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="kaelum",
        messages=[{"role": "user", "content": "What is 8 + 5? Explain in one short sentence."}],
        response_format=Sum,
        reasoning_effort="low",
        seed=1,
    )
    assert reply.choices[0].message.parsed is not None
    assert reply.choices[0].message.parsed.result == 13


def test_an_agent_loop_calls_a_tool_and_answers_from_its_result(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Oslo now?"}]
    first = client.chat.completions.create(
        model="kaelum", messages=messages, tools=[WEATHER], tool_choice="required", reasoning_effort="low", seed=1
    )
    assert first.choices[0].finish_reason == "tool_calls"
    calls: Any = first.choices[0].message.tool_calls
    assert json.loads(calls[0].function.arguments)["city"].lower().startswith("oslo")
    messages.append(first.choices[0].message.to_dict())  # pyright: ignore[reportArgumentType]
    for call in calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"celsius": -7, "sky": "snow"}'})
    second = client.chat.completions.create(
        model="kaelum", messages=messages, tools=[WEATHER], tool_choice="none", reasoning_effort="low", seed=1
    )
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_the_responses_stream_is_a_valid_one(client: openai.OpenAI) -> None:
    with client.responses.stream(
        model="kaelum", input="What is 30 + 12?", reasoning={"effort": "low", "summary": "auto"}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "42" in final.output_text


CHECKS = {
    "openai-chat": "chat-basic-response,chat-system-prompt,chat-multi-turn,chat-tool-calling,chat-streaming-response,"
    "chat-streaming-usage,chat-error-handling",
    "open-responses": "basic-response,system-prompt,multi-turn,tool-calling,streaming-response,streaming-usage,"
    "assistant-phase,response-output-phase-schema,compact-missing-model,error-handling",
}
"""All of the suite's checks but that of images, which this model can't read and the server refuses as it should."""


@pytest.mark.parametrize("form", CHECKS)
def test_the_compliance_suite_finds_nothing(url: str, form: str) -> None:
    program = str(Path(sys.executable).with_name("llm-comply"))
    asked = ["--format", form, "-f", CHECKS[form], "-u", url, "-k", "unused", "-m", "kaelum-direct", "--timeout", "240"]
    ran = subprocess.run([program, *asked], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    count = CHECKS[form].count(",") + 1
    assert f"All {count} tests passed" in ran.stdout, ran.stdout[-4000:]


def test_openai_agents_runs_a_tool_loop(url: str) -> None:
    import asyncio

    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled

    set_tracing_disabled(True)
    asked: list[str] = []

    @function_tool
    def population(country: str) -> str:
        """The number of people in a country."""
        asked.append(country)
        return "5.6 million"

    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key="unused") as connection:
            agent = Agent(
                name="Clerk",
                instructions="Look numbers up with the tool.",
                tools=[population],
                model=OpenAIChatCompletionsModel(model="kaelum", openai_client=connection),
                model_settings=ModelSettings(tool_choice="required", extra_body={"reasoning_effort": "low"}),
            )
            return str((await Runner.run(agent, "How many people live in Norway?", max_turns=4)).final_output)

    told = asyncio.run(run())
    assert asked
    assert "norway" in asked[0].lower()
    assert told
