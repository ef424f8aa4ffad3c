"""A process of many threads keeps few pools of memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = """
import ctypes, sys, threading
from kaelum_graph.arenas import few_arenas
if sys.argv[1] == "few" and not few_arenas():
    print("left"); raise SystemExit
start, kept = threading.Barrier(12), []
def work():
    start.wait()
    kept.append([bytearray(2000) for _ in range(2000)])
threads = [threading.Thread(target=work) for _ in range(12)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
stream = library.fopen(b"/dev/stdout", b"w")
library.malloc_info(0, ctypes.c_void_p(stream)); library.fclose(ctypes.c_void_p(stream))
"""
GLIBC = "CS_GNU_LIBC_VERSION" in os.confstr_names and bool(os.confstr("CS_GNU_LIBC_VERSION"))


def pools(mode: str, **environment: str) -> str:
    own = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, mode], env=own | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.skipif(not GLIBC, reason="another C library has pools of its own kind")
def test_threads_share_two_pools() -> None:
    assert pools("many").count("<heap nr=") > 2
    assert pools("few").count("<heap nr=") <= 2


@pytest.mark.parametrize("choice", [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}])
def test_what_the_user_chose_stays(choice: dict[str, str]) -> None:
    assert pools("few", **choice).strip() == "left"
