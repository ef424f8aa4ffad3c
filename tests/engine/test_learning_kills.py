"""Killed at any instant: nothing acknowledged is lost, nothing is learned twice, the state is readable every time.

So it is of small components, which learn a hundred events in the time of a kill, and of all that a process learns with:
its versions are megabytes, its kills as often within one event's learning as between two. KAELUM_KILLS sets how many
kills there are of each (200 take half an hour).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from kaelum_graph.learning.learner import Learner
from kaelum_graph.learning.replay import events_after, replay
from kaelum_graph.learning.versions import Versions
from kaelum_graph.storage import Storage
from tests.engine.learning_kills_child import LEARNING, Load
from tests.engine.learning_parts import Order

KILLS = {name: int(os.environ.get("KAELUM_KILLS", usual)) for name, usual in (("small", "20"), ("whole", "6"))}
WITHIN = {"small": 0.2, "whole": 1.0}
"""Seconds from its first word within which it is killed."""


class Killed:
    """A process that forks a writing and learning child for each round; the child is killed by its own id."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.load, self.within = folder, LEARNING[name], WITHIN[name]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.learning_kills_child", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            # A fork has none of its parent's threads: the pool of several that torch would wait for. This process has
            # several, and must come to the same.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
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
            assert line[0] != "ended", "it ended before it was killed"
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
        if number % 2:
            self.wait_for_a_checkpoint()
        until = time.monotonic() + random.uniform(0.0, self.within)
        while time.monotonic() < until:
            read_current(self.folder, self.load)
            time.sleep(self.load.save_seconds / 10)
        os.kill(pid, signal.SIGKILL)
        while (line := self.process.stdout.readline().strip()) != "ended":
            said.append(line)
        return said

    def wait_for_a_checkpoint(self) -> None:
        """Until the child keeps something that it has learned: however slow the machine, some kills come after that."""
        versions, deadline = Versions(self.folder / "state"), time.monotonic() + 60
        before = {version.id for version in versions.list()}
        while {version.id for version in versions.list()} <= before:
            assert time.monotonic() < deadline, "it learns nothing"
            time.sleep(0.01)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def read_current(folder: Path, load: Load) -> int:
    """The number of events in what serves. It may be pruned between being named and being read; then it is another."""
    versions = Versions(folder / "state")
    for _ in range(50):
        current = versions.current()
        if current is None:
            return 0
        try:
            state = load.make_state()
            versions.load(current, state)
        except Exception:
            assert versions.current() != current, f"{current} is in use and can't be read"
            continue
        return state.component(Order).events
    raise AssertionError("the version in use changes too often to be read")


PATIENCE = 600 + 20 * max(KILLS.values())
"""Seconds: each kill leaves a backlog, and on a busy machine what 200 of them leave takes longer than half an hour."""


@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("name", sorted(LEARNING))
def test_kills(tmp_path: Path, name: str) -> None:
    random, said = Random(5), list[str]()
    kills, make_state, learned_before = KILLS[name], LEARNING[name].make_state, 0
    with closing(Killed(tmp_path, name)) as killed:
        for number in range(kills):
            said += killed.round(number, random)
            versions = Versions(tmp_path / "state")
            for version in versions.list():
                versions.load(version.id, make_state())
            folders = [path for path in (tmp_path / "state").iterdir() if path.is_dir() and path.name[0] != "."]
            assert len(versions.list()) == len(folders), "one of them is damaged"
            learned_before += read_current(tmp_path, killed.load) > 0
    assert [line for line in said if line.startswith("error")] == []
    assert learned_before >= kills // 3, "it was killed before it learned anything"
    storage = Storage(tmp_path / "kaelum.sqlite")
    learner = Learner(storage, Versions(tmp_path / "state"), make_state, poll_seconds=0.01)
    learner.start()
    assert learner.drain(PATIENCE), learner.status
    learner.forget(timeout=PATIENCE)  # whatever a killed one had begun to forget
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
    assert all(storage.has_episode(one) for one in told["episode"] - forgotten)
    made = replay(storage, make_state)
    assert made is not None
    checkpoints = [version for version in learner.versions.list() if not version.promoted]
    online = make_state()
    learner.versions.load(checkpoints[-1].id, online)
    assert online.position == events[-1].sequence
    assert online.component(Order).events == len(logged) + len(rated)
    digests = [{name: part.digest for name, part in each.parts().items()} for each in (online, made.state)]
    assert digests[0] == digests[1], "an event was learned twice, or not at all"
    assert learner.serving.component(Order).digest == online.component(Order).digest
    print(
        f"\n{kills} kills, {name} components: "
        f"{len(told['episode'])} episodes and {len(told['feedback'])} ratings acknowledged, {len(gone)} forgotten, "
        f"none lost, none learned twice; {checkpoints[-1].number} versions written, "
        f"the state was readable after each kill ({learned_before} times with something learned)"
    )
    storage.close()
