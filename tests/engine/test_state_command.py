"""`kaelum state`: what was learned is listed, compared, pinned, rolled back, made again, forgotten. A real learner."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from kaelum_graph import keepers
from kaelum_graph.cli import state_command
from kaelum_graph.cli.parser import CommandParser
from kaelum_graph.cli.state_command import make_state as make_real_state
from kaelum_graph.config import Settings
from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.feedback import Feedback
from kaelum_graph.learning.deltas import RewardDeltas
from kaelum_graph.learning.learner import STATE_FOLDER, Learner
from kaelum_graph.learning.state import LearnedState
from kaelum_graph.learning.stop_head import StopHead
from kaelum_graph.learning.versions import Versions
from kaelum_graph.models import weights
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.types import EpisodeId
from tests.engine.learning_parts import seen

Command = Callable[..., str]
ROOT = Path(__file__).parents[2]


def small_state() -> LearnedState:
    return LearnedState([RewardDeltas()])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def command(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(*arguments)`: standard output of `kaelum state ARGUMENTS`; standard error must be empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def states(settings: Settings) -> Callable[[], LearnedState]:
        assert settings.data_dir == data
        return small_state

    monkeypatch.setattr(state_command, "make_state", states)

    def run(*argv: str) -> str:
        parser = CommandParser()
        state_command.register(parser.add_subparsers())
        arguments = parser.parse_args(["state", *argv, "--data-dir", str(data)])
        assert arguments.run(arguments) == 0
        printed, errors = capsys.readouterr()
        assert errors == "" or printed == ""
        return printed or errors

    return run


@pytest.fixture
def storage(data: Path) -> Generator[Storage]:
    storage = Storage(data / STORE_FILE)
    for name, tenant in (("first-1", ""), ("second-2", ""), ("third-3", "ann")):
        storage.append_episode(EpisodeId(name), "q", {}, tenant=tenant, seen=seen(name, tenant=tenant).to_bytes())
    yield storage
    storage.close()


def learn(storage: Storage, data: Path) -> None:
    learner = Learner(storage, Versions(data / STATE_FOLDER), small_state, poll_seconds=0.02)
    learner.start()
    assert learner.drain(20)
    learner.stop()


def rate(storage: Storage, name: str, *, tenant: str = "") -> None:
    storage.add_feedback(Feedback(id=f"of {name}", episode_id=EpisodeId(name), tenant=tenant, worker="code"))


@pytest.fixture
def learned(storage: Storage, data: Path) -> list[str]:
    """The served versions, oldest first: one rating in the first, two in the second, three in the last."""
    for name, tenant in (("first-1", ""), ("second-2", ""), ("third-3", "ann")):
        rate(storage, name, tenant=tenant)
        learn(storage, data)
    return [version.id for version in Versions(data / STATE_FOLDER).list() if version.promoted]


def test_before_anything_is_learned(command: Command, data: Path, storage: Storage) -> None:
    assert command() == f"{state_command.NOTHING}\n"
    assert json.loads(command("list", "--json")) == []
    for argv in (["show"], ["pin", "1"], ["unpin"], ["diff", "1", "2"], ["rollback"]):
        with pytest.raises(UsageError, match="nothing is learned yet"):
            command(*argv)
    assert not (data / STATE_FOLDER).exists(), "looking makes no folder"


def test_the_list_says_what_serves(command: Command, learned: list[str]) -> None:
    assert len(learned) == 3
    rows = json.loads(command("list", "--json"))
    assert [row["id"] for row in rows if row["kind"] == "serving"] == learned
    assert [(row["episodes"], row["ratings"]) for row in rows if row["id"] in learned] == [(3, 1), (3, 2), (3, 3)]
    assert [row["id"] for row in rows if row["state"] == "serving, promoted"] == [learned[-1]]
    lines = command().splitlines()
    assert lines[0].split()[0] == "ID"
    assert len(lines) == 1 + len(rows)
    assert any(line.startswith(learned[-1]) and line.endswith("serving, promoted") for line in lines)


def test_one_version_in_full(command: Command, learned: list[str]) -> None:
    assert command("show") == command("show", learned[-1])
    told = json.loads(command("show", str(int(learned[0][:6])), "--json"))
    assert told["id"] == learned[0]
    assert told["components"][0]["component"] == "deltas"
    assert told["components"][0]["numbers"] == 384
    text = command("show", learned[1])
    assert ["parent", learned[0]] in [line.split() for line in text.splitlines()]
    assert "768" in text


def test_pinned_it_serves_whatever_is_learned(
    command: Command, learned: list[str], storage: Storage, data: Path
) -> None:
    assert command("pin", learned[0]) == f"pinned {learned[0]}\n"
    storage.delete_feedback("of second-2")
    learn(storage, data)
    assert Versions(data / STATE_FOLDER).current() == learned[0]
    assert "serving, pinned" in command("list")
    assert json.loads(command("unpin", "--json")) == {"unpinned": learned[0], "serving": learned[-1]}
    assert command("unpin").startswith("nothing was pinned; serving ")


def test_what_differs(command: Command, learned: list[str]) -> None:
    told = json.loads(command("diff", learned[0], learned[1], "--json"))
    assert told["tensors"] == [
        {"component": "deltas", "tensor": "embeddings", "before": [1, 384], "after": [2, 384], "largest": None,
         "rms": None}
    ]  # fmt: skip
    assert told["events"] == 1
    text = command("diff", learned[1], learned[0])
    assert text.splitlines()[0] == f"{learned[1]} to {learned[0]}: -1 in the log; deltas differ"
    assert "embeddings" in text
    assert command("diff", learned[0], learned[0]).endswith("know the same\n")


def test_rolling_back(command: Command, learned: list[str], data: Path) -> None:
    assert json.loads(command("rollback", "--json")) == {"before": learned[2], "serving": learned[1]}
    assert Versions(data / STATE_FOLDER).pinned() == learned[1]
    assert learned[0] in command("rollback", learned[0])
    with pytest.raises(UsageError, match="nothing to roll back to"):
        command("rollback")
    checkpoint = next(row["id"] for row in json.loads(command("list", "--json")) if row["kind"] == "checkpoint")
    with pytest.raises(UsageError, match="never served: pin it instead"):
        command("rollback", checkpoint)


def test_an_unknown_version_names_the_nearest(command: Command, learned: list[str]) -> None:
    for argv in (["show"], ["pin"], ["rollback"], ["diff", learned[0]]):
        with pytest.raises(UsageError, match=f"no such version; the nearest is {learned[1]}"):
            command(*argv, learned[1][:-1] + "x")
    with pytest.raises(UsageError, match=f"no such version; the newest is {learned[-1]}"):
        command("show", "§§§")
    with pytest.raises(UsageError, match="more than one begins like that"):
        command("show", "0000")


def test_rebuilding_gives_the_same(command: Command, learned: list[str]) -> None:
    told = json.loads(command("rebuild", "--json"))
    assert (told["events"], told["same"]) == (6, True)
    assert "rebuilt from 6 events" in command("rebuild")


def test_another_process_learns(command: Command, learned: list[str], storage: Storage, data: Path) -> None:
    other = Learner(storage, Versions(data / STATE_FOLDER), small_state, poll_seconds=0.02)
    other.start()
    assert other.drain(20)
    try:
        with pytest.raises(StorageError, match="another process learns on this folder: stop it first"):
            command("rebuild")
        # Forgetting needs no lock: the process that learns does it.
        assert command("forget", "--episode", "first-1") == "1 episode deleted and unlearned\n"
        assert "first-1" not in json.dumps(other.serving.component(RewardDeltas).meta())
    finally:
        other.stop()


@pytest.mark.parametrize(
    ("argv", "gone"),
    [
        (["--episode", "firs"], ["first-1"]),
        (["--episode", "first-1", "--episode", "third-3"], ["first-1", "third-3"]),
        (["--tenant", "ann"], ["third-3"]),
        (["--tenant", ""], ["first-1", "second-2"]),
        (["--conversation", "second-2"], ["second-2"]),
    ],
)
def test_what_is_forgotten_is_nowhere(
    command: Command, learned: list[str], storage: Storage, data: Path, argv: list[str], gone: list[str]
) -> None:
    report = json.loads(command("forget", *argv, "--json"))
    assert report == {"episodes": gone, "completed": [], "unlearned": True, "rows": dict.fromkeys(report["rows"], 0)}
    assert storage.pending_forgets() == []
    kept = {"first-1", "second-2", "third-3"} - set(gone)
    assert {name for name in ("first-1", "second-2", "third-3") if storage.has_episode(name, tenant=None)} == kept
    versions = Versions(data / STATE_FOLDER)
    for version in versions.list():
        known = json.dumps({name: part.meta for name, part in versions.parts(version.id).items()})
        assert not [name for name in gone if name in known]
    current = versions.current()
    assert current is not None
    assert {*versions.parts(current)["deltas"].meta["episodes"]} == kept


def test_forgetting_what_taught_nothing_starts_no_learner(
    command: Command, storage: Storage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_command, "make_state", None)
    assert command("forget", "--episode", "first-1") == "1 episode deleted (nothing was learned from it)\n"
    for argv, message in (
        (["--episode", "first-1"], "no such episode"),
        (["--tenant", "bob"], "tenant 'bob': no episodes are kept"),
        (["--conversation", "first-1"], "no such episode"),
        ([], "one of the arguments --episode --tenant --conversation is required"),
    ):
        with pytest.raises(UsageError, match=message):
            command("forget", *argv)
    assert not (data / STATE_FOLDER).exists()


def test_what_cannot_be_unlearned_now_is_said(
    command: Command, learned: list[str], storage: Storage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(settings: Settings) -> Callable[[], LearnedState]:
        raise StorageError("no encoder")

    monkeypatch.setattr(state_command, "make_state", unreachable)
    with pytest.raises(StorageError, match=r"1 episode deleted; what they taught is not yet, .* no encoder"):
        command("forget", "--episode", "first-1")
    learn(storage, data)
    deltas = Versions(data / STATE_FOLDER)
    current = deltas.current()
    assert current is not None
    assert deltas.parts(current)["deltas"].meta["episodes"] == ["second-2", "third-3"]
    assert command("forget", "--episode", "first") == "0 episodes deleted; an earlier forget is completed\n"
    with pytest.raises(UsageError, match="no such episode"):
        command("forget", "--episode", "first")


def test_whoever_keeps_something_is_told_and_one_that_fails_stops_no_other(
    command: Command, storage: Storage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[Path, list[str], str | None]] = []

    def keeper(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
        told.append((data_dir, list(episode_ids), tenant))
        return len(episode_ids)

    def full(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
        raise StorageError("its disk is full")

    monkeypatch.setattr(keepers, "all_keepers", lambda: {"a": full, "notes": keeper})
    with pytest.raises(StorageError, match=r"1 episode deleted, but not yet all .*: run it again: its disk is full"):
        command("forget", "--episode", "first-1")
    monkeypatch.setattr(keepers, "all_keepers", lambda: {"notes": keeper, "quiet": lambda *_, **__: 0})
    text = command("forget", "--tenant", "ann")
    assert text == (
        "1 episode deleted (nothing was learned from it); rows deleted with that: notes 2; "
        "an earlier forget is completed\n"
    )
    assert told == [(data, ["first-1"], None), (data, ["first-1", "third-3"], "ann")]
    report = json.loads(command("forget", "--episode", "second-2", "--json"))
    assert (report["rows"], report["completed"]) == ({"notes": 1, "quiet": 0}, [])


def test_what_a_tenant_has_to_forget_whole_waits_until_it_is_named_again(
    command: Command, storage: Storage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[list[str], str | None]] = []

    def keeper(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
        told.append((list(episode_ids), tenant))
        return 0

    monkeypatch.setattr(keepers, "all_keepers", lambda: {"notes": keeper})
    for name in ("ann", "bob", "eve"):
        storage.forget_episodes(tenant=name)  # and there it was killed
    storage.append_episode(EpisodeId("fourth-4"), "q", {}, tenant="eve")
    report = json.loads(command("forget", "--episode", "first-1", "--json"))
    assert (report["episodes"], report["completed"]) == (["first-1"], ["third-3"])
    assert told == [(["first-1", "third-3"], None)], "bob may have kept something new since, that no episode tells of"
    # What had begun is no tenant that was never heard of.
    assert command("forget", "--tenant", "bob") == "0 episodes deleted; an earlier forget is completed\n"
    with pytest.raises(UsageError, match="tenant 'bob': no episodes are kept"):
        command("forget", "--tenant", "bob")


def test_a_conversation_is_what_all_links_together_say(
    command: Command, storage: Storage, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    later = {"b": "a", "turn": "c", "d": "turn", "x": "a"}  # as another store has it; "turn" is no episode

    def linker(data_dir: Path, episode_ids: Sequence[str], *, earlier: bool) -> list[str]:
        assert data_dir == data
        pairs = [(one, other) if earlier else (other, one) for one, other in later.items()]
        return [other for one, other in pairs if one in episode_ids]

    def keeper(data_dir: Path, episode_ids: Sequence[str], *, tenant: str | None) -> int:
        told.append(list(episode_ids))
        return 0

    monkeypatch.setattr(keepers, "all_keepers", lambda: {"notes": keeper})
    monkeypatch.setattr(keepers, "all_linkers", lambda: {"notes": linker})
    for name, before in (("a", None), ("b", None), ("c", "b"), ("d", None), ("e", "d"), ("x", None), ("y", "b")):
        storage.append_episode(EpisodeId(name), "q", {"continued_from": before})
    # From c up by one store and then by the other, and down so; x and y went on from above it, another way.
    gone = json.loads(command("forget", "--conversation", "c", "--json"))["episodes"]
    assert sorted(gone) == ["a", "b", "c", "d", "e"]
    assert told == [["a", "b", "c", "d", "e", "turn"]]


@pytest.mark.parametrize("value", ["kaelum_graph.nowhere:forget", "kaelum_graph.keepers:nothing"])
def test_a_keeper_that_cannot_be_loaded_stops_it_before_anything_is_deleted(
    command: Command, storage: Storage, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    points = [EntryPoint(name="broken", value=value, group=keepers.KEEPER_GROUP)]
    monkeypatch.setattr(keepers, "entry_points", lambda group: points if group == keepers.KEEPER_GROUP else [])
    with pytest.raises(UsageError, match=r"kaelum\.keepers: 'broken' cannot be loaded, so nothing was forgotten"):
        command("forget", "--episode", "first-1")
    points.clear()
    with pytest.raises(UsageError, match="no keepers are registered; install the package again"):
        command("forget", "--episode", "first-1")
    assert storage.has_episode("first-1")


def test_without_a_store_there_is_nothing_to_forget_or_rebuild(command: Command, data: Path) -> None:
    for argv in (["forget", "--tenant", "x"], ["rebuild"]):
        with pytest.raises(UsageError, match="no episode is kept yet"):
            command(*argv)
    assert not data.exists()


def test_reading_loads_nothing_heavy(learned: list[str], data: Path) -> None:
    probe = (
        "import sys\nfrom kaelum_graph.cli.parser import CommandParser\nfrom kaelum_graph.cli import state_command\n"
        f"parser = CommandParser()\nstate_command.register(parser.add_subparsers())\n"
        f"arguments = parser.parse_args(['state', 'show', '--data-dir', {str(data)!r}])\narguments.run(arguments)\n"
        "print([name for name in ('langgraph', 'torch', 'transformers', 'rich') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_states_are_made_as_the_searches_make_them(
    data: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "resolve_encoder", lambda **_: encoder_folder)
    made = make_real_state(Settings(data_dir=data, wave_size=6))()
    assert made.component(StopHead).most == 6, "it looks where the waves of these settings end"
