"""One program's watcher: prepares its surroundings, starts it, ends it, and tells the parent what became of it.

The watcher holds the only channel to the parent, and the program never has it open: what the parent hears cannot be
forged by anything that a program prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from . import confinement, libc, namespaces, program
from .confinement import Ceilings, Owner
from .reach import Reach

_SETUP_SECONDS = 20.0
_DISK_CHECK_SECONDS = 0.02
_DISK_FILES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the fork server found on this machine.

    `base_address_bytes` is what the interpreter maps before a program runs; `owner_base` the first of the uids that
    programs run as, None where the caller's uid cannot be changed.
    """

    reach: Reach
    layers: tuple[str, ...]
    base_address_bytes: int
    sizes: int
    owner_base: int | None
    keeps_read_capability: bool
    parallel: int

    @property
    def namespaces(self) -> bool:
        return "namespaces" in self.layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One program as the parent asked for it; `work` is its folder where there is no namespace to mount one in."""

    source: str
    seconds: float
    memory_bytes: int
    disk_bytes: int
    slot: int
    work: str | None


def serve(host: Host, channel: socket.socket, streams: tuple[int, int, int]) -> NoReturn:
    """Read a job from `channel`, run it and report; never returns."""
    outcome: dict[str, object]
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        outcome = _run(host, _receive(channel), channel, streams)
    except BaseException as error:
        outcome = {"error": f"{type(error).__name__}: {error}"}
    try:
        channel.sendall(json.dumps(outcome).encode() + b"\n")
    finally:
        os._exit(0)


def _receive(channel: socket.socket) -> Job:
    with channel.makefile("rb") as stream:
        line = stream.readline()
    return Job(**json.loads(line))


def _run(host: Host, job: Job, channel: socket.socket, streams: tuple[int, int, int]) -> dict[str, object]:
    owner = _owner(host, job)
    if host.namespaces:
        work = namespaces.work_folder(host.reach.readable)
        namespaces.enter_for_one_program(work, disk_bytes=job.disk_bytes, owner=(owner.user, owner.group))
    else:
        assert job.work is not None, "a machine without namespaces gets its folder from the parent"
        work = job.work
        os.chown(work, owner.user, owner.group)
    ready_read, ready_write = os.pipe()
    process = os.fork()
    if process == 0:
        _become_program(host, job, owner, work, ready_write, streams)
    os.close(ready_write)
    for stream in streams:
        os.close(stream)
    try:
        refusal = _await_setup(ready_read)
        if refusal is not None:
            return {"error": refusal}
        started = time.monotonic()
        cause = _watch(os.pidfd_open(process), channel, started + job.seconds, None if host.namespaces else job)
    finally:
        # A process that has not been waited for keeps its id, so this can hit no other.
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    seconds = time.monotonic() - started
    return {"cause": cause, "status": status, "seconds": seconds, "layers": host.layers}


def _owner(host: Host, job: Job) -> Owner:
    if host.owner_base is None:
        return Owner(user=os.getuid(), group=os.getgid(), changes=False)
    identity = host.owner_base + job.slot
    return Owner(user=identity, group=identity, changes=True, keeps_read_capability=host.keeps_read_capability)


def _other_tasks(host: Host) -> int:
    """Threads that RLIMIT_NPROC will count against the program though they are not its own."""
    if host.owner_base is not None:
        return 0
    if host.namespaces:
        # A user namespace counts for itself: the fork server, each watcher, and the programs beside this one.
        return 1 + host.parallel + (host.parallel - 1) * confinement.THREADS
    user = os.getuid()
    total = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == user:
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
    return total


def _become_program(
    host: Host, job: Job, owner: Owner, work: str, ready: int, streams: tuple[int, int, int]
) -> NoReturn:
    try:
        os.setsid()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        ready = os.dup2(ready, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.umask(0o077)
        _prepare_interpreter(host, work)
        confinement.limit(
            Ceilings(
                cpu_seconds=job.seconds,
                address_bytes=host.base_address_bytes + job.memory_bytes,
                disk_bytes=job.disk_bytes,
                tasks=_other_tasks(host) + confinement.THREADS,
            )
        )
        confinement.drop_privileges(owner)
        os.chdir(work)
        confinement.confine(
            readable=host.reach.readable,
            work=work,
            use_landlock="landlock" in host.layers,
            own_disk=host.namespaces,
        )
        os.write(ready, b"ready")
        os.close(ready)
    except BaseException as error:
        os.write(ready, f"{type(error).__name__}: {error}".encode())
        os._exit(1)
    program.run(job.source)


def _prepare_interpreter(host: Host, work: str) -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)
    sys.path[:] = [work, *host.reach.import_paths]
    package = __name__.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(HOME=work, TMPDIR=work, LANG="C.UTF-8", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")


def _await_setup(ready: int) -> str | None:
    """None when every layer is in place, else why not; the program runs only in the first case."""
    if not select.select([ready], [], [], _SETUP_SECONDS)[0]:
        return f"not confined within {_SETUP_SECONDS:g} s"
    with os.fdopen(ready, "rb") as stream:
        said = stream.read(4096)
    return None if said == b"ready" else said.decode(errors="replace") or "the program's process died unconfined"


def _watch(handle: int, channel: socket.socket, deadline: float, watched: Job | None) -> str | None:
    """Wait for the program's end; returns None when it ended by itself, else why it must be killed.

    `handle` is its pidfd; `watched` the job whose folder has no size limit of its own, and is measured instead.
    """
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(channel, select.POLLIN)
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return "time"
        if watched is not None:
            remaining = min(remaining, _DISK_CHECK_SECONDS)
        ready = {descriptor for descriptor, _ in poll.poll(max(1, remaining * 1000))}
        if handle in ready:
            return None
        # The parent says anything, or is gone.
        if channel.fileno() in ready:
            return "parent"
        if watched is not None and watched.work is not None and _too_full(watched.work, watched.disk_bytes):
            return "disk"


def _too_full(folder: str, most_bytes: int) -> bool:
    """Whether `folder` holds more than `most_bytes` or too many files. Gives up counting once that is certain.

    Landlock lets the program make files there and nothing else, so nothing escapes the count.
    """
    size = 0
    with os.scandir(folder) as entries:
        for files, entry in enumerate(entries, start=1):
            size += entry.stat(follow_symlinks=False).st_blocks * 512
            if files > _DISK_FILES or size > most_bytes:
                return True
    return False
