"""How large a search's checkpoints are, and how many, with the real model and SQLite's checkpointer.

    python benchmarks/checkpoints.py                        # a few minutes on two cores
    python benchmarks/checkpoints.py --sims 32 --model DIR

Every search runs to its budget. A checkpoint is what one row holds: the state and its metadata; its writes are what the
nodes of one step gave back.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "graphs"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver

from kaelum_flow.create import create_kaelum
from kaelum_flow.facade import Kaelum
from kaelum_flow.state import unpacked
from kaelum_graph.config import Settings

QUESTIONS = (
    "Natalia sold clips to 48 of her friends in April, and half as many in May. How many did she sell altogether?",
    "How many times does the letter r occur in 'strawberry raspberry'?",
    "Write four lines about the sea, each with the word 'salt' in it.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sims", type=int, nargs="+", default=[8, 32], help="rollouts of a search")
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="a name or a folder")
    arguments = parser.parse_args()
    print("| rollouts | question | checkpoints | largest, KiB | writes of a step, KiB | tree unpacked, KiB |")
    print("|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        Kaelum(Settings(model=arguments.model, data_dir=Path(folder), cache=False)) as kaelum,
    ):
        for sims in arguments.sims:
            for number, question in enumerate(QUESTIONS):
                row(kaelum, question, sims=sims, path=Path(folder) / f"{sims}-{number}.sqlite")


def row(kaelum: Kaelum, question: str, *, sims: int, path: Path) -> None:
    """Print one search's row."""
    with SqliteSaver.from_conn_string(str(path)) as saver:
        builder = create_kaelum(kaelum, sims=sims, early_stop=False)
        graph = builder.compile(checkpointer=saver, name="kaelum")
        config: RunnableConfig = {"configurable": {"thread_id": "1"}}
        graph.invoke({"messages": [HumanMessage(question)]}, config)
        state = graph.get_state(config).values
    with closing(sqlite3.connect(path)) as connection:
        count, largest = connection.execute(
            "SELECT count(*), max(length(checkpoint) + length(metadata)) FROM checkpoints"
        ).fetchone()
        (writes,) = connection.execute(
            "SELECT max(size) FROM (SELECT sum(length(value)) AS size FROM writes "
            "GROUP BY checkpoint_ns, checkpoint_id)"
        ).fetchone()
    tree = len(str(unpacked(state["tree"])))
    rollouts = state["answer"]["cost"]["rollouts"]
    sizes = (f"{size / 1024:.1f}" for size in (largest, writes, tree))
    print(f"| {rollouts} | {question[:40]}… | {count} | " + " | ".join(sizes) + " |", flush=True)


if __name__ == "__main__":
    main()
