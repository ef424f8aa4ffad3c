"""Puzzles of truth-tellers and liars: a right answer never fails, a wrong one never passes, the unread gets no vote."""

from __future__ import annotations

import itertools
import re

import pytest

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS, check_safely, verifier
from kaelum_graph.verifiers.liar_kinds import Kinds, kinds_defined
from kaelum_graph.verifiers.liar_puzzles import Puzzle, read_puzzle
from kaelum_graph.verifiers.liar_statements import World, condition
from kaelum_graph.verifiers.liars import solutions

ISLAND = "On an island, knights always tell the truth and knaves always lie. "
TWO = (
    ISLAND
    + 'You meet two islanders, Ann and Bob. Ann says: "Bob is a knave." Bob says: "We are both knights." Who is what?'
)


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


def check(question: str, answer: str | None) -> Evidence:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("logic"), text=answer or "", answer=answer)
    return check_safely(verifier("liars"), Query(text=question), candidate, NoSandbox())


# puzzle, and who tells the truth, in the order in which the people are named
PUZZLES = [
    (TWO, "TF"),
    (ISLAND + 'You meet A and B. A says "I am a knave or B is a knight." What are A and B?', "TT"),
    (
        "There are two kinds of people on this planet: truth-tellers, who always tell the truth, and liars, "
        "who always lie. "
        'You meet Kim, Lee and Max. Kim says, "All of us are liars." Lee says, "Exactly one of us is a truth-teller." '
        "Max says nothing. Determine who is a truth-teller and who is a liar.",
        "FTF",
    ),
    (ISLAND + 'John and Bill are residents of the island. John says: "We are both knaves." Who is what?', "FT"),
    (ISLAND + "John says: “We are the same kind.” Bill says: “We are of different kinds.” Who is who?", "FT"),
    (ISLAND + 'A says, "At least one of us is a knave." B says nothing. What are A and B?', "TF"),
    (ISLAND + 'A: "I am a knave if and only if B is a knave." B: "A and I are different kinds." Who is who?', "FT"),
    (
        ISLAND + "Zoey and Mel are islanders. Zoey tells you that Mel is a knave. Mel says, 'Neither Zoey nor I are "
        "knaves.' So who is a knight and who is a knave?",
        "TF",
    ),
    (
        ISLAND + "You meet Joe and Bozo. Joe says that Bozo is a knave. Bozo says that exactly one of them is "
        "a knight. "
        "Can you determine who is a knight and who is a knave?",
        "FT",
    ),
    (
        ISLAND + 'You meet Sue and Zed. Sue says "Zed would say that I am a knave." Zed says "Sue is a knave." '
        "Who is who?",
        "TF",
    ),
    (
        ISLAND + 'You meet three people, A, B and C. A says "B is a knave". B says "A and C are both knaves". '
        'C says "A is a knave if B is a knight". Who is what?',
        "TFT",
    ),
    (
        ISLAND + 'A and B are two inhabitants. A says: "The other one is a knave." B says: "I am not a knave and '
        'neither of us is a knave." Tell me who is a knight and who is a knave.',
        "TF",
    ),
    (
        ISLAND + 'You meet Al, Bo and Cid. Exactly one of them is a knight. Al says "Bo is a knight." '
        'Bo says "Cid is a knave." Cid says "I am a knight." Who is who?',
        "FFT",
    ),
    (
        "Heroes always tell the truth and villains always lie. Mia says that Noah is a villain, and Noah says that "
        "Mia and Noah are both heroes. Who is a hero and who is a villain?",
        "TF",
    ),
    (
        "Each inhabitant of the island is either an angel, who always tells the truth, or a devil, who always lies. "
        'Two inhabitants, Ada and Ben, talk to you. Ada claims that Ben is a devil. "Ada is lying," says Ben, '
        '"and we are both angels." Who is who?',
        "TF",
    ),
    (
        "In a village, every wolf always lies and every sheep always tells the truth. You meet Ivy and Jon. "
        'According to Ivy, "if Jon is a sheep, then I am a wolf". In Jon\'s words: "Ivy is a sheep". What is '
        "each of them?",
        None,
    ),
    (
        "Sages only make true statements; fools only make false statements. You meet Li and Mo. "
        "Li: 'Mo is the only sage here.' Mo: 'Li and I are not the same.' Who is what?",
        "FF",
    ),
    (ISLAND + 'Ann denies that Bob is a knight, while Bob says "At most one of us is a knave." Who is who?', "FT"),
    (
        "On this planet there are saints and sinners. Saints never lie. Sinners never tell the truth. You run into Tom "
        'and Uma. "Uma is a saint," Tom declared. As Uma put it, "Exactly two of us are sinners". Who is what?',
        None,
    ),
    (
        ISLAND + 'You meet Al, Bo and Cid. Al says "It is not the case that (Bo is a knave and Cid is a knave)." '
        'Bo says "Al is a knave and Cid is a knave." Cid says "Bo is a knave." Identify each.',
        "TFT",
    ),
    (
        ISLAND + 'Two inhabitants named Pat and Quin stand before you. Pat says "If I am a knight, then Quin is a '
        'knight." Quin says "Pat is telling the truth." Who is who?',
        "TT",
    ),
    (
        ISLAND + '\n- Rex was heard saying, "Sam is lying."\n- Sam stated, "Tia is a knave."\n- Tia '
        'remarked, "Rex and '
        'Sam are both knaves."\nFor each person, say whether they are a knight or a knave.',
        "FTF",
    ),
    (
        ISLAND + '"Either Bo is a knight or I am a knave, but not both," says Al. Bo says "Al is a knight." Who '
        "is who?",
        "TT",
    ),
    (
        'Truth tellers always tell the truth, liars always lie. You meet X and Y. X said: "Both of us are liars." '
        "Y remained silent. Who is the liar and who is the truth teller?",
        "FT",
    ),
    (
        ISLAND + 'You meet Ed, Flo, Gus and Hal. Ed says "Flo and Gus are of the same type." Flo says "Hal is '
        'a knave." '
        'Gus says "At least three of us are knights." Hal says "Neither Ed nor Gus is a knight." Who is what?',
        "TTTF",
    ),
]
"""None: read, but it has no solution."""


def assigned(puzzle: Puzzle, honest: tuple[bool, ...]) -> str:
    """`honest` as an answer: "Ann is a knight, Bob is a knave"."""
    names = {True: puzzle.kinds.honest, False: puzzle.kinds.lying}
    return ", ".join(f"{name} is a {names[kind]}" for name, kind in zip(puzzle.people, honest, strict=True))


@pytest.mark.parametrize(("question", "solution"), PUZZLES, ids=range(len(PUZZLES)))
def test_only_the_solution_passes(question: str, solution: str | None) -> None:
    puzzle = read_puzzle(question)
    assert isinstance(puzzle, Puzzle), puzzle
    for honest in itertools.product((True, False), repeat=len(puzzle.people)):
        found = check(question, assigned(puzzle, honest))
        said = "".join("T" if kind else "F" for kind in honest)
        expected = "unscored" if solution is None else "pass" if said == solution else "fail"
        assert (found.outcome, found.tier) == (expected, Tier.CONSTRAINT), (said, found.reason)
    assert check(question, None).outcome == "unscored"


RIGHT = [
    "Ann is a knight and Bob is a knave.",
    "Ann is a knight, and Bob is a knave",
    "Ann: knight\nBob: knave",
    "- **Ann**: Knight\n- **Bob**: Knave",
    "Bob is a knave; Ann is a knight",
    "Therefore, Ann is the knight and Bob is the knave.",
    "Ann is a knight, while Bob is not a knight",
    "Knights: Ann. Knaves: Bob.",
    '{"Ann": "knight", "Bob": "knave"}',
    "Ann = knight, Bob = knave",
    "ann is a knight, bob is a knave",
    "Ann tells the truth and Bob is lying.",
    "Ann is a knight (truth-teller) and Bob is a knave (liar).",
    "So Bob must be a knave because nobody could say so truly. Ann is a knight.",
    "| Ann | knight |\n| Bob | knave |",
    r"\text{Ann is a knight, Bob is a knave}",
]
WRONG = [
    "Ann is a knave and Bob is a knight.",
    "Ann and Bob are both knights.",
    "Both are knaves.",
    "They are all knaves",
    "Knights: Ann, Bob. Knaves: none.",
    "Bob is a knight.",
    "Ann is not a knight.",
    "Ann is a knight, Bob is a knave, and Ann is a knave.",
]
UNDECIDED = [
    "Ann is a knight.",
    "Bob is a knave",
    "Ann is a knight/knave, and Bob is a knight/knave",
    "Either Ann is a knight and Bob is a knave, or both are knaves.",
    "If Ann is a knight, Bob is a knave.",
    "Suppose Ann is a knight. Then Bob is a knave.",
    "Ann is a knight, Bob is a knave, Carl is a wizard.",
    "Ann is a knight and Bob might be a knave",
    "Ann says Bob is a knave. Bob says both are knights.",
    "It is false that Ann is a knave and Bob is a knight",
    "one knight, one knave",
    "Ann and Bob are a knight and a knave respectively.",
    "All three are knights.",
    "Yes",
    "42",
    "",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_a_right_answer_passes_in_any_wording(answer: str) -> None:
    assert check(TWO, answer).outcome == "pass", check(TWO, answer).reason


@pytest.mark.parametrize("answer", WRONG)
def test_a_wrong_answer_fails_in_any_wording(answer: str) -> None:
    assert check(TWO, answer).outcome == "fail", check(TWO, answer).reason


@pytest.mark.parametrize("answer", UNDECIDED)
def test_an_answer_that_leaves_someone_open_gets_no_vote(answer: str) -> None:
    assert check(TWO, answer).outcome == "unscored"


def test_one_letter_names_are_told_from_articles() -> None:
    question = ISLAND + 'You meet A and B. A says: "B is a knave." B says: "We are both knights." Who is what?'
    assert check(question, "A is a knight, and B is a knave").outcome == "pass"
    assert check(question, "A knight is B, a knave is A").outcome == "unscored"
    assert check(question, "A: knave, B: knight").outcome == "fail"


MEET = ISLAND + "You meet Ann and Bob. "
UNREAD = [
    ISLAND + 'There are also spies, who sometimes lie. You meet A, B and C. A says "B is a spy." B says "A is '
        'a knight".',
    MEET + 'Ann whistles. Bob says "Ann is a knave." Who is who?',
    MEET + 'Ann says "Bob once told me that he is a knave." Bob says "Ann is a knave." Who is who?',
    MEET + 'Ann says "It is raining." Bob says "Ann is a knave." Who is who?',
    MEET + 'On Mondays they swap roles. Ann says "Bob is a knave." Bob says "We are both knights." Who is who?',
    'You meet Ann and Bob. Ann says "Bob is a knave." Bob says "We are both knights." Who is who?',
    'Knights usually tell the truth and knaves always lie. You meet Ann and Bob. Ann says "Bob is a knave." '
    'Who is who?',
    'Knights sometimes tell the truth, knaves always lie. Ann says "Bob is a knave." Bob says "Ann is a '
    'knave." Who is who?',
    "Knights do not always tell the truth; knaves always lie. Ann says 'Bob is a knave.' Bob says 'I am a knave.'",
    MEET + 'Ann says "Bob is a knave and Bob is a knight or I am a knight." Bob says "We are both knights." '
        'Who is who?',
    ISLAND + 'You meet Ann, Bob and Cy. Ann says "We are knaves." Bob says "Cy is a knave." Who is who?',
    ISLAND + 'You meet three islanders, Ann and Bob. Ann says "Bob is a knave." Bob says "We are both '
        'knights." Who is who?',
    MEET + 'Ann says "Bob is a knave. I am a knight." Bob says "We are both knights." Who is who?',
    MEET + 'Ann asks "Are you a knave?" Bob says "Yes." Who is who?',
    MEET + "Ann says she is a knight. Bob says Ann is a knave. Who is who?",
    MEET + 'Ann says that I am a knave. Bob says "Ann is a knave." Who is who?',
    MEET + 'Ann falsely says "Bob is a knave." Bob says "We are both knights." Who is who?',
    ISLAND + 'You meet Ann, Bob and Cy. Ann says that all of them are knaves. Bob says "Cy is a knave". Who is who?',
    "Alice always tells the truth and Bob always lies. Alice says it will rain. Bob says it won't. Who is right?",
    ISLAND + "You come to a fork in the road. What do you ask?",
    MEET + 'Ann says "Bob is not a knave unless I am a knave." Who is who?',
    MEET + 'Ann says "It is not true that I am a knave and Bob is a knight." Who is who?',
    MEET + 'Ann says "Either I am a knave or Bob is a knight." Who is who?',
    MEET + 'Ann says "I am a knave." Bob says "Ann is a knight". Who is who?',
    MEET + 'Ann says "I am a knight." Bob says "I am a knight". Who is who?',
    MEET + 'Ann says "Dan is a knave." Bob says "Ann is a knave". Who is who?',
    MEET + 'Ann says "Bob is a knave." Dan says "We are both knights". Who is who?',
    MEET + 'One of them wears a hat. Ann says "The one with the hat is a knave." Bob says "Ann is a knave". '
        'Who is who?',
    MEET + 'Then Ann says "I am the only knight." Bob adds: "That is not so." Who is who?',
    MEET + 'Ann says "Exactly one of them is a knave." Bob says "Ann is a knave." Who is who?',
    MEET + 'Ann says "You are a knave." Bob says "Ann is a knave." Who is who?',
    "Knights always tell the truth and knaves can lie. Ann says 'Bob is a knave.' Bob says 'We are both knights.'",
    ISLAND + "Hint: Bob is a knave. Ann says 'Bob is a knave.' Bob says 'We are both knights.'",
    "Is it a lie that 2 + 2 = 5? All knights tell the truth.",
    "",
]  # fmt: skip


@pytest.mark.parametrize("question", UNREAD, ids=range(len(UNREAD)))
def test_what_cannot_be_read_whole_gets_no_vote(question: str) -> None:
    for kinds in itertools.product(("knight", "knave"), repeat=2):
        answer = f"Ann is a {kinds[0]} and Bob is a {kinds[1]}"
        assert check(question, answer).outcome == "unscored", (answer, check(question, answer).reason)


CONDITIONS = [
    ("@0 is a #t", "TT TF"),
    ("@0 is not a #t", "FT FF"),
    ("@0 is a #t and @1 is a #f", "TF"),
    ("@0 is a #t or @1 is a #t", "TT TF FT"),
    ("if @0 is a #t then @1 is a #t", "TT FT FF"),
    ("if @0 is a #t, @1 is a #t", "TT FT FF"),
    ("@0 is a #t if @1 is a #t", "TT TF FF"),
    ("@0 is a #t only if @1 is a #t", "TT FT FF"),
    ("@0 is a #t if and only if @1 is a #t", "TT FF"),
    ("it is not the case that (@0 is a #t and @1 is a #t)", "TF FT FF"),
    ("(@0 is a #t and @1 is a #t) or (@0 is a #f and @1 is a #f)", "TT FF"),
    ("@0 is a #t or @1 is a #t, but not both", "TF FT"),
    ("neither @0 nor @1 is a #f", "TT"),
    ("neither of us is a #t", "FF"),
    ("both of us are #t", "TT"),
    ("we are both #f", "FF"),
    ("we are not both #t", "TF FT FF"),
    ("at least one of us is a #f", "TF FT FF"),
    ("exactly one of us is a #t", "TF FT"),
    ("at most one of us is a #t", "TF FT FF"),
    ("there is exactly one #t among us", "TF FT"),
    ("we are the same kind", "TT FF"),
    ("@0 and @1 are of different types", "TF FT"),
    ("@1 is not the same type as @0", "TF FT"),
    ("@1 would say that @0 is a #f", "FT TF"),
    ("@0 is the only #t here", "TF"),
    ("@0 is a #t or @1 is a #t and @0 is a #f", None),
    ("it is not the case that @0 is a #t and @1 is a #t", None),
    ("@1 would say that @0 is a #f and @1 is a #f", None),
    ("we are not #t", None),
    ("if @0 is a #t if @1 is a #t then @0 is a #f", None),
    ("@2 is a #t", None),
    ("@0 is happy", None),
    ("all three of us are #t", None),
]


@pytest.mark.parametrize(("text", "true_in"), CONDITIONS)
def test_a_statement_is_true_in_exactly_its_cases(text: str, true_in: str | None) -> None:
    holds = condition(text, people=2)
    if true_in is None:
        assert holds is None
        return
    assert holds is not None
    worlds = itertools.product((True, False), repeat=2)
    found = {"".join("FT"[kind] for kind in honest) for honest in worlds if holds(World(honest=honest))}
    assert found == set(true_in.split())


def test_a_fail_says_whose_words_do_not_fit_and_not_the_solution() -> None:
    reason = check(TWO, "Ann is a knight and Bob is a knight").reason
    assert (
        reason == "Ann a knight and Bob a knight: then Ann's words 'Bob is a knave' are false, but a knight always "
        "tells the truth"
    )
    reason = check(TWO, "Ann is a knave and Bob is a knave").reason
    assert reason == "Ann a knave and Bob a knave: then Ann's words 'Bob is a knave' are true, but a knave always lies"
    assert (
        check(TWO, "Ann is a knight, Bob is a knave, Ann is a knave").reason == "it calls Ann both a knight and a knave"
    )
    assert (
        check(TWO, "Bob is a knight").reason
        == "with Bob a knight, nothing that the others may be fits all that is said"
    )


def test_a_reason_names_the_sentence_that_was_not_read() -> None:
    assert (
        check(MEET + 'Ann says "It is raining." Who is who?', "Ann is a knight").reason
        == "'It is raining' could not be read"
    )
    assert check(TWO, "Ann is a knight").reason == "it does not say what Bob is"
    swapped = TWO.replace("Who is", "On Mondays they swap. Who is")
    assert check(swapped, "Ann is a knight, Bob is a knave").reason == "'On Mondays they swap.' could not be read"
    open_question = MEET + "Ann says 'I am a knight.' Bob says 'I am a knight.' Who is who?"
    assert check(open_question, "Ann is a knight, Bob is a knave").reason == "the puzzle has 4 solutions"


def test_the_kinds_are_what_always_tells_the_truth_and_what_always_lies() -> None:
    assert kinds_defined("Elves never tell lies. An orc always lies.") == Kinds(honest="elf", lying="orc")
    assert kinds_defined("Gnomes always tell lies, and trolls, who never lie, live here.") == Kinds(
        honest="troll", lying="gnome"
    )
    for text in (
        "Elves tell the truth. James always lies.",
        "Elves always lie. Orcs always lie.",
        "Orcs tell the truth.",
    ):
        assert kinds_defined(text) is None


def test_two_readings_of_or_that_come_to_the_same_are_decided() -> None:
    question = MEET + 'Ann says "Either Bob is a knave or I am a knave." Bob says "Ann is a knave." Who is who?'
    puzzle = read_puzzle(question)
    assert isinstance(puzzle, Puzzle), puzzle
    assert solutions(puzzle, narrow=True) == solutions(puzzle, narrow=False) == [(True, False)]
    assert check(question, "Ann is a knight, Bob is a knave").outcome == "pass"


@pytest.mark.parametrize(("people", "depth"), [(2, 2), (3, 2), (4, 2), (3, 3), (5, 3)])
def test_generated_puzzles_are_read_and_decided(people: int, depth: int) -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym")
    tasks = reasoning_gym.create_dataset(
        "knights_knaves", size=24, seed=11, n_people=people, depth_constraint=depth, width_constraint=depth
    )
    read = 0
    for task in tasks:
        right = check(task["question"], task["answer"])
        assert right.outcome != "fail", (task["question"], right.reason)
        read += right.outcome == "pass"
        words = task["metadata"]["knight_knave_terms"]
        for kinds in itertools.product((True, False), repeat=people):
            if kinds != tuple(task["metadata"]["solution"]):
                answer = ", and ".join(
                    f"{name} is {words['a_knight'] if kind else words['a_knave']}"
                    for name, kind in zip(task["metadata"]["names"], kinds, strict=True)
                )
                assert check(task["question"], answer).outcome == "fail", (task["question"], answer)
    assert read == 24, "every generated puzzle can be read"


def test_a_sentence_taken_out_never_turns_a_pass_into_another_solution() -> None:
    """With less said there are more solutions, so what still has one has the same."""
    for question, solution in PUZZLES:
        for said in re.findall(r'"[^"]*"', question):
            found = read_puzzle(question.replace(said, '"The sky is blue."', 1))
            assert isinstance(found, str), (solution, "an unread statement stops the reading")


def test_it_runs_for_every_worker() -> None:
    assert "liars" in QUERY_CHECKS
