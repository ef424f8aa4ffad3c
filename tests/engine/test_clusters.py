"""Clusters of equal answers."""

from __future__ import annotations

import random

from kaelum_graph.clusters import Cluster, cluster


def test_equal_answers_share_a_cluster_and_none_is_in_none() -> None:
    answers = ["1/2", None, "0.5", "3", r"\frac{1}{2}", "", "0.5", "  "]
    assert cluster(answers) == [Cluster("0.5", (0, 2, 4, 6)), Cluster("3", (3,))]


def test_no_answers_no_clusters() -> None:
    assert cluster([]) == []
    assert cluster([None, None]) == []


def test_the_representative_is_the_most_frequent_form() -> None:
    assert cluster(["1,000", "1000.0", "1,000"])[0].representative == "1,000"
    assert cluster(["x^2+2x+1", "(x+1)^2"])[0].representative == "(x+1)^2", "of equally frequent ones the shortest"
    assert cluster(["**7**", "7.", "$7$"])[0].representative == "7", "markup is no form of its own"


def test_membership_does_not_depend_on_order() -> None:
    answers = ["5 cm", "5", "5 kg", "5 cm", "12", "12.0", "yes", "True", "no", None, "[1, 2]", "1, 2", "{2, 1}", "2, 1"]
    rng = random.Random(0)
    expected = {frozenset(answers[index] or "" for index in group.members) for group in cluster(answers)}
    for _ in range(20):
        order = list(range(len(answers)))
        rng.shuffle(order)
        shuffled = [answers[index] for index in order]
        groups = cluster(shuffled)
        assert {frozenset(shuffled[index] or "" for index in group.members) for group in groups} == expected
        assert sorted(index for group in groups for index in group.members) == [
            index for index, answer in enumerate(shuffled) if answer is not None
        ]


def test_a_near_match_makes_no_chain() -> None:
    groups = cluster(["5 cm", "5 cm", "5", "5 kg"])
    together = {frozenset(group.members) for group in groups}
    assert together == {frozenset({0, 1, 2}), frozenset({3})}


def test_members_ascend_and_the_largest_comes_first() -> None:
    groups = cluster(["b", "a", "b", "c", "a", "b"])
    assert [group.representative for group in groups] == ["b", "a", "c"]
    assert groups[0].members == (0, 2, 5)


def test_equality_may_be_given() -> None:
    groups = cluster(["a1", "a2", "b1"], equal=lambda one, other: one[0] == other[0])
    assert [group.members for group in groups] == [(0, 1), (2,)]
