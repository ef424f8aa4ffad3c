"""Fixtures for every room: the real models, and no way to reach anything but this machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from kaelum_graph.models.weights import default_cache_dir, resolve_encoder, resolve_model

MODEL = "qwen2.5-coder-0.5b"


@pytest.fixture(scope="session")
def qwen_folder() -> Path:
    """The real 0.5B Qwen, fetched once into the user's cache folder."""
    return resolve_model(MODEL, cache_dir=default_cache_dir())


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The real MiniLM, fetched once into the user's cache folder."""
    return resolve_encoder(cache_dir=default_cache_dir())


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
