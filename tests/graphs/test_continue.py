"""Searches that are taken up again, several answers to one query, and text that is no Unicode."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from kaelum_flow.facade import Kaelum
from kaelum_flow.forward import build_forward
from kaelum_flow.trace import trace_of
from kaelum_graph.answer import Answer, Progress
from kaelum_graph.errors import ConfigError, UsageError
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import EpisodeId, Json, Message
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel, always, cycle
from tests.graphs.test_forward import APPLES, EQUATION, boxed, model_of

MIXED = cycle(boxed("3"), boxed("8"), boxed("4"), boxed("9"))


def record_of(kaelum: Kaelum, answer: Answer) -> Json:
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    return record


def test_rollouts_are_added_to_the_stored_tree(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = kaelum.ask(APPLES, worker="math", sims=8)
    before = record_of(kaelum, first)
    drawn = model_of(kaelum).drawn
    second = kaelum.continue_search(first.id, sims=12)
    assert model_of(kaelum).drawn == drawn + 12
    assert second.cost.rollouts == 12
    assert second.cost.completion_tokens < first.cost.completion_tokens * 2
    assert second.id != first.id
    assert (second.query, second.worker, second.cache) == (APPLES, "math", "off")
    assert second.trace is not None
    assert [rollout["id"] for rollout in second.trace["rollouts"]] == list(range(20))
    waves = [rollout["wave"] for rollout in second.trace["rollouts"]]
    assert waves == sorted(waves)
    assert waves[8] == waves[7] + 1
    assert (first.cost.waves, second.cost.waves) == (waves[7], waves[-1] - waves[7])
    after = record_of(kaelum, second)
    assert after["continued_from"] == first.id
    assert len(after["tree"]["rollouts"]) == 20
    assert after["tree"]["rollouts"][:8] == before["tree"]["rollouts"]
    assert SearchTree.from_json(after["tree"]).nodes[0].visits == 20
    assert record_of(kaelum, first) == before
    assert before["continued_from"] is None


def test_without_a_number_it_is_as_many_again_and_a_chain_goes_on(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = kaelum.ask(APPLES, worker="math", sims=4)
    second = kaelum.continue_search(first.id[:6])
    third = kaelum.continue_search(second.id, sims=1)
    assert (second.cost.rollouts, third.cost.rollouts) == (4, 1)
    assert third.trace is not None
    assert len(third.trace["rollouts"]) == 9
    assert third.trace["continued_from"] == second.id


def test_a_seeded_search_draws_something_new(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = kaelum.ask(APPLES, worker="math", sims=8, seed=5)
    kaelum.continue_search(first.id, sims=8)
    seeds = [request.sampling.seed for request in model_of(kaelum).requests]
    assert None not in seeds
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(("query", "answer", "reason"), [(EQUATION, "5", "verified"), (APPLES, "3", "margin")])
def test_what_stopped_the_search_before_does_not_stop_it_again(
    make_kaelum: MakeKaelum, query: str, answer: str, reason: str
) -> None:
    kaelum = make_kaelum(always(boxed(answer)))
    first = kaelum.ask(query, worker="math", sims=32)
    assert first.stop_reason == reason
    assert first.cost.rollouts < 32
    second = kaelum.continue_search(first.id, sims=24)
    assert (second.stop_reason, second.cost.rollouts, second.answer) == (reason, 24, answer)


def test_a_reason_that_comes_up_anew_stops_it(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        return boxed("7" if k < 8 else "5")  # the second search's first wave passes

    kaelum = make_kaelum(script, max_reflections=0)
    first = kaelum.ask(EQUATION, worker="math", sims=8)
    assert first.status == "unsure"
    second = kaelum.continue_search(first.id, sims=32)
    assert (second.status, second.stop_reason, second.answer) == ("verified", "verified", "5")
    assert (second.cost.waves, second.cost.rollouts < 32) == (1, True)


def test_the_first_querys_options_hold_unless_overridden(make_kaelum: MakeKaelum) -> None:
    # The process's own settings are those of another day: what counts is what was in force then.
    asked = make_kaelum(MIXED, worker="math", wave_size=4, temperature=0.3)
    first = asked.ask(APPLES, sims=4, min_confidence=0.84, max_reflections=0, history=[Message("user", "Use base 7.")])
    assert first.status == "unsure"
    kaelum = make_kaelum(MIXED)
    second = kaelum.continue_search(first.id, sims=4)
    assert (second.status, second.worker) == ("unsure", "math")
    [request] = model_of(kaelum).requests
    assert (request.n, request.sampling.temperature) == (4, 0.3)
    assert any("base 7" in message.content for message in request.messages)
    third = kaelum.continue_search(first.id, sims=4, min_confidence=0.0, temperature=0.9)
    assert third.status == "unverified"
    assert model_of(kaelum).requests[-1].sampling.temperature == 0.9


def test_another_worker_may_go_on(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = kaelum.ask(APPLES, worker="math", sims=4)
    second = kaelum.continue_search(first.id, sims=4, worker="logic")
    assert second.trace is not None
    assert [rollout["worker"] for rollout in second.trace["rollouts"]] == ["math"] * 4 + ["logic"] * 4


def test_shares_of_several_workers_are_kept(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = kaelum.ask("Is this so or not?", sims=8)
    assert first.trace is not None
    workers = set(first.trace["route"]["allocation"])
    assert len(workers) > 1, "this query is shared by several workers"
    second = kaelum.continue_search(first.id, sims=8)
    assert second.trace is not None
    new = {rollout["worker"] for rollout in second.trace["rollouts"][first.cost.rollouts :]}
    assert new == workers
    assert second.cost.rollouts == 8


def test_earlier_reflections_are_kept(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("7")), max_reflections=1)
    first = kaelum.ask(EQUATION, worker="math", sims=16)
    reflections = record_of(kaelum, first)["reflections"]
    assert len(reflections) == 1
    second = kaelum.continue_search(first.id, sims=8)
    assert record_of(kaelum, second)["reflections"] == reflections


def test_the_answer_in_the_cache_does_not_stand_in_the_way_and_is_bettered(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    first = kaelum.ask(EQUATION, worker="math")
    second = kaelum.continue_search(first.id, sims=8)
    assert second.cost.rollouts == 8
    hit = kaelum.ask(EQUATION, worker="math")
    assert (hit.cache, hit.id) == ("hit", second.id)
    # What the cache served can be continued: its id is that of the search behind it.
    assert kaelum.continue_search(hit.id, sims=1).cost.rollouts == 1


def test_another_model_is_allowed_and_said(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_kaelum(MIXED).ask(APPLES, worker="math", sims=4)
    assert first.notices == ()
    monkeypatch.setattr(ScriptedModel, "name", "another")
    second = make_kaelum(MIXED).continue_search(first.id, sims=4)
    assert second.notices == ("the search was begun with scripted and continued with another.",)


@pytest.mark.usefixtures("no_audits")
def test_nothing_is_measured_twice(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("7")), max_reflections=0, wave_size=4)
    first = kaelum.ask(EQUATION, worker="math", sims=8)
    kaelum.continue_search(first.id, sims=4)
    measured = kaelum.services.storage.measurements()
    rollouts = [sum(row[2]["rollouts"] for row in record["operators"]) for record in measured]
    # The first wave had no choice of operators and is not counted.
    assert rollouts == [4, 4]


def test_streaming_and_budgets_in_the_progress(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = kaelum.ask(APPLES, worker="math", sims=8)
    events = list(kaelum.stream_continue(first.id, sims=8))
    assert isinstance(events[-1], Answer)
    stages = {event.stage: event.data for event in events if isinstance(event, Progress)}
    assert stages["cache"]["state"] == "off"
    assert stages["route"]["rollouts"] == 16
    assert (stages["wave"]["rollouts"], stages["wave"]["budget"]) == (16, 16)


async def test_the_same_off_the_event_loop(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    first = await kaelum.aask(APPLES, worker="math", sims=4)
    answer = await kaelum.acontinue_search(first.id, sims=4)
    events = [event async for event in kaelum.astream_continue(first.id, sims=2)]
    assert answer.cost.rollouts == 4
    assert isinstance(events[-1], Answer)
    assert events[-1].cost.rollouts == 2


def test_a_graph_of_ones_own_continues_and_forgets(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    kaelum = make_kaelum(MIXED)
    graph = build_forward(kaelum.services).compile(checkpointer=InMemorySaver(), name="kaelum")
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    options = {"worker": "math", "sims": 4}
    first = graph.invoke({"messages": [HumanMessage(APPLES)], "options": options}, config)["answer"]
    graph.invoke({"continue_from": first["id"], "options": {"sims": 4}}, config)
    second = graph.get_state(config).values
    assert len(tried(second)["rollouts"]) == 8
    graph.invoke({"messages": [HumanMessage(APPLES)], "options": options}, config)
    third = graph.get_state(config).values
    assert (len(tried(third)["rollouts"]), third["answer"]["cost"]["rollouts"]) == (4, 4)
    assert tried(third)["continued_from"] is None


def tried(state: Any) -> Json:
    return trace_of(state) or {}


def test_what_cannot_be_continued_is_one_clear_error(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(MIXED)
    answer = kaelum.ask(APPLES, worker="math", sims=4)
    storage = kaelum.services.storage
    kept = record_of(kaelum, answer)
    storage.append_episode(EpisodeId("treeless"), "q", {"answer": "4"})
    storage.append_episode(EpisodeId("oddly"), "q", {**kept, "tree": {"nodes": 3}})
    storage.append_episode(EpisodeId("bare"), "q", {**kept, "tree": SearchTree().to_json()})
    gone = {
        **kept,
        "settings": {**kept["settings"], "worker": None},
        "route": {**kept["route"], "allocation": {"x": 4}},
    }
    storage.append_episode(EpisodeId("orphaned"), "q", gone)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("unknown", {}, "episode 'unknown': no such episode"),
        ("\ud800\ud800\ud800\ud800", {}, "no such episode"),
        ("e", {}, "at least 4 characters"),
        ("treeless", {}, "episode 'treeless' has no search tree to continue"),
        ("oddly", {}, "written in another form"),
        ("bare", {}, "empty search tree"),
        ("orphaned", {}, "unknown worker 'x'"),
        (answer.id, {"speed": 9}, "unknown option 'speed'"),
        (answer.id, {"worker": "plumbing"}, "plumbing"),
    ]
    for name, options, message in cases:
        with pytest.raises(UsageError, match=message):
            kaelum.continue_search(name, **options)
    with pytest.raises(ConfigError, match="sims has value 0"):
        kaelum.continue_search(answer.id, sims=0)


def test_the_best_distinct_answers(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("8"), boxed("3.0"), boxed("9")))
    answer = kaelum.ask(APPLES, worker="math", sims=8, answers=2)
    assert [choice.answer for choice in answer.choices] == ["3", "8"]
    best, other = answer.choices
    assert (best.text, best.answer, best.confidence) == (answer.text, answer.answer, answer.confidence)
    assert (best.worker, best.status) == (answer.worker, answer.status)
    assert [best.share, other.share] == pytest.approx([0.5, 0.25])
    assert other.text == boxed("8")
    assert len(kaelum.ask(APPLES, worker="math", sims=8, answers=16).choices) == 3
    assert kaelum.ask(APPLES, worker="math", sims=8).choices == ()
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_a_refuted_answer_is_no_choice_unless_all_are(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("7"), boxed("5"), boxed("4")))
    answer = kaelum.ask(EQUATION, worker="math", sims=8, answers=5)
    assert [(choice.answer, choice.status) for choice in answer.choices] == [("5", "verified")]
    refuted = make_kaelum(cycle(boxed("7"), boxed("7"), boxed("4")))
    answer = refuted.ask(EQUATION, worker="math", sims=8, answers=5, cache=False)
    assert [(choice.answer, choice.status) for choice in answer.choices] == [("7", "unsure"), ("4", "unsure")]
    assert answer.choices[0].text == boxed("7")


def test_drafts_are_distinct_choices(make_kaelum: MakeKaelum) -> None:
    drafts = [
        "The sea is wide and the night is long, and nobody sings the old sailor's song.",
        "A lamp in the harbour, a boat on the sand, a letter that never came back to land.",
        "The gulls are asleep on the roof of the pier, the tide has gone out, and the morning is near.",
    ]
    answer = make_kaelum(cycle(*drafts, drafts[0])).ask(
        "Write something about the sea at night.", worker="creative", sims=8, answers=3
    )
    assert {choice.text for choice in answer.choices} == set(drafts)
    assert [choice.answer for choice in answer.choices] == [None, None, None]
    assert answer.choices[0].text == answer.text == drafts[0]


def test_one_cached_answer_is_not_served_where_several_are_wanted(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("5")))
    assert kaelum.ask(EQUATION, worker="math").cache == "miss"
    assert kaelum.ask(EQUATION, worker="math", answers=2).cache == "miss"
    again = kaelum.ask(EQUATION, worker="math", answers=2)
    assert again.cache == "hit"
    assert [choice.answer for choice in again.choices] == ["5"]
    assert kaelum.ask(EQUATION, worker="math").choices == ()


def test_the_rollouts_behind_an_alternative_are_named(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("8")))
    answer = kaelum.ask(APPLES, worker="math", sims=4)
    assert answer.trace is not None
    for item in answer.alternatives:
        given = [rollout["id"] for rollout in answer.trace["rollouts"] if rollout["answer"] == item.answer]
        assert list(item.rollouts) == given
    chosen = record_of(kaelum, answer)["verdict"]["rollout"]
    assert answer.trace["rollouts"][chosen]["text"] == answer.text


def test_halves_of_surrogate_pairs_are_replaced_at_the_door(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("5")))
    answer = kaelum.ask("a\ud800b \ud83d\ude00", worker="math", sims=2, history=[Message("user", "\udfff!")])
    assert answer.recorded
    assert answer.query == "a\ufffdb 😀"
    assert record_of(kaelum, answer)["history"] == [{"role": "user", "content": "\ufffd!"}]
    assert kaelum.feedback("a\ud800b 😀", score=1.0, comment="\ud800")
    [rating] = kaelum.services.storage.feedback_for(answer.id)
    assert rating.comment == "\ufffd"
    result = kaelum.graph.invoke({"messages": [HumanMessage("c\udc00")], "options": {"worker": "math", "sims": 2}})
    assert result["answer"]["query"] == "c\ufffd"


def test_a_search_refuted_at_its_deadline_says_deadline(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("7")), seconds=0.3, max_reflections=1)
    answer = kaelum.ask(EQUATION, worker="math", sims=32, deadline=0.2)
    assert (answer.status, answer.stop_reason) == ("unsure", "deadline")
