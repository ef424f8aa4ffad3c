"""Learns the log in a folder until the component that fails is given the episode that it is killed at."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from kaelum_graph.learning.episode import SeenEpisode
from kaelum_graph.learning.learner import Learner
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from tests.engine.failing_parts import Failing, Reading
from tests.engine.learning_parts import Mean, Order


class Killing(Failing):
    """Ends its process, as `kill -9` does, in the middle of an event."""

    def learn_episode(self, episode: SeenEpisode) -> None:
        if episode.id == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        super().learn_episode(episode)


def make_state() -> LearnedState:
    """As `failing_state`."""
    killing = Killing("bad".__eq__)
    return LearnedState([Order(), killing, Reading(killing), Mean()])


folder = Path(sys.argv[1])
learner = Learner(Storage(folder / "kaelum.sqlite"), Versions(folder / "state"), make_state, save_every=4)
learner.start()
learner.drain(60)
