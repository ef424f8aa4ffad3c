"""The reward model learns what evidence says, tells what it knows, and never sees its own labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.evidence import Evidence, ModelScore, Tier
from kaelum_graph.feedback import Feedback, FeedbackChange
from kaelum_graph.learning import prm
from kaelum_graph.learning.episode import STATE_SIZE, STEP_SCALARS, RolloutFeatures, SeenEpisode, SeenRollout
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.one_thread import one_thread
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.prm_features import AGREEMENT_COLUMNS, GROUPS, RAW, Group, describe
from kaelum_graph.router import FEATURES
from kaelum_graph.types import EpisodeId, WorkerName

WORKERS = (WorkerName("math"), WorkerName("code"))
PROTOTYPES = np.eye(len(WORKERS), EMBEDDING_SIZE, dtype=np.float32)
WITHOUT_AGREEMENT: tuple[Group, ...] = tuple(group for group in GROUPS if group != "agreement")
PASS = Evidence(tier=Tier.CONSTRAINT, source="equation", outcome="pass")
FAIL = Evidence(tier=Tier.CONSTRAINT, source="equation", outcome="fail")
DIRECTION = np.random.default_rng(5).standard_normal(STATE_SIZE) / np.sqrt(STATE_SIZE)


def rollout(
    generator: np.random.Generator, *, right: bool, told: bool, cluster: int, signal: float, steps: int = 2
) -> SeenRollout:
    """`right` shifts the hidden state along one direction by `signal`; `told` is what the check says."""
    embeddings = generator.standard_normal((steps, EMBEDDING_SIZE))
    states = generator.standard_normal((steps, STATE_SIZE)) + signal * (1 if right else -1) * DIRECTION * 4
    scalars = generator.standard_normal((steps, len(STEP_SCALARS))).astype(np.float32)
    scalars[:, 6] = 2.0
    return SeenRollout(
        worker=WORKERS[int(generator.integers(2))],
        operator="sample",
        blind=True,
        cluster=cluster,
        prefix=cluster,
        evidence=(PASS if told else FAIL,),
        tokens=40,
        finish="stop",
        features=RolloutFeatures(
            embeddings=(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float16),
            scalars=scalars,
            states=states.astype(np.float16),
        ),
    )


def episode(
    number: int, *, seed: int = 0, signal: float = 1.0, wrong_labels: float = 0.0, shuffled: bool = False, size: int = 8
) -> tuple[SeenEpisode, list[bool]]:
    """Half of the rollouts are right; each has an answer of its own, so that nothing is to be had from agreement."""
    generator = np.random.default_rng([seed, number])
    right = [index % 2 == 0 for index in range(size)]
    told = [bool(one) if generator.random() >= wrong_labels else not one for one in right]
    if shuffled:
        told = [bool(one) for one in generator.permutation(right)]
    rollouts = tuple(
        rollout(generator, right=right[index], told=told[index], cluster=index, signal=signal) for index in range(size)
    )
    features = np.zeros(FEATURES, dtype=np.float32)
    features[:EMBEDDING_SIZE] = generator.standard_normal(EMBEDDING_SIZE) / np.sqrt(EMBEDDING_SIZE)
    share = dict.fromkeys(WORKERS, 0.5)
    made = SeenEpisode(
        id=trained_id(f"{seed}-{number}"),
        features=features,
        probabilities=share,
        propensities=dict.fromkeys(WORKERS, 1.0),
        allocation=dict.fromkeys(WORKERS, size // 2),
        answers=tuple(str(index) for index in range(size)),
        chosen=0,
        rollouts=rollouts,
    )
    return made, right


def trained_id(name: str, *, audit: bool = False) -> EpisodeId:
    """An id whose hash says that the episode is (not) for audit."""
    blank = SeenEpisode(
        id=EpisodeId(name),
        features=np.zeros(FEATURES, dtype=np.float32),
        probabilities={},
        propensities={},
        allocation={},
        rollouts=(),
    )
    ids = (EpisodeId(f"{name}-{number}") for number in range(1000))
    return next(id for id in ids if replace(blank, id=id).audit is audit)


def model(groups: Sequence[Group] = GROUPS, *, network: bool = False) -> RewardModel:
    return RewardModel(noise=NoiseModel(), workers=WORKERS, prototypes=PROTOTYPES, groups=groups, network=network)


def within(learned: RewardModel, count: int, *, seed: int = 99, signal: float = 1.0) -> float:
    """Mean within-query AUROC against the truth on fresh queries."""
    found: list[float] = []
    for number in range(count):
        seen, right = episode(number, seed=seed, signal=signal)
        paths = np.array(learned.read(seen.features, seen.rollouts).paths)
        truth = np.array(right)
        gaps = np.sign(paths[truth][:, None] - paths[~truth][None, :])
        found.append(float((gaps + 1).mean() / 2))
    return float(np.mean(found))


def test_learns_a_signal_within_queries_from_noisy_labels() -> None:
    learned = model(WITHOUT_AGREEMENT)
    assert within(learned, 5) == pytest.approx(0.5)
    for number in range(60):
        learned.learn_episode(episode(number, wrong_labels=0.15)[0])
    assert within(learned, 30) > 0.85
    skill = learned.skill()
    assert skill.queries >= 55
    assert skill.mean > 0.6  # it is held against labels of which one in seven is wrong
    assert skill.weight > 0.2


def test_shuffled_labels_teach_nothing() -> None:
    found: list[float] = []
    for seed in range(6):
        learned = model(WITHOUT_AGREEMENT)
        for number in range(20):
            learned.learn_episode(episode(number, seed=seed, signal=0.3, shuffled=True)[0])
        found.append(within(learned, 25, signal=0.3))
        assert learned.skill().weight == 0.0
    assert 0.47 <= np.mean(found) <= 0.53
    taught = model(WITHOUT_AGREEMENT)
    for number in range(20):
        taught.learn_episode(episode(number, signal=0.3)[0])
    assert within(taught, 25, signal=0.3) > 0.55  # there was something to learn


def test_a_models_score_is_refused_as_evidence() -> None:
    seen, _ = episode(0)
    opinion = cast("Any", ModelScore(source="prm", value=0.9))
    with pytest.raises(TypeError, match="ModelScore"):
        model().learn_episode(replace(seen, rollouts=(replace(seen.rollouts[0], evidence=(opinion,)),)))


def test_anchored_votes_never_reach_the_features() -> None:
    seen, _ = episode(0)
    swapped = tuple(
        replace(one, evidence=(FAIL if one.evidence[0] is PASS else PASS, replace(FAIL, tier=Tier.HUMAN)))
        for one in seen.rollouts
    )
    bare = tuple(replace(one, evidence=()) for one in seen.rollouts)
    reference = describe(seen.features, seen.rollouts)
    for other in (swapped, bare):
        for one, two in zip(reference, describe(seen.features, other), strict=True):
            np.testing.assert_array_equal(one.raw, two.raw)
    learned = model()
    learned.learn_episode(seen)
    fresh, _ = episode(1)
    stripped = tuple(replace(one, evidence=()) for one in fresh.rollouts)
    assert learned.score(fresh.features, fresh.rollouts) == learned.score(fresh.features, stripped)
    flagged = (replace(fresh.rollouts[0], evidence=(Evidence(tier=Tier.JUDGE, source="rubric", outcome="fail"),)),)
    column = RAW.index("unanchored_fails")
    assert describe(fresh.features, flagged)[0].raw[0, column] == 1.0  # that the comparison above could fail


def test_agreement_counts_distinct_beginnings_and_leaves_the_rollout_out() -> None:
    seen, _ = episode(0, size=6)
    clusters, prefixes = [0, 0, 0, 1, 2, None], [0, 1, 1, 2, 3, 4]
    rollouts = tuple(
        replace(one, worker=WORKERS[0], cluster=cluster, prefix=prefix)
        for one, cluster, prefix in zip(seen.rollouts, clusters, prefixes, strict=True)
    )
    share = AGREEMENT_COLUMNS.start
    table = [one.raw[0, share] for one in describe(seen.features, rollouts)]
    assert table[:5] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0, 0.0])  # of three other beginnings, one
    assert np.isnan(table[5])
    alone = describe(seen.features, rollouts[:1])[0].raw[0]
    assert np.isnan(alone[share])


def test_without_log_probabilities_states_or_steps_it_still_scores() -> None:
    learned = model(network=True)
    for number in range(6):
        seen, _ = episode(number)
        if number % 3 == 0:
            seen = replace(seen, rollouts=tuple(remote(one) for one in seen.rollouts))
        learned.learn_episode(seen)
    seen, _ = episode(50)
    mixed = (remote(seen.rollouts[0]), replace(seen.rollouts[1], features=None), *seen.rollouts[2:])
    for rollouts in (mixed, tuple(remote(one) for one in seen.rollouts), seen.rollouts[:1], mixed[1:2]):
        scores = learned.score(seen.features, rollouts)
        assert [len(one) for one in scores] == [2 if one.features is not None else 1 for one in rollouts]
        assert all(0.0 <= value <= 1.0 for one in scores for value in one)
    assert learned.score(seen.features, ()) == []
    reading = learned.read(seen.features, seen.rollouts)
    assert all(low < path for low, path in zip(reading.lower, reading.paths, strict=True))
    assert RewardModel.path((0.2, 0.4)) == pytest.approx(0.3)


def remote(one: SeenRollout) -> SeenRollout:
    assert one.features is not None
    scalars = one.features.scalars.copy()
    scalars[:, :6] = np.nan
    return replace(one, features=replace(one.features, scalars=scalars, states=None))


@pytest.mark.parametrize("network", [False, True])
def test_the_same_log_gives_the_same_model_and_a_saved_one_goes_on_as_if_never_stopped(network: bool) -> None:
    first, second = model(network=network), model(network=network)
    for number in range(12):
        first.learn_episode(episode(number)[0])
    for number in range(6):
        second.learn_episode(episode(number)[0])
    third = model(network=network)
    third.load(second.tensors(), second.meta())
    saved = second.tensors()
    copied = second.copy()
    for number in range(6, 12):
        third.learn_episode(episode(number)[0])
        second.learn_episode(episode(number)[0])
    for other in (second, third):
        assert_same(first, other)
    np.testing.assert_array_equal(copied.tensors()["head.weights"], saved["head.weights"])
    seen, _ = episode(70)
    assert first.score(seen.features, seen.rollouts) == third.score(seen.features, seen.rollouts)


def assert_same(one: RewardModel, two: RewardModel) -> None:
    left, right = one.tensors(), two.tensors()
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    assert one.meta() == two.meta()


def test_load_refuses_another_models_state() -> None:
    other = model(WITHOUT_AGREEMENT)
    with pytest.raises(ValueError, match="groups of the saved reward model"):
        model().load(other.tensors(), other.meta())
    for missing in ("", "record.", "network."):
        learned = model(network=True)
        kept = {name: array for name, array in learned.tensors().items() if missing and not name.startswith(missing)}
        with pytest.raises(ValueError, match="not a saved reward model"):
            model(network=True).load(kept, learned.meta())


def test_an_audit_episode_moves_nothing() -> None:
    learned = model(network=True)
    learned.learn_episode(episode(0)[0])
    before = learned.copy()
    seen, _ = episode(1)
    learned.learn_episode(replace(seen, id=trained_id("audit", audit=True)))
    assert_same(before, learned)
    assert learned.skill().queries == 1


def test_only_blind_rollouts_measure_skill() -> None:
    learned = model()
    seen, _ = episode(0)
    learned.learn_episode(replace(seen, rollouts=tuple(replace(one, blind=False) for one in seen.rollouts)))
    assert learned.skill().queries == 0
    assert len(learned.tensors()["stated"]) == 0
    learned.learn_episode(episode(1)[0])
    assert learned.skill().queries == 1


def test_skill_shown_with_one_language_model_is_no_weight_with_another() -> None:
    learned = model(WITHOUT_AGREEMENT)
    for number in range(40):
        learned.learn_episode(replace(episode(number)[0], model="small"))
    small = learned.skill("small")
    assert small.weight > 0.2
    assert learned.skill("large").weight == learned.skill("").weight == 0.0
    for number in range(40, 80):
        learned.learn_episode(replace(episode(number)[0], model="large"))
    assert learned.skill("large").weight > 0.2, "it can earn one there too"
    assert learned.skill("small") == small
    again = model(WITHOUT_AGREEMENT)
    again.load(learned.tensors(), learned.meta())
    assert [again.skill(name) for name in ("small", "large")] == [small, learned.skill("large")]
    # A state that was kept before models were told apart has one skill, which is nobody's.
    meta = learned.meta()
    told = {**learned.tensors(), "skill": learned.tensors()["skill"][1:]}
    del meta["models"]
    again.load(told, {**meta, "queries": meta["queries"][1:]})
    assert again.skill("large").weight == 0.0
    assert again.skill() == learned.skill("large")


def test_what_it_says_comes_true_as_often_as_it_says() -> None:
    learned = model(WITHOUT_AGREEMENT)
    for number in range(50):
        learned.learn_episode(episode(number, signal=0.5)[0])
    stated, right = [], []
    for number in range(60):
        seen, truth = episode(number, seed=98, signal=0.5)
        stated += learned.read(seen.features, seen.rollouts).paths
        right += truth
    values, truth = np.array(stated), np.array(right)
    bins = np.minimum((values * 5).astype(int), 4)
    error = sum(abs(values[bins == one].mean() - truth[bins == one].mean()) * (bins == one).mean() for one in set(bins))
    assert error <= 0.08
    assert values.std() > 0.1  # not by always saying the mean


def test_a_rating_is_learned_and_a_forgotten_episode_unlearned() -> None:
    learned, reference = model(), model()
    rated, _ = episode(3)
    for number in range(6):
        learned.learn_episode(episode(number)[0])
        if number != 3:
            reference.learn_episode(episode(number)[0])
    rating = Feedback(id="a", episode_id=rated.id, score=0.0)
    change = FeedbackChange(sequence=1, at=0.0, before=None, after=rating)
    verdict = Evidence(tier=Tier.HUMAN, source="person", outcome="fail")
    voted = replace(rated, rollouts=(replace(rated.rollouts[0], evidence=(PASS, verdict)), *rated.rollouts[1:]))
    before = learned.read(rated.features, rated.rollouts).paths[0]
    learned.learn_feedback(change, voted)
    assert learned.read(rated.features, rated.rollouts).paths[0] < before
    assert learned.meta()["kept"][3]["id"] == rated.id
    learned.learn_feedback(change, None)
    kept = [one["id"] for one in learned.meta()["kept"]]
    assert kept == [one["id"] for one in reference.meta()["kept"]]


def test_a_rated_step_is_an_example_of_its_own() -> None:
    seen, _ = episode(0)
    learned = model()
    learned.learn_episode(seen)
    assert len(learned.tensors()["kept.labels"]) == len(seen.rollouts)
    rated = replace(seen.rollouts[0], rated=((0, 0.0),))
    other = model()
    other.learn_episode(replace(seen, rollouts=(rated, *seen.rollouts[1:])))
    assert other.tensors()["kept.labels"][-1] == pytest.approx(0.01)
    assert len(other.tensors()["kept.labels"]) == len(seen.rollouts) + 1


def test_the_loss_is_of_anchored_evidence_and_falls_with_learning() -> None:
    fresh, learned = model(WITHOUT_AGREEMENT), model(WITHOUT_AGREEMENT)
    for number in range(40):
        learned.learn_episode(episode(number)[0])
    losses = [(fresh.loss(seen), learned.loss(seen)) for seen in (episode(n, seed=77)[0] for n in range(10))]
    assert sum(after or 0.0 for _, after in losses) < 0.6 * sum(before or 0.0 for before, _ in losses)
    seen, _ = episode(0)
    assert learned.loss(replace(seen, rollouts=tuple(replace(one, evidence=()) for one in seen.rollouts))) is None


def test_old_episodes_leave_the_buffer_and_stay_in_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prm.SCALED < prm.REPLAY  # else what was absorbed would rest on scales that change
    monkeypatch.setattr(prm, "REPLAY", 40)
    monkeypatch.setattr(prm, "SCALED", 32)
    learned = model(("hidden",))
    small = [episode(number, size=4)[0] for number in range(44)]
    for seen in small:
        learned.learn_episode(seen)
    tensors = learned.tensors()
    again = model(("hidden",))
    again.load(tensors, learned.meta())
    assert_same(learned, again)
    assert len(learned.meta()["kept"]) == 40
    assert learned.meta()["kept"][0]["id"] == small[4].id
    assert tensors["head.absorbed_curvature"].trace() > 0
    assert within(learned, 20) > 0.9


@one_thread()
def test_it_is_quick_enough_to_learn_beside_serving() -> None:
    learned = model(network=True)
    seen = [episode(number)[0] for number in range(40)]
    for one in seen[:35]:
        learned.learn_episode(one)
    updates, readings = [], []
    for one in seen[35:]:
        start = time.thread_time()
        learned.learn_episode(one)
        updates.append(time.thread_time() - start)
        start = time.thread_time()
        learned.score(one.features, one.rollouts * 2)
        readings.append(time.thread_time() - start)
    assert min(updates) <= 0.1
    assert min(readings) <= 0.02
