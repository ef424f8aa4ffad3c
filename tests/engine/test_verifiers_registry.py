"""The registry, one-function verifiers, and verifiers that break."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any, cast

import pytest

from kaelum_graph import verifiers
from kaelum_graph.attempts import VERIFICATION
from kaelum_graph.errors import UsageError
from kaelum_graph.evidence import Evidence, ModelScore, Outcome, Tier
from kaelum_graph.learning.ratings import OUTCOME, PERSON
from kaelum_graph.rubric import SOURCE as RUBRIC
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS, added, available, check_safely, evidence, register, verifier
from kaelum_graph.verifiers.base import Verifier

pytestmark = pytest.mark.usefixtures("own_registry")

QUERY = Query(text="What is 2 + 2?")
CANDIDATE = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text="4", answer="4")


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


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


def test_a_built_in_name_is_taken_whoever_is_imported_first() -> None:
    program = (
        "from kaelum_graph.errors import UsageError\n"
        "from kaelum_graph.evidence import Tier\n"
        "from kaelum_graph.verifiers import evidence\n"
        "try:\n"
        "    evidence(name='arithmetic', tier=Tier.CONSTRAINT)(lambda query, candidate: True)\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("Verifier 'arithmetic' is already registered by kaelum_graph.verifiers.arithmetic.")


@pytest.mark.parametrize("name", [PERSON, OUTCOME, RUBRIC, VERIFICATION])
def test_a_name_under_which_others_vote_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' has a name under which others vote"):
        evidence(name=name, tier=Tier.CONSTRAINT)(lambda query, candidate: True)


def test_what_is_added_is_apart_from_what_is_built_in() -> None:
    assert added() == ()
    evidence(name="zeal", tier=Tier.CONSTRAINT)(lambda query, candidate: True)
    evidence(name="form", tier=Tier.CONSTRAINT, workers=("creative", "analysis"))(lambda query, candidate: True)
    assert [one.name for one in added()] == ["form", "zeal"]
    assert [one.name for one in added("math")] == ["zeal"]
    assert [one.name for one in added("analysis")] == ["form", "zeal"]


def test_the_same_function_defined_anew_replaces_itself() -> None:
    for verdict in (True, False):

        @evidence(name="edited", tier=Tier.CONSTRAINT)
        def edited(query: Query, candidate: Candidate, verdict: bool = verdict) -> bool:
            return verdict

    assert check_safely(verifier("edited"), QUERY, CANDIDATE, NoSandbox()).outcome == "fail"


def test_a_bad_registration_is_one_clear_line() -> None:
    async def later(query: Query, candidate: Candidate) -> bool:
        return True

    with pytest.raises(UsageError, match="'slow' is an async function"):
        evidence(name="slow", tier=Tier.CONSTRAINT)(cast("Any", later))
    with pytest.raises(UsageError, match="has the tier 'V', not a Tier"):
        evidence(name="tierless", tier=cast("Any", "V"))(lambda query, candidate: True)
    with pytest.raises(UsageError, match="has workers='math', not names"):
        evidence(name="one", tier=Tier.CONSTRAINT, workers="math")(lambda query, candidate: True)
    assert added() == ()


@pytest.mark.parametrize(
    "found",
    [
        Evidence(tier=cast("Tier", "V"), source="own", outcome="pass"),
        Evidence(tier=Tier.CONSTRAINT, source="own", outcome=cast("Outcome", "passed")),
        Evidence(tier=Tier.CONSTRAINT, source="own", outcome="fail", reason=cast("str", None)),
    ],
)
def test_evidence_with_a_field_that_is_none_gives_no_vote(found: Evidence) -> None:
    evidence(name="own", tier=Tier.CONSTRAINT)(lambda query, candidate: found)
    told = check_safely(verifier("own"), QUERY, CANDIDATE, NoSandbox())
    assert (told.tier, told.outcome) == (Tier.CONSTRAINT, "unscored")
    assert told.reason.startswith("own returned")


def test_an_installed_verifier_takes_no_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Taking(Verifier):
        name = "arithmetic"
        tier = Tier.CONSTRAINT

        def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
            return Evidence(tier=self.tier, source=self.name, outcome="pass")

    class Entry:
        def load(self) -> type[Verifier]:
            return Taking

    monkeypatch.setattr(verifiers, "entry_points", lambda group: [Entry()])
    verifiers._load.cache_clear()
    with pytest.raises(UsageError, match="'arithmetic' is already registered"):
        verifier("arithmetic")


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
    assert [one.name for one in added()] == ["plugged"]


def test_an_installed_verifier_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name = "broken"

        def load(self) -> type[Verifier]:
            raise ImportError("no module named 'missing'")

    monkeypatch.setattr(verifiers, "entry_points", lambda group: [Entry()])
    verifiers._load.cache_clear()
    with pytest.raises(UsageError, match=r"kaelum\.verifiers: 'broken' cannot be loaded: no module named 'missing'"):
        verifier("arithmetic")
    verifiers._load.cache_clear()


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [
        (7, None, "has the name 7"),
        ("", None, "has the name ''"),
        ("own", 5, "workers=5"),
        ("own", [1], r"workers=\[1\]"),
    ],
)
def test_a_name_or_workers_of_another_type_are_refused(name: Any, workers: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evidence(name=name, tier=Tier.CONSTRAINT, workers=workers)(lambda query, candidate: True)
    assert "own" not in verifiers.available()


def test_a_vote_in_anothers_name_counts_for_nothing() -> None:
    class Posing(Verifier):
        name = "posing"
        tier = Tier.HUMAN

        def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
            return Evidence(tier=Tier.HUMAN, source="person", outcome="pass")

    told = check_safely(Posing(), QUERY, CANDIDATE, NoSandbox())
    assert (told.outcome, told.source) == ("unscored", "posing")


def test_a_long_reason_is_cut_and_an_exit_is_no_exit() -> None:
    class Long(Verifier):
        name = "long"
        tier = Tier.CONSTRAINT

        def check(self, query: Query, candidate: Candidate, sandbox: Sandbox) -> Evidence:
            if candidate is CANDIDATE:
                return Evidence(tier=self.tier, source=self.name, outcome="fail", reason="x" * 9999)
            raise SystemExit("stop")

    told = check_safely(Long(), QUERY, CANDIDATE, NoSandbox())
    assert (told.outcome, len(told.reason)) == ("fail", 500)
    other = replace(CANDIDATE, text="another")
    assert check_safely(Long(), QUERY, other, NoSandbox()).outcome == "unscored"
