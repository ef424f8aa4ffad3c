"""What people say becomes votes on answers and scores of steps: no more than they said, and undone with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.episode import STEP_SCALARS, RolloutFeatures, SeenEpisode, SeenRollout
from kaelum_graph.learning.ratings import CHECKED_OUTCOME, OUTCOME, PERSON, from_person, with_ratings
from kaelum_graph.types import EpisodeId, WorkerName

CHECK = Evidence(tier=Tier.CONSTRAINT, source="equation", outcome="fail")


def rollout(cluster: int | None, *, steps: int | None = 2) -> SeenRollout:
    features = steps and RolloutFeatures(
        embeddings=np.zeros((steps, 384), np.float16),
        scalars=np.zeros((steps, len(STEP_SCALARS)), np.float32),
        states=None,
    )
    return SeenRollout(
        worker=WorkerName("math"), operator="sample", blind=True, cluster=cluster, prefix=0, evidence=(CHECK,),
        tokens=10, finish="stop", features=features or None,
    )  # fmt: skip


def seen(*, chosen: int | None = 0, shown: int | None = 1, steps: int | None = 2) -> SeenEpisode:
    """Four rollouts: answers "3.5 km", "8" and "3.5 km" again, and one without."""
    return SeenEpisode(
        id=EpisodeId("e"), features=np.zeros(398, np.float32), probabilities={}, propensities={}, allocation={},
        answers=("3.5 km", "8"), chosen=chosen, shown=shown,
        rollouts=tuple(rollout(cluster, steps=steps) for cluster in (0, 1, 0, None)),
    )  # fmt: skip


def said(
    score: float | None = None,
    *,
    answer: str | None = None,
    steps: tuple[tuple[int, float], ...] = (),
    source: str = "cli",
    key: str = "",
) -> Feedback:
    return Feedback(
        id="f", episode_id=EpisodeId("e"), score=score, correction=answer, steps=steps, source=source, key=key
    )


def votes(episode: SeenEpisode) -> list[Outcome | None]:
    """What people vote on each rollout; every other vote is still there."""
    found: list[Outcome | None] = []
    for one in episode.rollouts:
        assert one.evidence[0] == CHECK
        human = [vote for vote in one.evidence if vote.tier is Tier.HUMAN]
        assert all(vote.source == PERSON for vote in human)
        assert len(human) <= 1
        found.append(human[0].outcome if human else None)
    return found


@pytest.mark.parametrize(
    ("rating", "expected"),
    [
        (said(0.7), ["pass", None, "pass", None]),
        (said(0.3), ["fail", None, "fail", None]),
        (said(0.5), [None] * 4),
        (said(answer="8.0"), ["fail", "pass", "fail", None]),
        (said(1.0, answer="8"), ["fail", "pass", "fail", None]),
        (said(answer="$3.50$ km"), ["pass", None, "pass", None]),
        (said(0.0, answer="3.5 km"), [None] * 4),
        (said(answer="41"), ["fail", None, "fail", None]),
        (said(0.0, key="conciseness"), [None] * 4),
        (said(1.0, source="langsmith:model"), [None] * 4),
        (said(answer="8", source="other:model"), [None] * 4),
    ],
)
def test_a_rating_votes_on_the_answers_it_is_about(rating: Feedback, expected: list[Outcome | None]) -> None:
    assert votes(with_ratings(seen(), [rating])) == expected


def test_without_a_chosen_answer_only_a_correction_votes() -> None:
    assert votes(with_ratings(seen(chosen=None), [said(1.0)])) == [None] * 4
    assert votes(with_ratings(seen(chosen=None), [said(answer="8")])) == [None, "pass", None, None]


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        # One voice: its latest word.
        ([said(1.0), said(0.0)], ["fail", None, "fail", None]),
        ([said(0.0), said(0.5)], [None] * 4),
        ([said(0.0), said(None, steps=((0, 1.0),))], ["fail", None, "fail", None]),
        ([said(answer="8"), said(0.1)], ["fail", "pass", "fail", None]),
        ([said(answer="8"), said(1.0)], ["pass", None, "pass", None]),
        # Several: the majority, and on a tie the fail.
        ([said(1.0), said(0.0, source="api")], ["fail", None, "fail", None]),
        ([said(1.0), said(0.0, source="api"), said(0.9, key="user_score")], ["pass", None, "pass", None]),
        ([said(1.0), said(answer="8", source="api")], ["fail", "pass", "fail", None]),
    ],
)
def test_several_ratings(ratings: list[Feedback], expected: list[Outcome | None]) -> None:
    assert votes(with_ratings(seen(), ratings)) == expected


def test_steps_are_rated_on_the_rollout_that_was_shown() -> None:
    one = said(steps=((1, 0.0), (0, 1.0), (7, 0.5)))
    rated = [each.rated for each in with_ratings(seen(), [one]).rollouts]
    assert rated == [(), ((0, 1.0), (1, 0.0)), (), ()], "a step that isn't there is not rated"
    both = with_ratings(seen(), [one, said(steps=((0, 0.5),), source="api")])
    assert both.rollouts[1].rated == ((0, 0.75), (1, 0.0))
    unknown = with_ratings(seen(steps=None), [said(steps=((7, 0.5),))])
    assert unknown.rollouts[1].rated == ((7, 0.5),)
    none_shown = seen(shown=None)
    assert with_ratings(none_shown, [one]) is none_shown


def test_it_is_done_once_and_undone_wholly() -> None:
    episode = seen()
    rated = with_ratings(episode, [said(answer="8", steps=((0, 1.0),))])
    assert votes(episode) == [None] * 4, "what was given is not changed"
    assert with_ratings(rated, [said(answer="8", steps=((0, 1.0),))]) is rated
    assert votes(with_ratings(rated, [said(1.0)])) == ["pass", None, "pass", None]
    back = with_ratings(rated, [])
    assert back.to_bytes() == episode.to_bytes()
    assert with_ratings(episode, [said(0.5)]) is episode
    assert with_ratings(episode, []) is episode


def test_the_votes_survive_the_store() -> None:
    rated = with_ratings(seen(), [said(answer="8", steps=((0, 1.0),))])
    again = SeenEpisode.from_bytes(rated.to_bytes())
    assert votes(again) == ["fail", "pass", "fail", None]
    assert again.rollouts[1].rated == ((0, 1.0),)


def test_steps_of_a_branch_are_counted_from_the_beginning_of_its_text() -> None:
    whole = seen(steps=2)
    branch = replace(whole.rollouts[1], operator="branch", begun=3)
    whole = replace(whole, rollouts=(whole.rollouts[0], branch, *whole.rollouts[2:]))
    rated = with_ratings(whole, [said(steps=((1, 0.1), (3, 0.2), (4, 0.9), (5, 0.4)))])
    # Step 1 was given to it, and there is no step 5.
    assert rated.rollouts[1].rated == ((0, 0.2), (1, 0.9))


def cast(episode: SeenEpisode) -> list[list[tuple[Tier, str, Outcome]]]:
    """What was said later of each rollout."""
    return [[(vote.tier, vote.source, vote.outcome) for vote in one.evidence[1:]] for one in episode.rollouts]


@pytest.mark.parametrize(
    ("source", "score", "vote"),
    [
        (OUTCOME, 1.0, (Tier.CROSS_CHANNEL, OUTCOME, "pass")),
        (OUTCOME, 0.1, (Tier.CROSS_CHANNEL, OUTCOME, "fail")),
        (CHECKED_OUTCOME, 0.0, (Tier.EXECUTION, OUTCOME, "fail")),
        (CHECKED_OUTCOME, 0.9, (Tier.EXECUTION, OUTCOME, "pass")),
    ],
)
def test_an_outcome_is_an_opinion_unless_it_was_checked(
    source: str, score: float, vote: tuple[Tier, str, Outcome]
) -> None:
    rated = with_ratings(seen(), [said(score, source=source)])
    assert cast(rated) == [[vote], [], [vote], []]
    assert with_ratings(rated, [said(score, source=source)]) is rated
    assert cast(with_ratings(rated, [])) == [[], [], [], []]


def test_half_a_success_is_no_vote() -> None:
    episode = seen()
    assert with_ratings(episode, [said(0.5, source=OUTCOME)]) is episode


def test_an_outcome_is_no_persons_word() -> None:
    assert not from_person(said(1.0, source=OUTCOME))
    assert not from_person(said(1.0, source=CHECKED_OUTCOME))
    rated = with_ratings(seen(), [said(0.0, source=OUTCOME), said(1.0)])
    assert cast(rated)[0] == [(Tier.HUMAN, PERSON, "pass"), (Tier.CROSS_CHANNEL, OUTCOME, "fail")]
