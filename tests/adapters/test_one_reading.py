"""What a request says is read in one way, on whichever front and in whichever field it is said."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from kaelum_adapters.openai_api.chat_body import LEAST_MASS, ChatBody, read_ask
from kaelum_adapters.openai_api.errors import ApiError, as_api_error
from kaelum_adapters.openai_api.exchange import Ask, Caller
from kaelum_adapters.openai_api.search_runner import search_options, split
from kaelum_flow.messages import asked
from kaelum_graph.errors import FormError, ModelError, UsageError
from kaelum_graph.types import Message
from tests.adapters.responses_client import Player, last_said, openai_of, server_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always


def texts(*turns: Any) -> list[str]:
    """The turns as the model is to see them."""
    body = ChatBody.model_validate({"model": "kaelum", "messages": list(turns)})
    return [message.content for message in read_ask(body, Caller(), retry=False).messages]


def user(content: str, name: str | None = None) -> dict[str, Any]:
    return {"role": "user", "content": content, "name": name}


def test_who_says_what_is_told_where_several_speak() -> None:
    rules = {"role": "system", "content": "Be brief.", "name": "host"}
    said = texts(rules, user("I am 30.", "alice"), user("Hello."), user("How old is alice?", "bob"))
    assert said == ["Be brief.", "alice: I am 30.", "Hello.", "bob: How old is alice?"]


def test_one_speaker_needs_no_name() -> None:
    assert texts(user("I am 30.", "alice"), user("How old am I?", "alice")) == ["I am 30.", "How old am I?"]


def test_a_system_prompt_alone_is_the_question_on_every_front() -> None:
    assert split([Message("system", "Be brief."), Message("system", "Name a prime.")])[1] == "Name a prime."
    text, turns = asked([SystemMessage("Be brief."), SystemMessage("Name a prime.")])
    assert (text, turns["since"]) == ("Name a prime.", ())
    assert [turn.content for turn in turns["history"]] == ["Be brief."]
    assert asked([HumanMessage("Hi."), SystemMessage("Be brief.")])[0] == "Hi."
    with pytest.raises(UsageError, match="the query is empty"):
        asked([SystemMessage("Be brief."), AIMessage("Yes.")])


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ({"effort": "high"}, {"effort": "low"}),
        ({"temperature": 0.1}, {"temperature": 1.0}),
        ({"top_p": 0.5}, {"top_p": 0.9}),
        ({"max_tokens": 10}, {"max_tokens": 20}),
        ({"seed": 0}, {"seed": 3}),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(said: dict[str, Any], options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ApiError, match="give one of them") as caught:
        search_options(Ask(model="kaelum", messages=(), options=options, **said))
    assert (caught.value.status, caught.value.param) == (400, f"kaelum.{name}")
    assert search_options(Ask(model="kaelum", messages=(), options=dict(said), **said))[name] == said[name]


async def test_no_probability_mass_is_the_likeliest_token_in_both_apis(make_kaelum: MakeKaelum) -> None:
    player = Player(last_said)
    async with openai_of(server_app(make_kaelum(always("4")), player)) as client:
        await client.responses.create(model="kaelum", input="hi", top_p=0)
        await client.chat.completions.create(model="kaelum", messages=[{"role": "user", "content": "hi"}], top_p=0)
    assert [ask.top_p for ask in player.asks] == [LEAST_MASS, LEAST_MASS]


def test_what_would_fail_again_is_not_to_be_asked_again() -> None:
    assert as_api_error(FormError("not in form")).headers == {"x-should-retry": "false"}
    assert as_api_error(ModelError("out of memory")).retry
