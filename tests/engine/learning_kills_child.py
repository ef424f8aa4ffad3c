"""Appends episodes and ratings from several threads and learns, until it is killed. One fork for each line it reads.

Its argument names what learns, one of `LEARNING`. It prints an id only after the store acknowledged it. Starting a fork
takes milliseconds; the imports are done once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.learner import Learner
from kaelum_graph.learning.promotion import PromotionRule
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import Order, make_state, seen
from tests.engine.learning_whole import searched, whole_state

RULE = PromotionRule(hopeful=20, patience=60, replayed=20)


@dataclass(frozen=True, kw_only=True)
class Load:
    """A state, the episodes that it learns from, and the seconds from one of a thread's to the next and after which a
    version is kept: learning must about keep up, and what many kills leave be replayed within minutes."""

    make_state: Callable[[], LearnedState]
    episode: Callable[[str, Random], SeenEpisode]
    pause: float
    save_seconds: float


def _counted() -> LearnedState:
    """All that learns, and an `Order` to count its events by."""
    return LearnedState([Order(), *whole_state().components])


def _search(name: str, random: Random) -> SeenEpisode:
    return searched(name, np.random.default_rng(random.getrandbits(32)), rollouts=6, anchored=0.5)


LEARNING = {
    "small": Load(
        make_state=make_state,
        episode=lambda name, random: seen(name, value=0.4 + 0.2 * random.random()),
        pause=0.003,
        save_seconds=0.05,
    ),
    "whole": Load(make_state=_counted, episode=_search, pause=0.3, save_seconds=0.3),
}


def say(text: str) -> None:
    """One whole line, however many threads say one."""
    os.write(1, f"{text}\n".encode())


def work(folder: Path, run: int, load: Load) -> None:
    """Write and learn for ever."""
    storage = Storage(folder / "kaelum.sqlite")
    learner = Learner(
        storage, Versions(folder / "state"), load.make_state, save_every=5, save_seconds=load.save_seconds,
        poll_seconds=0.01, keep=3, rule=RULE,
    )  # fmt: skip
    learner.start()

    def write(thread: int) -> None:
        random, number = Random(f"{run} {thread}"), 0
        while True:
            name = f"{run}-{thread}-{number}"
            data = load.episode(name, random).to_bytes()
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
            time.sleep(load.pause)

    threading.excepthook = lambda what: say(f"error {what.exc_value!r}")
    for thread in range(3):
        threading.Thread(target=write, args=(thread,), daemon=True).start()
    threading.Event().wait()


def main() -> None:
    """Serve the lines of standard input."""
    load = LEARNING[sys.argv[1]]
    for line in sys.stdin:
        whose, which = line.split()
        child = os.fork()
        if child == 0:
            work(Path(whose), int(which), load)
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("ended")


if __name__ == "__main__":
    main()
