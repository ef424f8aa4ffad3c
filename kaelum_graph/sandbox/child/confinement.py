"""The layers that a program's own process puts on, in the only order in which they can be put on."""

from __future__ import annotations

import math
import os
import resource
import signal
from dataclasses import dataclass

from . import landlock, libc, seccomp
from .reach import DEVICES

THREADS = 64
"""How many threads one program may have."""

_OPEN_FILES = 64
_STACK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Limits of one program.

    `address_bytes` counts what the interpreter itself maps; `tasks` all threads that RLIMIT_NPROC holds against it.
    """

    cpu_seconds: float
    address_bytes: int
    disk_bytes: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who a program runs as; `changes` is False where the caller is not root and keeps its own uid."""

    user: int
    group: int
    changes: bool
    keeps_read_capability: bool = False


def limit(ceilings: Ceilings) -> None:
    """Set the resource limits, hard ones included, for this process and all it may become."""
    seconds = max(1, math.ceil(ceilings.cpu_seconds))
    # The soft limit sends SIGXCPU, which says what happened; the hard one kills whoever ignores it.
    _set(resource.RLIMIT_CPU, seconds, seconds + 1)
    _set(resource.RLIMIT_AS, ceilings.address_bytes)
    _set(resource.RLIMIT_FSIZE, ceilings.disk_bytes)
    _set(resource.RLIMIT_NPROC, ceilings.tasks)
    _set(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _set(resource.RLIMIT_STACK, _STACK_BYTES)
    for name in ("CORE", "MEMLOCK", "MSGQUEUE", "RTPRIO", "NICE"):
        _set(getattr(resource, f"RLIMIT_{name}"), 0)
    _set(resource.RLIMIT_SIGPENDING, _OPEN_FILES)


def drop_privileges(owner: Owner) -> None:
    """Become `owner`, with no capability but, where Python lies in a folder closed to others, that of reading it."""
    if owner.changes:
        if owner.keeps_read_capability:
            libc.prctl(libc.PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(owner.group, owner.group, owner.group)
        os.setresuid(owner.user, owner.user, owner.user)
    libc.set_capabilities(*([libc.CAP_DAC_READ_SEARCH] if owner.keeps_read_capability else []))
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    # After the change of uid, which clears it.
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)


def confine(*, readable: tuple[str, ...], work: str, use_landlock: bool, own_disk: bool) -> None:
    """Close the file system and the system call table to the calling thread, for good."""
    if use_landlock:
        landlock.restrict(readable=readable, devices=DEVICES, work=work, own_disk=own_disk)
    seccomp.install(os.getpid())


def _set(name: int, soft: int, hard: int | None = None) -> None:
    hard = soft if hard is None else hard
    ceiling = resource.getrlimit(name)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(name, (soft, hard))
