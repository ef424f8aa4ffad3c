"""Human review: an answer that Kaelum is not sure enough of waits for a person, and what they say is learned."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from kaelum_graph import Kaelum, create_kaelum

QUESTION = "What is the capital of Australia?"
PROMPT = "accept, reject, search, or type the right answer: "


def word(said: str) -> dict[str, Any]:
    """A person's word as the graph wants it."""
    if said in ("accept", "reject"):
        return {"action": said}
    return {"action": "search", "sims": 8} if said == "search" else {"action": "correct", "answer": said}


def main(kaelum: Kaelum | None = None, question: str = QUESTION, *, reader: Callable[[str], str] = input) -> None:
    # An interrupted run lives in the checkpointer. With SqliteSaver or PostgresSaver it may be resumed days later, by
    # another process. Only a check on the question itself gives more than 0.85: everything else comes to review.
    with kaelum or Kaelum() as served:
        builder = create_kaelum(served, review=True, min_confidence=0.9, cache=False)
        graph = builder.compile(name="kaelum", checkpointer=InMemorySaver())
        config: RunnableConfig = {"configurable": {"thread_id": "1"}}

        result = graph.invoke({"messages": [("user", question)]}, config)
        while "__interrupt__" in result:
            review = result["__interrupt__"][0].value
            print(f"{review['question']}\n  answer  {review['answer']} (P = {review['confidence']:.2f})")
            if review.get("error"):
                print(f"  {review['error']}")
            for other in review["alternatives"]:
                print(f"  {other['share']:.0%} of the attempts said {other['answer']}")
            result = graph.invoke(Command(resume=word(reader(PROMPT).strip())), config)

        answer = result["messages"][-1]
        print(f"\n{answer.text}\n\n{answer.response_metadata['kaelum']}")


if __name__ == "__main__":
    main(None, *sys.argv[1:2])
