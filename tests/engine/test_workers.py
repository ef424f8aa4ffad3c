"""The six workers: what they ask, and how they read what a small model really writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from kaelum_graph import workers
from kaelum_graph.errors import UsageError
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.sandbox.base import Sandbox
from kaelum_graph.types import Message, Query, WorkerName
from kaelum_graph.verifiers import verifier
from kaelum_graph.workers import Conclusion, Prompt, Worker, all_workers, worker
from kaelum_graph.workers.programs import printed_answer, printing, program_in

SIX = ["math", "code", "logic", "factual", "creative", "analysis"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = ProcessSandbox()
    yield box
    box.close()


def concluded(name: str, question: str, text: str, sandbox: Sandbox) -> Conclusion:
    return worker(name).conclude(Query(text=question), text, sandbox)


# --- the registry ----------------------------------------------------------------------------------------------------


def test_the_six_come_first_in_their_order() -> None:
    assert list(all_workers())[:6] == SIX
    assert [one.name for one in all_workers().values()][:6] == SIX


def test_an_unknown_worker_is_an_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match=r"unknown worker 'poet'; there are: math, code, logic, factual"):
        worker("poet")


def test_every_verifier_named_exists() -> None:
    for one in all_workers().values():
        assert one.verifiers
        assert [verifier(name).name for name in one.verifiers] == list(one.verifiers)


class Poet(Worker):
    """A worker of some other package."""

    name: ClassVar[WorkerName] = WorkerName("poet")
    description: ClassVar[str] = "Rhymes."

    def prompt(self, query: Query, *, reflection: str | None = None, structure: str | None = None) -> Prompt:
        return Prompt(messages=(Message("user", query.text),))

    def conclude(self, query: Query, text: str, sandbox: Sandbox) -> Conclusion:
        return Conclusion(answer=text)


@pytest.fixture
def clean_registry() -> Iterator[None]:
    all_workers()
    known = dict(workers._registry)
    yield
    workers._registry.clear()
    workers._registry.update(known)
    workers._load.cache_clear()


@pytest.mark.usefixtures("clean_registry")
def test_an_added_worker_stands_after_the_six() -> None:
    workers.register(Poet)
    assert list(all_workers()) == [*SIX, "poet"]
    assert isinstance(worker("poet"), Poet)


@pytest.mark.usefixtures("clean_registry")
def test_a_name_is_taken_once() -> None:
    class Impostor(Poet):
        name: ClassVar[WorkerName] = WorkerName("math")

    with pytest.raises(UsageError, match="'math' is already registered by"):
        workers.register(Impostor)


@pytest.mark.usefixtures("clean_registry")
def test_an_installed_package_adds_a_worker_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rhymes.py").write_text(
        "from kaelum_graph.workers import Conclusion, Prompt, Worker\n"
        "class Rhymer(Worker):\n"
        "    name = 'rhymer'\n"
        "    description = 'Rhymes.'\n"
        "    def prompt(self, query, *, reflection=None):\n"
        "        return Prompt(messages=())\n"
        "    def conclude(self, query, text, sandbox):\n"
        "        return Conclusion(answer=text)\n"
    )
    info = tmp_path / "rhymes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rhymes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kaelum.workers]\nrhymer = rhymes:Rhymer\n")
    monkeypatch.syspath_prepend(tmp_path)
    workers._load.cache_clear()
    assert worker("rhymer").description == "Rhymes."
    sys.modules.pop("rhymes")


@pytest.mark.usefixtures("clean_registry")
def test_a_module_laid_into_the_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(workers.__file__).with_name("factual.py").read_text()
    (tmp_path / "oracle.py").write_text(source.replace('WorkerName("factual")', 'WorkerName("oracle")'))
    monkeypatch.setattr(workers, "__path__", [*workers.__path__, str(tmp_path)])
    workers._load.cache_clear()
    assert list(all_workers()) == [*SIX, "oracle"]
    sys.modules.pop("kaelum_graph.workers.oracle")


# --- what is asked ---------------------------------------------------------------------------------------------------

HISTORY = (
    Message("system", "You are Ada's assistant."),
    Message("user", "My number is 7."),
    Message("assistant", "Noted."),
    Message("tool", "weather: rain"),
    Message("system", "Answer in British English."),
)


@pytest.mark.parametrize("name", SIX)
def test_the_conversation_is_kept_in_order_and_the_callers_system_prompts_come_first(name: str) -> None:
    messages = worker(name).prompt(Query(text="What is twice my number?", history=HISTORY)).messages
    assert messages[0].role == "system"
    assert [turn.role for turn in messages].count("system") == 1
    assert messages[0].content.startswith("You are Ada's assistant.\n\nAnswer in British English.\n\n")
    assert len(messages[0].content) > len("You are Ada's assistant.\n\nAnswer in British English.\n\n") + 20
    assert messages[-4:-1] == (HISTORY[1], HISTORY[2], HISTORY[3])
    assert messages[-1].role == "user"
    assert "What is twice my number?" in messages[-1].content


def test_examples_are_turns_of_their_own_only_where_there_is_no_conversation() -> None:
    alone = worker("math").prompt(Query(text="2 + 2?", history=HISTORY[:1])).messages
    assert [turn.role for turn in alone] == ["system", "user", "assistant", "user", "assistant", "user"]
    inside = worker("math").prompt(Query(text="2 + 2?", history=HISTORY)).messages
    assert [turn.role for turn in inside] == ["system", "user", "assistant", "tool", "user"]
    assert alone[2].content in inside[0].content


@pytest.mark.parametrize("name", SIX)
@pytest.mark.parametrize("question", ["How many {braces} are in {query}?", "Write a Python function `f(x)`: {} %s"])
def test_a_query_is_passed_on_as_it_is(name: str, question: str) -> None:
    assert question in worker(name).prompt(Query(text=question)).messages[-1].content


@pytest.mark.parametrize("name", SIX)
@pytest.mark.parametrize("question", ["What is it?", "Write a function that sorts a list."])
def test_a_reflection_is_worked_into_the_last_turn(name: str, question: str) -> None:
    plain = worker(name).prompt(Query(text=question))
    reflected = worker(name).prompt(Query(text=question), reflection="the program printed nothing")
    assert "the program printed nothing" in reflected.messages[-1].content
    assert reflected.messages[-1].content.startswith(plain.messages[-1].content)
    assert reflected.messages[:-1] == plain.messages[:-1]


def test_code_that_is_asked_for_gets_another_prompt_than_a_question() -> None:
    def instructions(question: str) -> str:
        return worker("code").prompt(Query(text=question)).messages[0].content

    question = instructions("How many words are in this text?")
    function = instructions("Write a Python function that counts words.")
    foreign = instructions("Write a JavaScript function that counts words.")
    assert "print" in question
    assert "print" not in function
    assert "Python" in function
    assert "Python" not in foreign


def test_descriptions_differ_and_say_enough_for_an_embedding() -> None:
    descriptions = [one.description for one in all_workers().values()]
    assert len(set(descriptions)) == len(descriptions)
    assert all(8 <= len(text.split()) <= 40 for text in descriptions)
    assert all(len(one.examples) >= 5 for one in list(all_workers().values())[:6])


def test_drafts_and_analyses_are_prose_and_the_others_are_not() -> None:
    assert [name for name, one in all_workers().items() if one.prose][:2] == ["creative", "analysis"]


# --- steps -----------------------------------------------------------------------------------------------------------

TURNS = [
    "",
    "\n",
    "one line",
    "first\nsecond\n",
    "\n\nfirst\n\n\nsecond\n\n",
    "a\r\nb\r\n\r\nc",
    "```python\nx = 1\n\nprint(x)\n```\nDone.",
    "   \n  \t\n",
    "α = 1\u2028β = 2\x0bγ",
]


@pytest.mark.parametrize("name", SIX)
@pytest.mark.parametrize("text", TURNS)
def test_steps_join_back_to_the_turn(name: str, text: str) -> None:
    assert "".join(worker(name).split_steps(text)) == text


def test_steps_of_reasoning_are_lines_and_a_program_is_one_step() -> None:
    text = "Pens: 3 * 12 = 36\n\nLeft: 36 - 9 = 27\n"
    assert worker("math").split_steps(text) == ("Pens: 3 * 12 = 36\n", "\nLeft: 36 - 9 = 27\n")
    assert worker("code").split_steps("```python\nx = 1\nprint(x)\n```") == ("```python\nx = 1\nprint(x)\n```",)


# --- mathematics -----------------------------------------------------------------------------------------------------

EMAILS = "James gets 160 emails a day. How many does he answer in 5 days? Do not include units."

MATH = [
    # Copied from the 0.5B's turns, cut to their ends.
    ("So, the final answer is \\(\\boxed{17}\\).", "17"),
    ("Therefore, the number of forks in the package that Ava bought is \\(\\boxed{14}\\).", "14"),
    ("So James responds to \\boxed{560} emails.\nLet's check: \\boxed{560}", "560"),
    ("Thus each gets \\(\\boxed{\\frac{2}{3}}\\) tickets.", "\\frac{2}{3}"),
    ("\\[\n400 + 200 + 600 + 300 = 1500\n\\]\n\nTherefore, David has \\(\\boxed{1500}\\) goblins.", "1500"),
    ("He has 30 + 12 = 42\nAnswer: 42 apples", "42"),
    ("**Answer:** $1,234", "1,234"),
    ("Kept: 160 * 0.7 = 112\nIn a week: 112 * 5 = 560", "560"),
    ("\\boxed{560 \\text{ emails}}", "560"),
    ("\\boxed{112 \\times 5 = 560}", "560"),
    ("\\boxed{x = 560}", "560"),
    ("The final answer is \\boxed{560", "560"),
    ("\\[\n\\boxed{560.0}\n\\]", "560"),
    ("First \\boxed{112} a day.\nThen 5 days: \\boxed{560}.", "560"),
]


@pytest.mark.parametrize(("text", "answer"), MATH)
def test_a_number_is_read_however_it_is_written(text: str, answer: str, sandbox: Sandbox) -> None:
    assert concluded("math", EMAILS, text, sandbox).answer == answer


def test_what_is_asked_for_keeps_its_form(sandbox: Sandbox) -> None:
    line = "What is the equation of the line through (0, 1) with slope 0?"
    assert concluded("math", line, "\\boxed{y = 1}", sandbox).answer == "y = 1"
    pair = concluded("math", "Solve x + y = 7, x - y = -1.", "\\boxed{x = 3, y = 4}", sandbox)
    assert pair.answer == "x = 3, y = 4"
    assert concluded("math", "How long is it, in cm?", "Answer: 5 cm", sandbox).answer == "5 cm"
    product = concluded("math", "Write 12 as a product of primes.", "\\boxed{2 \\cdot 2 \\cdot 3}", sandbox)
    assert product.answer == "2 \\cdot 2 \\cdot 3"
    assert concluded("math", "Integrate 2x.", "\\boxed{x^2 + C}", sandbox).answer == "x^2 + C"


def test_an_imagined_output_gives_way_to_the_real_one(sandbox: Sandbox) -> None:
    text = (
        "Let's calculate it with Python.\n```python\nkiwi = 3 * 35\napples = 35 + 93\nprint(kiwi + apples + 93 - 38)\n"
        "```\n```output\n163\n```\nThe total is \\(\\boxed{163}\\)."
    )
    made = concluded("math", EMAILS, text, sandbox)
    assert made.answer == "288"
    assert made.program is not None
    assert made.observation == "288\n"


def test_a_program_that_fails_leaves_the_answer_in_words(sandbox: Sandbox) -> None:
    text = "```python\nprint(cost)\n```\nThe answer is \\boxed{12}."
    assert concluded("math", EMAILS, text, sandbox).answer == "12"


@pytest.mark.parametrize(
    "text", ["", "   \n", "I don't know.", "To solve this problem, we need to follow these steps:\n"]
)
def test_no_number_is_an_error_for_the_model(text: str, sandbox: Sandbox) -> None:
    made = concluded("math", EMAILS, text, sandbox)
    assert made.answer is None
    assert made.error == "No final answer was given: end with \\boxed{answer}."


def test_a_turn_that_was_cut_off_in_mid_reasoning_is_no_answer(sandbox: Sandbox) -> None:
    text = "The rate is 20.\n   - The residual heat from the next 20 seconds is \\(400 - 4 = 396\\).\n   - The final"
    assert concluded("math", EMAILS, text, sandbox).answer is None


SLIPS = [
    ("State the final answer: 4 - 1 - 7 =", "4 - 1 - 7 = -6", "-4", "Recomputed: 4 - 1 - 7 = -4"),
    (
        "What is 205 - 838 + 505?",
        "\\[205 - 838 = -683\\]\n\n\\[-683 + 505 = 822\\]\n\nThe answer is \\(\\boxed{822}\\).",
        "-128",
        "Recomputed: 205 - 838 = -633; (-633) + 505 = -128",
    ),
    ("How many has he?", "3 * 35 = 115\n93 - 38 = 55\n115 + 55 = 160\n\\boxed{160}", "160", None),
    (
        "How many has he?",
        "3 * 35 = 115\n115 + 55 = 170\n\\boxed{170}",
        "160",
        "Recomputed: 3 * 35 = 105; (105) + 55 = 160",
    ),
    # Not plain which 115 is meant; a right chain; a rounding; an answer that no calculation states.
    ("He has 115. How many in all?", "3 * 35 = 115\n115 + 55 = 170\n\\boxed{170}", "170", None),
    ("How many has he?", "3 * 35 = 105\n105 + 55 = 160\n\\boxed{160}", "160", None),
    ("How much is a third?", "100 / 3 = 33.33\n\\boxed{33.33}", "33.33", None),
    ("How many has he?", "3 * 35 = 115\n\\boxed{8}", "8", None),
]


@pytest.mark.parametrize(("question", "text", "answer", "observation"), SLIPS)
def test_slips_in_a_chain_are_recomputed_to_its_end(
    question: str, text: str, answer: str, observation: str | None, sandbox: Sandbox
) -> None:
    made = concluded("math", question, text, sandbox)
    assert (made.answer, made.observation) == (answer, observation)


# --- programs --------------------------------------------------------------------------------------------------------

LETTERS = 'How many times does the letter "h" appear in the text: "hundred thousand names and then Mr Fritz"?'
SORTING = (
    "Sort these words in descending order and return them as a comma-separated list, e.g. word_1, word_2: Only, federal"
)

PROGRAMS = [
    ("```python\nprint('hundred thousand names and then Mr Fritz'.count('h'))\n```", "3"),
    ("```python\ntext = 'hah'\nprint('The answer is', text.count('h'))\n```", "2"),
    ("```python\nn = 3\nprint(f'The letter \"h\" appears {n} times in the text.')\n```", "3"),
    ("```python\nprint('Count:', 3)\n```\n\nThis program counts letters.\n", "3"),
    ("```python\nprint('Number of times h appears: 3')\n```", "3"),
    # No closing fence, no fence at all, prose around.
    ("```python\nprint(3)", "3"),
    ("print('hah'.count('h'))", "2"),
    ("Here is the program:\n\ntext = 'hah'\nprint(text.count('h'))\n\nIt prints the count.", "2"),
    ("Sure!\n```\nprint(3)\n```", "3"),
    # Nothing printed, but it is plain what should be.
    ("```python\ntext = 'hah'\ntext.count('h')\n```", "2"),
    ("```python\ncount = 'hah'.count('h')\n```", "2"),
    ("```python\ndef count():\n    return 'hah'.count('h')\n```", "2"),
    ("```python\ndef main():\n    print('hah'.count('h'))\n```", "2"),
    ("```python\ndef count(text='hah'):\n    return text.count('h')\n```", "2"),
    ("```python\ndef count(text):\n    return text.count('h')\n\ncount('hah')\n```", "2"),
    ("```python\n3\n```", "3"),
    # Every one of them found, where their number is asked for.
    ("```python\nimport re\nprint(re.findall('h', 'hah'))\n```", "2"),
    # Several blocks.
    ("```python\ndef count(t):\n    return t.count('h')\n```\nUsage:\n```python\nprint(count('hah'))\n```", "2"),
    ("```python\nprint(1/0)\n```\nBetter:\n```python\nprint(2)\n```", "2"),
    ("```python\nprint(2)\n```\nOutput:\n```\n5\n```", "2"),
    ("```python\nprint(2)\n```\n\n```output\n5\n```", "2"),
    # Cut off after it has printed.
    ("```python\nn = 2\nprint(n)\n# Another way is to\nfor letter in (", "2"),
    ("```python\nx = 5\nprint('debug', x)\nprint(2)\n```", "2"),
]


@pytest.mark.parametrize(("text", "answer"), PROGRAMS)
def test_a_program_answers_with_the_value_it_prints(text: str, answer: str, sandbox: Sandbox) -> None:
    made = concluded("code", LETTERS, text, sandbox)
    assert (made.answer, made.error) == (answer, None)
    assert made.program is not None
    assert made.observation is not None
    assert made.observation.strip()


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(', '.join(sorted(['Only', 'federal'], reverse=True)))\n```",
        "```python\nprint(sorted(['Only', 'federal'], reverse=True))\n```",
        "```python\nfor word in sorted(['Only', 'federal'], reverse=True):\n    print(word)\n```",
        "```python\nprint('Sorted words:', sorted(['Only', 'federal'], reverse=True))\n```",
        "```python\nwords = ['Only', 'federal']\nwords.sort(reverse=True)\nprint(*words, sep=', ')\n```",
        "```python\nwords = 'federal, Only'.split(' ')\nprint(', '.join(words))\n```",
    ],
)
def test_a_list_takes_the_form_that_is_asked_for(text: str, sandbox: Sandbox) -> None:
    assert concluded("code", SORTING, text, sandbox).answer == "federal, Only"


def test_a_list_keeps_the_form_it_was_printed_in_when_none_is_asked_for() -> None:
    assert printed_answer("Keep all numbers above 3 in this list: ['4', '1']", "['4']\n") == "['4']"
    assert printed_answer("Print a triangle of stars.", "*\n**\n***\n") == "*\n**\n***"
    assert printed_answer("Who is a knight?", "Amelia is a knight, and Bob is a knave.\n") == (
        "Amelia is a knight, and Bob is a knave"
    )


FAILURES = [
    ("I can't do that.", "No program was written: put one complete Python program in a ```python block."),
    ("```python\nprint(1/0)\n```", "The program failed: line 1: ZeroDivisionError: division by zero."),
    ("```python\ntext = input('Text: ')\nprint(text.count('h'))\n```", "The program reads input, but there is none"),
    ("```python\nimport sys\nprint(sys.stdin.read())\n```", "The program reads input, but there is none"),
    ("```python\ndef count(text):\n    return text.count('h')\n```", "The program printed nothing"),
    ("```python\nfor x in\n```", "The program is no valid Python: invalid syntax in line 1."),
    ("```python\nprint('never\n```", "The program is no valid Python: unterminated string literal"),
]


@pytest.mark.parametrize(("text", "error"), FAILURES)
def test_a_program_that_answers_nothing_says_why(text: str, error: str, sandbox: Sandbox) -> None:
    made = concluded("code", LETTERS, text, sandbox)
    assert made.answer is None
    assert made.error is not None
    assert made.error.startswith(error)


def test_a_program_that_never_ends_is_stopped(sandbox: Sandbox) -> None:
    made = concluded("code", LETTERS, "```python\nwhile True:\n    pass\n```", sandbox)
    assert made.answer is None
    assert made.error is not None
    assert made.error.startswith("The program failed: ")


def test_the_last_of_two_whole_programs_counts() -> None:
    text = "```python\nx = 1\nprint(x)\n```\nOr:\n```python\ny = 2\nprint(y)\n```"
    assert program_in(text) == "y = 2\nprint(y)"


def test_two_idle_functions_leave_it_open_which_to_call() -> None:
    assert printing("def a():\n    return 1\n\ndef b():\n    return 2\n") is None
    assert printing("def a():\n    return 1\n\ndef b():\n    return a()\n") is not None


# --- code that is asked for ------------------------------------------------------------------------------------------

FUNCTION = "Write a Python function `digit_sum(number)` that adds the digits.\nassert digit_sum(123) == 6"


def test_code_that_is_asked_for_is_the_answer(sandbox: Sandbox) -> None:
    text = (
        "Here it is:\n```python\ndef digit_sum(number):\n    return sum(map(int, str(number)))\n```\nIt turns the "
        "number into text."
    )
    made = concluded("code", FUNCTION, text, sandbox)
    assert made.answer == made.program == "def digit_sum(number):\n    return sum(map(int, str(number)))"
    assert made.error is None


def test_code_with_its_own_failing_test_keeps_the_code_and_says_what_failed(sandbox: Sandbox) -> None:
    text = "```python\ndef digit_sum(number):\n    return 0\n\nassert digit_sum(123) == 6\n```"
    made = concluded("code", FUNCTION, text, sandbox)
    assert made.answer is not None
    assert made.error is not None
    assert "AssertionError" in made.error


def test_code_that_is_no_python_is_no_answer(sandbox: Sandbox) -> None:
    made = concluded("code", FUNCTION, "```python\ndef digit_sum(number)\n    return 0\n```", sandbox)
    assert made.answer is None
    assert made.error is not None
    assert made.error.startswith("The code is no valid Python: ")


def test_a_program_that_is_asked_to_read_input_may(sandbox: Sandbox) -> None:
    text = "```python\nname = input()\nprint('Hello', name)\n```"
    made = concluded("code", "Write a Python program that reads a name and greets.", text, sandbox)
    assert made.answer == "name = input()\nprint('Hello', name)"
    assert made.error is None


def test_code_in_another_language_is_not_run(sandbox: Sandbox) -> None:
    text = "```javascript\nfunction add(a, b) { return a + b; }\n```"
    made = concluded("code", "Write a JavaScript function that adds.", text, sandbox)
    assert made.answer == "function add(a, b) { return a + b; }"
    assert made.program is None


# --- logic -----------------------------------------------------------------------------------------------------------

KNIGHTS = 'Zoe says: Jack is a knave. Who is a knight? (Format your answer like: "Zoe is a knight/knave")'


def test_logic_takes_the_answer_in_words(sandbox: Sandbox) -> None:
    text = "Zoe is a knight, since Jack lies.\n**Answer:** Zoe is a knight, and Jack is a knave."
    assert concluded("logic", KNIGHTS, text, sandbox).answer == "Zoe is a knight, and Jack is a knave"
    assert concluded("logic", "Does it follow? (Yes or No)", "Answer: Yes", sandbox).answer == "Yes"
    assert concluded("logic", "Does it follow? (Yes or No)", "No", sandbox).answer == "No"


DECIDED = [
    ("Answer: No", "No"),
    ("yes.", "Yes"),
    ("**Yes**, it does.", "Yes"),
    ("The mammals that swim need not be cats.\nAnswer: no", "No"),
    ("Therefore, it does not logically follow that no lawyers are elephants.", "No"),
    ("So the conclusion follows from the premises.", "Yes"),
    ("Some of them are. No, wait: all are.\nAnswer: Yes, all are.", "Yes"),
]


@pytest.mark.parametrize(("text", "answer"), DECIDED)
def test_logic_reads_a_yes_or_no_out_of_words(text: str, answer: str, sandbox: Sandbox) -> None:
    question = "Does it logically follow that: No lawyers are elephants?\n(Answer Yes or No)"
    assert concluded("logic", question, text, sandbox).answer == answer


def test_the_form_given_back_is_no_answer(sandbox: Sandbox) -> None:
    made = concluded("logic", KNIGHTS, "Answer: Zoe is a knight/knave.", sandbox)
    assert made.answer is None
    assert made.error == "'knight/knave' decides nothing: choose one of them for each."


def test_logic_runs_a_program_and_prefers_what_it_prints(sandbox: Sandbox) -> None:
    text = (
        "```python\nfrom itertools import product\nfor zoe, jack in product([True, False], repeat=2):\n"
        "    if zoe == (not jack) and jack == (not zoe) and zoe:\n"
        "        print(f\"Zoe is a {'knight' if zoe else 'knave'}\")\n```\nAnswer: Zoe is a knave"
    )
    made = concluded("logic", KNIGHTS, text, sandbox)
    assert made.answer == "Zoe is a knight"
    assert made.program is not None


def test_logic_falls_back_on_words_when_the_program_fails(sandbox: Sandbox) -> None:
    made = concluded("logic", KNIGHTS, "```python\nprint(jack)\n```\nAnswer: Zoe is a knave", sandbox)
    assert made.answer == "Zoe is a knave"
    made = concluded("logic", KNIGHTS, "```python\nprint(jack)\n```", sandbox)
    assert made.answer is None
    assert made.error == "The program failed: line 1: NameError: name 'jack' is not defined."


# --- facts -----------------------------------------------------------------------------------------------------------

FACTS = [
    ("The capital of Peru is Lima.\nAnswer: Lima", "Lima"),
    ("Answer: The capital of Peru is Lima.", "Lima"),
    ("Answer: Lima\nLima has been the capital since 1535.", "Lima"),
    ("Answer: Lima.", "Lima"),
    ("The capital of Peru is Lima.", "Lima"),
    ("The capital of Peru is **Lima**.", "Lima"),
    ("**Answer:** *Lima*", "Lima"),
    ("Lima", "Lima"),
    ('Answer: "Lima"', "Lima"),
]


@pytest.mark.parametrize(("text", "answer"), FACTS)
def test_a_fact_is_read_without_its_sentence(text: str, answer: str, sandbox: Sandbox) -> None:
    assert concluded("factual", "What is the capital of Peru?", text, sandbox).answer == answer


STATEMENTS = [
    ("What is the chemical symbol of sulfur?", "S is the chemical symbol of sulfur.", "S"),
    ("What is the chemical symbol of sulfur?", 'Sulfur has the chemical symbol "S".', "S"),
    ("What is the chemical symbol of sulfur?", "Sulfur is represented by the symbol S.", "S"),
    ("What is the atomic number of bromine?", "Answer: bromine has an atomic number of 35.", "35"),
    ("What is the atomic number of bromine?", "Bromine is an element with atomic number 35.", "35"),
    ("Which chemical element has the symbol Na?", "The chemical element that has the symbol Na is sodium.", "sodium"),
    ("What is the capital of Mexico?", "The capital of Mexico is Mexico City.", "Mexico City"),
    ("Who wrote War and Peace?", "Leo Tolstoy wrote War and Peace.", "Leo Tolstoy"),
    ("What is the largest planet?", "The largest planet in our solar system is Jupiter.", "Jupiter"),
    ("Is the Earth flat?", "No, the Earth is not flat.", "No"),
    ("Which is larger, the Sun or the Moon?", "The Sun is larger.", "The Sun is larger"),
    ("When did the Berlin Wall fall?", "In 1989", "In 1989"),
]


@pytest.mark.parametrize(("question", "text", "answer"), STATEMENTS)
def test_the_part_that_the_question_did_not_say_is_the_fact(
    question: str, text: str, answer: str, sandbox: Sandbox
) -> None:
    assert concluded("factual", question, text, sandbox).answer == answer


def test_no_fact_is_an_error_for_the_model(sandbox: Sandbox) -> None:
    made = concluded("factual", "What is the capital of Peru?", "Answer:", sandbox)
    assert made.answer is None
    assert made.error == "No answer was given: end with a line 'Answer: …'."


# --- prose -----------------------------------------------------------------------------------------------------------

DRAFTS = [
    ("Waves fold on the shore.\nA gull cries.", "Waves fold on the shore.\nA gull cries."),
    ("Sure! Here's a poem about the sea:\n\nWaves fold.\nA gull cries.", "Waves fold.\nA gull cries."),
    ("Certainly!\n\nHere is the passage:\n\nWaves fold.", "Waves fold."),
    ("Here is a short passage:\n\nWaves fold.\n\nNote: it has two words.", "Waves fold."),
    ("Waves fold.\n\n(Word count: 2)", "Waves fold."),
    ("Waves fold.\n\n---\nThis poem has exactly one line.", "Waves fold."),
    ("```\nWaves fold.\n```", "Waves fold."),
    ('"Waves fold on the shore."', "Waves fold on the shore."),
    ('"Stay," she said. "Please."', '"Stay," she said. "Please."'),
    ("Here is where the river turns.\nNobody comes.", "Here is where the river turns.\nNobody comes."),
    ("Words fail me at the shore.\nNote how it shines.", "Words fail me at the shore.\nNote how it shines."),
]


@pytest.mark.parametrize(("text", "draft"), DRAFTS)
def test_a_draft_loses_what_is_said_about_it_and_nothing_else(text: str, draft: str, sandbox: Sandbox) -> None:
    assert concluded("creative", "Write a poem about the sea.", text, sandbox).answer == draft


def test_an_analysis_is_its_whole_text(sandbox: Sandbox) -> None:
    text = "- Cost: A is cheaper.\n- Speed: B is faster.\n\nConclusion: A."
    assert concluded("analysis", "Compare A and B.", f"\n{text}\n", sandbox).answer == text


@pytest.mark.parametrize("name", ["creative", "analysis"])
def test_an_empty_text_is_an_error_for_the_model(name: str, sandbox: Sandbox) -> None:
    made = concluded(name, "Write a poem.", " \n", sandbox)
    assert made.answer is None
    assert made.error is not None
    assert made.error.startswith("Nothing was written")


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("[-81.68, -49.7]", "['-81.68', '-49.7']"),
        ("['-81.68', '-49.7']", "['-81.68', '-49.7']"),
        ("-81.68, -49.70", "['-81.68', '-49.7']"),
        ("[-81.68, 5]", "[-81.68, 5]"),
        ("2", "2"),
    ],
)
def test_a_printed_list_takes_the_spelling_of_the_list_in_the_question(output: str, answer: str) -> None:
    question = "Remove all numbers larger than 8.6 in this list: ['-81.68', '67.10', '-49.7']\nReturn the new list."
    assert printed_answer(question, output) == answer


def test_logic_sets_the_alternatives_of_a_format_apart() -> None:
    question = 'Who is what? (Format: "Ann is a knight/knave, and Bob is a knight/knave") True and/or false.'
    shown = worker("logic").prompt(Query(text=question)).messages[-1].content
    assert "Ann is a [knight or knave], and Bob is a [knight or knave]" in shown
    assert "and/or" in shown


def test_a_box_that_was_cut_off_is_no_answer(sandbox: Sandbox) -> None:
    assert (
        worker("math").conclude(Query(text="What is 2 + 2?"), "So the answer is \\boxed", sandbox).answer != "\\boxed"
    )
