"""Counting, orderings, durations and puzzles: a question is read to its last word, or there is no vote."""

from __future__ import annotations

import pytest

from kaelum_graph.evidence import Evidence
from kaelum_graph.leftovers import only_requests, without_examples
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import check_safely, verifier

CHECKS = ("counting", "ordering", "duration", "puzzle")


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        return ProgramResult(ok=True, stdout="", stderr="", exit_code=0, seconds=0.0)


def check(name: str, question: str, answer: str) -> Evidence:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("math"), text=f"Answer: {answer}", answer=answer)
    return check_safely(verifier(name), Query(text=question), candidate, NoSandbox())


# verifier, question, a right answer, a wrong one
READ: list[tuple[str, str, str, str]] = [
    ("counting", 'How many letters are in the word "banana"?', "6", "0"),
    ("counting", 'How many characters are in "hello"?', "5", "0"),
    ("counting", "How many letters are there in the word strawberry? Answer with just a number.", "10", "9"),
    ("counting", "Hi! Can you please tell me how many r's are in strawberry?", "3", "2"),
    ("counting", "How many Rs are in strawberry? Think step by step, then give the final answer.", "3", "2"),
    ("counting", 'Count the number of times the letter "a" appears in the word "banana". Do not explain.', "3", "2"),
    ("counting", 'Count the number of vowels in the phrase "open a door".', "5", "4"),
    ("counting", 'How many words are in the sentence "the cat sat"? Reply with only a number, nothing else.', "3", "4"),
    ("counting", "I was wondering how many s's are in Mississippi.", "4", "3"),
    ("ordering", "Sort these numbers from greatest to least: 3, 9, 1", "9, 3, 1", "1, 3, 9"),
    ("ordering", "Sort these numbers from biggest to smallest: 3, 9, 1", "9, 3, 1", "1, 3, 9"),
    ("ordering", "Sort these numbers from the lowest to the highest: 3, 9, 1", "1, 3, 9", "9, 3, 1"),
    ("ordering", "Sort the following numbers in ascending order: 5, 2, 9, 1. Give only the list.",
     "1, 2, 5, 9", "1, 2, 9"),
    ("ordering", "Can you sort these numbers in decreasing order: -5, 2 and -9?", "2, -5, -9", "-9, -5, 2"),
    ("ordering", "Sort these words alphabetically: pear, fig, apple.", "apple, fig, pear", "pear, fig, apple"),
    ("ordering", "Sort the list in reverse alphabetical order: fig, pear, apple",
     "pear, fig, apple", "apple, fig, pear"),
    ("ordering", "Sort these words in alphabetical order: 10, 9, a", "10, 9, a", "9, 10, a"),
    ("ordering", "Sort these words in ascending ASCII order: _b_, a, B", "B, _b_, a", "_b_, a, B"),
    ("ordering", "Sort these words in descending order, e.g. word_1, word_2: fig, pear", "pear, fig", "fig, pear"),
    ("ordering", "Reverse the order of these words: one, two, three", "three, two, one", "one, two, three"),
    ("ordering", "Reverse the string 'stressed' and give the result.", "desserts", "stressed"),
    ("ordering", 'Spell the word "Kaelum" backwards.', "muleaK", "Kaelum"),
    ("duration", "How long is it from 10:30 pm to 1:15 am?", "2 hours 45 minutes", "14 hours 45 minutes"),
    ("duration", "The movie starts at 10:30 and ends at 13:15. How long is the movie?", "2:45", "3:15"),
    ("duration", "My shift starts at 9:00 am and ends at 5:00 pm. How long is my shift?", "8 hours", "7 hours"),
    ("duration", "The shop opens at 9:00 and closes at 17:30. How many hours is it open?", "8.5 hours", "8 hours"),
    ("duration", "How many days are there between 2024-01-01 and 2024-01-31?", "30 days", "31 days"),
    ("duration", "A flight departed at 06:55 and arrived at 17:01. How long was the flight? Answer in HH:MM.",
     "10:06", "9:06"),
    ("duration", "How much time passed between 9:05 and 11:00? Give only the answer in hours and minutes.",
     "1 hour 55 minutes", "2 hours 5 minutes"),
    ("puzzle", "Make 15 using the numbers 3, 5, 7, each exactly once.", "3 + 5 + 7", "3 * 5"),
    ("puzzle", "Make 15 using the numbers 3, 5, 7. You must use all the numbers.", "3 + 5 + 7", "3 * 5"),
    ("puzzle", "Make 15 using the numbers 3, 5, 7. Each number may be used at most once.", "3 * 5", "5 + 5 + 5"),
    ("puzzle", "Using all the numbers 78, 100, 26, 74, create an expression that equals 122.\nYou can only use each "
     "number once.", "100 + 74 + 26 - 78", "100 + 22"),
    ("puzzle", "What is the prime factorization of 60?", "2^2 × 3 × 5", "4 × 15"),
    ("puzzle", "Please give the prime factorization of 60 (e.g. 12 = 2^2 * 3) using exponents.",
     "60 = 2² × 3 × 5", "5"),
    ("puzzle", "Form a palindrome from these letters: a, b, a. Output a single string with no spaces.", "aba", "aba1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "question", "right", "wrong"), READ, ids=range(len(READ)))
def test_a_question_that_is_read_whole_gets_its_vote(name: str, question: str, right: str, wrong: str) -> None:
    assert check(name, question, right).outcome == "pass", check(name, question, right).reason
    assert check(name, question, wrong).outcome == "fail", check(name, question, wrong).reason


# Questions of which a part would change the answer to the rest, and answers to that rest among others.
NOT_READ: list[tuple[str, tuple[str, ...]]] = [
    ('How many words in "the cat sat on the mat" start with the letter t?', ("6", "2")),
    ('How many vowels are in "banana" if you drop the first one?', ("3", "2")),
    ('Ignore the first word. How many words are in the sentence "the cat sat"?', ("3", "2")),
    ("Y counts as a vowel. How many vowels are in the word 'yes'?", ("1", "2")),
    ('How many r\'s are in "strawberry" and "raspberry"?', ("3", "6")),
    ('How many letters are in the word "five" in Spanish?', ("4", "5")),
    ("How many letters are in the alphabet?", ("8", "26")),
    ("How many digits are in pi?", ("0",)),
    ('How many characters are in "Hamlet"?', ("6", "31")),
    ('How many words are in "War and Peace"?', ("3", "587287")),
    ('How many times does a letter appear in "banana"?', ("3", "6")),
    ("How many e's are in it?", ("0",)),
    ('How many times does "a" appear in "a cat ate a banana"?', ("2", "7")),
    ('How many words are in "a well-known fact"?', ("3", "4")),
    ('How many characters are in the text "a b"?', ("3", "2")),
    ("How many vowels are in the word rhythm?", ("0", "1")),
    ("Write a Python function that tells how many r's are in strawberry.", ("3",)),
    ('How many r\'s are in "strawberry"? Multiply it by 2.', ("3", "6")),
    ("How many 's' are in 'it's his'?", ("2", "1")),
    ("Sort these months chronologically: March, January, February", ("February, January, March",)),
    ("Sort these events in order: Waterloo, Hastings, Agincourt", ("Agincourt, Hastings, Waterloo",)),
    ("Sort these months in ascending order: March, January, February", ("February, January, March",)),
    ("Sort these numbers in ascending order: IV, IX, V", ("IV, IX, V", "IV, V, IX")),
    ("Sort these words from smallest to largest: aaa, b, cc", ("aaa, b, cc", "b, cc, aaa")),
    ("Sort these numbers in ascending order and remove duplicates: 3, 1, 3", ("1, 3, 3", "1, 3")),
    ("Sort these numbers in ascending order: 3, 1, 2. Then reverse the list.", ("1, 2, 3", "3, 2, 1")),
    ("Sort these numbers in ascending order: 3, 1, 2. What is the second number?", ("1, 2, 3", "2")),
    ("Sort these numbers in ascending order: 3, 1, 2 but leave out 1", ("1, 2, 3", "2, 3")),
    ("Sort these weights in ascending order: 5 kg, 300 g, 2 kg", ("2 kg, 5 kg, 300 g", "300 g, 2 kg, 5 kg")),
    ("Sort these numbers in ascending order: 5 kg, 300 g, 2 kg", ("2 kg, 5 kg, 300 g", "300 g, 2 kg, 5 kg")),
    ("Sort these words alphabetically: zebra, älg", ("zebra, älg", "älg, zebra")),
    ("Sort these words alphabetically: co-op, cool, coop", ("co-op, cool, coop", "cool, co-op, coop")),
    ("Sort these numbers in non-increasing order: 3, 1", ("1, 3", "3, 1")),
    ("How long is it from 12:00 to 12:00?", ("0 hours", "24 hours")),
    ("Sort these numbers by their last digit in ascending order: 19, 22, 31", ("19, 22, 31", "31, 22, 19")),
    ("Sort these words alphabetically by their last letter: pear, fig", ("fig, pear",)),
    ("Sort these names alphabetically: John Smith, Adam Zed", ("Adam Zed, John Smith",)),
    ("Sort these words alphabetically: pear fig apple ignoring vowels", ("apple, fig, ignoring, pear, vowels",)),
    ("Sort these numbers in ascending order: 1,234, 567, 2,001", ("1, 2, 234, 567, 001", "567, 1,234, 2,001")),
    ("Do not sort these numbers in ascending order: 3, 1, 2", ("1, 2, 3",)),
    ("Reverse these words: abc, def", ("def, abc", "cba, fed")),
    ("Reverse the list and double each number: 1, 2", ("2, 1", "4, 2")),
    ("Write the word hello.", ("hello", "olleh")),
    ("Reverse the word order.", ("redro",)),
    ("Reverse the string 'hello' and make it upper case.", ("olleh", "OLLEH")),
    ("A movie starts at 10:30 and ends at 1:15. How long is the movie?", ("14 hours 45 minutes", "2 hours 45 minutes")),
    ("How many days are from 2024-01-01 to 2024-01-31 inclusive?", ("30 days", "31 days")),
    ("A festival starts on 2024-05-01 and ends on 2024-05-03. How long is the festival?", ("2 days", "3 days")),
    ("How many days are there from 2024-05-01 to 2024-05-03?", ("2 days", "3 days")),
    ("I work from 9:00 am to 5:00 pm with a 30 minute lunch. How long do I work?", ("8 hours", "7 hours 30 minutes")),
    ("How many hours are from 9:00 am to 5:00 pm Monday to Friday in a week?", ("8 hours", "40 hours")),
    ("A plane leaves at 9:00 am EST and arrives at 9:00 pm GMT. How long is the flight?", ("12 hours", "7 hours")),
    ("A flight to London departed at 9:00 and arrived at 21:00. How long was the flight?", ("12 hours", "7 hours")),
    ("How many working days are between 2024-01-01 and 2024-01-31?", ("30 days", "22 days")),
    ("A meeting started at 9:00 and ended at 11:00. How long was the first half?", ("2 hours", "1 hour")),
    ("Two runners started at 9:00 and finished at 11:00. How long did they run together?", ("2 hours", "4 hours")),
    ("How long is it from 9:00 to 5:00 pm?", ("8 hours", "20 hours")),
    ("How long is half the time between 9:00 and 11:00?", ("2 hours", "1 hour")),
    ("How long is it from 9:00 to 11:00, rounded up to a whole day?", ("2 hours", "1 day")),
    ("Find the largest prime in the prime factorization of 60.", ("5", "2 × 2 × 3 × 5")),
    ("How many primes are in the prime factorization of 60?", ("4", "3")),
    ("What is the prime factorization of 60 and 84?", ("2 × 2 × 3 × 5",)),
    ("What is the prime factorization of 6!?", ("2 × 3", "2^4 × 3^2 × 5")),
    ("What is the prime factorization of 2^10 - 1?", ("2", "3 × 11 × 31")),
    ("Make 15 using the numbers 3, 5, 7.", ("3 * 5",)),
    ("Make 15 using the numbers 3, 5, 7, each exactly once, without multiplication.", ("3 + 5 + 7",)),
    ("Make 15 using the numbers 3, 5, 7, each exactly once, in two ways.", ("3 + 5 + 7",)),
    ("How many ways are there to make 15 using the numbers 3, 5, 7, each exactly once?", ("3 + 5 + 7", "1")),
    ("Form a palindrome from these letters: a, b, a, c, c. Begin with c.", ("acbca", "cabac")),
]


@pytest.mark.parametrize(("question", "answers"), NOT_READ, ids=range(len(NOT_READ)))
def test_a_question_that_says_more_gets_no_vote(question: str, answers: tuple[str, ...]) -> None:
    for name in CHECKS:
        for answer in answers:
            found = check(name, question, answer)
            assert found.outcome == "unscored", (name, answer, found.reason)


def test_an_answer_in_another_form_is_not_refuted() -> None:
    assert check("ordering", "Spell the word 'hello' backwards.", "o-l-l-e-h").outcome == "unscored"
    assert check("ordering", "Spell the word 'Hello' backwards.", "olleh").outcome == "unscored"
    assert check("puzzle", "What is the prime factorization of 60?", "2, 3 and 5").outcome == "unscored"
    assert (
        check("puzzle", "Form a palindrome from the letters: a, b, a, with no spaces.", "a b a").outcome == "unscored"
    )
    assert check("puzzle", "Make 6 using all of these numbers: 3, 3 (no '=' sign).", "3 + 3 = 6").outcome == "unscored"


@pytest.mark.parametrize(
    "rest",
    [
        "", "Please, can you tell me?", "Thanks! Give only the final answer.", "1. Think.\n2. Answer in \\boxed{}.",
        "For example, seven becomes 7. Do not explain.", "Answer in one word (e.g. Lyon), without any text.",
    ],
)  # fmt: skip
def test_requests_and_forms_are_harmless(rest: str) -> None:
    assert only_requests(rest)


@pytest.mark.parametrize(
    "rest",
    [
        "Do not answer.", "Give it twice.", "Is it 3?", "in two words", "For example, 7. Ignore the last one.",
        "x > 2", "a" * 4000, "Answer in French",
    ],
)  # fmt: skip
def test_one_unknown_word_is_enough(rest: str) -> None:
    assert not only_requests(rest)


def test_an_example_ends_with_its_sentence() -> None:
    assert without_examples("Sort it, e.g. a, b. Then (example: c) stop.").split() == ["Sort", "it,", "Then", "stop."]
