"""A host's outcome is kept once, replaced by a later one, and reaches the learners as what it is."""

from __future__ import annotations

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_graph.errors import UnknownEpisode, UsageError
from kaelum_graph.evidence import Tier
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.ratings import OUTCOME, with_ratings
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

BOXED = "First I subtract.\nThe answer is \\boxed{5}"
QUESTION = "How many apples are left?"


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always(BOXED))


def test_an_outcome_is_kept_once_and_replaced(kaelum: Kaelum) -> None:
    answer = kaelum.ask(QUESTION, worker="math", sims=4)
    assert kaelum.report_outcome(answer.id, 1.0)
    assert not kaelum.report_outcome(answer.id, 1.0)
    assert kaelum.report_outcome(answer.id, 0.0, comment="the build broke")
    (kept,) = kaelum.services.storage.feedback_for(answer.id)
    assert (kept.score, kept.comment, kept.source) == (0.0, "the build broke", "outcome")


def test_a_failure_takes_the_answer_out_of_the_cache(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), cache=True)
    first = kaelum.ask("Solve 3x + 5 = 20 for x.", worker="math", sims=4)
    assert kaelum.ask("Solve 3x + 5 = 20 for x.", worker="math", sims=4).cache == "hit"
    kaelum.report_outcome(first.id, 0.2)
    assert kaelum.ask("Solve 3x + 5 = 20 for x.", worker="math", sims=4).cache == "miss"


@pytest.mark.parametrize(("checked", "tier"), [(False, Tier.CROSS_CHANNEL), (True, Tier.EXECUTION)])
def test_the_learners_see_it_as_what_it_is(kaelum: Kaelum, checked: bool, tier: Tier) -> None:
    answer = kaelum.ask(QUESTION, worker="math", sims=4)
    kaelum.report_outcome(answer.id, 0.9, checked=checked)
    storage = kaelum.services.storage
    events = storage.learning_events(after=0)
    seen = next(event.episode for event in events if event.kind == "episode")
    assert isinstance(seen, SeenEpisode)
    rated = with_ratings(seen, storage.feedback_for(answer.id))
    for rollout in rated.rollouts:
        votes = [(vote.tier, vote.outcome) for vote in rollout.evidence if vote.source == OUTCOME]
        assert votes == [(tier, "pass")]


def test_what_makes_no_sense_is_refused(kaelum: Kaelum) -> None:
    answer = kaelum.ask(QUESTION, worker="math", sims=4)
    with pytest.raises(UsageError, match="between 0 and 1"):
        kaelum.report_outcome(answer.id, 1.5)
    with pytest.raises(UnknownEpisode):
        kaelum.report_outcome("nobody", 1.0)


async def test_it_is_reported_off_the_loop_too(kaelum: Kaelum) -> None:
    answer = await kaelum.aask(QUESTION, worker="math", sims=4)
    assert await kaelum.areport_outcome(answer.id, 1.0)


def test_an_outcome_is_of_an_answer_and_of_no_text(kaelum: Kaelum) -> None:
    kaelum.ask(QUESTION, worker="math", sims=4)
    with pytest.raises(UnknownEpisode):
        kaelum.report_outcome(QUESTION, 1.0)


def test_a_rating_that_is_put_takes_the_place_of_all_that_was_said(kaelum: Kaelum) -> None:
    answer = kaelum.ask(QUESTION, worker="math", sims=4)
    assert kaelum.put_feedback(answer.id, "mine", score=0.0, answer="12", comment="no")
    assert kaelum.put_feedback(answer.id, "mine", score=1.0)
    assert not kaelum.put_feedback(answer.id, "mine", score=1.0)
    (kept,) = kaelum.services.storage.feedback_for(answer.id)
    assert (kept.score, kept.correction, kept.comment) == (1.0, None, None)
