"""A wave whose rollouts act: observations, shared calls, costs and progress in a whole search."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaelum_flow.expand import pauses_of
from kaelum_flow.facade import Kaelum
from kaelum_flow.state import KaelumState, packed
from kaelum_graph.answer import Progress
from kaelum_graph.errors import ContextOverflow, ModelError
from kaelum_graph.models.base import CancelToken, Generation, GenerationRequest, OnDelta
from kaelum_graph.tree import ROOT, Simulation
from kaelum_graph.types import WorkerName
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Script, ScriptedModel, always

APPLES = "Tom has some apples and gives a few of them to Ann. How many are left in the basket on the table?"
PROGRAM = "```python\nprint(6 * 7)\n```\n"
ACTION = f"I compute it.\n{PROGRAM}```output\n36\n```\nThe answer is \\boxed{{36}}"


def model_of(kaelum: Kaelum) -> ScriptedModel:
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    return model


def once_observed(after: str, before: str = ACTION) -> Script:
    """`before` until a turn holds an output, then `after`."""
    return lambda request, k: after if "```output" in request.partial_answer else before


def test_the_answer_comes_from_the_true_output(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(once_observed("Half of them are left.\n\\boxed{21}"))
    answer = kaelum.ask(APPLES, worker="math", sims=4)
    assert answer.answer == "21"
    assert f"{PROGRAM}```output\n42\n```\nHalf of them" in answer.text
    assert answer.text.count("42") == 1, "the output is told once"
    assert model_of(kaelum).calls == [1, 4]


def test_without_a_program_a_wave_is_one_call(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("The answer is \\boxed{3}"))
    kaelum.ask(APPLES, worker="math", sims=4)
    assert model_of(kaelum).calls == [1]


def test_a_worker_that_does_not_observe_is_asked_once(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always("Apples are left.\n" + PROGRAM + "```output\n36\n```\n"))
    kaelum.ask("Write a paragraph about apples.", worker="creative", sims=4)
    model = model_of(kaelum)
    assert model.calls == [1]
    assert "```output" not in model.requests[0].sampling.stop


def test_both_calls_are_paid_for(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(once_observed("\\boxed{42}"))
    cost = kaelum.ask(APPLES, worker="math", sims=4).cost
    assert cost.prompt_tokens == 10 + 4 * 10
    before = len(f"I compute it.\n{PROGRAM}".split(" "))
    assert cost.completion_tokens == 4 * (before + 1)


def test_the_token_budget_holds_over_both_calls(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(once_observed("\\boxed{42}"))
    kaelum.ask(APPLES, worker="math", sims=4, token_budget=80)
    first, *later = model_of(kaelum).requests
    assert first.sampling.max_tokens == 20
    used = len(f"I compute it.\n{PROGRAM}".split(" "))
    assert [request.sampling.max_tokens for request in later] == [20 - used] * 4


def test_the_deadline_holds_over_both_calls(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(once_observed("\\boxed{42}"), seconds=0.3)
    answer = kaelum.ask(APPLES, worker="math", sims=32, deadline=0.2)
    assert answer.answer == "42", "the program of a paused rollout is run when it is judged"
    assert model_of(kaelum).calls == [1]


def test_a_cancelled_wave_does_not_go_on(make_kaelum: MakeKaelum) -> None:
    token = CancelToken()

    def script(request: GenerationRequest, k: int) -> str:
        token.cancel()
        return ACTION

    kaelum = make_kaelum(script)
    answer = kaelum.ask(APPLES, worker="math", sims=32, cancel=token)
    assert answer.stop_reason == "cancelled"
    assert model_of(kaelum).calls == [1]


def test_progress_goes_on_while_turns_go_on(make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaelum_flow.expand.PROGRESS_SECONDS", 0.0)
    events = list(make_kaelum(once_observed("\\boxed{42}")).stream(APPLES, worker="math", sims=4))
    told = [event.data["tokens"] for event in events if isinstance(event, Progress) and event.stage == "wave"]
    assert told[:8] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_verifying_program_is_not_observed(make_kaelum: MakeKaelum) -> None:
    services = make_kaelum(always(ACTION)).services
    state = KaelumState(messages=[], request=packed({"text": APPLES, "history": [], "options": {}}))
    math = Simulation(node_id=ROOT, worker=WorkerName("math"), operator="critique")
    assert pauses_of(services, state, math) == ("```output",)
    assert pauses_of(services, state, replace(math, operator="verify")) == ()


class Refusing(ScriptedModel):
    """Refuses every request, or those alone that go on from an output."""

    later_only = False

    def _answer(self, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        if self.later_only and "```output" not in request.partial_answer:
            return super()._answer(request, on_delta)
        return Generation(
            request_id=request.request_id, error=ContextOverflow(limit_tokens=10, prompt_tokens=20), prompt_tokens=20
        )


def test_a_search_without_any_rollout_raises_what_befell_it(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(ACTION))
    kaelum.services._given["model"] = Refusing(always(ACTION))
    with pytest.raises(ModelError, match="context_length_exceeded"):
        kaelum.ask(APPLES, worker="math", sims=4)


def test_rollouts_that_can_not_go_on_are_judged_as_they_stand(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(ACTION))
    model = Refusing(always(ACTION))
    model.later_only = True
    kaelum.services._given["model"] = model
    assert kaelum.ask(APPLES, worker="math", sims=4).answer == "42"
