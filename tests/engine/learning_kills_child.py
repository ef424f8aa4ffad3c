"""Appends episodes and ratings from several threads and learns, until it is killed. One fork for each line it reads.

It prints an id only after the store acknowledged it. Starting a fork takes milliseconds; the imports are done once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from random import Random

from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.learner import Learner
from kaelum_graph.learning.promotion import PromotionRule
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import make_state, seen

RULE = PromotionRule(hopeful=20, patience=60, replayed=20)


def say(text: str) -> None:
    """One whole line, however many threads say one."""
    os.write(1, f"{text}\n".encode())


def work(folder: Path, run: int) -> None:
    """Write and learn for ever."""
    storage = Storage(folder / "kaelum.sqlite")
    learner = Learner(
        storage, Versions(folder / "state"), make_state, save_every=5, save_seconds=0.05, poll_seconds=0.01,
        keep=3, rule=RULE,
    )  # fmt: skip
    learner.start()

    def write(thread: int) -> None:
        random, number = Random(f"{run} {thread}"), 0
        while True:
            name = f"{run}-{thread}-{number}"
            data = seen(name, value=0.4 + 0.2 * random.random()).to_bytes()
            storage.append_episode(EpisodeId(name), "q", {}, seen=data)
            say(f"episode {name}")
            learner.notify()
            if random.random() < 0.4:
                storage.add_feedback(Feedback(id=name, episode_id=EpisodeId(name), score=float(number % 2)))
                say(f"feedback {name}")
            if random.random() < 0.02:
                learner.forget([name])
                say(f"forgotten {name}")
            number += 1
            time.sleep(0.003)  # 200 kills leave a log that can be replayed in seconds

    threading.excepthook = lambda what: say(f"error {what.exc_value!r}")
    for thread in range(3):
        threading.Thread(target=write, args=(thread,), daemon=True).start()
    threading.Event().wait()


for line in sys.stdin:
    whose, which = line.split()
    child = os.fork()
    if child == 0:
        work(Path(whose), int(which))
    say(f"pid {child}")
    os.waitpid(child, 0)
    say("ended")
