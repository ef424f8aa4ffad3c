"""A search in a process of its own, over a checkpointer: begun, killed by the test, and gone on with in another.

    python -m tests.graphs.resumed_process FOLDER ENCODER begin|resume

It prints one JSON line a wave, and at the end what the run came to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from kaelum_flow.create import create_kaelum
from kaelum_flow.facade import Kaelum
from kaelum_flow.trace import trace_of
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from tests.graphs.scripted_model import ScriptedModel

QUESTION = "How many apples are left?"
SIMS = 24
CONFIG: RunnableConfig = {"configurable": {"thread_id": "killed"}}


def say(request: Any, index: int) -> str:
    """An answer that no other agrees with, so that the search runs to its budget."""
    return f"I count again.\nThe answer is \\boxed{{{index}}}"


def main() -> None:
    folder, encoder, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    model = ScriptedModel(say, seconds=0.2)
    settings = Settings(data_dir=folder / "data", wave_size=4, max_reflections=0)
    with (
        Kaelum(settings, model=model, encoder=Encoder(encoder)) as kaelum,
        SqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite")) as saver,
    ):
        # No row of the budget is saved by stopping early.
        builder = create_kaelum(kaelum, worker="math", sims=SIMS, early_stop=False)
        graph = builder.compile(checkpointer=saver, name="kaelum")
        given: Any = {"messages": [HumanMessage(QUESTION)]} if what == "begin" else None
        final: Any = None
        modes: Any = ["custom", "values"]
        streamed: Any = graph.stream(given, CONFIG, stream_mode=modes, subgraphs=True)
        for _, mode, data in streamed:
            if mode == "custom" and data.get("stage") == "wave":
                print(json.dumps({"wave": data["wave"], "rollouts": data["rollouts"]}), flush=True)
            elif mode == "values":
                final = data
        trace = trace_of(final) or {}
        told = {"id": final["answer"]["id"], "rollouts": len(trace["rollouts"]), "drawn": model.drawn}
        print(json.dumps({**told, "cost": final["answer"]["cost"]["rollouts"]}), flush=True)


if __name__ == "__main__":
    main()
