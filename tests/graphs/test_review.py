"""A person is asked about an answer that doesn't pass; what they say is the answer, and is learned once."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from kaelum_flow.create import create_kaelum
from kaelum_flow.facade import Kaelum
from kaelum_graph.models.base import GenerationRequest
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Script

QUESTION = "A farmer has some apples and gives some away. How many are left?"
CONFIG: RunnableConfig = {"configurable": {"thread_id": "one"}}


def split_votes(request: Any, index: int) -> str:
    """Answers that differ, so that nothing is agreed on."""
    return f"I guess.\nThe answer is \\boxed{{{3 + index % 3}}}"


@pytest.fixture
def reviewed(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> tuple[Kaelum, Any]:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    script: Script = split_votes
    kaelum = make_kaelum(script, cache=True)
    graph = create_kaelum(kaelum, review=True, worker="math", sims=4, min_confidence=0.8, max_reflections=0)
    return kaelum, graph.compile(checkpointer=InMemorySaver(), name="kaelum")


def asked(graph: Any, config: RunnableConfig = CONFIG) -> dict[str, Any]:
    state = graph.invoke({"messages": [HumanMessage(QUESTION)]}, config)
    (pending,) = state["__interrupt__"]
    return pending.value


def test_it_asks_before_anything_is_kept(reviewed: tuple[Kaelum, Any]) -> None:
    kaelum, graph = reviewed
    question = asked(graph)
    assert question["question"] == QUESTION
    assert question["confidence"] < 0.8
    assert question["answer"] in {item["answer"] for item in question["alternatives"]}
    assert question["text"].startswith("I guess.")
    assert not kaelum.services.storage.has_episode(question["id"])


def test_an_accepted_answer_is_given_and_learned(reviewed: tuple[Kaelum, Any]) -> None:
    kaelum, graph = reviewed
    question = asked(graph)
    state = graph.invoke(Command(resume={"action": "accept"}), CONFIG)
    answer = state["answer"]
    assert (answer["status"], answer["answer"], answer["confidence"]) == ("verified", question["answer"], 0.99)
    assert state["messages"][-1].content == question["text"]
    (rating,) = kaelum.services.storage.feedback_for(answer["id"])
    assert (rating.score, rating.source, rating.id) == (1.0, "review", f"review-{answer['id']}")
    # Whoever asks again gets what the person stood for.
    assert kaelum.ask(QUESTION, worker="math").cache == "hit"


def test_a_correction_is_the_answer(reviewed: tuple[Kaelum, Any]) -> None:
    kaelum, graph = reviewed
    asked(graph)
    answer = graph.invoke(Command(resume={"action": "correct", "answer": "12"}), CONFIG)["answer"]
    assert (answer["text"], answer["answer"], answer["status"]) == ("12", "12", "verified")
    (rating,) = kaelum.services.storage.feedback_for(answer["id"])
    assert (rating.score, rating.correction) == (None, "12")
    assert kaelum.ask(QUESTION, worker="math").answer == "12"


def test_a_rejected_answer_stays_unsure(reviewed: tuple[Kaelum, Any]) -> None:
    kaelum, graph = reviewed
    asked(graph)
    answer = graph.invoke(Command(resume="reject"), CONFIG)["answer"]
    assert (answer["status"], answer["confidence"]) == ("unsure", 0.01)
    assert answer["text"].startswith("Not sure.")
    (rating,) = kaelum.services.storage.feedback_for(answer["id"])
    assert rating.score == 0.0


def test_a_search_that_is_sent_on_asks_again(reviewed: tuple[Kaelum, Any]) -> None:
    kaelum, graph = reviewed
    first = asked(graph)
    state = graph.invoke(Command(resume={"action": "search", "sims": 6}), CONFIG)
    second = state["__interrupt__"][0].value
    assert second["id"] == first["id"]
    answer = graph.invoke(Command(resume="accept"), CONFIG)["answer"]
    assert answer["cost"]["rollouts"] == 10
    assert len(kaelum.services.storage.feedback_for(answer["id"])) == 1


@pytest.mark.parametrize(
    "word", ["yes", {"action": "correct"}, {"action": "search", "sims": 0}, {"action": "search", "sims": 1000}, 3]
)
def test_a_word_that_makes_no_sense_is_asked_for_again(reviewed: tuple[Kaelum, Any], word: Any) -> None:
    _, graph = reviewed
    asked(graph)
    state = graph.invoke(Command(resume=word), CONFIG)
    again = state["__interrupt__"][0].value
    assert "expected {'action': 'accept'}" in again["error"]
    assert graph.invoke(Command(resume="accept"), CONFIG)["answer"]["status"] == "verified"


def test_an_answer_that_passes_needs_nobody(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, index: "The answer is \\boxed{5}")
    graph = create_kaelum(kaelum, review=True, worker="math", sims=4).compile(checkpointer=InMemorySaver())
    state = graph.invoke({"messages": [HumanMessage("Solve 3x + 5 = 20 for x.")]}, CONFIG)
    assert (state["answer"]["status"], state.get("__interrupt__")) == ("verified", None)
    assert kaelum.services.storage.feedback_for(state["answer"]["id"]) == []


def test_two_threads_wait_apart(reviewed: tuple[Kaelum, Any]) -> None:
    _, graph = reviewed
    other: RunnableConfig = {"configurable": {"thread_id": "two"}}
    ids = {asked(graph)["id"], asked(graph, other)["id"]}
    assert len(ids) == 2
    assert graph.invoke(Command(resume="reject"), other)["answer"]["status"] == "unsure"
    assert graph.invoke(Command(resume="accept"), CONFIG)["answer"]["status"] == "verified"


SHAPE = {
    "kind": "json_schema",
    "name": "v",
    "schema": {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value"]},
    "strict": True,
}


def in_form(request: GenerationRequest, index: int) -> str:
    """Puts what it is shown in form: the last number of the draft."""
    if request.shape is None:
        return split_votes(request, index)
    draft = next(turn.content for turn in reversed(request.messages) if turn.role == "assistant")
    return f'{{"value": {re.findall("[0-9]+", draft)[-1]}}}'


def shaped(make_kaelum: MakeKaelum, **options: Any) -> Any:
    builder = create_kaelum(
        make_kaelum(in_form), review=True, worker="math", sims=4, min_confidence=0.99, max_reflections=0, **options
    )
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({"messages": [HumanMessage(QUESTION)], "shape": SHAPE}, CONFIG)
    return graph


def test_a_correction_is_what_is_put_in_form(make_kaelum: MakeKaelum) -> None:
    graph = shaped(make_kaelum, answers=3)
    answer = graph.invoke(Command(resume={"action": "correct", "answer": "It is 12"}), CONFIG)["answer"]
    assert (answer["text"], answer["status"]) == ('{"value": 12}', "verified")
    assert [choice["text"] for choice in answer["choices"]] == ['{"value": 12}']


def test_a_correction_in_form_is_given_as_it_is(make_kaelum: MakeKaelum) -> None:
    graph = shaped(make_kaelum)
    drawn = graph.get_state(CONFIG).values["completion_tokens"]
    given = '{"value":   12}'
    answer = graph.invoke(Command(resume={"action": "correct", "answer": given}), CONFIG)["answer"]
    assert answer["text"] == given
    assert answer["cost"]["completion_tokens"] == drawn


def test_a_correction_stands_before_what_was_wrong(reviewed: tuple[Kaelum, Any]) -> None:
    _, graph = reviewed
    first = asked(graph)
    right = first["alternatives"][1]["answer"]
    answer = graph.invoke(Command(resume={"action": "correct", "answer": right}), CONFIG)["answer"]
    sure = {item["answer"]: item["confidence"] for item in answer["alternatives"]}
    assert next(iter(sure)) == right
    assert sure.pop(right) == 0.99
    assert sure
    assert set(sure.values()) == {0.01}


def test_a_fork_is_an_episode_of_its_own(reviewed: tuple[Kaelum, Any]) -> None:
    kaelum, graph = reviewed
    asked(graph)
    rejected = graph.invoke(Command(resume="reject"), CONFIG)["answer"]
    before = next(state for state in graph.get_state_history(CONFIG) if state.next == ("review",))
    graph.invoke(None, before.config)
    accepted = graph.invoke(Command(resume="accept"), CONFIG)["answer"]
    assert accepted["id"] != rejected["id"]
    storage = kaelum.services.storage
    scores = [storage.feedback_for(answer["id"])[0].score for answer in (rejected, accepted)]
    assert scores == [0.0, 1.0]


def test_a_search_that_is_sent_on_has_its_budget_again(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(split_votes)
    options: Any = {"worker": "math", "sims": 64, "wave_size": 4, "token_budget": 20, "early_stop": False}
    builder = create_kaelum(kaelum, review=True, min_confidence=0.99, max_reflections=0, **options)
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({"messages": [HumanMessage(QUESTION)]}, CONFIG)
    spent = [graph.get_state(CONFIG).values["completion_tokens"]]
    for _ in range(3):
        graph.invoke(Command(resume={"action": "search", "sims": 64}), CONFIG)
        spent.append(graph.get_state(CONFIG).values["completion_tokens"])
    rounds = [after - before for before, after in pairwise([0, *spent])]
    assert max(rounds) <= 2 * min(rounds)
    answer = graph.invoke(Command(resume="reject"), CONFIG)["answer"]
    record = kaelum.services.storage.episode(answer["id"]) or {}
    assert record["settings"]["token_budget"] == 20


@pytest.mark.parametrize("words", [["accept"], [{"action": "search", "sims": 4}, "accept"]])
def test_a_reviewers_time_is_not_the_searchs(
    reviewed: tuple[Kaelum, Any], monkeypatch: pytest.MonkeyPatch, words: list[Any]
) -> None:
    _, graph = reviewed
    asked(graph)
    now, later = time.time, 0.0
    answer = None
    for word in words:
        later += 5000.0
        monkeypatch.setattr(time, "time", lambda later=later: now() + later)
        answer = graph.invoke(Command(resume=word), CONFIG)["answer"]
    assert answer is not None
    assert 0.0 < answer["cost"]["seconds"] < 1000.0
