"""What a search comes to: the answer that stands, how sure that is, and what to say when nothing does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from kaelum_graph.answer import Alternative, Choice, Status
from kaelum_graph.clusters import cluster
from kaelum_graph.evidence import Evidence, ModelScore
from kaelum_graph.observations import said_after, shown
from kaelum_graph.posterior import (
    CEILING,
    Anchored,
    Standing,
    form_checked,
    representative_candidate,
    vote_weights,
    weigh,
    without_passed_form,
)
from kaelum_graph.reward import SOURCE, path_score
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import Candidate, Json, RolloutId, WorkerName

CUT = "The text was cut at its greatest length (max_tokens) before it came to an answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of weighing a tree. `passed`: it may be given as the answer; `reasons`: what failed.

    `rollout` is the one whose text stands for the leading answer; None when there is no answer.
    """

    passed: bool
    status: Status
    text: str
    answer: str | None
    confidence: float
    worker: WorkerName
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    choices: tuple[Choice, ...] = ()
    reasons: tuple[str, ...] = ()
    path_score: float | None = None
    rollout: RolloutId | None = None
    notices: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """A plain dictionary for a checkpoint and `from_json`."""
        return _VERDICT.dump_python(self, mode="json")

    @classmethod
    def from_json(cls, data: Json) -> Verdict:
        """The verdict that `to_json` wrote."""
        return _VERDICT.validate_python(data)


_VERDICT = TypeAdapter(Verdict)

STATUS: dict[Anchored, Status] = {"pass": "verified", "none": "unverified", "fail": "unsure"}


def decide(
    tree: SearchTree,
    *,
    worker: WorkerName,
    min_confidence: float,
    prm_threshold: float,
    prose: Collection[WorkerName] = (),
    answers: int = 1,
    trust: float = 0.0,
    ordered: bool = True,
    calibrate: Callable[[float, float], float] | None = None,
) -> Verdict:
    """Weigh the answer clusters of a tree's rollouts and judge the leader.

    It passes on an anchored check of more than its form; without one when its confidence is at least `min_confidence`
    and the mean score of its path's steps, where the model gives one, is at least `prm_threshold`. `worker` is the one
    that was asked first, and named when no rollout answered; the answer of a worker in `prose` is its text, not a value
    in it, and only where one of those was asked first does a draft's form put it before what others say. A learned
    reward model's scores weigh the votes by `trust`, its measured skill. `ordered`: whether scores order what is level.
    With `answers` above 1 up to that many distinct ones are given as `choices`; what a check refuted is none of them
    while anything else stands.
    """
    candidates = [rollout.candidate for rollout in tree.rollouts]
    scores = [path_score(rollout.step_scores, source=rollout.scored_by) for rollout in tree.rollouts]
    order = scores if ordered else None
    evidence = [
        rollout.evidence if worker in prose else without_passed_form(rollout.evidence) for rollout in tree.rollouts
    ]
    groups = cluster([candidate.answer for candidate in candidates])
    prefixes = tree.prefixes()
    standings = [
        unless_form_alone(each)
        for each in weigh(
            groups,
            candidates,
            evidence,
            scores=order,
            prefixes=prefixes,
            weights=vote_weights(learned_scores(tree, scores), trust=trust),
            calibrate=calibrate,
        )
    ]
    # What was verified comes before what only has the form.
    standings.sort(key=lambda standing: standing.anchored != "pass")
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

    def shown(standing: Standing) -> tuple[Candidate, ModelScore | None, Choice]:
        candidate = representative_candidate(standing, candidates, order, evidence_by_candidate=evidence)
        score = scores[candidate.rollout_id]
        sure = (score is None or score.value >= prm_threshold) and standing.confidence >= min_confidence
        choice = Choice(
            text=answer_text(candidate),
            answer=None if candidate.worker in prose else candidate.answer,
            confidence=standing.confidence,
            share=standing.share,
            worker=candidate.worker,
            status=STATUS[standing.anchored] if standing.anchored != "none" or sure else "unsure",
        )
        return candidate, score, choice

    leader = standings[0]
    chosen, score, best = shown(leader)
    passed = best.status != "unsure"
    others = [item for item in standings[1:] if item.anchored != "fail" or leader.anchored == "fail"]
    notice = ""
    if passed and form_checked(leader.evidence):
        notice = "only the form was checked, not what the text says."
    elif not passed and all(rollout.finish == "length" for rollout in tree.rollouts):
        notice = "every text was cut at its greatest length (max_tokens)."
    return Verdict(
        passed=passed,
        status=best.status,
        text=best.text if passed else unsure_text(standings),
        answer=best.answer,
        confidence=leader.confidence,
        worker=best.worker,
        evidence=tuple(vote for vote in leader.evidence if vote.outcome != "unscored"),
        alternatives=tuple(
            Alternative(
                answer=item.cluster.representative,
                share=item.share,
                confidence=item.confidence,
                rollouts=tuple(candidates[index].rollout_id for index in item.cluster.members),
            )
            for item in standings
        ),
        choices=(best, *(shown(item)[2] for item in others[: answers - 1])) if answers > 1 else (),
        reasons=() if passed else failures(tree),
        path_score=score.value if score else None,
        rollout=chosen.rollout_id,
        notices=(notice,) if notice else (),
    )


def learned_scores(tree: SearchTree, scores: Sequence[ModelScore | None]) -> list[ModelScore | None]:
    """The scores of the learned reward model alone, of the rollouts that vote; None for every other.

    A likelihood weighs no vote. And were the low scores of rollouts without an answer in the mean that a vote is
    weighed by, every vote would count for more than one, and few votes would be as sure as many.
    """
    return [
        None if one.scored_by == SOURCE or one.candidate.answer is None else score
        for one, score in zip(tree.rollouts, scores, strict=True)
    ]


def unless_form_alone(standing: Standing) -> Standing:
    """The standing as it may be told: a passed check of the form alone orders drafts, but verifies nothing they say."""
    if not form_checked(standing.evidence):
        return standing
    return replace(standing, anchored="none", tier=None, confidence=min(standing.confidence, CEILING))


def answer_text(candidate: Candidate) -> str:
    """The assistant turn to show; a program is followed by what it printed, unless the turn holds that already."""
    if candidate.program is None or not candidate.observation:
        return candidate.text
    if said_after(candidate.text, shown(candidate.observation, None)) is not None:
        return candidate.text
    return f"{candidate.text.rstrip()}\n\nOutput:\n{candidate.observation.rstrip()}\n"


def failures(tree: SearchTree, *, most: int = 3) -> tuple[str, ...]:
    """What went wrong in a tree's rollouts, in the verifiers' own words: the most frequent messages first."""
    counts: dict[str, int] = {}
    for rollout in tree.rollouts:
        messages = {vote.reason for vote in rollout.evidence if vote.outcome == "fail" and vote.reason}
        if rollout.candidate.error:
            cut = rollout.finish == "length" and rollout.candidate.answer is None
            messages.add(CUT if cut else rollout.candidate.error)
        for message in sorted(messages):
            counts[message] = counts.get(message, 0) + 1
    return tuple(sorted(counts, key=lambda message: -counts[message])[:most])


def unsure_text(standings: Sequence[Standing], *, most: int = 3) -> str:
    """An honest "not sure" with the best candidates."""
    lines = [f"- {item.cluster.representative} (P = {item.confidence:.2f})" for item in standings[:most]]
    return "Not sure. The best candidates are:\n" + "\n".join(lines)
