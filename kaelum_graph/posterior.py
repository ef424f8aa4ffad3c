"""What the evidence makes of the answer clusters.

For a cluster holding k of the n candidates that have an answer:

    agreement   a = (k + 1) / (n + 2)                      the mean of Beta(k + 1, n − k + 1)
    odds        o = a / (1 − a) · Π over X, C and J sources of r_source
    unanchored  confidence = min(max(o / (1 + o), 0.15), 0.85)

with r = 1 + pass share / 2 where a source's votes in the cluster lean to pass, and 1 / (1 + 3 · fail share) where they
lean to fail. A source that votes on many members counts once: its votes share the model's biases, as agreement does, so
together they are one correlated group that can't leave 0.15–0.85. An anchored pass gives 0.99 (H), 0.97 (E), 0.95 (V);
an anchored fail 0.01, 0.03, 0.05. Where anchors contradict, the strongest tier decides, the majority of sources within
it, and on a tie the fail. These are stated, not fitted; a calibration learned from anchored checks may map the
unanchored ones (`calibrate`), never above 0.85. Where a reward model weighs the votes (`weights`), the calibration says
how far that may move P(correct) and with it the order.

An anchored vote is about the answer, so it counts for every member of the cluster: equal answers are right together.
One is about a text: that its form is broken. It holds against that text, which is not shown while a member without a
fault is there; against the answer it counts only where no member holds the form (`votes_on_answer`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from kaelum_graph.clusters import Cluster
from kaelum_graph.evidence import FORM, Evidence, ModelScore, Tier
from kaelum_graph.types import Candidate

FLOOR, CEILING = 0.15, 0.85
PASS_CONFIDENCE = {Tier.HUMAN: 0.99, Tier.EXECUTION: 0.97, Tier.CONSTRAINT: 0.95}
FAIL_CONFIDENCE = {Tier.HUMAN: 0.01, Tier.EXECUTION: 0.03, Tier.CONSTRAINT: 0.05}
_ANCHORS = (Tier.HUMAN, Tier.EXECUTION, Tier.CONSTRAINT)

Anchored = Literal["pass", "fail", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one cluster stands.

    `share` is its part of the candidates that have an answer, in (0, 1]; `confidence` is P(correct); `tier` is the
    anchor that decided, None without one; `evidence` holds its members' votes on the answer (`votes_on_answer`) without
    repetition, anchors first.
    """

    cluster: Cluster
    share: float
    confidence: float
    anchored: Anchored
    tier: Tier | None
    evidence: tuple[Evidence, ...]


def weigh(
    clusters: Sequence[Cluster],
    candidates: Sequence[Candidate],
    evidence_by_candidate: Sequence[Sequence[Evidence]],
    *,
    scores: Sequence[ModelScore | None] | None = None,
    prefixes: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
    calibrate: Callable[[float, float], float] | None = None,
) -> list[Standing]:
    """The clusters' standings, the best first.

    Order: an anchored pass (H before E before V), then without an anchor by confidence, then an anchored fail; ties by
    plain votes where there is a calibration, by share, by the best `scores` among the members, then as they were drawn.
    `scores` touch nothing but that order;
    `weights` (see `vote_weights`) make some candidates' votes count more than others'.
    Members with equal `prefixes` grew from one beginning and count once, so that a bushy subtree can't outvote.
    `calibrate` maps what plain votes and what weighed ones say of an answer that no anchor decided to what such
    confidences have been worth; without it the weighed ones are told.
    Raises `TypeError` for anything but `Evidence` among the evidence, a `ModelScore` above all, and `ValueError` when
    the sequences are not as long as `candidates`.
    """
    _check(candidates, evidence_by_candidate, scores)
    masses = [mass(group, prefixes, weights) for group in clusters]
    plain = masses if weights is None else [mass(group, prefixes) for group in clusters]
    standings = [
        _standing(
            group,
            evidence_by_candidate,
            weighed=Masses(own, sum(masses)),
            plain=Masses(counted, sum(plain)),
            calibrate=calibrate,
        )
        for group, own, counted in zip(clusters, masses, plain, strict=True)
    ]

    counted = dict(zip(clusters, plain, strict=True)) if calibrate is not None else {}

    def order(standing: Standing) -> tuple[int, int, float, float, float, float, int]:
        rank = {"pass": 0, "none": 1, "fail": 2}[standing.anchored]
        tier = _ANCHORS.index(standing.tier) if standing.tier is not None and standing.anchored == "pass" else 0
        # Without a score the middle: no opinion is neither praise nor blame.
        opinions = (
            [score.value for score in (scores[index] for index in standing.cluster.members) if score] if scores else []
        )
        best = max(opinions, default=0.5)
        # A confidence at its bound ties with others: the calibration said how far weighed votes may go beyond that.
        more = counted.get(standing.cluster, 0.0)
        return (
            rank,
            tier,
            -round(standing.confidence, 9),
            -more,
            -standing.share,
            -best,
            min(standing.cluster.members),
        )

    return sorted(standings, key=order)


def representative_candidate(
    standing: Standing,
    candidates: Sequence[Candidate],
    scores: Sequence[ModelScore | None] | None = None,
    *,
    evidence_by_candidate: Sequence[Sequence[Evidence]] | None = None,
) -> Candidate:
    """The member whose text is shown for a standing.

    In this order: no failed vote of its own (where `evidence_by_candidate` is given), no error, an answer in the
    cluster's representative form, most passed votes, the highest model score, the longer text up to 2,000 characters,
    the lowest rollout id.
    """

    def order(index: int) -> tuple[bool, bool, bool, int, float, int, int]:
        candidate = candidates[index]
        votes = evidence_by_candidate[index] if evidence_by_candidate is not None else ()
        score = scores[index] if scores is not None else None
        return (
            any(vote.outcome == "fail" for vote in votes),
            candidate.error is not None,
            (candidate.answer or "").strip() != standing.cluster.representative,
            -sum(vote.outcome == "pass" for vote in votes),
            -(score.value if score is not None else 0.5),
            -min(len(candidate.text), 2000),
            candidate.rollout_id,
        )

    return candidates[min(standing.cluster.members, key=order)]


def mass(group: Cluster, prefixes: Sequence[Hashable] | None, weights: Sequence[float] | None = None) -> float:
    """How much the members count: one for each distinct prefix, or the mean of its members' `weights`."""
    grown: dict[Hashable, list[float]] = {}
    for index in group.members:
        key: Hashable = index if prefixes is None else prefixes[index]
        grown.setdefault(key, []).append(1.0 if weights is None else weights[index])
    return sum(sum(own) / len(own) for own in grown.values())


def vote_weights(scores: Sequence[ModelScore | None], *, trust: float) -> list[float] | None:
    """What each rollout's vote counts, `1 − trust + trust · score / mean score`; their mean is 1.

    `trust` in [0, 1] is the scores' measured skill: at 0, or without scores, votes count alike (None).
    """
    known = [score.value for score in scores if score is not None]
    middle = sum(known) / len(known) if known else 0.0
    if not trust or middle <= 0:
        return None
    return [1.0 if score is None else 1.0 - trust + trust * score.value / middle for score in scores]


class Masses(NamedTuple):
    """How much a cluster's members count, and how much all that answered do."""

    own: float
    all: float


def _standing(
    group: Cluster,
    evidence: Sequence[Sequence[Evidence]],
    *,
    weighed: Masses,
    plain: Masses,
    calibrate: Callable[[float, float], float] | None,
) -> Standing:
    votes = votes_on_answer([vote for index in group.members for vote in evidence[index]])
    anchored, tier = anchored_vote(votes)
    if anchored == "pass" and tier is not None:
        confidence = PASS_CONFIDENCE[tier]
    elif anchored == "fail" and tier is not None:
        confidence = FAIL_CONFIDENCE[tier]
    else:
        confidence = _unanchored(len(group.members), weighed, votes)
        if calibrate is not None:
            # Agreement never makes sure, however well it has done; that it has done badly may be believed.
            confidence = min(calibrate(_unanchored(len(group.members), plain, votes), confidence), CEILING)
    unique = dict.fromkeys(votes)
    ordered = tuple(sorted(unique, key=lambda vote: (not vote.tier.anchored, vote.outcome == "unscored")))
    return Standing(
        cluster=group,
        share=weighed.own / weighed.all,
        confidence=confidence,
        anchored=anchored,
        tier=tier,
        evidence=ordered,
    )


def votes_on_answer(votes: Sequence[Evidence]) -> list[Evidence]:
    """The votes on the equal answers of several texts, without a broken form of some where another holds the form.

    `votes` are all of them, the unscored ones too: a value whose form is right is unscored, for that proves nothing.
    """
    held = any(vote.source == FORM and vote.outcome != "fail" for vote in votes)
    return [vote for vote in votes if not (held and vote.source == FORM and vote.outcome == "fail")]


def form_checked(evidence: Sequence[Evidence]) -> bool:
    """True when all anchored votes are about the answer's form: its length, its lines, the words it must have."""
    anchored = [vote for vote in evidence if vote.tier.anchored and vote.outcome != "unscored"]
    return bool(anchored) and all(vote.source == FORM and vote.outcome == "pass" for vote in anchored)


def without_passed_form(evidence: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """The votes, an anchored one that a draft's right form won unscored: it says nothing for a value."""
    return tuple(
        replace(vote, outcome="unscored")
        if vote.source == FORM and vote.tier.anchored and vote.outcome == "pass"
        else vote
        for vote in evidence
    )


def anchored_vote(votes: Sequence[Evidence]) -> tuple[Anchored, Tier | None]:
    """What the strongest anchored tier that voted says. One source's votes on several members are one vote."""
    on_answer = votes_on_answer(votes)
    for tier in _ANCHORS:
        sources: dict[str, Counter[str]] = {}
        for vote in on_answer:
            if vote.tier is tier and vote.outcome != "unscored":
                sources.setdefault(vote.source, Counter())[vote.outcome] += 1
        if sources:
            passes = sum(counts["pass"] > counts["fail"] for counts in sources.values())
            return ("pass" if passes * 2 > len(sources) else "fail"), tier
    return "none", None


def _unanchored(members: int, masses: Masses, votes: Sequence[Evidence]) -> float:
    agreement = (masses.own + 1) / (masses.all + 2)
    odds = agreement / (1 - agreement)
    sources: dict[str, Counter[str]] = {}
    for vote in votes:
        if not vote.tier.anchored and vote.outcome != "unscored":
            sources.setdefault(vote.source, Counter())[vote.outcome] += 1
    for counts in sources.values():
        lean = (counts["pass"] - counts["fail"]) / members
        odds *= 1 + min(lean, 1.0) / 2 if lean >= 0 else 1 / (1 + 3 * min(-lean, 1.0))
    return min(max(odds / (1 + odds), FLOOR), CEILING)


def _check(
    candidates: Sequence[Candidate],
    evidence_by_candidate: Sequence[Sequence[object]],
    scores: Sequence[object | None] | None,
) -> None:
    if len(evidence_by_candidate) != len(candidates):
        raise ValueError(f"evidence for {len(evidence_by_candidate)} candidates, there are {len(candidates)}")
    if scores is not None and len(scores) != len(candidates):
        raise ValueError(f"scores for {len(scores)} candidates, there are {len(candidates)}")
    for votes in evidence_by_candidate:
        for vote in votes:
            if not isinstance(vote, Evidence):
                raise TypeError(f"expected Evidence, got {type(vote).__name__}: a model's opinion is no evidence")
    for score in scores or ():
        if score is not None and not isinstance(score, ModelScore):
            raise TypeError(f"expected ModelScore, got {type(score).__name__}")
