"""What is learned does not depend on how many threads numpy and torch may use."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from kaelum_graph.learning.one_thread import one_thread

LEARN = """
import json
from tests.engine.learning_whole import whole_state
from tests.engine.test_learning_conformance import LOG
from threadpoolctl import threadpool_info
state = whole_state()
for event in LOG[:25]:
    state.apply(event)
threads = [pool["num_threads"] for pool in threadpool_info()]
print(json.dumps([{name: part.digest for name, part in state.parts().items()}, max(threads)]))
"""


def numbers() -> set[int]:
    """Of the threads that numpy's and torch's operations would use if called here and now."""
    return {int(pool["num_threads"]) for pool in threadpool_info()} | {torch.get_num_threads()}


def learned(threads: int) -> tuple[dict[str, str], int]:
    """The digests of what a process with so many threads learned, and how many it has afterwards."""
    number = str(threads)
    done = subprocess.run(
        [sys.executable, "-c", LEARN], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number},
    )  # fmt: skip
    digests, after = json.loads(done.stdout.splitlines()[-1])
    return digests, after


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor: nothing is split among threads")
def test_it_learns_the_same_with_any_number_of_threads() -> None:
    (one, after_one), (two, after_two) = learned(1), learned(2)
    assert (after_one, after_two) == (1, 2), "what a process may use is as it was before"
    assert one == two


def test_two_threads_take_turns() -> None:
    """Each has one thread while it is within, and neither sets the other's free."""
    inside, seen, ended = threading.Event(), list[set[int]](), list[str]()

    def another() -> None:
        inside.set()
        with one_thread():
            seen.append(numbers())
            ended.append("another")

    with one_thread():
        pass
    importlib.import_module("faiss")  # brings pools of its own, after it has been held to one thread once

    before = numbers()
    thread = threading.Thread(target=another)
    with one_thread():
        thread.start()
        inside.wait(10)
        with one_thread():
            pass
        thread.join(0.2)
        seen.append(numbers())
        ended.append("first")
    thread.join(10)
    assert numbers() == before
    assert (ended, seen) == (["first", "another"], [{1}, {1}])


def test_it_lets_go_when_something_fails() -> None:
    before = numbers()
    with pytest.raises(ValueError, match="within"), one_thread():
        raise ValueError("within")
    assert numbers() == before
