"""How many pools of memory the C library may keep for a process's threads."""

from __future__ import annotations

import ctypes
import os
import sys

_ARENA_MAX = -8
"""glibc's M_ARENA_MAX (malloc.h)."""
MOST = 2


def few_arenas() -> bool:
    """Have glibc keep no more than two pools; False where that is not to be set: another library, or the user's choice.

    It makes one for nearly every thread, up to eight a core, and hands little of it back. Searches come and go in many
    threads, so a process that served 300 of them side by side held 4 GB in 72 pools beside a model of 1.3 GB. Python's
    threads seldom allocate at the same time, so sharing costs them nothing. To be called before threads are started.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_ARENA_MAX, MOST))
