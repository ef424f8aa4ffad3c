"""Memory that a loaded weights file takes by being mapped, given back piece by piece. Linux; elsewhere a no-op."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

from torch import Tensor

DONTNEED = 4  # MADV_DONTNEED


class FilePages:
    """The file-backed mappings of this process as they were when it was made."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        try:
            lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        for line in lines:
            fields = line.split(maxsplit=5)
            # Private and backed by a file: a page let go is read from the file again if it is touched again.
            if len(fields) == 6 and fields[5].startswith("/") and fields[1].endswith("p"):
                start, end = fields[0].split("-")
                self._ranges.append((int(start, 16), int(end, 16)))

    def release(self, tensor: Tensor) -> None:
        """Let go of the pages wholly inside an unmodified `tensor`, if a mapped file holds it. Never loses data."""
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start and any(low <= start and end <= high for low, high in self._ranges):
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DONTNEED)
