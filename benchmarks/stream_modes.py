"""What arrives in each of LangGraph's stream modes, by how Kaelum takes part. Prints a Markdown table.

python -m benchmarks.stream_modes
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from kaelum_flow.facade import Kaelum
from kaelum_graph import create_kaelum, kaelum_node, kaelum_tool
from kaelum_graph.types import Json

MODES = ("values", "updates", "custom", "messages", "tools", "tasks", "checkpoints", "debug")
PLACES = ("stand-alone", "node", "subgraph", "tool")
QUESTION = "Solve 3x + 5 = 20 for x."
NAME = "reason"
"""Of Kaelum's node in a host graph."""


def graph_of(place: str, kaelum: Kaelum) -> Any:
    """Kaelum as a graph of its own, or a host graph with Kaelum in one of its nodes; with a checkpointer."""
    if place == "stand-alone":
        return create_kaelum(kaelum).compile(name="kaelum", checkpointer=InMemorySaver())
    nodes = {
        "node": lambda: kaelum_node(kaelum),
        "subgraph": lambda: create_kaelum(kaelum).compile(name="kaelum"),
        "tool": lambda: ToolNode([kaelum_tool(kaelum)]),
    }
    host: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    host.add_node(NAME, nodes[place]())
    host.add_edge(START, NAME)
    host.add_edge(NAME, END)
    return host.compile(checkpointer=InMemorySaver())


def input_of(place: str) -> Json:
    """The question, or an agent's call of the tool with it."""
    if place != "tool":
        return {"messages": [HumanMessage(QUESTION)]}
    call = {"name": "kaelum", "args": {"question": QUESTION}, "id": "call_1", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def arguments(*, version: str, subgraphs: bool) -> Json:
    """Keyword arguments of `stream` and `astream` for every mode at once, on a thread of its own."""
    config = {"configurable": {"thread_id": uuid.uuid4().hex}}
    return {"config": config, "stream_mode": list(MODES), "version": version, "subgraphs": subgraphs}


def heard(parts: Iterable[Any], *, version: str, subgraphs: bool) -> dict[str, str]:
    """What arrived, by mode: kinds of things, in order of first arrival. "inner": of a graph inside the graph."""
    kinds: dict[str, dict[str, None]] = {mode: {} for mode in MODES}
    for part in parts:
        if version == "v2":
            place, mode, data = part["ns"], part["type"], part["data"]
        elif subgraphs:
            place, mode, data = part
        else:
            place, (mode, data) = (), part
        for kind in kinds_of(mode, data):
            kinds[mode][f"inner {kind}" if place else kind] = None
    return {mode: ", ".join(found) for mode, found in kinds.items()}


def kinds_of(mode: str, data: Any) -> Iterator[str]:
    """What one part of a stream is, in words."""
    match mode:
        case "values":
            yield "the search's state" if "request" in data else "messages"
        case "updates":
            yield from ("messages" if list(update or ()) == ["messages"] else "each step" for update in data.values())
        case "custom" if "kaelum" in data:
            yield '`{"kaelum": …}` progress'
        case "custom":
            yield "text" if data["stage"] == "text" else "bare progress"
        case "messages":
            yield from message_kinds(data[0])
        case "tools":
            yield data["event"]
        case "tasks":
            yield "the node" if data["name"] == NAME else "each step"
        case "debug":
            yield data["type"]
        case _:
            yield "the search's state" if "request" in data["values"] else "messages"


def message_kinds(message: BaseMessage) -> Iterator[str]:
    """What a message, or a piece of one, brings."""
    if not isinstance(message, AIMessageChunk):
        yield f"a whole {type(message).__name__}"
        return
    if message.additional_kwargs.get("reasoning_content"):
        yield "reasoning"
    if message.content:
        yield "tokens"
    if message.chunk_position == "last":
        yield "usage and story"


def stream(place: str, kaelum: Kaelum, *, version: str = "v2", subgraphs: bool = False) -> dict[str, str]:
    """What arrives from `stream`."""
    parts = graph_of(place, kaelum).stream(input_of(place), **arguments(version=version, subgraphs=subgraphs))
    return heard(parts, version=version, subgraphs=subgraphs)


async def astream(place: str, kaelum: Kaelum, *, version: str = "v2", subgraphs: bool = False) -> dict[str, str]:
    """What arrives from `astream`."""
    given = arguments(version=version, subgraphs=subgraphs)
    parts: AsyncIterator[Any] = graph_of(place, kaelum).astream(input_of(place), **given)
    return heard([part async for part in parts], version=version, subgraphs=subgraphs)


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """The Markdown table of what arrives, by place and mode: a mode a row, a place a column."""
    rows = [["mode", *PLACES], ["---"] * (len(PLACES) + 1)]
    rows += [[f"`{mode}`", *(columns[place][mode] or "–" for place in PLACES)] for mode in MODES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Both tables, by real searches of two rollouts."""
    with Kaelum(sims=2, cache=False, learning=False) as kaelum:
        for subgraphs in (False, True):
            columns = {place: stream(place, kaelum, subgraphs=subgraphs) for place in PLACES}
            print(f"subgraphs={subgraphs}\n\n{table(columns)}\n")


if __name__ == "__main__":
    main()
