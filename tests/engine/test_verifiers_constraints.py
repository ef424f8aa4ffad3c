"""Demands on the form of an answer."""

from __future__ import annotations

import pytest

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import verifier
from kaelum_graph.verifiers.demands import demands
from kaelum_graph.verifiers.lengths import count


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


def check(question: str, answer: str, *, text: str | None = None) -> Evidence:
    candidate = Candidate(
        rollout_id=RolloutId(0), worker=WorkerName("creative"), text=text if text is not None else answer, answer=answer
    )
    found = verifier("constraints").check(Query(text=question), candidate, NoSandbox())
    assert found.tier is Tier.CONSTRAINT
    return found


TEN = "one two three four five six seven eight nine ten"
TWELVE = f"{TEN} eleven twelve"
POEM = "Cold morning light upon the hill\nAll birds are quiet, waiting still\nTomorrow brings the thaw, it will"

DRAFTS = [
    ("Write a text of exactly 12 words.", TWELVE, f"{TWELVE} thirteen"),
    ("Describe the sea in at most 13 words.", TWELVE, f"{TWELVE} {TEN}"),
    ("Describe the sea in at least 12 words.", TWELVE, f"{TEN} eleven"),
    ("Describe the sea in under 20 words.", TWELVE, f"{TEN} {TEN}"),
    ("Write between 10 and 15 words about the sea.", TWELVE, f"{TWELVE} {TWELVE}"),
    ("Write a three-line poem.", POEM, POEM + "\nand one more line to spoil it"),
    (
        "Write exactly two sentences about rain.",
        "Rain falls softly on the old roof. It sings all through the long night.",
        "Rain falls softly on the old roof and it sings all through the long night.",
    ),
    (
        "Write 2 paragraphs about rain.",
        "Rain falls softly on the old roof.\n\nIt sings all through the long night.",
        "Rain falls softly on the old roof. It sings all through the long night.",
    ),
    (
        "Give me a list with exactly 3 bullet points.",
        "- one thing that is long\n- two things that are long\n- three things in all",
        "- one thing that is quite a bit longer\n- two things that are longer still",
    ),
    (
        'Write a story that must include the words "river" and "moon".',
        "The river ran under the moon and nobody ever saw it go by again",
        "The river ran under the sun and nobody ever saw it go by again",
    ),
    (
        "Write about love without using the word 'love'.",
        "It is a warm feeling that fills the heart and stays there for long",
        "Love is a warm feeling that fills the heart and stays there for long",
    ),
    (
        'Start with "Once upon a time" and tell a short story.',
        "Once upon a time there was a cat who lived in a very old house",
        "There was once upon a time a cat who lived in a very old house",
    ),
    (
        'Tell a story that ends with "The end."',
        "There was a cat who lived in a very old house by the sea. The end.",
        "There was a cat who lived in a very old house by the sea, always.",
    ),
    ("Write the text in all lowercase.", TWELVE, TWELVE.capitalize()),
    ("Write the slogan in all capital letters.", TWELVE.upper(), TWELVE),
    ('Write an acrostic for "CAT".', POEM, POEM.replace("Cold", "Warm")),
]


@pytest.mark.parametrize(("question", "good", "bad"), DRAFTS, ids=range(len(DRAFTS)))
def test_drafts(question: str, good: str, bad: str) -> None:
    passed = check(question, good)
    assert passed.outcome == "pass", passed.reason
    failed = check(question, bad)
    assert failed.outcome == "fail"
    assert failed.reason


def test_all_demands_must_hold_and_the_broken_one_is_named() -> None:
    question = 'Write exactly 12 words, in all lowercase, and include the word "sea".'
    assert len(demands(question)) == 3
    assert check(question, f"{TEN} the sea").outcome == "pass"
    assert check(question, TWELVE).reason == "'sea' is missing"
    assert check(question, f"{TEN} sea").reason == "11 words, exactly 12 are asked for"


VALUES = [
    ("Is 7 prime? Answer Yes or No.", ["Yes", "no.", "True"], ["7", "maybe"]),
    ("What is the capital of France? Answer with one word.", ["Paris", "**Lyon**"], ["The city of Paris"]),
    ("How long did it take? Answer in HH:MM:SS.", ["00:34:28"], ["34 minutes", "00:34"]),
    (
        'Return a valid JSON object with the keys "name" and "age".',
        ['{"name": "A", "age": 3}', '```json\n{"name": 1, "age": 2}\n```'],
        ['{"name": "A"}', "name: A", '["name"]'],
    ),
]


@pytest.mark.parametrize(("question", "good", "bad"), VALUES, ids=range(len(VALUES)))
def test_a_value_in_the_right_form_is_no_proof(question: str, good: list[str], bad: list[str]) -> None:
    for answer in good:
        assert check(question, answer).outcome == "unscored", answer
        assert check(question, answer, text=f"I think so.\nAnswer: {answer}").outcome == "unscored"
    for answer in bad:
        assert check(question, answer).outcome == "fail", answer


NO_DEMAND = [
    "What is the capital of France?",
    "How many words are in 'a b c'?",
    "Write about 50 words on rain.",
    "What are the first two words of the Bible?",
    "A train takes 3 hours and has 5 carriages.",
    "The password must be 'x' (for example: use exactly 3 words).",
    "Sort these words in ascending order: b, a",
    "Solve 3x + 5 = 20",
    "How long was it? Answer in HH:MM:SS.mmm.",
    "Each line has 3 words. How many words are in 4 lines?",
]


@pytest.mark.parametrize("question", NO_DEMAND)
def test_no_demand_no_vote(question: str) -> None:
    assert check(question, TWELVE).outcome == "unscored"


def test_an_answer_cut_out_of_a_text_is_not_held_to_a_drafts_demands() -> None:
    found = check("Solve it and explain in exactly 2 sentences.", "42", text="It is so. Hence it is.\nAnswer: 42")
    assert found.outcome == "unscored"


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("it's a well-known fact", "words", 4),
        ("- one two\n- three", "words", 3),
        ("Dr. Who paid 3.50 today. Really? Yes!", "sentences", 3),
        ("a\n\nb\nc", "lines", 3),
        ("a\n\nb\nc", "paragraphs", 2),
        ("1. a\n2. b\ntext", "items", 2),
        (" abc ", "characters", 3),
    ],
)
def test_count(text: str, unit: str, number: int) -> None:
    assert count(text, unit) == number


@pytest.mark.parametrize(
    ("worker", "tier"), [("creative", Tier.CONSTRAINT), ("analysis", Tier.CONSTRAINT), ("factual", Tier.CROSS_CHANNEL)]
)
def test_the_form_of_a_text_that_states_facts_is_no_anchor(worker: str, tier: Tier) -> None:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName(worker), text=TWELVE, answer=TWELVE)
    query = Query(text="Describe the Roman Empire in exactly 12 words.")
    found = verifier("constraints").check(query, candidate, NoSandbox())
    assert (found.outcome, found.tier) == ("pass", tier)
    assert found.reason.startswith("form checked: ")
    longer = Candidate(rollout_id=RolloutId(0), worker=WorkerName(worker), text=TWELVE * 2, answer=TWELVE * 2)
    assert verifier("constraints").check(query, longer, NoSandbox()).tier is Tier.CONSTRAINT
