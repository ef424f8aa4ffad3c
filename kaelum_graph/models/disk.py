"""Room on a disk: asked for before gigabytes are written, and named when it has run out."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from kaelum_graph.errors import WeightsError

_FULL = ("no space left on device", "errno 28]", "os error 28", "disk quota exceeded")


class DiskFull(WeightsError):
    """There is no room for the weights; no other source would change that."""


def require_room(folder: Path, size: int, *, what: str) -> None:
    """Raise `DiskFull`, with both figures, where `folder` has no room for `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DiskFull(
            f"{what} needs {_gb(size)} of room in {folder}, where {_gb(free)} are free; another folder: --cache-dir "
            "or KAELUM_CACHE_DIR."
        )


def disk_full(folder: Path, *, what: str) -> DiskFull:
    """The error for a disk that ran full in the middle of the work."""
    try:
        free = f"{_gb(shutil.disk_usage(folder).free)} are free"
    except OSError:
        free = "nothing is free"
    return DiskFull(
        f"{what}: the disk of {folder} is full ({free}); make room, or name another folder with --cache-dir or "
        "KAELUM_CACHE_DIR. What was fetched whole is kept and used next time."
    )


def no_space() -> OSError:
    """What the system raises for a full disk, for another program that met one."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def says_full(error: BaseException | str) -> bool:
    """Whether an exception, or another program's error text, speaks of a full disk."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error).lower() for words in _FULL)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
