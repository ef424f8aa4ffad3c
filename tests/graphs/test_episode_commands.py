"""`kaelum trace`, `continue`, `lift` and `ask --answers` over a real search with a scripted model."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kaelum_flow import commands, episode_commands, lift_command
from kaelum_flow.facade import Kaelum
from kaelum_graph.cli.parser import CommandParser
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import KaelumError, UsageError
from kaelum_graph.sandbox import ProcessSandbox
from kaelum_graph.storage import Storage
from kaelum_graph.tree import SearchTree
from kaelum_graph.types import EpisodeId
from tests.graphs.scripted_model import ScriptedModel, cycle
from tests.graphs.test_forward import APPLES, EQUATION, boxed

ROOT = Path(__file__).parents[2]
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel(cycle(boxed("3"), boxed("8"), boxed("3"), boxed("9\x1b[2J")))


@pytest.fixture
def opened(
    model: ScriptedModel, encoder: Encoder, sandbox: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> list[Kaelum]:
    """Every facade that a command opened; each has the scripted model."""
    found: list[Kaelum] = []

    def open_kaelum(settings: Settings, *, notify: Callable[[str], None] | None = None) -> Kaelum:
        found.append(Kaelum(settings, model=model, encoder=encoder, sandbox=sandbox, notify=notify))
        return found[-1]

    monkeypatch.setattr(commands, "open_kaelum", open_kaelum)
    return found


@pytest.fixture
def command(
    opened: list[Kaelum], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`command(*arguments)`: exit code and standard output of a command line, the command's name first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "stdin", None)

    def run(*argv: str) -> tuple[int, str]:
        parser = CommandParser()
        subparsers = parser.add_subparsers()
        commands.register_ask(subparsers)
        episode_commands.register_trace(subparsers)
        episode_commands.register_continue(subparsers)
        lift_command.register_lift(subparsers)
        arguments = parser.parse_args(argv)
        try:
            code = arguments.run(arguments)
        finally:
            printed = capsys.readouterr().out
        return code, printed

    return run


@pytest.fixture
def asked(command: Command) -> str:
    """The id of an answered query."""
    _, printed = command("ask", APPLES, "--worker", "math", "--sims", "8", "--json")
    return json.loads(printed)["id"]


def test_the_newest_episode_is_drawn(command: Command, asked: str, opened: list[Kaelum]) -> None:
    code, text = command("trace")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("Tom has some apples")
    assert lines[1].startswith(f"episode {asked} · scripted · 8 rollouts")
    assert "     8  0.50 └─ math" in lines
    assert any("→ 3 [A] ★ chosen · rollouts 0, 2, 4, 6 · likelihood 0.61" in line for line in lines)
    assert any(line.startswith("★  A   50%  P(correct) ") for line in lines)
    assert lines[-1].startswith("all rollouts used; 8 rollouts in ")
    assert max(map(len, lines)) <= 120
    assert "\x1b" not in text
    assert r"\x1b[2J" in text
    assert len(opened) == 1, "no model is opened for a drawing"


def test_an_episode_is_found_by_the_beginning_of_its_id(command: Command, asked: str) -> None:
    command("ask", EQUATION, "--worker", "math", "--sims", "2", "--json")
    assert command("trace", asked[:8])[1] == command("trace", asked)[1]
    assert EQUATION in command("trace")[1]


def test_the_tree_as_json(command: Command, asked: str) -> None:
    code, text = command("trace", asked, "--json")
    assert code == 0
    assert len(SearchTree.from_json(json.loads(text)).rollouts) == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown", "episode 'unknown': no such episode"),
        ("%%%%", "no such episode"),
        ("\udcff\udcff\udcff\udcff", "no such episode"),
        ("abc", "at least 4 characters"),
        ("twin", "more than one begins like that: twin-1, twin-2"),
        ("bare", "has no search tree"),
        ("oddly", "written in another form"),
    ],
)
def test_what_cannot_be_drawn(command: Command, tmp_path: Path, name: str, message: str) -> None:
    storage = Storage(tmp_path / "data" / "kaelum.sqlite")
    for episode, record in (
        ("abcd", {}),
        ("twin-1", {}),
        ("twin-2", {}),
        ("bare", {"answer": "4"}),
        ("oddly", {"answer": {}, "tree": {"nodes": 3, "rollouts": []}}),
    ):
        storage.append_episode(EpisodeId(episode), "q", record)
    storage.close()
    with pytest.raises(UsageError, match=message):
        command("trace", name)


def test_nothing_is_kept_yet(command: Command, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no episode is kept yet"):
        command("trace")
    assert not (tmp_path / "data").exists()
    Storage(tmp_path / "data" / "kaelum.sqlite").close()
    with pytest.raises(UsageError, match="no episode is kept yet"):
        command("trace")


def test_a_terminal_gets_its_own_width_and_colors(
    command: Command, asked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    def shown() -> str:
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            arguments = argparse.Namespace(id=asked, json=False, all=False, config=None)
            assert episode_commands.run_trace(arguments) == 0
        return terminal.getvalue()

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;32m" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = shown()
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 60


def test_continuing_prints_what_asking_prints(command: Command, asked: str, model: ScriptedModel) -> None:
    drawn = model.drawn
    code, text = command("continue", asked[:8], "--sims", "4")
    assert code == 0
    assert model.drawn == drawn + 4
    assert text.startswith(boxed("3"))
    assert f"continued from {asked}: 12 rollouts in all" in text
    assert "4 rollouts in 1 wave" in text
    _, drawing = command("trace")
    assert f"12 rollouts · continued from {asked}" in drawing


def test_only_flags_are_over_the_first_querys_options(
    command: Command, asked: str, monkeypatch: pytest.MonkeyPatch, model: ScriptedModel
) -> None:
    monkeypatch.setenv("KAELUM_SIMS", "1")
    monkeypatch.setenv("KAELUM_TEMPERATURE", "1.5")
    _, text = command("continue", asked, "--json")
    assert json.loads(text)["cost"]["rollouts"] == 8
    assert model.requests[-1].sampling.temperature == 0.7
    _, text = command("continue", asked, "--json", "--temperature", "0.2", "--sims", "2")
    assert json.loads(text)["cost"]["rollouts"] == 2
    assert model.requests[-1].sampling.temperature == 0.2


def test_the_exit_code_counts_with_the_confidence_that_was_asked_for(command: Command) -> None:
    code, text = command(
        "ask", APPLES, "--worker", "math", "--sims", "4", "--json", "--min-confidence", "0.84", "--max-reflections", "0"
    )
    assert code == commands.UNSURE
    asked = json.loads(text)["id"]
    assert command("continue", asked, "--sims", "2", "--json")[0] == commands.UNSURE
    assert command("continue", asked, "--sims", "2", "--json", "--min-confidence", "0")[0] == 0


def test_a_mistyped_id_opens_no_model(command: Command, asked: str, opened: list[Kaelum]) -> None:
    with pytest.raises(KaelumError, match="no such episode"):
        command("continue", "mistyped")
    assert len(opened) == 1


def test_several_answers_are_printed(command: Command, asked: str) -> None:
    code, text = command("ask", APPLES, "--worker", "math", "--sims", "8", "--answers", "3", "--no-trace")
    assert code == 0
    first, second, third = text.split("\n\n")
    assert first == boxed("3")
    assert second.splitlines()[0].startswith("[2] 8 · unverified, P(correct) 0.")
    assert second.splitlines()[0].endswith(", 25% of the rollouts, math")
    assert second.splitlines()[1:] == boxed("8").splitlines()
    assert third.startswith("[3] 9")
    assert "\x1b" not in text
    _, text = command("ask", APPLES, "--worker", "math", "--sims", "8", "--answers", "3", "--json")
    assert [choice["answer"] for choice in json.loads(text)["choices"]][:2] == ["3", "8"]


def test_one_facade_answers_a_query(command: Command, opened: list[Kaelum]) -> None:
    command("ask", APPLES, "--worker", "math", "--sims", "2", "--json")
    assert len(opened) == 1


def test_the_commands_load_without_the_graph() -> None:
    probe = (
        "import sys\nimport kaelum_flow.episode_commands\n"
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


def test_the_lift_over_one_sample_and_the_vote(command: Command, model: ScriptedModel) -> None:
    with pytest.raises(UsageError, match="no episode is kept yet"):
        command("lift")
    model.script = cycle(boxed("7"), boxed("7"), boxed("7"), boxed("5"))
    _, printed = command("ask", EQUATION, "--worker", "math", "--sims", "4", "--json")
    assert json.loads(printed)["status"] == "verified"
    told = json.loads(command("lift", "--json")[1])
    assert (told["kept"], told["queries"]) == (1, 1)
    means = {name: share["mean"] for name, share in told["shares"].items()}
    assert means["vote"] == 0.0
    assert means["answer"] == means["answer - vote"] == 1.0
    assert 0.0 < means["sample"] < 1.0
    command("continue", json.loads(printed)["id"][:8], "--sims", "2", "--json")
    assert json.loads(command("lift", "--json")[1])["kept"] == 1, "a search that was gone on with is one query"
    text = command("lift")[1]
    assert "queries       1 with a search, 1 decided by a check on the question" in text
    assert "answer given  right in 100%\n" in text, "one query has no interval"
    assert max(map(len, text.splitlines())) <= 100
    with pytest.raises(UsageError, match="--newest is 0"):
        command("lift", "--newest", "0")


def test_without_a_check_nothing_is_said_of_right_and_wrong(command: Command, asked: str) -> None:
    assert "nothing can be said of right and wrong" in command("lift")[1]
