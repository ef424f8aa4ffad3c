"""What stands in a search for the scores of its model: noise, or nothing.

A search has two scores of a step: its likelihood, which counts until something better has been learned, and the learned
reward model's. A contender without scores, or with random ones, has both replaced.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.prm_features import Doubles, Steps
from kaelum_graph.logistic import sigmoid
from kaelum_graph.models.base import Capabilities, Generation, GenerationRequest, PolicyModel, Sample
from kaelum_graph.skill import Skill
from kaelum_graph.types import Array, Message


class Rescored(PolicyModel):
    """A model whose log-probabilities, and with them the likelihood of steps, are noise, or withheld."""

    def __init__(self, model: PolicyModel, *, noise: bool) -> None:
        self.name = model.name
        self._model, self._noise = model, noise

    @property
    def capabilities(self) -> Capabilities:
        """Those of the model behind."""
        return self._model.capabilities

    def generate(self, requests: Sequence[GenerationRequest], **how: Any) -> list[Generation]:
        """The model's own samples, their scores replaced."""
        return [
            replace(one, samples=tuple(self._rescored(sample) for sample in one.samples))
            for one in self._model.generate(requests, **how)
        ]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """As the model behind counts."""
        return self._model.count_tokens(messages)

    def _rescored(self, sample: Sample) -> Sample:
        if not self._noise or sample.token_logprobs is None:
            return replace(sample, token_logprobs=None, token_texts=None)
        # One level a sample: noise that is drawn anew for each token averages out over a step.
        chance = random.Random(sample.text)
        return replace(sample, token_logprobs=(-chance.expovariate(1.0),) * len(sample.token_logprobs))


class WeightlessModel(RewardModel):
    """The reward model, learning and measured as ever, that is never believed: its λ is 0."""

    def skill(self, model: str = "") -> Skill:
        """None, whatever has been measured."""
        return Skill()


class RandomModel(RewardModel):
    """A reward model whose scores are uniform noise in [0, 1], one level a rollout; its skill is measured as ever.

    A rollout of the same worker and text gets the same score whenever it is asked for under one `seed`, as a trained
    model would give it.
    """

    def __init__(self, *, seed: int = 0, **parts: Any) -> None:
        super().__init__(**parts)
        self._seed = seed

    def _logits(self, query_features: Array, described: Sequence[Steps]):
        paths = np.array([self._drawn(query_features, one) for one in described])
        return replace(
            super()._logits(query_features, described),
            # One level a rollout: noise that is drawn anew for each step averages out over its path.
            steps=[np.full(len(one.raw), path) for one, path in zip(described, paths, strict=True)],
            paths=paths,
            deviations=np.zeros(len(described)),
            heads=paths,
        )

    def _calibrated(self, logits: Doubles) -> Doubles:
        # Calibrated noise would be the base rate, near enough for everything.
        return sigmoid(logits)

    def _drawn(self, query_features: Array, rollout: Steps) -> float:
        query, text = query_features.astype(np.float32).tobytes(), rollout.text.astype(np.float16).tobytes()
        level = random.Random(f"{self._seed} {rollout.worker} ".encode() + query + text).random()
        level = min(max(level, 1e-9), 1.0 - 1e-9)
        return math.log(level / (1.0 - level))


class TrustedRandomModel(RandomModel):
    """The same noise, believed wholly: its λ is 1 from the first query on. None earns this: it is a stress test."""

    def skill(self, model: str = "") -> Skill:
        """All there is, whatever has been measured."""
        return Skill(queries=1000, mean=1.0)
