"""The reward model's two parts: a Bayesian logistic head, and a small network on top that is zero at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kaelum_graph.encoder import EMBEDDING_SIZE
from kaelum_graph.learning.prm_features import Doubles
from kaelum_graph.logistic import sigmoid
from kaelum_graph.seeded import linear, zero_linear

PRIOR_VARIANCE = 0.05
"""Of every weight before anything is known of its group: with eighty columns the logit then varies by about two."""
GROUP_SHAPE = 2.0
"""How many weights' worth of that opinion a group's own variance starts from."""
FREE_VARIANCE = 4.0
"""Of the intercept."""

INLET, HIDDEN, NARROW = 3 * EMBEDDING_SIZE, 256, 64
LEARNING_RATE, WEIGHT_DECAY = 3e-4, 0.05

Numbers = TypeVar("Numbers", Doubles, Tensor)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Rows and their labels: P(right) of a row, or P(first is better) of a difference of two rows."""

    rows: Doubles  # [N, D]
    labels: Doubles  # [N], in (0, 1)
    weights: Doubles  # [N]

    @classmethod
    def joined(cls, many: Sequence[Examples], width: int) -> Examples:
        """All of them, one after the other."""
        if not many:
            return cls(rows=np.zeros((0, width)), labels=np.zeros(0), weights=np.zeros(0))
        return cls(
            rows=np.concatenate([one.rows for one in many]),
            labels=np.concatenate([one.labels for one in many]),
            weights=np.concatenate([one.weights for one in many]),
        )


class BayesianHead:
    """Logistic regression with a Gaussian posterior (Laplace; Spiegelhalter and Lauritzen 1990).

    What has left the replay buffer stays as a quadratic form. The weights of a group share a prior variance, which is
    learned from how large they turn out (MacKay 1992): a group that says nothing shrinks to nothing.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(kinds))
        self.kinds = np.array([self.names.index(kind) for kind in kinds])
        size = len(kinds)
        self.free = np.array([kind == "bias" for kind in kinds])
        self.weights = np.zeros(size)
        self.variances = np.full(len(self.names), PRIOR_VARIANCE)
        self.variances[self.names.index("bias")] = FREE_VARIANCE
        self.covariance = np.diag(self.variances[self.kinds])
        self.absorbed_curvature = np.zeros((size, size))
        self.absorbed_pull = np.zeros(size)

    def fit(self, examples: Examples, *, steps: int) -> None:
        """Newton steps from where the weights are, then the groups' variances."""
        for _ in range(steps):
            gradient, curvature = self._slope(examples)
            precision = 1.0 / self.variances[self.kinds]
            gradient = gradient + self.absorbed_curvature @ self.weights - self.absorbed_pull + precision * self.weights
            self.covariance = np.linalg.inv(curvature + self.absorbed_curvature + np.diag(precision))
            self.weights = self.weights - self.covariance @ gradient
        for group, name in enumerate(self.names):
            if name == "bias":
                continue
            inside = self.kinds == group
            # E[w²] under the posterior, pooled with the opinion it began with.
            size = float((self.weights[inside] ** 2 + np.diag(self.covariance)[inside]).sum())
            self.variances[group] = (size + GROUP_SHAPE * PRIOR_VARIANCE) / (inside.sum() + GROUP_SHAPE)

    def absorb(self, examples: Examples) -> None:
        """Keep what leaves the buffer as its quadratic approximation at the present weights."""
        gradient, curvature = self._slope(examples)
        self.absorbed_curvature += curvature
        self.absorbed_pull += curvature @ self.weights - gradient

    def logits(self, rows: Doubles) -> Doubles:
        """`[N]`."""
        return rows @ self.weights

    def deviations(self, rows: Doubles) -> Doubles:
        """`[N]` standard deviations of the logits."""
        return np.sqrt(np.maximum(((rows @ self.covariance) * rows).sum(axis=1), 0.0))

    def _slope(self, examples: Examples) -> tuple[Doubles, Doubles]:
        predicted, labels = sigmoid(self.logits(examples.rows)), examples.labels
        gradient = examples.rows.T @ (examples.weights * (predicted - predicted * labels / told(predicted, labels)))
        # What a noisy label tells (Fisher's information, about 0.5): a coin's (2p - 1)² of a sure one's.
        informed = examples.weights * predicted * (1 - predicted) * (2 * labels - 1) ** 2
        curvature = (examples.rows * informed[:, None]).T @ examples.rows
        return gradient, curvature

    def tensors(self) -> dict[str, Doubles]:
        """The learned numbers."""
        return {name: getattr(self, name).copy() for name in _HEAD}

    def load(self, tensors: Mapping[str, Doubles]) -> None:
        """Take over what `tensors` gave. Raises `ValueError` for another shape."""
        for name in _HEAD:
            value = np.array(tensors[name], dtype=np.float64)
            if value.shape != getattr(self, name).shape:
                raise ValueError(f"{name} has shape {value.shape}; expected {getattr(self, name).shape}.")
            setattr(self, name, value)


_HEAD = ("weights", "variances", "covariance", "absorbed_curvature", "absorbed_pull")


class ResidualNetwork(nn.Module):
    """`[.., 1152 + workers]` → 256 → 64 → 1; exactly 0 at first."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        generator = np.random.default_rng(0)
        self.inlet = linear(INLET + workers, HIDDEN, generator)
        self.middle = linear(HIDDEN, NARROW, generator)
        self.outlet = zero_linear(NARROW, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[N, 1152 + workers]` to `[N]` logits."""
        return self.outlet(torch.relu(self.middle(torch.relu(self.inlet(inputs))))).squeeze(-1)


class Residual:
    """The network and its optimiser (AdamW), trained with the noise-corrected loss (see `told`) and a ranking loss
    within queries."""

    def __init__(self, workers: int) -> None:
        self.network = ResidualNetwork(workers)
        self._parameters = list(self.network.parameters())
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, foreach=False, fused=False
        )

    def logits(self, inputs: NDArray[np.float32]) -> Doubles:
        """`[N]` of `[N, 1152 + workers]`."""
        with torch.inference_mode():
            return self.network(torch.from_numpy(inputs)).double().numpy()

    def learn(self, batch: Sequence[ResidualExample]) -> None:
        """One step on these queries."""
        losses: list[Tensor] = []
        for query in batch:
            made = self.network(torch.from_numpy(query.inputs))
            totals = torch.zeros(len(query.offsets), dtype=torch.float32).index_add(
                0, torch.from_numpy(query.rollouts), made
            )
            logits = torch.from_numpy(query.offsets) + totals / torch.from_numpy(query.steps)
            weights = torch.from_numpy(query.weights)
            losses.append(-(weights * told(torch.sigmoid(logits), torch.from_numpy(query.targets)).log()).sum())
            if len(query.pairs):
                better, worse = torch.from_numpy(query.pairs).T
                gaps = logits[better] - logits[worse]
                losses.append((functional.softplus(-gaps) * torch.from_numpy(query.pair_weights)).sum())
        loss = torch.stack(losses).sum() / len(batch)
        self._optimiser.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        self._optimiser.step()  # pyright: ignore[reportUnknownMemberType]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Weights and the optimiser's moments."""
        found = {f"weight.{name}": value.detach().numpy().copy() for name, value in self.network.named_parameters()}
        for index, parameter in enumerate(self._parameters):
            for name, value in self._optimiser.state.get(parameter, {}).items():
                found[f"moment.{index}.{name}"] = value.numpy().copy().reshape(value.shape or (1,))
        return found

    def load(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over what `tensors` gave. Raises `ValueError` for another shape."""
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                value = tensors[f"weight.{name}"]
                if tuple(value.shape) != tuple(parameter.shape):
                    raise ValueError(f"{name} has shape {value.shape}; expected {tuple(parameter.shape)}.")
                parameter.copy_(torch.from_numpy(value.copy()))
        self._optimiser.state.clear()
        for index, parameter in enumerate(self._parameters):
            if f"moment.{index}.step" in tensors:
                self._optimiser.state[parameter] = {
                    "step": torch.tensor(float(tensors[f"moment.{index}.step"].reshape(-1)[0]), dtype=torch.float32),
                    "exp_avg": torch.from_numpy(tensors[f"moment.{index}.exp_avg"].copy()),
                    "exp_avg_sq": torch.from_numpy(tensors[f"moment.{index}.exp_avg_sq"].copy()),
                }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResidualExample:
    """One query for the network: M steps of N rollouts. `offsets` are the head's logits of the rollouts."""

    inputs: NDArray[np.float32]  # [M, 1152 + workers]
    rollouts: NDArray[np.int64]  # [M], which rollout each step is of
    steps: NDArray[np.float32]  # [N], how many steps each rollout has
    offsets: NDArray[np.float32]  # [N]
    targets: NDArray[np.float32]  # [N]
    weights: NDArray[np.float32]  # [N]
    pairs: NDArray[np.int64]  # [P, 2], better and worse
    pair_weights: NDArray[np.float32]  # [P]


def told(predicted: Numbers, labels: Numbers) -> Numbers:
    """How probable a prediction q of "right" makes what a label p in (0, 1) says: q·p + (1 − q)·(1 − p).

    Its −log is the noise-corrected cross entropy: the forward correction (Patrini et al. 2017) with the symmetric noise
    that p states, where the label says "right" and is true with probability p. The gradient by q's logit is
    q − q·p / told, the prediction less its own posterior after the label. At p = 0.5 it is 0: a label that knows
    nothing teaches nothing, where cross entropy on the soft label would pull towards 0.5. At p = 0.99 it is cross
    entropy on a hard label that gives way where the prediction is sure of the contrary.
    """
    return predicted * labels + (1 - predicted) * (1 - labels)
