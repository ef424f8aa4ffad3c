"""What the evidence makes of the clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from kaelum_graph.clusters import Cluster, cluster
from kaelum_graph.evidence import Evidence, ModelScore, Outcome, Tier
from kaelum_graph.posterior import CEILING, FLOOR, Standing, representative_candidate, weigh
from kaelum_graph.types import Candidate, RolloutId, WorkerName


def candidates(*answers: str | None) -> list[Candidate]:
    return [
        Candidate(rollout_id=RolloutId(index), worker=WorkerName("math"), text=f"So {answer}", answer=answer)
        for index, answer in enumerate(answers)
    ]


def vote(tier: Tier, outcome: Outcome, source: str = "check") -> Evidence:
    return Evidence(tier=tier, source=source, outcome=outcome, reason="")


def standings(
    answers: Sequence[str | None],
    evidence: dict[int, list[Evidence]] | None = None,
    scores: Sequence[ModelScore | None] | None = None,
) -> list[Standing]:
    votes = [(evidence or {}).get(index, []) for index in range(len(answers))]
    return weigh(cluster(answers), candidates(*answers), votes, scores=scores)


def test_agreement_alone_orders_and_stays_in_its_bounds() -> None:
    found = standings(["7", "7", "7", "8", None])
    assert [standing.cluster.representative for standing in found] == ["7", "8"]
    assert [standing.share for standing in found] == [0.75, 0.25]
    assert found[0].confidence == pytest.approx(4 / 6)
    assert found[1].confidence == pytest.approx(2 / 6)
    assert {standing.anchored for standing in found} == {"none"}


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_no_amount_of_agreement_leaves_the_bounds(size: int) -> None:
    cheers = {index: [vote(Tier.CROSS_CHANNEL, "pass"), vote(Tier.JUDGE, "pass", "judge")] for index in range(size)}
    jeers = {index: [vote(Tier.CROSS_CHANNEL, "fail"), vote(Tier.JUDGE, "fail", "judge")] for index in range(size)}
    assert standings(["7"] * size, cheers)[0].confidence <= CEILING
    assert standings(["7"] * size, jeers)[0].confidence >= FLOOR


def test_an_anchored_pass_beats_any_majority() -> None:
    found = standings(["7", "7", "7", "7", "8"], {4: [vote(Tier.CONSTRAINT, "pass")]})
    assert found[0].cluster.representative == "8"
    assert (found[0].anchored, found[0].tier) == ("pass", Tier.CONSTRAINT)
    assert found[0].confidence > CEILING


def test_anchors_rank_human_execution_constraint() -> None:
    found = standings(
        ["1", "2", "3"],
        {0: [vote(Tier.CONSTRAINT, "pass")], 1: [vote(Tier.EXECUTION, "pass")], 2: [vote(Tier.HUMAN, "pass")]},
    )
    assert [standing.cluster.representative for standing in found] == ["3", "2", "1"]
    assert found[0].confidence > found[1].confidence > found[2].confidence


@pytest.mark.parametrize("tier", [Tier.HUMAN, Tier.EXECUTION, Tier.CONSTRAINT])
def test_an_anchored_fail_sends_a_cluster_to_the_bottom(tier: Tier) -> None:
    found = standings(["7", "7", "7", "8"], {0: [vote(tier, "fail")]})
    assert [standing.cluster.representative for standing in found] == ["8", "7"]
    assert found[1].confidence <= 0.05
    assert found[1].anchored == "fail"


def test_the_stronger_anchor_decides_and_a_tie_fails() -> None:
    assert standings(["7"], {0: [vote(Tier.HUMAN, "fail"), vote(Tier.CONSTRAINT, "pass")]})[0].anchored == "fail"
    assert standings(["7"], {0: [vote(Tier.EXECUTION, "pass"), vote(Tier.CONSTRAINT, "fail")]})[0].anchored == "pass"
    tie = {0: [vote(Tier.CONSTRAINT, "pass", "a"), vote(Tier.CONSTRAINT, "fail", "b")]}
    assert standings(["7"], tie)[0].anchored == "fail"


def test_unscored_is_no_vote() -> None:
    plain = standings(["7", "8"])
    unscored = standings(["7", "8"], {0: [vote(Tier.CONSTRAINT, "unscored"), vote(Tier.CROSS_CHANNEL, "unscored")]})
    assert [each.confidence for each in unscored] == [each.confidence for each in plain]
    assert unscored[0].anchored == "none"


def test_cross_channel_evidence_moves_confidence_a_fail_more_than_a_pass() -> None:
    plain = standings(["7", "8"])[0].confidence
    good = standings(["7", "8"], {0: [vote(Tier.CROSS_CHANNEL, "pass")]})
    bad = standings(["7", "8"], {0: [vote(Tier.CROSS_CHANNEL, "fail")]})
    assert good[0].cluster.representative == "7"
    assert good[0].confidence > plain
    assert bad[0].cluster.representative == "8"
    assert plain - bad[1].confidence > good[0].confidence - plain


def test_one_source_counts_once_however_often_it_votes() -> None:
    once = standings(["7", "8"], {0: [vote(Tier.CROSS_CHANNEL, "pass")]})[0].confidence
    often = standings(["7", "8"], {0: [vote(Tier.CROSS_CHANNEL, "pass")] * 9})[0].confidence
    assert once == often


def test_scores_break_ties_and_never_enter_the_confidence() -> None:
    low, high = ModelScore(source="prm", value=0.1), ModelScore(source="prm", value=0.9)
    one = standings(["7", "8"], scores=[low, high])
    other = standings(["7", "8"], scores=[high, low])
    assert [each.cluster.representative for each in one] == ["8", "7"]
    assert [each.cluster.representative for each in other] == ["7", "8"]
    assert {each.confidence for each in one} == {each.confidence for each in other} == {0.5}
    majority = standings(["7", "7", "8"], scores=[low, low, high])
    assert majority[0].cluster.representative == "7", "a score is no vote"


def test_a_model_score_is_no_evidence() -> None:
    score = cast("Any", ModelScore(source="prm", value=0.9))
    with pytest.raises(TypeError, match="ModelScore"):
        weigh(cluster(["7"]), candidates("7"), [[score]])
    with pytest.raises(TypeError, match="Evidence"):
        weigh(cluster(["7"]), candidates("7"), [[]], scores=[cast("Any", vote(Tier.HUMAN, "pass"))])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="evidence for 0"):
        weigh(cluster(["7"]), candidates("7"), [])
    with pytest.raises(ValueError, match="scores for 2"):
        weigh(cluster(["7"]), candidates("7"), [[]], scores=[None, None])


def test_no_clusters_no_standings() -> None:
    assert standings([None, None]) == []


def test_the_order_does_not_depend_on_the_clusters_order() -> None:
    answers = ["a", "b", "c", "a", "b"]
    groups = cluster(answers)
    forward = weigh(groups, candidates(*answers), [[]] * 5)
    backward = weigh(groups[::-1], candidates(*answers), [[]] * 5)
    assert forward == backward


def test_evidence_is_kept_once_with_anchors_first() -> None:
    cross, anchor = vote(Tier.CROSS_CHANNEL, "pass"), vote(Tier.CONSTRAINT, "pass")
    found = standings(["7", "7"], {0: [cross, anchor], 1: [cross, anchor]})
    assert found[0].evidence == (anchor, cross)


def test_the_representative_candidate() -> None:
    people = candidates("7.0", "7", "7", "7")
    standing = Standing(
        cluster=Cluster("7", (0, 1, 2, 3)), share=1.0, confidence=0.8, anchored="none", tier=None, evidence=()
    )
    scores = [None, ModelScore(source="prm", value=0.2), ModelScore(source="prm", value=0.9), None]
    assert representative_candidate(standing, people).rollout_id == 1, "the usual form, then the lowest id"
    assert representative_candidate(standing, people, scores).rollout_id == 2
    votes = [[], [], [vote(Tier.CROSS_CHANNEL, "fail")], [vote(Tier.CROSS_CHANNEL, "pass")]]
    chosen = representative_candidate(standing, people, scores, evidence_by_candidate=votes)
    assert chosen.rollout_id == 3, "a candidate whose arithmetic fails is not the one to show"


def test_rollouts_of_one_beginning_count_once() -> None:
    """A bushy subtree of three can't outvote two that came to the other answer on their own."""
    answers = ["7", "7", "7", "8", "8"]
    prefixes = [("node", 4), ("node", 4), ("node", 4), ("rollout", 3), ("rollout", 4)]
    leader, other = weigh(cluster(answers), candidates(*answers), [()] * 5, prefixes=prefixes)
    assert (leader.cluster.representative, other.cluster.representative) == ("8", "7")
    assert leader.share == pytest.approx(2 / 3)
    assert standings(answers)[0].cluster.representative == "7"


def test_a_calibration_maps_what_no_anchor_decided_and_nothing_else() -> None:
    answers = ["7", "7", "8"]
    passed = weigh(
        cluster(answers),
        candidates(*answers),
        [[vote(Tier.CONSTRAINT, "pass")], [], []],
        calibrate=lambda plain, weighed: 0,
    )
    assert [standing.confidence for standing in passed] == [0.95, 0.0]
    sure = weigh(cluster(answers), candidates(*answers), [[], [], []], calibrate=lambda plain, weighed: 0.99)
    assert sure[0].confidence == CEILING


def test_answers_that_are_level_by_the_calibration_go_by_plain_votes_and_not_by_weighed_ones() -> None:
    answers, weights = ["1"] * 4 + ["2"], [0.1] * 4 + [4.6]
    votes: list[list[Evidence]] = [[] for _ in answers]
    level = weigh(cluster(answers), candidates(*answers), votes, weights=weights, calibrate=lambda plain, weighed: 0.5)
    assert [standing.cluster.representative for standing in level] == ["1", "2"]
    weighed = weigh(cluster(answers), candidates(*answers), votes, weights=weights)
    assert [standing.cluster.representative for standing in weighed] == ["2", "1"]


FORM_BROKEN = vote(Tier.CONSTRAINT, "fail", "constraints")
FORM_HELD = vote(Tier.CONSTRAINT, "unscored", "constraints")


def test_a_broken_form_is_held_against_the_text_and_not_against_equal_answers_that_hold_it() -> None:
    """ "Answer with one word": two said "The Nile", four "Nile", one Congo."""
    answers = ["The Nile", "Nile", "Nile", "The Nile", "Nile", "Nile", "Congo"]
    votes = [[FORM_BROKEN if " " in answer else FORM_HELD] for answer in answers]
    found = weigh(cluster(answers), candidates(*answers), votes)
    assert [(each.cluster.representative, each.anchored) for each in found] == [("Nile", "none"), ("Congo", "none")]
    assert found[0].confidence == pytest.approx(7 / 9)
    assert FORM_BROKEN not in found[0].evidence, "what is shown holds the form"
    shown = representative_candidate(found[0], candidates(*answers), evidence_by_candidate=votes)
    assert shown.answer == "Nile"


def test_the_text_that_holds_the_form_is_shown_though_most_break_it() -> None:
    answers = ["The Nile", "The Nile", "The Nile", "Nile", "Congo"]
    votes = [[FORM_BROKEN if " " in answer else FORM_HELD] for answer in answers]
    leader = weigh(cluster(answers), candidates(*answers), votes)[0]
    assert (leader.cluster.representative, leader.anchored) == ("The Nile", "none")
    shown = representative_candidate(leader, candidates(*answers), evidence_by_candidate=votes)
    assert shown.answer == "Nile"


def test_an_answer_whose_every_text_breaks_the_form_ranks_below_one_that_holds_it() -> None:
    answers = ["The Nile", "The Nile", "Congo"]
    votes = [[FORM_BROKEN], [FORM_BROKEN], [FORM_HELD]]
    found = weigh(cluster(answers), candidates(*answers), votes)
    assert [(each.cluster.representative, each.anchored) for each in found] == [("Congo", "none"), ("The Nile", "fail")]


def test_a_drafts_form_keeps_its_strength_both_ways() -> None:
    passed = vote(Tier.CONSTRAINT, "pass", "constraints")
    answers = ["a draft of the sea", "another of the moon", "a third of rain"]
    found = weigh(cluster(answers), candidates(*answers), [[FORM_BROKEN], [passed], [FORM_BROKEN]])
    assert [each.anchored for each in found] == ["pass", "fail", "fail"]
    # Of two drafts that are equal but for their lines the one that holds the form is shown.
    twins = ["So red and so blue", "So red and so blue", "so red and so blue"]
    both = weigh(cluster(twins), candidates(*twins), [[FORM_BROKEN], [FORM_BROKEN], [passed]])
    assert [each.anchored for each in both] == ["pass"]


@pytest.mark.parametrize("source", ["equation", "sources", "even"])
def test_any_other_anchored_fail_holds_against_all_equal_answers(source: str) -> None:
    votes = {
        0: [vote(Tier.CONSTRAINT, "fail", source), FORM_HELD],
        1: [FORM_HELD, vote(Tier.CONSTRAINT, "unscored", source)],
    }
    assert standings(["7", "7"], votes)[0].anchored == "fail"
