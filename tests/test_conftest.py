"""What a person sees while the first `make test` on a machine fetches the models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

CAPTURED = """
import pytest
from tests.conftest import shown

@pytest.fixture
def fetched(pytestconfig):
    with shown(pytestconfig) as report:
        {fetch}

def test_one(fetched):
    print("a test's own words")
"""


def errors_of(folder: Path, fetch: str) -> str:
    """What a pytest run, its output captured, writes to standard error while a fixture does `fetch`."""
    (folder / "test_one.py").write_text(CAPTURED.format(fetch=fetch))
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "own words" not in done.stdout
    return done.stderr


def test_fetching_is_told_although_output_is_captured(tmp_path: Path) -> None:
    fetch = "report('fetching a model', 1, 10); report('fetching a model', 10, 10)"
    assert errors_of(tmp_path, fetch) == "\nkaelum: fetching a model\n"


def test_nothing_is_told_where_nothing_is_fetched(tmp_path: Path) -> None:
    assert errors_of(tmp_path, "pass") == ""
