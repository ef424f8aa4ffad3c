"""What the reward model's trust may do to a verdict, and what not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kaelum_graph.evidence import FORM, Evidence, Outcome, Tier
from kaelum_graph.stopping import evidence_halt
from kaelum_graph.tree import Rollout, SearchTree, Simulation
from kaelum_graph.types import Candidate, RolloutId, WorkerName
from kaelum_graph.verdict import Verdict, decide

MATH, CREATIVE = WorkerName("math"), WorkerName("creative")
DRAFT = "Seventeen times twenty-three makes four hundred and one."
FORMED = (Evidence(tier=Tier.CONSTRAINT, source=FORM, outcome="pass", reason="one sentence"),)


def check(outcome: Outcome) -> tuple[Evidence, ...]:
    return (Evidence(tier=Tier.CONSTRAINT, source="equation", outcome=outcome, reason="put in"),)


def verdict_of(
    rollouts: Sequence[tuple[str | None, float, tuple[Evidence, ...]]],
    *,
    trust: float,
    scored_by: str = "prm",
    ordered: bool = True,
) -> Verdict:
    """Of the math worker's samples that came to (answer, score, evidence)."""
    tree = tree_of([(MATH, *one) for one in rollouts], scored_by=scored_by)
    return decide(tree, worker=MATH, min_confidence=0.0, prm_threshold=0.0, trust=trust, ordered=ordered)


def tree_of(
    rollouts: Sequence[tuple[WorkerName, str | None, float, tuple[Evidence, ...]]], *, scored_by: str = "prm"
) -> SearchTree:
    """Of samples of a worker that came to (answer, score, evidence)."""
    tree = SearchTree()
    for number, (worker, answer, score, evidence) in enumerate(rollouts):
        simulation = Simulation(node_id=tree.worker_node(worker).id, worker=worker, operator="sample")
        tree.start(simulation)
        text = f"Sample {number} says {answer}"
        tree.complete(
            Rollout(
                id=RolloutId(number), wave=1, simulation=simulation, evidence=evidence, steps=(text,),
                candidate=Candidate(rollout_id=RolloutId(number), worker=worker, text=text, answer=answer),
                step_scores=(score,), finish="stop", completion_tokens=5, value=0.5, scored_by=scored_by,
            )
        )  # fmt: skip
    return tree


def test_trusted_scores_decide_a_close_vote() -> None:
    close = [("7", 0.2, ()), ("7", 0.2, ()), ("8", 0.9, ())]
    assert verdict_of(close, trust=0.0).answer == "7"
    assert verdict_of(close, trust=1.0).answer == "8"
    assert verdict_of(close, trust=1.0, scored_by="likelihood").answer == "7"


def test_what_is_level_goes_by_scores_of_some_skill_and_else_as_it_was_drawn() -> None:
    level = [("8", 0.2, ()), ("7", 0.9, ()), ("6", 0.5, ())]
    assert verdict_of(level, trust=0.0).answer == "7"
    assert verdict_of(level, trust=0.0, ordered=False).answer == "8"


@pytest.mark.parametrize("outcome", ["pass", "fail"])
def test_no_score_outvotes_an_anchored_check(outcome: Outcome) -> None:
    checked = ("8", 0.01 if outcome == "pass" else 0.99, check(outcome))
    others = [("7", 0.99 if outcome == "pass" else 0.01, ())] * 5
    assert verdict_of([checked, *others], trust=1.0).answer == ("8" if outcome == "pass" else "7")


def test_rollouts_without_an_answer_make_the_others_no_surer() -> None:
    few = [("7", 0.8, ()), ("7", 0.8, ()), ("8", 0.8, ())]
    silent = [(None, 0.05, ())] * 9
    plain = verdict_of([*few, *silent], trust=0.0).confidence
    assert verdict_of([*few, *silent], trust=1.0).confidence == pytest.approx(plain)


@pytest.mark.parametrize("asked_first", [MATH, CREATIVE])
def test_a_verified_value_comes_before_a_draft_of_the_right_form(asked_first: WorkerName) -> None:
    tree = tree_of([(CREATIVE, DRAFT, 0.5, FORMED), (MATH, "391", 0.5, check("pass"))])
    verdict = decide(tree, worker=asked_first, min_confidence=0.0, prm_threshold=0.0, prose=[CREATIVE])
    assert (verdict.answer, verdict.status) == ("391", "verified")


def test_a_drafts_form_counts_only_where_a_draft_was_asked_for() -> None:
    tree = tree_of([(CREATIVE, DRAFT, 0.5, FORMED), *[(MATH, "391", 0.5, ())] * 3])
    of_value, of_draft = (
        decide(tree, worker=worker, min_confidence=0.0, prm_threshold=0.0, prose=[CREATIVE])
        for worker in (MATH, CREATIVE)
    )
    assert (of_value.answer, of_value.notices) == ("391", ())
    assert of_value.confidence == max(one.confidence for one in of_value.alternatives)
    assert of_draft.answer is None
    assert DRAFT in of_draft.text
    assert of_draft.notices
    assert evidence_halt(tree, may_reflect=False, drafts=True) == "verified"
    assert evidence_halt(tree, may_reflect=False, drafts=False) is None
