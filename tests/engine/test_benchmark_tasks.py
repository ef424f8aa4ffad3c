"""The scorers that workers are measured with: they take right answers, refuse wrong ones, and share no task."""

from __future__ import annotations

import pytest

from benchmarks.suites import FAMILIES
from benchmarks.tasks import Task, concluding_words, tasks
from benchmarks.workers import interval

OWN = ("capitals", "currencies", "elements", "functions", "passages", "verses", "comparisons", "complaints")


def first(family: str) -> Task:
    return tasks(family, seed=1, size=1)[0]


@pytest.mark.parametrize("family", OWN)
def test_a_seed_gives_its_tasks_again_and_another_seed_gives_others(family: str) -> None:
    one, again, other = (tasks(family, seed=seed, size=20) for seed in (1, 1, 2))
    assert [task.question for task in one] == [task.question for task in again]
    assert len({task.question for task in one}) > 15
    assert not {task.question for task in one} & {task.question for task in other}


@pytest.mark.parametrize("family", [family for group in FAMILIES.values() for family in group])
@pytest.mark.parametrize("seeds", [(1, 2), (3, 4)])
def test_seeds_share_no_tasks_but_by_chance(family: str, seeds: tuple[int, int]) -> None:
    one, other = ({task.question for task in tasks(family, seed=seed, size=20)} for seed in seeds)
    assert len(one & other) <= 2


@pytest.mark.parametrize("family", ["capitals", "currencies", "elements", "comparisons", "complaints"])
def test_a_reference_is_right_and_anothers_is_wrong(family: str) -> None:
    some = tasks(family, seed=1, size=12)
    for task in some:
        assert task.right(task.reference)
        wrong = next(other.reference for other in some if other.reference != task.reference)
        assert not task.right(wrong)


def test_a_name_may_stand_in_a_short_phrase_only() -> None:
    task = first("capitals")
    assert task.right(f"It is {task.reference}.")
    assert not task.right(f"It may be Lima, Quito, Rome, Bern or {task.reference}")


def test_a_currency_may_be_named_in_any_usual_way_and_not_be_anothers() -> None:
    halves = [tasks("currencies", seed=seed, size=40) for seed in (1, 2)]
    assert all(len(half) == 40 for half in halves)
    named = [task for task in halves[0] + halves[1] if task.question.startswith("What is the currency of ")]
    for task in named:
        adjective, unit = task.reference.rsplit(" ", 1)
        for answer in (unit, f"the {unit}", f"{unit.upper()}s", f"The {adjective} {unit}."):
            assert task.right(answer), (task.question, answer)
        for answer in ("", "the", adjective, "euro", f"Utopian {unit}", f"{unit} or euro", "US dollar"):
            assert not task.right(answer), (task.question, answer)
    coded = [task for task in halves[0] + halves[1] if task not in named]
    assert all(len(task.reference) == 3 and task.right(task.reference) for task in coded)
    assert len({task.reference for task in coded}) == len(coded)


def test_a_passage_must_meet_every_demand() -> None:
    task = first("passages")
    sentences, words, one, two = task.reference.split(", ")
    count = int(sentences.split()[0])
    good = f"The {one} and the {two} were there. " + "It rained. " * (count - 1)
    assert task.right(good)
    assert not task.right(good + "Again.")
    assert not task.right(good.replace(one, "thing"))
    assert not task.right(good.replace("there", "there " + "far " * int(words.split()[1])))


def test_verses_must_meet_every_demand() -> None:
    task = first("verses")
    lines, opening, word, taboo = task.reference.split(", ")
    count, opening, taboo = int(lines.split()[0]), opening.split()[0], taboo.split()[1]
    good = "\n".join([f"{opening}, the {word}", *["and so on"] * (count - 1)])
    assert task.right(good)
    assert not task.right(good + "\nand more")
    assert not task.right(good.replace("and so on", f"a {taboo}", 1))
    assert not task.right("So " + good)


def test_a_function_must_pass_the_hidden_tests_too() -> None:
    task = next(task for task in tasks("functions", seed=1, size=20) + tasks("functions", seed=2, size=20)
                if "`clamp" in task.question)  # fmt: skip
    assert task.right("def clamp(value, low, high):\n    return max(low, min(high, value))")
    assert not task.right("def clamp(value, low, high):\n    return high")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A is cheap.\nConclusion: B wins.", "B wins"),
        ("In conclusion, B wins.", "B wins"),
        ("Therefore B wins.", "B wins"),
        ("A is cheap.\nB wins.", "B wins"),
    ],
)
def test_an_analysis_concludes_with_its_last_words(text: str, said: str) -> None:
    assert said in concluding_words(text)
    assert "cheap" not in concluding_words(text)


def test_the_interval_holds_the_mean_and_narrows() -> None:
    low, high = interval([0.0, 1.0] * 10)
    narrow_low, narrow_high = interval([0.0, 1.0] * 100)
    assert low < 0.5 < high
    assert narrow_high - narrow_low < high - low
    assert interval([1.0] * 5) == (1.0, 1.0)


def test_syllogisms_with_a_wrong_reference_are_left_out() -> None:
    """All A are B, some B are C: nothing follows about some A and C, whatever the family's reference says."""
    found = tasks("syllogism", seed=1, size=120)
    assert [task.index for task in found] == list(range(120))
    for task in found:
        lines = task.question.splitlines()
        premises = [line for line in lines if line[:2] in ("1.", "2.")]
        undistributed = (
            premises[0].startswith("1. All") and premises[1].startswith("2. Some") and "not" not in premises[1]
        )
        conclusion = lines[-2] if lines[-1].startswith("(") else lines[-1]
        assert not (undistributed and conclusion.startswith("Some") and task.reference == "Yes"), task.question
