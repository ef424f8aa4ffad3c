"""What an analysis is checked for: the sides that its query names, and the rubric judge's points."""

from __future__ import annotations

from typing import cast

import pytest

from kaelum_graph.evidence import Tier
from kaelum_graph.rubric import judged, judging_request, may_judge, parameters_of
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import verifier
from kaelum_graph.verifiers.structure import asked_sides


def structured(question: str, text: str) -> tuple[str, str]:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("analysis"), text=text, answer=text)
    vote = verifier("structure").check(Query(text=question), candidate, cast("Sandbox", None))
    assert vote.tier is Tier.CROSS_CHANNEL
    return vote.outcome, vote.reason


@pytest.mark.parametrize(
    ("question", "text", "outcome"),
    [
        ("Compare the advantages of trains and cars.", "A train is calm. A car is free.", "pass"),
        ("Compare the advantages of trains and cars.", "Cars are free and quick.", "fail"),
        ("What are the differences between nuclear power and wind power?", "Nuclear is steady, wind is not.", "pass"),
        ("What are the differences between nuclear power and wind power?", "Nuclear power is steady.", "fail"),
        ("List the pros and cons of remote work.", "Advantages: time. Drawbacks: solitude.", "pass"),
        ("List the pros and cons of remote work.", "Its advantages are many.", "fail"),
        ("What were the causes and effects of the war?", "It came about because of debt.", "fail"),
        ("Why did the Roman Empire fall?", "Because.", "unscored"),
    ],
)
def test_every_side_that_is_named_must_be_treated(question: str, text: str, outcome: str) -> None:
    assert structured(question, text)[0] == outcome


def test_a_missing_side_is_named() -> None:
    assert structured("Compare Python with Rust for servers.", "Rust is fast.") == ("fail", "nothing is said of Python")
    assert asked_sides("Compare the big dog and the big dog.") == []


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("Good.\nScore: 5", "pass"),
        ("**Score:** 4/5", "pass"),
        ("Score: 3", "unscored"),
        ("Score: 1", "fail"),
        ("Score: 10", "unscored"),
        ("Score: 8", "unscored"),
        ("A fine reply.", "unscored"),
        ("Score: 1 at first; in the end Score: 5", "pass"),
    ],
)
def test_the_judges_points_are_a_vote(reply: str, outcome: str) -> None:
    vote = judged(reply)
    assert vote.outcome == outcome
    assert vote.tier is Tier.JUDGE
    assert not vote.tier.anchored


def test_braces_in_a_reply_are_no_places_in_the_rubric() -> None:
    asked = judging_request(Query(text="Why {reply}?"), "Because {question}.", seed=1).messages[-1].content
    assert "Because {question}." in asked


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("qwen2.5-coder-0.5b", 0.5),
        ("Qwen/Qwen2.5-7B-Instruct", 7.0),
        ("qwen2.5:14b", 14.0),
        ("gpt-4o", None),
        ("Qwen3-30B-A3B", 30.0),
    ],
)
def test_a_models_size_by_its_name(name: str, size: float | None) -> None:
    assert parameters_of(name) == size


def test_small_and_unknown_models_do_not_judge_unless_told_to() -> None:
    assert [may_judge("auto", name) for name in ("qwen2.5-1.5b", "qwen2.5-3b", "gpt-4o")] == [False, True, False]
    assert may_judge("on", "qwen2.5-0.5b")
    assert not may_judge("off", "qwen2.5-7b")
