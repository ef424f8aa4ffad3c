"""Whether a passage speaks for an answer: what counts as support, what only looks like it, and the tier of the vote."""

from __future__ import annotations

import pytest

from kaelum_graph.evidence import Evidence, Tier
from kaelum_graph.retrieval import Passage
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.support import supports
from kaelum_graph.types import Candidate, Query, RolloutId, WorkerName
from kaelum_graph.verifiers import verifier
from kaelum_graph.verifiers.sources import stated_value

CAPITAL = "What is the capital of Australia?"
WALL = "When did the Berlin Wall fall?"
LARGEST = "What is the largest city of Turkey?"
NOVEL = "Who wrote War and Peace?"


def check(question: str, answer: str | None, *passages: Passage) -> Evidence:
    sandbox: Sandbox = ProcessSandbox()
    candidate = Candidate(rollout_id=RolloutId(0), worker=WorkerName("factual"), text=answer or "", answer=answer)
    return verifier("sources").check(Query(text=question, sources=passages), candidate, sandbox)


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        (CAPITAL, "Canberra", "Canberra is the capital of Australia."),
        (CAPITAL, "canberra", "The capital of Australia is CANBERRA, a planned city."),
        (CAPITAL, "Canberra", "Canberra, the capital of Australia, lies between Sydney and Melbourne."),
        (CAPITAL, "Canberra", "Australia is a country in Oceania. Its capital is Canberra."),
        (CAPITAL, "Canberra", "Australia's capital is Canberra."),
        ("what is the capital of australia?", "Canberra", "Canberra is the capital of Australia."),
        ("What is the capital of Brazil?", "Brasilia", "Brasília is the capital of Brazil."),
        (NOVEL, "Leo Tolstoy", "War and Peace was written by Leo Tolstoy in the 1860s."),
        (NOVEL, "Tolstoy", "Leo Tolstoy wrote War and Peace, and Dostoevsky wrote Crime and Punishment."),
        ("Who wrote Crime and Punishment?", "Dostoevsky",
         "Leo Tolstoy wrote War and Peace, and Dostoevsky wrote Crime and Punishment."),
        (WALL, "1989", "The Berlin Wall fell on 9 November 1989."),
        (WALL, "November 9, 1989", "The Berlin Wall fell on 9 November 1989."),
        ("How high is Mount Everest?", "8,849 metres", "Mount Everest is 8849 m high."),
        ("How many moons does Mars have?", "2", "Mars has two moons, Phobos and Deimos."),
        ("Which element has the symbol Fe?", "Iron", "Iron is a chemical element with the symbol Fe."),
        ("Canberra is the capital of which country?", "Australia", "Canberra is the capital of Australia."),
        ("What currency is used in Japan?", "the yen", "The currency of Japan is the yen."),
        ("Who taught Aristotle?", "Plato", "Plato taught Aristotle in Athens."),
        ("Who did Aristotle teach?", "Alexander", "Aristotle taught Alexander."),
        (LARGEST, "Istanbul", "Istanbul, the largest city in Turkey, lies on the Bosphorus."),
        ("What is the second largest city of Turkey?", "Ankara", "Ankara is the second largest city of Turkey."),
        ("Who invented the telephone?", "Bell", "Bell invented the telephone."),
        ("Can you tell me the capital of Turkey?", "Ankara", "Ankara is the capital of Turkey."),
        ("How many people live in Norway?", "5.5 million", "The population of Norway is 5,500,000 people."),
    ],
)  # fmt: skip
def test_a_sentence_that_says_it_supports_the_answer(question: str, answer: str, text: str) -> None:
    assert supports(Passage(text=text), question, answer)


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        (CAPITAL, "Sydney", "Canberra is the capital of Australia."),
        (CAPITAL, "Vienna", "Vienna is the capital of Austria. Australia is a continent."),
        (CAPITAL, "Sydney", "Canberra, the capital of Australia, lies between Sydney and Melbourne."),
        (CAPITAL, "Sydney", "Canberra, the capital of Australia, lies near Sydney."),
        (CAPITAL, "Sydney", "Sydney is not the capital of Australia."),
        (CAPITAL, "Sydney", "Many people think that Sydney is the capital of Australia."),
        (CAPITAL, "Melbourne", "Melbourne was the capital of Australia until 1927."),
        (CAPITAL, "Sydney", "Australia is a country. Its capital is Canberra, chosen between Sydney and Melbourne."),
        ("What is the capital of Spain?", "Paris", "France, whose capital is Paris, borders Spain."),
        ("What is the capital of Germany?", "Bonn", "Bonn was the capital of West Germany."),
        ("Malabo is the capital of which country?", "Guinea", "Malabo is the capital of Equatorial Guinea."),
        ("Malabo is the capital of which country?", "Guinea", "Malabo is the capital of Guinea Ecuatorial."),
        ("What is the capital of Guinea?", "Malabo", "Malabo is the capital of Guinea Ecuatorial."),
        ("How many people live in Guinea?", "2 million", "The population of Equatorial Guinea is 2 million."),
        (CAPITAL, "Vienna", "Australia is far from Austria. The capital is Vienna."),
        (CAPITAL, "Canberra", "Canberra saw ships bring wool, grain, tea and tools as the capital of Australia grew."),
        ("Is Canberra the capital of Australia?", "Canberra", "Canberra is the capital of Australia."),
        ("Which city is the largest in Canada?", "York", "The largest city in Canada is New York."),
        (NOVEL, "Dostoevsky", "Leo Tolstoy wrote War and Peace, and Dostoevsky wrote Crime and Punishment."),
        (WALL, "1961", "The Berlin Wall, built in 1961, fell in 1989."),
        (WALL, "9 December 1989", "The Berlin Wall fell on 9 November 1989."),
        ("When did Brazil win the World Cup?", "1998", "France won the World Cup in 1998, Brazil in 2002."),
        ("Who won the World Cup in 1998?", "Brazil", "Brazil won the World Cup in 1994."),
        ("Who taught Aristotle?", "Alexander", "Aristotle taught Alexander."),
        ("Who was the teacher of Aristotle?", "Alexander", "Aristotle was the teacher of Alexander."),
        ("Who did Aristotle teach?", "Plato", "Plato taught Aristotle."),
        ("Who did Aristotle teach?", "Plato", "Aristotle was taught by Plato."),
        ("Which element has the symbol Fe?", "steel", "The element with the symbol Fe is iron, used in steel."),
        ("Which element has the symbol Fe?", "Sodium", "Sodium is the element with the symbol Na."),
        ("which element has the symbol fe?", "Sodium", "Sodium is the element with the symbol Na."),
        ("How high is Mount Everest?", "8849 feet", "Mount Everest is 8849 m high."),
        ("Which is larger, the Atlantic or the Pacific?", "Atlantic", "The Pacific is larger, the Atlantic smaller."),
        ("Is Canberra the capital of Australia?", "Yes", "Canberra is the capital of Australia, yes."),
        ("Which country is the second largest?", "Russia", "Russia is the largest country."),
        ("Who wrote it?", "Tolstoy", "Tolstoy wrote it."),
        (LARGEST, "Ankara", "Ankara is the second largest city of Turkey."),
        (LARGEST, "Ankara", "Ankara is the second-largest city of Turkey."),
        (LARGEST, "Izmir", "Izmir is one of the largest cities of Turkey."),
        (LARGEST, "Mersin", "Mersin is the largest port city of Turkey."),
        ("What is the longest river in Africa?", "Congo", "The Congo is Africa's third longest river."),
        ("What is the largest state by population?", "Alaska", "Alaska is the largest state by area."),
        ("Which country is the largest?", "India", "India is the largest country by population."),
        ("Who was the first president of France?", "Sarkozy", "Sarkozy was the sixth president of France."),
        ("Did Bell invent the telephone?", "Bell", "Bell invented the telephone."),
        ("Did Bell invent the telephone?", "Alexander Graham Bell", "Alexander Graham Bell invented the telephone."),
        ("Is Ankara or Istanbul the capital of Turkey?", "Ankara", "Ankara is the capital of Turkey."),
    ],
)  # fmt: skip
def test_what_only_looks_like_support_is_none(question: str, answer: str, text: str) -> None:
    assert not supports(Passage(text=text), question, answer)


def test_the_title_says_what_its_sentences_are_about() -> None:
    text = "It is an island nation. The capital is Canberra."
    assert supports(Passage(text=text, title="Australia"), CAPITAL, "Canberra")
    assert not supports(Passage(text=text, title="Austria"), CAPITAL, "Canberra")
    for neighbour in ("The capital of neighbouring New Zealand is Wellington.", "Wellington is New Zealand's capital.",
                      "Wellington is the capital of New Zealand."):  # fmt: skip
        assert not supports(Passage(text=neighbour, title="Australia"), CAPITAL, "Wellington")
    other = Passage(text="New Zealand became independent in 1907.", title="Australia")
    assert not supports(other, "When did Australia become independent?", "1907")
    assert supports(other, "When did New Zealand become independent?", "1907")


def test_a_pass_is_no_anchor_unless_the_caller_vouches_for_the_retriever() -> None:
    text = "Canberra is the capital of Australia."
    found = check(CAPITAL, "Canberra", Passage(text="Nothing."), Passage(text=text, title="Atlas"))
    assert (found.outcome, found.tier) == ("pass", Tier.CROSS_CHANNEL)
    assert "[2]" in found.reason
    assert "Atlas" in found.reason
    trusted = check(CAPITAL, "Canberra", Passage(text=text), Passage(text=text + " ", trusted=True))
    assert (trusted.outcome, trusted.tier) == ("pass", Tier.CONSTRAINT)


def test_what_no_passage_mentions_is_unscored() -> None:
    assert check(CAPITAL, "Canberra", Passage(text="Kangaroos live in Australia.")).outcome == "unscored"
    assert check(CAPITAL, "Canberra").outcome == "unscored"
    assert check(CAPITAL, None, Passage(text="Canberra is the capital of Australia.")).outcome == "unscored"
    assert check("Is it so?", "Yes", Passage(text="Yes.")).outcome == "unscored"


def test_another_value_in_the_questions_own_words_is_a_fail_and_never_an_anchor() -> None:
    says = Passage(text="It is far away. The capital of Australia is Canberra.", trusted=True)
    found = check(CAPITAL, "Sydney", says)
    assert (found.outcome, found.tier) == ("fail", Tier.CROSS_CHANNEL)
    assert "Canberra" in found.reason
    assert check(CAPITAL, "Canberra City", says).outcome == "unscored"
    other = Passage(text="Sydney is the capital of Australia.")
    assert check(CAPITAL, "Sydney", says, other).outcome == "pass"


@pytest.mark.parametrize(
    "text",
    [
        "The capital of Australia is Canberra, not Sydney.",
        "The capital of Austria is Vienna.",
        "The capital of South Australia is Adelaide.",
        "Some say the capital of Australia is Sydney.",
        "The capital of Australia is lovely.",
    ],
)
def test_only_a_whole_plain_sentence_states_a_value(text: str) -> None:
    assert stated_value(Passage(text=text), CAPITAL) is None
