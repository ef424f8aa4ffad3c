"""The fork server: a small process with Python warm in memory that forks a watcher for each program.

It starts with an empty environment, learns once which layers this machine has, and moves into namespaces of its own
when it can. It never sees a program's text.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import pwd
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from . import landlock, libc, namespaces, reach, seccomp, supervisor
from .confinement import Owner, drop_privileges
from .supervisor import Host

_USUAL_MODULES = """
abc bisect builtins cmath collections collections.abc contextlib copy csv ctypes dataclasses datetime decimal enum
fractions functools heapq io itertools json math numbers operator random re statistics string struct textwrap threading
time traceback typing
"""

# Above every range that distributions, containers and systemd hand out.
_FIRST_FREE_USER = 0x7000_0000
_SLOTS = 64


def main(control_descriptor: int, parallel: int) -> NoReturn:
    """Serve requests from the control socket until its other end closes."""
    control = socket.socket(fileno=control_descriptor)
    try:
        host, missing = _settle(parallel)
    except BaseException as error:
        control.send(json.dumps({"error": str(error) or type(error).__name__}).encode())
        sys.exit(1)
    control.send(json.dumps({"layers": host.layers, "missing": missing}).encode())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _freeze()
    while True:
        message, descriptors = _receive(control)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            channel, *streams = descriptors
            supervisor.serve(host, socket.socket(fileno=channel), (streams[0], streams[1], streams[2]))
        for descriptor in descriptors:
            os.close(descriptor)
        host = _warmed(host, message.decode().split()[1:])


def _warmed(host: Host, wanted: list[str]) -> Host:
    """Import the slow modules that the last program wanted: it paid for its own import, the next one will not."""
    fresh = [name for name in wanted if name not in sys.modules]
    for name in fresh:
        # One that is not installed, or broken, is the program's to report.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if not fresh:
        return host
    _freeze()
    return dataclasses.replace(host, base_address_bytes=_address_bytes(host.sizes))


def _freeze() -> None:
    """Keep the collector away from what is loaded, so that forks go on sharing its pages."""
    gc.collect()
    gc.freeze()


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    message, ancillary, _, _ = control.recvmsg(64, socket.CMSG_SPACE(4 * descriptors.itemsize))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content)
    return message, list(descriptors)


def _settle(parallel: int) -> tuple[Host, dict[str, str]]:
    """Find out what this machine can do, move into namespaces if it can, and warm up."""
    missing: dict[str, str] = {}
    layers = ["rlimits", "no-new-privs"]
    found = reach.find()
    libc.use_one_malloc_arena()
    # Few descriptors to close in each child, where closing them is a loop.
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("500")
    owner_base = _owner_base()
    if owner_base is None:
        missing["uid"] = "not started as root, so programs keep the caller's uid"
    else:
        layers.append("uid")
    refusal = _attempt(lambda: _try_landlock(found.readable))
    if refusal is None:
        layers.append("landlock")
    else:
        missing["landlock"] = refusal
    sys.path[:] = found.import_paths
    for name in _USUAL_MODULES.split():
        importlib.import_module(name)
    # Opened now: there is no /proc in the new root.
    sizes = os.open("/proc/self/statm", os.O_RDONLY)
    refusal = seccomp.unavailable_because() or _attempt(_try_filter)
    if refusal is None:
        layers.append("seccomp")
    else:
        missing["seccomp"] = refusal
    refusal = _attempt(lambda: _try_namespaces(found.readable))
    if refusal is None:
        namespaces.enter(found.readable)
        layers.append("namespaces")
    else:
        missing["namespaces"] = refusal
    # Only now: a process that is not dumpable does not own its /proc/self/uid_map.
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    keeps = False
    if owner_base is not None and _attempt(lambda: _try_reading(found, owner_base, keeps=False)) is not None:
        keeps = True
        refusal = _attempt(lambda: _try_reading(found, owner_base, keeps=True))
        if refusal is not None:
            raise OSError(f"programs cannot have a uid of their own ({refusal})")
    host = Host(
        reach=found,
        layers=tuple(sorted(layers)),
        base_address_bytes=_address_bytes(sizes),
        sizes=sizes,
        owner_base=owner_base,
        keeps_read_capability=keeps,
        parallel=parallel,
    )
    return host, missing


def _attempt(action: Callable[[], None]) -> str | None:
    """Do `action` in a child that then ends; returns None when it worked, else why not."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            os.write(writing, b"done")
        except BaseException as error:
            os.write(writing, str(error).encode() or type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return None if said == b"done" else said.decode(errors="replace") or "the attempt was killed"


def _try_landlock(readable: tuple[str, ...]) -> None:
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict(readable=readable, devices=reach.DEVICES, work="/tmp", own_disk=True)


def _try_filter() -> None:
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(os.getpid())


def _try_namespaces(readable: tuple[str, ...]) -> None:
    namespaces.enter(readable)
    work = namespaces.work_folder(readable)
    namespaces.enter_for_one_program(work, disk_bytes=4096, owner=(os.getuid(), os.getgid()))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _try_reading(found: reach.Reach, user: int, *, keeps: bool) -> None:
    drop_privileges(Owner(user=user, group=user, changes=True, keeps_read_capability=keeps))
    for path in found.import_paths:
        if os.path.isdir(path):
            os.listdir(path)
    with open(os.__file__, "rb") as source:
        source.read(1)


def _owner_base() -> int | None:
    """The first of a block of uids that nobody has, or None when this process cannot change its uid."""
    if os.getuid() != 0:
        return None
    with open("/proc/self/uid_map", encoding="ascii") as table:
        ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in table)]
    wanted = _FIRST_FREE_USER + (os.getpid() % 0x40_0000) * _SLOTS
    if any(first <= wanted and wanted + _SLOTS <= first + count for first, count in ranges):
        return wanted
    # In a user namespace with few uids: the top of the largest range, below "nobody" and any account.
    first, count = max(ranges, key=lambda each: each[1])
    candidate = first + count - 2 * _SLOTS
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    if count < 4 * _SLOTS or any(user in taken for user in range(candidate, candidate + _SLOTS)):
        raise OSError(f"no free uid to run programs as (this process is root over {count} uids)")
    return candidate


def _address_bytes(sizes: int) -> int:
    """Address space of this process; `sizes` is its open /proc/self/statm."""
    return int(os.pread(sizes, 64, 0).split()[0]) * os.sysconf("SC_PAGE_SIZE")
