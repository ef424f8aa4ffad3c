"""The stop head learns from full runs alone, keeps its promise out of sample, and is the plain test until then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.learning.stop_head import EVIDENCE_LEAD, PRICE, Logistic, StopHead, promised_threshold
from kaelum_graph.learning.stop_looks import LOOK_FEATURES, answer_after, look_at, look_times, regret_after
from kaelum_graph.stopping import evidence_halt
from kaelum_graph.tree import Rollout, SearchTree, Simulation
from kaelum_graph.types import Candidate, EpisodeId, RolloutId, WorkerName

MATH, CODE = WorkerName("math"), WorkerName("code")
ROUTER_FEATURES = np.zeros(398, dtype=np.float32)


def vote(tier: Tier, outcome: Outcome, source: str = "check") -> Evidence:
    return Evidence(tier=tier, source=source, outcome=outcome)


def rollout(
    cluster: int | None, *, prefix: int = 0, evidence: Sequence[Evidence] = (), worker: WorkerName = MATH
) -> SeenRollout:
    return SeenRollout(
        worker=worker, operator="sample", blind=True, cluster=cluster, prefix=prefix,
        evidence=tuple(evidence), tokens=40, finish="stop",
    )  # fmt: skip


def episode(clusters: Sequence[int | None], *, name: str = "one", exhausted: bool = True) -> SeenEpisode:
    return SeenEpisode(
        id=EpisodeId(name), features=ROUTER_FEATURES, probabilities={MATH: 1.0}, propensities={MATH: 1.0},
        allocation={MATH: len(clusters)}, exhausted=exhausted, answers=("ten", "eleven", "twelve", "x", "y", "z"),
        rollouts=tuple(rollout(cluster, prefix=index) for index, cluster in enumerate(clusters)),
    )  # fmt: skip


def stream(count: int, seed: int) -> list[SeenEpisode]:
    """Searches of 8, of which half are easy (one answer has 95% of the votes) and half hard (six have 10 to 30%)."""
    generator = np.random.default_rng(seed)
    made: list[SeenEpisode] = []
    for index in range(count):
        easy = generator.random() < 0.5
        chances = (0.95, 0.01, 0.01, 0.01, 0.01, 0.01) if easy else (0.3, 0.2, 0.2, 0.1, 0.1, 0.1)
        clusters = [int(value) for value in generator.choice(6, size=8, p=chances)]
        made.append(episode(clusters, name=f"{seed} {index}"))
    return made


def learned(count: int = 320, **options: float) -> StopHead:
    head = StopHead(first=2, most=8, learning_runs=10**6, learning_share=1.0, **options)  # type: ignore[arg-type]
    for one in stream(count, seed=1):
        head.learn_episode(one)
    return head


@pytest.fixture(scope="module")
def head() -> StopHead:
    return learned()


def test_waves_double_and_the_end_is_no_look() -> None:
    assert look_times(16, first=4, most=32) == [4, 8]
    assert look_times(32, first=2, most=8) == [2, 4, 8, 16, 24]
    assert look_times(8, first=4, most=2) == [2, 4, 6]
    assert look_times(2, first=4, most=8) == []


def test_the_answer_that_stands_is_the_votes_and_ties_go_by_its_text() -> None:
    one = episode([1, 0, 1, 0, 0, 0])
    # After four the vote is even, and "eleven" comes before "ten".
    assert [answer_after(one, count) for count in range(1, 7)] == [1, 1, 1, 1, 0, 0]
    assert answer_after(episode([None, None]), 2) is None


def test_evidence_says_which_answer_stands() -> None:
    rollouts = [*episode([0, 0, 0]).rollouts, rollout(1, prefix=3, evidence=[vote(Tier.CONSTRAINT, "pass")])]
    one = replace(episode([0] * 4), rollouts=tuple(rollouts))
    assert [answer_after(one, count) for count in (3, 4)] == [0, 1]
    # The passed check's 0.95 against what three of four agreeing are worth.
    assert 0.1 < regret_after(one, 3) < 0.95
    assert regret_after(one, 4) == 0.0


def test_an_even_vote_that_tips_is_a_small_loss_and_a_refuted_answer_a_great_one() -> None:
    tipped = episode([0, 0, 1, 1, 1])
    assert answer_after(tipped, 2) != answer_after(tipped, 5)
    assert regret_after(tipped, 2) == pytest.approx(4 / 7 - 3 / 7)
    later = rollout(0, prefix=9, evidence=[vote(Tier.CONSTRAINT, "fail")])
    refuted = replace(tipped, rollouts=(*tipped.rollouts[:2], later, *tipped.rollouts[2:]))
    assert regret_after(refuted, 2) == pytest.approx(4 / 8 - 0.05)
    # An answer where there was none is worth all that it is worth.
    assert regret_after(episode([None, 0, 0, 0]), 1) == pytest.approx(4 / 5)


def test_a_look_is_the_searches_own_rule() -> None:
    tree, seen = SearchTree(), list[SeenRollout]()
    generator = np.random.default_rng(0)
    for index in range(12):
        cluster = int(generator.random() > 0.7)
        checks = [vote(Tier.CONSTRAINT, "fail")] if generator.random() < 0.2 else []
        simulation = Simulation(node_id=tree.worker_node(MATH).id, worker=MATH, operator="sample")
        tree.start(simulation)
        candidate = Candidate(rollout_id=RolloutId(index), worker=MATH, text="", answer=f"{cluster}")
        tree.complete(
            Rollout(
                id=RolloutId(index), wave=1, simulation=simulation, candidate=candidate, evidence=tuple(checks),
                steps=(), step_scores=(), finish="stop", completion_tokens=40, value=0.5,
            )
        )  # fmt: skip
        seen.append(rollout(cluster, prefix=index, evidence=checks))
        look = look_at(seen, budget=16)
        assert look.certain == (evidence_halt(tree, may_reflect=False) == "margin")
        assert not look.verified
        ahead = look.features[LOOK_FEATURES.index("gap")] >= EVIDENCE_LEAD
        assert StopHead().should_stop(look) == (look.certain or ahead)
    passed = rollout(0, prefix=99, evidence=[vote(Tier.EXECUTION, "pass")])
    assert look_at([*seen, passed], budget=16).verified


def test_before_it_has_learned_evidence_far_enough_ahead_ends_a_search() -> None:
    fresh = StopHead()
    agreed, torn = (look_at(episode(clusters).rollouts, budget=8) for clusters in ([0, 0], [0, 0, 1]))
    refuted = replace(episode([0, 0, 1]).rollouts[2], evidence=(vote(Tier.CONSTRAINT, "fail"),))
    doubted = [replace(one, evidence=(vote(Tier.CROSS_CHANNEL, "fail"),)) for one in episode([0, 0]).rollouts]
    assert [look.certain for look in (agreed, torn)] == [False, False]
    assert fresh.should_stop(agreed)
    assert not fresh.should_stop(torn)
    assert fresh.should_stop(look_at([*episode([0, 0, 0]).rollouts, replace(refuted, prefix=3)], budget=8))
    assert not fresh.should_stop(look_at(doubted, budget=8))


def test_features_are_finite() -> None:
    for clusters in ([], [None], [0], [0, None, 1, 2], [0] * 16):
        features = look_at(episode(clusters).rollouts, budget=16).features
        assert len(features) == len(LOOK_FEATURES)
        assert np.isfinite(features).all()
    assert look_at([], budget=8).leader is None


def test_only_full_runs_teach() -> None:
    head = StopHead(first=2, most=8, learning_runs=0, audit_share=0.2)
    episodes = stream(400, seed=3)
    chosen = [one for one in episodes if head.full_run(one.id) and not one.audit]
    assert 40 < len(chosen) < 100
    for one in episodes:
        head.learn_episode(replace(one, exhausted=False))
    assert head.runs == 0
    for one in episodes:
        head.learn_episode(one)
    assert head.runs == head.seen == len(chosen)


def test_full_runs_are_many_at_first_and_then_a_share_that_the_id_decides() -> None:
    head = StopHead(learning_runs=20, learning_share=0.5, audit_share=0.08)
    names = [EpisodeId(f"query {index}") for index in range(4000)]
    early = {name for name in names if head.full_run(name)}
    for one in stream(100, seed=4):
        head.learn_episode(one)
    late = {name for name in names if head.full_run(name)}
    assert [len(early) / 4000, len(late) / 4000] == pytest.approx([0.5, 0.08], abs=0.02)
    assert [head.full_share, len(late - early)] == [0.08, 0]  # who is one by the later word was one by the earlier


def test_the_promise_holds_out_of_sample_and_much_is_saved(head: StopHead) -> None:
    assert head.threshold is not None
    spent, lost, searches = 0, 0.0, stream(400, seed=9)
    for one in searches:
        for count in (2, 4, 8):
            look = look_at(one.rollouts[:count], budget=8)
            if head.should_stop(look) or count == 8:
                spent += count
                lost += regret_after(one, count)
                break
    assert lost / len(searches) <= 0.015
    assert spent / (8 * len(searches)) < 0.75


def test_it_is_surer_the_more_agree(head: StopHead) -> None:
    sure, torn = (look_at(episode(clusters).rollouts, budget=8) for clusters in ([0, 0, 0, 0], [0, 1, 2, 0]))
    assert head.predicted(sure.features) < head.predicted(torn.features)
    assert head.should_stop(sure)
    assert not head.should_stop(torn)
    assert not head.should_stop(look_at(episode([0] * 8).rollouts, budget=8))


def test_plain_tests_that_break_the_promise_are_dropped() -> None:
    head = StopHead(first=2, most=8, learning_runs=10**6, learning_share=1.0)
    for index in range(60):
        # Two agree at first, and in every other search are wrong: six others agree.
        later = 1 if index % 2 else 0
        head.learn_episode(episode([0, 0, *[later] * 6], name=f"trap {index}"))
    assert not head.plain
    assert head.threshold is None
    assert not head.should_stop(look_at(episode([0, 0]).rollouts, budget=8))


def test_a_promise_that_the_runs_cannot_carry_is_not_made() -> None:
    # (Σ loss + 1) / (n + 1) ≤ 0.01 needs 99 runs even without any loss.
    assert learned(100).threshold is None
    scores, regrets = np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 0.5])
    owner = np.array([0, 1, 2])
    assert promised_threshold(scores, regrets, owner, runs=98, promise=0.01) is None
    assert promised_threshold(scores, regrets, owner, runs=99, promise=0.01) == 0.2
    assert promised_threshold(scores, regrets, owner, runs=149, promise=0.01) == 0.3


def test_a_loss_once_risked_is_not_forgotten_by_a_higher_threshold() -> None:
    # The higher threshold stops the run at its first look, which loses nothing; its second look lost all.
    scores, regrets, owner = np.array([0.4, 0.2]), np.array([0.0, 1.0]), np.array([0, 0])
    assert promised_threshold(scores, regrets, owner, runs=150, promise=0.01) is None
    assert promised_threshold(scores, regrets, owner, runs=199, promise=0.01) == 0.4


def test_ties_are_reached_together() -> None:
    scores, regrets, owner = np.array([0.2, 0.2]), np.array([0.0, 1.0]), np.array([0, 1])
    assert promised_threshold(scores, regrets, owner, runs=120, promise=0.01) is None


def test_the_fit_finds_what_made_the_targets() -> None:
    generator = np.random.default_rng(5)
    rows = generator.standard_normal((4000, len(LOOK_FEATURES)))
    rows[:, -1] = 3.0  # one that never differs
    gap = LOOK_FEATURES.index("gap")
    targets = 1.0 / (1.0 + np.exp(1.0 + 2.0 * rows[:, gap]))
    fitted = Logistic.fit(rows, targets, np.ones(len(rows)))
    assert fitted.weights[1 + gap] == pytest.approx(-2.0, abs=0.2)
    assert np.abs(np.delete(fitted.weights[1:], gap)).max() < 0.1
    assert np.abs(fitted.predict(rows) - targets).max() < 0.1


def test_learning_is_a_function_of_the_log_and_survives_saving(head: StopHead) -> None:
    again = learned()
    assert again.meta() == head.meta()
    for name, array in head.tensors().items():
        np.testing.assert_array_equal(array, again.tensors()[name])
    loaded = StopHead(first=2, most=8, learning_runs=10**6, learning_share=1.0)
    loaded.load(head.tensors(), head.meta())
    look = look_at(episode([0, 1, 0, 0]).rollouts, budget=8)
    assert loaded.predicted(look.features) == head.predicted(look.features)
    for one in stream(15, seed=6):
        loaded.learn_episode(one)
        again.learn_episode(one)
    assert loaded.meta() == again.meta()
    np.testing.assert_array_equal(loaded.tensors()["weights"], again.tensors()["weights"])
    # What was handed out before does not move.
    assert len(head.meta()["ids"]) == len(head.tensors()["looks"])


def test_a_state_of_other_features_is_refused(head: StopHead) -> None:
    with pytest.raises(ValueError, match="other features"):
        StopHead().load(head.tensors(), {**head.meta(), "features": ["share"]})
    with pytest.raises(ValueError, match="fit together"):
        StopHead().load({**head.tensors(), "rows": np.zeros((2, 2))}, head.meta())


def test_a_rating_changes_what_stopping_would_have_lost() -> None:
    head = StopHead(first=2, most=8, learning_share=1.0)
    one = episode([1, 1, 0, 0, 0, 0, 0, 0], name="rated")
    head.learn_episode(one)
    before = head.tensors()["regrets"]
    rated = replace(
        one,
        rollouts=tuple(
            replace(each, evidence=(vote(Tier.HUMAN, "pass" if each.cluster else "fail", "person"),))
            for each in one.rollouts
        ),
    )
    said = Feedback(id="f", episode_id=one.id, score=0.0)
    head.learn_feedback(FeedbackChange(sequence=1, at=0.0, before=None, after=said), rated)
    after = head.tensors()
    # The early answer was right, says the person: stopping at it loses nothing.
    assert before[0] > 0.3
    assert after["regrets"][0] == 0.0
    # And what the search looked like then is as it was.
    assert after["rows"][0].tolist() == look_at(one.rollouts[:2], budget=8).features.tolist()
    head.learn_feedback(FeedbackChange(sequence=2, at=0.0, before=said, after=None), one)
    np.testing.assert_array_equal(head.tensors()["regrets"], before)


def test_promotion_prefers_the_head_that_saves_at_little_loss_to_one_that_always_stops(head: StopHead) -> None:
    judged = [one for one in stream(400, seed=12) if not one.audit]
    reckless = learned(promise=1.0)
    mine = [loss for one in judged if (loss := head.loss(one)) is not None]
    theirs = [loss for one in judged if (loss := reckless.loss(one)) is not None]
    assert len(mine) == len(theirs) == len(judged)
    assert sum(mine) < sum(theirs)
    # And to one that never does.
    assert sum(mine) < PRICE * len(judged)
    assert head.loss(replace(judged[0], exhausted=False)) is None


def test_a_full_run_that_a_check_ended_tells_what_stopping_before_would_have_lost() -> None:
    head = StopHead(first=2, most=8, learning_runs=10**6, learning_share=1.0)
    right = rollout(1, prefix=9, evidence=[vote(Tier.CONSTRAINT, "pass")])
    one = replace(episode([0, 0, 0]), budget=16)
    one = replace(one, rollouts=(*one.rollouts, right))
    head.learn_episode(one)
    made = head.tensors()
    assert made["looks"].tolist() == [1], "it looked after two of its four rollouts; the end is no look"
    assert made["regrets"][0] > 0.1
    assert made["saved"][0] == pytest.approx(14 / 16)
    look = look_at(one.rollouts[:2], budget=16)
    np.testing.assert_array_equal(made["rows"][0], look.features)
    # Where nothing stops it, it costs the part of the budget that it took.
    never = StopHead(first=2, most=8, learning_runs=10**6, learning_share=1.0)
    never.plain = False
    assert never.loss(one) == pytest.approx(PRICE * 4 / 16)
    assert SeenEpisode.from_bytes(one.to_bytes()).budget == 16
