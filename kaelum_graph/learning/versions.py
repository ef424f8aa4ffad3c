"""Learned states on disk: one folder each, complete or not there at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as bytes_of

from kaelum_graph.errors import StorageError, UsageError
from kaelum_graph.learning.faults import PassedOver
from kaelum_graph.learning.state import LearnedState, Part, Parts, digest_of
from kaelum_graph.types import Json

LOG = logging.getLogger(__name__)
META = "meta.json"
POINTER = "current"
DIGITS = 6

Kind = Literal["checkpoint", "serving"]
"""A checkpoint is what was learned up to an event; a serving version is what was found fit to be searched with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What `meta.json` says of one version; `positions` are the events up to which each component has learned.

    `erased` is the last "forgotten" event that it heeds. `parent` is the version that served before, of a serving one.
    `metrics` tell of each component that proved itself for it how; without any, only components that need no proof
    changed. A checkpoint also says which comparisons were `running`, and what components failed on (`passed_over`).
    """

    id: str
    number: int
    kind: Kind
    position: int
    erased: int
    created_at: float  # seconds since 1970
    parent: str | None
    counts: Mapping[str, int]
    metrics: Json
    running: Sequence[Json]
    passed_over: Mapping[str, PassedOver]
    positions: Mapping[str, int]
    digests: Mapping[str, str] = field(repr=False)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that name what it knows."""
        return self.id.partition("-")[2]

    @property
    def promoted(self) -> bool:
        """Whether it was found fit to be searched with."""
        return self.kind == "serving"

    def knows(self, forgotten: Sequence[tuple[int, int]]) -> bool:
        """Whether it may have learned from what one of these (number, first event) told to forget."""
        return any(number > self.erased and first <= self.position for number, first in forgotten)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorChange:
    """How a tensor of a component differs between two versions. None: it isn't there in that version.

    `largest` and `rms` are of the differences; NaN where the shapes differ.
    """

    component: str
    tensor: str
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None
    largest: float
    rms: float


class Versions:
    """The versions in a folder. Any process may read, pin and roll back; only the one that learns saves and prunes.

    A folder is written under another name, brought to disk and renamed: one that was being written when the power went
    is never seen. Every method raises `StorageError` where the folder can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot keep learned state: {error}") from error
        self._pointer_lock = FileLock(folder / ".current.lock", thread_local=False)
        self._damaged: set[str] = set()

    def save(
        self,
        state: LearnedState | Parts,
        *,
        kind: Kind = "checkpoint",
        erased: int = 0,
        parent: str | None = None,
        counts: Mapping[str, int] | None = None,
        metrics: Json | None = None,
        running: Sequence[Json] = (),
        passed_over: Mapping[str, PassedOver] | None = None,
    ) -> str:
        """Keep a state; its id, once it is on disk whole."""
        parts = state.parts() if isinstance(state, LearnedState) else state
        if isinstance(state, LearnedState):
            counts = state.counts if counts is None else counts
            passed_over = state.passed_over if passed_over is None else passed_over
        number = 1 + max((int(folder.name[:DIGITS]) for folder in self._folders()), default=0)
        version_id = f"{number:0{DIGITS}d}-{digest_of(parts)}"
        meta = {
            "number": number,
            "kind": kind,
            "position": max((part.position for part in parts.values()), default=0),
            "erased": erased,
            "created_at": time.time(),
            "parent": parent,
            "counts": dict(counts or {}),
            "metrics": metrics or {},
            "running": list(running),
            "passed_over": {name: one.to_json() for name, one in (passed_over or {}).items()},
            "components": {
                name: {"position": part.position, "digest": part.digest, "meta": part.meta}
                for name, part in parts.items()
            },
        }
        making = self.folder / f".making-{uuid.uuid4().hex}"
        try:
            making.mkdir()
            for name, part in parts.items():
                arrays = {tensor: np.asarray(array, order="C") for tensor, array in part.tensors.items()}
                _write(making / f"{name}.safetensors", bytes_of(arrays))
            _write(making / META, json.dumps(meta, indent=1).encode())
            _sync(making)
            making.rename(self.folder / version_id)
            _sync(self.folder)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            raise StorageError(f"{self.folder}: cannot keep a version: {error}") from error
        return version_id

    def list(self) -> list[Version]:
        """Every readable version, oldest first. Of a damaged one, a notice goes to the log, once."""
        found: list[Version] = []
        for folder in self._folders():
            try:
                found.append(self.show(folder.name))
            except UsageError:
                continue  # removed meanwhile
            except StorageError as error:
                if folder.exists() and folder.name not in self._damaged:
                    self._damaged.add(folder.name)
                    LOG.warning("%s", error)
        return found

    def show(self, version_id: str) -> Version:
        """What is known of a version. Raises `UsageError` for none of that name, `StorageError` for a damaged one."""
        return _version(version_id, self._meta(version_id))

    def parts(self, version_id: str) -> dict[str, Part]:
        """What a version's components knew, checked. Raises as `show`."""
        said, parts = self._meta(version_id), dict[str, Part]()
        for name, told in said["components"].items():
            try:
                data = (self.folder / version_id / f"{name}.safetensors").read_bytes()
                part = Part(tensors=tensors_of(data), meta=told["meta"], position=told["position"])
            except (OSError, SafetensorError) as error:
                raise StorageError(f"learned state {version_id} is damaged: component '{name}': {error}") from error
            if part.digest != told["digest"]:
                raise StorageError(f"learned state {version_id} is damaged: component '{name}' is not what was saved")
            parts[name] = part
        return parts

    def load(self, version_id: str, state: LearnedState) -> None:
        """Give `state` what the version knew. Raises as `show`, and `ValueError` for what is another program's."""
        version, parts = self.show(version_id), self.parts(version_id)
        state.load(parts)
        state.counts, state.passed_over = {**state.counts, **version.counts}, version.passed_over

    def find(self, name: str) -> str:
        """The version that `name` means: an id, its number, or the beginning of one. Raises `UsageError`."""
        ids = [folder.name for folder in self._folders()]
        found = [one for one in ids if one == name or one.startswith(name) or one.partition("-")[2].startswith(name)]
        if name.isdecimal():
            found = [one for one in ids if int(one[:DIGITS]) == int(name)] or found
        if not name or not found:
            raise UsageError(f"learned state '{name}': no such version.")
        if len(found) > 1 and name not in found:
            raise UsageError(f"learned state '{name}': more than one begins like that: {', '.join(found[:3])}.")
        return name if name in found else found[0]

    def current(self) -> str | None:
        """The version to search with: the pinned one, else the last promoted; None before the first."""
        pointed, pinned = self._pointer()
        return pinned or pointed

    def promoted(self) -> str | None:
        """The last promoted version, whatever is pinned."""
        return self._pointer()[0]

    def pinned(self) -> str | None:
        """The version that is served until it is unpinned, or None."""
        return self._pointer()[1]

    def point(self, version_id: str | None, *, pinned: str | None = None) -> None:
        """Make these the promoted and the pinned version, both in one moment."""
        with self._pointer_lock:
            self._point(version_id, pinned)

    def promote(self, version_id: str) -> bool:
        """Make a version the promoted one; False, and nothing is changed, while one is pinned."""
        with self._pointer_lock:
            if self._pointer()[1] is not None:
                return False
            self._point(version_id, None)
            return True

    def pin(self, version_id: str | None) -> None:
        """Serve this version whatever is learned, until None unpins. Raises as `parts`."""
        if version_id is not None:
            self.parts(version_id)
        with self._pointer_lock:
            self._point(self._pointer()[0], version_id)

    def unpin(self) -> None:
        """Serve what was promoted last."""
        self.pin(None)

    def rollback(self) -> str:
        """Serve what served before a component last proved itself, or else before the current version. Its id.

        It is pinned, or what is newly learned would take its place at once; once it is unpinned, a newer version must
        prove itself against it. Raises `UsageError` without one.
        """
        with self._pointer_lock:
            pointed, pinned = self._pointer()
            now = pinned or pointed
            before = self._before(now)
            if before is None:
                raise UsageError("nothing to roll back to: no earlier version was served, or it was pruned.")
            self._point(before, before)
            return before

    def diff(self, before: str, after: str) -> list[TensorChange]:
        """Every tensor that differs between two versions. Raises as `parts`."""
        old, new = self.parts(before), self.parts(after)
        changes: list[TensorChange] = []
        for component in sorted({*old, *new}):
            one = old[component].tensors if component in old else {}
            two = new[component].tensors if component in new else {}
            for tensor in sorted({*one, *two}):
                a, b = one.get(tensor), two.get(tensor)
                if a is not None and b is not None and a.shape == b.shape:
                    if np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
                        continue
                    difference = b.astype(np.float64) - a.astype(np.float64)
                    largest, rms = float(np.abs(difference).max()), float(np.sqrt((difference**2).mean()))
                else:
                    largest = rms = float("nan")
                changes.append(
                    TensorChange(
                        component=component,
                        tensor=tensor,
                        before=None if a is None else a.shape,
                        after=None if b is None else b.shape,
                        largest=largest,
                        rms=rms,
                    )
                )
        return changes

    def prune(self, *, keep: int, needed: Collection[str] = ()) -> list[str]:
        """Remove all but the current, the pinned, those `needed` and the newest `keep` of each sort; what went.

        The sorts are checkpoints, versions that serve because a component proved itself (each with the one before it,
        to roll back to), and other serving ones.
        """
        pointed, pinned = self._pointer()
        versions, kept = self.list(), {pointed, pinned, *needed}
        for sort in ((False, False), (True, False), (True, True)):
            of_sort = [version.id for version in versions if (version.promoted, bool(version.metrics)) == sort]
            kept.update(of_sort[-keep:])
        kept.update(version.parent for version in versions if version.metrics and version.id in kept)
        gone = [version.id for version in versions if version.id not in kept]
        self.remove(gone)
        return gone

    def remove(self, version_ids: Collection[str]) -> None:
        """Remove versions, each at once."""
        try:
            for version_id in version_ids:
                gone = self.folder / f".gone-{uuid.uuid4().hex}"
                (self.folder / version_id).rename(gone)
                shutil.rmtree(gone)
            _sync(self.folder)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot remove a version: {error}") from error

    def clean(self) -> None:
        """Remove what a killed process left half made. Only for the process that learns."""
        for pattern in (".making-*", ".gone-*"):
            for left in self.folder.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        with self._pointer_lock:
            for left in self.folder.glob(".pointer-*"):
                left.unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self.folder) as there:
                names = [entry.name for entry in there if entry.name[:DIGITS].isdecimal() and "-" in entry.name]
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot read learned state: {error}") from error
        return [self.folder / name for name in sorted(names)]

    def _meta(self, version_id: str) -> dict[str, Any]:
        path = self.folder / version_id / META
        if not path.parent.is_dir() or version_id.startswith("."):
            raise UsageError(f"learned state '{version_id}': no such version.")
        try:
            said: dict[str, Any] = json.loads(path.read_bytes())
            _version(version_id, said)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"learned state {version_id} is damaged: {META}: {error!r}") from error
        return said

    def _before(self, version_id: str | None) -> str | None:
        if version_id is None:
            return None
        upto = [version for version in self.list() if version.promoted and version.number <= int(version_id[:DIGITS])]
        if not upto:
            return None
        last = next((version for version in reversed(upto) if version.metrics), upto[-1])
        earlier = [version.id for version in upto if version.number < last.number]
        return last.parent if last.parent in earlier else earlier[-1] if earlier else None

    def _pointer(self) -> tuple[str | None, str | None]:
        try:
            said = json.loads((self.folder / POINTER).read_bytes())
            return said["version"], said["pinned"]
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot read learned state: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            newest = next((version.id for version in reversed(self.list()) if version.promoted), None)
            LOG.warning("%s is damaged (%r): taking %s", self.folder / POINTER, error, newest)
            return newest, None

    def _point(self, version_id: str | None, pinned: str | None) -> None:
        making = self.folder / f".pointer-{uuid.uuid4().hex}"
        try:
            _write(making, json.dumps({"version": version_id, "pinned": pinned}).encode())
            making.replace(self.folder / POINTER)
            _sync(self.folder)
        except OSError as error:
            making.unlink(missing_ok=True)
            raise StorageError(f"{self.folder}: cannot change the version in use: {error}") from error


def _version(version_id: str, said: dict[str, Any]) -> Version:
    parts = said["components"]
    return Version(
        id=version_id,
        number=said["number"],
        kind=said["kind"],
        position=said["position"],
        erased=said["erased"],
        created_at=said["created_at"],
        parent=said["parent"],
        counts=said["counts"],
        metrics=said["metrics"],
        running=said["running"],
        passed_over={name: PassedOver.from_json(one) for name, one in said.get("passed_over", {}).items()},
        positions={name: part["position"] for name, part in parts.items()},
        digests={name: part["digest"] for name, part in parts.items()},
    )


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Bring a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
