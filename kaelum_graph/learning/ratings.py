"""What is said of answers later as evidence: votes on the answer clusters of the rated episode, scores of its steps.

| A person says | Vote |
|---|---|
| a score of at least 0.7 | pass for the chosen answer, on every rollout that gave it |
| a score of at most 0.3 | fail for it |
| a score between | none: half praise is no label |
| the right answer | pass for the answer that equals it, if one does; fail for the chosen one if it is another |
| a score of a step | goes to the rollout whose text was shown |

One source and key speaks with one voice, its latest: what was said later is over what was said before, and praise takes
an earlier correction back. The right answer outweighs a score beside it; a low score of an answer that equals the right
one is no vote. Several sources or keys vote once each, the majority decides, a tie is a fail. Scores of one step are
averaged. A rating by a model is no person's word, and a score of an aspect ("conciseness") does not say what is right.

People's votes are tier H. Outcomes, which a host reports of what it did with the answer, vote by the same table: tier E
where it ran a check of this very answer, else tier X, an opinion whose worth is measured where anchors decide, for the
host may have failed, or come through, for other reasons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kaelum_graph.equality import answers_equal
from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout

PASSING_SCORE = 0.7
FAILING_SCORE = 0.3
PERSON, OUTCOME = "person", "outcome"
"""The sources of the votes made here."""
CHECKED_OUTCOME = "outcome:checked"
"""Source of a rating that is an outcome and tells of an executed check; others are of source `OUTCOME`."""
MODEL_SUFFIX = ":model"
"""A rating whose source ends like that ("langsmith:model") was given by a program."""

ASPECTS = frozenset({
    "coherence", "conciseness", "controversiality", "cost", "creativity", "criminality", "depth", "detail",
    "harmfulness", "insensitivity", "latency", "length", "maliciousness", "misogyny", "relevance", "style", "tone",
    "toxicity", "verbosity",
})  # fmt: skip
"""Keys whose score says something else than whether the answer is right: LangChain's criteria and their like."""

Vote = tuple[int, Outcome, str]  # the cluster, what is said of it, why


@dataclass(frozen=True, slots=True)
class _Voice:
    """What one source and key says in the end."""

    score: float | None = None
    correction: str | None = None
    steps: tuple[tuple[int, float], ...] = ()


def from_person(rating: Feedback) -> bool:
    """Whether a person gave it: their word is an anchor, and moves routes at once."""
    return not rating.source.endswith(MODEL_SUFFIX) and rating.source not in (OUTCOME, CHECKED_OUTCOME)


def voted_later(vote: Evidence) -> bool:
    """Whether it was cast here, so that the search had not seen it when it ran."""
    return vote.source in (PERSON, OUTCOME)


def said_later(episode: SeenEpisode) -> str:
    """16 hexadecimal digits that name the votes and scores of steps made here, "" where there are none. Which clusters
    and steps they are of, and what they say, not who gave them and why."""
    said = [
        ([(vote.tier.name, vote.outcome) for vote in rollout.evidence if voted_later(vote)], rollout.rated)
        for rollout in episode.rollouts
    ]
    if not any(votes or rated for votes, rated in said):
        return ""
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def right_score(rating: Feedback) -> float | None:
    """Its score of whether the answer is right; None where it has none or rates an aspect only."""
    return None if rating.key.casefold() in ASPECTS else rating.score


def with_ratings(episode: SeenEpisode, ratings: Sequence[Feedback]) -> SeenEpisode:
    """`episode` with exactly what `ratings` (oldest first) say of it as votes and rated steps.

    Such votes that it had are replaced, so that doing it again changes nothing and no ratings take all of them back. It
    is the same object where nothing changes.
    """
    people = _voices(rating for rating in ratings if from_person(rating))
    votes = _decided(_votes(episode, people), Tier.HUMAN, PERSON)
    for source, tier in ((CHECKED_OUTCOME, Tier.EXECUTION), (OUTCOME, Tier.CROSS_CHANNEL)):
        outcomes = _voices(rating for rating in ratings if rating.source == source)
        votes += _decided(_votes(episode, outcomes), tier, OUTCOME)
    steps = _step_scores(people)
    rollouts = tuple(
        _with_votes(rollout, votes, steps if index == episode.shown else ())
        for index, rollout in enumerate(episode.rollouts)
    )
    if all(new is old for new, old in zip(rollouts, episode.rollouts, strict=True)):
        return episode
    return replace(episode, rollouts=rollouts)


def _voices(ratings: Iterable[Feedback]) -> list[_Voice]:
    voices: dict[tuple[str, str], _Voice] = {}
    for rating in ratings:
        who = rating.source, rating.key
        voice, score = voices.get(who, _Voice()), right_score(rating)
        if rating.correction is not None:
            voice = replace(voice, correction=rating.correction, score=score)
        elif score is not None:
            praised = score >= PASSING_SCORE
            voice = replace(voice, score=score, correction=None if praised else voice.correction)
        voices[who] = replace(voice, steps=rating.steps or voice.steps)
    return list(voices.values())


def _votes(episode: SeenEpisode, voices: Sequence[_Voice]) -> list[Vote]:
    votes: list[Vote] = []
    for voice in voices:
        if voice.correction is not None:
            votes += _of_correction(episode, voice.correction, voice.score)
        elif episode.chosen is not None and voice.score is not None:
            if voice.score >= PASSING_SCORE:
                votes.append((episode.chosen, "pass", f"rated {voice.score:g}"))
            elif voice.score <= FAILING_SCORE:
                votes.append((episode.chosen, "fail", f"rated {voice.score:g}"))
    return votes


def _of_correction(episode: SeenEpisode, correction: str, score: float | None) -> list[Vote]:
    equal = [number for number, answer in enumerate(episode.answers) if answers_equal(answer, correction)]
    if episode.chosen in equal and score is not None and score <= FAILING_SCORE:
        return []
    votes: list[Vote] = [(number, "pass", "equals the answer that a person gave") for number in equal]
    if episode.chosen is not None and episode.chosen not in equal:
        votes.append((episode.chosen, "fail", "a person gave another answer"))
    return votes


def _decided(votes: Sequence[Vote], tier: Tier, source: str) -> list[tuple[int, Evidence]]:
    """The one vote of a kind on each cluster that was voted on."""
    decided: list[tuple[int, Evidence]] = []
    for number in sorted({cluster for cluster, _, _ in votes}):
        cast = [(outcome, reason) for cluster, outcome, reason in votes if cluster == number]
        passed = sum(outcome == "pass" for outcome, _ in cast)
        outcome: Outcome = "pass" if 2 * passed > len(cast) else "fail"
        agreeing = [reason for said, reason in cast if said == outcome]
        reason = agreeing[-1] if len(cast) == 1 else f"{len(agreeing)} of {len(cast)} ratings: {agreeing[-1]}"
        decided.append((number, Evidence(tier=tier, source=source, outcome=outcome, reason=reason)))
    return decided


def _step_scores(voices: Sequence[_Voice]) -> tuple[tuple[int, float], ...]:
    scores: dict[int, list[float]] = {}
    for voice in voices:
        for step, score in voice.steps:
            scores.setdefault(step, []).append(score)
    return tuple((step, sum(scores[step]) / len(scores[step])) for step in sorted(scores))


def _with_votes(
    rollout: SeenRollout, votes: Sequence[tuple[int, Evidence]], steps: tuple[tuple[int, float], ...]
) -> SeenRollout:
    own_votes = (vote for number, vote in votes if number == rollout.cluster)
    evidence = (*(one for one in rollout.evidence if not voted_later(one)), *own_votes)
    # A step that the rollout does not have can't be rated, nor one that it was given: another rollout made that.
    count = None if rollout.features is None else len(rollout.features.scalars)
    own = [(step - rollout.begun, score) for step, score in steps if step >= rollout.begun]
    rated = tuple((step, score) for step, score in own if count is None or step < count)
    if (evidence, rated) == (rollout.evidence, rollout.rated):
        return rollout
    return replace(rollout, evidence=evidence, rated=rated)
