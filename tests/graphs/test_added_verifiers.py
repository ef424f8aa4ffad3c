"""Verifiers that a user added: asked in every search, wherever a built-in one would be."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kaelum_flow.rollouts import asked_about
from kaelum_graph import verifiers
from kaelum_graph.answer import Answer, Progress
from kaelum_graph.evidence import Tier
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.types import Candidate, Query
from kaelum_graph.verifiers import evidence, verifier
from kaelum_graph.workers.math import Math
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import Script, always, cycle

pytestmark = pytest.mark.usefixtures("own_registry")

MARBLES = "Tom has some marbles, an even number of them, and gives a few to Ann. How many are left in his bag?"
DOCS = Path(__file__).parents[2] / "docs" / "evidence.md"


def boxed(answer: str) -> str:
    return f"First I look at what is given.\nThen I work it out.\nThe answer is \\boxed{{{answer}}}"


def after_being_told(what: str) -> Script:
    """3, until the model is told `what`; then 8."""
    return lambda request, k: boxed("8" if any(what in turn.content for turn in request.messages) else "3")


def add_the_documented_one() -> None:
    found = re.search(r"(?m)^    from kaelum_graph\.evidence import Tier\n(?:(?:    .*)?\n)+", DOCS.read_text())
    assert found, "docs/evidence.md shows how to add a verifier"
    exec(compile(textwrap.dedent(found[0]), str(DOCS), "exec"), {"__name__": "documented"})


def votes_of(answer: Answer, source: str) -> list[dict[str, Any]]:
    rollouts = (answer.trace or {})["rollouts"]
    return [vote for rollout in rollouts for vote in rollout["evidence"] if vote["source"] == source]


def test_an_added_check_sinks_an_answer_and_its_reason_is_reflected_on(make_kaelum: MakeKaelum) -> None:
    @evidence(name="even", tier=Tier.CONSTRAINT)
    def even(query: Query, candidate: Candidate) -> bool | None:
        """an odd number is left"""
        return False if int(candidate.answer or 0) % 2 else None

    kaelum = make_kaelum(after_being_told("an odd number is left"), max_reflections=1, wave_size=4)
    events = list(kaelum.stream(MARBLES, worker="math", sims=16))
    told = [event.data["reason"] for event in events if isinstance(event, Progress) and event.stage == "reflect"]
    assert told == ["an odd number is left"]
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert (answer.answer, answer.status) == ("8", "unverified")
    assert {vote["outcome"] for vote in votes_of(answer, "even")} == {"fail", "unscored"}


def test_an_answer_that_only_an_added_check_refutes_is_not_given(make_kaelum: MakeKaelum) -> None:
    @evidence(name="even", tier=Tier.CONSTRAINT)
    def even(query: Query, candidate: Candidate) -> bool | None:
        """an odd number is left"""
        return False if int(candidate.answer or 0) % 2 else None

    answer = make_kaelum(always(boxed("3")), max_reflections=0).ask(MARBLES, worker="math", sims=4)
    assert answer.status == "unsure"
    assert "Not sure" in answer.text
    assert [(vote.source, vote.tier, vote.outcome, vote.reason) for vote in answer.evidence] == [
        ("even", Tier.CONSTRAINT, "fail", "an odd number is left")
    ]


def test_the_documented_check_lifts_an_answer_that_few_gave_to_verified(make_kaelum: MakeKaelum) -> None:
    add_the_documented_one()
    answer = make_kaelum(cycle(boxed("3"), boxed("3"), boxed("3"), boxed("8"))).ask(MARBLES, worker="math", sims=16)
    assert (answer.answer, answer.status, answer.stop_reason) == ("8", "verified", "verified")
    assert [(vote.source, vote.outcome) for vote in answer.evidence] == [("even", "pass")]
    assert {vote["reason"] for vote in votes_of(answer, "even") if vote["outcome"] == "fail"} == {"the answer is odd"}


def test_a_check_is_asked_about_the_workers_it_names_alone(make_kaelum: MakeKaelum) -> None:
    seen: list[str] = []

    @evidence(name="never", tier=Tier.CONSTRAINT, workers=("logic", "code"))
    def never(query: Query, candidate: Candidate) -> bool:
        seen.append(candidate.worker)
        return False

    kaelum = make_kaelum(always("Answer: 3"), max_reflections=0, cache=False)
    other = kaelum.ask(MARBLES, worker="math", sims=4)
    assert (seen, other.answer, other.status) == ([], "3", "unverified")
    own = kaelum.ask(MARBLES, worker="logic", sims=4)
    assert (seen, own.answer, own.status) == (["logic"] * 4, "3", "unsure")


def test_a_check_that_raises_changes_nothing(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(cycle(boxed("3"), boxed("8"), boxed("3"), boxed("9")), cache=False, learning=False)
    before = kaelum.ask(MARBLES, worker="math", sims=8)

    @evidence(name="broken", tier=Tier.CONSTRAINT)
    def broken(query: Query, candidate: Candidate) -> bool:
        raise LookupError("no such table")

    after = kaelum.ask(MARBLES, worker="math", sims=8)
    assert len(votes_of(after, "broken")) == 8
    assert {(vote["outcome"], vote["reason"]) for vote in votes_of(after, "broken")} == {
        ("unscored", "LookupError: no such table")
    }
    for known in ("answer", "status", "confidence", "evidence", "alternatives", "stop_reason"):
        assert getattr(after, known) == getattr(before, known)


PLUGGED = """
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.verifiers import Verifier, evidence

@evidence(name="plugged-function", tier=Tier.CROSS_CHANNEL)
def function(query, candidate):
    return True

class Plugged(Verifier):
    name = "plugged-class"
    tier = Tier.CONSTRAINT
    workers = ("math",)

    def check(self, query, candidate, sandbox):
        return Evidence(tier=self.tier, source=self.name, outcome="pass" if candidate.answer == "8" else "fail")
"""


def test_an_installed_package_adds_checks(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    about = installed / "plugged_checks-1.0.dist-info"
    about.mkdir(parents=True)
    (installed / "plugged_checks.py").write_text(PLUGGED)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-checks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[kaelum.verifiers]\nfunctions = plugged_checks\nclass = plugged_checks:Plugged\n"
    )
    monkeypatch.syspath_prepend(installed)
    verifiers._load.cache_clear()
    try:
        script = cycle(boxed("3"), boxed("3"), boxed("3"), boxed("8"))
        answer = make_kaelum(script).ask(MARBLES, worker="math", sims=4)
    finally:
        sys.modules.pop("plugged_checks", None)
    assert (answer.answer, answer.status) == ("8", "verified")
    assert {vote.source for vote in answer.evidence} == {"plugged-class", "plugged-function"}


def test_an_answer_kept_before_a_check_was_added_is_not_served(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(boxed("3")))
    asked = [kaelum.ask(MARBLES, worker="math", sims=4) for _ in range(2)]
    assert [one.cache for one in asked] == ["miss", "hit"], "what is agreed on is kept"

    add_the_documented_one()
    answer = kaelum.ask(MARBLES, worker="math", sims=4)
    assert (answer.cache, answer.status) == ("miss", "unsure")


def test_a_draft_that_is_written_to_order_is_checked_too(make_kaelum: MakeKaelum) -> None:
    @evidence(name="no-rhymes", tier=Tier.CONSTRAINT, workers=("creative",))
    def no_rhymes(query: Query, candidate: Candidate) -> bool | None:
        """it rhymes"""
        return False if "cat" in candidate.text and "hat" in candidate.text else None

    def script(request: GenerationRequest, k: int) -> str:
        return "There was a cat,\nit wore a hat." if k % 4 else "A dog slept.\nNobody saw it wake."

    answer = make_kaelum(script).ask("Write two lines about an animal.", worker="creative", sims=8)
    assert answer.text == "A dog slept.\nNobody saw it wake."
    assert {vote["outcome"] for vote in votes_of(answer, "no-rhymes")} == {"fail", "unscored"}


def test_a_worker_that_names_an_added_check_asks_it_once() -> None:
    evidence(name="late", tier=Tier.CROSS_CHANNEL)(lambda query, candidate: None)
    evidence(name="early", tier=Tier.CROSS_CHANNEL)(lambda query, candidate: None)

    class Naming(Math):
        verifiers = ("late", "program")

    assert [one.name for one in asked_about(Naming())] == ["late", "program", "early"]
    assert asked_about(Naming())[0] is verifier("late")
