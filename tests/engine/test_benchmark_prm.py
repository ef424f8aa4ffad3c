"""The control of the reward model's benchmark is taught the labels that there are, of the wrong rollouts."""

from __future__ import annotations

import numpy as np

from benchmarks.prm_contenders import ShuffledLabels
from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.learning.episode import SeenEpisode, SeenRollout
from kaelum_graph.learning.labels import rollout_labels
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.router import FEATURES
from kaelum_graph.types import EpisodeId, WorkerName

MATH = WorkerName("math")


def episode(number: int) -> SeenEpisode:
    """Eight rollouts, the first four right."""
    rollouts = tuple(
        SeenRollout(
            worker=MATH, operator="sample", blind=True, cluster=int(place >= 4), prefix=place, tokens=40,
            evidence=(Evidence(tier=Tier.CONSTRAINT, source="equation", outcome="pass" if place < 4 else "fail"),),
            finish="stop", features=None,
        )
        for place in range(8)
    )  # fmt: skip
    return SeenEpisode(
        id=EpisodeId(f"query-{number}"), features=np.zeros(FEATURES, dtype=np.float32), probabilities={MATH: 1.0},
        propensities={MATH: 1.0}, allocation={MATH: 8}, answers=("1", "2"), chosen=0, rollouts=rollouts,
    )  # fmt: skip


def learned_labels(seed: int) -> list[list[float]]:
    """Of twenty episodes, one after the other; those kept for audit are not among them."""
    prototypes = np.eye(1, EMBEDDING_SIZE, dtype=np.float32)
    model = ShuffledLabels(noise=NoiseModel(), workers=(MATH,), prototypes=prototypes, groups=(), network=False)
    model.seed = seed
    for number in range(20):
        model.learn_episode(episode(number))
    found: list[float] = model.tensors()["kept.labels"].tolist()
    return [found[at : at + 8] for at in range(0, len(found), 8)]


def test_shuffled_labels_are_the_episodes_own_in_another_order() -> None:
    labels = rollout_labels(episode(0), NoiseModel())
    right: list[float] = np.array([label.probability for label in labels], dtype=np.float32).tolist()
    shuffled = learned_labels(0)
    assert len(shuffled) > 10
    assert all(sorted(one) == sorted(right) for one in shuffled)
    assert sum(one != right for one in shuffled) > len(shuffled) / 2
    assert 0.2 < np.mean([np.mean(one[:4]) for one in shuffled]) < 0.8  # 0.95 of the first four's own
    assert learned_labels(0) == shuffled != learned_labels(1)
