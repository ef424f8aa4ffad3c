"""Killed at any instant: nothing acknowledged is lost, nothing is learned twice, the state is readable every time.

KAELUM_KILLS sets how many kills there are (200 take a few minutes).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from kaelum_graph.learning.learner import Learner
from kaelum_graph.learning.replay import events_after, replay
from kaelum_graph.learning.state import digest_of
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from tests.engine.learning_parts import Order, make_state

KILLS = int(os.environ.get("KAELUM_KILLS", "20"))


class Killed:
    """A process that forks a writing and learning child for each round; the child is killed by its own id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.learning_kills_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def round(self, number: int, random: Random) -> list[str]:
        """What one child said before it was killed; meanwhile its versions are read as another process would."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.folder} {number}\n")
        self.process.stdin.flush()
        said: list[str] = []
        pid = 0
        while not said:  # it runs and writes
            line = self.process.stdout.readline().split()
            if line[0] == "pid":
                pid = int(line[1])
            else:
                said.append(" ".join(line))
        if not pid:
            line = self.process.stdout.readline().split()
            while line[0] != "pid":
                said.append(" ".join(line))
                line = self.process.stdout.readline().split()
            pid = int(line[1])
        until = time.monotonic() + random.uniform(0.0, 0.2)
        while time.monotonic() < until:
            read_current(self.folder)
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        while (line := self.process.stdout.readline().strip()) != "ended":
            said.append(line)
        return said

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def read_current(folder: Path) -> int:
    """The number of events in what serves. It may be pruned between being named and being read; then it is another."""
    versions = Versions(folder / "state")
    for _ in range(50):
        current = versions.current()
        if current is None:
            return 0
        try:
            state = make_state()
            versions.load(current, state)
        except Exception:
            assert versions.current() != current, f"{current} is in use and can't be read"
            continue
        return state.component(Order).events
    raise AssertionError("the version in use changes too often to be read")


def test_kills(tmp_path: Path) -> None:
    random, said, killed = Random(5), list[str](), Killed(tmp_path)
    learned_before = 0
    for number in range(KILLS):
        said += killed.round(number, random)
        versions = Versions(tmp_path / "state")
        for version in versions.list():
            versions.load(version.id, make_state())
        folders = [path for path in (tmp_path / "state").iterdir() if path.is_dir() and not path.name.startswith(".")]
        assert len(versions.list()) == len(folders), "one of them is damaged"
        learned_before += read_current(tmp_path) > 0
    killed.close()
    assert [line for line in said if line.startswith("error")] == []
    storage = Storage(tmp_path / "kaelum.sqlite")
    learner = Learner(storage, Versions(tmp_path / "state"), make_state, poll_seconds=0.01)
    learner.start()
    assert learner.drain(30 + KILLS), learner.status
    learner.forget(timeout=30 + KILLS)  # whatever a killed one had begun to forget
    learner.stop()
    told = {kind: {line.split()[1] for line in said if line.startswith(kind)} for kind in ("episode", "feedback")}
    gone = {line.split()[1] for line in said if line.startswith("forgotten")}
    events = list(events_after(storage, 0))
    forgotten = {event.episode_id for event in events if event.kind == "forgotten"}
    assert gone <= forgotten
    logged = [event.episode_id for event in events if event.kind == "episode"]
    rated = [event.episode_id for event in events if event.kind == "feedback"]
    assert len(set(logged)) == len(logged)
    assert not forgotten & {*logged, *rated}
    assert told["episode"] - forgotten <= set(logged), "an acknowledged episode is lost"
    assert told["feedback"] - forgotten <= set(rated), "an acknowledged rating is lost"
    assert all(storage.has_episode(name) for name in told["episode"] - forgotten)
    made = replay(storage, make_state)
    assert made is not None
    checkpoints = [version for version in learner.versions.list() if not version.promoted]
    online = make_state()
    learner.versions.load(checkpoints[-1].id, online)
    assert online.position == events[-1].sequence
    assert online.component(Order).events == len(logged) + len(rated)
    assert digest_of(online.parts()) == digest_of(made.state.parts()), "an event was learned twice, or not at all"
    assert learner.serving.component(Order).digest == online.component(Order).digest
    print(
        f"\n{KILLS} kills: {len(told['episode'])} episodes and {len(told['feedback'])} ratings acknowledged, "
        f"{len(gone)} forgotten, none lost, none learned twice; {checkpoints[-1].number} versions written, "
        f"the state was readable after each kill ({learned_before} times with something learned)"
    )
    storage.close()
