"""Structures: kinds of tasks, reading what small models write, discovery, the book, the prompt, the benchmark."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import structures as benchmark
from benchmarks.workers import Texts
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.evidence import Evidence, Outcome, Tier
from kaelum_graph.models.base import Generation, GenerationRequest, Sample
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.structures import Arm, Choice, DueDiscovery, RolloutOutcome, StructureBook, book
from kaelum_graph.structures.__main__ import main as print_structures
from kaelum_graph.structures.base import numbered
from kaelum_graph.structures.book import forget
from kaelum_graph.structures.discover import discover
from kaelum_graph.structures.modules import MODULES
from kaelum_graph.structures.reading import chosen, general, plan_lines
from kaelum_graph.structures.store import STRUCTURES_FILE
from kaelum_graph.structures.task_clusters import (
    HALF_LIFE,
    JOIN_COSINE,
    MOST_CLUSTERS,
    TaskCluster,
    joined,
    least_used,
    nearest,
)
from kaelum_graph.structures.trial import MOST_QUERIES
from kaelum_graph.types import Array, Message, Query, WorkerName
from kaelum_graph.workers import all_workers, worker
from tests.engine.routing_queries import QUERIES
from tests.graphs.scripted_model import Said, ScriptedModel

MATH = WorkerName("math")
QUESTIONS = (
    "Mary has 24 sweets and gives Tom a third of them. How many are left?",
    "A baker sells 15 of his 40 loaves to Anna. How many are left?",
    "Paul owns 9 pens and buys 3 more from Tom. How many has he?",
)
PLAN = ("List the amounts that are given", "Do one change after the other", "Check that no amount is negative")
SELECTED = " 1, 9, 21"
ADAPTED = " Write down what each person has.\n2. Change the amounts in the order told.\n3. Look at the result again."


def unit(place: int, *, toward: int | None = None, weight: float = 0.0) -> Array:
    """An axis of 384, or a direction between two of them."""
    vector = np.zeros(384, dtype=np.float32)
    vector[place] = 1.0
    if toward is not None:
        vector[toward] = weight
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def discovering(*, selected: str = SELECTED, adapted: str = ADAPTED, plan: str | None = None) -> ScriptedModel:
    """A model that gives these three answers, whatever comes between."""
    written = plan if plan is not None else "\n".join(f"{number}. {line}" for number, line in enumerate(PLAN, 1))[2:]

    def script(request: GenerationRequest, _: int) -> str:
        asked = request.messages[-1].content
        if "Ways of thinking:" in asked:
            return selected
        return adapted if "Useful ways" in asked else written

    return ScriptedModel(script)


def outcomes(arms: Sequence[Arm], passed: Sequence[bool | None], *, tokens: int = 100) -> list[RolloutOutcome]:
    verdicts: dict[bool | None, Outcome] = {True: "pass", False: "fail", None: "unscored"}
    votes = {good: Evidence(tier=Tier.CONSTRAINT, source="t", outcome=verdict) for good, verdict in verdicts.items()}
    return [
        RolloutOutcome(arm=arm, evidence=(votes[good],), tokens=tokens) for arm, good in zip(arms, passed, strict=True)
    ]


def ask(
    one: StructureBook, number: int, *, direction: Array | None = None, good: tuple[float, float] = (0.5, 0.5)
) -> tuple[Choice | None, DueDiscovery | None]:
    """One query of eight samples that pass at these rates with the structure and without; questions never repeat."""
    embedding = unit(0) if direction is None else direction
    generator = np.random.default_rng(number)
    choice = one.choose(MATH, embedding, generator)
    arms: list[Arm] = ["without" if choice is None else choice.arm(sample) for sample in range(8)]
    passed = [bool(generator.random() < good[arm == "without"]) for arm in arms]
    question = QUESTIONS[number % 3] + " " * (number // 3)
    due = one.learn(
        MATH, embedding, outcomes(arms, passed), choice=choice, question=question, episode_id=f"episode {number}"
    )
    return choice, due


def on_trial(folder: Path) -> StructureBook:
    """A book whose only cluster has a structure on trial."""
    one = StructureBook(folder, model="scripted")
    dues = [ask(one, number)[1] for number in range(3)]
    assert dues[:2] == [None, None]
    assert dues[2] is not None
    assert one.discover(dues[2], discovering(), worker("math")) is not None
    return one


# --- kinds of tasks --------------------------------------------------------------------------------------------------


def test_like_queries_meet_and_others_do_not(encoder_folder: Path) -> None:
    """The router's examples are chosen to differ; the few that ask alike are those that share a cluster."""
    encoder = Encoder(encoder_folder)
    together: set[frozenset[str]] = set()
    for name in ("math", "logic", "creative", "analysis"):
        clusters: list[TaskCluster] = []
        members: list[list[str]] = []
        for query, embedding in zip(QUERIES[name], encoder.encode(QUERIES[name]), strict=True):
            place = nearest(clusters, embedding)
            if place is None:
                clusters.append(TaskCluster(centroid=embedding))
                members.append([query])
            else:
                clusters[place] = joined(clusters[place], embedding, clock=1)
                members[place].append(query)
        assert len(clusters) >= 16
        together |= {frozenset(group) for group in members if len(group) > 1}
    assert frozenset({"What is 7/8 minus 1/4?", "what's 3/4 + 2/3"}) in together
    assert {"Compare renting and buying a flat.", "Is it better to rent or to buy a home in a big city?"} in together
    assert {"Write a poem about autumn leaves.", "Write a song chorus about summer nights."} in together
    liars = next(group for group in together if any("knaves" in query for query in group))
    assert any("liar" in query for query in liars)


def test_a_cluster_is_the_mean_of_its_members() -> None:
    cluster = TaskCluster(centroid=unit(0))
    near = unit(0, toward=1, weight=1.0)
    assert nearest([cluster], near) == 0
    both = joined(cluster, near, clock=2)
    assert both.members == 2
    assert both.centroid == pytest.approx((unit(0) + near) / 2)
    assert float(cluster.centroid[0]) == 1.0
    assert nearest([both, TaskCluster(centroid=unit(1))], near) == 0
    assert nearest([], near) is None
    assert nearest([TaskCluster(centroid=unit(2))], near) is None
    edge = unit(0, toward=1, weight=float(np.sqrt(1 / JOIN_COSINE**2 - 1)) * 1.01)
    assert nearest([cluster], edge) is None


def test_unused_clusters_fade_so_that_new_ones_find_room() -> None:
    old = TaskCluster(centroid=unit(0), use=3.0, last=10)
    new = TaskCluster(centroid=unit(1), use=1.0, last=11)
    assert least_used([old, new], clock=12) == 1
    assert least_used([old, replace(new, last=10 + 2 * HALF_LIFE)], clock=10 + 2 * HALF_LIFE) == 0


# --- reading what a small model writes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("1, 9, 21", (0, 8, 20)),
        ("Numbers: [3, 3, 2]", (2, 1)),
        ("1. List the givens\n2. State the goal", (0, 1)),
        ("I would work backwards, then list the givens.", (4, 0)),
        ("99 and 0", ()),
        ("none of them", ()),
        (", ".join(str(number) for number in range(1, 22)), (0, 1, 2, 3, 4)),
    ],
)
def test_a_choice_is_read_from_numbers_or_names(text: str, places: tuple[int, ...]) -> None:
    assert chosen(text, [module.name for module in MODULES], most=5) == places


@pytest.mark.parametrize(
    "text",
    [
        "1. Read every clue.\n2. Rule out what can't be.\n3. Say who is left.",
        "1.1. Read every clue.\n2) Rule out what can't be.\n(3) Say who is left.",
        "Here is the plan:\n- **Read every clue.**\n- Rule out what can't be.\n- Say who is left.\n",
        "Step 1: Read every clue.\nStep 2: Rule out what can't be.\nStep 3: Say who is left.",
        '```json\n["Read every clue.", "Rule out what can\'t be.", "Say who is left."]\n```',
        '{"Step 1": "Read every clue.", "Step 2": "Rule out what can\'t be.", "step_3": "Say who is left."}',
        '{"steps": [{"step": "Read every clue."}, {"step": "Rule out what can\'t be."}, "Say who is left."]}',
        '{\n  "step1": "Read every clue.",\n  "step2": "Rule out what can\'t be.",\n  "step3": "Say who is left."\n',
        '["Read every clue.", "Rule out what can\'t be.", "Say who is left.", "Say who is left',
        "1. Read every clue.\n2. Rule out what can't be.\n3. Read every clue\n4. Say who is left.\n5. Say who is left.",
        "1. Read every clue.\n2. Rule out what can't be.\n3. ok\n4. Answer: 42\n5. \\boxed{7}\n"
        "6. <|im_end|> and so on\n7. Say who is left.",
    ],
)
def test_a_plan_is_read_from_whatever_form_it_has(text: str) -> None:
    lines = [line.split(": ")[-1] for line in plan_lines(text)]
    assert lines == ["Read every clue.", "Rule out what can't be.", "Say who is left."]


def test_a_line_that_was_cut_off_is_no_line() -> None:
    text = "1. Read every clue.\n2. Rule out what can't be.\n3. Say who is le"
    assert len(plan_lines(text)) == 3
    assert len(plan_lines(text, cut=True)) == 2


def test_a_runaway_list_ends_at_six_lines() -> None:
    words = "ant bee cat dog eel fox gnu hen".split()
    assert len(plan_lines("\n".join(f"{n}. Count every single {word}" for n, word in enumerate(words)))) == 6
    assert plan_lines("1. Count the words\n" * 30) == ("Count the words",)
    assert plan_lines("x" * 500) == ()
    assert plan_lines("") == ()


def test_lines_about_one_of_the_questions_are_left_out() -> None:
    lines = (
        "List the amounts that are given",
        "Divide the 24 sweets",
        "Give Anna her loaves",
        "Ask how many Mary has",
        "Find out how many are left",
    )
    assert general(lines, QUESTIONS) == (lines[0], lines[4])
    assert general(("Use base 7 for all",), ("What is 12 in base 7?", "What is 30 in base 7?")) == (
        "Use base 7 for all",
    )


# --- discovery -------------------------------------------------------------------------------------------------------


def test_three_greedy_calls_select_adapt_and_implement() -> None:
    model = discovering()
    found = discover(model, worker("math"), [*QUESTIONS, "a fourth"])
    assert found.lines == PLAN
    assert found.modules == ("List the givens", "Follow the order", "Check the result")
    assert found.tokens > 0
    text = "\n\nFollow this plan:\n" + numbered(PLAN)
    whole, bare = ([Message("system", "Answer." + more)] for more in (text, ""))
    assert found.prompt_tokens == model.count_tokens(whole) - model.count_tokens(bare) > 0
    select, adapt, implement = model.requests
    assert all(request.sampling.temperature == 0.0 and request.n == 1 for request in model.requests)
    assert sum(request.sampling.max_tokens for request in model.requests) <= 450
    for request in model.requests:
        asked = request.messages[-1].content
        assert all(question in asked for question in QUESTIONS)
        assert "a fourth" not in asked
        assert worker("math").prompt(Query(text=QUESTIONS[0])).messages[0].content in asked
    assert all(module.text in select.messages[-1].content for module in MODULES)
    assert MODULES[8].text in adapt.messages[-1].content
    assert MODULES[1].text not in adapt.messages[-1].content
    assert "Change the amounts in the order told." in implement.messages[-1].content


def test_a_model_that_solves_instead_of_adapting_is_shown_the_modules_themselves() -> None:
    model = discovering(adapted=" Mary has 24 / 3 = 8.\n2. Answer: 16")
    assert discover(model, worker("math"), QUESTIONS).lines == PLAN
    assert MODULES[8].text in model.requests[2].messages[-1].content


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (discovering(selected="I can't say."), "no module was selected"),
        (discovering(plan=" Mary has 24 sweets.\n2. Answer: 16"), "no plan of two lines was written"),
        (discovering(plan=" Read the question again" * 20), "no plan of two lines was written"),
        (discovering(plan=" Take a third of 24 sweets\n2. Ask what Mary has left"), "no plan of two lines was written"),
        (discovering(plan=""), "no plan of two lines was written"),
    ],
)
def test_nothing_usable_is_none_with_its_reason(model: ScriptedModel, reason: str) -> None:
    found = discover(model, worker("math"), QUESTIONS)
    assert found.lines is None
    assert found.reason == reason
    assert not found.interrupted


def test_a_deadline_interrupts() -> None:
    class Late(ScriptedModel):
        def generate(self, requests: Sequence[GenerationRequest], **options: object) -> list[Generation]:
            sample = Sample(text=" 1, 2", finish="deadline", completion_tokens=2)
            return [Generation(request_id=request.request_id, samples=(sample,)) for request in requests]

    found = discover(Late(lambda *_: ""), worker("math"), QUESTIONS)
    assert found.lines is None
    assert found.interrupted


def test_the_modules_are_about_twenty_and_differ() -> None:
    assert 18 <= len(MODULES) <= 24
    assert len({module.name for module in MODULES}) == len({module.text for module in MODULES}) == len(MODULES)


# --- the book --------------------------------------------------------------------------------------------------------


def test_a_structure_is_sought_after_three_checkable_questions_and_then_tried(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    [entry] = one.entries()
    assert entry.state == "trial"
    assert entry.structure.lines == PLAN
    assert entry.structure.prompt_tokens > 0
    choice, due = ask(one, 3)
    assert due is None
    assert choice is not None
    assert choice.paired
    assert choice.propensity == 0.5
    assert Counter(choice.arm(sample) for sample in range(8)) == {"with": 4, "without": 4}
    assert one.choose(MATH, unit(5), np.random.default_rng(0)) is None
    assert one.choose(WorkerName("code"), unit(0), np.random.default_rng(0)) is None
    one.close()


def test_questions_that_no_check_votes_on_or_that_repeat_are_no_reason_to_seek(tmp_path: Path) -> None:
    one = StructureBook(tmp_path, model="scripted")
    for number in range(8):
        unchecked, repeated = f"unchecked {number}", f"repeated {number}"
        nothing = outcomes(["without", "without"], [None, None])
        something = outcomes(["without", "without"], [True, False])
        assert one.learn(MATH, unit(0), nothing, choice=None, question=unchecked, episode_id=unchecked) is None
        assert one.learn(MATH, unit(0), something, choice=None, question="the same", episode_id=repeated) is None
    one.close()


def test_what_helps_is_adopted_and_goes_on_being_compared(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    for number in range(3, 3 + MOST_QUERIES):
        ask(one, number, good=(0.9, 0.2))
    [entry] = one.entries()
    assert entry.state == "adopted"
    assert entry.trial.queries < MOST_QUERIES
    choices = [one.choose(MATH, unit(0), np.random.default_rng(seed)) for seed in range(400)]
    audits = [choice for choice in choices if choice is not None and choice.paired]
    assert len(choices) == 400
    assert None not in choices
    assert 60 <= len(audits) <= 140
    assert all(choice is not None and choice.propensity == 0.875 for choice in choices)
    assert 0 < sum(choice.first for choice in audits) < len(audits)
    for number in range(100, 300):
        ask(one, number, good=(0.1, 0.9))
    assert one.entries()[0].state == "dropped"
    assert one.choose(MATH, unit(0), np.random.default_rng(0)) is None
    one.close()


def test_what_does_not_help_is_dropped_and_never_sought_again(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    for number in range(3, 3 + MOST_QUERIES):
        ask(one, number, good=(0.5, 0.5))
    assert one.entries()[0].state == "dropped"
    assert ask(one, 90) == (None, None)
    one.close()


def test_everything_survives_a_restart_and_is_the_same_again(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    for number in range(3, 8):
        ask(one, number, good=(0.7, 0.4))
    before = one.entries()
    assert before[0].trial.queries == 5
    drawn = one.choose(MATH, unit(0), np.random.default_rng(7))
    one.close()
    again = StructureBook(tmp_path, model="scripted")
    assert again.entries() == before
    assert again.choose(MATH, unit(0), np.random.default_rng(7)) == drawn
    again.close()
    twin = on_trial(tmp_path / "twin")
    for number in range(3, 8):
        ask(twin, number, good=(0.7, 0.4))
    assert twin.entries()[0].trial == before[0].trial
    twin.close()


def test_an_episode_counts_once(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    ask(one, 3)
    before = one.entries()
    assert ask(one, 3)[1] is None
    assert one.entries() == before
    one.close()


def test_another_model_has_structures_of_its_own(tmp_path: Path) -> None:
    one, other = on_trial(tmp_path), StructureBook(tmp_path, model="bigger")
    choice, due = ask(other, 50)
    assert choice is None
    assert due is not None
    assert other.discover(due, discovering(), worker("math")) is not None
    assert [(entry.structure.model, entry.trial.queries) for entry in one.entries()] == [("bigger", 0), ("scripted", 0)]
    one.close()
    other.close()


def test_nothing_usable_is_remembered_and_an_interruption_is_not(tmp_path: Path) -> None:
    one = StructureBook(tmp_path, model="scripted")
    due = [ask(one, number)[1] for number in range(3)][2]
    assert due is not None

    def broken(request: GenerationRequest, _: int) -> str:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        one.discover(due, ScriptedModel(broken), worker("math"))
    assert one.entries() == []
    due = ask(one, 3)[1]
    assert due is not None
    assert one.discover(due, discovering(plan=""), worker("math")) is None
    assert [(entry.state, entry.reason) for entry in one.entries()] == [("none", "no plan of two lines was written")]
    assert ask(one, 4) == (None, None)
    one.close()


def test_only_one_of_many_threads_discovers(tmp_path: Path) -> None:
    one, second = StructureBook(tmp_path, model="scripted"), StructureBook(tmp_path, model="scripted")
    due = [ask(one, number)[1] for number in range(3)][2]
    assert due is not None
    model = discovering()
    model.seconds = 0.02
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: (one, second)[n % 2].discover(due, model, worker("math")), range(4)))
    assert sum(structure is not None for structure in found) == 1
    assert len(model.requests) == 3
    one.close()
    second.close()


def test_a_discovery_whose_process_died_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = StructureBook(tmp_path, model="scripted")
    due = [ask(one, number)[1] for number in range(3)][2]
    assert due is not None
    model = discovering()

    def meanwhile(request: GenerationRequest, drawn: int) -> Said:
        if drawn == 0:
            assert ask(one, 3) == (None, None)
            assert one.discover(due, discovering(), worker("math")) is None
            monkeypatch.setattr(book, "STALE_SECONDS", -1.0)
            assert one.discover(due, discovering(), worker("math")) is not None
        return model.script(request, drawn)

    assert one.discover(due, ScriptedModel(meanwhile), worker("math")) is None
    assert one.entries()[0].state == "trial"
    one.close()


def test_a_discovery_that_was_taken_over_leaves_the_new_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = StructureBook(tmp_path, model="scripted")
    due = [ask(one, number)[1] for number in range(3)][2]
    assert due is not None
    late, taken_over, model = threading.Event(), threading.Event(), discovering()

    def slow(request: GenerationRequest, drawn: int) -> Said:
        assert taken_over.wait(10)
        return model.script(request, drawn)

    def newer(request: GenerationRequest, drawn: int) -> Said:
        taken_over.set()
        assert late.wait(10)
        return model.script(request, drawn)

    with ThreadPoolExecutor(2) as pool:
        old = pool.submit(one.discover, due, ScriptedModel(slow), worker("math"))
        while not one.entries():
            time.sleep(0.005)
        monkeypatch.setattr(book, "STALE_SECONDS", -1.0)
        time.sleep(0.005)  # claims are told apart by the millisecond in which they were made
        new = pool.submit(one.discover, due, ScriptedModel(newer), worker("math"))
        assert old.result() is None
        assert one.entries()[0].state == "sought"
        late.set()
        assert new.result() is not None
    assert one.entries()[0].state == "trial"
    one.close()


def test_samples_of_another_structure_are_not_counted(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    choice, _ = ask(one, 3)
    assert choice is not None
    old = replace(choice, structure=replace(choice.structure, lines=("What was there", "Before this one")))
    seen = outcomes(["with", "without"], [True, False])
    one.learn(MATH, unit(0), seen, choice=old, question="old", episode_id="old")
    assert one.entries()[0].trial.queries == 1
    one.learn(MATH, unit(0), seen, choice=choice, question="new", episode_id="new")
    assert one.entries()[0].trial.queries == 2
    one.close()


def test_many_threads_learn_and_nothing_is_lost(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    second = StructureBook(tmp_path, model="scripted")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: ask((one, second)[number % 2], number), range(3, 23)))
    assert one.entries()[0].trial.queries == 20
    one.close()
    second.close()


def test_the_least_used_cluster_makes_room(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    choice, _ = ask(one, 3)
    for number in range(10, 10 + 3 * MOST_CLUSTERS, 3):
        ask(one, number, direction=unit(number))
    kept = one._store.clusters(MATH)
    assert len(kept) == MOST_CLUSTERS
    assert kept[0].members == 4
    assert [entry.state for entry in one.entries()] == ["trial"]
    one._store.drop_cluster(kept[0].id)
    assert one.entries() == []
    late = outcomes(["with", "without"], [True, False])
    assert one.learn(MATH, unit(0), late, choice=choice, question="late", episode_id="late") is None
    one.close()


def held(folder: Path) -> Counter[str]:
    """How many rows the tables of a book's file have, those that have any."""
    with closing(sqlite3.connect(folder / STRUCTURES_FILE)) as connection:
        tables = ("clusters", "structures", "learned")
        return +Counter({name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables})


def test_forgetting_an_episode_drops_what_it_joined_and_nothing_else(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    ask(one, 3, direction=unit(5))
    assert held(tmp_path) == {"clusters": 2, "structures": 1, "learned": 4}
    assert forget(tmp_path, ["episode 1", "never there"], tenant=None) == 3, "a cluster, its structure, what it learned"
    assert held(tmp_path) == {"clusters": 1, "learned": 3}
    assert not any(question.encode() in path.read_bytes() for path in tmp_path.iterdir() for question in QUESTIONS[1:])
    # The book that was open all the while goes on: what comes later is sought anew.
    assert one.in_use() == []
    dues = [ask(one, number)[1] for number in range(4, 7)]
    assert dues[2] is not None
    assert one.discover(dues[2], discovering(), worker("math")) is not None
    assert forget(tmp_path, ["episode 3"], tenant="ann") == 2
    assert len(one.in_use()) == 1
    one.close()


def test_a_query_that_tried_a_structure_and_joined_elsewhere_taught_both(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    choice = one.choose(MATH, unit(0), np.random.default_rng(0))
    assert choice is not None
    assert choice.paired
    # Between the draw and the end of a query the clusters may have moved.
    one.learn(MATH, unit(9), outcomes(["with"], [True]), choice=choice, question=None, episode_id="between")
    assert forget(tmp_path, ["between"], tenant=None) == 4
    assert held(tmp_path) == {"learned": 3}
    one.close()


def test_a_file_from_before_gives_up_the_workers_clusters_whole(tmp_path: Path) -> None:
    on_trial(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / STRUCTURES_FILE)) as connection:
        connection.executescript("ALTER TABLE learned DROP COLUMN cluster; ALTER TABLE learned DROP COLUMN tried;")
    newer = StructureBook(tmp_path, model="scripted")
    ask(newer, 10, direction=unit(5))
    logic = WorkerName("logic")
    newer.learn(logic, unit(7), outcomes(["without"], [True]), choice=None, question="Who lies?", episode_id="other")
    assert forget(tmp_path, ["episode 10"], tenant=None) == 2, "of this one it is known where it went"
    assert held(tmp_path) == {"clusters": 2, "structures": 1, "learned": 4}
    ask(newer, 11, direction=unit(6))
    assert forget(tmp_path, ["episode 0"], tenant=None) == 4, "two clusters, a structure, what it learned"
    assert [entry.structure.worker for entry in newer.entries()] == []
    assert held(tmp_path) == {"clusters": 1, "learned": 4}, "that of the other worker stays"
    newer.close()


def test_a_program_from_before_may_share_the_file(tmp_path: Path) -> None:
    on_trial(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / STRUCTURES_FILE)) as connection, connection:
        connection.execute("INSERT OR IGNORE INTO learned (episode_id, worker) VALUES ('theirs', 'math')")
    assert forget(tmp_path, ["theirs"], tenant=None) == 3
    assert held(tmp_path) == {"learned": 3}


def test_what_cannot_be_forgotten_whole_is_not_forgotten_at_all(tmp_path: Path) -> None:
    one = on_trial(tmp_path)
    with closing(sqlite3.connect(tmp_path / STRUCTURES_FILE)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE DELETE ON learned BEGIN SELECT RAISE(ABORT, 'no room'); END")
    before = held(tmp_path)
    with pytest.raises(StorageError, match="no room"):
        forget(tmp_path, ["episode 0"], tenant=None)
    assert held(tmp_path) == before
    assert len(one.in_use()) == 1
    one.close()


def test_a_discovery_of_what_is_forgotten_meanwhile_comes_to_nothing(tmp_path: Path) -> None:
    one = StructureBook(tmp_path, model="scripted")
    due = [ask(one, number)[1] for number in range(3)][2]
    assert due is not None
    model, said = discovering(), []

    def script(request: GenerationRequest, count: int) -> Said:
        said.append(forget(tmp_path, ["episode 2"], tenant=None))
        return model.script(request, count)

    assert one.discover(due, ScriptedModel(script), worker("math")) is None
    assert said == [3, 0, 0]
    assert held(tmp_path) == {"learned": 2}
    one.close()


def test_an_embedding_of_another_shape_is_refused(tmp_path: Path) -> None:
    one = StructureBook(tmp_path, model="scripted")
    with pytest.raises(UsageError, match=r"expected \(384,\)"):
        one.choose(MATH, np.zeros(398, dtype=np.float32), np.random.default_rng(0))
    one.close()


def test_structures_can_be_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_structures([str(tmp_path / "none")]) == 2
    assert "no structures" in capsys.readouterr().err
    one = on_trial(tmp_path)
    ask(one, 3)
    one.close()
    assert print_structures([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("math cluster 1 (scripted): trial; 1 queries of trial")
    assert f"\n  1. {PLAN[0]}" in out


# --- the prompt ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(all_workers()))
@pytest.mark.parametrize(
    "question", ["Write a JavaScript function that adds.", "Write a function that adds.", "2 + 2?"]
)
def test_a_structure_follows_the_instructions_and_changes_nothing_else(name: str, question: str) -> None:
    history = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"))
    for query in (Query(text=question), Query(text=question, history=history)):
        plain = worker(name).prompt(query)
        planned = worker(name).prompt(query, structure="1. Read\n2. Solve\n")
        added = "\n\nFollow this plan:\n1. Read\n2. Solve"
        assert planned.messages[0].content.replace(added, "") == plain.messages[0].content
        assert added in planned.messages[0].content
        assert planned.messages[1:] == plain.messages[1:]
        assert replace(planned, messages=plain.messages) == plain


# --- the benchmark ---------------------------------------------------------------------------------------------------


def test_the_benchmark_compares_by_question_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A model that knows capitals only when it is told to follow a plan."""
    planner = discovering(plan=" Name the country that is asked for\n2. Recall the city where its rulers sit")
    known = {task.question: task.reference for task in benchmark.tasks("capitals", seed=2, size=6)}

    def script(request: GenerationRequest, drawn: int) -> Said:
        if "You plan how" in request.messages[0].content:
            assert not any(question in request.messages[-1].content for question in known)
            return planner.script(request, drawn)
        right = "Follow this plan:" in request.messages[0].content
        return f"Answer: {known[request.messages[-1].content] if right else 'Atlantis'}"

    model = ScriptedModel(script)
    keep = tmp_path / "texts.jsonl"
    sandbox = ProcessSandbox()

    def run() -> list[benchmark.Comparison]:
        return benchmark.compare(
            [("factual", "capitals")],
            model=lambda: model,
            name="scripted",
            texts=Texts(keep),
            sandbox=sandbox,
            size=6,
            samples=2,
        )

    [made] = run()
    assert made.discovery.lines is not None
    assert made.plain.accuracy == 0.0
    assert made.planned is not None
    assert made.planned.accuracy == 1.0
    assert made.differences() == [1.0] * 6
    assert 0.0 < made.token_factor < 1.0
    requests = len(model.requests)
    assert requests == 3 + 12
    assert run() == [made]
    assert len(model.requests) == requests
    printed = benchmark.table([made])
    assert "| factual | capitals | 6 × 2 | 0% |" in printed
    assert "+100.0 (+100.0 to +100.0) points" in printed
    assert "1. Name the country that is asked for" in printed
    sandbox.close()


def test_the_benchmark_says_when_no_structure_came(tmp_path: Path) -> None:
    model = discovering(selected="none", plan="")
    sandbox = ProcessSandbox()
    [made] = benchmark.compare(
        [("factual", "capitals")],
        model=lambda: model,
        name="scripted",
        texts=Texts(None),
        sandbox=sandbox,
        size=2,
        samples=1,
    )
    sandbox.close()
    assert made.planned is None
    assert made.differences() == []
    assert "no structure: no module was selected" in benchmark.table([made])


def test_a_kept_discovery_is_json(tmp_path: Path) -> None:
    texts = Texts(tmp_path / "texts.jsonl")
    model = discovering()
    found = benchmark.discovered(worker("factual"), "capitals", lambda: model, "scripted", texts)
    again = benchmark.discovered(
        worker("factual"), "capitals", lambda: model, "scripted", Texts(tmp_path / "texts.jsonl")
    )
    assert found == again
    assert len(model.requests) == 3
    record = json.loads((tmp_path / "texts.jsonl").read_text(encoding="utf-8"))
    assert record["key"].startswith("structure-")
