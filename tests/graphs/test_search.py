"""The search as the graph runs it: operators, widening, what is learned from a query, and the votes of branches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_flow.plans import takes_structures
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.router import Route, Router
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import WorkerName
from kaelum_graph.workers import worker
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel

APPLES = "Ann has 3 apples and gets some more. How many apples has she?"
EQUATION = "Solve for x: 3*x + 5 = 20"


def boxed(value: str) -> str:
    return f"So it is\n\\boxed{{{value}}}"


def model_of(kaelum: Kaelum) -> ScriptedModel:
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    return model


def rollouts_of(answer: Any) -> list[dict[str, Any]]:
    return answer.trace["rollouts"]


def test_a_crash_is_told_to_later_rollouts(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        told = any("NameError" in message.content for message in request.messages)
        return "print(42)\n" if told else "print(undefined)\n"

    kaelum = make_kaelum(script, wave_size=4)
    answer = kaelum.ask("Count the marbles in this bag.", worker="code", sims=16)
    refined = [one for one in rollouts_of(answer) if one["operator"] == "refine"]
    assert refined
    assert all(one["answer"] == "42" for one in refined)
    assert answer.answer == "42"


def test_without_anything_to_check_every_rollout_is_a_fresh_sample(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed(str(k % 5)), wave_size=4, max_reflections=0)
    answer = kaelum.ask(APPLES, worker="math", sims=16)
    assert {one["operator"] for one in rollouts_of(answer)} == {"sample"}
    assert kaelum.services.storage.measurements() == []


def test_scattered_answers_bring_in_another_worker(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        if request.partial_answer:
            return "print(11)\n"
        return boxed(str(k)) if "boxed" in request.messages[0].content else "Answer: 11"

    kaelum = make_kaelum(script, wave_size=4, max_reflections=0)
    query = "A shop sells 12 pens for 9 dollars; what do 30 pens cost in dollars?"
    answer = kaelum.ask(query, sims=16)
    route = (answer.trace or {})["route"]
    assert route["widened"] not in ("math", None)
    assert answer.answer == "11"
    forced = kaelum.ask(query, sims=16, worker="math")
    assert {one["worker"] for one in rollouts_of(forced)} == {"math"}


@pytest.mark.usefixtures("no_audits")
def test_what_a_query_taught_is_there_for_the_next_one_and_after_a_restart(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        told = any("does not satisfy" in message.content for message in request.messages)
        return boxed("5") if told else boxed("7")

    kaelum = make_kaelum(script, wave_size=4, cache=False)
    for number in range(3):
        kaelum.ask(EQUATION, worker="math", sims=32, seed=number)
    learned = kaelum.services.measurements.table()
    refine = learned[worker("math").name, "refine"]
    assert refine.passes > 0
    assert make_kaelum(script).services.measurements.table() == learned


@pytest.mark.parametrize("audit", [True, False])
def test_an_audit_measures_nothing(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, audit: bool) -> None:
    monkeypatch.setattr("kaelum_flow.nodes.is_audit", lambda episode_id: audit)
    kaelum = make_kaelum(lambda request, k: boxed("7"), wave_size=4, max_reflections=0)
    kaelum.ask(EQUATION, worker="math", sims=8)
    assert (kaelum.services.storage.measurements() == []) is audit


@pytest.mark.usefixtures("no_audits")
def test_without_learning_nothing_is_measured(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), wave_size=4, max_reflections=0, learning=False)
    kaelum.ask(EQUATION, worker="math", sims=8)
    assert kaelum.services.storage.measurements() == []


@pytest.mark.usefixtures("no_audits")
def test_confidence_follows_what_agreement_has_been_worth(make_kaelum: MakeKaelum) -> None:
    """Every agreed answer that a check could look at was wrong: agreement on an unchecked one is believed less."""
    kaelum = make_kaelum(lambda request, k: boxed("7"), wave_size=4, cache=False, max_reflections=0)
    before = kaelum.ask(APPLES, worker="math", sims=8).confidence
    for number in range(12):
        kaelum.ask(EQUATION, worker="math", sims=4, seed=number)
    after = kaelum.ask(APPLES, worker="math", sims=8).confidence
    assert after < before - 0.2


def test_waves_double_up_to_their_bound(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed(str(k)), wave_size=10, max_reflections=0)
    answer = kaelum.ask(APPLES, worker="math", sims=32)
    sizes = [sum(one["wave"] == wave for one in rollouts_of(answer)) for wave in range(1, answer.cost.waves + 1)]
    assert sizes == [4, 4, 8, 10, 6]


def test_a_first_wave_of_two_ends_a_search_whose_two_rollouts_agree(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), max_reflections=0)
    answer = kaelum.ask(APPLES, worker="math", sims=16, first_wave=2)
    assert (answer.cost.rollouts, answer.stop_reason) == (2, "margin")
    scattered = make_kaelum(lambda request, k: boxed(str(k)), max_reflections=0, first_wave=2, cache=False)
    answer = scattered.ask(APPLES, worker="math", sims=16)
    sizes = [sum(one["wave"] == wave for one in rollouts_of(answer)) for wave in range(1, answer.cost.waves + 1)]
    assert sizes == [2, 2, 4, 8]


def test_a_branch_hangs_what_it_added_below_the_step_that_it_began_from(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        if request.partial_answer:
            return f"Then more {k}.\n\\boxed{{{k}}}"
        return f"Start {k % 3}.\nMiddle.\n\\boxed{{{'(20 - 5)/3' if k % 3 == 0 and k < 4 else k}}}"

    def scripted(request: GenerationRequest, k: int) -> str:
        return script(request, k).replace("(20 - 5)/3", "5")

    kaelum = make_kaelum(scripted, wave_size=4, max_reflections=0, cache=False)
    first = kaelum.ask(EQUATION, worker="math", sims=4)
    assert first.status == "verified"
    answer = kaelum.continue_search(first.id, sims=24)
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    tree = SearchTree.from_json(record["tree"])
    branches = [rollout for rollout in tree.rollouts if rollout.simulation.operator == "branch"]
    assert branches
    for rollout in tree.rollouts:
        assert tree.prefix(rollout.simulation.node_id) + "".join(rollout.steps) == rollout.candidate.text
    for node in tree.nodes:
        parent = tree.nodes[node.parent] if node.parent is not None else None
        assert parent is None or not node.text or node.text != parent.text


def test_no_branch_begins_inside_a_rollout_that_answers_another_prompt(make_kaelum: MakeKaelum) -> None:
    def script(request: GenerationRequest, k: int) -> str:
        return f"Line {k}.\nMore of it.\n\\boxed{{{k + 20}}}"

    kaelum = make_kaelum(script, wave_size=4, max_reflections=1, cache=False)
    answer = kaelum.ask(EQUATION, worker="math", sims=32)
    record = kaelum.services.storage.episode(answer.id)
    assert record is not None
    tree = SearchTree.from_json(record["tree"])
    detached = [one for one in tree.rollouts if one.simulation.operator in ("refine", "critique", "verify")]
    assert detached
    assert all(len(one.steps) == 1 for one in detached)
    words = {one.candidate.text for one in detached}
    for rollout in tree.rollouts:
        if rollout.simulation.operator == "branch":
            assert not any(text.startswith(tree.prefix(rollout.simulation.node_id)) for text in words)


def test_spent_tokens_leave_nothing_to_reflect_with(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("7"), wave_size=4, max_reflections=2, cache=False)
    answer = kaelum.ask(EQUATION, worker="math", sims=32, token_budget=1)
    assert (answer.trace or {})["reflections"] == []
    assert answer.cost.waves == 1


def test_a_spent_budget_leaves_nothing_to_reflect_with(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(lambda request, k: boxed("41"), cache=False)
    gerbils = "How many gerbils live in the red barn of Bodo?"
    answer = kaelum.ask(gerbils, worker="math", sims=4, min_confidence=0.95, max_reflections=3)
    assert (answer.status, answer.stop_reason) == ("unsure", "margin")
    assert (answer.trace or {})["reflections"] == []
    assert answer.cost.waves == 1


def test_a_workers_prompt_without_a_place_for_structures_gets_none() -> None:
    class Old:
        def prompt(self, query: object, *, reflection: str | None = None) -> None: ...

    assert takes_structures(worker("math"))
    assert not takes_structures(Old())  # type: ignore[arg-type]


@pytest.mark.parametrize(("first", "ends"), [("math", False), ("creative", True)])
def test_a_guests_draft_of_the_right_form_ends_no_search_for_a_value(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, first: str, ends: bool
) -> None:
    draft = "Seventeen times twenty-three makes four hundred and one, as every child in school knows very well."
    route = Router.route

    def shared(router: Router, *given: Any, **how: Any) -> Route:
        allocation = {WorkerName("math"): 12, WorkerName("creative"): 4}
        return replace(route(router, *given, **how), allocation=allocation, rollouts=16, worker=WorkerName(first))

    def script(request: GenerationRequest, k: int) -> str:
        return boxed(str(k)) if "boxed" in str(request.messages) else draft

    monkeypatch.setattr(Router, "route", shared)
    kaelum = make_kaelum(script, max_reflections=0)
    answer = kaelum.ask("What is 17 times 23? Answer in one sentence of at most 20 words.")
    assert (answer.cost.rollouts < 16) is ends
