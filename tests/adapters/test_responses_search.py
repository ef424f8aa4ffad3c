"""`/v1/responses` over the search itself, with a scripted model behind it."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import ResponseReasoningItem

from kaelum_adapters.openai_api.app import create_app
from kaelum_flow.facade import Kaelum
from kaelum_graph.models.base import GenerationRequest
from tests.adapters.responses_client import openai_of, raw_events
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always("7 + 5 = 12\nThe answer is 12"), routing=False, worker="math", sims=4)


async def rate(client: AsyncOpenAI, response_id: str) -> Any:
    """Feedback on a response by its own id."""
    return await client.post("/feedback", body={"id": response_id, "score": 1.0}, cast_to=object)


async def test_a_question_is_searched_kept_and_rated(kaelum: Kaelum) -> None:
    async with openai_of(create_app(kaelum)) as client:
        made = await client.responses.create(
            model="kaelum", input="What is 7 + 5?", reasoning={"summary": "auto", "effort": "low"}
        )
        assert made.status == "completed"
        assert "12" in made.output_text
        story: Any = made.to_dict()["kaelum"]
        assert made.id == f"resp_{story['id']}"
        assert kaelum.services.storage.episode(story["id"]) is not None
        reasoning = made.output[0]
        assert isinstance(reasoning, ResponseReasoningItem)
        assert "ollout" in reasoning.summary[0].text
        assert made.usage is not None
        assert made.usage.output_tokens > made.usage.output_tokens_details.reasoning_tokens > 0
        await rate(client, made.id)
        assert (await client.responses.retrieve(made.id)).to_dict() == made.to_dict()


async def test_a_search_streams_under_one_id(kaelum: Kaelum) -> None:
    async with openai_of(create_app(kaelum)) as client:
        events = await raw_events(client, model="kaelum-math", input="What is 7 + 5?", reasoning={"summary": "auto"})
    assert events[0]["type"] == "response.created"
    final = events[-1]["response"]
    assert {event["response"]["id"] for event in events if "response" in event} == {f"resp_{final['kaelum']['id']}"}
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == final["output"][-1]["content"][0]["text"]
    assert "12" in text


async def test_the_turns_before_reach_the_model(make_kaelum: MakeKaelum) -> None:
    seen: list[str] = []

    def remember(request: GenerationRequest, _: int) -> str:
        seen.append(" | ".join(message.content for message in request.messages))
        return "The answer is 32"

    async with openai_of(create_app(make_kaelum(remember, routing=False, worker="math", sims=1))) as client:
        first = await client.responses.create(model="kaelum", input="My lucky number is 29.")
        seen.clear()
        await client.responses.create(
            model="kaelum", input="Add 3 to it.", previous_response_id=first.id, instructions="Be terse."
        )
    assert seen
    assert all("lucky number is 29" in text and "Be terse." in text for text in seen)


async def test_what_only_the_plain_model_does_is_refused_of_the_search(kaelum: Kaelum) -> None:
    async with openai_of(create_app(kaelum)) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.responses.create(model="kaelum", input="x", include=["message.output_text.logprobs"])
        assert caught.value.param == "include"
        made = await client.responses.create(model="kaelum-direct", input="x", include=["message.output_text.logprobs"])
        text: Any = made.output[0]
        assert "".join(entry.token for entry in text.content[0].logprobs) == made.output_text
        with pytest.raises(BadRequestError) as caught:
            await client.responses.create(model="kaelum-direct", input="x", reasoning={"effort": "high"})
        assert caught.value.param == "reasoning.effort"


async def test_a_conversation_without_a_question_is_refused(kaelum: Kaelum) -> None:
    said: Any = [{"role": "assistant", "content": "Hello."}]
    async with openai_of(create_app(kaelum)) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.responses.create(model="kaelum", input=said)
    assert (caught.value.param, "user turn" in str(caught.value)) == ("input", True)
