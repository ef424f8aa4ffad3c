"""What arrives in each stream mode: as a graph of its own, as a node, as a subgraph and as a tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stream_modes import MODES, PLACES, astream, stream, table
from kaelum_flow.facade import Kaelum
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

DOCS = Path(__file__).parents[2] / "docs" / "langgraph.md"
BOXED = "First I subtract.\nThe answer is \\boxed{5}"
BY_TOOL = "tool-started, tool-output-delta, tool-finished"
CHECKPOINTS = "messages, the search's state, inner messages, inner the search's state"
INNER = "messages, inner messages, inner the search's state"

OUTER = {
    "stand-alone": {
        "values": "messages, the search's state",
        "updates": "each step",
        "custom": "bare progress, text",
        "messages": "a whole AIMessage",
        "tools": "",
        "tasks": "each step",
        "checkpoints": "messages, the search's state",
        "debug": "checkpoint, task, task_result",
    },
    "node": {
        "values": "messages",
        "updates": "messages",
        "custom": '`{"kaelum": …}` progress',
        "messages": "reasoning, tokens, usage and story",
        "tools": "",
        "tasks": "the node",
        "checkpoints": "messages",
        "debug": "checkpoint, task, task_result",
    },
    "subgraph": {
        "values": "messages",
        "updates": "messages",
        "custom": "",
        "messages": "a whole AIMessage",
        "tools": "",
        "tasks": "the node",
        "checkpoints": "messages",
        "debug": "checkpoint, task, task_result",
    },
    "tool": {
        "values": "messages",
        "updates": "messages",
        "custom": '`{"kaelum": …}` progress',
        "messages": "a whole ToolMessage",
        "tools": BY_TOOL,
        "tasks": "the node",
        "checkpoints": "messages",
        "debug": "checkpoint, task, task_result",
    },
}
WITH_SUBGRAPHS = {
    "stand-alone": {
        "values": "messages, the search's state, inner the search's state",
        "updates": "each step, inner each step",
        "custom": "bare progress, inner bare progress, text",
        "messages": "a whole AIMessage",
        "tools": "",
        "tasks": "each step, inner each step",
        "checkpoints": CHECKPOINTS,
        "debug": "checkpoint, task, task_result, inner checkpoint, inner task, inner task_result",
    },
    "node": {
        "values": INNER,
        "updates": "inner each step, messages",
        "custom": '`{"kaelum": …}` progress',
        "messages": "reasoning, tokens, usage and story",
        "tools": "",
        "tasks": "the node, inner each step",
        "checkpoints": "messages",
        "debug": "checkpoint, task, inner task, inner task_result, task_result",
    },
    "subgraph": {
        "values": INNER,
        "updates": "inner each step, messages",
        "custom": "inner bare progress, inner text",
        "messages": "inner a whole AIMessage",
        "tools": "",
        "tasks": "the node, inner each step",
        "checkpoints": INNER,
        "debug": "checkpoint, task, inner checkpoint, inner task, inner task_result, task_result",
    },
    "tool": {
        "values": INNER,
        "updates": "inner each step, messages",
        "custom": '`{"kaelum": …}` progress',
        "messages": "inner a whole AIMessage, a whole ToolMessage",
        "tools": BY_TOOL,
        "tasks": "the node, inner each step",
        "checkpoints": "messages",
        "debug": "checkpoint, task, inner task, inner task_result, task_result",
    },
}
TABLES = {False: OUTER, True: WITH_SUBGRAPHS}


@pytest.fixture
def kaelum(make_kaelum: MakeKaelum) -> Kaelum:
    return make_kaelum(always(BOXED), sims=2, cache=False, learning=False, worker="math")


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("place", PLACES)
def test_streamed(kaelum: Kaelum, place: str, version: str, subgraphs: bool) -> None:
    assert stream(place, kaelum, version=version, subgraphs=subgraphs) == TABLES[subgraphs][place]


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("place", PLACES)
async def test_streamed_asynchronously(kaelum: Kaelum, place: str, version: str, subgraphs: bool) -> None:
    assert await astream(place, kaelum, version=version, subgraphs=subgraphs) == TABLES[subgraphs][place]


@pytest.mark.parametrize("subgraphs", [False, True])
def test_the_docs_have_this_table(subgraphs: bool) -> None:
    assert set(TABLES[subgraphs]) == set(PLACES)
    assert all(set(column) == set(MODES) for column in TABLES[subgraphs].values())
    assert table(TABLES[subgraphs]) in DOCS.read_text()
