"""The cache's guards: nothing that asks something else gets through, and common rewordings do."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from kaelum_graph.cache.guards import GUARDS, same_question
from tests.engine.data_cache_pairs import Half, Pair, different_pairs, half_of, same_pairs, wilson_interval

HALVES: tuple[Half, Half] = ("tuning", "held-out")
TECHNICAL = "technical"


def test_there_are_enough_pairs_of_every_kind() -> None:
    kinds = Counter(pair.kind for pair in different_pairs())
    assert sum(kinds.values()) >= 500
    assert len(kinds) >= 15
    assert min(kinds.values()) >= 5
    assert len(same_pairs()) >= 100
    for pair in (*different_pairs(), *same_pairs()):
        assert pair.a != pair.b


@pytest.mark.parametrize("half", HALVES)
def test_no_question_passes_for_another(half: Half) -> None:
    pairs = [pair for pair in different_pairs() if half_of(pair) == half]
    passed = [pair for pair in pairs if same_question(pair.a, pair.b).passed]
    low, high = wilson_interval(len(passed), len(pairs))
    print(f"{half}: false {len(passed)} of {len(pairs)}, 95% interval {low:.3f} to {high:.3f}")
    assert passed == []
    assert len(pairs) >= 200


@pytest.mark.parametrize("half", HALVES)
def test_paraphrases_pass(half: Half) -> None:
    pairs = [pair for pair in same_pairs() if half_of(pair) == half]
    for kinds, name in (({TECHNICAL}, "technical"), ({pair.kind for pair in pairs} - {TECHNICAL}, "the rest")):
        group = [pair for pair in pairs if pair.kind in kinds]
        passed = sum(same_question(pair.a, pair.b).passed for pair in group)
        low, high = wilson_interval(passed, len(group))
        print(f"{half}, {name}: passed {passed} of {len(group)}, 95% interval {low:.2f} to {high:.2f}")
        if name == "the rest":
            assert passed / len(group) >= 0.6


@pytest.mark.parametrize("pair", [*same_pairs()[::3], *different_pairs()[::9]], ids=lambda pair: pair.a[:40])
def test_the_guards_are_symmetric_and_know_a_text_as_itself(pair: Pair) -> None:
    assert same_question(pair.a, pair.b).passed == same_question(pair.b, pair.a).passed
    assert same_question(pair.a, pair.a).passed
    assert same_question(pair.a, f"  {pair.a}\n").passed


@pytest.mark.parametrize(
    ("guard", "a", "b"),
    [
        ("numbers", "Name five rivers.", "Name six rivers."),
        ("numbers", "What is 3% of 9?", "What is 3 of 9?"),
        ("literals", "What does gcc -O do?", "What does gcc -o do?"),
        ("literals", "What is `a`?", "What is `b`?"),
        ("literals", "Run this:\nif x:\n    y()\nz()", "Run this:\nif x:\n    y()\n    z()"),
        ("symbols", "What is 8 + 2?", "What is 8 - 2?"),
        ("negation", "Why is the door open?", "Why is the door not open?"),
        ("polarity", "How do I enable the alarm?", "How do I disable the alarm?"),
        ("polarity", "Is the answer known?", "Is the answer unknown?"),
        ("question type", "Who built the tower?", "When built the tower?"),
        ("comparison", "What is the longest river?", "What is the widest river?"),
        ("form", "Explain gravity in French.", "Explain gravity in German."),
        ("tense", "Who is the king of Spain?", "Who was the king of Spain?"),
        ("mention", "What rhymes with large?", "What rhymes with big?"),
        ("mention", "How do you say please in Spanish?", "How do you say in Spanish?"),
        ("pauses", "The panda eats, shoots and leaves.", "The panda eats shoots and leaves."),
        ("voice", "Who was called first?", "Who called first?"),
        ("names", "Who founded Microsoft?", "Who founded Oracle?"),
        ("wording", "How do I bake bread?", "How do I bake cake?"),
        ("order", "How do I get from Rome to Naples?", "How do I get from Naples to Rome?"),
        ("articles", "What is time?", "What is the time?"),
        ("capitals", "How do I polish a table?", "How do I Polish a table?"),
        ("capitals", "How long do 3 MB take?", "How long do 3 Mb take?"),
        ("length", "word " * 2000, "word " * 2000 + "more"),
    ],
)
def test_each_guard_names_what_differs(guard: str, a: str, b: str) -> None:
    verdict = same_question(a, b)
    assert not verdict.passed
    assert verdict.guard == guard
    assert verdict.reason


def test_every_guard_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first guards name, the last ones would block as well; those last ones stand alone."""
    alone = {
        "tense": ("Who is the king of Spain?", "Who was the king of Spain?"),
        "order": ("Did the dog bite the man?", "Did the man bite the dog?"),
        "articles": ("What is time?", "What is the time?"),
        "capitals": ("How do I polish a table?", "How do I Polish a table?"),
        "literals": ("Run:\nif x:\n    go()\nend()", "Run:\nif x:\n    go()\n    end()"),
    }
    for name, (a, b) in alone.items():
        assert not same_question(a, b).passed
        others = {key: guard for key, guard in GUARDS.items() if key != name}
        monkeypatch.setattr("kaelum_graph.cache.guards.GUARDS", others)
        assert same_question(a, b).passed or name in ("order",)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is 2,000 + 1?", "What is 2000 + 1?"),
        ("What is 2.0 + two?", "What is 2 + 2?"),
        ("What is 5 percent of 20?", "what's 5% of 20"),
        ("Who was the 2nd man on the Moon?", "Who was the second man on the Moon?"),
        ("What is “art”?", 'What is "art"?'),
        ("Cafe\u0301 au lait?", "Caf\u00e9 au lait?"),
        ("Which colour is a favourite?", "Which color is a favorite?"),
        ("WHAT IS THE CAPITAL OF PERU?", "What is the capital of Peru?"),
    ],
)
def test_the_same_thing_written_otherwise_passes(a: str, b: str) -> None:
    assert same_question(a, b).passed


def test_a_version_is_not_a_number() -> None:
    assert not same_question("What is new in Python 3.0?", "What is new in Python 3?").passed
    assert not same_question("What is new in Python 3.1?", "What is new in Python 3.10?").passed


@pytest.mark.parametrize("text", ["", " ", "?", "\x00", "🙂", "你好吗", "'" * 50, "```", '"', "a" * 7000, "1," * 3000])
def test_any_text_can_be_read(text: str) -> None:
    assert same_question(text, text).passed
    assert not same_question(text, f"{text} why").passed


def test_long_texts_are_read_in_time() -> None:
    text = " ".join(f"word{index} and more, of it" for index in range(300))
    start = time.perf_counter()
    same_question(text, text + " why?")
    assert time.perf_counter() - start < 1.0
