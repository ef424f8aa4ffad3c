"""The search over tool calls, around a model whose words the test chooses."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from kaelum_adapters.node import kaelum_node
from kaelum_flow.facade import Kaelum
from kaelum_flow.forward import build_forward
from kaelum_flow.state import unpacked
from kaelum_graph.answer import Answer, Progress
from kaelum_graph.errors import UsageError
from kaelum_graph.models.base import CancelToken, GenerationRequest
from kaelum_graph.types import Json, Message, Query, Tool, ToolCall, ToolChoice
from kaelum_graph.workers import all_workers
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Said, Script, always, cycle
from tests.graphs.test_forward import APPLES, EQUATION, boxed, model_of

WEATHER = Tool(
    name="weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = Tool(name="clock")
TOOLS = (WEATHER, CLOCK)
ASKED = "Do I need an umbrella in Paris?"


def calling(*named: tuple[str, object], text: str = "") -> Said:
    calls = [
        ToolCall(f"call_{place}", name, arguments if isinstance(arguments, str) else json.dumps(arguments))
        for place, (name, arguments) in enumerate(named)
    ]
    return text, tuple(calls)


PARIS = calling(("weather", {"city": "Paris"}))
ROME = calling(("weather", {"city": "Rome"}))


FIVE = always(boxed("5"))


def scripted(with_tools: Script, without: Script = FIVE) -> Script:
    """Says the one where tools are offered, and the other to the search."""
    return lambda request, k: with_tools(request, k) if request.tools else without(request, k)


def since(call: ToolCall, result: str) -> tuple[Message, ...]:
    return (Message("assistant", "", calls=(call,)), Message("tool", result, call_id=call.id))


def test_calls_that_agree_end_the_search_and_are_given(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(lambda request, k: PARIS))
    events = list(kaelum.stream(ASKED, tools=TOOLS))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == [("weather", {"city": "Paris"})]
    assert (answer.text, answer.answer, answer.status, answer.stop_reason) == ("", None, "unverified", "margin")
    assert answer.confidence == pytest.approx(0.83, abs=0.01)
    assert (answer.cost.rollouts, answer.cost.waves, answer.cost.prompt_tokens) == (4, 1, 10)
    assert answer.cost.completion_tokens > 0
    assert answer.route == {}
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert set(stages) == {"call"}
    last = [event for event in events if isinstance(event, Progress)][-1].data
    assert (last["candidates"], last["share"], last["leader"]) == (4, 1.0, 'weather({"city": "Paris"})')
    assert last["id"] == answer.id
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_the_model_sees_the_plain_conversation_and_the_tools(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(lambda request, k: PARIS))
    history = [Message("user", "Hello."), Message("assistant", "Hello!"), Message("system", "Be brief.")]
    kaelum.ask(ASKED, history=history, tools=TOOLS)
    (request,) = model_of(kaelum).requests
    assert [(turn.role, turn.content) for turn in request.messages] == [
        ("system", "Be brief."),
        ("user", "Hello."),
        ("assistant", "Hello!"),
        ("user", ASKED),
    ]
    assert request.tools == TOOLS


def test_words_that_win_are_followed_by_the_usual_search_and_both_are_paid_for(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(always("It is five."), always(boxed("5"))))
    events = list(kaelum.stream(EQUATION, tools=TOOLS, worker="math"))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert (answer.answer, answer.calls, answer.status) == ("5", (), "verified")
    assert answer.cost.rollouts == 8
    assert answer.cost.waves == 2
    spent = kaelum.ask(EQUATION, worker="math", cache=False).cost
    assert answer.cost.completion_tokens == spent.completion_tokens + 4 * 3
    stages = dict.fromkeys(event.stage for event in events if isinstance(event, Progress))
    assert [*stages][:3] == ["call", "cache", "route"]
    hit = kaelum.ask(EQUATION, tools=TOOLS, worker="math")
    assert (hit.cache, hit.cost.rollouts, hit.cost.completion_tokens) == ("hit", 4, 12)


def test_a_cached_answer_after_a_vote_has_the_id_that_was_told_and_can_be_rated_by_it(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(always("It is five."), always(boxed("5"))))
    first = kaelum.ask(EQUATION, tools=TOOLS, worker="math")
    events = list(kaelum.stream(EQUATION, tools=TOOLS, worker="math"))
    hit = events[-1]
    assert isinstance(hit, Answer)
    told = {event.data["id"] for event in events if isinstance(event, Progress) and "id" in event.data}
    assert (hit.cache, told) == ("hit", {hit.id})
    assert hit.id != first.id
    record = kaelum.services.storage.episode(hit.id)
    assert record is not None
    assert (record["served"], len(record["called"]["candidates"])) == (first.id, 4)
    assert kaelum.ask(EQUATION, worker="math").id == first.id, "without tools it is the stored episode itself"
    assert kaelum.feedback(hit.id, score=0.0)
    assert kaelum.ask(EQUATION, worker="math").cache == "miss", "a bad rating of what was served takes its source out"


def test_no_tools_or_the_choice_of_none_is_the_usual_search(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(lambda request, k: PARIS))
    answer = kaelum.ask(EQUATION, tools=TOOLS, tool_choice=ToolChoice(mode="none"), worker="math")
    assert (answer.answer, answer.calls, answer.cost.rollouts) == ("5", (), 4)
    assert not any(request.tools for request in model_of(kaelum).requests)


def test_the_budget_is_that_of_sims_or_effort_else_eight(make_kaelum: MakeKaelum) -> None:
    split = scripted(lambda request, k: (PARIS, ROME)[k % 2])
    budgets: list[tuple[Json, int]] = [({}, 8), ({"sims": 6}, 6), ({"effort": "high"}, 16), ({"effort": "none"}, 1)]
    for options, drawn in budgets:
        kaelum = make_kaelum(split)
        answer = kaelum.ask(ASKED, tools=TOOLS, **options)
        assert answer.cost.rollouts == drawn
        assert answer.stop_reason == ("margin" if drawn == 1 else "budget")
    assert [request.n for request in model_of(make_and_ask(make_kaelum, split, sims=20)).requests] == [4, 8, 8]


def make_and_ask(make_kaelum: MakeKaelum, script: Script, **options: Any) -> Kaelum:
    kaelum = make_kaelum(script)
    kaelum.ask(ASKED, tools=TOOLS, **options)
    return kaelum


def test_the_whole_budget_is_spent_where_that_is_wanted(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(scripted(lambda request, k: PARIS)).ask(ASKED, tools=TOOLS, early_stop=False, seed=3)
    assert answer.cost.rollouts == 8
    kaelum = make_and_ask(make_kaelum, scripted(lambda request, k: PARIS), early_stop=False, seed=3)
    seeds = [request.sampling.seed for request in model_of(kaelum).requests]
    assert None not in seeds
    assert len(set(seeds)) == 2


def test_several_calls_in_one_turn_are_given_together(make_kaelum: MakeKaelum) -> None:
    both = calling(("weather", {"city": "Paris"}), ("clock", {}), text="Let me look.")
    answer = make_kaelum(scripted(lambda request, k: both)).ask(ASKED, tools=TOOLS)
    assert [call.name for call in answer.calls] == ["weather", "clock"]
    assert len({call.id for call in answer.calls}) == 2
    assert answer.text == "Let me look."


def test_an_invalid_call_loses_to_a_valid_one_however_frequent_it_is(make_kaelum: MakeKaelum) -> None:
    turns = [calling(("weather", {"town": "Paris"}))] * 3 + [PARIS]
    answer = make_kaelum(scripted(lambda request, k: turns[k % 4])).ask(ASKED, tools=TOOLS)
    assert [json.loads(call.arguments) for call in answer.calls] == [{"city": "Paris"}]
    assert answer.trace is not None
    assert [turn["outcome"] for turn in answer.trace["calls"]][:4] == ["refuted"] * 3 + ["call"]
    assert "'city' is a required property" in answer.trace["calls"][0]["error"]


def test_forced_calls_that_never_come_are_an_honest_failure(make_kaelum: MakeKaelum) -> None:
    for choice in (ToolChoice(mode="required"), ToolChoice(name="clock")):
        kaelum = make_kaelum(scripted(always("It may rain.")))
        answer = kaelum.ask(ASKED, tools=TOOLS, tool_choice=choice)
        assert (answer.status, answer.calls, answer.text, answer.confidence) == ("unsure", (), "It may rain.", 0.0)
        assert answer.notices == ("no valid call was found. Most often, it calls nothing.",)
        assert answer.cost.rollouts == 8
        assert model_of(kaelum).requests[0].tool_choice == choice
    answer = make_kaelum(scripted(lambda request, k: PARIS)).ask(
        ASKED, tools=TOOLS, tool_choice=ToolChoice(mode="required")
    )
    assert answer.calls


def test_nothing_invalid_is_ever_given_whatever_the_model_says(make_kaelum: MakeKaelum) -> None:
    source = random.Random(11)

    def garbage(request: GenerationRequest, k: int) -> Said:
        arguments = ["{", "", "[]", '{"city": 3}', '{"city": "Oslo"}', '{"city": NaN}', '{"city": "x"}, ', "null"]
        names = ["weather", "clock", "rm", ""]
        calls = [(source.choice(names), source.choice(arguments)) for _ in range(source.randint(0, 2))]
        return calling(*calls, text=source.choice(["", "Hm.", "<tool_call>", '{"name": "rm", "arguments": {}}']))

    kaelum, given = make_kaelum(scripted(garbage)), 0
    for number in range(15):
        answer = kaelum.ask(f"{ASKED} {number}", tools=TOOLS, sims=3, worker="math", cache=False)
        for call in answer.calls:
            given += 1
            value = json.loads(call.arguments)
            assert value == {} if call.name == "clock" else isinstance(value["city"], str)
        assert answer.calls or answer.answer == "5"
    assert given


def test_in_a_loop_the_result_reaches_every_worker_in_its_place(make_kaelum: MakeKaelum) -> None:
    made = ToolCall("c1", "weather", '{"city": "Paris"}')
    query = Query(text=ASKED, history=(Message("system", "Be brief."),), since=since(made, "Rain, 12 degrees."))
    for name, worker in all_workers().items():
        messages = worker.prompt(query).messages
        assert messages[0].role == "system", name
        assert len(messages[0].content) > len("Be brief."), f"{name}: its instructions hold"
        assert [message.role for message in messages[-3:]] == ["user", "assistant", "tool"], name
        assert ASKED in messages[-3].content
        assert messages[-2].calls == (made,)
        assert (messages[-1].content, messages[-1].call_id) == ("Rain, 12 degrees.", "c1")
        told = worker.prompt(query, reflection="The answer was too long.").messages
        assert told[:-1] == messages
        assert "The answer was too long." in told[-1].content


def test_a_whole_loop_ends_in_an_answer_from_what_the_tool_gave(make_kaelum: MakeKaelum) -> None:
    def model(request: GenerationRequest, k: int) -> Said:
        seen = [message.content for message in request.messages if message.role == "tool"]
        if request.tools:
            return "It rains." if seen else PARIS
        return "It rains in Paris.\nAnswer: yes" if seen == ["Rain."] else "Answer: no"

    kaelum = make_kaelum(model)
    first = kaelum.ask(ASKED, tools=TOOLS, worker="factual")
    turns = since(first.calls[0], "Rain.")
    second = kaelum.ask(ASKED, tools=TOOLS, since=turns, worker="factual")
    assert (second.answer, second.calls) == ("yes", ())
    record = kaelum.services.storage.episode(second.id)
    assert record is not None
    assert [turn["role"] for turn in record["since"]] == ["assistant", "tool"]
    other = since(ToolCall("another id", *_named(first.calls[0])), "Rain.")
    assert kaelum.ask(ASKED, since=other, worker="factual").cache == "hit", "the id of a call is of no account"
    assert kaelum.ask(ASKED, since=since(first.calls[0], "Sun."), worker="factual").answer == "no"
    assert kaelum.ask(ASKED, worker="factual").answer == "no"
    went_on = kaelum.continue_search(second.id, sims=2)
    assert went_on.answer == "yes"


def _named(call: ToolCall) -> tuple[str, str]:
    return call.name, call.arguments


def test_the_same_call_is_not_made_twice(make_kaelum: MakeKaelum) -> None:
    made = ToolCall("c1", "weather", '{"city": "Paris"}')
    turns = since(made, "Rain.")
    script = scripted(lambda request, k: calling(("weather", {"city": " Paris"})), always("Answer: yes"))
    answer = make_kaelum(script).ask(ASKED, tools=TOOLS, since=turns, worker="factual")
    assert (answer.calls, answer.answer) == ((), "yes")
    assert answer.trace is not None
    assert "its result is there" in answer.trace["calls"][0]["error"]
    forced = make_kaelum(script).ask(ASKED, tools=TOOLS, since=turns, tool_choice=ToolChoice(mode="required"))
    assert forced.calls
    other = make_kaelum(scripted(lambda request, k: ROME)).ask(ASKED, tools=TOOLS, since=turns)
    assert other.calls


def test_calls_are_recorded_for_feedback_and_never_cached(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(lambda request, k: PARIS))
    answer = kaelum.ask(ASKED, tools=TOOLS)
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    assert record["answer"]["calls"][0]["name"] == "weather"
    assert len(record["called"]["candidates"]) == 4
    assert record["tools"][0]["name"] == "weather"
    assert kaelum.feedback(answer.id, score=0.0)
    assert kaelum.metrics()["cache_entries"] == 0
    assert kaelum.ask(ASKED, tools=TOOLS).cache == "miss"
    with pytest.raises(UsageError, match="no search tree"):
        kaelum.continue_search(answer.id)


def test_messages_after_the_question_are_taken_in_and_calls_are_a_message(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(lambda request, k: ROME))
    asked: list[Any] = [
        HumanMessage(ASKED),
        AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Paris"}, "id": "c1"}]),
        ToolMessage("Rain.", tool_call_id="c1"),
        SystemMessage("Be brief."),
    ]
    openai: Json = {"type": "function", "function": {"name": "weather", "parameters": WEATHER.parameters}}
    result = kaelum.graph.invoke({"messages": asked, "tools": [openai]})
    last = result["messages"][-1]
    assert [(call["name"], call["args"]) for call in last.tool_calls] == [("weather", {"city": "Rome"})]
    roles = [message.role for message in model_of(kaelum).requests[0].messages]
    assert roles == ["system", "user", "assistant", "tool"]
    assert model_of(kaelum).requests[0].messages[2].calls[0].arguments == '{"city": "Paris"}'
    said = kaelum.graph.invoke({"messages": [HumanMessage(EQUATION), AIMessage("I think it is 5.")]})
    assert said["messages"][-1].tool_calls == []
    turns = model_of(kaelum).requests[-1].messages
    assert turns[-2].content == "I think it is 5."
    assert EQUATION in turns[-1].content


@pytest.mark.parametrize("before", ["call", "cache", "respond"])
def test_a_run_that_is_taken_up_again_still_knows_what_came_since(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    kaelum = make_kaelum(scripted(always("It rains."), always("Answer: yes")))
    saver = InMemorySaver()
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    made: Json = {"id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'}
    state = {
        "query": ASKED,
        "since": [
            {"role": "assistant", "content": "", "calls": [made]},
            {"role": "tool", "content": "Rain.", "call_id": "c1"},
        ],
        "tools": [{"name": "weather", "parameters": WEATHER.parameters}],
        "options": {"worker": "factual"},
        "messages": [],
    }
    halted = build_forward(kaelum.services).compile(checkpointer=saver, interrupt_before=[before])
    halted.invoke(state, config)
    result = build_forward(kaelum.services).compile(checkpointer=saver).invoke(None, config)
    answer = Answer.from_json(result["answer"])
    assert (answer.answer, answer.cost.rollouts) == ("yes", 8)
    assert all(any(m.content == "Rain." for m in request.messages) for request in model_of(kaelum).requests)
    calls = build_forward(make_kaelum(scripted(lambda request, k: ROME)).services).compile(checkpointer=saver)
    assert calls.invoke(state, config)["answer"]["calls"][0]["name"] == "weather"
    third = calls.invoke({"query": "Rome?", "messages": [], "options": {"worker": "math"}}, config)
    assert third["answer"]["calls"] == [], "nothing of one query reaches the next"
    state = calls.get_state(config).values
    assert unpacked(state["request"])["tools"] == []


def test_the_best_so_far_is_given_when_time_tokens_or_the_caller_run_out(make_kaelum: MakeKaelum) -> None:
    split = [PARIS, ROME, PARIS, "No."]
    late = make_kaelum(scripted(lambda request, k: split[k % 4]), seconds=0.3).ask(ASKED, tools=TOOLS, deadline=0.4)
    assert (late.stop_reason, json.loads(late.calls[0].arguments)) == ("deadline", {"city": "Paris"})
    words = make_kaelum(scripted(always("It rains here."))).ask(ASKED, tools=TOOLS, token_budget=4)
    assert (words.stop_reason, words.status, words.text) == ("tokens", "unsure", "It rains here.")
    token = CancelToken()
    token.cancel()
    gone = make_kaelum(scripted(lambda request, k: PARIS)).ask(ASKED, tools=TOOLS, cancel=token)
    assert gone.stop_reason == "cancelled"
    unsure = make_kaelum(scripted(lambda request, k: split[k % 4])).ask(ASKED, tools=TOOLS, min_confidence=0.6)
    assert (unsure.status, len(unsure.calls)) == ("unsure", 1)


def test_turns_and_tools_that_make_no_sense_are_refused_before_anything_is_drawn(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("x"))
    bad = Tool(name="a", parameters={"type": "object", "properties": {"b": {"type": "text"}}})
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tools": [bad]}, "tool 'a'"),
        ({"tools": [CLOCK, CLOCK]}, "two tools"),
        ({"tools": TOOLS, "tool_choice": ToolChoice(name="rm")}, "'rm'"),
        ({"since": [Message("tool", "Rain.", call_id="c1")]}, "'c1'"),
        ({"since": [Message("user", "And?")]}, "user"),
    ]
    for given, said in cases:
        with pytest.raises(UsageError, match=said):
            kaelum.stream(ASKED, **given)
    assert not model_of(kaelum).requests


async def test_async_is_the_same(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(scripted(lambda request, k: PARIS))
    assert (await kaelum.aask(ASKED, tools=TOOLS)).calls
    assert [event async for event in kaelum.astream(ASKED, tools=TOOLS)]


def test_words_vote_before_calls_that_all_differ_only_where_they_are_more(make_kaelum: MakeKaelum) -> None:
    turns: list[Said] = [calling(("weather", {"city": f"Town {number}"})) for number in range(5)] + ["a", "b", "c"]
    answer = make_kaelum(scripted(lambda request, k: turns[k % 8])).ask(ASKED, tools=TOOLS)
    assert len(answer.calls) == 1
    answer = make_kaelum(scripted(cycle("a", "b", "c")), seed=2).ask(APPLES, tools=TOOLS, worker="math")
    assert answer.answer == "5"


def test_as_a_node_it_takes_part_in_a_loop_of_tools(make_kaelum: MakeKaelum) -> None:
    def model(request: GenerationRequest, k: int) -> Said:
        seen = any(message.role == "tool" for message in request.messages)
        return ("It rains." if seen else PARIS) if request.tools else "Answer: yes"

    node = kaelum_node(make_kaelum(model), tools=TOOLS, worker="factual")
    messages: list[Any] = [HumanMessage(ASKED)]
    messages += node.invoke({"messages": messages})["messages"]
    (call,) = messages[-1].tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    messages.append(ToolMessage("Rain.", tool_call_id=call["id"]))
    messages += node.invoke({"messages": messages})["messages"]
    assert (messages[-1].tool_calls, messages[-1].content) == ([], "Answer: yes")
