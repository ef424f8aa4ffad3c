"""The contenders of `learning_prm.py`: the reward model with this or that group of features, what it has to beat, and
three that no product could be: one that labels itself, one that is taught shuffled labels, and one that is told what is
right.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.replay import BankQuery, Drawn, prior_router
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.labels import Label
from kaelum_graph.learning.noise_model import NoiseModel
from kaelum_graph.learning.prm import RewardModel
from kaelum_graph.learning.prm_features import GROUPS, Group, describe, worker_columns
from kaelum_graph.learning.prm_replay import network_inputs
from kaelum_graph.types import WorkerName

Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A query's episode and, for evaluation alone, which of its rollouts are right."""

    query: BankQuery
    episode: SeenEpisode
    drawn: Sequence[Drawn]
    right: NDArray[np.bool_]
    clusters: NDArray[np.int64]  # -1 without an answer
    workers: NDArray[np.int64]


def case_of(query: BankQuery, names: Sequence[WorkerName]) -> Case:
    """The episode of these workers' rollouts."""
    share = dict.fromkeys(names, 1 / len(names))
    episode, drawn = query.episode(dict.fromkeys(names, 4), probabilities=share, propensities=dict.fromkeys(names, 1.0))
    return Case(
        query=query,
        episode=episode,
        drawn=drawn,
        right=np.array([one.right for one in drawn]),
        clusters=np.array([-1 if one.cluster is None else one.cluster for one in episode.rollouts]),
        workers=np.array([names.index(one.worker) for one in drawn]),
    )


class Asked:
    """Something that scores the rollouts of a query."""

    def scores(self, case: Case) -> Doubles:
        """`[N]`, higher is better."""
        raise NotImplementedError

    def learn(self, case: Case) -> None:
        """Take in a query of the stream."""

    def skill(self) -> str:
        """What it says of its own skill."""
        return ""


class Share(Asked):
    """The answer's share among the other rollouts."""

    def scores(self, case: Case) -> Doubles:
        """Leave-one-out share."""
        answered = max(int((case.clusters >= 0).sum()) - 1, 1)
        same = (case.clusters[:, None] == case.clusters[None, :]).sum(axis=1) - 1
        return np.where(case.clusters >= 0, same / answered, -1.0)


class Likelihood(Asked):
    """The geometric mean of the tokens' probabilities, mean over steps: `kaelum_graph/reward.py`."""

    def scores(self, case: Case) -> Doubles:
        """In [0, 1]; the middle without log-probabilities."""
        found: list[float] = []
        for one in case.drawn:
            known = one.features.scalars[:, 0]
            known = known[~np.isnan(known)]
            found.append(float(np.exp(known).mean()) if len(known) else 0.5)
        return np.array(found)


class Learned(Asked):
    """The reward model, or one that `makes` itself other labels."""

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        network: bool,
        workers: Sequence[WorkerName],
        makes: Callable[..., RewardModel] = RewardModel,
    ) -> None:
        self.noise, prototypes = NoiseModel(), prior_router().prototypes
        self.model = makes(noise=self.noise, workers=workers, prototypes=prototypes, groups=groups, network=network)
        self.seconds: list[float] = []

    def scores(self, case: Case) -> Doubles:
        """Paths' scores."""
        return np.array(self.model.read(case.episode.features, case.episode.rollouts).paths)

    def learn(self, case: Case) -> None:
        """The noise model first, as in the learned state."""
        self.noise.learn_episode(case.episode)
        start = time.perf_counter()
        self.model.learn_episode(case.episode)
        self.seconds.append(time.perf_counter() - start)

    def skill(self) -> str:
        """Its own estimate, and λ."""
        found = self.model.skill()
        return f"{found.mean:.3f} over {found.queries} queries, λ {found.weight:.2f}"


class TrueLabelled(RewardModel):
    """The same model taught by the benchmark's word: what no live system can have, the upper bound."""

    truth: Mapping[str, NDArray[np.bool_]]

    def _labelled(self, episode: SeenEpisode) -> list[Label]:
        return [Label(0.99 if right else 0.01, True, 1.0) for right in self.truth[episode.id]]


class ShuffledLabels(RewardModel):
    """The same model, each episode's labels permuted among its rollouts: all that is left to learn is how hard queries
    are, and that ranks no rollout of a query above another."""

    seed = 0

    def _labelled(self, episode: SeenEpisode) -> list[Label]:
        labels = super()._labelled(episode)
        generator = np.random.default_rng([self.seed, zlib.crc32(episode.id.encode())])
        return [labels[index] for index in generator.permutation(len(labels))]


class UpperBound(Learned):
    """The reward model with true labels."""

    def __init__(self, groups: Sequence[Group], *, workers: Sequence[WorkerName], cases: Sequence[Case]) -> None:
        super().__init__(groups, network=False, workers=workers, makes=TrueLabelled)
        assert isinstance(self.model, TrueLabelled)
        self.model.truth = {case.episode.id: case.right for case in cases}


class Shuffled(Learned):
    """The reward model with shuffled labels, another permutation for each `seed`."""

    def __init__(self, groups: Sequence[Group], *, workers: Sequence[WorkerName], seed: int) -> None:
        super().__init__(groups, network=True, workers=workers, makes=ShuffledLabels)
        assert isinstance(self.model, ShuffledLabels)
        self.model.seed = seed


class SelfLabelled(Asked):
    """The original's scheme: a network 1158 → 256 → 64 → 1 whose targets are the V/N that its own scores produced. The
    nodes of the tree are a worker's root and the steps; a leaf visited once has its own score as its target."""

    def __init__(self, *, workers: Sequence[WorkerName], seed: int) -> None:
        self.workers = workers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = torch.nn.Sequential(
                torch.nn.Linear(1152 + len(workers), 256), torch.nn.ReLU(), torch.nn.Linear(256, 64), torch.nn.ReLU(),
                torch.nn.Linear(64, 1), torch.nn.Sigmoid(),
            )  # fmt: skip
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3)

    def scores(self, case: Case) -> Doubles:
        """Mean score of the path."""
        with torch.inference_mode():
            return np.array([float(self.network(made).mean()) for made in self._inputs(case)])

    def learn(self, case: Case) -> None:
        """Backpropagate the leaves' own scores up the tree, and train every step on its node's V/N."""
        inputs = self._inputs(case)
        rewards = self.scores(case)
        visits: dict[tuple[object, ...], list[float]] = {}
        paths: list[list[tuple[object, ...]]] = []
        for one, reward in zip(case.drawn, rewards, strict=True):
            node: tuple[object, ...] = (one.worker,)
            path: list[tuple[object, ...]] = []
            for embedding in one.features.embeddings:
                node = (node, embedding.tobytes())
                path.append(node)
                visits.setdefault(node, []).append(float(reward))
            paths.append(path)
        losses: list[torch.Tensor] = []
        for made, path in zip(inputs, paths, strict=True):
            if path:
                targets = torch.tensor([float(np.mean(visits[node])) for node in path])
                losses.append(torch.nn.functional.binary_cross_entropy(self.network(made)[:, 0], targets))
        self.optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        self.optimiser.step()

    def _inputs(self, case: Case) -> list[torch.Tensor]:
        query = case.episode.features[:384]
        return [
            torch.from_numpy(
                network_inputs(query, one.text, one.context, worker_columns([one.worker] * len(one.text), self.workers))
            )
            for one in describe(case.episode.features, case.episode.rollouts)
        ]


Makers = Mapping[str, Callable[[int], Asked]]


def makers(workers: Sequence[WorkerName], stream: Sequence[Case], only: Sequence[str] = ()) -> Makers:
    """Every contender by name; `seed` is the order's."""

    def learned(groups: Sequence[Group], *, network: bool = False) -> Callable[[int], Asked]:
        return lambda seed: Learned(groups, network=network, workers=workers)

    without: tuple[Group, ...] = tuple(group for group in GROUPS if group != "agreement")
    found: dict[str, Callable[[int], Asked]] = {
        "likelihood (reward.py)": lambda seed: Likelihood(),
        "share, not learned": lambda seed: Share(),
        "MiniLM alone": learned(("text",), network=True),
        "scalars alone": learned(("scalars",)),
        "hidden state alone": learned(("hidden",)),
        "agreement alone": learned(("agreement",)),
        "worker's record alone": learned(("record",)),
        "all without agreement": learned(without, network=True),
        "all": learned(GROUPS, network=True),
        "all, head only": learned(GROUPS),
        "control: self-labelled": lambda seed: SelfLabelled(workers=workers, seed=seed),
        "control: shuffled labels": lambda seed: Shuffled(GROUPS, workers=workers, seed=seed),
        "upper bound: true labels, without agreement": lambda seed: UpperBound(without, workers=workers, cases=stream),
        "upper bound: true labels": lambda seed: UpperBound(GROUPS, workers=workers, cases=stream),
    }
    return {name: make for name, make in found.items() if not only or name in only}
