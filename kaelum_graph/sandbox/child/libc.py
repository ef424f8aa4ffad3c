"""The few system calls that Python does not offer, each raising `OSError` on failure."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

CAP_DAC_READ_SEARCH = 2
CAP_SYS_ADMIN = 21

_CAPABILITY_VERSION_3 = 0x2008_0522
_M_ARENA_MAX = -8


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None, what: str) -> int:
    """The raw system call `number`; `what` names it in the error."""
    widened = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *widened), what)


def prctl(option: int, value: int | ctypes.Array[ctypes.c_char] = 0, extra: object = 0) -> int:
    def widen(argument: object) -> object:
        return ctypes.c_ulong(argument) if isinstance(argument, int) else argument

    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(ctypes.c_int(option), widen(value), widen(extra), zero, zero), f"prctl {option}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _checked(result, f"mount {target}")


def unmount(target: str) -> None:
    """Detach `target` at once, even while it is in use."""
    _checked(_libc.umount2(target.encode(), ctypes.c_int(MNT_DETACH)), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make the mount `new` the root of this mount namespace; the former root appears at `old`."""
    numbers = {"x86_64": 155, "aarch64": 41}
    number = ctypes.c_long(numbers[os.uname().machine])
    _checked(_libc.syscall(number, new.encode(), old.encode()), "pivot_root")


def set_capabilities(*kept: int) -> None:
    """Keep exactly the capabilities `kept` (numbers below 32) as permitted and effective."""
    mask = sum(1 << capability for capability in kept)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    _checked(_libc.capset(header, data), "capset")


def effective_capabilities() -> int:
    """This process's effective capabilities, as a bit mask."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def use_one_malloc_arena() -> None:
    """Stop glibc from reserving 64 MiB of address space per thread, which RLIMIT_AS would count."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(1))
