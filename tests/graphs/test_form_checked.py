"""What is said of a draft whose form alone was checked."""

from __future__ import annotations

from kaelum_flow.terminal import story
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import cycle

QUESTION = "Write a text about the sea in exactly 12 words."
GOOD = "The sea is wide and grey and never still under the wind"
SHORT = "The sea is wide and grey"


def test_a_draft_that_meets_the_form_wins_and_is_not_called_verified(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(cycle(SHORT, GOOD, SHORT, SHORT)).ask(QUESTION, worker="creative", sims=8)
    assert answer.text == GOOD
    assert (answer.status, answer.stop_reason) == ("unverified", "verified")
    assert answer.confidence <= 0.85
    assert answer.notices == ("only the form was checked, not what the text says.",)
    assert "form checked, P(correct) 0.85" in story(answer)


def test_a_broken_form_is_still_refuted(make_kaelum: MakeKaelum) -> None:
    answer = make_kaelum(cycle(SHORT)).ask(QUESTION, worker="creative", sims=4)
    assert answer.status == "unsure"
    assert answer.confidence <= 0.05
    assert answer.notices == ()
