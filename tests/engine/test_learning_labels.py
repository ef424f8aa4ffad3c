"""Labels come from evidence alone, and what unanchored evidence is worth is learned where an anchor has decided."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kaelum_graph.evidence import Evidence, ModelScore, Outcome, Tier
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning.episode import STEP_SCALARS, RolloutFeatures, SeenEpisode, SeenRollout
from kaelum_graph.learning.labels import (
    NO_ANSWER,
    Label,
    rollout_labels,
    step_labels,
    worker_rewards,
)
from kaelum_graph.learning.noise_model import NOBODY, Judgement, NoiseModel, calibration_error, signals
from kaelum_graph.types import EpisodeId, WorkerName

MATH, CODE, CREATIVE = WorkerName("math"), WorkerName("code"), WorkerName("creative")


def vote(outcome: Outcome, tier: Tier = Tier.CONSTRAINT, source: str = "equation") -> Evidence:
    return Evidence(tier=tier, source=source, outcome=outcome)


def rollout(
    cluster: int | None, *evidence: Any, worker: WorkerName = MATH, prefix: int = -1, steps: Sequence[int] | None = None
) -> SeenRollout:
    return SeenRollout(
        worker=worker, operator="sample", blind=True, cluster=cluster, prefix=prefix, evidence=evidence, tokens=100,
        finish="stop", features=None if steps is None else features(steps),
    )  # fmt: skip


def features(steps: Sequence[int]) -> RolloutFeatures:
    """Steps by number: equal numbers are equal texts."""
    return RolloutFeatures(
        embeddings=np.array([np.full(384, step) for step in steps], dtype=np.float16).reshape(-1, 384),
        scalars=np.zeros((len(steps), len(STEP_SCALARS)), dtype=np.float32),
        states=None,
    )


def episode(*rollouts: SeenRollout, id: str = "q") -> SeenEpisode:
    told = [replace(one, prefix=index) if one.prefix < 0 else one for index, one in enumerate(rollouts)]
    return SeenEpisode(
        id=EpisodeId(id), features=np.zeros(398, dtype=np.float32), probabilities={}, propensities={}, allocation={},
        rollouts=tuple(told),
    )  # fmt: skip


def training_ids(count: int, *, audit: bool = False) -> list[str]:
    """Ids of episodes that are (not) kept for auditing."""
    every = (f"e{number}" for number in range(100 * count))
    return [id for id in every if episode(rollout(0), id=id).audit is audit][:count]


def probabilities(seen: SeenEpisode, noise: NoiseModel | None = None) -> list[float]:
    return [label.probability for label in rollout_labels(seen, noise or NoiseModel())]


def test_an_anchor_decides_for_the_whole_cluster() -> None:
    seen = episode(rollout(0, vote("pass")), rollout(0), rollout(1, vote("fail")), rollout(2))
    labels = rollout_labels(seen, NoiseModel())
    assert labels[0] == labels[1] == Label(0.95, True, 1.0)
    assert labels[2] == Label(0.05, True, 1.0)
    assert not labels[3].anchored


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([vote("fail"), vote("pass", Tier.EXECUTION, "program")], 0.97),
        ([vote("pass", Tier.EXECUTION, "program"), vote("fail", Tier.HUMAN, "person")], 0.01),
        ([vote("pass"), vote("fail", source="logic")], 0.05),
    ],
)
def test_where_anchors_contradict_the_strongest_tier_decides_and_a_tie_is_a_fail(
    votes: list[Evidence], expected: float
) -> None:
    assert probabilities(episode(rollout(0, *votes)))[0] == pytest.approx(expected)


def test_a_draft_whose_form_alone_was_checked_is_not_anchored() -> None:
    form = vote("pass", source="constraints")
    label, other = rollout_labels(episode(rollout(0, form, worker=CREATIVE), rollout(1, worker=CREATIVE)), NoiseModel())
    assert (label.probability, label.anchored) == (0.85, False)
    # It is no reason against the other draft either.
    assert other.probability > 0.15
    assert probabilities(episode(rollout(0, vote("fail", source="constraints"))))[0] == 0.05


def test_a_broken_form_labels_an_answer_only_where_no_text_holds_it() -> None:
    broken, held = vote("fail", source="constraints"), vote("unscored", source="constraints")
    labels = rollout_labels(episode(rollout(0, broken), rollout(0, held), rollout(1, broken)), NoiseModel())
    assert labels[0] == labels[1]
    assert (labels[0].anchored, labels[2]) == (False, Label(0.05, True, 1.0))
    draft = rollout_labels(episode(rollout(0, broken), rollout(0, vote("pass", source="constraints"))), NoiseModel())
    assert (draft[0].probability, draft[0].anchored) == (0.85, False)


def test_without_an_answer_the_label_is_low_and_not_anchored() -> None:
    label = rollout_labels(episode(rollout(None), rollout(0)), NoiseModel())[0]
    assert (label.probability, label.anchored) == (NO_ANSWER, False)


def test_unanchored_labels_stay_within_their_bounds_and_follow_agreement() -> None:
    agreed = episode(*(rollout(0, vote("pass", Tier.CROSS_CHANNEL, "arithmetic")) for _ in range(20)), rollout(1))
    high, low = probabilities(agreed)[0], probabilities(agreed)[-1]
    assert (high, low) == (0.85, 0.15)
    split = probabilities(episode(rollout(0), rollout(0), rollout(0), rollout(1)))
    assert 0.15 < split[3] < split[0] < 0.85
    # One rollout alone has nobody to agree with: it says nothing about itself.
    assert probabilities(episode(rollout(0)))[0] == pytest.approx(0.5)


def test_rollouts_of_one_beginning_count_once() -> None:
    bushy = episode(*(rollout(0, prefix=0) for _ in range(6)), rollout(1, prefix=1))
    assert probabilities(bushy)[0] == probabilities(bushy)[-1]


def test_a_workers_constancy_counts_beside_the_agreement_of_all() -> None:
    others = [rollout(2 + number, worker=CREATIVE) for number in range(8)]
    constant = episode(*(rollout(0, worker=CODE) for _ in range(4)), *others)
    scattered = episode(*(rollout(0, worker=WorkerName(name)) for name in "abcd"), *(
        rollout(10 + number, worker=WorkerName(name)) for number, name in enumerate("abcd" * 2)
    ))  # fmt: skip
    assert probabilities(constant)[0] > probabilities(scattered)[0]


def test_a_proven_answer_speaks_against_the_others() -> None:
    seen = episode(rollout(0, vote("pass")), *(rollout(1) for _ in range(6)))
    assert probabilities(seen)[1] == 0.15
    assert signals(seen)[1].rival == Judgement(checked=0.95, passed=None)
    assert signals(seen)[0].rival == NOBODY


def test_a_models_score_is_refused() -> None:
    opinion: Any = ModelScore(source="prm", value=0.9)
    seen = episode(rollout(0, opinion))
    noise = NoiseModel()
    for refuse in (lambda: rollout_labels(seen, noise), lambda: noise.learn_episode(seen), lambda: signals(seen)):
        with pytest.raises(TypeError, match="ModelScore"):
            refuse()


def test_a_step_has_the_mean_of_the_rollouts_below_it() -> None:
    seen = episode(
        rollout(0, vote("pass"), steps=[1, 2, 3]),
        rollout(1, vote("fail"), steps=[1, 2, 4]),
        rollout(2, vote("fail"), steps=[1, 5]),
        rollout(0, worker=CODE, steps=[1]),
        rollout(0),
    )
    first, second, third, code, unknown = step_labels(seen, rollout_labels(seen, NoiseModel()))
    mean = (0.95 + 0.05 + 0.05) / 3
    assert [step.probability for step in first] == pytest.approx([mean, 0.5, 0.95])
    assert [step.rollouts for step in first] == [3.0, 2.0, 1.0]
    assert [step.usable for step in first] == [True, True, True]
    assert third[0] == second[0] == first[0]
    # Another worker's step is another step, and equal texts after different beginnings are too.
    assert (code[0].probability, code[0].rollouts, code[0].last) == (0.95, 1.0, True)
    assert unknown == []


def test_an_inner_step_of_one_rollout_is_not_used_and_doubtful_rollouts_hardly_count() -> None:
    alone = episode(rollout(0, vote("pass"), steps=[1, 2]))
    assert [step.usable for step in step_labels(alone, rollout_labels(alone, NoiseModel()))[0]] == [False, True]
    split = episode(*(rollout(number % 2, steps=[1, 2 + number]) for number in range(4)))
    step = step_labels(split, rollout_labels(split, NoiseModel()))[0][0]
    assert step.rollouts < 1.0
    assert not step.usable


def test_a_persons_score_of_a_step_is_its_label() -> None:
    seen = episode(replace(rollout(0, vote("fail"), steps=[1, 2]), rated=((0, 1.0),)))
    first, second = step_labels(seen, rollout_labels(seen, NoiseModel()))[0]
    assert (first.probability, first.rated, first.usable) == (0.99, True, True)
    assert (second.probability, second.rated) == (0.05, False)


def test_branches_share_the_steps_that_they_added_after_one_beginning() -> None:
    def branch(cluster: int, outcome: Outcome, prefix: int) -> SeenRollout:
        return replace(rollout(cluster, vote(outcome), prefix=prefix, steps=[7, 8 + cluster]), operator="branch")

    seen = episode(branch(0, "pass", 0), branch(1, "fail", 0), branch(1, "fail", 1))
    labels = step_labels(seen, rollout_labels(seen, NoiseModel()))
    assert [row[0].rollouts for row in labels] == [2.0, 2.0, 1.0]


def test_a_workers_reward_is_its_mean_label_less_its_tokens_price() -> None:
    seen = episode(rollout(0, vote("pass")), rollout(1, vote("fail")), rollout(0, worker=CODE))
    rewards = worker_rewards(seen, rollout_labels(seen, NoiseModel()), token_price=0.5)
    assert rewards[MATH].mean == pytest.approx(0.5 - 0.05)
    assert (rewards[MATH].rollouts, rewards[CODE].rollouts) == (2, 1)
    assert rewards[CODE].mean == pytest.approx(0.95 - 0.05)


def test_a_cluster_without_rollouts_is_passed_over() -> None:
    assert probabilities(episode(rollout(2))) == probabilities(episode(rollout(0)))


def test_labels_of_another_episode_are_refused() -> None:
    for refuse in (lambda: step_labels(episode(rollout(0)), []), lambda: worker_rewards(episode(rollout(0)), [])):
        with pytest.raises(ValueError, match="0 labels for 1 rollouts"):
            refuse()


def simulated(
    count: int, random: np.random.Generator, *, ids: Sequence[str], sensitivity: float = 0.8, specificity: float = 0.7
) -> list[SeenEpisode]:
    """Queries of one anchored answer, right in half of them, and of an unanchored source with known error rates."""
    made: list[SeenEpisode] = []
    for id in ids[:count]:
        right = random.random() < 0.5
        passed = random.random() < (sensitivity if right else 1 - specificity)
        told = vote("pass" if passed else "fail", Tier.CROSS_CHANNEL, "agreement")
        anchor = vote("pass" if right else "fail", Tier.EXECUTION, "program")
        dissent = int(random.integers(0, 3) if right else random.integers(2, 6))
        others = [rollout(1 + number) for number in range(dissent)]
        made.append(episode(rollout(0, told, anchor), *(rollout(0) for _ in range(3)), *others, id=id))
    return made


def test_known_error_rates_are_recovered() -> None:
    noise = NoiseModel()
    for seen in simulated(600, np.random.default_rng(0), ids=training_ids(600)):
        noise.learn_episode(seen)
    sensitivity, specificity = noise.sources()["agreement"]
    assert sensitivity == pytest.approx(0.8, abs=0.05)
    assert specificity == pytest.approx(0.7, abs=0.05)
    assert noise.seen == 600


def test_what_is_learned_calibrates_the_labels_of_others() -> None:
    """Agreement that was never worth anything is believed less; a source that is always right, more."""
    noise = NoiseModel()
    for id in training_ids(40):
        noise.learn_episode(episode(*(rollout(0, vote("fail")) for _ in range(6)), rollout(1), id=id))
    seen = episode(*(rollout(0) for _ in range(6)), rollout(1))
    assert probabilities(seen, noise)[0] < probabilities(seen)[0] - 0.2
    assert noise.offsets()["math"] < 0


def test_audit_episodes_are_counted_and_move_nothing() -> None:
    noise = NoiseModel()
    for seen in simulated(30, np.random.default_rng(1), ids=training_ids(30)):
        noise.learn_episode(seen)
    probe = episode(rollout(0, vote("pass", Tier.CROSS_CHANNEL, "agreement")), rollout(1), rollout(0))
    before = (noise.weights, noise.sources(), noise.seen, probabilities(probe, noise))
    assert noise.audited() is None
    audits = simulated(20, np.random.default_rng(2), ids=training_ids(20, audit=True))
    for seen in audits:
        noise.learn_episode(seen)
    rated = replace(audits[0], rollouts=(rollout(0, vote("fail", Tier.HUMAN, "person"), prefix=0),))
    noise.learn_feedback(change(rated), rated)
    assert (noise.weights, noise.sources(), noise.seen, probabilities(probe, noise)) == before
    audited = noise.audited()
    assert audited is not None
    assert audited.items == 20
    assert 0 <= audited.calibration_error <= 1


def change(seen: SeenEpisode) -> FeedbackChange:
    rating = Feedback(id="f", episode_id=seen.id, score=0.0)
    return FeedbackChange(sequence=1, at=0.0, before=None, after=rating)


def test_a_rating_replaces_what_the_episode_taught_and_goes_without_a_trace() -> None:
    ids = training_ids(6)
    told = simulated(6, np.random.default_rng(3), ids=ids)
    plain, noise = NoiseModel(), NoiseModel()
    for seen in told:
        plain.learn_episode(seen)
        noise.learn_episode(seen)
    last = told[-1]
    person = vote("fail", Tier.HUMAN, "person")
    rated = replace(last, rollouts=tuple(replace(one, evidence=(*one.evidence, person)) for one in last.rollouts))
    for _ in range(2):
        noise.learn_feedback(change(rated), rated)
        assert noise.seen > 6  # every one of its answers is judged now
    assert noise.weights != plain.weights
    noise.learn_feedback(change(last), last)
    assert np.array_equal(noise.tensors()["items"], plain.tensors()["items"], equal_nan=True)
    noise.learn_feedback(change(last), None)
    assert noise.seen == 5


def rated_by_people(count: int, *, reliability: float, seed: int, ids: Sequence[str]) -> list[SeenEpisode]:
    """Queries whose answer a test judged, which is right but in 3%, and people, who are right so often."""
    random, made = np.random.default_rng(seed), list[SeenEpisode]()
    for id in ids[:count]:
        right = random.random() < 0.5
        checked, said = (right if random.random() < sure else not right for sure in (0.97, reliability))
        test = vote("pass" if checked else "fail", Tier.EXECUTION, "program")
        person = vote("pass" if said else "fail", Tier.HUMAN, "person")
        made.append(episode(rollout(0, test, person), rollout(0), rollout(1), id=id))
    return made


def taught(told: Sequence[SeenEpisode]) -> NoiseModel:
    noise = NoiseModel()
    for seen in told:
        noise.learn_episode(seen)
    return noise


@pytest.mark.parametrize("reliability", [0.7, 0.8, 0.95])
def test_how_often_people_are_right_is_measured_where_checks_decide_too(reliability: float) -> None:
    noise = taught(rated_by_people(300, reliability=reliability, seed=6, ids=training_ids(300)))
    assert noise.people == pytest.approx(reliability, abs=0.06)


def test_people_are_believed_as_far_as_they_have_been_right() -> None:
    """Wrong in a fifth of their ratings they are believed at 0.8, and no longer against a test."""
    noise = taught(rated_by_people(300, reliability=0.8, seed=7, ids=training_ids(300)))
    person, test = vote("fail", Tier.HUMAN, "person"), vote("pass", Tier.EXECUTION, "program")
    alone, both = rollout_labels(episode(rollout(0, person), rollout(1, person, test)), noise)
    odds = 0.15 / 0.85 * (1 - noise.people) / noise.people  # a test has passed the other answer
    assert alone.probability == pytest.approx(odds / (1 + odds))
    assert alone.anchored
    assert alone.weight == pytest.approx(0.4, abs=0.1)
    assert both == Label(0.97, True, 1.0)
    seen = episode(replace(rollout(0, steps=[1, 2]), rated=((0, 1.0), (1, 0.0))))
    rated = [step for step in step_labels(seen, rollout_labels(seen, noise), people=noise.people)[0] if step.rated]
    assert [step.probability for step in rated] == pytest.approx([noise.people, 1 - noise.people])


@pytest.mark.parametrize("reliability", [0.55, 0.8, 0.99])
def test_praise_never_lowers_a_label_and_blame_never_raises_one(reliability: float) -> None:
    noise = taught(rated_by_people(200, reliability=reliability, seed=10, ids=training_ids(200)))
    for crowd in (0, 1, 7):  # how many others gave the same answer
        for dissent in (0, 2, 7):

            def label(*votes: Evidence, crowd: int = crowd, dissent: int = dissent) -> float:
                others = [*(rollout(0) for _ in range(crowd)), *(rollout(1) for _ in range(dissent))]
                return probabilities(episode(rollout(0, *votes), *others), noise)[0]

            plain = label()
            assert label(vote("fail", Tier.HUMAN, "person")) <= plain <= label(vote("pass", Tier.HUMAN, "person"))


def test_what_people_passed_speaks_against_other_answers_as_far_as_they_are_right() -> None:
    noise = taught(rated_by_people(300, reliability=0.8, seed=7, ids=training_ids(300)))
    useless = taught(rated_by_people(200, reliability=0.05, seed=8, ids=training_ids(200)))
    others = [rollout(1) for _ in range(3)]
    test = {outcome: vote(outcome, Tier.EXECUTION, "program") for outcome in ("pass", "fail")}
    person = {outcome: vote(outcome, Tier.HUMAN, "person") for outcome in ("pass", "fail")}

    def other(noise: NoiseModel, *votes: Evidence) -> float:
        return probabilities(episode(rollout(0, *votes), *others), noise)[1]

    assert other(noise, test["fail"], person["pass"]) == other(noise), "the test is believed, and so is no rival"
    assert other(noise, test["pass"], person["fail"]) == 0.15
    assert other(noise, person["pass"]) == pytest.approx(1 - noise.people)
    assert other(useless, person["pass"]) == other(useless)


def test_one_contradiction_does_not_undo_peoples_word() -> None:
    """A check may be the one that is wrong; and whoever never meets a check is believed as stated."""
    contradicted = episode(
        rollout(0, vote("pass", Tier.EXECUTION, "program"), vote("fail", Tier.HUMAN, "person")), id=training_ids(1)[0]
    )
    assert 0.9 < taught([contradicted]).people < 0.97
    alone = [episode(rollout(0, vote("fail", Tier.HUMAN, "person")), id=id) for id in training_ids(50)]
    assert taught(alone).people == pytest.approx(0.99)


def test_people_who_are_always_wrong_say_nothing() -> None:
    noise = taught(rated_by_people(200, reliability=0.05, seed=8, ids=training_ids(200)))
    (label,) = rollout_labels(episode(rollout(0, vote("pass", Tier.HUMAN, "person"))), noise)
    plain = probabilities(episode(rollout(0)), noise)[0]
    assert (noise.people, label.probability, label.weight) == (0.5, pytest.approx(plain), 0.0)


def test_a_form_that_holds_is_no_check_of_what_a_person_refused() -> None:
    noise = taught(rated_by_people(100, reliability=0.7, seed=9, ids=training_ids(100)))
    form, person = vote("pass", source="constraints"), vote("fail", Tier.HUMAN, "person")
    (label,) = rollout_labels(episode(rollout(0, form, person, worker=CREATIVE)), noise)
    plain = probabilities(episode(rollout(0, worker=CREATIVE)), noise)[0]
    assert label.probability < min(plain, 0.5)


def test_a_state_is_a_function_of_the_log_and_survives_being_kept() -> None:
    ids = training_ids(40)
    told = simulated(40, np.random.default_rng(4), ids=ids)
    told += simulated(5, np.random.default_rng(5), ids=training_ids(5, audit=True))
    first, second = NoiseModel(), NoiseModel()
    untouched = copy.deepcopy(told)
    for seen in told:
        first.learn_episode(seen)
    for seen in untouched[:20]:
        second.learn_episode(seen)
    kept = NoiseModel()
    kept.load(second.tensors(), second.meta())
    for seen in untouched[20:]:
        kept.learn_episode(seen)
    assert kept.meta() == first.meta()
    for name, tensor in first.tensors().items():
        assert np.array_equal(tensor, kept.tensors()[name], equal_nan=True)
    assert kept.weights == first.weights
    assert kept.audited() == first.audited()


def test_what_is_no_noise_model_is_not_loaded() -> None:
    noise = NoiseModel()
    tensors, meta = noise.tensors(), noise.meta()
    for wrong in ({}, {"sources": [], "workers": [], "episodes": ["e"], "audits": []}):
        with pytest.raises(ValueError, match="not a noise model"):
            noise.load(tensors, wrong)
    noise.load(tensors, meta)


def test_only_the_newest_items_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaelum_graph.learning.noise_model.NEWEST", 5)
    noise = NoiseModel()
    ids = training_ids(9)
    for seen in simulated(9, np.random.default_rng(6), ids=ids):
        noise.learn_episode(seen)
    assert noise.meta()["episodes"] == ids[-5:]


def test_calibration_error_of_known_labels() -> None:
    stated = np.array([0.2] * 10 + [0.8] * 10)
    right = np.array([1.0] * 2 + [0.0] * 8 + [1.0] * 10)
    assert calibration_error(stated, right) == pytest.approx(0.1)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0.0


def auroc(scores: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    """P(a right one is above a wrong one), without ties."""
    ranks = scores.argsort().argsort() + 1.0
    rights = right.sum()
    return float((ranks[right].sum() - rights * (rights + 1) / 2) / (rights * (~right).sum()))


def test_shuffled_labels_teach_nothing() -> None:
    """A logistic trained by the noise-corrected loss on labels made of evidence tells right from wrong among rollouts
    it never saw; on the same labels shuffled it doesn't."""
    random = np.random.default_rng(7)
    count, width = 8_000, 256
    inputs = random.standard_normal((count, width))
    right = inputs @ random.standard_normal(width) / math.sqrt(width) + 0.3 * random.standard_normal(count) > 0
    judged = [episode(rollout(0, vote("pass" if one else "fail"))) for one in (True, False)]
    of_outcome = [probabilities(seen)[0] for seen in judged]
    labels = np.where(right, *of_outcome)

    def learned(taught: np.ndarray[Any, Any]) -> float:
        half = count // 2
        weights = np.zeros(width)
        for _ in range(40):
            predicted = 1 / (1 + np.exp(-inputs[:half] @ weights))
            told = predicted * taught + (1 - predicted) * (1 - taught)
            weights -= inputs[:half].T @ (predicted - predicted * taught / told) / half
        return auroc(inputs[half:] @ weights, right[half:])

    assert learned(labels[: count // 2]) > 0.9
    found = [learned(random.permutation(labels[: count // 2])) for _ in range(8)]
    assert 0.47 <= np.mean(found) <= 0.53
    assert max(abs(one - 0.5) for one in found) < 0.1
