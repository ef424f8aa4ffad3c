"""Training of the policy network's hidden layers on replayed queries: expected policy gradient, AdamW or Muon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import AdamW
from torch.optim.optimizer import Optimizer

from kaelum_graph.learning.component import Tensors
from kaelum_graph.router import BUDGET_THRESHOLDS, PER_WORKER, PolicyNetwork
from kaelum_graph.types import Array

LEARNING_RATE, MUON_RATE, WEIGHT_DECAY = 3e-4, 1e-3, 0.01
UNSEEN_BUDGET = 0.1
"""Weight, in units of reward, with which a budget that wasn't seen stays as probable as it was."""

HELD = ("skip", "prior_gain", "prior_weight", "depth_head")
"""Not trained here: the first three are the critic's, and for the depth nothing in an episode says what to learn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """B replayed queries. `values` are the estimated rewards, `gains` what a greater budget was worth (NaN unknown)."""

    features: Array  # [B, 398] float32
    priors: Array  # [B, W] float32, prior logits
    values: Array  # [B, W] float32
    gains: Array  # [B, 3] float32


class PolicyTrainer:
    """The network in training with its optimiser. The critic's linear policy stands in it as `skip`."""

    def __init__(self, network: PolicyNetwork, *, entropy: float, optimiser: Literal["adamw", "muon"]) -> None:
        self.network = network
        self.entropy = entropy
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(HELD))
        trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
        # Muon is for hidden-to-hidden matrices alone, as its author has it.
        hidden = [name for name in trained if optimiser == "muon" and name == "residual.weight"]
        rest = [name for name in trained if name not in hidden]
        self._optimisers: list[tuple[list[str], Optimizer]] = [
            (rest, AdamW([trained[name] for name in rest], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY))
        ]
        if hidden:
            muon = torch.optim.Muon([trained[name] for name in hidden], lr=MUON_RATE, weight_decay=WEIGHT_DECAY)
            self._optimisers.append((hidden, muon))

    def step(self, batch: Batch) -> None:
        """One step up the gradient of  Σ_w π(w) A(w) + entropy · H(π)  and of the budget's gains.

        The sum over all workers in place of the one drawn is the expected policy gradient (Ciosek and Whiteson 2018);
        A is the value less the policy's own mean. It is divided by neither length nor standard deviation.
        """
        features = torch.from_numpy(batch.features)
        values = torch.from_numpy(batch.values)
        hidden = self.network.trunk(features)
        # As if the hidden layers counted in full: they must be ready when they are let in.
        own = self.network.worker_head(hidden) + self.network.skip(features)
        logits = own + self.network.prior_logits(torch.from_numpy(batch.priors))
        policy = torch.softmax(logits, dim=-1)
        advantages = values - (policy.detach() * values).sum(dim=-1, keepdim=True)
        entropy = -(policy * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
        objective = (policy * advantages).sum(dim=-1) + self.entropy * entropy
        loss = -objective.mean() + self._budget_loss(hidden, torch.from_numpy(batch.gains))
        for _, optimiser in self._optimisers:
            optimiser.zero_grad()
        loss.backward()
        for _, optimiser in self._optimisers:
            optimiser.step()

    def _budget_loss(self, hidden: Tensor, gains: Tensor) -> Tensor:
        """Cost-sensitive cross entropy: P(budget > 4, 8, 16) towards 1 where that was worth more, by how much.

        One score decides all three, so what wasn't seen must not hold it back, nor be carried along: that 8 were worth
        more than 4 doesn't say that 32 are worth more than 8. There the threshold alone learns, to stay where an
        untrained network has it.
        """
        known = ~torch.isnan(gains)
        worth = torch.nan_to_num(gains)
        usual = torch.sigmoid(-torch.tensor(BUDGET_THRESHOLDS, dtype=torch.float32)).expand_as(gains)
        target = torch.where(known, (worth > 0).float(), usual)
        weight = torch.where(known, worth.abs(), torch.full_like(worth, UNSEEN_BUDGET))
        losses = nn.functional.binary_cross_entropy_with_logits(
            self.network.budget_scores(hidden, moving=known), target, weight=weight, reduction="sum"
        )
        return losses / len(hidden)

    def moments(self) -> Tensors:
        """The optimisers' state by parameter."""
        made: Tensors = {}
        for names, optimiser in self._optimisers:
            for name, parameter in zip(names, _parameters(optimiser), strict=True):
                for key, value in optimiser.state.get(parameter, {}).items():
                    made[f"{name}/{key}"] = np.array(value.detach().numpy())
        return made

    def take_moments(self, tensors: Tensors) -> None:
        """Load what `moments` gave, where the shapes fit; a network of other workers keeps the trunk's."""
        for names, optimiser in self._optimisers:
            for name, parameter in zip(names, _parameters(optimiser), strict=True):
                found = {key.split("/")[1]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
                state = {key: torch.from_numpy(np.array(value)) for key, value in found.items()}
                if state and all(value.shape in ((), parameter.shape) for value in state.values()):
                    optimiser.state[parameter] = state


def by_worker(name: str) -> bool:
    """Whether the first dimension of this parameter is the workers."""
    return name.startswith(PER_WORKER)


def _parameters(optimiser: Optimizer) -> Iterable[nn.Parameter]:
    return optimiser.param_groups[0]["params"]
