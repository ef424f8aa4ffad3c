"""A research agent: it plans what to look up, searches local notes, and reasons over them with Kaelum as a node."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from kaelum_graph import Kaelum, kaelum_node

NOTES = Path(__file__).parent / "notes"
QUESTION = "How many days does a full rain tank last the pumps of the greenhouse?"


class Research(MessagesState):
    words: list[str]


def plan(state: Research) -> dict[str, Any]:
    """What to look up. A 0.5B model plans badly, so this is plain Python; a bigger chat model could take its place."""
    return {"words": re.findall(r"\w{4,}", state["messages"][-1].text.lower())}


def search(state: Research) -> dict[str, Any]:
    """The question with the two notes before it that have most of the words. Its id stays, so it replaces the first."""
    question = state["messages"][-1]
    notes = [path.read_text().strip() for path in sorted(NOTES.glob("*.txt"))]
    notes.sort(key=lambda note: sum(word in note.lower() for word in state["words"]), reverse=True)
    return {"messages": [HumanMessage(" ".join([*notes[:2], question.text]), id=question.id)]}


def main(kaelum: Kaelum | None = None, question: str = QUESTION) -> None:
    with kaelum or Kaelum() as served:
        builder = StateGraph(Research)
        builder.add_sequence([plan, search, ("reason", kaelum_node(served, effort="low"))])
        builder.add_edge(START, "plan")
        agent: Any = builder.compile()
        told = ""
        for mode, data in agent.stream({"messages": [("user", question)]}, stream_mode=["custom", "updates"]):
            if mode == "custom" and (line := thought(data["kaelum"])) != told:
                print(told := line)
            for node, update in data.items() if mode == "updates" else ():
                print(f"{node}: {update.get('words') or update['messages'][-1].text}")
                if node == "reason":
                    print(update["messages"][-1].response_metadata["kaelum"])


def thought(progress: dict[str, Any]) -> str:
    """What Kaelum is doing now, as the node puts it on the stream."""
    shown = [f"{key} {progress[key]}" for key in ("worker", "rollouts", "leader", "status") if progress.get(key)]
    return f"  … {progress['stage']} {', '.join(shown)}".rstrip()


if __name__ == "__main__":
    main(None, *sys.argv[1:2])
