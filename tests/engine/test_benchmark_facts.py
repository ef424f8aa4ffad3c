"""Questions about facts: asked and scored as they always were, with facts that come from data packages.

Recorded runs rest on every question and on what counts as right. `facts_asked.json` holds both as they were when the
facts were still typed in: the questions by seed, and all names, units and codes that each accepted.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import facts
from benchmarks.tasks import tasks

ASKED: dict[str, Any] = json.loads((Path(__file__).parent / "facts_asked.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("seed", [1, 3, 4, 6])
@pytest.mark.parametrize("family", list(ASKED))
def test_questions_and_references_are_those_that_were_recorded(family: str, seed: int) -> None:
    asked = tasks(family, seed=seed, size=ASKED[family]["tasks"])
    told = json.dumps([[task.question, task.reference] for task in asked])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == ASKED[family]["order"][str(seed)]


@pytest.mark.parametrize("family", list(ASKED))
def test_the_same_answers_are_right_and_no_others(family: str) -> None:
    accepted: dict[str, list[str]] = ASKED[family]["accepted"]
    tried = {*ASKED[family]["refused"], *(answer for answers in accepted.values() for answer in answers)}
    found = {
        task.question: {answer for answer in tried if task.right(answer)}
        for seed in (1, 3, 4, 6)
        for task in tasks(family, seed=seed, size=ASKED[family]["tasks"])
    }
    assert found == {question: set(answers) for question, answers in accepted.items()}


@pytest.mark.parametrize(
    ("country", "words", "code", "units"),
    [
        ("Switzerland", "swiss", "CHF", ("franc",)),  # three more are funds
        ("Haiti", "haitian", "HTG", ("gourde",)),  # the US dollar stands beside it
        ("Uruguay", "uruguayan", "UYU", ("peso",)),
        ("Israel", "israeli new", "ILS", ("shekel", "sheqel")),
        ("South Korea", "korean", "KRW", ("won",)),  # not the North's
        ("Norway", "norwegian", "NOK", ("krone", "crown")),
    ],
)
def test_a_country_has_one_currency_of_its_own(country: str, words: str, code: str, units: tuple[str, ...]) -> None:
    assert facts.currency(country, words=frozenset(words.split())) == facts.Currency(code=code, units=units)


def test_names_have_the_spellings_that_people_use() -> None:
    assert facts.capital("Colombia") == ("Bogota", "Bogotá")
    assert facts.capital("Ukraine") == ("Kyiv", "Kiev")
    assert facts.element("aluminium") == facts.Element(symbol="Al", number=13, names=("aluminium", "aluminum"))


def test_what_no_package_knows_is_an_error() -> None:
    with pytest.raises(LookupError, match="Atlantis"):
        facts.currency("Atlantis", words=frozenset())
    with pytest.raises(LookupError):
        facts.capital("Atlantis")
    with pytest.raises(LookupError, match="phlogiston"):
        facts.element("phlogiston")


@pytest.mark.parametrize(
    ("package", "family"), [("countryinfo", "capitals"), ("iso4217", "currencies"), ("periodictable", "elements")]
)
def test_without_a_package_the_error_says_what_to_install(
    package: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts._iso_currencies.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"'{package}': install the bench extra"):
        tasks(family, seed=1, size=1)
    assert len(tasks("comparisons", seed=1, size=3)) == 3, "other families need none of it"
