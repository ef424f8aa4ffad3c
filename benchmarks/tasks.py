"""Task families that workers are measured on, each with its own scorer.

A scorer knows the reference answer and is for evaluation alone: nothing here is ever shown to the engine. Families
named as in reasoning-gym come from there, with its scorers; the others are made here, from templates, and from facts
that data packages hold (see `facts.py`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import facts

Score = Callable[[str], bool]

_GYM_OPTIONS: dict[str, dict[str, Any]] = {
    "zebra_puzzles": {"num_people": 3, "num_characteristics": 2},
    "needle_haystack": {"min_num_statements": 10, "max_num_statements": 20},
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question, its reference answer as one would read it, and what decides whether an answer is right."""

    family: str
    index: int
    question: str
    reference: str
    right: Score


FAR = 1000
"""reasoning-gym makes task i of a seed from seed + i alone, so neighbouring seeds share all tasks but one."""


def tasks(family: str, *, seed: int, size: int, first: int | None = None) -> list[Task]:
    """The first `size` tasks of a family under `seed`; another seed gives other tasks. Raises `KeyError` if unknown.

    The families made from a fixed table deal it out: odd and even seeds share no item. `first` is the seed that
    reasoning-gym's own tasks begin with; without it 1000 times `seed`, which keeps the tasks of two seeds apart.
    """
    if family in _OWN:
        made = _OWN[family](seed, size)
        return [
            Task(family=family, index=index, question=question, reference=reference, right=right)
            for index, (question, reference, right) in enumerate(made)
        ]
    import reasoning_gym

    begin = FAR * seed if first is None else first
    data = reasoning_gym.create_dataset(family, seed=begin, size=2 * size + 20, **_GYM_OPTIONS.get(family, {}))
    found: list[Task] = []
    for index in range(len(data)):
        if len(found) == size:
            break
        entry: Any = data[index]
        if entry["answer"] is None:
            raise KeyError(f"{family} has no reference answers to compare with")
        if family == "syllogism" and _UNDISTRIBUTED.search(str(entry["question"])) and entry["answer"] == "Yes":
            continue
        found.append(
            Task(
                family=family,
                index=len(found),
                question=str(entry["question"]).strip(),
                reference=str(entry["answer"]).strip(),
                right=_gym_score(data, entry),
            )
        )
    return found


_UNDISTRIBUTED = re.compile(r"1\. All .*\n2\. Some (?!.*\bnot\b).*\n[\s\S]*follow that:\nSome ")
"""From "All A are B, some B are C" it does not follow that "some A are C"; the family's reference says it does."""


def _gym_score(data: Any, entry: Any) -> Score:
    def right(answer: str) -> bool:
        # The library's scorers compare numbers as text, and a program's 61.0 is 61.
        whole = re.fullmatch(r"\s*(-?\d+)\.0+\s*", answer)
        return float(data.score_answer(whole[1] if whole else answer, entry)) >= 0.99

    return right


# --- facts -----------------------------------------------------------------------------------------------------------

# The countries and elements that are asked about, and the words for them; what is true of them is looked up.
_CAPITALS_OF = """
Afghanistan Albania Algeria Angola Argentina Armenia Australia Austria Azerbaijan Bangladesh Belarus Belgium Bulgaria
Cambodia Canada Chad Chile China Colombia Croatia Cuba Denmark Egypt Estonia Ethiopia Finland France Georgia Germany
Ghana Greece Hungary Iceland India Indonesia Iran Iraq Ireland Italy Japan Jordan Kenya Laos Latvia Lebanon Libya
Lithuania Madagascar Malaysia Mali Malta Mexico Mongolia Morocco Mozambique Namibia Nepal Netherlands Nigeria Norway
Pakistan Peru Philippines Poland Portugal Romania Russia Rwanda Senegal Serbia Slovakia Slovenia Spain Sudan Sweden
Syria Thailand Tunisia Turkey Uganda Ukraine Uruguay Uzbekistan Venezuela Vietnam Zambia Zimbabwe
"""
_ELEMENTS = """
hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium magnesium aluminium silicon
phosphorus sulfur chlorine argon potassium calcium scandium titanium vanadium chromium manganese iron cobalt nickel
copper zinc gallium germanium arsenic selenium bromine krypton rubidium strontium yttrium zirconium silver cadmium tin
antimony iodine xenon cesium barium tungsten platinum gold mercury lead bismuth radon radium uranium plutonium
"""
# Countries with a currency of their own, and their adjectives.
_CURRENCIES_OF = """
Afghanistan,Afghan| Albania,Albanian| Algeria,Algerian| Angola,Angolan| Argentina,Argentine| Armenia,Armenian|
Australia,Australian| Azerbaijan,Azerbaijani| Bahrain,Bahraini| Bangladesh,Bangladeshi| Belarus,Belarusian|
Bolivia,Bolivian| Botswana,Botswana| Brazil,Brazilian| Cambodia,Cambodian| Canada,Canadian| Chile,Chilean|
China,Chinese| Colombia,Colombian| Costa Rica,Costa Rican| Czechia,Czech| Denmark,Danish| Egypt,Egyptian|
Ethiopia,Ethiopian| Georgia,Georgian| Ghana,Ghanaian| Guatemala,Guatemalan| Haiti,Haitian| Honduras,Honduran|
Hungary,Hungarian| Iceland,Icelandic| India,Indian| Indonesia,Indonesian| Iran,Iranian| Iraq,Iraqi| Israel,Israeli|
Jamaica,Jamaican| Japan,Japanese| Jordan,Jordanian| Kazakhstan,Kazakhstani| Kenya,Kenyan| Kuwait,Kuwaiti|
Kyrgyzstan,Kyrgyz| Laos,Lao| Malaysia,Malaysian| Mexico,Mexican| Moldova,Moldovan| Mongolia,Mongolian|
Morocco,Moroccan| Mozambique,Mozambican| Nepal,Nepalese| New Zealand,New Zealand| Nigeria,Nigerian| Norway,Norwegian|
Oman,Omani| Pakistan,Pakistani| Paraguay,Paraguayan| Peru,Peruvian| Philippines,Philippine| Poland,Polish|
Qatar,Qatari| Romania,Romanian| Russia,Russian| Saudi Arabia,Saudi| Serbia,Serbian| Singapore,Singapore|
South Africa,South African| South Korea,South Korean| Sri Lanka,Sri Lankan| Sweden,Swedish| Switzerland,Swiss|
Thailand,Thai| Tunisia,Tunisian| Turkey,Turkish| Uganda,Ugandan| Ukraine,Ukrainian| Uruguay,Uruguayan|
Uzbekistan,Uzbekistani| Vietnam,Vietnamese| Zambia,Zambian
"""
_WORDS_TOO = {
    "China": "renminbi", "Israel": "new", "South Korea": "korean republic of korea", "Kazakhstan": "kazakh",
    "Laos": "laotian", "Kyrgyzstan": "kyrgyzstani", "Nepal": "nepali", "Philippines": "filipino", "Peru": "nuevo new",
    "Uzbekistan": "uzbek", "Romania": "new", "Saudi Arabia": "arabian", "Turkey": "new", "Ghana": "new",
    "Tunisia": "tunisia", "Mexico": "new", "Azerbaijan": "azeri new",
}  # fmt: skip
"""Words beside the adjective that may stand before a currency's unit, or behind it."""


def _dealt(items: Sequence[Any], seed: int, size: int) -> list[Any]:
    """`size` of the half of `items` that seeds of this parity get, in an order of the seed's own."""
    half = list(items)
    random.Random(2026).shuffle(half)
    half = half[seed % 2 :: 2]
    random.Random(seed).shuffle(half)
    if size > len(half):
        raise ValueError(f"{size} tasks are asked for; a half of this table has {len(half)}")
    return half[:size]


def _names(wanted: str, *spellings: str) -> Score:
    """Right when the answer is the name, or a phrase of at most four words that holds it."""
    accepted = [_plain(name) for name in (wanted, *spellings)]

    def right(answer: str) -> bool:
        said = _plain(answer)
        return said in accepted or (
            len(said.split()) <= 4 and any(re.search(rf"\b{re.escape(name)}\b", said) for name in accepted)
        )

    return right


def _plain(text: str) -> str:
    return re.sub(r"[^\w' ]", " ", text).strip().lower()


def _capitals(seed: int, size: int) -> list[tuple[str, str, Score]]:
    made: list[tuple[str, str, Score]] = []
    for country in _dealt(_CAPITALS_OF.split(), seed, size):
        names = facts.capital(country)
        made.append((f"What is the capital of {country}?", names[0], _names(*names)))
    return made


def _currencies(seed: int, size: int) -> list[tuple[str, str, Score]]:
    made: list[tuple[str, str, Score]] = []
    for turn, entry in enumerate(_dealt(_CURRENCIES_OF.replace("\n", " ").split("|"), seed, size)):
        country, adjective = entry.strip().split(",")
        words = f"{country} {adjective} {_WORDS_TOO.get(country, '')}".lower().split()
        known = facts.currency(country, words=frozenset(words))
        if turn % 2 == 0:
            right = _currency([*words, known.code.lower(), "the"], known.units, known.code)
            made.append((f"What is the currency of {country}?", f"{adjective} {known.units[0]}", right))
        else:
            asked = f"What is the ISO 4217 currency code of {country}'s currency?"
            made.append((asked, known.code, _exactly(known.code)))
    return made


def _currency(beside: Sequence[str], units: Sequence[str], code: str) -> Score:
    """Right for the unit, alone or with words that name its country and no other, and for the code."""
    accepted = {unit + ending for unit in units for ending in ("", "s")}

    def right(answer: str) -> bool:
        said = _plain(answer).split()
        named = [word for word in said if word not in beside]
        return said == [code.lower()] or (bool(named) and all(word in accepted for word in named))

    return right


def _elements(seed: int, size: int) -> list[tuple[str, str, Score]]:
    made: list[tuple[str, str, Score]] = []
    for turn, name in enumerate(_dealt(_ELEMENTS.split(), seed, size)):
        known = facts.element(name)
        symbol, number = known.symbol, str(known.number)
        if turn % 3 == 0:
            made.append((f"What is the chemical symbol of {name}?", symbol, _exactly(symbol)))
        elif turn % 3 == 1:
            made.append((f"Which chemical element has the symbol {symbol}?", name, _names(*known.names)))
        else:
            made.append((f"What is the atomic number of {name}?", number, _exactly(number)))
    return made


def _exactly(wanted: str) -> Score:
    return lambda answer: answer.strip().strip(".") == wanted


# --- programs asked for ----------------------------------------------------------------------------------------------

_FUNCTIONS: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("count_vowels", "text", "returns how many vowels (a, e, i, o, u, in either case) the text has",
     ("count_vowels('Hello') == 2",), ("count_vowels('AEIOU xyz') == 5", "count_vowels('') == 0")),
    ("is_palindrome", "text", "returns True when the text reads the same backwards, ignoring case and spaces",
     ("is_palindrome('Never odd or even')",), ("not is_palindrome('abc')", "is_palindrome('')", "is_palindrome('Aa')")),
    ("second_largest", "numbers", "returns the second largest distinct number of a list",
     ("second_largest([4, 9, 9, 2]) == 4",), ("second_largest([1, 2]) == 1", "second_largest([-1, -5, -1, -7]) == -5")),
    ("flatten", "items", "flattens a list that may hold lists of any depth",
     ("flatten([1, [2, [3]]]) == [1, 2, 3]",), ("flatten([]) == []", "flatten([[[[5]]], 6]) == [5, 6]")),
    ("run_lengths", "text", "returns a list of (character, count) pairs for the runs of equal characters",
     ("run_lengths('aab') == [('a', 2), ('b', 1)]",), ("run_lengths('') == []", "run_lengths('abab')[3] == ('b', 1)")),
    ("gcd_all", "numbers", "returns the greatest common divisor of a list of positive integers",
     ("gcd_all([12, 18, 30]) == 6",), ("gcd_all([7]) == 7", "gcd_all([5, 9]) == 1")),
    ("to_roman", "number", "returns the Roman numeral of an integer from 1 to 3999",
     ("to_roman(14) == 'XIV'",), ("to_roman(1994) == 'MCMXCIV'", "to_roman(3) == 'III'")),
    ("caesar", "text, shift", "shifts each letter by shift places in the alphabet, keeping case and other characters",
     ("caesar('abz', 1) == 'bca'",), ("caesar('Hi!', 2) == 'Jk!'", "caesar('b', -1) == 'a'")),
    ("merge_sorted", "left, right", "merges two sorted lists into one sorted list",
     ("merge_sorted([1, 4], [2, 3]) == [1, 2, 3, 4]",),
     ("merge_sorted([], [1]) == [1]", "merge_sorted([5], [5]) == [5, 5]")),
    ("chunk", "items, size", "cuts a list into lists of the given size; the last may be shorter",
     ("chunk([1, 2, 3], 2) == [[1, 2], [3]]",), ("chunk([], 3) == []", "chunk([1, 2], 5) == [[1, 2]]")),
    ("digit_sum", "number", "returns the sum of the decimal digits of an integer, ignoring its sign",
     ("digit_sum(123) == 6",), ("digit_sum(-45) == 9", "digit_sum(0) == 0")),
    ("most_common", "words", "returns the most frequent word of a list; on a tie the alphabetically first",
     ("most_common(['b', 'a', 'b']) == 'b'",), ("most_common(['b', 'a']) == 'a'", "most_common(['x']) == 'x'")),
    ("is_prime", "number", "returns True when an integer is prime",
     ("is_prime(13)",), ("not is_prime(1)", "not is_prime(91)", "is_prime(2)", "not is_prime(-7)")),
    ("transpose", "rows", "transposes a matrix given as a list of lists",
     ("transpose([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]",), ("transpose([[1, 2, 3]]) == [[1], [2], [3]]",)),
    ("collatz_steps", "number", "returns how many steps of the Collatz rule take a positive integer to 1",
     ("collatz_steps(6) == 8",), ("collatz_steps(1) == 0", "collatz_steps(27) == 111")),
    ("unique", "items", "removes duplicates from a list, keeping the first of each in order",
     ("unique([3, 1, 3]) == [3, 1]",), ("unique([]) == []", "unique([1, 1, 2, 1]) == [1, 2]")),
    ("title_case", "text", "makes the first letter of each word upper case and the other letters lower case",
     ("title_case('hELLO wORLD') == 'Hello World'",), ("title_case('') == ''", "title_case('a b') == 'A B'")),
    ("balanced", "text", "returns True when the brackets ()[]{} in the text are balanced",
     ("balanced('([])')",), ("not balanced('(]')", "balanced('')", "not balanced('((')", "balanced('a(b)c')")),
    ("rotate", "items, steps", "rotates a list to the right by the given number of steps",
     ("rotate([1, 2, 3], 1) == [3, 1, 2]",), ("rotate([1, 2, 3], 5) == [2, 3, 1]", "rotate([1], 9) == [1]")),
    ("fibonacci", "count", "returns a list of the first count Fibonacci numbers, starting with 0 and 1",
     ("fibonacci(5) == [0, 1, 1, 2, 3]",), ("fibonacci(0) == []", "fibonacci(1) == [0]")),
    ("word_lengths", "text", "returns a dictionary from each word of the text to its length",
     ("word_lengths('an ant') == {'an': 2, 'ant': 3}",), ("word_lengths('') == {}",)),
    ("binary", "number", "returns the binary digits of a non-negative integer as text, without a prefix",
     ("binary(5) == '101'",), ("binary(0) == '0'", "binary(8) == '1000'")),
    ("common", "left, right", "returns the sorted list of the items that occur in both lists, each once",
     ("common([3, 1, 3], [3, 2, 1]) == [1, 3]",), ("common([], [1]) == []", "common([2, 2], [2, 2]) == [2]")),
    ("median", "numbers", "returns the median of a list of numbers; of an even count the mean of the middle two",
     ("median([3, 1, 2]) == 2",), ("median([1, 2, 3, 4]) == 2.5", "median([7]) == 7")),
    ("anagrams", "first, second", "returns True when two words are anagrams, ignoring case",
     ("anagrams('Listen', 'Silent')",), ("not anagrams('aab', 'abb')", "anagrams('', '')")),
    ("leap", "year", "returns True when a year is a leap year of the Gregorian calendar",
     ("leap(2024)",), ("not leap(1900)", "leap(2000)", "not leap(2023)")),
    ("divisors", "number", "returns the sorted list of all positive divisors of a positive integer",
     ("divisors(6) == [1, 2, 3, 6]",), ("divisors(1) == [1]", "divisors(49) == [1, 7, 49]")),
    ("running_total", "numbers", "returns the list of running totals of a list of numbers",
     ("running_total([1, 2, 3]) == [1, 3, 6]",), ("running_total([]) == []", "running_total([-1, 1]) == [-1, 0]")),
    ("group_by_length", "words", "returns a dictionary from length to the list of words of that length, in order",
     ("group_by_length(['a', 'bb', 'c']) == {1: ['a', 'c'], 2: ['bb']}",), ("group_by_length([]) == {}",)),
    ("acronym", "text", "returns the upper-case first letters of the words of a text, joined",
     ("acronym('random access memory') == 'RAM'",), ("acronym('') == ''", "acronym('As soon as possible') == 'ASAP'")),
    ("dot", "left, right", "returns the dot product of two lists of equal length",
     ("dot([1, 2], [3, 4]) == 11",), ("dot([], []) == 0", "dot([-1], [5]) == -5")),
    ("power_set_size", "items", "returns the number of subsets of the distinct items of a list",
     ("power_set_size([1, 2, 2]) == 4",), ("power_set_size([]) == 1", "power_set_size([5, 6, 7]) == 8")),
    ("snake_case", "name", "turns a camelCase name into snake_case",
     ("snake_case('camelCase') == 'camel_case'",),
     ("snake_case('abc') == 'abc'", "snake_case('oneTwoThree') == 'one_two_three'")),
    ("clamp", "value, low, high", "returns value, or the nearer bound when it is outside low to high",
     ("clamp(12, 0, 10) == 10",), ("clamp(-1, 0, 10) == 0", "clamp(5, 0, 10) == 5")),
    ("zigzag", "items", "swaps each pair of neighbours in a list; an odd last item stays",
     ("zigzag([1, 2, 3]) == [2, 1, 3]",), ("zigzag([]) == []", "zigzag([1, 2, 3, 4]) == [2, 1, 4, 3]")),
    ("count_words", "text", "returns the number of words in a text, where any white space separates words",
     ("count_words('one  two') == 2",), ("count_words('') == 0", "count_words(' a\\tb\\nc ') == 3")),
    ("invert", "mapping", "swaps the keys and values of a dictionary with distinct values",
     ("invert({'a': 1}) == {1: 'a'}",), ("invert({}) == {}", "invert({1: 2, 3: 4}) == {2: 1, 4: 3}")),
    ("triangle", "a, b, c", "returns 'equilateral', 'isosceles', 'scalene', or 'none' when no triangle has these sides",
     ("triangle(3, 4, 5) == 'scalene'",), ("triangle(1, 1, 3) == 'none'", "triangle(2, 2, 2) == 'equilateral'")),
    ("longest_word", "text", "returns the longest word of a text; on a tie the first",
     ("longest_word('to be or not') == 'not'",), ("longest_word('aa bb') == 'aa'",)),
    ("factorial", "number", "returns the factorial of a non-negative integer",
     ("factorial(5) == 120",), ("factorial(0) == 1", "factorial(10) == 3628800")),
)  # fmt: skip


def _functions(seed: int, size: int) -> list[tuple[str, str, Score]]:
    made: list[tuple[str, str, Score]] = []
    for name, parameters, does, shown, hidden in _dealt(_FUNCTIONS, seed, size):
        tests = "\n".join(f"assert {test}" for test in shown)
        question = f"Write a Python function `{name}({parameters})` that {does}. It must pass:\n{tests}"
        made.append((question, "; ".join((*shown, *hidden)), _passes((*shown, *hidden))))
    return made


def _passes(expressions: Sequence[str]) -> Score:
    def right(answer: str) -> bool:
        from kaelum_graph.sandbox import Limits, ProcessSandbox

        program = answer + "\n" + "\n".join(f"assert {test}" for test in expressions) + "\nprint('all passed')"
        sandbox = ProcessSandbox()
        try:
            result = sandbox.run(program, limits=Limits(seconds=5))
        finally:
            sandbox.close()
        return result.ok and result.stdout.rstrip().endswith("all passed")

    return right


# --- drafts under constraints ----------------------------------------------------------------------------------------

_SUBJECTS = (
    "the sea", "an old bridge", "winter in a small town", "a lost key", "the night train", "a garden after rain",
    "a lighthouse", "the first day of school", "a broken clock", "a market at dawn", "two friends", "a paper boat",
    "the moon", "a long road", "an empty theatre", "a mountain village", "a sleeping cat", "a letter never sent",
    "autumn leaves", "a baker at work",
)  # fmt: skip
_WORDS = (
    "silver", "river", "window", "quiet", "bread", "shadow", "seven", "green", "stone", "morning", "music", "paper",
    "dust", "lantern", "harvest", "blue", "wind", "memory", "door", "song",
)  # fmt: skip
_OPENINGS = ("Tonight", "Once", "Nobody", "Listen", "Slowly", "Somewhere")


def _counts(text: str) -> tuple[int, int, int]:
    """Words, sentences, lines of a draft."""
    words = len(re.findall(r"[A-Za-z0-9]+(?:['’-][A-Za-z0-9]+)*", text))
    sentences = len([part for part in re.split(r"[.!?]+(?=[\s\"”’')]|$)", text) if re.search(r"\w", part)])
    lines = len([line for line in text.splitlines() if re.search(r"\w", line)])
    return words, sentences, lines


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![a-z]){word}(?![a-z])", text.lower()) is not None


def _passages(seed: int, size: int) -> list[tuple[str, str, Score]]:
    """A number of sentences, two words that must occur, at most so many words."""
    chance = random.Random(f"passages {seed}")
    made: list[tuple[str, str, Score]] = []
    for _ in range(size):
        subject, (one, two), sentences = chance.choice(_SUBJECTS), chance.sample(_WORDS, 2), chance.choice((2, 3, 4))
        most = chance.choice((40, 50, 60))
        question = (
            f"Write a short passage about {subject} in exactly {sentences} sentences, with at most {most} words. "
            f'It must contain the words "{one}" and "{two}".'
        )

        def right(draft: str, one: str = one, two: str = two, sentences: int = sentences, most: int = most) -> bool:
            words, have, _ = _counts(draft)
            return have == sentences and words <= most and _has_word(draft, one) and _has_word(draft, two)

        made.append((question, f"{sentences} sentences, <= {most} words, {one}, {two}", right))
    return made


def _verses(seed: int, size: int) -> list[tuple[str, str, Score]]:
    """A number of lines, an opening word, a word that must and one that must not occur."""
    chance = random.Random(f"verses {seed}")
    made: list[tuple[str, str, Score]] = []
    for _ in range(size):
        subject, (word, taboo), lines = chance.choice(_SUBJECTS), chance.sample(_WORDS, 2), chance.choice((3, 4, 5, 6))
        opening = chance.choice(_OPENINGS)
        question = (
            f'Write a poem of exactly {lines} lines about {subject}. The first word must be "{opening}". '
            f'Use the word "{word}" and do not use the word "{taboo}".'
        )

        def right(draft: str, word: str = word, taboo: str = taboo, lines: int = lines, opening: str = opening) -> bool:
            first = re.match(r"\W*(\w+)", draft)
            return (
                _counts(draft)[2] == lines
                and first is not None
                and first[1].lower() == opening.lower()
                and _has_word(draft, word)
                and not _has_word(draft, taboo)
            )

        made.append((question, f"{lines} lines, {opening} first, {word}, not {taboo}", right))
    return made


# --- analyses with a conclusion that can be checked ------------------------------------------------------------------

_FIRMS = ("Arbor", "Brook", "Cinder", "Delta", "Ember", "Fjord")
_THEMES = {
    "delivery": ("The parcel came a week late.", "My order got lost on the way.", "The courier left it in the rain."),
    "price": ("Far too expensive for what it is.", "The fee doubled without notice.", "I paid more than in the shop."),
    "quality": ("It broke after two days.", "The seams came apart at once.", "The material feels cheap and thin."),
    "support": ("Nobody answered my calls.", "The agent was rude to me.", "I waited three weeks for a reply."),
}  # fmt: skip
_PRAISE = ("Lovely colours.", "My daughter adores it.", "It looks just like the picture.", "Nice box.")


def _comparisons(seed: int, size: int) -> list[tuple[str, str, Score]]:
    """Which of three offers costs least over a number of months: a fee once and a fee a month."""
    chance = random.Random(f"comparisons {seed}")
    made: list[tuple[str, str, Score]] = []
    while len(made) < size:
        firms, months = chance.sample(_FIRMS, 3), chance.choice((6, 10, 12))
        offers = [(chance.randrange(0, 201, 20), chance.randrange(10, 41, 5)) for _ in firms]
        totals = [once + monthly * months for once, monthly in offers]
        if len(set(totals)) < 3:
            continue
        best = firms[totals.index(min(totals))]
        lines = "\n".join(
            f"- {firm}: {once} euros to set up and {monthly} euros a month"
            for firm, (once, monthly) in zip(firms, offers, strict=True)
        )
        question = (
            "Compare these three internet offers and conclude which one is the cheapest over "
            f"{months} months in total:\n{lines}"
        )
        made.append((question, best, _concludes(best, [firm for firm in firms if firm != best])))
    return made


def _complaints(seed: int, size: int) -> list[tuple[str, str, Score]]:
    """Which of four areas customers complain about most."""
    chance = random.Random(f"complaints {seed}")
    made: list[tuple[str, str, Score]] = []
    while len(made) < size:
        most, other, third = chance.sample(list(_THEMES), 3)
        said = [*chance.sample(_THEMES[most], 3), chance.choice(_THEMES[other]), chance.choice(_THEMES[third])]
        said.append(chance.choice(_PRAISE))
        chance.shuffle(said)
        comments = "\n".join(f"{number}. {comment}" for number, comment in enumerate(said, start=1))
        question = (
            "Analyse these customer comments and conclude which area draws the most complaints: delivery, price, "
            f"quality or support.\n{comments}"
        )
        made.append((question, most, _concludes(most, [theme for theme in _THEMES if theme != most])))
    return made


def concluding_words(text: str) -> str:
    """What an analysis concludes: from its last "conclusion" (or "therefore", "in summary") on, else its last line."""
    marks = list(re.finditer(r"\b(?:in )?conclu(?:sion|de)\w*|\btherefore\b|\bin summary\b|\boverall\b", text, re.I))
    tail = text[marks[-1].end() :] if marks else text.strip().rpartition("\n")[2]
    return tail if re.search(r"\w", tail) else text.strip().rpartition("\n")[2]


def _concludes(wanted: str, others: Sequence[str]) -> Score:
    """Right when the first of the options that the conclusion names is the wanted one."""

    def right(text: str) -> bool:
        tail = concluding_words(text)
        named = re.search(rf"\b(?:{'|'.join([wanted, *others])})\b", tail, re.IGNORECASE)
        return named is not None and named[0].lower() == wanted.lower()

    return right


_OWN: dict[str, Callable[[int, int], list[tuple[str, str, Score]]]] = {
    "capitals": _capitals,
    "currencies": _currencies,
    "elements": _elements,
    "functions": _functions,
    "passages": _passages,
    "verses": _verses,
    "comparisons": _comparisons,
    "complaints": _complaints,
}
