"""The rubric's judge inside a search: whom it is asked about, and what its vote does."""

from __future__ import annotations

from kaelum_graph.models.base import GenerationRequest
from tests.graphs.conftest import MakeKaelum

QUESTION = "Compare the advantages of trains and cars."
GOOD, POOR = "Trains are calm.\nCars are free.\nConclusion: both.", "Trains and cars are things.\nConclusion: so."


def is_judging(request: GenerationRequest) -> bool:
    return "Add up points" in request.messages[-1].content


def script(request: GenerationRequest, k: int) -> str:
    if is_judging(request):
        return "Fine. Score: 5" if "calm" in request.messages[-1].content else "Poor. Score: 1"
    return GOOD if k % 2 else POOR


def test_a_judge_that_is_on_orders_the_drafts_and_is_paid_for(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(script, judge="on", max_reflections=0, cache=False)
    answer = kaelum.ask(QUESTION, worker="analysis", sims=4)
    assert answer.text == GOOD
    assert any(vote.source == "rubric" and vote.outcome == "pass" for vote in answer.evidence)
    assert answer.status != "verified"
    assert answer.confidence <= 0.85
    drafts = sum(rollout["tokens"] for rollout in (answer.trace or {})["rollouts"])
    assert answer.cost.completion_tokens > drafts


def test_a_judge_is_not_asked_by_default_of_a_model_of_unknown_size(make_kaelum: MakeKaelum) -> None:
    asked: list[GenerationRequest] = []

    def watched(request: GenerationRequest, k: int) -> str:
        asked.append(request)
        return script(request, k)

    make_kaelum(watched, max_reflections=0, cache=False).ask(QUESTION, worker="analysis", sims=4)
    assert asked
    assert not any(is_judging(request) for request in asked)


def test_a_judge_is_asked_about_analyses_alone(make_kaelum: MakeKaelum) -> None:
    asked: list[GenerationRequest] = []

    def watched(request: GenerationRequest, k: int) -> str:
        asked.append(request)
        return "\\boxed{5}"

    make_kaelum(watched, judge="on", cache=False).ask("What is 2 + 3?", worker="math", sims=4)
    assert not any(is_judging(request) for request in asked)
