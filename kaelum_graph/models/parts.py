"""Files that travel in pieces: joined in numeric order, and the hash that decides whether they are kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TypeAlias

from kaelum_graph.errors import HashMismatch, WeightsError
from kaelum_graph.models.progress import Report, silent

BLOCK = 1 << 20
_PART = re.compile(r"(?:^|/)part[-_]?(\d+)(?:\.bin)?$|\.part[-_]?(\d+)$")

Piece: TypeAlias = tuple[int, Callable[[], AbstractContextManager[IO[bytes]]]]
"""A piece's number, and how to open it."""


def checked_sha256(path: Path, expected: str | None = None, *, name: str | None = None, report: Report = silent) -> str:
    """The file's SHA-256; `name` is what the report calls it.

    Where it is not `expected` the file is removed and `HashMismatch` names both.
    """
    digest = hashlib.sha256()
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            report(f"Checking {name or path.name}", done, size)
    found = digest.hexdigest()
    if expected is not None and found != expected.lower():
        _remove_with_target(path)
        raise HashMismatch(f"{path.name} has SHA-256 {found}, expected {expected.lower()}; the file was not kept.")
    return found


def part_number(name: str) -> int | None:
    """The number in the name of a piece ("data/part07.bin", "x.gguf.part07"); None for any other file."""
    match = _PART.search(name)
    return int(match.group(1) or match.group(2)) if match else None


def join_parts(parts: Sequence[Path], target: Path, *, sha256: str | None = None, report: Report = silent) -> Path:
    """Join pieces in numeric order into `target`, whose hash is checked when one is given; `target`.

    It is written beside and renamed, so that `target` is whole or not there. Raises `HashMismatch`, and
    `WeightsError` when `parts` hold anything but pieces, or a number is missing or doubled.
    """
    pieces: list[Piece] = []
    for path in parts:
        number = part_number(path.name)
        if number is None:
            raise WeightsError(f"{target.name}: {path.name} is not a piece; expected partNN.bin or *.partNN.")
        pieces.append((number, lambda path=path: path.open("rb")))
    total = sum(path.stat().st_size for path in parts)
    return join_pieces(pieces, target, total=total, sha256=sha256, name=target.name, report=report)


def join_pieces(
    pieces: Iterable[Piece], target: Path, *, total: int, sha256: str | None, name: str, report: Report
) -> Path:
    """`join_parts` for pieces that are opened on demand; `total` bytes are expected, for the report alone."""
    ordered = sorted(pieces, key=lambda piece: piece[0])
    numbers = [number for number, _ in ordered]
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise WeightsError(
            f"{target.name}: expected pieces numbered from 0 or 1 without a gap, found {numbers or 'none'}."
        )
    digest = hashlib.sha256()
    unfinished = target.with_name(f"{target.name}.joining")
    try:
        done = 0
        with unfinished.open("wb") as out:
            for _, open_piece in ordered:
                with open_piece() as piece:
                    while block := piece.read(BLOCK):
                        out.write(block)
                        digest.update(block)
                        done += len(block)
                        report(f"Joining {name}", done, total)
        if sha256 is not None and digest.hexdigest() != sha256.lower():
            raise HashMismatch(
                f"{target.name} has SHA-256 {digest.hexdigest()}, expected {sha256.lower()}; the file was not kept."
            )
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _remove_with_target(path: Path) -> None:
    # A hub's cache holds links to its files: with the link alone gone the bad file would be taken again.
    target = path.resolve()
    path.unlink(missing_ok=True)
    target.unlink(missing_ok=True)
