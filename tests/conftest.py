"""Fixtures for every room: the real models, and no way to reach anything but this machine."""

from __future__ import annotations

import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from kaelum_graph import verifiers
from kaelum_graph.models.progress import Report, on_terminal
from kaelum_graph.models.weights import default_cache_dir, resolve_encoder, resolve_model

MODEL = "qwen2.5-coder-0.5b"


@contextmanager
def shown(config: pytest.Config) -> Generator[Report]:
    """A report on the real standard error, whatever pytest captures: minutes of download must not look like a hang."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    begun = False
    with capture.global_and_fixture_disabled() if capture else nullcontext(), on_terminal() as report:

        def on_a_line_of_its_own(stage: str, done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                begun = True
                print(file=sys.stderr, flush=True)
            report(stage, done, total)

        yield on_a_line_of_its_own


@pytest.fixture(scope="session")
def qwen_folder(pytestconfig: pytest.Config) -> Path:
    """The real 0.5B Qwen, fetched once into the user's cache folder."""
    with shown(pytestconfig) as report:
        return resolve_model(MODEL, cache_dir=default_cache_dir(), report=report)


@pytest.fixture(scope="session")
def encoder_folder(pytestconfig: pytest.Config) -> Path:
    """The real MiniLM, fetched once into the user's cache folder."""
    with shown(pytestconfig) as report:
        return resolve_encoder(cache_dir=default_cache_dir(), report=report)


@pytest.fixture(autouse=True)
def no_network(qwen_folder: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only loopback and Unix sockets connect. The models are fetched first, so that no test depends on another's."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"a test tried to reach {host}: tests use no network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes and settings of a test stay in its own folder."""
    monkeypatch.setenv("KAELUM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KAELUM_CONFIG", "")


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A registry of verifiers in which what the test adds is gone afterwards."""
    verifiers.available()
    monkeypatch.setattr(verifiers, "_registry", dict(verifiers._registry))
    yield
    verifiers._load.cache_clear()
