"""`kaelum models`: list, get, remove."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaelum_graph.cli import main
from kaelum_graph.models.weights import MANIFEST


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder in which one model is installed."""
    folder = tmp_path / "cache" / "models" / "qwen2.5-coder-0.5b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / MANIFEST).write_text(json.dumps({"source": "test", "files": {"config.json": 2}}))
    return tmp_path / "cache"


def test_the_list_says_what_is_installed_and_what_can_be_had(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--cache-dir", str(cache), "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["qwen2.5-coder-0.5b"]["state"] == "installed"
    assert rows["qwen2.5-coder-1.5b"]["state"] == "available"
    assert main(["models", "--cache-dir", str(cache)]) == 0
    assert "1,117 MB" in capsys.readouterr().out


def test_get_of_an_installed_model_prints_its_folder(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "get", "qwen2.5-coder-0.5b", "--cache-dir", str(cache)]) == 0
    assert Path(capsys.readouterr().out.strip()) == cache / "models" / "qwen2.5-coder-0.5b"


def test_remove_frees_it_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "remove", "qwen2.5-coder-0.5b", "--cache-dir", str(cache)]) == 0
    assert not (cache / "models" / "qwen2.5-coder-0.5b").exists()
    assert main(["models", "remove", "qwen2.5-coder-0.5b", "--cache-dir", str(cache)]) == 2
    assert "is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["get"], 2, "needs a NAME"),
        (["list", "x"], 2, "takes no name"),
        (["get", "no-such-model"], 2, "unknown model"),
        (["get", "qwen3-8b", "--hub", "off"], 3, "switched off"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments, "--cache-dir", str(tmp_path)]) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
