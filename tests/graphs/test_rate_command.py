"""`kaelum rate`: a rating is kept once, added to, changed and taken back; a mistake is one clear error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaelum_flow import rate_command
from kaelum_graph.cli.parser import CommandParser
from kaelum_graph.errors import KaelumError, UnknownEpisode, UsageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.storage import STORE_FILE, CacheEntry, Storage
from kaelum_graph.types import EpisodeId

ROOT = Path(__file__).parents[2]
EPISODE = "3f2a77aa"
Command = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def command(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(*arguments)`: standard output of `kaelum rate ARGUMENTS`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*argv: str) -> str:
        parser = CommandParser()
        rate_command.register_rate(parser.add_subparsers())
        arguments = parser.parse_args(["rate", *argv, "--data-dir", str(data)])
        assert arguments.run(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def storage(data: Path) -> Generator[Storage]:
    storage = Storage(data / STORE_FILE)
    for name, tenant in ((EPISODE, ""), ("twin-1", ""), ("twin-2", ""), ("of-ann-1", "ann")):
        storage.append_episode(EpisodeId(name), "q", {}, tenant=tenant)
    yield storage
    storage.close()


def held(storage: Storage) -> Feedback:
    """The one rating there is."""
    (rating,) = storage.list_feedback(tenant=None)
    return rating


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--good"], {"score": 1.0}),
        (["--bad"], {"score": 0.0}),
        (["--score", "0.25"], {"score": 0.25}),
        (["--stars", "1"], {"score": 0.0}),
        (["--stars", "2"], {"score": 0.2}),
        (["--stars", "3"], {"score": 0.5}),
        (["--stars", "4"], {"score": 0.8}),
        (["--stars", "5"], {"score": 1.0}),
        (["--bad", "--answer", "näh", "--worker", "code", "--comment", "hm"],
         {"score": 0.0, "correction": "näh", "worker": "code", "comment": "hm"}),
        (["--step", "2=0.5", "--step", "0=1"], {"steps": ((0, 1.0), (2, 0.5))}),
    ],
)  # fmt: skip
def test_what_is_said_is_kept(command: Command, storage: Storage, argv: list[str], expected: dict[str, Any]) -> None:
    assert command(EPISODE[:4], *argv) == "rating kept\n"
    kept = held(storage)
    assert kept == Feedback(id=f"cli-{EPISODE}", episode_id=EpisodeId(EPISODE), source="cli", **expected)


def test_the_same_again_changes_nothing(command: Command, storage: Storage) -> None:
    said = (EPISODE, "--bad", "--worker", "code", "--step", "1=0")
    told = json.loads(command(*said, "--json"))
    assert told["outcome"] == "kept"
    assert told["episode"] == EPISODE
    assert told["rating"]["worker"] == "code"
    assert json.loads(command(*said, "--json"))["outcome"] == "unchanged"
    assert command(*said) == "the rating says that already\n"
    assert len(storage.feedback_log(after=0)) == 1


def test_more_is_added_and_what_was_said_is_changed(command: Command, storage: Storage) -> None:
    command(EPISODE, "--bad", "--answer", "4", "--step", "0=1", "--step", "1=1")
    assert command(EPISODE, "--worker", "code", "--step", "1=0") == "rating changed\n"
    rating = held(storage)
    assert (rating.score, rating.correction, rating.worker) == (0.0, "4", "code")
    assert rating.steps == ((0, 1.0), (1, 0.0))
    command(EPISODE, "--stars", "2")
    assert held(storage).correction == "4"
    command(EPISODE, "--good")
    rating = held(storage)
    assert (rating.score, rating.correction, rating.worker) == (1.0, None, "code"), "praise takes the correction back"


def test_it_is_taken_back(command: Command, storage: Storage) -> None:
    assert command(EPISODE, "--undo") == "there was no rating to take back\n"
    command(EPISODE, "--good")
    assert json.loads(command(EPISODE, "--undo", "--json"))["rating"] is None
    assert storage.list_feedback() == []
    assert [change.action for change in storage.feedback_log(after=0)] == ["added", "deleted"]
    assert command(EPISODE, "--bad") == "rating kept\n"
    assert held(storage).score == 0.0


def test_a_wrong_answer_leaves_the_cache(command: Command, storage: Storage) -> None:
    vector = np.ones(384, dtype=np.float32)
    storage.put_cache_entry(
        CacheEntry(episode_id=EpisodeId(EPISODE), scope="s", query="q", answer={}, embedding=vector)
    )
    command(EPISODE, "--good")
    assert storage.cache_entries()
    command(EPISODE, "--answer", "5")
    assert storage.cache_entries() == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([EPISODE], "says nothing without one of --good"),
        ([EPISODE, "--undo", "--good"], "--undo takes the whole rating back"),
        ([EPISODE, "--good", "--bad"], "not allowed with argument"),
        ([EPISODE, "--score", "1.5"], "--score has value 1.5: expected a number from 0 to 1"),
        ([EPISODE, "--score", "nan"], "--score has value nan"),
        ([EPISODE, "--stars", "0"], "--stars has value 0: expected a number from 1 to 5"),
        ([EPISODE, "--answer", " "], "--answer is empty"),
        ([EPISODE, "--worker", "maths"], "unknown worker 'maths'; there are: math"),
        ([EPISODE, "--step", "1"], "--step has value '1': expected N=X"),
        ([EPISODE, "--step", "x=1"], "expected N=X"),
        ([EPISODE, "--step=-1=1"], "expected N=X"),
        ([EPISODE, "--step", "1=2"], "expected N=X"),
        ([EPISODE, "--step", "1=nan"], "expected N=X"),
        ([EPISODE, "--step", "1=1", "--step", "1=0"], "step 1 more than once"),
        (["nobody", "--good"], "episode 'nobody': no such episode"),
        (["of-ann-1", "--good"], "no such episode"),
        (["twin", "--good"], "more than one begins like that"),
        (["3f", "--good"], "at least 4 characters"),
    ],
)
def test_mistakes_are_told_and_nothing_is_kept(
    command: Command, storage: Storage, argv: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        command(*argv)
    assert storage.feedback_log(after=0) == []


def test_an_unknown_worker_is_told_for_a_rating_that_is_there_too(command: Command, storage: Storage) -> None:
    command(EPISODE, "--good")
    with pytest.raises(UsageError, match="unknown worker"):
        command(EPISODE, "--worker", "maths")
    assert held(storage).worker is None


def test_before_anything_was_asked(command: Command, data: Path) -> None:
    with pytest.raises(KaelumError, match="no episode is kept yet") as raised:
        command(EPISODE, "--good")
    assert not isinstance(raised.value, UnknownEpisode)
    assert not data.exists()


def test_the_command_loads_without_the_graph() -> None:
    probe = (
        "import sys\nimport kaelum_flow.rate_command\n"
        "print([name for name in ('langgraph', 'torch', 'rich', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'graphs'}"},
    )
    assert done.stdout == "[]\n", done.stderr
