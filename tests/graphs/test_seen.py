"""What learners see of a search that the graph ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from kaelum_flow.create import create_kaelum
from kaelum_graph.evidence import Tier
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.stop_head import StopHead
from kaelum_graph.models.base import Generation, GenerationRequest, OnDelta
from kaelum_graph.tree import SearchTree
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel
from tests.graphs.test_search import APPLES, EQUATION, boxed


def seen_of(kaelum: object) -> list[SeenEpisode]:
    events = kaelum.services.storage.learning_events(after=0)  # type: ignore[attr-defined]
    return [event.episode for event in events if event.episode is not None]


def test_an_answered_query_is_kept_for_the_learners(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        return f"First, 20 - 5 = 15.\nThen x = {5 if k % 2 else 4}.\n" + boxed("5" if k % 2 else "4")

    kaelum = make_kaelum(script, wave_size=4, max_reflections=0)
    answer = kaelum.ask(EQUATION, worker="math", sims=4)
    (seen,) = seen_of(kaelum)
    assert seen.id == answer.id
    assert seen.model == kaelum.services.model_name != ""  # type: ignore[attr-defined]
    assert seen.forced
    assert not seen.exhausted, "a seeded search is never a full run"
    assert len(seen.rollouts) == 4
    assert set(seen.answers) == {"5", "4"}
    assert seen.chosen is not None
    assert seen.answers[seen.chosen] == "5" == answer.answer
    assert seen.shown is not None
    assert seen.rollouts[seen.shown].cluster == seen.chosen
    by_answer = {rollout.cluster: rollout for rollout in seen.rollouts}
    verdicts = {
        number: {vote.outcome for vote in rollout.evidence if vote.tier is Tier.CONSTRAINT}
        for number, rollout in by_answer.items()
    }
    assert "pass" in verdicts[seen.answers.index("5")]
    assert "fail" in verdicts[seen.answers.index("4")]
    for rollout in seen.rollouts:
        assert rollout.blind
        assert rollout.features is not None
        steps = len(rollout.features.scalars)
        assert steps == 4
        assert rollout.features.embeddings.shape == (steps, 384)
        np.testing.assert_allclose(np.linalg.norm(rollout.features.embeddings.astype(float), axis=1), 1.0, atol=1e-2)
        assert not np.isnan(rollout.features.scalars[:3, 0]).any()
        assert rollout.features.states is None, "the scripted model tells of no states"


def test_the_route_is_kept_as_it_was_drawn(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), wave_size=4, max_reflections=0)
    kaelum.ask(APPLES, sims=8)
    (seen,) = seen_of(kaelum)
    assert not seen.forced
    assert set(seen.allocation) <= set(seen.probabilities) == set(seen.propensities)
    assert all(seen.propensities[name] >= 0.03 for name in seen.allocation)


@pytest.mark.parametrize("full", [True, False])
def test_only_a_search_that_was_not_to_be_stopped_is_a_full_run(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    monkeypatch.setattr(StopHead, "full_run", lambda self, episode_id: full)

    def script(request: GenerationRequest, k: int) -> str:
        return boxed("5" if k == 13 else str(100 + k))

    kaelum = make_kaelum(script, seed=None, wave_size=4, max_reflections=0, cache=False)
    spent = kaelum.ask(APPLES, worker="math", sims=8)
    solved = kaelum.ask(EQUATION, worker="math", sims=16)
    further = kaelum.continue_search(spent.id, sims=8)
    record = kaelum.services.storage.episode(further.id)
    assert record is not None
    assert not record["route"]["full_run"], "that was drawn for the earlier search"
    assert (solved.status, solved.cost.rollouts) == ("verified", 8)
    told = seen_of(kaelum)
    assert [one.exhausted for one in told] == [full, full, False], "a continued search is told of in part"
    assert [one.budget for one in told] == [8, 16, 16]


def test_a_rollout_that_the_server_failed_is_no_fault_of_the_workers(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), wave_size=4, max_reflections=0)
    answered = ScriptedModel._answer

    def failing(self: ScriptedModel, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        made = answered(self, request, on_delta)
        return replace(made, samples=made.samples[:-1])

    monkeypatch.setattr(ScriptedModel, "_answer", failing)
    kaelum.ask(APPLES, worker="math", sims=4, early_stop=False)
    (seen,) = seen_of(kaelum)
    assert [one.cluster for one in seen.rollouts] == [0, 0, 0]


def test_nothing_is_kept_where_learning_is_off(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), max_reflections=0)
    kaelum.ask(APPLES, worker="math", sims=4, learning=False)
    assert seen_of(kaelum) == []
    assert kaelum.services.storage.counts()["episodes"] == 1


def test_a_continued_search_tells_of_its_new_rollouts_alone(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed(str(k)), wave_size=4, max_reflections=0)
    first = kaelum.ask(APPLES, worker="math", sims=4)
    kaelum.continue_search(first.id, sims=4)
    earlier, later = seen_of(kaelum)
    assert len(earlier.rollouts) == 4
    assert len(later.rollouts) == 4
    assert later.forced
    assert not set(earlier.answers) & set(later.answers)


def test_a_forked_run_has_the_features_of_its_own_rollouts(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed(str(k)), seed=None, cache=False)
    graph = create_kaelum(kaelum, worker="math", sims=4).compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    graph.invoke({"query": APPLES, "messages": []}, config)
    before = next(state for state in graph.get_state_history(config) if state.next == ("route",))
    graph.invoke(None, before.config)
    first, second = seen_of(kaelum)
    assert first.id != second.id
    assert all(rollout.features is not None for one in (first, second) for rollout in one.rollouts)
    assert kaelum.services.shelf.of(first.id) == kaelum.services.shelf.of(second.id) == {}


def test_a_search_that_a_reviewer_sent_on_is_no_full_run(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopHead, "full_run", lambda self, episode_id: True)
    kaelum = make_kaelum(lambda request, k: boxed(str(k)), seed=None, cache=False)
    options: Any = {"worker": "math", "sims": 4, "min_confidence": 0.9, "max_reflections": 0}
    graph = create_kaelum(kaelum, review=True, **options).compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": "one"}}
    graph.invoke({"query": APPLES, "messages": []}, config)
    assert graph.get_state(config).values["route"]["full_run"]
    graph.invoke(Command(resume={"action": "search", "sims": 4}), config)
    graph.invoke(Command(resume="accept"), config)
    seen = seen_of(kaelum)[0]
    assert (len(seen.rollouts), seen.exhausted) == (8, False)


def test_features_leave_the_shelf_with_the_answer(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), max_reflections=0)
    answer = kaelum.ask(APPLES, worker="math", sims=4)
    assert kaelum.services.shelf.of(answer.id) == {}


def test_a_branch_tells_how_many_steps_it_was_given(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        if request.partial_answer:
            return boxed("5" if k % 2 else "4")
        return f"First, way {k % 2}.\nThen we see.\n" + boxed("5" if k % 2 else "9")

    kaelum = make_kaelum(script, wave_size=4, max_reflections=0, cache=False)
    kaelum.ask(EQUATION, worker="math", sims=16, depth=4, early_stop=False)
    (seen,) = seen_of(kaelum)
    record = kaelum.services.storage.episode(seen.id)
    assert record is not None
    tree = SearchTree.from_json(record["tree"])
    begun = [
        len(tree.prefix(one.simulation.node_id).splitlines())
        for one in tree.rollouts
        if one.simulation.operator != "verify"
    ]
    assert any(begun)
    assert [one.begun for one in seen.rollouts] == begun


@pytest.mark.parametrize(
    ("options", "rollouts", "share"),
    [
        ({}, 16, 0.03),
        ({"sims": 8}, 8, 0.0),
        ({"effort": "low"}, 4, 0.0),
        ({"seed": 3}, 8, 0.0),
        ({"worker": "math"}, 8, 0.0),
    ],
)
def test_some_searches_show_what_a_greater_budget_is_worth(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], rollouts: int, share: float
) -> None:
    monkeypatch.setattr("kaelum_flow.nodes.is_beyond", lambda episode_id: True)
    monkeypatch.setattr(StopHead, "full_run", lambda self, episode_id: False)
    kaelum = make_kaelum(lambda request, k: boxed("7"), seed=None, max_reflections=0)
    answer = kaelum.ask(APPLES, **options)
    (seen,) = seen_of(kaelum)
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    assert [seen.budget, record["route"]["beyond_share"]] == [rollouts, share]
    if share:
        assert answer.cost.rollouts == 16, "however well the first agree"
        assert seen.exhausted
    else:
        assert not seen.exhausted
