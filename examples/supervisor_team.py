"""A supervisor team: questions go to a mathematician, who has Kaelum as a tool. All of it runs on this machine."""

from __future__ import annotations

import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph_supervisor import create_supervisor

from kaelum_graph import Kaelum, kaelum_tool

QUESTION = "Solve 7x - 12 = 58 for x."


class Rule(BaseChatModel):
    """Calls one tool with the user's question, then passes on what came back.

    A 0.5B model rewords the question and calls twice. So plain Python leads here; put a bigger chat model in its place.
    """

    tool: str

    @property
    def _llm_type(self) -> str:
        return "rule"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        told = [one for one in messages if (one.type == "ai" and not one.tool_calls) or getattr(one, "artifact", None)]
        call = {"name": self.tool, "args": {"question": messages[0].text}, "id": f"{self.tool}_{len(messages)}"}
        reply = AIMessage(told[-1].text) if told else AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=reply)])


def main(kaelum: Kaelum | None = None, question: str = QUESTION) -> None:
    with kaelum or Kaelum() as served:
        tool = kaelum_tool(served, worker="math", effort="low")
        mathematician = create_agent(Rule(tool="kaelum"), [tool], name="mathematician")
        team: Any = create_supervisor([mathematician], model=Rule(tool="transfer_to_mathematician")).compile()
        asked, told = {"messages": [("user", question)]}, ""
        for _, mode, data in team.stream(asked, stream_mode=["custom", "updates"], subgraphs=True):
            if mode == "updates" and "supervisor" in data:
                print(data["supervisor"]["messages"][-1].text)
            elif mode == "custom":  # the tool's progress, whoever called it
                progress = data["kaelum"]
                line = f"  … {progress['stage']} {progress.get('leader') or ''}".rstrip()
                if line != told:
                    print(told := line)


if __name__ == "__main__":
    main(None, *sys.argv[1:2])
