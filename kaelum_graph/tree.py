"""The search tree: statistics of reasoning steps, and the rollouts that they were cut from.

A simulation is a rollout to a terminal answer. It is cut into step nodes afterwards, so every simulation ends in a
gradable answer and nothing is generated twice. Statistics follow WU-UCT (Liu et al. 2020): rollouts that are still
being generated count as visits in the exploration term, and never as values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import TypeAdapter

from kaelum_graph.evidence import Evidence
from kaelum_graph.reward import SOURCE
from kaelum_graph.types import Candidate, Json, NodeId, RolloutId, WorkerName

Operator = Literal["sample", "branch", "refine", "critique", "verify"]

ROOT = NodeId(0)

TELLING = 0.1
"""Difference of mean values from which children are told apart."""


@dataclass(slots=True, kw_only=True)
class Node:
    """One reasoning step. `value_sum / visits` is the mean value of the rollouts that pass through it."""

    id: NodeId
    parent: NodeId | None
    worker: WorkerName | None
    text: str = ""
    depth: int = 0
    terminal: bool = False
    children: list[NodeId] = field(default_factory=list)
    visits: int = 0
    value_sum: float = 0.0
    in_flight: int = 0
    direct_samples: int = 0

    @property
    def mean_value(self) -> float:
        """Q in [0, 1]; 0.5 before the first visit."""
        return self.value_sum / self.visits if self.visits else 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A rollout that is about to be generated: from which node, by whom, by which operator, on which attempt.

    `planned`: with the reasoning structure that was dealt out to its worker for this query. `sighted`: the reward model
    may have had a part in choosing it; the others are what its skill is measured on.
    """

    node_id: NodeId
    worker: WorkerName
    operator: Operator
    target: RolloutId | None = None
    planned: bool = False
    sighted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A finished simulation with all that is known of it.

    `step_scores` are a model's own, `scored_by` says whose ("likelihood" or "prm"); selection learns from `value`.
    """

    id: RolloutId
    wave: int
    simulation: Simulation
    candidate: Candidate
    evidence: tuple[Evidence, ...]
    steps: tuple[str, ...]
    step_scores: tuple[float | None, ...]
    finish: str
    completion_tokens: int
    value: float
    scored_by: str = SOURCE

    @property
    def outcome(self) -> Literal["pass", "fail"] | None:
        """ "fail" when an anchored check failed it, "pass" when one passed it, None when none has voted."""
        return anchored_outcome(self.evidence)


NODES = TypeAdapter(list[Node])
ROLLOUTS = TypeAdapter(list[Rollout])


class SearchTree:
    """Nodes by id, rollouts by id. The root's children are one node per worker; steps hang below them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = [Node(id=ROOT, parent=None, worker=None)]
        self.rollouts: list[Rollout] = []

    def worker_node(self, worker: WorkerName) -> Node:
        """The node under which a worker's rollouts begin; made at first need."""
        for child in self.children(self.nodes[ROOT]):
            if child.worker == worker:
                return child
        return self._add_child(self.nodes[ROOT], worker=worker, text="")

    def children(self, node: Node) -> list[Node]:
        """A node's children in the order in which they came."""
        return [self.nodes[child] for child in node.children]

    def path(self, node_id: NodeId) -> Iterator[Node]:
        """From a node up to the root."""
        current: NodeId | None = node_id
        while current is not None:
            node = self.nodes[current]
            yield node
            current = node.parent

    def prefix(self, node_id: NodeId) -> str:
        """The text of all steps down to and including a node."""
        return "".join(reversed([node.text for node in self.path(node_id)]))

    def launched(self, worker: WorkerName) -> int:
        """Rollouts of a worker, finished or in flight."""
        node = self.worker_node(worker)
        return node.visits + node.in_flight

    def start(self, simulation: Simulation) -> None:
        """Count a simulation as in flight from its node up to the root."""
        self.nodes[simulation.node_id].direct_samples += 1
        for node in self.path(simulation.node_id):
            node.in_flight += 1

    def abandon(self, simulation: Simulation) -> None:
        """Undo `start` for a simulation that came to nothing (a cancelled or failed request)."""
        self.nodes[simulation.node_id].direct_samples -= 1
        for node in self.path(simulation.node_id):
            node.in_flight -= 1

    def complete(self, rollout: Rollout) -> None:
        """Hang a rollout's steps below the node it started from, and add its value to every node on its path.

        Steps with the same text below the same parent are one node: equal prefixes share their statistics.
        """
        start = self.nodes[rollout.simulation.node_id]
        for node in self.path(start.id):
            node.in_flight -= 1
        leaf = start
        for step in rollout.steps:
            twin = next((child for child in self.children(leaf) if child.text == step and not child.terminal), None)
            leaf = twin or self._add_child(leaf, worker=rollout.simulation.worker, text=step)
        if leaf is not start and not leaf.children:
            leaf.terminal = True
        for node in self.path(leaf.id):
            node.visits += 1
            node.value_sum += rollout.value
        self.rollouts.append(rollout)
        if rollout.simulation.operator == "verify" and rollout.simulation.target is not None:
            target = self.rollouts[rollout.simulation.target]
            self.rollouts[target.id] = replace(target, evidence=(*target.evidence, *rollout.evidence))

    def prefixes(self) -> list[tuple[str, int]]:
        """What each rollout grew from, in order. Those with equal prefixes share its mistakes and count once in a vote.

        A branch counts with the sample that made its first step, a critique with its attempt, and refinements that were
        told of the same fault with each other.
        """
        made: list[tuple[str, int]] = []
        first_steps: dict[NodeId, tuple[str, int]] = {}
        for rollout in self.rollouts:
            simulation = rollout.simulation
            if simulation.operator == "refine" and simulation.target is not None:
                key = ("fault", int(simulation.target))
            elif simulation.target is not None:
                key = made[simulation.target]
            elif simulation.operator == "branch":
                path = list(self.path(simulation.node_id))
                key = first_steps.get(path[-3].id, ("node", int(path[-3].id))) if len(path) > 2 else ("rollout", 0)
            else:
                key = ("rollout", int(rollout.id))
                below = self.children(self.nodes[simulation.node_id])
                step = next((one for one in below if rollout.steps[:1] == (one.text,)), None)
                if step is not None:
                    first_steps.setdefault(step.id, key)
            made.append(key)
        return made

    def _add_child(self, parent: Node, *, worker: WorkerName, text: str) -> Node:
        child = Node(id=NodeId(len(self.nodes)), parent=parent.id, worker=worker, text=text, depth=parent.depth + 1)
        self.nodes.append(child)
        parent.children.append(child.id)
        return child

    def to_json(self) -> Json:
        """A plain dictionary that survives a checkpoint, `json.dumps` and `from_json`."""
        return {
            "nodes": NODES.dump_python(self.nodes, mode="json"),
            "rollouts": ROLLOUTS.dump_python(self.rollouts, mode="json"),
        }

    @classmethod
    def from_json(cls, data: Json) -> SearchTree:
        """The tree that `to_json` wrote. Raises `pydantic.ValidationError` for anything else."""
        tree = cls()
        tree.nodes = NODES.validate_python(data["nodes"])
        tree.rollouts = ROLLOUTS.validate_python(data["rollouts"])
        return tree


def anchored_outcome(evidence: Sequence[Evidence]) -> Literal["pass", "fail"] | None:
    """What the anchored votes say: "fail" when there is one, else "pass" when there is one, else None."""
    outcomes = {vote.outcome for vote in evidence if vote.tier.anchored}
    return "fail" if "fail" in outcomes else "pass" if "pass" in outcomes else None


def rollout_value(evidence: Sequence[Evidence], model_score: float | None, *, prm_weight: float) -> float:
    """The value that selection learns from, in [0, 1].

    Anchored evidence decides: 1 for a pass, 0 for a fail. Without it the value is a neutral 0.5, mixed with the model's
    own score by `prm_weight`, that score's measured skill. At weight 0 an unanchored rollout says nothing, so the
    search draws as self-consistency does.
    """
    outcome = anchored_outcome(evidence)
    if outcome is not None:
        return float(outcome == "pass")
    if model_score is None:
        return 0.5
    return (1.0 - prm_weight) * 0.5 + prm_weight * model_score


Propose = Callable[[WorkerName, Sequence[Simulation]], tuple[Operator, RolloutId | None]]
"""The operator for a worker's next rollout, and the attempt it is about, given what the wave already holds."""


def always_sample(worker: WorkerName, wave: Sequence[Simulation]) -> tuple[Operator, RolloutId | None]:
    """New rollouts and branches only."""
    return "sample", None


def select(
    tree: SearchTree,
    *,
    slots: int,
    allocation: Mapping[WorkerName, int],
    max_depth: int,
    propose: Propose = always_sample,
    branching: Callable[[WorkerName], float] = lambda worker: 1.0,
    sighted: Callable[[], bool] | None = None,
    exploration: float = 1.25,
    widening: float = 1.0,
) -> list[Simulation]:
    """Choose the next wave of at most `slots` simulations and mark them in flight.

    `allocation` is each worker's share of the budget in rollouts; a wave is spread over the workers in proportion to
    what each has left. `propose` names the operator; a "sample" descends the tree and becomes a "branch" where the
    evidence below tells steps apart; `branching` is what a branch has been worth to a worker, in samples. `sighted`,
    asked for each, says whether the reward model's values may lead it; a blind one is drawn from the question anew.
    Without it the reward model has no weight, and nothing changes.
    """
    wave: list[Simulation] = []
    for _ in range(slots):
        left = {worker: rollouts - tree.launched(worker) for worker, rollouts in allocation.items()}
        worker = max(left, key=lambda name: left[name] / allocation[name] if allocation[name] else -1.0)
        if left[worker] <= 0:
            break
        start = tree.worker_node(worker)
        operator, target = propose(worker, wave)
        node = start
        sees = sighted is not None and sighted()
        if operator == "sample" and (sees or sighted is None):
            node = descend(
                tree,
                start,
                max_depth=max_depth,
                exploration=exploration,
                widening=widening,
                branching=branching(worker),
            )
            operator = "sample" if node is start else "branch"
        simulation = Simulation(node_id=node.id, worker=worker, operator=operator, target=target, sighted=sees)
        tree.start(simulation)
        wave.append(simulation)
    return wave


def descend(
    tree: SearchTree, start: Node, *, max_depth: int, exploration: float, widening: float, branching: float = 1.0
) -> Node:
    """The node to draw the next rollout from, by PUCT with progressive widening.

    Below a node whose children evidence does not tell apart, descending could only cost diversity: it draws there anew.
    Otherwise a new draw competes with the children as an arm of its own while the node has fewer direct draws than
    `widening * sqrt(visits)`; its first-play urgency is the node's mean value minus 0.1. At `start` that is a sample
    against branches: a child's prior is `branching` times that of the new draw. Below, all are branches.
    """
    node = start
    while node.depth - start.depth < max_depth:
        children = [child for child in tree.children(node) if not child.terminal]
        if not children or not tells_apart(tree.children(node)):
            return node
        ratio = branching if node is start else 1.0
        fresh = 1.0 / (ratio * len(children) + 1)
        prior = ratio * fresh
        root_visits = math.sqrt(node.visits + node.in_flight)

        def puct(child: Node, prior: float = prior, root_visits: float = root_visits) -> float:
            return child.mean_value + exploration * prior * root_visits / (1 + child.visits + child.in_flight)

        best = max(children, key=puct)
        if node.direct_samples < widening * root_visits:
            urgency = node.mean_value - 0.1 + exploration * fresh * root_visits / (1 + node.direct_samples)
            if urgency >= puct(best):
                return node
        if best.mean_value <= 0.0:
            return node
        node = best
    return node


def tells_apart(children: Sequence[Node]) -> bool:
    """True when the children's mean values differ by more than a model's score with little weight can make them."""
    values = [child.mean_value for child in children if child.visits]
    return len(values) > 1 and max(values) - min(values) >= TELLING
