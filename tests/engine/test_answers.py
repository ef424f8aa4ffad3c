"""Answers read out of the forms that small models write."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kaelum_graph.answers import (
    answer_line,
    boxed,
    clean,
    code_blocks,
    conclusion,
    final_answer,
    last_bold,
    last_line,
    last_number,
    result_line,
    without_code,
)

FINAL = [
    ("**Answer: 42**", "42"),
    ("Answer: $42$ apples.", "42 apples"),
    (r"\[ \boxed{42} \]", "42"),
    ("The answer is: 42.", "42"),
    ("**Answer:** 42", "42"),
    ("**Answer**: 42", "42"),
    ("**Answer**\n\n42", "42"),
    ("### Answer\n42", "42"),
    ("### Answer:\n\n\\[\n42\n\\]", "42"),
    ("Answer:\n```\n42\n```", "42"),
    ("### Answer\n\n1. take\n2. floats\n3. Full", "take, floats, Full"),
    ("Final Answer: The final answer is $42$. I hope it is correct.", "42"),
    ("So the answer is 42 apples.", "42 apples"),
    ("Therefore, the correct answer is (B) Paris.", "(B) Paris"),
    ("The answer is B. Because it is the only even one.", "B"),
    ("Answer: J. K. Rowling", "J. K. Rowling"),
    ("Answer: J. R. R. Tolkien", "J. R. R. Tolkien"),
    ("Answer: J. R. R. Tolkien. He wrote The Hobbit.", "J. R. R. Tolkien"),
    ("Answer: U. S. Grant and others", "U. S. Grant and others"),
    ("Answer: A. A. Milne and E. H. Shepard", "A. A. Milne and E. H. Shepard"),
    ("The answer is C. Darwin and A. Wallace.", "C. Darwin and A. Wallace"),
    ("Answer: George W. Bush", "George W. Bush"),
    ("Answer: H. G. Wells wrote it in 1895.", "H. G. Wells wrote it in 1895"),
    ("Answer: B. Paris is the capital of France.", "B"),
    ("Answer: D. All of the above", "D"),
    ("Answer: No. The statements do not say so.", "No"),
    ("The answer is Mr. Lee, and he was alone.", "Mr. Lee, and he was alone"),
    ("Answer: <42>", "42"),
    ("Answer: <three>", "three"),
    ("Answer - 42", "42"),
    ("ANSWER: Yes", "Yes"),
    ("Answer: \\$42", "$42"),
    ("Answer: $1,234.50", "$1,234.50"),
    ("The answer is $5 and $6.", "$5 and $6"),
    (r"**Final Answer:** \( x = 5 \)", "x = 5"),
    (r"Answer: \(\boxed{60}\)", "60"),
    (r"The final answer to 4 - 1 - 7 is \(\boxed{-4}\).", "-4"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\text{Monday}}", "Monday"),
    (r"so we get \boxed{42", "42"),
    (r"\boxed{1} is wrong, rather \boxed{2}.", "2"),
    ("Answer: 1\nWait, that is wrong.\nAnswer: 2", "2"),
    (r"Answer: 3, since \boxed{4} was a slip", "4"),
    ("first \\boxed{5}\n\nAnswer: 6", "6"),
    ("Answer: `[1, 2]`", "[1, 2]"),
    ("Answer: 10:30 AM.", "10:30 AM"),
    ("So, the final answer would be **7**.", "7"),
    ("The answer to the question is 5.", "5"),
    ('Answer: "hello"', "hello"),
    ("Result: **12**", "12"),
    (r"Therefore, the solution to the equation is \( z = 100 \).", "z = 100"),
    ("Therefore, the width is **7** cm.", "7"),
    ("5 + 6.\nSo the total is 5 + 6 = 11 apples.", "11 apples"),
    ("Therefore, the sorted list is:\n\n- a\n- b\n", "a, b"),
]


@pytest.mark.parametrize(("text", "answer"), FINAL, ids=range(len(FINAL)))
def test_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    ["", "We answered 5 questions", "Answer: <the answer>", "Answer:", "The answer is correct.", "\\boxed{}", "hm"],
)
def test_no_answer_is_none(text: str) -> None:
    assert final_answer(text) is None


def test_a_placeholder_leaves_the_earlier_answer() -> None:
    assert answer_line("Answer: 7\n\nAnswer: <your answer>") == "7"
    assert boxed(r"\boxed{7} and \boxed{}") == "7"


def test_boxed_balances_braces() -> None:
    assert boxed(r"\boxed{\frac{a}{b+{c}}} x") == r"\frac{a}{b+{c}}"
    assert boxed(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert boxed(r"\fbox{3}") == "3"
    assert boxed(r"\boxed 5.") == "5"
    assert boxed("no box") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it is 1,234.5 in all", "1,234.5"),
        ("from 3 to -7", "-7"),
        ("x2 and H2O", None),
        ("5-3", "3"),
        ("a total of 50%.", "50%"),
        (r"\frac{3}{4}", "3/4"),
        ("3/4 cup", "3/4"),
        ("−8 degrees", "-8"),
        ("about 1.5e3", "1.5e3"),
        ("It is 42.", "42"),
        ("1{,}000", "1,000"),
        ("none", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("answer", "cleaned"),
    [
        ("**42**.", "42"),
        ("$42$", "42"),
        (r"\(42\)", "42"),
        (r"\[42\]", "42"),
        (r"42 \text{ cm}", "42 cm"),
        ("`code`", "code"),
        ("“quoted”", "quoted"),
        ("3.14", "3.14"),
        ("2**3", "2**3"),
        ("$5", "$5"),
        ("= 7", "7"),
        ("* item", "item"),
        ("-5", "-5"),
        (r"\boxed{42}", "42"),
        ("it's", "it's"),
        ("50\\%", "50%"),
        ("a, b;", "a, b"),
        ("wait...", "wait..."),
    ],
)
def test_clean(answer: str, cleaned: str) -> None:
    assert clean(answer) == cleaned
    assert clean(cleaned) == cleaned


def test_code_blocks() -> None:
    assert code_blocks("a\n```python\nprint(1)\n```\nb\n```py\nprint(2)\n```") == ("print(1)", "print(2)")
    assert code_blocks("```python\nprint(1)") == ("print(1)",), "unclosed"
    assert code_blocks("```\nprint(1)\n```") == ("print(1)",), "unmarked"
    assert code_blocks("```python\nprint(1)\n```\n```output\n1\n```\n```\n1\n```") == ("print(1)",)
    assert code_blocks("```python\nx = 1\n```python\nx = 2\n```") == ("x = 1", "x = 2"), "never closed before the next"
    assert code_blocks("1. So:\n   ```python\n   if x:\n       y\n   ```") == ("if x:\n    y",)
    assert code_blocks("none") == ()
    assert code_blocks("```json\n{}\n```", languages=frozenset({"json"})) == ("{}",)


def test_without_code() -> None:
    assert without_code("a\n```python\nAnswer: 1\n```\nb").split() == ["a", "b"]
    assert without_code("a\n```python\nx").split() == ["a"]


def test_guesses() -> None:
    assert last_bold("so **7** and **eight**.") == "eight"
    assert last_bold("none") is None
    assert last_line("one\n**two.**\n\n---\n") == "two"
    assert last_line("\n") is None
    assert result_line("Output: 5") == "5"
    assert conclusion("nothing follows") is None


READERS: list[Callable[[str], object]] = [
    final_answer, last_number, clean, code_blocks, conclusion, last_bold, result_line, without_code, last_line,
]  # fmt: skip


@pytest.mark.parametrize(
    "piece",
    [
        "Answer ",
        "*",
        "**a",
        "answer is ",
        "\\boxed{",
        "$",
        "So ",
        "```\n",
        "1,",
        "(",
        "_",
        "\\text{",
        "1 / ",
        "So\n",
        " ",
        "Answer: A. BC",
        "Answer: A. Ab and ",
    ],
)
def test_a_looping_text_is_read_in_time(piece: str) -> None:
    text = (piece * 4000)[:16000]
    begun = time.monotonic()
    for reader in READERS:
        reader(text)
    assert time.monotonic() - begun < 3.0
