"""A root of its own for the fork server: read-only, with nothing in it but Python, and no network."""

from __future__ import annotations

import os
import socket

from . import libc
from .reach import DEVICES

_OLD = "/.old"
# Flags that a bind mount inherits and, in a user namespace, must keep when it is made read-only.
_LOCKED = (
    (os.ST_NOSUID, libc.MS_NOSUID),
    (os.ST_NODEV, libc.MS_NODEV),
    (os.ST_NOEXEC, libc.MS_NOEXEC),
    (os.ST_NOATIME, 0x400),
    (os.ST_NODIRATIME, 0x800),
    (os.ST_RELATIME, 0x20_0000),
)


def work_folder(readable: tuple[str, ...]) -> str:
    """Where a program's own file system is mounted in the new root: it must not cover what it has to read."""
    return "/program" if any(path.startswith("/tmp/") for path in readable) else "/tmp"


def enter(readable: tuple[str, ...]) -> None:
    """Move this process, for good, into new mount, network, IPC and host name namespaces whose root is built here.

    An ordinary user gets a user namespace first. Needs a single-threaded process. Raises `OSError`.
    """
    user, group = os.getuid(), os.getgid()
    flags = libc.CLONE_NEWNS | libc.CLONE_NEWNET | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS
    if user == 0:
        libc.unshare(flags)
    else:
        libc.unshare(flags | libc.CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    socket.sethostname("sandbox")
    _build_root(readable)


def enter_for_one_program(work: str, *, disk_bytes: int, owner: tuple[int, int]) -> None:
    """Mount a fresh, size-limited file system on `work`; the next child is alone in a process namespace.

    The file system goes away with the last process that sees it. Raises `OSError`.
    """
    libc.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWPID)
    user, group = owner
    # A size of 0 would mean no limit.
    options = f"size={max(disk_bytes, 4096)},nr_inodes=1024,mode=700,uid={user},gid={group}"
    libc.mount("tmpfs", work, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, options)


def _build_root(readable: tuple[str, ...]) -> None:
    real = {path: os.path.realpath(path) for path in (*readable, *DEVICES)}
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
    # Any directory will do to mount on: it is covered only until the roots are exchanged.
    libc.mount("tmpfs", "/tmp", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "size=1m,mode=755")
    os.umask(0o022)
    os.mkdir(f"/tmp{_OLD}")
    libc.pivot_root("/tmp", f"/tmp{_OLD}")
    os.chdir("/")
    # Outer folders first, so that an inner one is mounted inside and not hidden.
    for path in sorted(real, key=lambda each: each.count("/")):
        if not os.path.exists(path):
            _bind(_OLD + real[path], path, read_only=path not in DEVICES)
    os.makedirs(work_folder(readable), exist_ok=True)
    libc.unmount(_OLD)
    os.rmdir(_OLD)
    libc.mount("none", "/", None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV)


def _bind(source: str, target: str, *, read_only: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    # Recursive, because a user namespace may not take a tree apart from the mounts inside it.
    libc.mount(source, target, None, libc.MS_BIND | libc.MS_REC)
    if read_only:
        present = os.statvfs(target).f_flag
        locked = sum(mount_flag for flag, mount_flag in _LOCKED if present & flag)
        flags = libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV | locked
        libc.mount("none", target, None, flags)


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(content)
