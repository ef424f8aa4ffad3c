"""Stored trees as text: what stands on the lines, how they fold, and that nothing reaches the terminal by them."""

from __future__ import annotations

import random
import re

import pytest
from rich.cells import cell_len

from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.tree import Operator, Rollout, SearchTree, Simulation, select
from kaelum_graph.tree_text import draw, escaped
from kaelum_graph.types import Candidate, Json, NodeId, RolloutId, WorkerName
from kaelum_graph.verdict import decide

MATH = WorkerName("math")
CODE = WorkerName("code")
COUNTING = Evidence(tier=Tier.CONSTRAINT, source="counting", outcome="unscored", reason="nothing is counted")


def equation(outcome: Outcome, reason: str = "") -> Evidence:
    return Evidence(tier=Tier.CONSTRAINT, source="equation", outcome=outcome, reason=reason)


def hang(
    tree: SearchTree,
    *steps: str,
    answer: str | None = None,
    votes: tuple[Evidence, ...] = (),
    worker: WorkerName = MATH,
    operator: Operator = "sample",
    start: NodeId | None = None,
    target: int | None = None,
    error: str | None = None,
    finish: str = "stop",
    score: float | None = 0.5,
) -> None:
    """One rollout of these steps, begun at `start` or at its worker's node."""
    simulation = Simulation(
        node_id=tree.worker_node(worker).id if start is None else start,
        worker=worker,
        operator=operator,
        target=None if target is None else RolloutId(target),
    )
    number = RolloutId(len(tree.rollouts))
    outcomes = {vote.outcome for vote in votes if vote.tier.anchored}
    tree.start(simulation)
    tree.complete(
        Rollout(
            id=number,
            wave=1 + number // 8,
            simulation=simulation,
            candidate=Candidate(rollout_id=number, worker=worker, text="".join(steps), answer=answer, error=error),
            evidence=votes,
            steps=steps,
            step_scores=(score,) * len(steps),
            finish=finish,
            completion_tokens=10,
            value=0.0 if "fail" in outcomes else 1.0 if "pass" in outcomes else 0.5,
        )
    )


def record_of(tree: SearchTree, **more: object) -> Json:
    """The record that the feedback node would write of this tree."""
    verdict = decide(tree, worker=MATH, min_confidence=0.0, prm_threshold=0.0).to_json()
    cost = {"rollouts": len(tree.rollouts), "waves": 1, "prompt_tokens": 10, "completion_tokens": 2000, "seconds": 4.0}
    answer = {
        "id": "e1",
        "query": "Solve 3x + 5 = 20\nfor x.",
        "model": "tiny",
        "status": verdict["status"],
        "alternatives": verdict["alternatives"],
        "stop_reason": "verified",
        "cost": cost,
    }
    return {"answer": answer, "tree": tree.to_json(), "verdict": verdict, **more}


def small() -> SearchTree:
    tree = SearchTree()
    hang(
        tree, "Given 3x.\n", "Subtract.\n", "So 7.", answer="7", votes=(equation("fail", "3*7 + 5 is not 20"), COUNTING)
    )
    hang(tree, "Given 3x.\n", "Divide.\n", "So 5.", answer="5", votes=(equation("pass", "3*5 + 5 is 20"), COUNTING))
    hang(tree, "print(5)", answer="5", votes=(COUNTING,), worker=CODE, score=None)
    return tree


def test_a_small_tree_in_full() -> None:
    text = draw(record_of(small(), reflections=["3*7 + 5 is not 20"], continued_from="e0"))
    assert text.splitlines() == [
        "Solve 3x + 5 = 20 for x.",
        "episode e1 · tiny · 3 rollouts · continued from e0",
        "reflected on: 3*7 + 5 is not 20",
        "",
        "visits value",
        "     3  0.50 question",
        "     2  0.50 ├─ math",
        "     2  0.50 │  └─ Given 3x.",
        "     1  0.00 │     ├─ Subtract. (+1 step)",
        "             │     │  → 7 [B] · rollout 0 · equation (V) failed: 3*7 + 5 is not 20 · likelihood 0.50",
        "     1  1.00 │     └─ Divide. (+1 step)",
        "             │        → 5 [A] ★ chosen · rollout 1 · equation (V) passed: 3*5 + 5 is 20 · likelihood 0.50",
        "     1  0.50 └─ code",
        "     1  0.50    └─ print(5)",
        "                   → 5 [A] · rollout 2",
        "",
        "not checked: counting (V): nothing is counted",
        "answers",
        "★  A   67%  P(correct) 0.95  5",
        "   B   33%  P(correct) 0.05  7",
        "stopped on a passed check; 3 rollouts in 1 wave, 10 + 2,000 tokens, 4.0 s",
    ]


def test_a_vote_that_could_not_be_cast_for_some_answers_only_stands_with_them() -> None:
    tree = SearchTree()
    hang(tree, "a", answer="1", votes=(equation("unscored", "no number"),))
    hang(tree, "b", answer="2", votes=(equation("fail", "wrong"),))
    text = draw(record_of(tree))
    assert "→ 1 [A] ★ chosen · rollout 0 · equation (V) unscored: no number · likelihood 0.50" in text
    assert "not checked" not in text


def test_operators_errors_and_cut_turns_are_told() -> None:
    tree = SearchTree()
    hang(tree, "one\n", "two", answer="1", votes=(equation("fail", "no"),))
    hang(tree, "mended", answer="2", operator="refine", target=0, finish="length")
    hang(tree, "print(True)", operator="verify", target=1)
    hang(tree, error="Nothing was written.")
    hang(tree, "more", answer="3", operator="branch", start=tree.children(tree.worker_node(MATH))[0].id)
    text = draw(record_of(tree))
    assert "→ 2 [A] ★ chosen · rollout 1 · refine of rollout 0 · likelihood 0.50 · cut off (length)" in text
    assert "→ checks rollout 1 · rollout 2" in text
    assert "→ no answer: Nothing was written. · rollout 3" in text
    assert "→ 3 [B] · rollout 4 · branch" in text
    # The empty rollout ended at the worker's own node: it stands before what lies below that.
    assert text.index("rollout 3") < text.index("rollout 0")


def test_rollouts_find_their_leaves_again() -> None:
    """A step that ended one rollout and goes on in another is two nodes; a third that ends there is at the second."""
    tree = SearchTree()
    hang(tree, "s", answer="1")
    hang(tree, "s", "t", answer="2")
    hang(tree, "s", answer="3")
    hang(tree, "s", "t", answer="4")
    lines = draw(record_of(tree)).splitlines()
    drawn = [re.sub(r" ·.*| ★.*", "", line) for line in lines[lines.index("     4  0.50 └─ math") + 1 : -7]]
    assert drawn == [
        "     3  0.50    ├─ s",
        "                │  → 3 [C]",
        "     1  0.50    │  ├─ t",
        "                │  │  → 2 [B]",
        "     1  0.50    │  └─ t",
        "                │     → 4 [D]",
        "     1  0.50    └─ s",
        "                   → 1 [A]",
    ]


def test_rollouts_that_are_alike_are_drawn_once() -> None:
    tree = SearchTree()
    for _ in range(3):
        hang(tree, "Think.\n", "It is 5.", answer="5")
    hang(tree, "Think.\n", "It is 6.", answer="6")
    text = draw(record_of(tree))
    assert "     3  0.50    └─ Think." not in text
    assert "It is 5.  ×3" in text
    assert "→ 5 [A] ★ chosen · rollouts 0, 1, 2 · likelihood 0.50" in text
    assert text.count("→ 5 [A]") == 1


def sixty_four(seed: int = 3) -> SearchTree:
    chance, tree = random.Random(seed), SearchTree()
    for _ in range(64):
        [plan] = select(tree, slots=1, allocation={MATH: 49, CODE: 17}, max_depth=4)
        tree.abandon(plan)
        answer = chance.choice(["5", "5", "7", "4", "x = 9"])
        vote = equation("pass" if answer == "5" else "fail", f"looked at {answer}")
        steps = [f"Begin {chance.randint(0, 1)}.\n", *(f"Step {chance.random()}\n" for _ in range(8)), f"So {answer}."]
        hang(tree, *steps, answer=answer, votes=(vote, COUNTING), worker=plan.worker)
    return tree


def test_sixty_four_rollouts_stay_readable_and_none_is_lost() -> None:
    tree = sixty_four()
    assert len(tree.nodes) > 500
    text = draw(record_of(tree))
    lines = text.splitlines()
    assert len(lines) <= 128
    assert max(cell_len(line) for line in lines) <= 120
    shown = sum(line.count("· rollout ") for line in lines)
    left_out = sum(int(number) for number in re.findall(r"… (\d+) more rollouts?:?", text))
    assert shown + left_out == 64
    assert "★ chosen" in text
    whole = draw(record_of(tree), whole=True)
    assert whole.count("· rollout ") == 64
    assert "more rollout" not in whole


def test_many_different_answers_are_cut_and_counted() -> None:
    tree = SearchTree()
    for number in range(64):
        hang(tree, f"draft {number}", answer=f"draft {number}")
    text = draw(record_of(tree))
    assert len(text.splitlines()) < 60
    assert "… 52 more rollouts" in text
    assert "… and 52 more" in text
    assert "★ chosen" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_are_cut_to_the_width_in_columns(width: int) -> None:
    tree = SearchTree()
    hang(tree, "漢字" * 100, answer="答" * 100, votes=(equation("fail", "w" * 300),))
    hang(tree, "x" * 500 + "\n", "more", answer="2", error="e" * 200)
    lines = draw(record_of(tree), width=width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    [chain] = [line for line in lines if "xxx" in line]
    assert chain.endswith("… (+1 step)")


def test_control_characters_are_shown_and_never_sent() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eoverride\u2028line\ud800\x00"
    tree = SearchTree()
    hang(tree, hostile + "\n", "more", answer=hostile, votes=(equation("fail", hostile),))
    hang(tree, "x", error=hostile, finish=hostile)
    record = record_of(tree, reflections=[hostile], continued_from=hostile)
    record["answer"] |= {"query": hostile, "model": hostile}
    text = draw(record, width=400)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert text.count(r"\x1b]0;title\x07\x1b[2J\x9b31m\u202eoverride\u2028line\ud800\x00") >= 6


def test_escaped() -> None:
    assert escaped(" a\n\tb\r\n c\xa0d ") == "a b c d"
    assert escaped("a\x0bb\U000e0041") == r"a\x0bb\U000e0041"
    assert escaped("👩\u200d💻 é 漢") == "👩\u200d💻 é 漢"


def test_colors_take_no_columns_and_are_off_by_default() -> None:
    record = record_of(small())
    plain, colored = draw(record), draw(record, color=True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain
    [chosen] = [line for line in colored.splitlines() if "★ chosen" in line]
    assert chosen.startswith("\x1b[1;32m")


def test_without_unicode_the_drawing_is_ascii() -> None:
    text = draw(record_of(sixty_four()), unicode=False)
    assert text.isascii()
    assert "`- math" in text or "|- math" in text


def test_a_search_without_answers() -> None:
    tree = SearchTree()
    hang(tree, error="Nothing was written.")
    record = record_of(tree)
    record["answer"]["stop_reason"] = "budget"
    text = draw(record)
    assert "no answer was reached" in text
    assert text.splitlines()[-1].startswith("all rollouts used; 1 rollout in 1 wave")
