"""Any checkpointer keeps a search: strictly, small, and so that a killed one goes on where it was."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send

from kaelum_flow import expand
from kaelum_flow.create import create_kaelum
from kaelum_flow.services import Services
from kaelum_flow.state import KaelumState
from kaelum_flow.trace import trace_of
from kaelum_flow.wave_slots import slots_for
from kaelum_graph.errors import UsageError
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.tree import SearchTree
from tests.graphs import resumed_process
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

EQUATION = "Solve 3x + 5 = 20 for x."
BOXED = "First I subtract.\nThe answer is \\boxed{5}"
CONFIG: RunnableConfig = {"configurable": {"thread_id": "one"}}
MOST_BYTES = 64 * 1024


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a real server, which comes as a package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pgserver.postgres_server import get_server

        server = get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


def host(graph: Any, checkpointer: BaseCheckpointSaver[Any]) -> Any:
    """Kaelum as a part of a bigger graph."""
    around: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    around.add_node("kaelum", graph)
    around.add_edge(START, "kaelum")
    around.add_edge("kaelum", END)
    return around.compile(checkpointer=checkpointer)


def check_conversation(state: Any) -> None:
    """Two turns, each with its own answer."""
    answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
    assert [message.response_metadata["kaelum"]["answer"] for message in answers] == ["5", "5"]
    assert answers[0].id != answers[1].id


def test_sqlite_keeps_a_conversation(make_kaelum: MakeKaelum, tmp_path: Path) -> None:
    builder = create_kaelum(make_kaelum(always(BOXED), cache=False), worker="math")
    with SqliteSaver.from_conn_string(str(tmp_path / "host.sqlite")) as saver:
        for graph in (builder.compile(checkpointer=saver, name="kaelum"), host(builder.compile(), saver)):
            config: RunnableConfig = {"configurable": {"thread_id": str(id(graph))}}
            graph.invoke({"messages": [HumanMessage(EQUATION)]}, config)
            check_conversation(graph.invoke({"messages": [HumanMessage("Again, please: " + EQUATION)]}, config))


async def test_sqlite_keeps_an_async_conversation(make_kaelum: MakeKaelum, tmp_path: Path) -> None:
    builder = create_kaelum(make_kaelum(always(BOXED), cache=False), worker="math")
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "host.sqlite")) as saver:
        graph = host(builder.compile(), saver)
        await graph.ainvoke({"messages": [HumanMessage(EQUATION)]}, CONFIG)
        check_conversation(await graph.ainvoke({"messages": [HumanMessage("Again: " + EQUATION)]}, CONFIG))


def test_postgres_keeps_a_conversation(make_kaelum: MakeKaelum, postgres: str) -> None:
    builder = create_kaelum(make_kaelum(always(BOXED), cache=False), worker="math")
    with PostgresSaver.from_conn_string(postgres) as saver:
        saver.setup()
        graph = host(builder.compile(), saver)
        graph.invoke({"messages": [HumanMessage(EQUATION)]}, CONFIG)
        check_conversation(graph.invoke({"messages": [HumanMessage("Again: " + EQUATION)]}, CONFIG))


async def test_postgres_keeps_an_async_conversation(make_kaelum: MakeKaelum, postgres: str) -> None:
    builder = create_kaelum(make_kaelum(always(BOXED), cache=False), worker="math")
    async with AsyncPostgresSaver.from_conn_string(postgres) as saver:
        await saver.setup()
        graph = builder.compile(checkpointer=saver, name="kaelum")
        config: RunnableConfig = {"configurable": {"thread_id": "async"}}
        await graph.ainvoke({"messages": [HumanMessage(EQUATION)]}, config)
        check_conversation(await graph.ainvoke({"messages": [HumanMessage("Again: " + EQUATION)]}, config))


def wordy(request: Any, index: int) -> str:
    """About 1,600 characters a rollout, no two of them alike: longer and less alike than real ones."""
    chance = random.Random(index)
    words = "the sum of so many apples and pears that were left when each had been given away is then less".split()
    lines = [" ".join(chance.choices(words, k=20)) + f" {chance.random():.6f}." for _ in range(14)]
    return "\n".join([*lines, f"The answer is \\boxed{{{index}}}"])


def test_no_checkpoint_of_a_long_search_is_large(make_kaelum: MakeKaelum, tmp_path: Path) -> None:
    kaelum = make_kaelum(wordy, cache=False)
    builder = create_kaelum(kaelum, worker="math", sims=32, early_stop=False, max_reflections=1)
    path = tmp_path / "host.sqlite"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        graph = builder.compile(checkpointer=saver, name="kaelum")
        graph.invoke({"messages": [HumanMessage("How many apples are left?")]}, CONFIG)
        assert len((trace_of(graph.get_state(CONFIG).values) or {})["rollouts"]) == 32
    with closing(sqlite3.connect(path)) as connection:
        (checkpoints,) = connection.execute("SELECT max(length(checkpoint) + length(metadata)) FROM checkpoints")
        (writes,) = connection.execute("SELECT max(size) FROM (SELECT sum(length(value)) AS size FROM writes "
                                       "GROUP BY thread_id, checkpoint_ns, checkpoint_id)")  # fmt: skip
    assert 8 * 1024 < checkpoints[0] < MOST_BYTES, "the tree is there, and small"
    assert writes[0] < MOST_BYTES


def test_what_is_measured_of_tokens_is_not_kept(make_kaelum: MakeKaelum) -> None:
    saver = InMemorySaver()
    graph = create_kaelum(make_kaelum(always(BOXED)), worker="math", sims=4).compile(checkpointer=saver)
    graph.invoke({"messages": [HumanMessage(EQUATION)]}, CONFIG)
    kept = {key for item in saver.list(None) for key in item.checkpoint["channel_values"]}
    assert "tree" in kept
    assert "measured" not in kept
    written = {channel for item in saver.list(None) for _, channel, _ in item.pending_writes or ()}
    assert "measured" not in written


def test_the_reward_model_still_reads_what_is_measured(make_kaelum: MakeKaelum) -> None:
    """What isn't kept still reaches the next node: the steps of every rollout are scored."""
    graph = create_kaelum(make_kaelum(always(BOXED)), worker="math", sims=4).compile(checkpointer=InMemorySaver())
    graph.invoke({"messages": [HumanMessage(EQUATION)]}, CONFIG)
    assert graph.get_state(CONFIG).values["verdict"]["path_score"] is not None


def test_a_fan_out_of_questions_is_answered_side_by_side(make_kaelum: MakeKaelum) -> None:
    inner = create_kaelum(make_kaelum(always(BOXED), cache=False), worker="math").compile()

    def spread(state: Any) -> list[Send]:
        return [Send("kaelum", {"messages": [HumanMessage(f"{EQUATION} Take {n}.")]}) for n in range(4)]

    around: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    around.add_node("kaelum", inner)
    around.add_conditional_edges(START, spread, ["kaelum"])
    graph = around.compile(checkpointer=InMemorySaver())
    state = graph.invoke({"messages": [HumanMessage("Solve them all.")]}, CONFIG)
    answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
    assert len({message.id for message in answers}) == 4


def test_a_hosts_own_context_is_no_hindrance(make_kaelum: MakeKaelum) -> None:
    class Context:
        tenant = "somebody"

    around: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState, context_schema=Context)
    around.add_node("kaelum", create_kaelum(make_kaelum(always(BOXED)), worker="math").compile())
    around.add_edge(START, "kaelum")
    state = around.compile().invoke({"messages": [HumanMessage(EQUATION)]}, context=Context())
    assert state["messages"][-1].response_metadata["kaelum"]["status"] == "verified"


def run(folder: Path, encoder: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", resumed_process.__name__, str(folder), str(encoder), what],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path, encoder_folder: Path) -> None:
    with run(tmp_path, encoder_folder, "begin") as first:
        assert first.stdout is not None
        done = 0
        for line in first.stdout:
            done = json.loads(line)["rollouts"]
            if done >= 12:
                break
        first.kill()
    assert 12 <= done < resumed_process.SIMS

    with run(tmp_path, encoder_folder, "resume") as second:
        out, _ = second.communicate(timeout=200)
    assert second.returncode == 0
    told = json.loads(out.splitlines()[-1])
    assert told["rollouts"] == told["cost"] == resumed_process.SIMS
    # At most the wave that was under way is drawn again.
    assert told["drawn"] <= resumed_process.SIMS - done + 4
    with closing(Storage(tmp_path / "data" / STORE_FILE)) as storage:
        assert storage.has_episode(told["id"])
        assert storage.counts(tenant=None)["episodes"] == 1


def test_an_answer_that_was_given_before_is_a_message_of_its_own(make_kaelum: MakeKaelum) -> None:
    """The cache answers under the first answer's id; a state must not take the second turn for the first."""
    graph = create_kaelum(make_kaelum(always(BOXED), cache=True), worker="math").compile()
    first = graph.invoke({"messages": [HumanMessage(EQUATION)]})
    again = {"messages": [HumanMessage(EQUATION)], "query": EQUATION}
    second = graph.invoke({**again, "messages": [*first["messages"], *again["messages"]]})
    assert second["answer"]["cache"] == "hit"
    assert [message.type for message in second["messages"]] == ["human", "ai", "human", "ai"]


def test_a_hosts_keys_are_its_own(make_kaelum: MakeKaelum) -> None:
    """Names that a host's state is likely to have, which Kaelum's nodes use among themselves."""

    class Host(MessagesState):
        sources: list[str]
        route: str
        features: int

    around: StateGraph[Any, Any, Any, Any] = StateGraph(Host)
    around.add_node("kaelum", create_kaelum(make_kaelum(always(BOXED)), worker="math").compile())
    around.add_edge(START, "kaelum")
    own = {"sources": ["a", "b"], "route": "north", "features": 7}
    state = around.compile().invoke({"messages": [HumanMessage(EQUATION)], **own})
    assert {key: state[key] for key in own} == own
    assert set(create_kaelum(make_kaelum(always(BOXED))).compile().invoke(
        {"messages": [HumanMessage(EQUATION)]}
    )) == {"messages", "answer"}  # fmt: skip


def test_a_host_may_have_every_name_to_itself(make_kaelum: MakeKaelum) -> None:
    class Host(MessagesState):
        query: str
        options: str
        tenant: str

    kaelum = make_kaelum(always(BOXED))
    around: StateGraph[Any, Any, Any, Any] = StateGraph(Host)
    around.add_node("kaelum", create_kaelum(kaelum, inputs=("messages",), worker="math").compile())
    around.add_edge(START, "kaelum")
    own = {"query": "SELECT 1", "options": "none", "tenant": "somebody"}
    state = around.compile().invoke({"messages": [HumanMessage(EQUATION)], **own})
    assert {key: state[key] for key in own} == own
    told = state["messages"][-1].response_metadata["kaelum"]
    assert told["answer"] == "5"
    assert kaelum.services.storage.has_episode(told["id"], tenant="")


def test_an_unknown_input_is_refused(make_kaelum: MakeKaelum) -> None:
    with pytest.raises(UsageError, match="unknown input 'question'"):
        create_kaelum(make_kaelum(always(BOXED)), inputs=("question",))


def test_known_answers_of_a_fan_out_are_messages_of_their_own(make_kaelum: MakeKaelum) -> None:
    kaelum = make_kaelum(always(BOXED), cache=True)
    kaelum.ask(EQUATION, worker="math")

    def spread(state: Any) -> list[Send]:
        return [Send("kaelum", {"messages": [HumanMessage(EQUATION)]}) for _ in range(2)]

    around: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    around.add_node("kaelum", create_kaelum(kaelum, worker="math").compile())
    around.add_conditional_edges(START, spread, ["kaelum"])
    state = around.compile().invoke({"messages": [HumanMessage("Both, please.")]})
    told = [one.response_metadata["kaelum"] for one in state["messages"] if isinstance(one, AIMessage)]
    assert [one["cache"] for one in told] == ["hit", "hit"]
    assert told[0]["id"] == told[1]["id"]


def test_a_checkpoint_of_an_earlier_version_is_read() -> None:
    tree = SearchTree().to_json()
    values: Any = {"tree": tree, "route": {}, "wave": []}
    assert (trace_of(values) or {})["rollouts"] == []


def test_a_search_that_gets_no_more_places_gives_what_it_has(
    make_kaelum: MakeKaelum, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wave of nothing comes after one that was measured."""
    kaelum = make_kaelum(lambda request, index: f"The answer is \\boxed{{{index}}}", slots=4, cache=False, seed=None)
    scheduler = kaelum.services.slots
    assert scheduler is not None
    with ExitStack() as held:
        waves: list[int] = []

        def asked_for(services: Services, state: KaelumState, *given: Any, **how: Any) -> Any:
            waves.append(state.get("waves", 0))
            if len(waves) == 2:
                held.enter_context(scheduler.request("another", wanted=4, bid=None))
            return slots_for(services, state, *given, **how)

        monkeypatch.setattr(expand, "slots_for", asked_for)
        answer = kaelum.ask("How many?", worker="math", sims=12, early_stop=False, deadline=20.0)
    assert (answer.stop_reason, answer.cost.rollouts) == ("deadline", 4)
