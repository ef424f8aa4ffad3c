"""Answers put in the form that the caller asked for, around a model whose words the test chooses."""

from __future__ import annotations

import json

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from kaelum_flow.forward import build_forward
from kaelum_graph.answer import Answer, Progress, TextDelta
from kaelum_graph.errors import FormError, ModelError, UsageError
from kaelum_graph.models.base import CancelToken, Generation, GenerationRequest
from kaelum_graph.types import Json, Message, Shape, ToolChoice
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Said, Script, ScriptedModel, always, cycle
from tests.graphs.test_forward import APPLES, EQUATION, boxed, model_of
from tests.graphs.test_tool_calls import PARIS, TOOLS

NUMBER = Shape(
    kind="json_schema",
    name="number",
    schema={
        "type": "object",
        "properties": {"x": {"type": "integer", "description": "the value of x alone"}},
        "required": ["x"],
        "additionalProperties": False,
    },
)
ANY = Shape(kind="json_object")
FIVE = always(boxed("5"))


def shaping(form: Script, search: Script = FIVE) -> Script:
    """Says the one where a form is asked for, the other in the search."""
    return lambda request, k: form(request, k) if asks_for_form(request) else search(request, k)


def asks_for_form(request: GenerationRequest) -> bool:
    return "Reply with the JSON alone." in request.messages[-1].content


def forms(model: ScriptedModel) -> list[GenerationRequest]:
    return [request for request in model.requests if asks_for_form(request)]


def test_the_reasoned_answer_is_given_as_json_that_most_samples_agree_on(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(shaping(cycle('{"x": 4}', '{ "x":5 }', '{"x": 5.0}')))
    events = list(kaelum.stream(EQUATION, worker="math", shape=NUMBER))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert json.loads(answer.text) == {"x": 5}
    assert (answer.answer, answer.status, answer.worker) == ("5", "verified", "math")
    (request,) = forms(model_of(kaelum))
    assert (request.n, request.shape, request.messages[-2].role) == (3, NUMBER, "assistant")
    assert "\\boxed{5}" in request.messages[-2].content
    assert "the value of x alone" in request.messages[-1].content
    assert "The final answer is: 5" in request.messages[-1].content
    told = [event.data for event in events if isinstance(event, Progress) and event.stage == "shape"]
    assert [(one["answers"], one["samples"], one["valid"]) for one in told] == [(1, 3, 3)]
    assert told[0]["share"] == pytest.approx(2 / 3)
    plain = kaelum.ask(EQUATION, worker="math", cache=False)
    assert answer.cost.completion_tokens == plain.cost.completion_tokens + 2 + 4 + 2 - 1
    assert answer.cost.prompt_tokens == plain.cost.prompt_tokens + 10
    assert answer.cost.rollouts == plain.cost.rollouts
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == answer.text


def test_effort_buys_samples(make_kaelum: MakeKaelum) -> None:
    for effort, samples in (("low", 1), ("medium", 3), ("max", 9)):
        kaelum = make_kaelum(shaping(always('{"x": 5}')))
        kaelum.ask(EQUATION, worker="math", shape=NUMBER, effort=effort, cache=False)
        assert [request.n for request in forms(model_of(kaelum))] == [samples]


def test_every_choice_is_put_in_form(make_kaelum: MakeKaelum) -> None:
    def form(request: GenerationRequest, k: int) -> Said:
        found = [number for number in "389" if f"The final answer is: {number}" in request.messages[-1].content]
        return json.dumps({"x": int(found[0])}) if found != ["9"] else "none"

    kaelum = make_kaelum(shaping(form, cycle(boxed("3"), boxed("8"), boxed("3"), boxed("9"))))
    answer = kaelum.ask(APPLES, worker="math", sims=8, answers=3, shape=NUMBER)
    assert [json.loads(choice.text) for choice in answer.choices] == [{"x": 3}, {"x": 8}]
    assert answer.choices[0].text == answer.text
    assert "1 of 3 answers could not be put in form" in answer.notices[-1]


def test_an_unsure_answer_is_shaped_as_it_was_and_stays_unsure(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(shaping(always('{"x": 7}'), always(boxed("7"))))
    answer = kaelum.ask(EQUATION, worker="math", sims=4, max_reflections=0, shape=NUMBER)
    assert (json.loads(answer.text), answer.status) == ({"x": 7}, "unsure")
    assert "Not sure" not in forms(model_of(kaelum))[0].messages[-2].content
    kaelum = make_kaelum(shaping(always('{"x": 7}'), always("")))
    answer = kaelum.ask(EQUATION, worker="math", sims=4, max_reflections=0, shape=NUMBER)
    assert (json.loads(answer.text), answer.answer, answer.status) == ({"x": 7}, None, "unsure")
    assert forms(model_of(kaelum))[0].messages[-2].role == "user", "there is nothing to show as a draft"


def test_what_does_not_fit_is_asked_for_again_and_never_given(make_kaelum: MakeKaelum) -> None:
    def second_time(request: GenerationRequest, k: int) -> Said:
        return '{"x": 5}' if "does not fit" in request.messages[-1].content else '{"x": "five"}'

    kaelum = make_kaelum(shaping(second_time))
    model_of(kaelum).shapes = False
    answer = kaelum.ask(EQUATION, worker="math", shape=NUMBER)
    assert json.loads(answer.text) == {"x": 5}
    assert [request.shape for request in forms(model_of(kaelum))] == [None, None]
    assert "'five' is not of type 'integer'" in forms(model_of(kaelum))[1].messages[-1].content
    for nothing in ("", '{"x": "five"}', "[5]"):
        kaelum = make_kaelum(shaping(always(nothing)))
        with pytest.raises(FormError, match="could not be put in the form") as caught:
            kaelum.ask(EQUATION, worker="math", shape=NUMBER, sims=1, cache=False)
        assert "\n" not in str(caught.value)
        assert caught.value.without_quotation == "The answer could not be put in the form that was asked for: …."
        assert len(forms(model_of(kaelum))) == 3
    with pytest.raises(ModelError):
        make_kaelum(shaping(always("[]"))).ask(EQUATION, worker="math", shape=ANY)


def test_a_form_that_was_cut_short_gets_more_room(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    kaelum = make_kaelum(shaping(lambda request, k: '{"x": 5}' if request.sampling.max_tokens > 2000 else '{"x":'))
    answered = ScriptedModel._answer

    def cut(self: ScriptedModel, request: GenerationRequest, on_delta: object) -> Generation:
        import dataclasses

        generation = answered(self, request, None)
        samples = tuple(dataclasses.replace(sample, finish="length") for sample in generation.samples)
        return dataclasses.replace(generation, samples=samples)

    monkeypatch.setattr(ScriptedModel, "_answer", cut)
    assert json.loads(kaelum.ask(EQUATION, worker="math", shape=NUMBER).text) == {"x": 5}
    assert [request.sampling.max_tokens for request in forms(model_of(kaelum))] == [1024, 2048]
    with pytest.raises(ModelError):
        kaelum.ask(EQUATION, worker="math", shape=NUMBER, max_tokens=50, cache=False)


def test_answers_are_kept_per_form(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(shaping(always('{"x": 5}')))
    first = kaelum.ask(EQUATION, worker="math", shape=NUMBER)
    drawn = model_of(kaelum).drawn
    again = kaelum.ask(EQUATION, worker="math", shape=NUMBER)
    assert (first.cache, again.cache, again.text) == ("miss", "hit", first.text)
    assert model_of(kaelum).drawn == drawn
    assert kaelum.ask(EQUATION, worker="math").cache == "miss"
    assert kaelum.ask(EQUATION, worker="math", shape=ANY).cache == "miss"
    other = Shape(kind="json_schema", name="number", schema={"type": "object"})
    assert kaelum.ask(EQUATION, worker="math", shape=other).cache == "miss"
    assert kaelum.ask(EQUATION, worker="math").text.endswith("\\boxed{5}")


def test_a_form_is_for_words_and_not_for_calls(make_kaelum: MakeKaelum) -> None:
    def model(request: GenerationRequest, k: int) -> Said:
        return PARIS if request.tools else '{"x": 5}' if asks_for_form(request) else boxed("5")

    kaelum = make_kaelum(model)
    answer = kaelum.ask(EQUATION, tools=TOOLS, shape=NUMBER)
    assert (len(answer.calls), answer.text) == (1, "")
    assert not forms(model_of(kaelum))
    words = make_kaelum(shaping(always('{"x": 5}'), lambda request, k: "Five." if request.tools else boxed("5")))
    assert json.loads(words.ask(EQUATION, tools=TOOLS, shape=NUMBER, worker="math").text) == {"x": 5}
    forced = words.ask(EQUATION, tools=TOOLS, shape=NUMBER, tool_choice=ToolChoice(mode="required"))
    assert (forced.status, json.loads(forced.text)) == ("unsure", {"x": 5})
    assert forms(model_of(words))[-1].messages[-2].content == "Five."


def test_time_and_tokens_that_are_spent_still_leave_one_try(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(shaping(always('{"x": 5}')))
    answer = kaelum.ask(EQUATION, worker="math", shape=NUMBER, token_budget=1)
    assert json.loads(answer.text) == {"x": 5}
    assert [request.n for request in forms(model_of(kaelum))] == [1]
    slow = make_kaelum(shaping(always('{"x": 5}')), seconds=0.3)
    late = slow.ask(APPLES, worker="math", shape=NUMBER, deadline=0.2)
    assert json.loads(late.text) == {"x": 5}
    token = CancelToken()

    def leaves(request: GenerationRequest, k: int) -> Said:
        token.cancel()
        return ""

    with pytest.raises(ModelError, match="cancelled"):
        make_kaelum(shaping(leaves)).ask(APPLES, worker="math", shape=NUMBER, cancel=token, cache=False)


def test_the_form_survives_checkpoint_resume_and_a_search_that_goes_on(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    kaelum = make_kaelum(shaping(always('{"x": 5}')))
    saver = InMemorySaver()
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    shape: Json = {"kind": "json_schema", "name": "number", "schema": NUMBER.schema}
    state: Json = {"query": EQUATION, "shape": shape, "options": {"worker": "math"}, "messages": []}
    build_forward(kaelum.services).compile(checkpointer=saver, interrupt_before=["shape"]).invoke(state, config)
    assert not forms(model_of(kaelum))
    result = build_forward(kaelum.services).compile(checkpointer=saver).invoke(None, config)
    assert json.loads(result["messages"][-1].content) == {"x": 5}
    went_on = kaelum.continue_search(result["answer"]["id"], sims=2)
    assert json.loads(went_on.text) == {"x": 5}
    plain = build_forward(kaelum.services).compile(checkpointer=saver)
    after = plain.invoke({"query": EQUATION, "messages": [], "options": {"worker": "math", "cache": False}}, config)
    assert "boxed" in after["answer"]["text"], "nothing of one query reaches the next"


def test_since_and_history_are_before_the_draft(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(shaping(always('{"x": 5}')))
    kaelum.ask(EQUATION, worker="math", shape=NUMBER, history=[Message("system", "Be brief."), Message("user", "Hi.")])
    turns = forms(model_of(kaelum))[0].messages
    assert [turn.role for turn in turns] == ["system", "user", "user", "assistant", "user"]


def test_a_form_that_makes_no_sense_is_refused_at_once(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(FIVE)
    for shape in (Shape(kind="json_schema"), Shape(kind="json_schema", schema={"type": "objekt"})):
        with pytest.raises(UsageError):
            kaelum.ask(EQUATION, shape=shape)
    with pytest.raises(UsageError, match="other fields"):
        kaelum.graph.invoke({"query": EQUATION, "shape": {"sort": "json_object"}, "messages": []})
    assert not model_of(kaelum).requests
