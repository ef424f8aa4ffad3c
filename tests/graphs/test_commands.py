"""`kaelum ask` and `kaelum graph` as processes. A stand-in for the facade plays what a search may come to."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from kaelum_flow import commands
from kaelum_graph.answer import Answer, Cost, Event, Progress, TextDelta
from kaelum_graph.cli import main
from kaelum_graph.config import Settings
from kaelum_graph.errors import ContextOverflow, UpstreamError, UsageError
from kaelum_graph.models.base import CancelToken
from kaelum_graph.storage import Storage
from kaelum_graph.types import EpisodeId, WorkerName

ROOT = Path(__file__).parents[2]


class PlayedKaelum:
    """Has the facade's methods; the query's first word says what happens."""

    def __init__(self, settings: Settings, *, notify: Callable[[str], None]) -> None:
        self.settings = settings
        self.notify = notify

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        print("closed", file=sys.stderr) if os.environ.get("PLAY_CLOSED") else None

    def fetch(self, report: object) -> None:
        """There is nothing to fetch."""

    def metrics(self) -> dict[str, float]:
        return {"episodes": 7.0, "feedback": 2.0}

    def stream(self, query: str, *, cancel: CancelToken) -> Iterator[Event]:
        self.notify("model: played")
        play = query.split()[0]
        yield Progress(stage="cache", data={"state": "miss"})
        if play == "overflow":
            raise ContextOverflow(limit_tokens=10, prompt_tokens=20)
        if play == "unreachable":
            raise UpstreamError("http://localhost:1: connection refused")
        if play == "bug":
            raise ZeroDivisionError("division by zero")
        if play == "loading":
            print("loading", flush=True)
            time.sleep(30)
        if play == "stuck":
            with contextlib.suppress(KeyboardInterrupt):
                print("stuck", flush=True)
                time.sleep(30)
            time.sleep(30)
        tokens = 0
        while True:
            tokens += 10
            wave = {"wave": 1, "rollouts": 6, "budget": 8, "leader": "42", "share": 0.75, "tokens": tokens}
            yield Progress(stage="wave", data=wave)
            goes_on = {
                "long": not cancel.cancelled,
                "fruitless": not cancel.cancelled,
                "deaf": True,
                "shown": tokens < 100,
            }
            if not goes_on.get(play):
                break
            time.sleep(0.05)
        if play == "fruitless":
            raise UpstreamError("cancelled before any sample")
        yield TextDelta(text=f"sims {self.settings.sims}, ")
        yield TextDelta(text="answer 42: π\x1b[2J")
        yield Answer(
            id=EpisodeId("e1"),
            query=query,
            text=f"sims {self.settings.sims}, answer 42: π\x1b[2J",
            answer="42",
            status="unsure" if play == "unsure" else "unverified",
            confidence=0.5,
            worker=WorkerName("math"),
            route={"math": 1.0},
            cache="miss",
            stop_reason="cancelled" if cancel.cancelled else "budget",
            model="played",
            cost=Cost(completion_tokens=100, rollouts=8, waves=1, seconds=2.0),
            trace={"nodes": 3},
            recorded=play != "unrecorded",
            notices=("the disk is full",) if play == "unrecorded" else (),
        )


def played_facade() -> types.ModuleType:
    """A module to stand where the facade's is imported from."""
    facade = types.ModuleType("kaelum_flow.facade")
    facade.Kaelum = PlayedKaelum  # pyright: ignore[reportAttributeAccessIssue]
    return facade


def main_with_played_facade() -> None:
    """What the test processes run: the real command over the stand-in."""
    sys.modules["kaelum_flow.facade"] = played_facade()
    sys.exit(main())


PLAYED = [sys.executable, "-c", f"from {__name__} import main_with_played_facade; main_with_played_facade()"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose folders all lie in the test's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KAELUM_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "KAELUM_DATA_DIR": str(tmp_path / "data"),
    }


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished command left."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`played(*arguments, stdin=...)`: the command over the stand-in, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "kaelum_flow.facade", played_facade())

    def run(*arguments: str, stdin: str = "", **variables: str) -> Done:
        (tmp_path / "stdin").write_text(stdin, encoding="utf-8")
        with open(tmp_path / "stdin", encoding="utf-8") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stream)
            for name, value in variables.items():
                patch.setenv(name, value)
            code = main(arguments)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


def test_an_answer_with_its_story(played: Run) -> None:
    done = played("agreed", "--sims", "3", "--metrics")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[:3] == ["sims 3, answer 42: π[2J", "", "  answer    42"]
    assert "  status    agreed, P(correct) 0.50, all rollouts used" in lines
    assert lines[-5:] == [
        "",
        "  episodes           7",
        "  feedback           2",
        "  tokens per second  50",
        "  seconds            2",
    ]
    assert done.stderr == "kaelum: model: played\n"


def test_flags_may_stand_anywhere_and_words_need_no_quotes(played: Run) -> None:
    for arguments in (
        ["--sims", "3", "agreed", "--no-trace"],
        ["agreed", "and", "more", "--no-trace", "--sims=3"],
        ["ask", "--no-trace", "--sims", "3", "agreed"],
        ["--no-trace", "--sims", "3", "--", "agreed"],
    ):
        assert played(*arguments).stdout == "sims 3, answer 42: π[2J\n"


def test_double_dash_makes_a_query_of_anything(played: Run) -> None:
    for words in (["graph"], ["--sims"], ["-5+3"]):
        assert json.loads(played("--json", "--", *words).stdout)["query"] == words[0]
    assert json.loads(played("ask", "graph", "--json").stdout)["query"] == "graph"


def test_json(played: Run) -> None:
    done = played("agreed", "--json", "--metrics")
    report = json.loads(done.stdout)
    assert Answer.from_json({key: value for key, value in report.items() if key != "metrics"}).answer == "42"
    assert report["trace"] == {"nodes": 3}
    assert report["metrics"] == {"episodes": 7.0, "feedback": 2.0, "tokens_per_second": 50.0, "seconds": 2.0}
    assert "trace" not in json.loads(played("agreed", "--json", "--no-trace").stdout)


def test_streaming(played: Run) -> None:
    done = played("agreed", "--stream", "--no-trace")
    assert done.stdout == "sims None, answer 42: π[2J\n"
    events = [json.loads(line) for line in played("agreed", "--stream", "--json").stdout.splitlines()]
    assert [event["type"] for event in events] == ["progress", "progress", "text", "text", "answer"]
    assert events[1]["stage"] == "wave"
    assert events[-1]["text"] == "".join(event["text"] for event in events if event["type"] == "text")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["agreed"], 0),
        (["unsure"], 10),
        (["agreed", "--min-confidence", "0.6"], 10),
        (["unrecorded"], 5),
        (["overflow"], 4),
        (["unreachable"], 3),
        (["bug"], 1),
    ],
)
def test_exit_codes(played: Run, arguments: list[str], code: int) -> None:
    done = played(*arguments, "--no-trace")
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "kaelum: model: played"
    if code in (1, 3, 4):
        assert done.stdout == ""
        assert len(lines) == 2
        assert lines[1].startswith("kaelum: error: ")
    if arguments == ["unrecorded"]:
        assert lines[1:] == ["kaelum: the disk is full"]


def test_a_traceback_only_when_wanted(played: Run) -> None:
    assert "Traceback" not in played("bug").stderr
    assert "Traceback" in played("bug", KAELUM_DEBUG="1").stderr


def test_what_the_locale_cannot_show_is_no_error(environ: dict[str, str]) -> None:
    process = started({**environ, "PYTHONIOENCODING": "ascii"}, "agreed", "--no-trace")
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "sims None, answer 42: ?[2J\n")


def test_piped_text_is_the_query_or_follows_it(played: Run) -> None:
    def query(*arguments: str, stdin: str) -> str:
        return json.loads(played("--json", *arguments, stdin=stdin).stdout)["query"]

    assert query(stdin="agreed\nor not\n") == "agreed\nor not"
    assert query("agreed", stdin="\nthe file\n\n") == "agreed\n\nthe file"
    assert query("agreed", stdin="\n") == "agreed"
    assert json.loads(played("--metrics", "--json", stdin="agreed").stdout)["query"] == "agreed"


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes | None], None]]:
    """`piped(data)` puts a pipe with these bytes under standard input; None leaves it open and silent."""
    ends: list[int] = []
    streams: list[Any] = []

    def put(data: bytes | None) -> None:
        read, write = os.pipe()
        if data is None:
            ends.append(write)
        else:
            os.write(write, data)
            os.close(write)
        streams.append(os.fdopen(read))
        monkeypatch.setattr(sys, "stdin", streams[-1])

    yield put
    for stream in streams:
        stream.close()
    for end in ends:
        os.close(end)


def test_a_silent_pipe_is_not_waited_for(
    piped: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "PATIENCE_SECONDS", 0.05)
    piped(None)
    assert commands.read_query(["what?"]) == "what?"
    assert capsys.readouterr().err.startswith("kaelum: nothing came from standard input")
    assert commands.read_query([], optional=True) is None


def test_unfit_input_is_refused(piped: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch) -> None:
    piped(b"abc\xff")
    with pytest.raises(UsageError, match=r"not UTF-8 text \(byte 3\)"):
        commands.read_query([])
    piped(b" \n ")
    with pytest.raises(UsageError, match="the query is empty"):
        commands.read_query([])
    monkeypatch.setattr(commands, "MAX_INPUT_BYTES", 3)
    piped(b"abcd")
    with pytest.raises(UsageError, match="longer than 3 bytes"):
        commands.read_query([])
    piped(b"")
    with pytest.raises(UsageError, match="the query is not UTF-8"):
        commands.read_query(["\udcff"])


def test_a_device_or_no_input_at_all_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert commands.read_query(["q"]) == "q"
    monkeypatch.setattr(sys, "stdin", None)
    assert commands.read_query(["q"]) == "q"
    assert commands.read_query([], optional=True) is None


def started(environ: dict[str, str], *arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
    """The command over the stand-in, in a process of its own."""
    return subprocess.Popen(
        [*PLAYED, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if stderr is None else stderr,
        env=environ,
        encoding="utf-8",
    )


def wait_for(process: subprocess.Popen[str], part: str) -> None:
    """Read output lines until one has `part` in it."""
    assert process.stdout
    for line in process.stdout:
        if part in line:
            return
    pytest.fail(f"{part!r} never came: {process.communicate()}")


def test_ctrl_c_gives_the_best_so_far(environ: dict[str, str]) -> None:
    process = started({**environ, "PLAY_CLOSED": "1"}, "long", "--json", "--stream")
    wait_for(process, '"wave"')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == commands.INTERRUPTED
    answer = json.loads(out.splitlines()[-1])
    assert (answer["answer"], answer["stop_reason"]) == ("42", "cancelled")
    assert "the best answer so far follows" in err
    assert err.endswith("closed\n")


def test_a_second_ctrl_c_aborts(environ: dict[str, str]) -> None:
    process = started({**environ, "PLAY_CLOSED": "1"}, "deaf", "--json", "--stream")
    wait_for(process, '"wave"')
    process.send_signal(signal.SIGINT)
    wait_for(process, '"wave"')
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == commands.INTERRUPTED
    assert '"answer"' not in out
    assert err.endswith("closed\nkaelum: error: interrupted\n")


@pytest.mark.parametrize(("play", "sign"), [("loading", "loading"), ("fruitless", '"wave"')])
def test_ctrl_c_with_nothing_to_show(environ: dict[str, str], play: str, sign: str) -> None:
    process = started(environ, play, "--json", "--stream")
    wait_for(process, sign)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == commands.INTERRUPTED
    assert '"answer"' not in out
    assert err.endswith("kaelum: error: interrupted\n")


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_does_not_wait_for_what_cannot_be_stopped(environ: dict[str, str], presses: int) -> None:
    process = started(environ, "stuck")
    wait_for(process, "stuck")
    begun = time.monotonic()
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    out, err = process.communicate(timeout=20)
    seconds = time.monotonic() - begun
    assert seconds < 1.5 if presses == 2 else commands.GRACE_SECONDS <= seconds < 10
    assert (process.returncode, out) == (commands.INTERRUPTED, "")
    assert err.splitlines()[1:] == ["kaelum: error: interrupted"]


def test_the_live_line_on_a_terminal(environ: dict[str, str]) -> None:
    terminal, end = pty.openpty()
    environ = {**environ, "TERM": "xterm", "COLUMNS": "120"}
    process = started(environ, "shown", "--no-trace", stderr=end)
    out, _ = process.communicate(timeout=20)
    os.close(end)
    shown = b""
    while True:
        try:
            if not (chunk := os.read(terminal, 65536)):
                break
        except OSError:  # Linux: nothing is left and the other end is closed
            break
        shown += chunk
    os.close(terminal)
    text = shown.decode()
    assert out == "sims None, answer 42: π[2J\n"
    assert "kaelum: model: played" in text
    assert "wave 1 · 6/8 rollouts · leading 42 (75%)" in text
    assert "tokens/s" in text
    assert text.rstrip("\r\n").endswith("\x1b[2K")


def test_a_reader_that_goes_away_is_no_error(environ: dict[str, str]) -> None:
    process = started(environ, "long", "--json", "--stream")
    wait_for(process, '"wave"')
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.wait(timeout=20) == 141
    assert process.stderr.read() == "kaelum: model: played\n"
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--score", "1"], "--score needs --feedback QUERY_OR_ID, to say which answer is meant."),
        (["q", "--answer", "4"], "--answer needs --feedback"),
        (["--feedback", "q"], "--feedback says nothing without one of --answer, --score, --suggest-worker, --comment."),
        (["--feedback", " ", "--score", "1"], "--feedback is empty"),
        (["--feedback", "q", "--score", "1.5"], "--score has value 1.5: expected a number from 0 to 1."),
        (["--feedback", "q", "--score", "nan"], "--score has value nan"),
        (["--feedback", "q", "--score", "good"], "argument --score: invalid float value: 'good'"),
        (["q", "--feedback", "q", "--score", "1"], "leave the query out"),
    ],
)
def test_feedback_mistakes_are_one_line(played: Run, arguments: list[str], message: str) -> None:
    done = played(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def kaelum(tmp_path: Path, environ: dict[str, str]) -> Run:
    """The real command over the real facade."""

    def run(*arguments: str) -> Done:
        command = [sys.executable, "-m", "kaelum_graph", *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=60
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def test_feedback_and_metrics_without_a_query(kaelum: Run, tmp_path: Path) -> None:
    assert json.loads(kaelum("--metrics", "--json").stdout)["episodes"] == 0
    [path] = [path for path in (tmp_path / "data").iterdir() if path.is_file() and "-" not in path.suffix]
    storage = Storage(path)
    storage.append_episode(EpisodeId("e1"), "What is 2+2?", {"answer": "5"})
    storage.append_episode(EpisodeId("e2"), "What is 2+2?", {"answer": "4"})

    assert kaelum("--feedback", "What is 2+2?", "--score", "1").stdout == "feedback kept\n"
    done = kaelum("--feedback", "e1", "--answer", "4", "--score", "0", "--suggest-worker", "math", "--json")
    assert json.loads(done.stdout) == {"feedback": "e1", "kept": True}
    assert [rating.score for rating in storage.feedback_for(EpisodeId("e2"))] == [1.0]
    [rating] = storage.feedback_for(EpisodeId("e1"))
    assert (rating.correction, rating.score, rating.worker, rating.source) == ("4", 0.0, "math", "cli")
    storage.close()

    assert "  feedback       2" in kaelum("--metrics").stdout
    for arguments in (
        ["--feedback", "never asked", "--score", "1"],
        ["--feedback", "e1", "--suggest-worker", "wizard"],
    ):
        done = kaelum(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_graph_is_drawn_without_a_model(kaelum: Run) -> None:
    done = kaelum("graph")
    assert done.returncode == 0, done.stderr
    for node in ("embed", "call", "cache", "route", "verify", "reflect", "shape", "feedback", "respond"):
        assert node in done.stdout
    assert "graph TD" in done.stdout


def test_registering_needs_no_installation() -> None:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    commands.register_ask(subparsers)
    commands.register_graph(subparsers)
    assert parser.parse_args(["graph"]).run is commands.run_graph
    assert parser.parse_args(["ask", "q"]).run is commands.run_ask
