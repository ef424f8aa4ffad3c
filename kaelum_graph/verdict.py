"""What a search comes to: the answer that stands, how sure that is, and what to say when nothing does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from kaelum_graph.answer import Alternative, Status
from kaelum_graph.clusters import cluster
from kaelum_graph.evidence import Evidence
from kaelum_graph.posterior import Standing, representative_candidate, weigh
from kaelum_graph.reward import path_score
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import Candidate, Json, WorkerName


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of weighing a tree. `passed`: it may be given as the answer; `reasons`: what failed."""

    passed: bool
    status: Status
    text: str
    answer: str | None
    confidence: float
    worker: WorkerName
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    reasons: tuple[str, ...] = ()
    path_score: float | None = None

    def to_json(self) -> Json:
        """A plain dictionary for a checkpoint and `from_json`."""
        return _VERDICT.dump_python(self, mode="json")

    @classmethod
    def from_json(cls, data: Json) -> Verdict:
        """The verdict that `to_json` wrote."""
        return _VERDICT.validate_python(data)


_VERDICT = TypeAdapter(Verdict)


def decide(
    tree: SearchTree,
    *,
    worker: WorkerName,
    min_confidence: float,
    prm_threshold: float,
    prose: Collection[WorkerName] = (),
) -> Verdict:
    """Weigh the answer clusters of a tree's rollouts and judge the leader.

    It passes on an anchored check; without one when its confidence is at least `min_confidence` and the mean score of
    its path's steps, where the model gives one, is at least `prm_threshold`. `worker` is named when no rollout
    answered; the answer of a worker in `prose` is its text, not a value in it.
    """
    candidates = [rollout.candidate for rollout in tree.rollouts]
    scores = [path_score(rollout.step_scores) for rollout in tree.rollouts]
    evidence = [rollout.evidence for rollout in tree.rollouts]
    standings = weigh(cluster([candidate.answer for candidate in candidates]), candidates, evidence, scores=scores)
    if not standings:
        reasons = failures(tree)
        return Verdict(
            passed=False,
            status="unsure",
            text="No answer was reached" + (f": {reasons[0]}" if reasons else "."),
            answer=None,
            confidence=0.0,
            worker=worker,
            reasons=reasons,
        )
    leader = standings[0]
    chosen = representative_candidate(leader, candidates, scores, evidence_by_candidate=evidence)
    score = scores[chosen.rollout_id]
    gate = score is None or score.value >= prm_threshold
    passed = leader.anchored == "pass" or (leader.anchored == "none" and gate and leader.confidence >= min_confidence)
    return Verdict(
        passed=passed,
        status="verified" if leader.anchored == "pass" else "unverified" if passed else "unsure",
        text=answer_text(chosen) if passed else unsure_text(standings),
        answer=None if chosen.worker in prose else chosen.answer,
        confidence=leader.confidence,
        worker=chosen.worker,
        evidence=tuple(vote for vote in leader.evidence if vote.outcome != "unscored"),
        alternatives=tuple(
            Alternative(answer=item.cluster.representative, share=item.share, confidence=item.confidence)
            for item in standings
        ),
        reasons=() if passed else failures(tree),
        path_score=score.value if score else None,
    )


def answer_text(candidate: Candidate) -> str:
    """The assistant turn to show; a program is followed by what it printed."""
    if candidate.program is None or not candidate.observation:
        return candidate.text
    return f"{candidate.text.rstrip()}\n\nOutput:\n{candidate.observation.rstrip()}\n"


def failures(tree: SearchTree, *, most: int = 3) -> tuple[str, ...]:
    """What went wrong in a tree's rollouts, in the verifiers' own words: the most frequent messages first."""
    counts: dict[str, int] = {}
    for rollout in tree.rollouts:
        messages = {vote.reason for vote in rollout.evidence if vote.outcome == "fail" and vote.reason}
        if rollout.candidate.error:
            messages.add(rollout.candidate.error)
        for message in sorted(messages):
            counts[message] = counts.get(message, 0) + 1
    return tuple(sorted(counts, key=lambda message: -counts[message])[:most])


def unsure_text(standings: Sequence[Standing], *, most: int = 3) -> str:
    """An honest "not sure" with the best candidates."""
    lines = [f"- {item.cluster.representative} (P = {item.confidence:.2f})" for item in standings[:most]]
    return "Not sure. The best candidates are:\n" + "\n".join(lines)
