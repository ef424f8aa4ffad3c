"""Categorical questions: a right answer never fails, a wrong one never passes, and the unread gets no vote."""

from __future__ import annotations

import itertools
import re

import pytest

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import QUERY_CHECKS, check_safely, verifier
from kaelum_graph.verifiers.categorical import claim, fit, follows
from kaelum_graph.verifiers.plurals import singular
from kaelum_graph.verifiers.syllogisms import read_said


class NoSandbox(Sandbox):
    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
        raise AssertionError("nothing is to be run here")


def check(question: str, answer: str | None) -> Evidence:
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("logic"), text=answer or "", answer=answer)
    return check_safely(verifier("syllogism"), Query(text=question), candidate, NoSandbox())


# question, right answer, wrong answer
QUESTIONS = [
    ("All bloops are razzies and all razzies are lazzies. Are all bloops definitely lazzies?", "Yes", "No"),
    ("If all bloops are razzies and all razzies are lazzies, are all bloops lazzies?", "yes", "no"),
    ("All men are mortal. Socrates is a man. Does it follow that Socrates is mortal?", "Yes, it follows.", "No"),
    (
        "Premise 1: All men are mortal.\nPremise 2: Socrates is a man.\nConclusion: Socrates is mortal.\n"
        "Is this argument valid?",
        "valid",
        "invalid",
    ),
    (
        "Is the following argument valid? All cats are mammals. No mammals are reptiles. Therefore, no cats "
        "are reptiles.",
        "Valid",
        "Not valid",
    ),
    ("No A are B. Some C are B. Therefore, some C are not A: valid or invalid?", "valid", "invalid"),
    (
        "All A are B. All C are B. Therefore, all A are C. Valid or invalid?",
        "The argument is invalid.",
        "The argument is valid.",
    ),
    (
        "Given the following premises:\n- Every poet is a dreamer.\n- Some poets are sailors.\n"
        "Can we conclude that some sailors are dreamers?",
        "Yes, we can conclude that.",
        "No, we cannot conclude that.",
    ),
    ("Every wolf is a predator. Some wolves are gray. Can we conclude that some predators are gray?", "yes", "no"),
    ("Only members are voters. Kim is a voter. Is Kim a member?", "Yes", "No"),
    (
        "Not all birds are swimmers. All swimmers are divers. Does it follow that some birds are not divers?",
        "No",
        "Yes",
    ),
    ("True or false: given that all dogs are animals and Rex is a dog, Rex is an animal.", "True", "False"),
    ("All dogs are animals. Rex is a dog. True or false: Rex is an animal.", "True", "false"),
    ("All dogs are animals. Rex is a dog. Is Rex an animal? Answer yes or no.", "Yes", "No"),
    ("No fish are mammals. Flip is a fish. Is Flip a mammal?", "No", "Yes"),
    (
        "All squares are rectangles. All rectangles are polygons. Some polygons are not circles. Does it necessarily "
        "follow that some squares are not circles?",
        "No, it does not necessarily follow.",
        "Yes, it follows",
    ),
    (
        "Assume that all artists are dreamers, and no dreamers are bankers. Can we infer that no bankers are artists?",
        "Yes",
        "No",
    ),
    ("All roses are flowers. Some flowers are red. Can we conclude that some roses are red?", "No", "Yes"),
    (
        "Some doctors are golfers. All golfers are early risers. Therefore some doctors are early risers. "
        "Is this syllogism valid?",
        "Yes, the syllogism is valid",
        "No, the syllogism is not valid",
    ),
    (
        "All lions are cats. All cats are animals. All animals are living things. Nala is a lion. Must it be true that "
        "Nala is a living thing?",
        "Yes",
        "No",
    ),
    (
        'All actors are singers. Some singers are not dancers. Is the conclusion "Some actors are not dancers" '
        "true, false, "
        "or uncertain?",
        "Uncertain",
        "True",
    ),
    (
        "All A are B. Some B are C. Is it true that some A are C? Answer true, false, or cannot be determined.",
        "It cannot be determined.",
        "False",
    ),
    ("All heroes are brave. Ann is a hero. So Ann is brave. Is this a valid argument?", "Yes", "No"),
    ("No reptiles are furry. All snakes are reptiles. Therefore, no snakes are furry. True or false?", "True", "False"),
    (
        "Everyone who is a pilot is a traveler. Dana is a pilot. Can it be concluded that Dana is a traveler?",
        "Yes",
        "No",
    ),
    (
        "There are dogs that are not pets. All pets are animals. Do the premises imply that some animals are not dogs?",
        "No",
        "Yes",
    ),
    ("All A are B. Does it follow that all B are A?", "No", "Yes"),
    ("Some A are B. Does it follow that some B are A?", "Yes", "No"),
    ("If no gloves are hats and all mittens are gloves, does it follow that no mittens are hats?", "yes", "no"),
    (
        "Based on the statements below, does it follow that all poets are mortal?\n1) All poets are human.\n"
        "2) All humans are mortal.",
        "Yes",
        "No",
    ),
    (
        "Consider these statements:\n1. Some lawyers are not birds\n2. No birds are tigers\n\nDoes it logically follow "
        "that:\nNo tigers are birds?\n(Answer Yes or No)",
        "Yes",
        "No",
    ),
    ("All oxen are slow. Bo is an ox. Does it follow that Bo is slow?", "Yes", "No"),
    (
        "Assume that every class has at least one member. All children are students. All students are learners. "
        "Does it follow that some learners are children?",
        "Yes",
        "No",
    ),
    ("Nobody who is a miner is a banker. Lou is a miner. Does it follow that Lou is not a banker?", "Yes", "No"),
    ("Sofas are seats. All seats are things. Can we conclude that all sofas are things?", "Yes", "No"),
    (
        "All dogs are pets. Some cats are dogs. Based on these two statements, are any cats pets?",
        "Yes",
        "No",
    ),
    ("Rex is a dog. Rex is not a pet. Can we conclude that some dogs are not pets?", "Yes", "No"),
    (
        "All A are B. All B are C. No C are D. Some E are D. All E are F. Does it follow that some F are not A?",
        "Yes",
        "No",
    ),
]


@pytest.mark.parametrize(("question", "right", "wrong"), QUESTIONS, ids=range(len(QUESTIONS)))
def test_right_answers_pass_and_wrong_ones_fail(question: str, right: str, wrong: str) -> None:
    found = check(question, right)
    assert (found.outcome, found.tier) == ("pass", Tier.CONSTRAINT), found.reason
    assert check(question, wrong).outcome == "fail", check(question, wrong).reason
    assert check(question, None).outcome == "unscored"
    assert check(question, "42").outcome == "unscored"


UNREAD = [
    "All dogs are animals. Most animals are wild. Does it follow that some dogs are wild?",
    "All dogs are animals. Few cats are dogs. Does it follow that few cats are animals?",
    "All that glitters is not gold. This ring glitters. Does it follow that this ring is not gold?",
    "All cats are not dogs. Tom is a cat. Does it follow that Tom is not a dog?",
    "All men are mortal. Socrates is a man. His wife is Xanthippe. Does it follow that Socrates is mortal?",
    "All dogs bark. Rex is a dog. Does it follow that Rex barks?",
    "All roses are flowers. Does it follow that all red roses are flowers?",
    "All roses are flowers. All red roses are gifts. Does it follow that some roses are gifts?",
    "All dogs are mammals. Does it follow that all dogs are animals?",
    "Some cats are pets. No cats are pets. All pets are dogs. Does it follow that all cats are dogs?",
    "All unicorns are horses. Does it follow that some horses are unicorns?",
    "All A are B. All B are C. Which of the following follows: all A are C, or all C are A?",
    "All A are B. All B are C. What follows?",
    "All A are B or C. No A are B. Does it follow that all A are C?",
    "All A are B. Conclusions: I. Some B are A. II. All B are A. Which conclusions follow?",
    "Swans are white. Rex is a swan. All white things are pale. Does it follow that Rex is white?",
    "All A are B. Unless C are D, no B are C. Does it follow that some A are C?",
    "All cats are animals. Is it possible that some animals are not cats?",
    "Exactly two cats are black. All black things are dark. Does it follow that some cats are dark?",
    "All smokers are ill. Some nonsmokers are fit. Does it follow that some smokers are fit?",
    "All kings are men. John is the king. Does it follow that John is a man?",
    "All A are B. Does it not follow that all B are A?",
    "Is the argument invalid? All A are B. Therefore, all B are A.",
    "All cats are animals. Some cats are black. Is it true that some animals are white?",
    "All cats are mammals. Some mammals are pets. Are some cats pets?",
    "All cats are mammals. Tom is a cat. Is Tom a mammal? Is Tom a cat?",
    "Are all swans white?",
    "All dogs are animals. Given that dogs bark, is Rex definitely an animal?",
    "All dogs are pets. Rex is a dog. Is Rex not a pet?",
    "If any dogs are cats and all cats are pets, are all dogs definitely pets?",
    "The following statements are false: All A are B. All B are C. Does it follow that all A are C?",
    "Every morning Tom is late. Is Tom late?",
    "No problem! What is 2 + 2?",
    "All birds are animals except penguins. Pingu is a penguin. Does it follow that Pingu is an animal?",
    "All cats are animals. Some say that no animals are pets. Does it follow that no cats are pets?",
    "Think of Rex as a dog. All dogs are animals. Rex is a cat. Does it follow that Rex is an animal?",
    "All gold is shiny. Gold is a metal. Does it follow that some metal is shiny?",
    "Some A are B. All B are C. All D are E. All F are G. All H are I. Does it follow that some A are D?",
    "All goods are taxed. Ann is good. Does it follow that Ann is taxed?",
    "",
]


@pytest.mark.parametrize("question", UNREAD, ids=range(len(UNREAD)))
def test_what_cannot_be_read_whole_gets_no_vote(question: str) -> None:
    for answer in ("Yes", "No", "valid", "invalid"):
        assert check(question, answer).outcome == "unscored", (answer, check(question, answer).reason)


def test_existence_that_was_not_said_decides_nothing() -> None:
    question = "All unicorns are horses. Does it follow that some horses are unicorns?"
    assert check(question, "Yes").reason == "the answer depends on whether every class is taken to have a member"
    assert check("There are unicorns. " + question, "Yes").outcome == "pass"
    assert check("Assume that every class has at least one member. " + question, "No").outcome == "fail"
    assert check("Do not assume that any class has a member. " + question, "No").outcome == "pass"


def test_reasons_say_what_is_wrong() -> None:
    found = check("All dogs are pets. All cats are pets. Does it follow that all dogs are cats?", "Yes")
    assert found.reason == "the premises can all be true while some dogs are not cats"
    found = check("All dogs are pets. Rex is a dog. Does it follow that Rex is a pet?", "No")
    assert found.reason == "no case that the premises allow breaks the conclusion"
    assert check("All dogs bark. Does it follow that Rex barks?", "No").reason == "'All dogs bark.' could not be read"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Yes", "yes"), ("yes.", "yes"), ("True", "yes"), ("It follows.", "yes"), ("The conclusion follows "
            "logically", "yes"),
        ("Yes, because all cats are animals.", "yes"), ("**Valid**", "yes"), ("We can conclude this.", "yes"),
        ("No", "no"), ("No, because even if both are true, some may not "
            "be.", "no"), ("invalid", "no"), ("not valid", "no"),
        ("It does not follow.", "not shown"), ("The conclusion doesn't necessarily follow", "not shown"),
        ("We cannot conclude that.", "not shown"), ("not necessarily", "not shown"),
        ("Cannot be determined", "open"), ("uncertain", "open"), ("There is not enough information", "open"),
        ("Yes, but it does not follow.", None), ("No, it follows that all are.", None), ("No cats are dogs.", None),
        ("It is not so that it "
            "follows", None), ("It never follows", None), ("Some cats are dogs", None), ("maybe", None),
        ("It is valid or invalid", None), ("7", None), ("", None),
    ],
)  # fmt: skip
def test_a_verdict_is_read_in_any_wording(answer: str, said: str | None) -> None:
    assert read_said(answer) == said


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("All dogs are animals", "all dogs are animals"), ("Every dog is an animal", "all dog are animal"),
        ("No dogs are cats", "no dogs are cats"), ("Some dogs aren't pets", "some dogs are not pets"),
        ("Not every dog is a pet", "some dog are not pet"), ("Only dogs are puppies", "all puppies are dogs"),
        ("Socrates is not a god", "Socrates is not god"), ("There are no dogs that are cats", "no dogs are cats"),
        ("If something is a dog, then it is an "
            "animal", "all dog are animal"), ("A dog is an animal", "all dog are animal"),
        ("Whales are mammals", "all Whales are mammals"), ("At least one dog is brown", "some dog are brown"),
        ("Black swans exist", "there are Black swans"), ("None of the dogs are cats", "no dogs are cats"),
        ("All As are Bs", "all As are Bs"), ("Some A is not a B", "some A are not B"),
    ],
)  # fmt: skip
def test_a_statement_is_read(text: str, read: str) -> None:
    assert str(claim(text)) == read


@pytest.mark.parametrize(
    "text",
    ["All dogs are not cats", "Most dogs are pets", "Swans are white", "A dog is barking loudly",
     "Therefore Rex is a dog",
     "Rex is the dog", "He is a dog", "The dog is brown", "All dogs that are big are loud", "No dogs are not pets",
     "Some dogs are pets or toys", "All dogs", "Almost all dogs are "
         "pets", "Rex is bigger than Bo", "All but two are in",
     "Rex is a dog and Bo is a cat", "Only some dogs are pets", "Only a few dogs are pets", "Rex was a dog"],
)  # fmt: skip
def test_a_statement_that_means_more_or_less_is_not_read(text: str) -> None:
    assert claim(text) is None


def test_plurals_are_one_term_and_two_words_are_two() -> None:
    for plural, single in (
        ("dogs", "dog"), ("wolves", "wolf"), ("knaves", "knave"), ("butterflies", "butterfly"), ("people", "person"),
        ("heroes", "hero"), ("heros", "hero"), ("foxes", "fox"), ("firemen", "fireman"), ("houses", "house"),
        ("buses", "bus"), ("horses", "horse"), ("movies", "movie"), ("classes", "class"), ("As", "A"), ("fish", "fish"),
    ):  # fmt: skip
        assert singular(plural) == singular(single) == single
    for one, other in (("news", "new"), ("goods", "good"), ("glasses", "glass"), ("princess", "prince"), ("bus", "bu")):
        assert singular(one) != singular(other)


def test_an_invalid_verdict_is_not_given_where_terms_may_be_one() -> None:
    found = check("All cacti are plants. Spike is a cactuss. Does it follow that Spike is a plant?", "No")
    assert found.outcome == "unscored"
    assert "may have to do with each other" in found.reason


def test_a_domain_holds_something() -> None:
    claims = [claim(text) for text in ("All A are B", "No A are B")]
    assert None not in claims
    read = [one for one in claims if one is not None]
    assert fit(read, members=False)
    assert not fit(read, members=True)
    assert not follows(read, read[0].denied(), members=False)


# -- against an independent decision, and reasoning-gym ----------------------------------------------------------------


def satisfied(statement: str, regions: frozenset[int], terms: list[str]) -> bool:
    """Whether a plain statement holds where exactly `regions` are inhabited; a region is its terms' bits."""
    match = re.fullmatch(r"(All|No|Some) (\w+) are (not )?(\w+)", statement)
    assert match is not None
    subject, predicate = 1 << terms.index(match[2]), 1 << terms.index(match[4])
    both = any(region & subject and region & predicate for region in regions)
    only = any(region & subject and not region & predicate for region in regions)
    if match[1] == "All":
        return not only
    return not both if match[1] == "No" else (only if match[3] else both)


def decided(premises: list[str], conclusion: str, *, members: bool) -> bool:
    """Whether the conclusion holds in every one of the 2^8 ways to inhabit the regions of three terms."""
    terms = sorted(
        {word for line in [*premises, conclusion] for word in re.findall(r"[a-z]+", line)}
        - {"are", "not", "ll", "o", "ome"}
    )
    assert len(terms) == 3
    for count in range(1, 9):
        for inhabited in itertools.combinations(range(8), count):
            regions = frozenset(inhabited)
            if members and not all(any(region & (1 << bit) for region in regions) for bit in range(3)):
                continue
            if all(satisfied(line, regions, terms) for line in premises) and not satisfied(conclusion, regions, terms):
                return False
    return True


def test_regions_decide_as_trying_all_worlds_does() -> None:
    forms = ("All {} are {}", "No {} are {}", "Some {} are {}", "Some {} are not {}")
    compared = 0
    for first, second, third in itertools.product(forms, repeat=3):
        for swap in (False, True):
            middle = ("mice", "ants") if swap else ("ants", "mice")
            premises = [first.format(*middle), second.format("mice", "bees")]
            conclusion = third.format("ants", "bees")
            for members in (False, True):
                claims = [claim(line) for line in [*premises, conclusion]]
                read = [one for one in claims if one is not None]
                assert follows(read[:2], read[2], members=members) == decided(premises, conclusion, members=members)
                compared += 1
    assert compared == 256


@pytest.mark.parametrize("invalid", [0.3, 0.7])
def test_generated_syllogisms_are_read_and_decided(invalid: float) -> None:
    """Its reference takes classes to have members, and lets the middle go undistributed (All A are B, some B are C:
    some A are C); there a way to inhabit the regions shows that it is wrong, and the check says so."""
    reasoning_gym = pytest.importorskip("reasoning_gym")
    tasks = reasoning_gym.create_dataset("syllogism", size=160, seed=7, invalid_ratio=invalid)
    scored = mistaken = 0
    for task in tasks:
        premises = [task["metadata"]["premise1"], task["metadata"]["premise2"]]
        conclusion = task["metadata"]["conclusion"]
        plainly = decided(premises, conclusion, members=False)
        with_members = decided(premises, conclusion, members=True)
        right, wrong = ("Yes", "No") if task["answer"] == "Yes" else ("No", "Yes")
        if right != ("Yes" if with_members else "No"):
            mistaken += 1
            assert (premises[0][:3], premises[1][:4], right) == ("All", "Some", "Yes"), (premises, conclusion)
            right, wrong = wrong, right
        found = check(task["question"], right)
        assert found.outcome == ("pass" if plainly == with_members else "unscored"), (task["question"], found.reason)
        assert check(task["question"], wrong).outcome == ("fail" if plainly == with_members else "unscored")
        scored += found.outcome == "pass"
    assert scored >= 110, "most are read and decided"
    assert mistaken <= 40


def test_it_runs_for_every_worker() -> None:
    assert "syllogism" in QUERY_CHECKS
