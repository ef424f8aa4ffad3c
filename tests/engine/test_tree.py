"""The tree's statistics, its selection rule, and its life on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.tree import ROOT, Operator, Rollout, SearchTree, Simulation, descend, rollout_value, select
from kaelum_graph.types import Candidate, NodeId, RolloutId, WorkerName

MATH, CODE = WorkerName("math"), WorkerName("code")


def finish(
    tree: SearchTree, simulation: Simulation, steps: tuple[str, ...], *, outcome: Outcome = "unscored"
) -> Rollout:
    evidence = (Evidence(tier=Tier.CONSTRAINT, source="test", outcome=outcome),)
    rollout = Rollout(
        id=RolloutId(len(tree.rollouts)),
        wave=1,
        simulation=simulation,
        candidate=Candidate(
            rollout_id=RolloutId(len(tree.rollouts)), worker=simulation.worker, text="".join(steps), answer=steps[-1]
        ),
        evidence=evidence,
        steps=steps,
        step_scores=(0.5,) * len(steps),
        finish="stop",
        completion_tokens=3,
        value=rollout_value(evidence, 0.5, prm_weight=0.0),
    )
    tree.complete(rollout)
    return rollout


def wave(tree: SearchTree, slots: int, *, max_depth: int = 8) -> list[Simulation]:
    return select(tree, slots=slots, allocation={MATH: 64}, max_depth=max_depth)


def test_a_wave_in_flight_is_counted_and_completed() -> None:
    tree = SearchTree()
    simulations = wave(tree, 4)
    assert [item.operator for item in simulations] == ["sample"] * 4
    assert tree.nodes[ROOT].in_flight == 4
    for simulation in simulations[:3]:
        finish(tree, simulation, ("a\n", "b\n"))
    tree.abandon(simulations[3])
    assert tree.nodes[ROOT].in_flight == 0
    assert tree.nodes[ROOT].visits == 3
    assert all(node.in_flight == 0 for node in tree.nodes)


def test_equal_prefixes_share_one_node() -> None:
    tree = SearchTree()
    first, second, third = wave(tree, 3)
    finish(tree, first, ("a\n", "b\n", "1"))
    finish(tree, second, ("a\n", "c\n", "2"))
    finish(tree, third, ("d\n", "3"))
    worker = tree.worker_node(MATH)
    assert [(child.text, child.visits) for child in tree.children(worker)] == [("a\n", 2), ("d\n", 1)]
    assert tree.prefix(tree.children(tree.children(worker)[0])[1].id) == "a\nc\n"


def test_without_anchored_evidence_it_draws_as_self_consistency_does() -> None:
    tree = SearchTree()
    for turn in range(4):
        for simulation in wave(tree, 4):
            finish(tree, simulation, (f"step {turn} {len(tree.rollouts) % 2}\n", "middle\n", str(turn)))
        assert {rollout.simulation.operator for rollout in tree.rollouts} == {"sample"}


def test_evidence_draws_the_search_below_the_better_prefix() -> None:
    tree = SearchTree()
    simulations = wave(tree, 8)
    for index, simulation in enumerate(simulations):
        good = index < 4
        finish(
            tree,
            simulation,
            ("good\n" if good else "bad\n", f"{index}\n", "end"),
            outcome="pass" if good else "fail",
        )
    chosen = wave(tree, 4)
    assert {item.operator for item in chosen} == {"branch"}
    assert all(tree.prefix(item.node_id).startswith("good\n") for item in chosen)


@pytest.mark.parametrize(("last", "operator"), [("fail", "sample"), ("pass", "branch")])
def test_a_step_is_not_descended_into_below_which_every_rollout_was_refuted(last: Outcome, operator: Operator) -> None:
    tree = SearchTree()
    first, *others = wave(tree, 4)
    finish(tree, first, ("right at once",), outcome="pass")
    outcomes: list[Outcome] = ["fail", "fail", last]
    for index, (simulation, outcome) in enumerate(zip(others, outcomes, strict=True)):
        finish(tree, simulation, ("slip\n", f"{index}\n", "end"), outcome=outcome)
    # Without widening a new draw is no arm of its own: what is tried is the only step that goes on.
    chosen = select(tree, slots=1, allocation={MATH: 64}, max_depth=1, widening=0.0)
    assert [item.operator for item in chosen] == [operator]
    assert tree.prefix(chosen[0].node_id) == ("slip\n" if operator == "branch" else "")


def test_visits_in_flight_spread_a_wave() -> None:
    tree = SearchTree()
    for index, simulation in enumerate(wave(tree, 4)):
        finish(tree, simulation, (f"{index % 2}\n", "x\n", "end"), outcome="pass" if index else "fail")
    chosen = wave(tree, 16)
    assert len({item.node_id for item in chosen}) > 1


def test_branching_stops_at_the_depth_limit() -> None:
    tree = SearchTree()
    for index, simulation in enumerate(wave(tree, 8)):
        steps = ("good\n", "deep\n", "deeper\n", f"{index}") if index % 2 else ("bad\n", "end")
        finish(tree, simulation, steps, outcome="pass" if index % 2 else "fail")
    start = tree.worker_node(MATH).depth
    for item in wave(tree, 8, max_depth=1):
        assert tree.nodes[item.node_id].depth - start <= 1


def test_the_operator_is_proposed_and_only_a_sample_descends() -> None:
    tree = SearchTree()
    worker = WorkerName("math")
    said: list[int] = []

    def propose(name: WorkerName, sofar: Sequence[Simulation]) -> tuple[Operator, RolloutId | None]:
        said.append(len(sofar))
        return ("refine", RolloutId(0)) if len(sofar) % 2 else ("sample", None)

    simulations = select(tree, slots=4, allocation={worker: 8}, max_depth=8, propose=propose)
    assert said == [0, 1, 2, 3]
    assert [item.operator for item in simulations] == ["sample", "refine", "sample", "refine"]
    assert [item.target for item in simulations] == [None, 0, None, 0]
    assert {item.node_id for item in simulations} == {tree.worker_node(worker).id}


def test_a_wave_is_spread_in_proportion_and_never_past_the_allocation() -> None:
    tree = SearchTree()
    simulations = select(tree, slots=32, allocation={MATH: 6, CODE: 2}, max_depth=8)
    workers = [item.worker for item in simulations]
    assert (workers.count(MATH), workers.count(CODE)) == (6, 2)
    assert workers[:4].count(CODE) == 1


def test_a_tree_survives_json() -> None:
    tree = SearchTree()
    for simulation in wave(tree, 3):
        finish(tree, simulation, ("a\n", "1"), outcome="pass")
    wave(tree, 2)
    text = json.dumps(tree.to_json())
    again = SearchTree.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert again.rollouts == tree.rollouts
    assert [item.node_id for item in wave(again, 4)] == [item.node_id for item in wave(tree, 4)]


@pytest.mark.parametrize(
    ("outcomes", "score", "weight", "value"),
    [
        (["pass"], 0.1, 1.0, 1.0),
        (["pass", "fail"], 0.9, 0.0, 0.0),
        (["unscored"], 0.9, 0.0, 0.5),
        (["unscored"], 0.9, 0.5, 0.7),
        ([], None, 1.0, 0.5),
    ],
)
def test_value_is_anchored_evidence_first(
    outcomes: list[Outcome], score: float | None, weight: float, value: float
) -> None:
    evidence = [Evidence(tier=Tier.EXECUTION, source="test", outcome=outcome) for outcome in outcomes]
    assert rollout_value(evidence, score, prm_weight=weight) == pytest.approx(value)


def test_unanchored_evidence_is_no_value() -> None:
    evidence = [Evidence(tier=Tier.CLUSTER, source="test", outcome="fail")]
    assert rollout_value(evidence, None, prm_weight=0.0) == 0.5


def test_the_root_belongs_to_no_worker() -> None:
    tree = SearchTree()
    assert tree.nodes[ROOT].worker is None
    assert tree.worker_node(MATH).id == NodeId(1)
    assert tree.worker_node(MATH) is tree.worker_node(MATH)


def test_rollouts_of_one_lineage_have_one_prefix() -> None:
    tree = SearchTree()
    first = finish(tree, wave(tree, 1)[0], ("a\n", "b\n", "7"))
    other = finish(tree, wave(tree, 1)[0], ("c\n", "8"))
    start = tree.worker_node(MATH)
    a = next(node for node in tree.children(start) if node.text == "a\n")
    b = tree.children(a)[0]
    for node in (a, b):
        branch = Simulation(node_id=node.id, worker=MATH, operator="branch")
        tree.start(branch)
        finish(tree, branch, ("more\n", "7"))
    for operator, target in (("critique", other.id), ("refine", other.id), ("refine", other.id)):
        again = Simulation(node_id=start.id, worker=MATH, operator=operator, target=target)  # type: ignore[arg-type]
        tree.start(again)
        finish(tree, again, (f"{operator} it", "8"))
    prefixes = tree.prefixes()
    assert prefixes[2] == prefixes[3] == prefixes[first.id]
    assert prefixes[4] == prefixes[other.id]
    assert prefixes[5] == prefixes[6]
    assert len(set(prefixes)) == 3


@pytest.mark.parametrize(
    ("widening", "branching", "drawn_from"), [(1.0, 1.0, "a\n"), (2.0, 1.0, ""), (2.0, 1.5, "a\n")]
)
def test_a_node_is_widened_as_its_visits_grow_and_by_the_prior(
    widening: float, branching: float, drawn_from: str
) -> None:
    """With 30 visits, 7 draws of its own are more than 1 * sqrt(30); at 2 * sqrt(30) a new draw still competes, and
    loses where branches have been worth more than samples."""
    tree = SearchTree()
    start = tree.worker_node(MATH)

    def draw(node_id: NodeId, operator: Operator, *steps: str, outcome: Outcome = "unscored") -> None:
        simulation = Simulation(node_id=node_id, worker=MATH, operator=operator)
        tree.start(simulation)
        finish(tree, simulation, steps, outcome=outcome)

    for index in range(3):
        draw(start.id, "sample", "a\n", f"{index}")
    for _ in range(4):
        draw(start.id, "sample", "b\n", "0", outcome="fail")
    below = next(node for node in tree.nodes if node.text == "a\n")
    for index in range(23):
        draw(below.id, "branch", f"more {index}")
    chosen = descend(tree, start, max_depth=1, exploration=1.4, widening=widening, branching=branching)
    assert tree.prefix(chosen.id) == drawn_from
