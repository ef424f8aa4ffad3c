"""Reasoning structures in the search: sought from live queries, tried in pairs, never used on faith."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_graph.models.base import GenerationRequest
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel

PLAN = "1. Read the equation.\n2. Bring the unknown to one side.\n3. Divide by its factor.\n4. Put the value back."


def equation(number: int) -> str:
    return f"Solve for x: {number}*x + 5 = {number * 5 + 5}"


def script(request: GenerationRequest, k: int) -> str:
    """Right with the plan, wrong without; the plan itself where neither is asked."""
    system = request.messages[0].content
    if "boxed" not in system:
        return PLAN
    return f"So\n\\boxed{{{5 if 'Put the value back' in system else 7}}}"


def planned(model: ScriptedModel) -> int:
    return sum(
        request.n for request in model.requests if "boxed" in request.messages[0].content
        and "Put the value back" in request.messages[0].content
    )  # fmt: skip


def states(kaelum: Kaelum) -> list[str]:
    book = kaelum.services.structures
    assert book is not None
    return [entry.state for entry in book.entries()]


def until(condition: Any) -> None:
    limit = time.monotonic() + 20
    while not condition() and time.monotonic() < limit:
        time.sleep(0.02)
    assert condition()


@pytest.mark.usefixtures("no_audits")
def test_a_plan_is_sought_tried_in_half_of_the_samples_and_adopted(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(script, structures=True, cache=False, max_reflections=0)
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    for number in range(2, 5):
        kaelum.ask(equation(number), worker="math", sims=4, seed=number)
    assert planned(model) == 0
    until(lambda: states(kaelum) == ["trial"])
    answer = kaelum.ask(equation(7), worker="math", sims=4, seed=7)
    assert answer.status == "verified"
    assert planned(model) == 2
    for number in range(8, 30):
        kaelum.ask(equation(number), worker="math", sims=4, seed=number)
        if states(kaelum) == ["adopted"]:
            break
    assert states(kaelum) == ["adopted"]


def test_switched_off_nothing_is_sought(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(script, cache=False, max_reflections=0)
    for number in range(2, 7):
        kaelum.ask(equation(number), worker="math", sims=4, seed=number)
    model = kaelum.services.model
    assert isinstance(model, ScriptedModel)
    assert planned(model) == 0
    assert kaelum.services.structures is None


@pytest.mark.usefixtures("no_audits")
def test_closing_does_not_wait_for_a_plan(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(script, structures=True, cache=False, max_reflections=0)
    for number in range(2, 5):
        kaelum.ask(equation(number), worker="math", sims=4, seed=number)
    started = time.monotonic()
    kaelum.close()
    assert time.monotonic() - started < 5
