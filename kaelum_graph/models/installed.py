"""The folder of models on this machine: what is in it, whole or not, and how a model gets into and out of it.

A model is made in a folder beside its place and renamed into it, under a lock, so that a process that is killed, or a
second one, leaves nothing half-made that could be taken for whole. What was downloaded before a kill is used again.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from filelock import FileLock, Timeout

from kaelum_graph.errors import UsageError, WeightsError
from kaelum_graph.models.disk import disk_full, says_full
from kaelum_graph.models.progress import Report, folder_bytes, silent

State = Literal["installed", "damaged", "partial"]

MANIFEST = "manifest.json"
_READY = "ready-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a model came from. `file`, `size` and `sha256` are those of its pinned file, where it has one."""

    source: str
    file: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A model in the cache folder; `size` in bytes on disk, `source` where it came from.

    A damaged one lacks files or has them cut short; a partial one was not fetched to its end. Both are made whole
    when they are asked for.
    """

    name: str
    folder: Path
    size: int
    source: str
    state: State = "installed"


Make: TypeAlias = Callable[[Path, Path], Origin]
"""Fills its second argument, an empty folder; the first, beside it, keeps downloads for the next try."""


def folder_of(name: str, cache_dir: Path) -> Path:
    """Where the model of that name belongs."""
    return cache_dir / "models" / name.replace("/", "--")


def is_installed(name: str, cache_dir: Path) -> bool:
    """Whether the model is there and whole."""
    return _damage(folder_of(name, cache_dir)) is None


def install(
    name: str, *, cache_dir: Path, make: Make, needs: tuple[str, ...] = (), report: Report = silent
) -> Path:  # fmt: skip
    """The folder of the model `name`, made by `make` where it is not there whole with the files `needs`.

    Raises what `make` raises, and `WeightsError` when the folder can't be written.
    """
    folder = folder_of(name, cache_dir)
    if _damage(folder, needs) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(name, folder, report):
            damage = _damage(folder, needs)
            if damage is None:
                return folder
            if damage:
                report(f"{name} is damaged ({damage}) and is made again", 0, 0)
            work = _partial(folder)
            work.mkdir(exist_ok=True)
            _remove_unfinished(work)
            # A name of its own: the conversion of a killed process may write into the old one for a while yet.
            ready = work / f"{_READY}{uuid.uuid4().hex[:8]}"
            ready.mkdir()
            try:
                origin = make(work, ready)
                _write_manifest(ready, name, origin)
                if folder.exists():
                    shutil.rmtree(folder)
                ready.rename(folder)
            except WeightsError as error:
                if damage:
                    raise type(error)(f"{error} (The copy in {folder} is damaged: {damage}.)") from error
                raise
            finally:
                _remove_unfinished(work)
                if not folder_bytes(work):
                    shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(work, ignore_errors=True)
            return folder
    except OSError as error:
        if says_full(error):
            raise disk_full(folder.parent, what=name) from error
        raise WeightsError(f"{name} cannot be stored in {folder.parent}: {error.strerror or error}.") from error


def installed_models(cache_dir: Path) -> list[Installed]:
    """What is in the cache folder, whole or not, by name. Other folders in it are not looked at."""
    found: dict[str, Installed] = {}
    for manifest in (cache_dir / "models").glob(f"[!.]*/{MANIFEST}"):
        folder = manifest.parent
        values = _manifest(folder)
        name = str(values.get("name", folder.name))
        state: State = "installed" if _damage(folder) is None else "damaged"
        source = str(values.get("source", "unknown"))
        found[name] = Installed(name=name, folder=folder, size=folder_bytes(folder), source=source, state=state)
    for work in (cache_dir / "models").glob(".*.partial"):
        name = work.name[1 : -len(".partial")].replace("--", "/")
        size = folder_bytes(work)
        if size and name not in found:
            found[name] = Installed(name=name, folder=work, size=size, source="not fetched to its end", state="partial")
    return [found[name] for name in sorted(found)]


def remove_model(name: str, *, cache_dir: Path) -> int:
    """Remove a model, and what was fetched of it; bytes freed.

    Raises `UsageError` when there is nothing of it, and `WeightsError` while another process is fetching it.
    """
    here = installed_models(cache_dir)
    model = next((one for one in here if one.name.lower() == name.lower()), None)
    if model is None:
        names = ", ".join(one.name for one in here)
        raise UsageError(f"model '{name}' is not installed in {cache_dir}{f'; there: {names}' if names else ''}.")
    folder = folder_of(model.name, cache_dir)
    try:
        with FileLock(_lock(folder), timeout=0):
            paths = [path for path in (folder, _partial(folder)) if path.exists()]
            freed = sum(folder_bytes(path) for path in paths)
            # The manifest goes first: what a kill leaves of a folder then counts for nothing.
            (folder / MANIFEST).unlink(missing_ok=True)
            for path in paths:
                shutil.rmtree(path)
            return freed
    except Timeout as error:
        raise WeightsError(f"{model.name} is being fetched by another process; nothing was removed.") from error
    except OSError as error:
        raise WeightsError(f"{folder} cannot be removed: {error.strerror or error}.") from error


def _write_manifest(folder: Path, name: str, origin: Origin) -> None:
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    known = {key: value for key, value in asdict(origin).items() if value is not None}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    (folder / MANIFEST).write_text(json.dumps({"name": name, "date": date, **known, "files": files}, indent=1))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        values = json.loads((folder / MANIFEST).read_text())
        return values if isinstance(values, dict) else {}
    except (OSError, ValueError):
        return {}


def _damage(folder: Path, needs: tuple[str, ...] = ()) -> str | None:
    """What is wrong with a model's folder, in words; "" when it is not there, None when it is whole."""
    if not (folder / MANIFEST).is_file():
        return ""
    files = _manifest(folder).get("files")
    if not isinstance(files, dict) or not files:
        return f"{MANIFEST} is unreadable"
    for name, size in files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes, not {size}"
    return None if all(name in files for name in needs) else ""


@contextmanager
def _alone(name: str, folder: Path, report: Report) -> Generator[None]:
    """Hold the model's lock; say so when that takes another process to finish."""
    lock = FileLock(_lock(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"Waiting for another process that is fetching {name}", 0, 0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_unfinished(work: Path) -> None:
    for left_over in work.glob(f"{_READY}*"):
        shutil.rmtree(left_over, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")
