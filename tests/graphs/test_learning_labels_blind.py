"""Labels don't know what the models think: noise in place of every model's score leaves them as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaelum_flow.services import Services
from kaelum_graph.learning.labels import Label, StepLabel, rollout_labels, step_labels, worker_rewards
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.models.base import Generation, GenerationRequest, OnDelta
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import EpisodeId
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import ScriptedModel, cycle

EQUATION = "Solve for x: 3*x + 5 = 20"
APPLES = "Ann has 3 apples and gets some more. How many apples has she?"
SAID = (
    "Let us think.\nSo it is 5.\n\\boxed{5}",
    "Let us think.\nSo it is 7.\n\\boxed{7}",
    "It is 5.\n\\boxed{5}",
    "Well.",
)

Told = tuple[list[Label], list[list[StepLabel]], Any]


def labels_of(make_kaelum: MakeKaelum, folder: Path) -> tuple[list[Told], list[Any]]:
    """Labels of two searches, one that a check can judge and one that none can; and the scores that their steps had."""
    kaelum = make_kaelum(cycle(*SAID), data_dir=folder, wave_size=4, cache=False, max_reflections=0, early_stop=False)
    noise = NoiseModel()
    told: list[Told] = []
    scores: list[Any] = []
    for question in (EQUATION, APPLES):
        answer = kaelum.ask(question, worker="math", sims=8)
        storage = kaelum.services.storage
        seen, record = storage.seen_episode(answer.id), storage.episode(answer.id)
        assert seen is not None
        assert record is not None
        seen = replace(seen, id=EpisodeId(question))  # under a new id one in ten would be for auditing
        labels = rollout_labels(seen, noise)
        told.append((labels, step_labels(seen, labels), worker_rewards(seen, labels)))
        noise.learn_episode(seen)
        scores += [one.step_scores for one in SearchTree.from_json(record["tree"]).rollouts]
    return told, scores


def test_labels_are_the_same_with_noise_for_scores(
    make_kaelum: MakeKaelum, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, likelihoods = labels_of(make_kaelum, tmp_path / "plain")
    random = np.random.default_rng(0)
    answered = ScriptedModel._answer

    def unsure(self: ScriptedModel, request: GenerationRequest, on_delta: OnDelta | None) -> Generation:
        made = answered(self, request, on_delta)
        return replace(
            made,
            samples=tuple(
                replace(one, token_logprobs=tuple(-random.exponential(size=len(one.token_logprobs or ()))))
                for one in made.samples
            ),
        )

    monkeypatch.setattr(ScriptedModel, "_answer", unsure)
    noisy, noisy_likelihoods = labels_of(make_kaelum, tmp_path / "noisy")

    def opinions(self: RewardModel, features: object, rollouts: Sequence[Any]) -> list[tuple[float, ...]]:
        return [tuple(random.random(len(one.features.scalars))) for one in rollouts]

    monkeypatch.setattr(RewardModel, "score", opinions)
    monkeypatch.setattr(Services, "reward_model", property(lambda self: self.learned.reward_model))
    opined, noisy_scores = labels_of(make_kaelum, tmp_path / "opined")

    assert likelihoods != noisy_likelihoods != noisy_scores
    assert plain == noisy == opined
    judged, free = (labels for labels, _, _ in plain)
    assert any(label.anchored for label in judged)
    assert not any(label.anchored for label in free)
    assert len({label.probability for label in (*judged, *free)}) > 3
