"""Those who share a Kaelum see nothing of each other, and each answer says which learned state it came from."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from kaelum_flow.forward import build_forward
from kaelum_graph.errors import UnknownEpisode, UsageError
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import EpisodeId
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

EQUATION = "Solve 3x + 5 = 20 for x."
REWORDED = "Solve 3x + 5 = 20 for x"
RIGHT = always("So\n\\boxed{5}")


def test_an_answer_is_served_again_to_its_tenant_alone(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    first = kaelum.ask(EQUATION, worker="math", tenant="ann")
    assert kaelum.ask(EQUATION, worker="math", tenant="ann").id == first.id
    for text, tenant in ((EQUATION, "bob"), (REWORDED, "carl"), (EQUATION, "")):
        assert kaelum.ask(text, worker="math", tenant=tenant).cache == "miss"
    assert kaelum.ask(REWORDED, worker="math", tenant="ann").id == first.id
    assert kaelum.metrics()["episodes"] == 4
    assert kaelum.metrics(tenant="bob")["episodes"] == 1


def test_another_tenants_episode_is_no_episode(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    answer = kaelum.ask(EQUATION, worker="math", sims=4, tenant="ann")
    for tenant in ("bob", ""):
        told: list[str] = []
        for name in (answer.id, "f" * 32):
            with pytest.raises(UnknownEpisode) as rated:
                kaelum.feedback(name, score=0.0, tenant=tenant)
            with pytest.raises(UnknownEpisode) as continued:
                kaelum.continue_search(name, tenant=tenant)
            told.append(f"{rated.value} {continued.value}".replace(name, "…"))
        assert told[0] == told[1], "an id that another has looks like one that nobody has"
        with pytest.raises(UnknownEpisode):
            kaelum.feedback(EQUATION, score=0.0, tenant=tenant)
    assert kaelum.ask(EQUATION, worker="math", tenant="ann").cache == "hit", "nobody else's rating evicts"
    further = kaelum.continue_search(answer.id, sims=4, tenant="ann")
    storage = kaelum.services.storage
    assert storage.episode(further.id, tenant="ann") is not None
    assert storage.episode(further.id) is None
    assert kaelum.continue_search(further.id, sims=2, tenant="ann").cost.rollouts == 2


def test_ratings_by_query_reach_the_tenants_own_episode(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    answers = {tenant: kaelum.ask(EQUATION, worker="math", tenant=tenant) for tenant in ("ann", "bob")}
    assert kaelum.feedback(EQUATION, score=0.0, feedback_id="f", tenant="ann", source="api", key="thumbs")
    assert kaelum.feedback(EQUATION, score=1.0, feedback_id="f", tenant="bob")
    storage = kaelum.services.storage
    [rating] = storage.feedback_for(answers["ann"].id, tenant="ann")
    assert (rating.score, rating.source, rating.key) == (0.0, "api", "thumbs")
    [rating] = storage.feedback_for(answers["bob"].id, tenant="bob")
    assert (rating.score, rating.source) == (1.0, "python")
    assert kaelum.ask(EQUATION, worker="math", tenant="ann").cache == "miss"
    assert kaelum.ask(EQUATION, worker="math", tenant="bob").cache == "hit"


async def test_the_same_off_the_event_loop(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    answer = await kaelum.aask(EQUATION, worker="math", sims=4, tenant="ann")
    assert (await kaelum.aask(EQUATION, worker="math", sims=4, tenant="bob")).cache == "miss"
    further = await kaelum.acontinue_search(answer.id, sims=2, tenant="ann")
    assert kaelum.services.storage.has_episode(further.id, tenant="ann")
    assert await kaelum.afeedback(answer.id, steps=[(0, 1.0)], tenant="ann")
    assert kaelum.services.storage.feedback_for(answer.id, tenant="ann")[0].steps == ((0, 1.0),)


def test_a_rating_of_a_served_answer_reaches_its_episode_and_can_be_changed(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    first = kaelum.ask(EQUATION, worker="math")
    served = kaelum.ask(EQUATION, worker="math")
    assert (served.cache, served.id) == ("hit", first.id)
    assert kaelum.feedback(served.id, score=0.9, comment="good", feedback_id="f")
    assert kaelum.update_feedback("f", score=0.6)
    [rating] = kaelum.services.storage.feedback_for(first.id)
    assert (rating.score, rating.comment) == (0.6, "good")
    assert kaelum.ask(EQUATION, worker="math").cache == "hit"
    assert kaelum.update_feedback("f", answer="6")
    assert kaelum.ask(EQUATION, worker="math").cache == "miss"
    assert not kaelum.update_feedback("f", score=0.0, tenant="bob")
    assert not kaelum.delete_feedback("f", tenant="bob")
    with pytest.raises(UsageError, match="between 0 and 1"):
        kaelum.update_feedback("f", score=7.0)
    with pytest.raises(UsageError, match="plumbing"):
        kaelum.update_feedback("f", worker="plumbing")
    assert kaelum.delete_feedback("f")
    assert not kaelum.delete_feedback("f")
    assert [change.action for change in kaelum.services.storage.feedback_log(after=0)] == [
        "added",
        "updated",
        "updated",
        "deleted",
    ]


def test_a_tenant_that_is_no_text_is_refused_everywhere(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    calls: list[Any] = [
        lambda: kaelum.ask(EQUATION, tenant="\ud800"),
        lambda: kaelum.continue_search("abcd", tenant="\ud800"),
        lambda: kaelum.feedback("abcd", score=1.0, tenant="\ud800"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="tenant"):
            call()


def test_the_tenant_is_the_querys_and_not_the_threads(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    kaelum = make_kaelum(RIGHT)
    graph = build_forward(kaelum.services).compile(checkpointer=InMemorySaver(), name="kaelum")
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    options = {"worker": "math"}
    asked: list[tuple[dict[str, str], str]] = [({"tenant": "ann"}, "miss"), ({}, "miss"), ({"tenant": "ann"}, "hit")]
    for whose, cache in asked:
        # Without the earlier turns: they would make it another question.
        state = {"query": EQUATION, "options": options, "messages": [HumanMessage(EQUATION)], **whose}
        assert graph.invoke(state, config)["answer"]["cache"] == cache


def test_nothing_a_tenant_asks_becomes_an_example_for_a_structure(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        return f"So\n\\boxed{{{5 if k % 2 else 7}}}"

    kaelum = make_kaelum(script, structures=True, cache=False, max_reflections=0)
    for number in range(2, 7):
        query = f"Solve for x: {number}*x + 5 = {number * 5 + 5}"
        kaelum.ask(query, worker="math", sims=4, seed=number, tenant="ann")
    book = kaelum.services.structures
    assert book is not None
    kept = [cluster for worker in kaelum.services.workers for cluster in book._store.clusters(worker)]
    assert kept, "their outcomes are learned from"
    assert [cluster.questions for cluster in kept] == [()] * len(kept)


def test_an_answer_names_the_state_it_was_asked_in(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(RIGHT)
    before = kaelum.state_version
    first = kaelum.ask(EQUATION, worker="math")
    assert first.state_version == before
    stored = kaelum.services.storage.episode(first.id)
    assert stored is not None
    assert stored["answer"]["state_version"] == before
    # A check of the answer has told something about the operators by now.
    kaelum.services.storage.add_measurements(EpisodeId("by another process"), {})
    after = kaelum.state_version
    assert after != before
    served = kaelum.ask(EQUATION, worker="math")
    assert (served.cache, served.state_version) == ("hit", after)
