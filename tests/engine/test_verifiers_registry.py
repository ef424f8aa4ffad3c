"""The registry, one-function verifiers, and verifiers that break."""

from __future__ import annotations

from collections.abc import Generator
from importlib.metadata import EntryPoint
from typing import Any, cast

import pytest

from kaelum_graph import verifiers
from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import Evidence, ModelScore, Tier
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS, available, check_safely, evidence, register, verifier
from kaelum_graph.verifiers.base import Verifier

QUERY = Query(text="What is 2 + 2?")
CANDIDATE = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text="4", answer="4")


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    available()
    monkeypatch.setattr(verifiers, "_registry", dict(verifiers._registry))
    yield
    verifiers._load.cache_clear()


def test_the_built_in_verifiers_are_found() -> None:
    assert set(QUERY_CHECKS) < set(available())
    assert {"arithmetic", "agreement", "program"} < set(available())
    assert list(available()) == sorted(available())
    for name, instance in available().items():
        assert instance.name == name
        assert verifier(name) is instance


def test_an_unknown_name_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match=r"Unknown verifier 'nope'\. There are: agreement, arithmetic"):
        verifier("nope")


def test_one_function_is_a_verifier() -> None:
    @evidence(name="short", tier=Tier.CONSTRAINT)
    def short(query: Query, candidate: Candidate) -> bool | None:
        """the answer is too long"""
        return None if candidate.answer is None else len(candidate.answer) < 3

    assert short(QUERY, CANDIDATE) is True, "the function stays a function"
    found = check_safely(verifier("short"), QUERY, CANDIDATE, NoSandbox())
    assert found == Evidence(tier=Tier.CONSTRAINT, source="short", outcome="pass")
    long = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text="1234", answer="1234")
    assert check_safely(verifier("short"), QUERY, long, NoSandbox()).reason == "the answer is too long"
    none = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text="", answer=None)
    assert check_safely(verifier("short"), QUERY, none, NoSandbox()).outcome == "unscored"


def test_a_function_may_give_evidence_of_its_own() -> None:
    own = Evidence(tier=Tier.JUDGE, source="mine", outcome="fail", reason="because")
    evidence(name="mine", tier=Tier.JUDGE)(lambda query, candidate: own)
    assert check_safely(verifier("mine"), QUERY, CANDIDATE, NoSandbox()) is own


@pytest.mark.parametrize("returned", [0.9, "yes", 1, ModelScore(source="prm", value=0.9)])
def test_an_opinion_is_no_evidence(returned: object) -> None:
    evidence(name="opinion", tier=Tier.CONSTRAINT)(lambda query, candidate: cast("Any", returned))
    found = check_safely(verifier("opinion"), QUERY, CANDIDATE, NoSandbox())
    assert found.outcome == "unscored"
    assert "TypeError" in found.reason


def test_a_verifier_that_raises_gives_no_vote() -> None:
    def broken(query: Query, candidate: Candidate) -> bool:
        raise ValueError("first line\nsecond line")

    evidence(name="broken", tier=Tier.EXECUTION)(broken)
    found = check_safely(verifier("broken"), QUERY, CANDIDATE, NoSandbox())
    assert found == Evidence(tier=Tier.EXECUTION, source="broken", outcome="unscored", reason="ValueError: first line")


def test_a_class_that_returns_no_evidence_gives_no_vote() -> None:
    @register
    class Lying(Verifier):
        name = "lying"
        tier = Tier.HUMAN

        def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
            return cast("Any", ModelScore(source="prm", value=1.0))

    found = check_safely(verifier("lying"), QUERY, CANDIDATE, NoSandbox())
    assert (found.outcome, found.reason) == ("unscored", "lying returned ModelScore, not Evidence")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(UsageError, match="'arithmetic' is already registered"):
        evidence(name="arithmetic", tier=Tier.CONSTRAINT)(lambda query, candidate: True)


def test_an_installed_package_adds_a_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugged(Verifier):
        name = "plugged"
        tier = Tier.CONSTRAINT

        def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
            return Evidence(tier=self.tier, source=self.name, outcome="pass")

    class Entry:
        def load(self) -> type[Verifier]:
            return Plugged

    def installed(*, group: str) -> list[EntryPoint]:
        return [cast("EntryPoint", Entry())] if group == "kaelum.verifiers" else []

    monkeypatch.setattr(verifiers, "entry_points", installed)
    verifiers._load.cache_clear()
    assert check_safely(verifier("plugged"), QUERY, CANDIDATE, NoSandbox()).outcome == "pass"
