"""The real `kaelum` command: help, settings, mistakes, exit codes. What a query does is in tests/graphs."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from kaelum_graph import cli
from kaelum_graph.cli import parser as cli_parser
from kaelum_graph.config import Settings
from kaelum_graph.errors import ConfigError, ContextOverflow, HashMismatch, StorageError, UpstreamError

Kaelum = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose folders all lie in the test's own, without any setting."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KAELUM_")}
    folders = {
        "XDG_CONFIG_HOME": tmp_path / "config",
        "KAELUM_CACHE_DIR": tmp_path / "cache",
        "KAELUM_DATA_DIR": tmp_path / "data",
    }
    return {**kept, **{key: str(path) for key, path in folders.items()}}


@pytest.fixture
def kaelum(tmp_path: Path, environ: dict[str, str]) -> Kaelum:
    """`kaelum(*arguments, stdin=..., **variables)` runs the command in an empty folder."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kaelum_graph", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**environ, **variables},
            cwd=tmp_path,
            timeout=60,
        )

    return run


def one_error(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line of a failed command."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("kaelum: error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("kaelum: error: ").rstrip("\n")


def test_help_lists_every_command_and_is_quick(kaelum: Kaelum) -> None:
    started = time.monotonic()
    done = kaelum("--help")
    assert time.monotonic() - started < 3.0
    assert done.returncode == 0
    assert done.stderr == ""
    for name in cli_parser.command_entry_points():
        assert f"\n    {name} " in done.stdout
    assert {"ask", "config", "graph", "models"} <= set(cli_parser.command_entry_points())


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys\n"
        "from kaelum_graph.cli import main\n"
        "main(['--help']); main(['ask', '--help'])\n"
        "heavy = {'torch', 'transformers', 'langgraph', 'langchain_core', 'openai', 'faiss', 'sympy', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stderr == "[]\n"
    assert "kaelum ask" in done.stdout


def test_version(kaelum: Kaelum) -> None:
    from importlib.metadata import version

    assert kaelum("--version").stdout == f"kaelum {version('kaelum-graph')}\n"


def test_every_setting_has_a_flag(kaelum: Kaelum) -> None:
    for command in ("ask", "config"):
        text = kaelum(command, "--help").stdout
        for key in Settings.model_fields:
            assert f"--{key.replace('_', '-')}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the query is empty."),
        (["   "], "the query is empty."),
        ([], 'the query is empty; for example: kaelum "What is 2+2?" (see kaelum --help)'),
        (["--simz", "3", "q"], "unrecognized arguments: --simz (did you mean --sims? see kaelum ask --help)"),
        (
            ["q", "--zzz"],
            "unrecognized arguments: --zzz (a query that begins with - goes after --; see kaelum ask --help)",
        ),
        (["q", "--sims"], "argument --sims: expected one argument"),
        (["--sims", "many", "q"], "sims has value 'many' (flag --sims): expected a whole number from 1 to 256."),
        (["--temperature=3", "q"], "temperature has value '3' (flag --temperature): expected a number from 0 to 2."),
        (["--effort", "huge", "q"], "expected one of none, minimal, low, medium, high, xhigh, max."),
        (
            ["--sims", "3", "graph"],
            "'graph' is a command and goes first: kaelum graph ...; as a query: kaelum -- graph",
        ),
        (["config", "--sims", "0"], "sims has value '0' (flag --sims): expected a whole number from 1 to 256."),
        (["config", "extra"], "unrecognized arguments: extra"),
        (["--config", "none.toml", "q"], "none.toml: cannot read the settings file: No such file or directory."),
    ],
)
def test_a_mistake_is_one_line(kaelum: Kaelum, arguments: list[str], message: str) -> None:
    assert message in one_error(kaelum(*arguments))


def test_a_bad_settings_file_names_its_line(kaelum: Kaelum, tmp_path: Path) -> None:
    file = tmp_path / "kaelum.toml"
    file.write_text("sims = 3\n\nsimz = 4\n")
    assert one_error(kaelum("q")) == f"{file} line 3: unknown setting 'simz'; the nearest is 'sims'."
    file.write_text("sims = 3\nmodel = \n")
    assert one_error(kaelum("config")).startswith(f"{file} line 2: not valid TOML: ")


def test_an_unknown_variable_is_refused(kaelum: Kaelum) -> None:
    message = one_error(kaelum("q", KAELUM_MODLE="x"))
    assert message == "environment KAELUM_MODLE: unknown setting; the nearest is KAELUM_MODEL."


def test_config_shows_values_and_origins(kaelum: Kaelum, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("# settings\ndepth = 5\n")
    done = kaelum("config", "--config", str(file), "--sims", "3", "--no-cache", KAELUM_API_KEY="s3cret")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()[2:]}
    assert rows["sims"] == ["3", "flag --sims"]
    assert rows["cache"] == ["false", "flag --no-cache"]
    assert rows["depth"] == ["5", f"file {file} line 2"]
    assert rows["api_key"] == ["********", "environment KAELUM_API_KEY"]
    assert rows["data_dir"] == [str(tmp_path / "data"), "environment KAELUM_DATA_DIR"]
    assert rows["top_p"] == ["0.95", "default"]
    assert set(rows) == set(Settings.model_fields)
    assert "s3cret" not in done.stdout + done.stderr


def test_config_as_json(kaelum: Kaelum) -> None:
    done = kaelum("config", "--json", KAELUM_API_KEY="s3cret", KAELUM_BASE_URL="https://me:pw@host/v1")
    report = json.loads(done.stdout)
    assert report["file"] is None
    assert report["settings"]["wave_size"] == {"value": 16, "origin": "default"}
    assert report["settings"]["base_url"]["value"] == "https://***@host/v1"
    assert "s3cret" not in done.stdout
    assert "pw@" not in kaelum("config", KAELUM_BASE_URL="https://me:pw@host/v1").stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(environ: dict[str, str], unbuffered: str) -> None:
    for arguments in (["--help"], ["config"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "kaelum_graph", *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            env={**environ, "PYTHONUNBUFFERED": unbuffered},
        )
        os.close(write)
        assert done.stderr == b""
        # argparse itself ignores the failed write of an unbuffered --help.
        assert done.returncode == cli.READER_GONE or (arguments == ["--help"] and unbuffered)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_output(environ: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kaelum_graph", "config"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environ,
            text=True,
        )
    assert done.returncode == StorageError.exit_code
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_closed_streams_are_survived(environ: dict[str, str], tmp_path: Path) -> None:
    command = f"{sys.executable} -m kaelum_graph"
    for line, code in ((f"{command} config >&-", 0), (f"{command} <&- 2>&-", 2), (f"{command} --version >&- 2>&-", 0)):
        assert subprocess.run(line, shell=True, env=environ, cwd=tmp_path).returncode == code, line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("bad"), 2),
        (UpstreamError("no answer\nfrom there"), 3),
        (HashMismatch("other hash"), 3),
        (ContextOverflow(limit_tokens=10, prompt_tokens=20), 4),
        (StorageError("disk"), 5),
        (OSError(errno.ENOSPC, "No space left on device"), 5),
        (OSError(errno.EACCES, "Permission denied"), 1),
        (MemoryError(), 3),
        (ZeroDivisionError("a\nbug"), 1),
    ],
)
def test_every_failure_is_one_line_and_a_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Namespace) -> NoReturn:
        raise error

    def parsed(argv: list[str]) -> Namespace:
        return Namespace(run=fail)

    monkeypatch.setattr(cli_parser, "parse", parsed)
    monkeypatch.setattr(cli, "_drop_output", lambda: None)
    monkeypatch.delenv("KAELUM_DEBUG", raising=False)
    assert cli.main([]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("kaelum: error: ")
    assert printed.err.count("\n") == 1

    monkeypatch.setenv("KAELUM_DEBUG", "1")
    assert cli.main([]) == code
    assert "Traceback" in capsys.readouterr().err


def test_a_command_that_cannot_be_loaded_harms_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.metadata import EntryPoint

    broken = EntryPoint(name="broken", value="no_such_package:register", group=cli_parser.COMMAND_GROUP)
    known = cli_parser.command_entry_points()
    monkeypatch.setattr(cli_parser, "command_entry_points", lambda: {**known, "broken": broken})
    assert cli.main(["--help"]) == 0
    assert "cannot be loaded: No module named 'no_such_package'" in capsys.readouterr().out
    assert cli.main(["config"]) == 0
    assert cli.main(["broken"]) == 2
    assert "command 'broken' cannot be loaded" in capsys.readouterr().err


def test_without_registered_commands_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_parser, "command_entry_points", dict)
    assert cli.main(["q"]) == 2
    assert "install the package" in capsys.readouterr().err
